import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import type { CheckpointError } from '../../layers/errors';
import type { Embedding, Matrix, Parameter } from '../../layers/parameters';
import { float32Factory } from '../../lib/backend/matrices';
import { memoryDirectory } from '../../weights/byte_directory';
import { type Checkpoint, openCheckpoint } from '../../weights/checkpoint';
import { readCheckpoint } from '../../weights/checkpoint_node';
import { encodeSafetensors, type StoredTensor, type WriteOptions } from '../../weights/safetensors_write';
import { checkpointSource, type ParameterSource, seedSource } from '../../weights/sources';
import { BACKENDS, useBackend } from '../support/backends';
import { RecordedFile } from '../support/recorded';

const LAYER = 'language_model.model.layers.0';

/** Declares one weight of each kind, as a decoder does. */
function declare(source: ParameterSource): { embedding: Embedding; query: Matrix; norm: Parameter } {
  const model = source.root.at('language_model').at('model');
  return {
    embedding: model.at('embed_tokens').embedding('weight', 5, 4),
    query: model.at('layers').at('0').at('self_attn').at('q_proj').matrix('weight', 4, 6),
    norm: model.at('norm').tensor('weight', [4]),
  };
}

const ramp = (shape: number[], step = 0.25): StoredTensor => {
  const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i * step - 1);
  return { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) };
};
const whole = {
  'language_model.model.embed_tokens.weight': ramp([5, 4]),
  [`${LAYER}.self_attn.q_proj.weight`]: ramp([6, 4]),
  'language_model.model.norm.weight': ramp([4]),
};

const checkpoint = async (tensors: Record<string, StoredTensor>): Promise<Checkpoint> =>
  openCheckpoint(memoryDirectory(new Map([['model.safetensors', await encodeSafetensors(tensors)]]), 'dir'));

async function problem(tensors: Record<string, StoredTensor>): Promise<string> {
  const source = checkpointSource(await checkpoint(tensors), float32Factory());
  declare(source);
  try {
    source.check();
  } catch (error) {
    return `${(error as CheckpointError).code}: ${(error as CheckpointError).message}`;
  }
  return 'fits';
}

describe.each(BACKENDS)('on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it('fills what was declared, and frees it', async () => {
    const before = tf.memory().numTensors;
    const source = checkpointSource(await checkpoint(whole), float32Factory());
    const { embedding, query, norm } = declare(source);
    expect(() => norm.value).toThrow(expect.objectContaining({ code: 'NOT_FILLED' }));
    await source.fill();
    const rows = tf.tensor2d([
      [1, 0, 0, 0],
      [1, 1, 1, 1],
    ]);
    const results = [query.apply(rows), embedding.lookup(Int32Array.of(4, 0)), embedding.project(rows), embedding.lookup(Int32Array.of(4, 0))];
    const values = await Promise.all([norm.value, ...results].map(async (tensor) => [...(await tensor.data())]));
    // row r of a ramp with 4 columns begins at r - 1, and sums to 4 (r - 1) + 1.5
    const looked = [3, 3.25, 3.5, 3.75, -1, -0.75, -0.5, -0.25];
    expect(values).toEqual([
      [-1, -0.75, -0.5, -0.25],
      [-1, 0, 1, 2, 3, 4, -2.5, 1.5, 5.5, 9.5, 13.5, 17.5],
      looked,
      [-1, 0, 1, 2, 3, -2.5, 1.5, 5.5, 9.5, 13.5],
      looked, // also after the table has served as a head
    ]);
    tf.dispose([rows, ...results]);
    source.dispose();
    source.dispose();
    expect(() => norm.value).toThrow(expect.objectContaining({ code: 'DISPOSED' }));
    expect(() => query.apply(rows)).toThrow(expect.objectContaining({ code: 'DISPOSED' }));
    expect(tf.memory().numTensors).toBe(before);
  });

  it('gives the same values from every layout and precision of one model', async () => {
    const sums: number[][] = [];
    for (const layout of ['older', 'newer', 'mixed', 'sharded']) {
      const opened = await readCheckpoint(join(__dirname, '..', 'fixtures', 'layouts', layout));
      const source = checkpointSource(opened, float32Factory());
      const filled = declareFixture(source);
      await source.fill();
      await opened.close();
      const values = await Promise.all(filled.map(async (parameter) => [...(await parameter.value.data())]));
      sums.push(values.flat());
      source.dispose();
    }
    const recorded = new RecordedFile('layouts', 'older', 'model.safetensors');
    const expected = recorded.names.filter((name) => !/position_ids|inv_freq|post_layernorm\.|vision_model\.encoder\.layers\.1\./.test(name)).sort();
    for (const values of sums) expect(values).toEqual(expected.flatMap((name) => [...recorded.get(name).values]));
  });
});

/** Every tensor of the fixture that a model with `vision_feature_layer: -2` declares, plainly; sorted by name. */
function declareFixture(source: ParameterSource): Parameter[] {
  const recorded = new RecordedFile('layouts', 'older', 'model.safetensors');
  return recorded.names
    .filter((name) => !/position_ids|inv_freq|post_layernorm\.|vision_model\.encoder\.layers\.1\./.test(name))
    .sort()
    .map((name) => source.root.tensor(name.replace('vision_model.', ''), recorded.get(name).shape));
}

describe('check', () => {
  it('accepts what fits, and what is known to be unused', async () => {
    expect(await problem(whole)).toBe('fits');
    const more = {
      'language_model.lm_head.weight': ramp([5, 4]),
      'vision_tower.post_layernorm.bias': ramp([1]),
      'language_model.model.rotary_emb.inv_freq': ramp([2]),
    };
    expect(await problem({ ...whole, ...more })).toBe('fits');
  });

  it('names a missing key', async () => {
    const { 'language_model.model.norm.weight': _, ...rest } = whole;
    expect(await problem(rest)).toMatch(/^MISSING_KEYS: dir .*1 missing: language_model\.model\.norm\.weight\./);
  });

  it('names an unexpected key, in the spelling of the file', async () => {
    expect(await problem({ ...whole, [`${LAYER}.self_attn.q_proj.bias`]: ramp([6]) })).toMatch(/^UNEXPECTED_KEYS: .*1 unexpected: .*q_proj\.bias/);
    expect(await problem({ ...whole, adapter: ramp([6]) })).toMatch(/^UNEXPECTED_KEYS: .*1 unexpected: adapter/);
  });

  it('tells a transposed matrix from another shape', async () => {
    expect(await problem({ ...whole, [`${LAYER}.self_attn.q_proj.weight`]: ramp([4, 6]) })).toMatch(
      /^SHAPE_MISMATCH: .*is \[4, 6\], the model needs \[6, 4\] \(transposed/,
    );
    expect(await problem({ ...whole, [`${LAYER}.self_attn.q_proj.weight`]: ramp([24]) })).toMatch(
      /^SHAPE_MISMATCH: .*is \[24\], the model needs \[6, 4\]\./,
    );
    expect(await problem({ ...whole, 'language_model.model.embed_tokens.weight': ramp([7, 4]) })).toMatch(/vocab_size/);
  });

  it('refuses integers where weights belong', async () => {
    expect(await problem({ ...whole, 'language_model.model.norm.weight': { dtype: 'F8_E4M3', shape: [4], bytes: new Uint8Array(4) } })).toMatch(
      /^UNSUPPORTED_DTYPE: .*F8_E4M3/,
    );
  });

  it('puts everything that is wrong into one error', async () => {
    const message = await problem({
      [`${LAYER}.self_attn.q_proj.weight`]: ramp([4, 6]),
      'language_model.model.norm.weight': ramp([4]),
      x: ramp([1]),
    });
    expect(message).toMatch(/^KEYS_DO_NOT_FIT: .*1 missing: .*embed_tokens.*1 unexpected: x.*1 of another shape: .*q_proj/);
  });

  it('takes a convolution for a matrix of the same bytes', async () => {
    const source = checkpointSource(await checkpoint({ 'vision_tower.embeddings.patch_embedding.weight': ramp([6, 3, 2, 2]) }), float32Factory());
    source.root.at('vision_tower').at('embeddings').at('patch_embedding').matrix('weight', 12, 6);
    source.check();
  });
});

describe('a filling', () => {
  beforeAll(() => useBackend('wasm'));

  it('reads forward through the files and reports every byte', async () => {
    const source = checkpointSource(await checkpoint(whole), float32Factory());
    declare(source);
    const seen: [number, number][] = [];
    await source.fill({ progress: ({ bytes, totalBytes }) => seen.push([bytes, totalBytes]) });
    expect(seen.map(([bytes]) => bytes)).toEqual([80, 176, 192]);
    expect(new Set(seen.map(([, total]) => total))).toEqual(new Set([192]));
    await expect(source.fill()).rejects.toMatchObject({ code: 'ALREADY_FILLED' });
    source.dispose();
    await expect(source.fill()).rejects.toMatchObject({ code: 'DISPOSED' });
  });

  it('that fails or is aborted leaves nothing behind, and can be tried again', async () => {
    const opened = await checkpoint(whole);
    const before = tf.memory().numTensors;
    const source = checkpointSource(opened, float32Factory());
    const { norm } = declare(source);
    const abort = new AbortController();
    await expect(source.fill({ signal: abort.signal, progress: () => abort.abort(new Error('enough')) })).rejects.toThrow('enough');
    expect(tf.memory().numTensors).toBe(before);
    const read = jest.spyOn(opened, 'bytes').mockImplementationOnce(opened.bytes.bind(opened)).mockRejectedValueOnce(new Error('disk'));
    await expect(source.fill()).rejects.toThrow('disk');
    expect(tf.memory().numTensors).toBe(before);
    expect(() => norm.value).toThrow(expect.objectContaining({ code: 'NOT_FILLED' }));
    read.mockRestore();
    await source.fill();
    expect([...(await norm.value.data())]).toEqual([-1, -0.75, -0.5, -0.25]);
    source.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it('refuses a model that the wasm heap can not hold, before anything is read', () => {
    const source = seedSource(1, float32Factory());
    source.root.matrix('weight', 2 ** 15, 2 ** 15);
    expect(() => source.check()).toThrow(expect.objectContaining({ code: 'TOO_LARGE_FOR_WASM' }));
  });
});

describe('declarations', () => {
  it('let two layers share a weight, but not in two forms', () => {
    const { root } = seedSource(1, float32Factory());
    expect(root.at('a').tensor('b', [2])).toBe(root.tensor('a.b', [2]));
    expect(() => root.tensor('a.b', [3])).toThrow(expect.objectContaining({ code: 'DECLARED_DIFFERENTLY' }));
    expect(root.at('a').at('b').path).toBe('a.b');
  });

  it('are closed once they are filled', async () => {
    const source = seedSource(1, float32Factory());
    await source.fill();
    expect(() => source.root.tensor('late', [1])).toThrow(expect.objectContaining({ code: 'ALREADY_FILLED' }));
  });
});

describe('a seed', () => {
  beforeAll(() => useBackend('wasm'));

  async function values(seed: number, name: string, shape: number[], others: string[] = []): Promise<number[]> {
    const source = seedSource(seed, float32Factory());
    for (const other of others) source.root.tensor(other, [3]);
    const parameter = source.root.tensor(name, shape);
    await source.fill();
    const result = [...(await parameter.value.data())];
    source.dispose();
    return result;
  }

  it('gives the same values again, whatever else is declared, and others for another seed or name', async () => {
    const first = await values(7, 'a.weight', [4, 4]);
    expect(await values(7, 'a.weight', [4, 4], ['x', 'y'])).toEqual(first);
    for (const other of [await values(8, 'a.weight', [4, 4]), await values(7, 'b.weight', [4, 4])]) {
      expect(other.filter((value, i) => value === first[i])).toEqual([]);
    }
  });

  it('is normal with variance 1 / fan-in', async () => {
    const scaled = (await values(7, 'a.weight', [500, 64])).map((value) => value * 8);
    const moment = (power: number): number => scaled.reduce((sum, value) => sum + value ** power, 0) / scaled.length;
    const share = (below: number): number => scaled.filter((value) => Math.abs(value) < below).length / scaled.length;
    expect(Math.abs(moment(1))).toBeLessThan(0.02);
    expect(moment(2)).toBeCloseTo(1, 1);
    expect(moment(4)).toBeCloseTo(3, 0);
    for (const [below, expected] of [
      [1, 0.6827],
      [2, 0.9545],
      [3, 0.9973],
    ] as const)
      expect(Math.abs(share(below) - expected)).toBeLessThan(0.01);
  });

  it('starts norms at one and biases near zero', async () => {
    expect(await values(7, 'layer_norm1.weight', [3])).toEqual([1, 1, 1]);
    expect(await values(7, 'model.norm.weight', [3])).toEqual([1, 1, 1]);
    expect(await values(7, 'input_layernorm.weight', [3])).toEqual([1, 1, 1]);
    expect(await values(7, 'pre_layrnorm.weight', [3])).toEqual([1, 1, 1]);
    const bias = await values(7, 'fc1.bias', [1000]);
    expect(Math.max(...bias.map(Math.abs))).toBeLessThan(0.1);
    expect(bias.filter((value) => value === 0)).toEqual([]);
  });
});

it('half precision on disk costs at most its rounding', async () => {
  await useBackend('wasm');
  const weight = tf.randomNormal([7, 5]);
  const stored = await weight.data();
  for (const [dtype, error] of [
    ['F32', 0],
    ['F16', 2 ** -11],
    ['BF16', 2 ** -8],
  ] as [WriteOptions['dtype'], number][]) {
    const files = new Map([['model.safetensors', await encodeSafetensors({ 'multi_modal_projector.linear_1.weight': weight }, {}, { dtype })]]);
    const source = checkpointSource(await openCheckpoint(memoryDirectory(files)), float32Factory());
    const parameter = source.root.at('multi_modal_projector').at('linear_1').tensor('weight', [7, 5]);
    await source.fill();
    for (const [i, value] of (await parameter.value.data()).entries())
      expect(Math.abs(value - stored[i]!)).toBeLessThanOrEqual(error * Math.abs(stored[i]!));
    source.dispose();
  }
  weight.dispose();
});
