import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { loadModel } from '../../lib/load';
import { type ByteDirectory, memoryDirectory } from '../../weights/byte_directory';
import { encodeSafetensors } from '../../weights/safetensors_write';
import { withoutLeaks } from '../support/backends';
import { LLAVA_CONFIG, modelFiles, seededWeights } from '../support/memory_model';
import { bytesOf, type Files } from '../support/tokenizers';

const pixels = { width: 32, height: 32, data: new Uint8Array(32 * 32 * 3).fill(90) };
let files: Record<string, Uint8Array>;

beforeAll(async () => {
  files = await modelFiles();
  const first = await loadModel(directory(), { backend: 'wasm' }); // starts the backend, which may keep tensors of its own
  first.dispose();
});

/** The model's directory with some files otherwise, or (undefined) without them. */
function directory(changes: Files = {}): ByteDirectory {
  const changed = Object.entries(changes).map(([name, content]) => [name, content === undefined ? undefined : bytesOf(content)] as const);
  const all = new Map([...Object.entries(files), ...changed]);
  return memoryDirectory(new Map([...all].filter((entry): entry is [string, Uint8Array] => entry[1] !== undefined)), 'checkpoint');
}

async function withoutKey(key: string): Promise<Uint8Array> {
  const weights = seededWeights(LLAVA_CONFIG);
  if (!weights.delete(key)) throw new Error(`${key} is none of the weights`);
  return encodeSafetensors(weights);
}

describe('loading', () => {
  it('reports each tensor up to the whole, and dispose gives everything back', async () => {
    const seen: { name: string; bytes: number; totalBytes: number }[] = [];
    await withoutLeaks(async () => {
      const model = await loadModel(directory(), { progress: (progress) => seen.push(progress) });
      model.dispose();
    });
    expect(seen).toHaveLength(seededWeights(LLAVA_CONFIG).size);
    expect(seen.map(({ bytes }) => bytes)).toEqual(seen.map(({ bytes }) => bytes).sort((a, b) => a - b));
    expect(seen.at(-1)?.bytes).toBe(seen.at(-1)?.totalBytes);
  });

  it('takes a path', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'vispruner-load-'));
    try {
      for (const [name, bytes] of Object.entries(files)) await writeFile(join(folder, name), bytes);
      const [fromDisk, fromMemory] = [await loadModel(folder), await loadModel(directory())];
      const asked = { maxNewTokens: 4, temperature: 2, seed: 1 };
      const answers = await Promise.all([fromDisk, fromMemory].map((model) => model.ask(pixels, 'what is there ?', asked)));
      expect(answers[0]?.text).toBe(answers[1]?.text);
      fromDisk.dispose();
      fromMemory.dispose();
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('follows generation_config.json', async () => {
    const model = await loadModel(directory({ 'generation_config.json': { max_new_tokens: 3, eos_token_id: 0 } }));
    const { ids, finishReason } = await model.ask([], 'what is there ?', { temperature: 2, seed: 5 });
    expect([ids.length, finishReason]).toEqual([3, 'length']);
    model.dispose();
  });

  it.each<[string, Files, number]>([
    ['preprocessor_config.json', {}, 32],
    [
      "processor_config.json's image_processor",
      { 'preprocessor_config.json': undefined, 'processor_config.json': { image_processor: square(24) } },
      24,
    ],
    ["the tower's image size where there is neither", { 'preprocessor_config.json': undefined, 'processor_config.json': undefined }, 32],
  ])('prepares images by %s', async (_, changes, side) => {
    const model = await loadModel(directory(changes));
    const [prepared] = await model.prepareImages([{ width: 60, height: 40, data: new Uint8Array(60 * 40 * 3) }]);
    expect(prepared?.pixelValues.shape).toEqual([1, side, side, 3]);
    prepared?.pixelValues.dispose();
    model.dispose();
  });
});

describe('without tokenizer.json', () => {
  it('ids go in and out; only questions in words are refused', async () => {
    const model = await loadModel(directory({ 'tokenizer.json': undefined }));
    expect((await model.generate({ inputIds: [2, 7] }, { maxNewTokens: 2 })).ids.length).toBeGreaterThan(0);
    await expect(withoutLeaks(() => model.ask(pixels, 'what is there ?'))).rejects.toMatchObject({ name: 'ConfigError', code: 'NO_TOKENIZER' });
    model.dispose();
  });
});

describe('a failure leaves no tensor', () => {
  it.each<[string, () => Files | Promise<Files>, object]>([
    [
      'a missing key, which is named',
      async () => ({ 'model.safetensors': await withoutKey('multi_modal_projector.linear_2.bias') }),
      { code: 'MISSING_KEYS', message: expect.stringContaining('multi_modal_projector.linear_2.bias') },
    ],
    ['weights cut off', () => ({ 'model.safetensors': (files['model.safetensors'] as Uint8Array).slice(0, -100) }), { name: 'CheckpointError' }],
    ['no weights', () => ({ 'model.safetensors': undefined }), { name: 'CheckpointError' }],
    ['no config.json', () => ({ 'config.json': undefined }), { code: 'FILE_NOT_FOUND' }],
    ['a wrong generation_config.json', () => ({ 'generation_config.json': { max_new_tokens: 'many' } }), { name: 'ConfigError' }],
    ['a wrong preprocessor_config.json', () => ({ 'preprocessor_config.json': { size: 'large' } }), { name: 'ConfigError' }],
    ['a broken template', () => ({ 'chat_template.jinja': '{% if %}' }), { code: 'CHAT_TEMPLATE' }],
    ['an unknown image token', () => ({ 'config.json': { ...LLAVA_CONFIG, image_token_index: 5000 } }), { name: 'ConfigError' }],
  ])('%s', async (_, changes, expected) => {
    const changed = directory(await changes());
    const before = tf.memory().numTensors;
    await expect(loadModel(changed)).rejects.toMatchObject(expected);
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each([0, 1, 10])('an abort after %i tensors', async (count) => {
    const controller = new AbortController();
    let filled = 0;
    const progress = () => {
      if (++filled === count) controller.abort(new Error('enough'));
    };
    if (count === 0) controller.abort(new Error('enough'));
    const before = tf.memory().numTensors;
    await expect(loadModel(directory(), { progress, signal: controller.signal })).rejects.toThrow('enough');
    expect(tf.memory().numTensors).toBe(before);
    expect(filled).toBe(count);
  });

  it('a progress callback that throws', async () => {
    const progress = () => {
      throw new Error('no more of this');
    };
    const before = tf.memory().numTensors;
    await expect(loadModel(directory(), { progress })).rejects.toThrow('no more of this');
    expect(tf.memory().numTensors).toBe(before);
  });
});

function square(side: number): object {
  return { crop_size: { height: side, width: side }, size: { shortest_edge: side }, do_center_crop: true, do_resize: true, resample: 3 };
}
