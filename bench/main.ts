/**
 * Speed and memory of the model that comes with the project.
 *
 *   npm run bench                                    on wasm
 *   npm run bench -- --backend tensorflow --rounds 31 --model DIR
 */
import { parseArgs } from 'node:util';
import { type BackendName, loadModel } from '../lib/index';
import { firstToken } from './first_token';
import { leaks } from './leaks';
import { machine } from './machine';

const IMAGE = 'examples/images/stars.png';
const QUESTION = 'where is the yellow object?';

const LIMITS = { answerStart: 2000, selectShare: 0.05 } as const;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      backend: { type: 'string', default: 'wasm' },
      model: { type: 'string', default: 'weights/vispruner-tiny' },
      rounds: { type: 'string', default: '15' },
      questions: { type: 'string', default: '100' },
    },
  });
  const begun = performance.now();
  const model = await loadModel(values.model, { backend: values.backend as BackendName });
  const load = performance.now() - begun;
  console.log(`${machine(model.backend)}\n${values.model}\n`);

  const first = await model.ask(IMAGE, QUESTION); // cold: the backend compiles and packs weights at first use
  console.log(`Loading, with the start of the backend: ${load.toFixed(0)} ms`);
  console.log(
    `From loaded to the start of the first answer: ${first.timing.firstToken.toFixed(0)} ms ${verdict(first.timing.firstToken, LIMITS.answerStart)}\n`,
  );

  const report = await firstToken(model, IMAGE, QUESTION, first.usage.visualTokensBefore, Number(values.rounds));
  console.log(`Time to the first token, medians of ${values.rounds} rounds\n\n${report.table}\n`);
  console.log(`Most time spent in choosing patches: ${(100 * report.selectShare).toFixed(1)}% ${verdict(report.selectShare, LIMITS.selectShare)}\n`);

  const { before, after, answered, refused, aborted } = await leaks(model, IMAGE, QUESTION, Number(values.questions));
  console.log(`${values.questions} questions: ${answered} answered, ${refused} refused, ${aborted} aborted`);
  console.log(`Tensors ${before.numTensors} before, ${after.numTensors} after; bytes ${before.numBytes} before, ${after.numBytes} after`);
  model.dispose();
  if (before.numTensors !== after.numTensors || before.numBytes !== after.numBytes) throw new Error('Tensors leaked.');
}

function verdict(value: number, limit: number): string {
  return value <= limit ? '(within the limit)' : '(OVER THE LIMIT)';
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
