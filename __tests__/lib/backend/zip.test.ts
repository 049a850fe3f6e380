import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { extract } from '../../../lib/backend/native/setup/zip';

/** Written by Python's own zipfile, as wheels are. */
const MAKE = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED, allowZip64=False) as archive:
    archive.comment = b'a comment behind the directory'
    archive.writestr('lib/packed.txt', 'packed ' * 100000)
    archive.writestr(zipfile.ZipInfo('lib/stored.txt'), 'stored', zipfile.ZIP_STORED)
    archive.writestr('lib/empty.txt', '')
    archive.writestr('lib/deep/er/', '')
    program = zipfile.ZipInfo('bin/program')
    program.external_attr = 0o100755 << 16
    archive.writestr(program, 'a program')
    archive.writestr('other/unwanted.txt', 'unwanted')
    archive.writestr('../outside.txt', 'outside')
`;

const python = spawnSync('python3', ['--version']).status === 0 ? describe : describe.skip;

python('unpacking what Python packed', () => {
  let folder: string;
  let archive: string;
  const target = () => path.join(folder, 'target');

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'vispruner-zip-'));
    archive = path.join(folder, 'archive.zip');
    expect(spawnSync('python3', ['-c', MAKE, archive]).status).toBe(0);
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('gives the wanted files, packed, stored, empty and executable, and counts their bytes', async () => {
    const steps: [number, number][] = [];
    const progress = (done: number, total: number) => steps.push([done, total]);
    await extract(archive, target(), { wanted: (name) => /^(?:lib|bin)\//.test(name), progress });
    const text = (name: string) => readFile(path.join(target(), name), 'utf8');
    expect(await text('lib/packed.txt')).toBe('packed '.repeat(100_000));
    expect(await text('lib/stored.txt')).toBe('stored');
    expect(await text('lib/empty.txt')).toBe('');
    expect((await stat(path.join(target(), 'bin/program'))).mode & 0o777).toBe(0o755);
    expect((await readdir(target())).sort()).toEqual(['bin', 'lib']);
    expect(steps.at(-1)).toEqual([700_015, 700_015]);
  });

  it('never writes outside of its folder', async () => {
    await expect(extract(archive, target(), { wanted: (name) => name.includes('outside') })).rejects.toMatchObject({ code: 'NATIVE_INSTALL' });
    expect(await readdir(folder)).not.toContain('outside.txt');
  });

  it('refuses what has no directory, as a file that was cut off', async () => {
    const cut = path.join(folder, 'cut.zip');
    await writeFile(cut, (await readFile(archive)).subarray(0, 300));
    await expect(extract(cut, target(), { wanted: () => true })).rejects.toMatchObject({
      code: 'NATIVE_INSTALL',
      message: expect.stringContaining(cut),
    });
  });

  it('stops when it is told to', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(extract(archive, target(), { wanted: (name) => name === 'lib/packed.txt', signal })).rejects.toThrow(/abort|enough/i);
  });
});
