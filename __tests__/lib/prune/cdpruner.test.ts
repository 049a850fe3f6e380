import * as tf from '@tensorflow/tfjs';
import { type CdPrunerOptions, type RelevanceEncoder, selectConditional } from '../../../lib/prune/cdpruner';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import type { RequestView } from '../../../lib/prune/types';
import { BACKENDS, useBackend, withoutLeaks } from '../../support/backends';
import { readJson } from '../../support/recorded';
import { request, visionView } from './views';

interface Recorded {
  readonly tokens: readonly (readonly number[])[];
  readonly text: readonly (readonly number[])[];
  readonly count: number;
  readonly theta: number | null;
  readonly kept: readonly number[];
  readonly negated: readonly number[];
}

const { cases } = readJson<{ cases: readonly Recorded[] }>('methods', 'cdpruner.json');
const titled = cases.map((one) => [`${one.count} of ${one.tokens.length}, theta ${one.theta}`, one] as const);

/** A CLIP whose patches are the tokens and whose text is `text`. */
const clipOf = ({ tokens, text }: Recorded, asked: string[] = []): RelevanceEncoder => ({
  name: 'recorded',
  embedPatches: () => tf.tensor2d(tokens as number[][]),
  embedText: async (question) => {
    asked.push(question);
    return tf.tensor2d(text as number[][]);
  },
});

async function kept(one: Recorded, options: Partial<CdPrunerOptions>, view: Partial<RequestView> = {}): Promise<number[]> {
  const size = one.tokens.length;
  const rows = (values: Recorded['tokens']) => tf.tensor2d(values as number[][]);
  const tensors = [tf.zeros<tf.Rank.R2>([size, 3]), rows(one.tokens), rows(one.text), tf.zeros<tf.Rank.R2>([1, size])] as const;
  const [features, projected, textEmbeddings, attention] = tensors;
  const theta = one.theta === null ? {} : { theta: one.theta };
  const pruner = createPruner({ method: 'cdpruner', tokens: one.count, ...theta, ...options } as PruneOptions);
  const parts = { projected, textEmbeddings, textIds: new Int32Array(one.text.length) };
  const run = pruner.begin({ ...request([size]), ...view });
  const selection = await run.select?.(visionView(features, attention, { block: 0, rows: 'class' }, parts));
  run.dispose();
  tf.dispose([...tensors]);
  return Array.from(selection?.kept ?? []);
}

describe.each(BACKENDS)('cdpruner on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(titled)('keeps the greedily most probable subset by the words of the prompt, the cosine negated: %s', async (_title, one) => {
    expect(await withoutLeaks(() => kept(one, {}))).toEqual(one.negated);
  });

  it.each(titled)('and by a CLIP, as the released code has it: %s', async (_title, one) => {
    const asked: string[] = [];
    const view = { question: 'Is it red?\nAnswer with one word.' };
    expect(await withoutLeaks(() => kept(one, { clip: clipOf(one, asked) }, view))).toEqual(one.negated);
    expect(asked).toEqual([view.question]);
  });
});

describe('cdpruner', () => {
  beforeAll(() => useBackend('cpu'));
  const [one] = cases as [Recorded];

  it('refuses a CLIP where the question is known as ids alone, and says what to do', async () => {
    await expect(kept(one, { clip: clipOf(one) })).rejects.toMatchObject({ code: 'QUESTION_UNKNOWN', message: expect.stringContaining('ask') });
  });

  it.each([
    [{ theta: 1 }, 'METHOD_OPTION_INVALID', '"theta" is 1'],
    [{ theta: -0.1 }, 'METHOD_OPTION_INVALID', '0 to less than 1'],
    [{ theta: '0.5' }, 'METHOD_OPTION_INVALID', '"0.5"'],
    [{ clip: '/models/clip' }, 'CLIP_INVALID', 'loadClip'],
    [{ clip: null }, 'CLIP_INVALID', 'null'],
  ])('refuses %p', (options, code, message) => {
    const create = () => createPruner({ method: 'cdpruner', tokens: 4, ...options } as unknown as PruneOptions);
    expect(create).toThrow(expect.objectContaining({ name: 'PruneError', code, message: expect.stringContaining(message) }));
  });

  it('tells two CLIPs apart, and one from none', () => {
    const key = (options: object) => createPruner({ method: 'cdpruner', tokens: 4, ...options } as PruneOptions).key;
    const keys = [key({}), key({ theta: 0.5 }), key({ clip: clipOf(one) }), key({ clip: { ...clipOf(one), name: 'another' } })];
    expect(new Set(keys).size).toBe(4);
    expect(key({ clip: clipOf(one) })).toBe(keys[2]);
  });
});

describe('selectConditional', () => {
  it.each(titled)('takes higher relevance for higher: %s', (_title, one) => {
    const unit = (rows: Recorded['tokens']) => rows.map((row) => row.map((value) => value / Math.hypot(...row)));
    const [tokens, text] = [unit(one.tokens), unit(one.text)];
    const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
    const similarity = Float32Array.from(tokens.flatMap((a) => tokens.map((b) => dot(a, b))));
    const relevance = Float32Array.from(tokens, (a) => text.reduce((sum, b) => sum + dot(a, b), 0) / text.length);
    const options = { tokens: one.count, ...(one.theta === null ? {} : { theta: one.theta }) };
    expect(Array.from(selectConditional(similarity, relevance, options))).toEqual(one.kept);
  });

  const orthogonal = Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1);
  const same = new Float32Array(9).fill(1);

  it('takes unlike tokens in the order of relevance, worked out by hand', () => {
    expect(Array.from(selectConditional(orthogonal, Float32Array.of(0.1, 0.5, 0.3), { tokens: 2 }))).toEqual([1, 2]);
  });

  it('weighs likeness against relevance, worked out by hand', () => {
    // qualities 1, 0.6 and 0.4 (plus 1e-6): after token 0, token 1 adds 0.6^2 (1 - 0.9^2) = 0.068 and token 2 adds 0.4^2 = 0.16
    const similarity = Float32Array.of(1, 0.9, 0, 0, 0.9, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1);
    const relevance = Float32Array.of(1, 0.6, 0.4, 0);
    expect(Array.from(selectConditional(similarity, relevance, { tokens: 2 }))).toEqual([0, 2]);
    // theta near 1 makes e^(alpha q) so steep that relevance wins: alpha = 49.5, token 1 adds e^59.4 0.19, token 2 e^39.6
    expect(Array.from(selectConditional(similarity, relevance, { tokens: 2, theta: 0.99 }))).toEqual([0, 1]);
  });

  it('takes relevance that is equal everywhere as 1, where the released code divides by zero', () => {
    expect(Array.from(selectConditional(orthogonal, new Float32Array(3).fill(0.2), { tokens: 2 }))).toEqual([0, 1]);
  });

  it('keeps the number asked for, none twice, where duplicates leave no volume', () => {
    expect(Array.from(selectConditional(same, Float32Array.of(0.1, 0.3, 0.2), { tokens: 1 }))).toEqual([1]);
    expect(Array.from(selectConditional(same, Float32Array.of(0.1, 0.3, 0.2), { tokens: 3 }))).toEqual([0, 1, 2]);
    expect(selectConditional(same, Float32Array.of(0.1, 0.3, 0.2), { tokens: 2 })).toHaveLength(2);
  });

  it.each([
    [new Float32Array(8), new Float32Array(3), 'FEATURE_SHAPE'],
    [new Float32Array(9).fill(Number.NaN), Float32Array.of(1, 2, 3), 'FEATURES_NOT_FINITE'],
    [orthogonal, Float32Array.of(1, Number.NaN, 2), 'ATTENTION_NOT_FINITE'],
    [orthogonal, Float32Array.of(1, Number.POSITIVE_INFINITY, 2), 'ATTENTION_NOT_FINITE'],
  ])('refuses numbers that are none (case %#)', (similarity, relevance, code) => {
    expect(() => selectConditional(similarity, relevance, { tokens: 2 })).toThrow(expect.objectContaining({ code }));
  });
});
