import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadModel, useBackend } from '../../lib/index';
import { changeJson, changeTensors, copyOf, type Refusal, refuses, useFolder, works } from './refusal';

const SHARDED = join(__dirname, '../fixtures/layouts/sharded');
const INDEX = 'model.safetensors.index.json';
const FIRST = 'model-00001-of-00003.safetensors';
const SECOND = 'model-00002-of-00003.safetensors';

useFolder();
beforeAll(() => useBackend('wasm'));

interface Index {
  weight_map: Record<string, string>;
  metadata?: object;
}

/** The sharded model with another index, or its index changed. */
function withIndex(index: string | ((json: Index) => void)): () => Promise<unknown> {
  return async () => {
    const change = (copy: string) => (typeof index === 'string' ? writeFile(join(copy, INDEX), index) : changeJson<Index>(join(copy, INDEX), index));
    return loadModel(await copyOf(SHARDED, change));
  };
}

function row(kind: Refusal['kind'], what: string, act: () => Promise<unknown>, code: Refusal['code'], ...tells: (string | RegExp)[]): Refusal {
  return { kind, what, act, name: 'CheckpointError', code, tells: [INDEX, ...tells] };
}

/** An index that names this file as a shard. */
function leadingTo(path: string): () => Promise<unknown> {
  return withIndex((json) => {
    json.weight_map['language_model.lm_head.weight'] = path;
  });
}

refuses([
  row(24, 'half an index', withIndex('{"weight_map": {'), 'NOT_JSON', /character \d+/),
  row(25, 'no weight_map', withIndex('{"metadata": {}}'), 'WEIGHT_MAP_MISSING', 'weight_map'),
  row(25, 'an empty weight_map', withIndex('{"weight_map": {}}'), 'WEIGHT_MAP_MISSING', 'weight_map'),
  row(25, 'a weight_map of numbers', withIndex('{"weight_map": {"a": 1}}'), 'WEIGHT_MAP_MISSING', '"a"'),
  row(26, 'the folder above', leadingTo('../secret.safetensors'), 'SHARD_PATH', '"../secret.safetensors"'),
  row(26, 'a detour', leadingTo('sub/../../secret.safetensors'), 'SHARD_PATH', '"sub/../../secret.safetensors"'),
  row(26, 'an absolute path', leadingTo('/etc/passwd'), 'SHARD_PATH', '"/etc/passwd"'),
  row(26, 'a drive', leadingTo('C:\\secret.safetensors'), 'SHARD_PATH', 'C:'),
  row(26, 'a URL', leadingTo('https://host.example/x.safetensors'), 'SHARD_PATH', '"https://host.example/x.safetensors"'),
  row(26, 'a NUL', leadingTo('x\0.safetensors'), 'SHARD_PATH', '\\u0000'),
  row(27, 'the second of three', async () => loadModel(await copyOf(SHARDED, (copy) => rm(join(copy, SECOND)))), 'SHARD_MISSING', SECOND),
  row(
    28,
    'a name that no shard has',
    withIndex((json) => {
      json.weight_map['language_model.model.layers.2.mlp.up_proj.weight'] = FIRST;
    }),
    'KEY_NOT_IN_SHARD',
    'language_model.model.layers.2.mlp.up_proj.weight',
    FIRST,
  ),
  {
    kind: 29,
    what: 'the head, in the first and in the second,',
    act: async () =>
      loadModel(
        await copyOf(SHARDED, (copy) =>
          changeTensors(join(copy, SECOND), (tensors) =>
            tensors.set('language_model.lm_head.weight', { dtype: 'U8', shape: [1], bytes: new Uint8Array(1) }),
          ),
        ),
      ),
    name: 'CheckpointError',
    code: 'TENSOR_IN_TWO_SHARDS',
    tells: ['language_model.lm_head.weight', FIRST, SECOND],
  },
  row(
    30,
    'one more in the first',
    async () =>
      loadModel(
        await copyOf(SHARDED, (copy) =>
          changeTensors(join(copy, FIRST), (tensors) => tensors.set('surplus', { dtype: 'U8', shape: [1], bytes: new Uint8Array(1) })),
        ),
      ),
    'TENSOR_NOT_IN_INDEX',
    '"surplus"',
    FIRST,
  ),
]);

works(31, 'the model loads, and warns whoever loaded it', async () => {
  const right = await loadModel(SHARDED);
  expect(right.warnings).toEqual([]);
  right.dispose();
  const directory = await copyOf(SHARDED, (copy) =>
    changeJson<Index>(join(copy, INDEX), (json) => {
      json.metadata = { total_size: 5 };
    }),
  );
  const model = await loadModel(directory);
  expect(model.warnings).toEqual([expect.stringMatching(/index\.json: total_size says 5 bytes, the shards hold 31920/)]);
  model.dispose();
});
