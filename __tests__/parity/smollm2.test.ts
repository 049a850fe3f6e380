import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { loadModel, type VisionLanguageModel } from '../../lib';
import { TOLERANCE } from '../support/compare';
import { RecordedFile, readJson } from '../support/recorded';

interface Written {
  readonly ids: readonly number[];
  readonly greedy: readonly number[];
  readonly margins: readonly number[];
  readonly text: string;
}

interface Fixture {
  /** Every so manieth logit is recorded. */
  readonly stride: number;
  readonly cases: readonly (Written & { readonly length: number })[];
  readonly chats: readonly (Written & { readonly question: string; readonly prompt: string })[];
}

/** A real decoder of 135 million weights. It is too large for this project: `make/smollm2.py` makes it, and without it the tests are skipped. */
const DIRECTORY = join(__dirname, '..', '..', 'runs', 'smollm2');
const describeWhere = existsSync(join(DIRECTORY, 'llava', 'config.json')) ? describe : describe.skip;
const { stride, cases, chats } = readJson<Fixture>('smollm2.json');
const recorded = new RecordedFile('smollm2.safetensors');

describeWhere.each(['float32', 'llava'])('SmolLM2-135M-Instruct against transformers (%s)', (folder) => {
  let model: VisionLanguageModel;

  beforeAll(async () => {
    model = await loadModel(join(DIRECTORY, folder), { dtype: 'float32' });
  });

  afterAll(() => model.dispose());

  it.each(cases)('$length tokens: the logits of the last row', async ({ ids, length }) => {
    const before = tf.memory().numTensors;
    const { logits } = await model.forward({ inputIds: ids });
    const last = tf.tidy(() => tf.slice(logits, [length - 1, 0]));
    const expected = recorded.get(`logits.${length}`).values;
    const actual = await last.data();
    const largest = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
    const worst = expected.reduce((max, value, i) => Math.max(max, Math.abs(value - (actual[i * stride] as number))), 0);
    tf.dispose([logits, last]);
    expect(worst).toBeLessThanOrEqual(TOLERANCE * Math.max(1, largest));
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each(cases)('$length tokens: what is written greedily behind them', async ({ ids, greedy, margins }) => {
    const before = tf.memory().numTensors;
    const written = await model.generate({ inputIds: ids }, { maxNewTokens: greedy.length, minNewTokens: greedy.length });
    const sure = surely(margins);
    expect(Array.from(written.ids).slice(0, sure)).toEqual(greedy.slice(0, sure));
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each(chats)('$question', async ({ question, ids, text }) => {
    expect(Array.from(model.chatProcessor.encode([{ role: 'user', content: question }], 0))).toEqual(ids);
    expect((await model.ask([], question, { maxNewTokens: 50 })).text).toBe(text);
  });
});

/** How many tokens are chosen by more than what float32's rounding may change. */
function surely(margins: readonly number[]): number {
  const first = margins.findIndex((margin) => margin < 1e-3);
  return first < 0 ? margins.length : first;
}
