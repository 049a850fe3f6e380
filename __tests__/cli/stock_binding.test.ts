import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { bindingIn, installRoot, tfjsNodeIn } from '../../lib/backend/native/folders';
import { compileBinding } from '../../lib/backend/native/setup/binding';
import { runWith } from './program';

/** A native folder that `npm run native` made, and a compiler: tfjs-node's binding is compiled once more, without our additions. */
const source = installRoot('cpu');
const able = existsSync(path.join(source, 'node_modules', 'node-api-headers')) && spawnSync('g++', ['--version']).status === 0;

(able ? describe : describe.skip)("a binding without our additions, as tfjs-node's own is", () => {
  let root: string;
  const IMAGE_AND_QUESTION = ['examples/images/stars.png', 'where is the yellow object?'] as const;

  beforeAll(async () => {
    root = await mkdtemp(path.join(tmpdir(), 'vispruner-stock-'));
    await cp(path.join(source, 'node_modules'), path.join(root, 'node_modules'), { recursive: true });
    await rm(bindingIn(tfjsNodeIn(root)));
    await symlink(path.join(source, 'tensorflow'), path.join(root, 'tensorflow'));
    await compileBinding(root, { additions: false, report: () => {} });
  });
  afterAll(() => rm(root, { recursive: true }));

  const ask = (...options: string[]) => runWith({ VISPRUNER_NATIVE: root }, 'ask', '--backend', 'tensorflow', ...options, ...IMAGE_AND_QUESTION);

  it.each(['auto', 'float32', 'bfloat16', 'float16'])('answers with --dtype %s', async (dtype) => {
    const { code, stdout } = await ask('--dtype', dtype);
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'top-right\n' });
  });

  it('has no int8, and says how to get it', async () => {
    const { code, stderr } = await ask('--dtype', 'int8');
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/DTYPE_UNAVAILABLE.*int8/) });
  });

  it('is told apart by doctor, which advises ours', async () => {
    const { backends } = JSON.parse((await runWith({ VISPRUNER_NATIVE: root }, 'doctor', '--json')).stdout) as { backends: { backend: string }[] };
    const rates = [
      ...['float32', 'bfloat16', 'float16'].map((dtype) =>
        expect.objectContaining({ dtype, gflops: expect.any(Number), gigabytes: expect.any(Number) }),
      ),
      { dtype: 'int8', note: expect.stringContaining('int8') },
    ];
    expect(backends.find(({ backend }) => backend === 'tensorflow')).toMatchObject({
      available: true,
      binding: { patch: 0, device: 'cpu', folder: tfjsNodeIn(root) },
      rates,
      advice: expect.stringContaining('--install-native'),
    });
  });
});
