import * as tf from '@tensorflow/tfjs';
import { z } from 'zod';
import { type AskOptions, loadModel, type VisionLanguageModel } from '../../../lib';
import { memoryDirectory } from '../../../weights/byte_directory';
import { LLAVA_CONFIG, modelFiles } from '../../support/memory_model';
import { bytesOf, tokenizerFiles } from '../../support/tokenizers';

const TYPE = z.object({ name: z.string().max(8), count: z.int().min(3).max(120), tags: z.array(z.enum(['a', 'bb'])).max(3), sure: z.boolean() });
const schema = z.toJSONSchema(TYPE) as Record<string, unknown>;

/** A model of random weights that speaks by a recorded tokenizer. */
async function modelOf(kind: 'llama' | 'chatml'): Promise<VisionLanguageModel> {
  const [image, vocabulary] = kind === 'llama' ? [650, 660] : [460, 500];
  const text = { ...(LLAVA_CONFIG.text_config as object), vocab_size: vocabulary, eos_token_id: 2, max_position_embeddings: 1024 };
  const files: Record<string, Uint8Array> = await modelFiles({ ...LLAVA_CONFIG, image_token_index: image, text_config: text });
  for (const [name, content] of Object.entries(tokenizerFiles(kind))) files[name] = bytesOf(content as string | object);
  files['generation_config.json'] = bytesOf({ eos_token_id: 2 });
  return loadModel(memoryDirectory(new Map(Object.entries(files))), { backend: 'wasm' });
}

describe.each(['llama', 'chatml'] as const)('a model of random weights with the tokenizer %s', (kind) => {
  let model: VisionLanguageModel;

  beforeAll(async () => {
    model = await modelOf(kind);
  });

  afterAll(() => model.dispose());

  it('answers by the schema at every temperature, streamed as at once, and ends by itself', async () => {
    const before = tf.memory().numTensors;
    for (const options of [{}, { temperature: 1, seed: 1 }, { temperature: 3, seed: 2, topK: 5 }] as AskOptions[]) {
      const all = { ...options, schema, maxNewTokens: 300 };
      const answer = await model.ask([], 'Say something.', all);
      expect(answer.finishReason).toBe('stop');
      TYPE.parse(JSON.parse(answer.text));
      const pieces: string[] = [];
      for await (const piece of model.stream([], 'Say something.', all)) pieces.push(piece);
      expect(pieces.join('')).toBe(answer.text);
    }
    expect(tf.memory().numTensors).toBe(before);
  });

  it('says when the answer was cut before it was whole', async () => {
    const { text, finishReason } = await model.ask([], 'Say something.', { schema, maxNewTokens: 5 });
    expect(finishReason).toBe('length');
    expect(() => JSON.parse(text)).toThrow(SyntaxError);
  });

  it('ends a number at the end token, and a word as soon as nothing can follow', async () => {
    const { text } = await model.ask([], 'Say something.', { schema: { type: 'integer', minimum: 5, maximum: 7 } });
    expect(['5', '6', '7']).toContain(text);
    expect(await model.ask([], 'Say something.', { schema: { const: 'so' }, maxNewTokens: 10 })).toMatchObject({
      text: '"so"',
      finishReason: 'stop',
    });
  });

  it('goes together with processors and with log-probabilities, which stay those of the model', async () => {
    let seen = 0;
    const count = () => void seen++;
    const { ids, logprobs, text } = await model.ask([], 'Say something.', { schema: { enum: [true, false] }, logitsProcessor: count, logprobs: 1 });
    expect(['true', 'false']).toContain(text);
    expect(seen).toBe(ids.length);
    expect(Buffer.from(logprobs?.flatMap(({ bytes }) => bytes) ?? []).toString()).toBe(text);
    expect(logprobs?.[0]?.logprob).toBeLessThan(0);
  });

  it('refuses what is wrong before any work, and adds no listener and no output', async () => {
    const listeners = process.eventNames().map((name) => [name, process.listenerCount(name)]);
    const written = jest.spyOn(process.stdout, 'write');
    await expect(model.ask([], 'x', { schema: { type: 'text' } })).rejects.toMatchObject({ code: 'BAD_SCHEMA' });
    await expect(model.ask([], 'x', { schema, stop: '}' })).rejects.toMatchObject({ code: 'OPTION_CONFLICT' });
    await expect(model.ask([], 'x', { schema, choices: ['a'] })).rejects.toMatchObject({ code: 'OPTION_CONFLICT' });
    await model.ask([], 'x', { schema: { type: 'null' } });
    expect(process.eventNames().map((name) => [name, process.listenerCount(name)])).toEqual(listeners);
    expect(written).not.toHaveBeenCalled();
    written.mockRestore();
  });
});
