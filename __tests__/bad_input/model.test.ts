import { cpSync, readdirSync } from 'node:fs';
import { appendFile, mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { convertCheckpoint } from '../../convert/convert';
import { loadModel, useBackend } from '../../lib/index';
import { changeJson, changeTensors, copyOf, newPath, type Refusal, refuses, type Stored, useFolder, works } from './refusal';

const OLDER = join(__dirname, '../fixtures/layouts/older');
const SHIPPED = join(__dirname, '../../weights/vispruner-tiny');
const WEIGHTS = 'model.safetensors';
const HEAD = 'language_model.lm_head.weight';

useFolder();
beforeAll(() => useBackend('wasm'));

interface Config {
  image_token_index: number;
  projector_hidden_act: string;
  vision_feature_layer: number;
  text_config: Record<string, unknown>;
  vision_config: Record<string, unknown>;
}

type Tensors = Map<string, Stored>;

/** The model with other tensors, loaded. */
function withTensors(change: (tensors: Tensors) => void, options: object = {}): () => Promise<unknown> {
  return async () => loadModel(await copyOf(OLDER, (copy) => changeTensors(join(copy, WEIGHTS), change)), options);
}

/** The model with another config.json, loaded. */
function withConfig(change: (config: Config) => void): () => Promise<unknown> {
  return async () => loadModel(await copyOf(OLDER, (copy) => changeJson(join(copy, 'config.json'), change)));
}

function reshaped(tensors: Tensors, name: string, shape: readonly number[]): void {
  tensors.set(name, { ...(tensors.get(name) as Stored), shape });
}

/** Writes one element of a tensor anew, given by its bits where it has 16 of them. */
function poison(tensors: Tensors, name: string, element: number, value: number): void {
  const { dtype, shape, bytes } = tensors.get(name) as Stored;
  const copy = Uint8Array.from(bytes);
  if (dtype === 'F32') new DataView(copy.buffer).setFloat32(4 * element, value, true);
  else new DataView(copy.buffer).setUint16(2 * element, value, true);
  tensors.set(name, { dtype, shape, bytes: copy });
}

function checkpoint(kind: Refusal['kind'], what: string, act: () => Promise<unknown>, code: Refusal['code'], ...tells: (string | RegExp)[]): Refusal {
  return { kind, what, act, name: 'CheckpointError', code, tells };
}

function contradiction(what: string, change: (config: Config) => void, code: Refusal['code'], ...tells: (string | RegExp)[]): Refusal {
  return { kind: 38, what, act: withConfig(change), name: 'ConfigError', code, tells: ['model/config.json', ...tells] };
}

refuses([
  checkpoint(
    32,
    'one of them',
    withTensors((tensors) => tensors.delete(HEAD)),
    'MISSING_KEYS',
    '1 missing',
    'language_model.lm_head.weight',
  ),
  checkpoint(
    32,
    'a block too many in config.json',
    withConfig((config) => {
      config.text_config.num_hidden_layers = 3;
    }),
    'MISSING_KEYS',
    '9 missing',
    'layers.2.self_attn.q_proj.weight',
  ),
  checkpoint(
    33,
    'one that no layer has',
    withTensors((tensors) => tensors.set('language_model.model.layers.0.mlp.gate.weight', { dtype: 'F16', shape: [1], bytes: new Uint8Array(2) })),
    'UNEXPECTED_KEYS',
    '1 unexpected',
    'language_model.model.layers.0.mlp.gate.weight',
  ),
  checkpoint(
    34,
    'a transposed matrix',
    withTensors((tensors) => reshaped(tensors, 'language_model.model.layers.0.mlp.up_proj.weight', [24, 32])),
    'SHAPE_MISMATCH',
    'mlp.up_proj.weight is [24, 32], the model needs [32, 24]',
    'transposed',
  ),
  checkpoint(
    34,
    'a norm of another rank',
    withTensors((tensors) => reshaped(tensors, 'language_model.model.norm.weight', [2, 12])),
    'SHAPE_MISMATCH',
    'language_model.model.norm.weight is [2, 12], the model needs [24]',
  ),
  checkpoint(
    34,
    'a tensor missing and another left over',
    withTensors((tensors) => {
      const head = tensors.get(HEAD) as Stored;
      tensors.delete(HEAD);
      tensors.set('language_model.head.weight', head);
    }),
    'KEYS_DO_NOT_FIT',
    '1 missing',
    '1 unexpected',
    'language_model.head.weight',
  ),
  checkpoint(
    35,
    'what a killed process leaves',
    async () => {
      const target = newPath('converted');
      const left = newPath('left');
      const takeAway = () => {
        const partial = readdirSync(dirname(target)).find((name) => name.startsWith(`${basename(target)}.partial-`));
        cpSync(join(dirname(target), partial as string), left, { recursive: true });
      };
      let tensors = 0;
      await convertCheckpoint(OLDER, target, {
        dtype: 'float32',
        progress: () => {
          if (tensors++ === 20) takeAway();
        },
      });
      (await loadModel(target)).dispose(); // what was not broken off is whole
      return loadModel(left);
    },
    'CONVERSION_UNFINISHED',
    /left/,
  ),
  checkpoint(
    36,
    'a byte more in tokenizer.json',
    async () => loadModel(await copyOf(SHIPPED, (copy) => appendFile(join(copy, 'tokenizer.json'), ' ')), { verify: true }),
    'CHECKSUM_MISMATCH',
    '1 of 9',
    /tokenizer\.json has [0-9a-f]{64} and should have fba53e36782c0737/,
  ),
  checkpoint(
    36,
    'a bit turned in the weights of a converted model',
    async () => {
      const target = newPath('converted');
      await convertCheckpoint(OLDER, target);
      await changeTensors(join(target, WEIGHTS), (tensors) => poison(tensors, HEAD, 0, 0.5));
      return loadModel(target, { verify: true });
    },
    'CHECKSUM_MISMATCH',
    /model\.safetensors has [0-9a-f]{64}/,
  ),
  checkpoint(36, 'a model without checksums', async () => loadModel(OLDER, { verify: true }), 'NO_CHECKSUMS', 'SHA256SUMS', WEIGHTS),
  checkpoint(
    36,
    'a list of other files',
    async () => loadModel(await copyOf(SHIPPED, (copy) => writeFile(join(copy, 'SHA256SUMS'), `${'0'.repeat(64)}  config.json\n`)), { verify: true }),
    'NO_CHECKSUMS',
    'SHA256SUMS',
    WEIGHTS,
  ),
  checkpoint(
    36,
    'a list of something else',
    async () => loadModel(await copyOf(SHIPPED, (copy) => writeFile(join(copy, 'SHA256SUMS'), 'md5 of all: 1234\n')), { verify: true }),
    'CHECKSUMS_FORMAT',
    'line 1',
    'md5 of all',
  ),
  checkpoint(
    36,
    'a list that leads out of the directory',
    async () => loadModel(await copyOf(SHIPPED, (copy) => writeFile(join(copy, 'SHA256SUMS'), `${'0'.repeat(64)}  ../secret\n`)), { verify: true }),
    'SHARD_PATH',
    '"../secret"',
  ),
  checkpoint(
    37,
    'NaN, where that was asked for,',
    withTensors((tensors) => poison(tensors, HEAD, 7, Number.NaN), { checkFinite: true }),
    'NOT_FINITE',
    'element 7 of "language_model.lm_head.weight" is NaN',
  ),
  checkpoint(
    37,
    'minus infinity, where that was asked for,',
    withTensors((tensors) => poison(tensors, 'language_model.model.norm.weight', 23, Number.NEGATIVE_INFINITY), { checkFinite: true }),
    'NOT_FINITE',
    'element 23 of "language_model.model.norm.weight" is -Infinity',
  ),
  checkpoint(
    37,
    'a bfloat16 of 131072, made float16,',
    async () => {
      const wide = newPath('bfloat16');
      await convertCheckpoint(OLDER, wide, { dtype: 'bfloat16' });
      await changeTensors(join(wide, WEIGHTS), (tensors) => poison(tensors, HEAD, 2, 0x4800));
      return convertCheckpoint(wide, newPath('float16'), { dtype: 'float16' });
    },
    'F16_OVERFLOW',
    HEAD,
    '1 finite value',
    '65504',
  ),
  {
    kind: 37,
    what: 'NaN, when the model computes with it,',
    act: async () => {
      const directory = await copyOf(SHIPPED, (copy) =>
        changeTensors(join(copy, WEIGHTS), (tensors) => poison(tensors, 'language_model.model.norm.weight', 3, 0x7e00)),
      );
      const model = await loadModel(directory);
      return model.ask([], 'what is it?').finally(() => model.dispose());
    },
    name: 'BackendError',
    code: 'LOGITS_NOT_FINITE',
    tells: ['NaN'],
  },
  contradiction(
    'hidden size and heads of the decoder',
    (config) => {
      config.text_config.num_attention_heads = 5;
    },
    'HEADS_DO_NOT_DIVIDE',
    'text_config.hidden_size (24)',
    'num_attention_heads (5)',
  ),
  contradiction(
    'hidden size and heads of the encoder',
    (config) => {
      config.vision_config.num_attention_heads = 3;
    },
    'HEADS_DO_NOT_DIVIDE',
    'vision_config.hidden_size (16)',
    'num_attention_heads (3)',
  ),
  contradiction(
    'image size and patch size',
    (config) => {
      config.vision_config.image_size = 10;
    },
    'PATCHES_DO_NOT_DIVIDE',
    'image_size (10)',
    'patch_size (4)',
  ),
  contradiction(
    'query and key-value heads',
    (config) => {
      config.text_config.num_key_value_heads = 4;
    },
    'KEY_VALUE_HEADS',
    'num_key_value_heads (4)',
    'num_attention_heads (2)',
  ),
  contradiction(
    'an odd head size',
    (config) => {
      config.text_config.head_dim = 13;
    },
    'ODD_HEAD_DIM',
    'head_dim is 13',
  ),
  contradiction(
    'a feature layer before the first',
    (config) => {
      config.vision_feature_layer = -4;
    },
    'FEATURE_LAYER',
    'vision_feature_layer is -4',
    '2 blocks',
  ),
  contradiction(
    'an unknown activation of the decoder',
    (config) => {
      config.text_config.hidden_act = 'swish2';
    },
    'UNKNOWN_ACTIVATION',
    'text_config.hidden_act is "swish2"',
    'silu',
  ),
  contradiction(
    'an unknown activation of the projector',
    (config) => {
      config.projector_hidden_act = 'gellu';
    },
    'UNKNOWN_ACTIVATION',
    'projector_hidden_act is "gellu"',
    'gelu',
  ),
  contradiction(
    'an unknown rope scaling',
    (config) => {
      config.text_config.rope_scaling = { type: 'yarn', factor: 4 };
    },
    'UNSUPPORTED_ROPE',
    '"yarn"',
    'llama3',
  ),
  contradiction(
    'an image token outside the vocabulary',
    (config) => {
      config.image_token_index = 40;
    },
    'IMAGE_TOKEN_RANGE',
    'image_token_index is 40',
    'vocab_size is 40',
  ),
  contradiction(
    'a size that is no number',
    (config) => {
      config.text_config.hidden_size = '24';
    },
    'CONFIG_FIELD',
    'text_config.hidden_size is "24"',
  ),
  checkpoint(
    38,
    'a vocabulary of more than the embedding has rows',
    withConfig((config) => {
      config.text_config.vocab_size = 48;
    }),
    'SHAPE_MISMATCH',
    'embed_tokens.weight is [40, 24], the model needs [48, 24]',
    'vocab_size',
  ),
]);

works(33, 'buffers and norms that releases have and no model needs are passed over', async () => {
  const directory = await copyOf(OLDER, (copy) =>
    changeTensors(join(copy, WEIGHTS), (tensors) => {
      for (const name of ['embeddings.position_ids', 'post_layernorm.weight']) expect(tensors.has(`vision_tower.vision_model.${name}`)).toBe(true);
      expect(tensors.has('language_model.model.layers.0.self_attn.rotary_emb.inv_freq')).toBe(true);
    }),
  );
  (await loadModel(directory)).dispose();
});

works(35, 'a conversion that is aborted leaves no target', async () => {
  const target = newPath('aborted');
  const controller = new AbortController();
  const conversion = convertCheckpoint(OLDER, target, { signal: controller.signal, progress: () => controller.abort(new Error('enough')) });
  await expect(conversion).rejects.toThrow('enough');
  expect((await readdir(dirname(target))).filter((name) => name.startsWith(basename(target)))).toEqual([]);
});

works(36, 'files as their checksums say are loaded', async () => {
  (await loadModel(SHIPPED, { verify: true, checkFinite: true })).dispose();
});

works(36, 'so are those of a Hugging Face cache, which calls large files by their checksums', async () => {
  const sha256 = '13b2d6d9f7512ec89864cf8b2d57a6ffac5467975b2e656b3041a07b01e84bb9';
  const snapshot = await copyOf(SHIPPED, async (copy) => {
    const blobs = join(newPath('cache'), 'blobs');
    await mkdir(blobs, { recursive: true });
    await rename(join(copy, WEIGHTS), join(blobs, sha256));
    await symlink(join(blobs, sha256), join(copy, WEIGHTS));
    await rm(join(copy, 'SHA256SUMS'));
  });
  (await loadModel(snapshot, { verify: true })).dispose();
  await appendFile(join(snapshot, WEIGHTS), ' ');
  await expect(loadModel(snapshot, { verify: true })).rejects.toMatchObject({ code: 'CHECKSUM_MISMATCH', message: expect.stringContaining(sha256) });
});
