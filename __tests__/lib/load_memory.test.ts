import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { writeSafetensors } from '../../weights/safetensors_node';
import { child } from '../process/child';
import { nativeInstalled } from '../support/native';

/** Where oneDNN is on by itself (AVX-512), TensorFlow says so while it is loaded, whatever TF_CPP_MIN_LOG_LEVEL says. */
const TENSORFLOW_NOTICES = /^(?:WARNING: All log messages before absl::InitializeLog\(\)|I0000 .* oneDNN custom operations are on).*\n/gm;

const [WIDTH, INNER, VOCABULARY, BLOCKS] = [1024, 4096, 8192, 8];
const CONFIG = {
  model_type: 'llama',
  hidden_size: WIDTH,
  intermediate_size: INNER,
  num_hidden_layers: BLOCKS,
  num_attention_heads: 8,
  num_key_value_heads: 8,
  vocab_size: VOCABULARY,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
};
/** What a process holds besides the weights: the largest tensor while it is read, and its code. */
const SPARE = 96 * 2 ** 20;
/** Twice the largest tensor: of float32 the collector had not freed all of it yet on a machine with AVX-512. */
const SPARE_OF_FLOAT32 = SPARE + 64 * 2 ** 20;

function shapes(): [string, number[]][] {
  const blocks = Array.from({ length: BLOCKS }, (_, i): [string, number[]][] => [
    ...['q', 'k', 'v', 'o'].map((name): [string, number[]] => [`model.layers.${i}.self_attn.${name}_proj.weight`, [WIDTH, WIDTH]]),
    [`model.layers.${i}.mlp.gate_proj.weight`, [INNER, WIDTH]],
    [`model.layers.${i}.mlp.up_proj.weight`, [INNER, WIDTH]],
    [`model.layers.${i}.mlp.down_proj.weight`, [WIDTH, INNER]],
    [`model.layers.${i}.input_layernorm.weight`, [WIDTH]],
    [`model.layers.${i}.post_attention_layernorm.weight`, [WIDTH]],
  ]);
  return [
    ['model.embed_tokens.weight', [VOCABULARY, WIDTH]],
    ...blocks.flat(),
    ['model.norm.weight', [WIDTH]],
    ['lm_head.weight', [VOCABULARY, WIDTH]],
  ];
}

const bytesOf = (shape: readonly number[]) => 2 * shape.reduce((product, size) => product * size, 1);
const WEIGHTS = shapes().reduce((sum, [, shape]) => sum + bytesOf(shape), 0);

/** Loads in a process of its own; most bytes that it held meanwhile, over what it held before. */
async function peakOf(directory: string, dtype: string): Promise<{ peak: number; dtype: string; bytes: number; seconds: number[] }> {
  const ended = await child(
    `
    const fs = require('node:fs');
    const status = (key) => 1024 * Number(new RegExp(key + ':\\\\s*(\\\\d+) kB').exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]);
    const lib = require('./lib/index');
    const tf = require('@tensorflow/tfjs');
    (async () => {
      await lib.useBackend('tensorflow');
      const [x, w] = [tf.ones([64, 512]), tf.ones([512, 512])];
      tf.dispose([tf.matMul(x, w), x, w]);
      globalThis.gc();
      fs.writeFileSync('/proc/self/clear_refs', '5');
      const before = status('VmRSS');
      const seen = [];
      const model = await lib.loadModel(${JSON.stringify(directory)}, { backend: 'tensorflow', dtype: '${dtype}', progress: (step) => seen.push(step) });
      const { bytes } = seen.at(-1);
      process.stdout.write(JSON.stringify({ peak: status('VmHWM') - before, dtype: model.dtype, bytes, seconds: seen.map((step) => step.seconds) }));
      model.dispose();
    })().catch(fail);
  `,
    '--expose-gc',
  );
  expect({ code: ended.code, stderr: ended.stderr.replace(TENSORFLOW_NOTICES, '') }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(ended.stdout);
}

const possible = existsSync('/proc/self/clear_refs') && nativeInstalled();

(possible ? describe : describe.skip)(`memory of loading ${(WEIGHTS / 2 ** 20).toFixed(0)} MiB on the native backend`, () => {
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'vispruner-memory-'));
    const entries = shapes().map(([name, shape]) => {
      const bytes = async () => new Uint8Array(bytesOf(shape)).fill(0x3c); // 0x3c3c is 0.0115 in bfloat16
      return [name, { dtype: 'BF16', shape, bytes }] as const;
    });
    await writeSafetensors(path.join(directory, 'model.safetensors'), new Map(entries), {});
    await writeFile(path.join(directory, 'config.json'), JSON.stringify(CONFIG));
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));

  it('weights in the type that they are stored in are held once, whatever is read', async () => {
    const { peak, dtype, bytes, seconds } = await peakOf(directory, 'bfloat16');
    expect(dtype).toBe('bfloat16');
    expect(bytes).toBe(WEIGHTS);
    expect(peak).toBeGreaterThan(0.8 * WEIGHTS); // else it was not measured
    expect(peak).toBeLessThan(WEIGHTS + SPARE);
    expect(seconds).toEqual([...seconds].sort((a, b) => a - b));
    expect(seconds.at(-1)).toBeGreaterThan(0);
  }, 120_000);

  it.each([
    ['int8', 0.5],
    ['float16', 1],
    ['float32', 2],
  ])(
    'weights that are converted to %s are never all there in both types',
    async (asked, size) => {
      const { peak, dtype } = await peakOf(directory, asked);
      expect(dtype).toBe(asked);
      expect(peak).toBeGreaterThan(0.8 * size * WEIGHTS);
      expect(peak).toBeLessThan(size * WEIGHTS + (asked === 'float32' ? SPARE_OF_FLOAT32 : SPARE));
    },
    120_000,
  );
});
