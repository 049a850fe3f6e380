/**
 * What a precision costs a real decoder: its loss on a text, in nats a token, with its matrices held in each type.
 *
 *   npm run bench:loss -- --model runs/smollm2/float32
 *
 * `__tests__/fixtures/make/smollm2.py` makes the model; the text is the one recorded there, of this project's README. A directory of a type's name beside
 * the one in float32 is read for it, as in bench:small.
 */
import { existsSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { parseArgs } from 'node:util';
import { type BackendName, loadModel, WEIGHT_DTYPES, type WeightDtype } from '../lib/index';
import { machine } from './machine';
import { table } from './statistics';

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { model: { type: 'string' }, backend: { type: 'string', default: 'tensorflow' }, dtypes: { type: 'string' } },
  });
  const { model: directory } = values;
  if (!directory) throw new Error('Give a directory: --model runs/smollm2/float32');
  const dtypes = (values.dtypes?.split(',') ?? WEIGHT_DTYPES.filter((dtype) => dtype !== 'auto')) as WeightDtype[];
  const ids = longestText();
  const rows: string[][] = [];
  let exact: Float32Array | undefined;
  for (const dtype of dtypes) {
    const own = path.join(directory, '..', dtype);
    const model = await loadModel(existsSync(path.join(own, 'config.json')) ? own : directory, { backend: values.backend as BackendName, dtype });
    const { scores } = await model.score({ inputIds: ids.slice(0, 1) }, [ids.slice(1)]);
    model.dispose();
    const { meanLogprob, logprobs } = scores[0] as (typeof scores)[number];
    exact ??= logprobs;
    const apart = logprobs.reduce((sum, value, i) => sum + Math.abs(value - (exact?.[i] as number)), 0) / logprobs.length;
    rows.push([dtype, (-meanLogprob).toFixed(4), Math.exp(-meanLogprob).toFixed(3), apart.toFixed(4)]);
  }
  console.log(`${machine(values.backend)}\n${directory}, ${ids.length - 1} tokens of text\n`);
  console.log(table(['weights', 'loss, nats a token', 'perplexity', 'a token apart from the first line, nats'], rows));
}

function longestText(): readonly number[] {
  const { cases } = JSON.parse(readFileSync('__tests__/fixtures/smollm2.json', 'utf8')) as { cases: { ids: number[] }[] };
  return cases.map(({ ids }) => ids).reduce((a, b) => (b.length > a.length ? b : a));
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
