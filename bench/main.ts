/**
 * Speed of the model that comes with the project (its memory: npm run leaks; how fast it stops: npm run bench:abort).
 *
 *   npm run bench                                    on wasm
 *   npm run bench -- --backend tensorflow --rounds 31 --model DIR
 */
import { parseArgs } from 'node:util';
import { type BackendName, loadModel } from '../lib/index';
import { type Clocked, clocked } from './clock';
import { firstToken } from './first_token';
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
    },
  });
  const load = await clocked(() => loadModel(values.model, { backend: values.backend as BackendName }));
  const model = load.value;
  console.log(`${machine(model.backend)}\n${values.model}; processor: time that this program computed, whatever else the machine did\n`);

  const first = await clocked(() => model.ask(IMAGE, QUESTION, { maxNewTokens: 1 })); // cold: the backend compiles and packs weights at first use
  const { timing, usage } = first.value;
  console.log(`Loading, with the start of the backend: ${ms(load)}`);
  console.log(`From loaded to the start of the first answer: ${ms(first)} ${verdict(timing.firstToken, LIMITS.answerStart)}\n`);

  const report = await firstToken(model, IMAGE, QUESTION, usage.visualTokensBefore, Number(values.rounds));
  console.log(`Time to the first token, medians of ${values.rounds} rounds\n\n${report.table}\n`);
  console.log(`Most time spent in choosing patches: ${(100 * report.selectShare).toFixed(1)}% ${verdict(report.selectShare, LIMITS.selectShare)}\n`);

  model.dispose();
}

function ms({ passed, processor }: Clocked<unknown>): string {
  return `${passed.toFixed(0)} ms (${processor.toFixed(0)} ms of the processor)`;
}

function verdict(value: number, limit: number): string {
  return value <= limit ? '(within the limit)' : '(OVER THE LIMIT)';
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
