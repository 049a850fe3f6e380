import * as tf from '@tensorflow/tfjs';
import { causalMask } from '../../layers/attention';
import type { KeyValueCache } from '../../layers/kv_cache';
import { type BlockContext, Llama, type LlamaShape } from '../../layers/llama';
import type { Segment, Tap } from '../../layers/tap';
import { BACKENDS, useBackend, withoutLeaks } from '../support/backends';
import { expectClose } from '../support/compare';
import { HeldParameters } from '../support/held_parameters';
import { type Recorded, RecordedFile, readJson } from '../support/recorded';

/** Multi-head with a head of its own, and grouped queries with a tied head; the smaller one on the slow backend too. */
const MODELS = [
  { directory: 'tiny-llava-hf', prefix: '' },
  { directory: 'gqa', prefix: 'default.' },
] as const;

/** All blocks over packed rows, the caches by sequence and block where given. */
function runBlocks(llama: Llama, states: tf.Tensor2D, segments: readonly Segment[], caches?: readonly KeyValueCache[][], tap?: Tap): tf.Tensor2D {
  return tf.tidy(() => {
    const held = segments.map((_, i) => caches?.[i]?.[0]?.length ?? 0);
    const positions = Int32Array.from(segments.flatMap(({ length }, i) => Array.from({ length }, (_, j) => (held[i] as number) + j)));
    const masks = segments.map(({ length }, i) => (length === 1 ? undefined : causalMask(length, (held[i] as number) + length)));
    const context: BlockContext = { segments, masks, positions, rotary: llama.rotary.table(positions), tap };
    let rows = states;
    for (const [k, block] of llama.blocks.entries()) {
      rows = block.apply(
        rows,
        context,
        caches?.map((one) => one[k] as KeyValueCache),
      );
    }
    return rows === states ? states.clone() : rows;
  });
}

describe.each(BACKENDS)('Llama on %s', (backend) => {
  describe.each(MODELS.filter((model) => backend === 'wasm' || model.directory === 'gqa'))('$directory', ({ directory, prefix }) => {
    const { text_config: shape } = readJson<{ text_config: LlamaShape }>(directory, 'config.json');
    const weights = new RecordedFile(directory, 'model.safetensors');
    const reference = new RecordedFile(directory, 'reference.safetensors');
    const recorded = (name: string): Recorded => reference.get(`${prefix}${name}`);
    const count = shape.num_hidden_layers;
    let parameters: HeldParameters;
    let llama: Llama;
    let embeddings: tf.Tensor2D;
    let length: number;

    beforeAll(async () => {
      await useBackend(backend);
      parameters = new HeldParameters((name) => weights.get(name));
      llama = new Llama(parameters.at('language_model'), shape);
      const size = recorded('inputs_embeds').shape.slice(-2);
      embeddings = reference.tensor(`${prefix}inputs_embeds`, size) as tf.Tensor2D;
      length = size[0] as number;
    });
    afterAll(() => {
      parameters.dispose();
      embeddings.dispose();
    });

    it('has transformers’ states after every block, its attention maps and its logits', async () => {
      await withoutLeaks(async () => {
        const seen = new Map<string, tf.Tensor>();
        const tap = (name: string, value: tf.Tensor) => void seen.set(name, tf.keep(value.clone()));
        const states = runBlocks(llama, embeddings, [{ start: 0, length }], undefined, tap);
        const logits = llama.logits(states, tap);
        for (let k = 0; k < count; k++) {
          const path = `language_model.model.layers.${k}`;
          if (k + 1 < count) await expectClose(seen.get(path) as tf.Tensor, recorded(`decoder.hidden_states.${k + 1}`), path);
          if (k > 0 && prefix === '') continue; // the older recording has the first block's map only
          await expectClose(seen.get(`${path}.self_attn#probabilities`) as tf.Tensor, recorded(`decoder.attentions.${k}`), `${path} probabilities`);
        }
        await expectClose(seen.get('language_model.model.norm') as tf.Tensor, recorded(`decoder.hidden_states.${count}`), 'after the last norm');
        await expectClose(logits, recorded('logits'), 'logits');
        tf.dispose([states, logits, ...seen.values()]);
      });
    });

    it('names every intermediate as the checkpoint names its module', () => {
      const names: string[] = [];
      tf.tidy(() =>
        llama.logits(
          runBlocks(llama, embeddings, [{ start: 0, length }], undefined, (name) => void names.push(name)),
          (name) => void names.push(name),
        ),
      );
      const parts = ['.self_attn#queries', '.self_attn#keys', '.self_attn#probabilities', '.self_attn', '.mlp', ''];
      const blocks = Array.from({ length: count }, (_, k) => parts.map((part) => `language_model.model.layers.${k}${part}`)).flat();
      expect(names).toEqual([...blocks, 'language_model.model.norm']);
    });

    it('looks up the embeddings that transformers looks up', async () => {
      const ids = Int32Array.of(1, 3, 17);
      const table = weights.get('language_model.model.embed_tokens.weight');
      const expected = Float32Array.from(ids, (id) => table.values[id * shape.hidden_size] as number);
      const rows = llama.embed(ids);
      const column = rows.slice([0, 0], [-1, 1]);
      await expectClose(column, { shape: [3, 1], values: expected }, 'first column');
      tf.dispose([rows, column]);
    });

    it('with a cache, in chunks and token by token, equals one pass without', async () => {
      for (const sizes of [[length], [5, 1, 3, length - 9], Array<number>(length).fill(1)]) {
        await withoutLeaks(async () => {
          const caches = llama.newCaches();
          let start = 0;
          for (const size of sizes) {
            const states = tf.tidy(() => runBlocks(llama, tf.slice(embeddings, [start, 0], [size, -1]), [{ start: 0, length: size }], [caches]));
            const logits = llama.logits(states);
            const wanted = recorded('logits');
            const values = wanted.values.slice(start * shape.vocab_size, (start + size) * shape.vocab_size);
            await expectClose(logits, { shape: [size, shape.vocab_size], values }, `rows from ${start} in chunks of ${sizes.join(', ')}`);
            tf.dispose([states, logits]);
            start += size;
          }
          for (const cache of caches) cache.dispose();
        });
      }
    });

    it('packed sequences of different lengths equal each alone, with caches', async () => {
      await withoutLeaks(async () => {
        const lengths = [length, 4, length - 2];
        let start = 0;
        const segments = lengths.map((size) => {
          const segment = { start, length: size };
          start += size;
          return segment;
        });
        const parts = lengths.map((size, i) => tf.slice(embeddings, [i === 1 ? 3 : 0, 0], [size, -1]));
        const packed = tf.concat(parts, 0);
        const caches = lengths.map(() => llama.newCaches());
        const together = runBlocks(llama, packed, segments, caches);
        for (const [i, segment] of segments.entries()) {
          const alone = runBlocks(llama, parts[i] as tf.Tensor2D, [{ start: 0, length: segment.length }]);
          const rows = tf.slice(together, [segment.start, 0], [segment.length, -1]);
          await expectClose(rows, alone, `sequence ${i}`);
          tf.dispose([alone, rows]);
        }
        for (const cache of caches.flat()) cache.dispose();
        tf.dispose([...parts, packed, together]);
      });
    });

    it('packed sequences of one length equal each alone, without caches (as in training)', async () => {
      await withoutLeaks(async () => {
        const half = Math.floor(length / 2);
        const segments = [0, 1].map((i) => ({ start: i * half, length: half }));
        const packed = tf.slice(embeddings, [0, 0], [2 * half, -1]);
        const positions = Int32Array.from({ length: 2 * half }, (_, i) => i % half);
        const together = tf.tidy(() => {
          const context: BlockContext = { segments, masks: [causalMask(half, half)], positions, rotary: llama.rotary.table(positions) };
          return llama.blocks.reduce((rows, block) => block.apply(rows, context), packed);
        });
        for (const { start } of segments) {
          const alone = tf.tidy(() => runBlocks(llama, tf.slice(packed, [start, 0], [half, -1]), [{ start: 0, length: half }]));
          const rows = tf.slice(together, [start, 0], [half, -1]);
          await expectClose(rows, alone, `sequence at ${start}`);
          tf.dispose([alone, rows]);
        }
        tf.dispose([packed, together]);
      });
    });

    it('computes a few rows of attention that equal those of the recorded map', async () => {
      const asked = Int32Array.of(2, length - 1);
      const blocks = prefix === '' ? [0] : Array.from({ length: count }, (_, k) => k);
      for (const k of blocks) {
        await withoutLeaks(async () => {
          const all =
            k === 0 ? embeddings.clone() : (reference.tensor(`${prefix}decoder.hidden_states.${k}`, [length, shape.hidden_size]) as tf.Tensor2D);
          const rows = tf.tidy(() => {
            const block = llama.blocks[k] as Llama['blocks'][number];
            const keys = block.keys(all, llama.rotary.table(Int32Array.from({ length }, (_, i) => i)));
            const mask = tf.gather(causalMask(length, length), tf.tensor1d(asked, 'int32'));
            const asking = tf.gather(all, tf.tensor1d(asked, 'int32'));
            return block.attentionRows(asking, keys, mask as tf.Tensor2D, llama.rotary.table(asked));
          });
          const map = recorded(`decoder.attentions.${k}`);
          const expected = tf.tidy(() => tf.gather(tf.tensor(map.values, map.shape.slice(-3)), tf.tensor1d(asked, 'int32'), 1));
          await expectClose(rows, expected, `rows ${asked.join(', ')} of block ${k}`);
          tf.dispose([all, rows, expected]);
        });
      }
    });
  });
});
