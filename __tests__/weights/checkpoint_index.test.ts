import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, posix, win32 } from 'node:path';
import * as fc from 'fast-check';
import { CheckpointError } from '../../layers/errors';
import { parseIndex, type ShardIndex, safePath } from '../../weights/checkpoint_index';
import { readCheckpoint } from '../../weights/checkpoint_node';
import { encodeSafetensors } from '../../weights/safetensors_write';
import { plainString, valueText } from '../fuzz/json_texts';
import { render, slots, treeOf } from '../fuzz/json_tree';
import { mutateTree, treeMutation } from '../fuzz/mutations';

const PARAMETERS = { numRuns: 1000, seed: 26 };

function parse(text: string): ShardIndex | CheckpointError {
  try {
    return parseIndex(text, 'index');
  } catch (error) {
    if (error instanceof CheckpointError) return error;
    throw error;
  }
}

const paths = fc
  .array(
    fc.oneof(fc.constantFrom('..', '.', '', '/', '\\', ':', '\0', 'C:', 'a', 'b.safetensors', '%2e%2e', '...', ' ', '~', 'http:'), plainString),
    {
      maxLength: 5,
    },
  )
  .chain((parts) => fc.constantFrom('/', '\\', '').map((separator) => parts.join(separator)));

it('lets no name of a shard leave the directory, on any system', async () => {
  let allowed = 0;
  await fc.assert(
    fc.property(paths, (path) => {
      try {
        safePath(path, 'index');
      } catch (error) {
        expect(error).toMatchObject({ name: 'CheckpointError', code: 'SHARD_PATH' });
        return;
      }
      allowed++;
      expect(posix.resolve('/models/one', path).startsWith('/models/one/')).toBe(true);
      expect(win32.resolve('C:\\models\\one', path).startsWith('C:\\models\\one\\')).toBe(true);
      expect(path).not.toContain('\0');
      expect(new URL(path.split('/').map(encodeURIComponent).join('/'), 'https://host.example/one/').href).toMatch(
        /^https:\/\/host\.example\/one\/./,
      );
    }),
    PARAMETERS,
  );
  expect(allowed).toBeGreaterThan(100);
});

it('reads what JSON.parse reads, or refuses it by name', async () => {
  const index = { metadata: { total_size: 8 }, weight_map: { a: 'x.safetensors', b: 'y.safetensors' } };
  let read = 0;
  await fc.assert(
    fc.property(fc.array(treeMutation, { maxLength: 2 }), fc.constantFrom('', ' ', '\n'), (mutations, space) => {
      const tree = treeOf(index);
      for (const mutation of mutations) mutateTree(tree, mutation);
      const text = render(tree, [space]);
      const result = parse(text);
      if (result instanceof CheckpointError) {
        expect(['NOT_JSON', 'DUPLICATE_KEY', 'WEIGHT_MAP_MISSING', 'SHARD_PATH']).toContain(result.code);
        return;
      }
      read++;
      const expected = JSON.parse(text) as typeof index;
      expect(Object.fromEntries(result.weightMap)).toEqual(expected.weight_map);
      const total: unknown = expected.metadata?.total_size;
      expect(result.totalSize).toBe(typeof total === 'number' ? total : undefined);
    }),
    PARAMETERS,
  );
  expect(read).toBeGreaterThan(100);
  expect(slots(treeOf(index)).length).toBe(5);
});

it('throws nothing but its own errors, whatever the text is', async () => {
  await fc.assert(
    fc.property(
      fc.oneof(
        valueText,
        fc.string(),
        valueText.map((text) => `{"weight_map":${text}}`),
      ),
      (text) => {
        parse(text);
      },
    ),
    PARAMETERS,
  );
});

it('follows a link out of the directory, for a Hugging Face cache is made of them', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'links-'));
  try {
    await mkdir(join(folder, 'blobs'));
    await mkdir(join(folder, 'snapshot'));
    await writeFile(join(folder, 'blobs', '1f'), await encodeSafetensors({ t: { dtype: 'U8', shape: [1], bytes: Uint8Array.of(7) } }));
    await writeFile(join(folder, 'snapshot', 'model.safetensors.index.json'), '{"weight_map":{"t":"model-1.safetensors"}}');
    await symlink('../blobs/1f', join(folder, 'snapshot', 'model-1.safetensors'));
    const checkpoint = await readCheckpoint(join(folder, 'snapshot'));
    expect([...(await checkpoint.bytes('t'))]).toEqual([7]);
    await checkpoint.close();
  } finally {
    await rm(folder, { recursive: true });
  }
});
