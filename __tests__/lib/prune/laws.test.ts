import * as tf from '@tensorflow/tfjs';
import { decodeStep } from '../../../lib/decoder';
import { disposeEncoded, type EncodedImage } from '../../../lib/encoded';
import type { Llava } from '../../../lib/llava';
import { Pacer } from '../../../lib/pacer';
import type { Method } from '../../../lib/prune/method';
import { createPruner, METHODS, type PruneOptions } from '../../../lib/prune/registry';
import type { Pruner } from '../../../lib/prune/types';
import { BACKENDS, useBackend } from '../../support/backends';
import { expectClose } from '../../support/compare';
import { IMAGE_TOKEN, lawImage, lawModel } from './law_model';
import { FACTS, keepAllOptions, lawOptions, METHOD_NAMES, type MethodName } from './law_options';
import { type Trace, traced, withoutDropping } from './traced';

const PROMPT = Int32Array.of(1, 5, IMAGE_TOKEN, 7, 8, 9, 3, 11);
const OTHER = Int32Array.of(1, IMAGE_TOKEN, 12, 4, 2);
const LATER = Int32Array.of(6, 14, 2);
const PLAIN = createPruner({ method: 'none' });

const CASES = METHOD_NAMES.flatMap((name) => lawOptions(name).map((options) => ({ name, options, title: JSON.stringify(options) })));
const METHODS_THAT_KEEP_ALL = METHOD_NAMES.flatMap((name) => {
  const options = keepAllOptions(name);
  return options ? [{ name, options, title: JSON.stringify(options) }] : [];
});

interface Outcome {
  /** The prompt's last state, then those of the later tokens, each [1, D]. */
  readonly states: readonly tf.Tensor2D[];
  readonly entering: readonly number[];
  readonly tokens: number;
}

/** Not on the cpu backend, which takes ten times as long; every operation that methods use has tests there. */
const FAST = BACKENDS.filter((backend) => backend !== 'cpu');

describe.each(FAST)('laws of every method, on %s', (backend) => {
  let model: ReturnType<typeof lawModel>;
  let llava: Llava;
  let before: number;
  const pacer = new Pacer();

  beforeAll(async () => {
    await useBackend(backend);
    model = lawModel(3);
    llava = model.llava;
  });
  beforeEach(() => {
    before = tf.memory().numTensors;
  });
  afterEach(() => expect(tf.memory().numTensors).toBe(before));
  afterAll(() => model.dispose());

  /** An image's encoding for a pruner; freed behind `use`. */
  async function encoded<T>(pruner: Pruner, seeds: readonly number[], use: (images: EncodedImage[]) => Promise<T>): Promise<T> {
    const prepared = seeds.map((seed) => lawImage(seed));
    const images = await llava.encode(prepared, [pruner.needs(llava.encoder)], { pacer });
    for (const { pixelValues } of prepared) pixelValues.dispose();
    try {
      return await use(images);
    } finally {
      disposeEncoded(images);
    }
  }

  /** Prefill, then the later tokens one by one. */
  async function run(pruner: Pruner, inputIds: Int32Array, images: readonly EncodedImage[]): Promise<Outcome> {
    const { result, prompts } = await llava.prefill([{ inputIds, images, question: 'what?' }], { pruner, pacer, lastRows: true });
    const states = [result.states];
    for (const id of LATER) {
      const embedding = llava.language.embed(Int32Array.of(id));
      states.push(await decodeStep(llava.language, embedding, [prompts[0]!.sequence], { pacer }));
      embedding.dispose();
    }
    const tokens = prompts[0]!.visual.reduce((sum, one) => sum + one.tokens, 0);
    for (const prompt of prompts) prompt.release();
    return { states, entering: result.enteringTokens[0]!, tokens };
  }

  it.each(METHODS_THAT_KEEP_ALL)('$name with room for all tokens equals no pruning: $title', async ({ options }) => {
    const pruner = createPruner(options);
    const all = await encoded(pruner, [1], (images) => run(pruner, PROMPT, images));
    const plain = await encoded(PLAIN, [1], (images) => run(PLAIN, PROMPT, images));
    for (const [i, state] of all.states.entries()) await expectClose(state, plain.states[i]!, `state ${i}`, 1e-5);
    expect(all.entering).toEqual(plain.entering);
    tf.dispose([...all.states, ...plain.states]);
  });

  it.each(CASES)('what $name drops might as well be masked, with a cache as without one: $title', async ({ options }) => {
    const { pruner, traces } = traced(createPruner(options));
    const outcome = await encoded(pruner, [1], (images) => run(pruner, PROMPT, images));
    const [trace] = traces as [Trace];
    const expected = tf.tidy(() => withoutDropping(llava.language, trace, llava.language.embed(LATER), pruner.positions));
    for (const [i, state] of outcome.states.entries()) {
      const row = tf.slice(expected, [i, 0], [1, -1]);
      await expectClose(state, row, i === 0 ? 'last state of the prompt' : `state of later token ${i}`);
      row.dispose();
    }
    trace.dispose();
    tf.dispose([expected, ...outcome.states]);
  });

  it.each(CASES)('as many tokens enter each block as $name says beforehand: $title', async ({ name, options }) => {
    const pruner = createPruner(options);
    const outcome = await encoded(pruner, [2], (images) => run(pruner, PROMPT, images));
    tf.dispose([...outcome.states]);
    const said = pruner.enteringTokens(FACTS.patches, FACTS.decoderBlocks);
    if (said) expect(outcome.entering).toEqual(said);
    expect(outcome.entering[0]).toBe(outcome.tokens);
    if (name !== 'none') expect(average(outcome.entering)).toBeLessThan(FACTS.patches);
  });

  it.each(CASES)('packed prompts get from $name what each gets alone: $title', async ({ options }) => {
    const pruner = createPruner(options);
    await encoded(pruner, [3, 4], async ([one, other]) => {
      const requests = [
        { inputIds: PROMPT, images: [one!], question: 'what?' },
        { inputIds: OTHER, images: [other!], question: 'where?' },
      ];
      const pass = async (group: typeof requests) => {
        const { result, prompts } = await llava.prefill(group, { pruner, pacer, lastRows: true });
        const kept = prompts.map(({ visual }) => visual.map(({ kept, members, tokens }) => ({ kept, members, tokens })));
        for (const prompt of prompts) prompt.release();
        return { ...result, kept };
      };
      const together = await pass(requests);
      const alone = [await pass(requests.slice(0, 1)), await pass(requests.slice(1))];
      for (const [i, single] of alone.entries()) {
        const row = tf.slice(together.states, [i, 0], [1, -1]);
        await expectClose(row, single.states, `sequence ${i}`, 1e-5);
        row.dispose();
      }
      expect(together.enteringTokens).toEqual(alone.flatMap((single) => single.enteringTokens));
      expect(together.kept).toEqual(alone.flatMap((single) => single.kept));
      tf.dispose([together.states, ...alone.map(({ states }) => states)]);
    });
  });

  it.each(CASES)('$name prunes two images of one prompt, and the same way when asked again: $title', async ({ options }) => {
    const pruner = createPruner(options);
    const ids = Int32Array.of(1, IMAGE_TOKEN, 4, IMAGE_TOKEN, 7, 8);
    await encoded(pruner, [5, 6], async (images) => {
      const [first, second] = [await run(pruner, ids, images), await run(pruner, ids, images)];
      for (const [i, state] of first.states.entries()) await expectClose(state, second.states[i]!, `state ${i}`, 0);
      expect(first.entering).toEqual(second.entering);
      expect(first.entering.every((count) => count <= 2 * FACTS.patches + 2)).toBe(true);
      tf.dispose([...first.states, ...second.states]);
    });
  });
});

it.each(METHOD_NAMES)('%s reaches the averages that it offers options for, to a token, and refuses a misspelt option', (name: MethodName) => {
  for (const share of [1, 0.75, 0.5, 0.3, 0.2]) {
    const wanted = share * FACTS.patches;
    const offered = (METHODS[name] as Method<PruneOptions>).forAverage?.(wanted, FACTS);
    const entering = offered && createPruner(offered).enteringTokens(FACTS.patches, FACTS.decoderBlocks);
    if (entering) expect(Math.abs(average(entering) - wanted)).toBeLessThanOrEqual(1);
  }
  const [options] = lawOptions(name);
  expect(() => createPruner({ ...options, tokns: 3 } as never)).toThrow(expect.objectContaining({ code: 'METHOD_OPTION_UNKNOWN' }));
});

function average(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0) / counts.length;
}
