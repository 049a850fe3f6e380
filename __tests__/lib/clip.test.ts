import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { ClipText } from '../../layers/clip_text';
import { type Clip, loadClip } from '../../lib/clip';
import { parseClipConfig } from '../../lib/config/clip';
import { createPruner } from '../../lib/prune/registry';
import { memoryDirectory } from '../../weights/byte_directory';
import { BACKENDS, useBackend } from '../support/backends';
import { expectClose } from '../support/compare';
import { disposeImages, fixtureImages, fixtureModel } from '../support/fixture_model';
import { HeldParameters } from '../support/held_parameters';
import { FIXTURES, RecordedFile, readJson } from '../support/recorded';

const DIRECTORY = join(FIXTURES, 'clip');
const { strings, ids, end } = readJson<{ strings: readonly string[]; ids: readonly (readonly number[])[]; end: number }>('clip', 'reference.json');
const recorded = new RecordedFile('clip', 'reference.safetensors');
const config = readJson<{ text_config: object }>('clip', 'config.json');

describe.each(BACKENDS)("the text half of CLIP is transformers', on %s", (backend) => {
  let clip: Clip;
  beforeAll(async () => {
    await useBackend(backend);
    clip = await loadClip(DIRECTORY);
  });
  afterAll(() => clip.dispose());

  it.each(strings.map((text, i) => [text, i] as const))('for %j, in pieces of the context where it is long', async (text, i) => {
    const before = tf.memory().numTensors;
    const vectors = await clip.embedText(text);
    expect(tf.memory().numTensors).toBe(before + 1);
    expect(vectors.shape[0]).toBe(Math.ceil((ids[i] as readonly number[]).length / 16));
    await expectClose(vectors, recorded.get(`text.${i}`), 'text');
    vectors.dispose();
  });

  it('for features of any block, through the last norm and the projection', async () => {
    const features = recorded.tensor('features') as tf.Tensor2D;
    const before = tf.memory().numTensors;
    const patches = clip.embedPatches(features);
    expect(tf.memory().numTensors).toBe(before + 1);
    await expectClose(patches, recorded.get('patches'), 'patches');
    tf.dispose([features, patches]);
  });
});

describe('the text transformer', () => {
  const weights = new RecordedFile('clip', 'model.safetensors');
  const make = (end: number) => {
    const parameters = new HeldParameters((name) => weights.get(name));
    const text = new ClipText(parameters.at('text_model'), { ...parseClipConfig(config, 'config.json').text_config, eos_token_id: end });
    return { text, parameters };
  };
  beforeAll(() => useBackend('cpu'));

  it('has the states of every block, and no token sees a later one', async () => {
    const { text, parameters } = make(2);
    const asked = Int32Array.from(ids[0] as readonly number[]);
    const taken = new Map<string, tf.Tensor>();
    const states = text.apply(asked, (name, value) => taken.set(name, tf.keep(value.clone())));
    await expectClose(states, recorded.get('states'), 'states');
    await expectClose(taken.get('text_model.embeddings') as tf.Tensor, recorded.get('hidden.0'), 'embeddings');
    for (const i of [1, 2, 3]) {
      const name = `text_model.encoder.layers.${i - 1}`;
      await expectClose(taken.get(name) as tf.Tensor, recorded.get(`hidden.${i}`), name);
    }
    const shorter = text.apply(asked.subarray(0, 5));
    const first = tf.slice(states, [0, 0], [5, -1]);
    await expectClose(shorter, first, 'the first five alone');
    tf.dispose([states, shorter, first, ...taken.values()]);
    parameters.dispose();
  });

  it('is read at the largest id where the configuration is of the old kind, else at the first end, else at the first token', () => {
    const [old, corrected] = [make(2), make(end)];
    const ended = Int32Array.of(end - 1, 4, end, 7, end);
    const cut = Int32Array.of(4, 9, 3);
    expect([old.text.pooledRow(ended), old.text.pooledRow(cut)]).toEqual([2, 1]);
    expect([corrected.text.pooledRow(ended), corrected.text.pooledRow(cut)]).toEqual([2, 0]);
    old.parameters.dispose();
    corrected.parameters.dispose();
  });

  it('and so the pieces of a text are, with a configuration of the new kind', async () => {
    const { text, parameters } = make(end);
    const projection = tf.tensor2d(weights.get('text_projection.weight').values, [24, 32]);
    for (const [i, one] of ids.entries()) {
      const rows: tf.Tensor2D[] = [];
      for (let start = 0; start < one.length; start += 16) {
        const piece = Int32Array.from(one.slice(start, start + 16));
        rows.push(tf.tidy(() => tf.slice(text.apply(piece), [text.pooledRow(piece), 0], [1, -1])));
      }
      const vectors = tf.tidy(() => tf.matMul(tf.concat(rows, 0), projection, false, true));
      await expectClose(vectors, recorded.get(`corrected.${i}`), `text ${i}`);
      tf.dispose([vectors, ...rows]);
    }
    projection.dispose();
    parameters.dispose();
  });
});

describe('loadClip', () => {
  beforeAll(() => useBackend('cpu'));

  it('serves CDPruner, whose choice then depends on the question', async () => {
    const clip = await loadClip(DIRECTORY);
    const model = fixtureModel('tiny-llava-hf', 'cpu');
    const images = fixtureImages('tiny-llava-hf', 1);
    const pruner = createPruner({ method: 'cdpruner', tokens: 4, clip });
    const before = tf.memory().numTensors;
    const keptFor = async (question: string) => {
      const result = await model.forward({ inputIds: [1, 90, 5, 6], images, question }, { prune: pruner });
      result.logits.dispose();
      return Array.from(result.visual[0]?.kept ?? []).join();
    };
    const kept: string[] = [];
    for (const question of strings) kept.push(await keptFor(question));
    expect(await keptFor(strings[0] as string)).toBe(kept[0]);
    expect(new Set(kept).size).toBeGreaterThan(1);
    expect(tf.memory().numTensors).toBe(before);
    disposeImages(images);
    model.dispose();
    clip.dispose();
  });

  it('frees everything on dispose, and says so when it is used afterwards', async () => {
    const before = tf.memory().numTensors;
    const clip = await loadClip(DIRECTORY);
    clip.dispose();
    clip.dispose();
    expect(tf.memory().numTensors).toBe(before);
    await expect(clip.embedText('a')).rejects.toMatchObject({ code: 'DISPOSED' });
  });

  it('refuses features of another width, with both', async () => {
    const clip = await loadClip(DIRECTORY);
    const features = tf.zeros<tf.Rank.R2>([4, 40]);
    expect(() => clip.embedPatches(features)).toThrow(
      expect.objectContaining({ name: 'PruneError', code: 'CLIP_INVALID', message: expect.stringMatching(/40 wide.*48 wide/) }),
    );
    features.dispose();
    clip.dispose();
  });

  it('refuses a checkpoint of another kind, one without a tokenizer, and a misspelt option', async () => {
    await expect(loadClip(join(FIXTURES, 'tiny-llava-hf'))).rejects.toMatchObject({
      code: 'UNSUPPORTED_MODEL',
      message: expect.stringContaining('"llava"'),
    });
    const files = new Map([['config.json', new TextEncoder().encode(JSON.stringify(config))]]);
    await expect(loadClip(memoryDirectory(files, 'bare'))).rejects.toMatchObject({ code: 'NO_TOKENIZER', message: expect.stringContaining('bare') });
    await expect(loadClip(DIRECTORY, { dtype: 'float16' } as object)).rejects.toMatchObject({ name: 'ConfigError' });
  });

  it.each([
    [{ hidden_size: 30 }, 'HEADS_DO_NOT_DIVIDE'],
    [{ hidden_act: 'swish9' }, 'UNKNOWN_ACTIVATION'],
    [{ num_hidden_layers: 0 }, 'CONFIG_FIELD'],
  ])('refuses a text_config with %p', (change, code) => {
    const json = { ...config, text_config: { ...config.text_config, ...change } };
    expect(() => parseClipConfig(json, 'config.json')).toThrow(expect.objectContaining({ name: 'ConfigError', code }));
  });

  it("takes transformers' defaults where a configuration is silent: OpenAI's base model", () => {
    const { text_config: text, vision_config: vision, projection_dim } = parseClipConfig({ model_type: 'clip' }, 'config.json');
    expect([text.vocab_size, text.hidden_size, text.num_hidden_layers, text.max_position_embeddings, text.eos_token_id]).toEqual([
      49408, 512, 12, 77, 49407,
    ]);
    expect([vision.hidden_size, projection_dim]).toEqual([768, 512]);
  });
});
