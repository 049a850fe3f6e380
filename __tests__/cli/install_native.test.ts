import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { WHEELS } from '../../lib/backend/native/setup/wheels';
import { startWheelIndex, type WheelIndex } from '../support/wheel_index';
import { ROOT, run, runWith, startWith } from './program';

// Installations that can't succeed, each a real process with real tools, or without them. One that succeeds takes minutes and a network: "npm run native".

const has = (...command: [string, ...string[]]) => spawnSync(command[0], command.slice(1)).status === 0;
const whereToolsAre = process.platform === 'linux' && has('g++', '--version') && has('python3', '-m', 'pip', '--version') ? describe : describe.skip;

let folder: string;
let root: string;
let alone: Readonly<Record<string, string>>;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'vispruner-install-'));
  root = path.join(folder, 'native');
  alone = { VISPRUNER_NATIVE: root, XDG_CACHE_HOME: path.join(folder, 'cache'), CXX: 'g++' };
});
afterEach(() => rm(folder, { recursive: true }));

/** A folder for PATH with links to some programs only. */
async function pathWith(...names: string[]): Promise<string> {
  const bin = path.join(folder, 'bin');
  await mkdir(bin);
  for (const name of names) {
    // what "python3" starts may be a script that needs more than itself
    const look = name === 'python3' ? 'python3 -c "import sys; print(sys.executable)"' : `command -v ${name}`;
    const found = spawnSync('sh', ['-c', look], { encoding: 'utf8' }).stdout.trim();
    await symlink(await realpath(found), path.join(bin, name));
  }
  return bin;
}

/** Command lines of the processes that have a text in theirs. */
async function processesOf(text: string): Promise<string[]> {
  const ids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(ids.map((id) => readFile(path.join('/proc', id, 'cmdline'), 'utf8').catch(() => '')));
  return lines.filter((line) => line.includes(text));
}

/** Nothing that a loader would take, and nothing that the next installation would have to remove. */
async function expectNothingLeft(): Promise<void> {
  expect(existsSync(root) ? await readdir(root) : []).toEqual([]);
}

it('without any tool: all that is missing is named at once, with how to get it, and nothing is made', async () => {
  const { code, stdout, stderr } = await runWith({ ...alone, PATH: await pathWith(), npm_execpath: '' }, 'doctor', '--install-native', '--json');
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^error \[NATIVE_REQUIREMENTS\]/);
  for (const advice of [/^- npm: /m, /^- pip.*apt-get install python3-pip.*--wheel/m, /^- a C\+\+17 compiler.*apt-get install g\+\+/m])
    expect(stderr).toMatch(advice);
  expect(existsSync(root)).toBe(false);
});

it.each(['--cuda', '--stock'])('%s without --install-native is wrong use', async (flag) => {
  const { code, stderr } = await run('doctor', flag);
  expect({ code, stderr: /--install-native/.test(stderr) }).toEqual({ code: 2, stderr: true });
});

it('a folder that can not be written to is named with the way out', async () => {
  await writeFile(root, 'a file');
  const { code, stderr } = await runWith({ ...alone, VISPRUNER_NATIVE: path.join(root, 'in', 'it') }, 'doctor', '--install-native');
  expect(code).toBe(1);
  expect(stderr).toMatch(/NATIVE_REQUIREMENTS[\s\S]*^- a folder to write to: .*native .*VISPRUNER_NATIVE/m);
});

const ownMounts = has('unshare', '-rm', 'mount', '-t', 'tmpfs', 'none', '/mnt') ? it : it.skip;
ownMounts('a full disk is known before anything is written to it', async () => {
  await mkdir(root);
  const program = `mount -t tmpfs -o size=8m none "$VISPRUNER_NATIVE" && "$0" "$@"; code=$?; ls -A "$VISPRUNER_NATIVE"; exit $code`;
  const command = [process.execPath, require.resolve('ts-node/dist/bin'), path.join(ROOT, 'lib/cli/main.ts'), 'doctor', '--install-native'];
  const { status, stdout, stderr } = spawnSync('unshare', ['-rm', 'sh', '-c', program, ...command], {
    cwd: ROOT,
    env: { ...process.env, ...alone },
    encoding: 'utf8',
  });
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toMatch(/^- disk space: 1\.3 GB are needed at .*native, and 0\.0 GB are free/m);
});

whereToolsAre('with a compiler and pip', () => {
  let index: WheelIndex | undefined;
  afterEach(async () => {
    await index?.close();
    index = undefined;
  });

  it('without the compiler alone: the compiler alone is missing', async () => {
    const { code, stderr } = await runWith({ ...alone, PATH: await pathWith('python3', 'npm', 'node') }, 'doctor', '--install-native');
    expect(code).toBe(1);
    expect(stderr.match(/^- .*/gm)).toEqual([expect.stringMatching(/^- a C\+\+17 compiler/)]);
  });

  /** A file that pip takes for the wheel that was asked for. */
  async function otherWheel(): Promise<Buffer> {
    const file = path.join(folder, 'other.zip');
    const program = [
      'import sys, zipfile',
      'with zipfile.ZipFile(sys.argv[1], "w") as archive:',
      '    archive.writestr("tensorflow_cpu-2.21.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tensorflow-cpu\\nVersion: 2.21.0\\n")',
      '    archive.writestr("tensorflow_cpu-2.21.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: cp311-cp311-manylinux_2_27_x86_64\\n")',
    ].join('\n');
    expect(spawnSync('python3', ['-c', program, file]).status).toBe(0);
    return readFile(file);
  }

  it('a file from the index that is another than it should be is refused', async () => {
    const wheel = await otherWheel();
    index = await startWheelIndex((response) => response.end(wheel));
    const { code, stderr } = await runWith({ ...alone, ...index.environment }, 'doctor', '--install-native');
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/NATIVE_CHECKSUM.*tensorflow_cpu-2\.21\.0.*2b847d217b02ee77/) });
    await expectNothingLeft();
  });

  it('a wheel that was given and is another than it should be is refused', async () => {
    const wheel = path.join(folder, 'tensorflow.whl');
    await writeFile(wheel, 'another file');
    const { code, stderr } = await runWith(alone, 'doctor', '--install-native', '--wheel', wheel);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/NATIVE_CHECKSUM.*tensorflow\.whl.*2b847d217b02ee77/) });
    await expectNothingLeft();
  });

  it('a download that breaks off says so, and leaves nothing', async () => {
    index = await startWheelIndex((response) => {
      response.setHeader('content-length', 1_000_000);
      response.write(Buffer.alloc(100_000), () => response.destroy());
    });
    const { code, stderr } = await runWith({ ...alone, ...index.environment }, 'doctor', '--install-native');
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/NATIVE_INSTALL.*Downloading tensorflow-cpu 2\.21\.0 failed[\s\S]*--wheel/),
    });
    await expectNothingLeft();
  });

  it('Ctrl-C in a download ends it, with pip, and leaves nothing', async () => {
    index = await startWheelIndex((response) => {
      response.setHeader('content-length', 1_000_000);
      response.write(Buffer.alloc(100_000)); // and no more
    });
    const { child, finished } = startWith({ ...alone, ...index.environment }, 'doctor', '--install-native');
    await index.asked;
    expect(await processesOf(root)).not.toEqual([]); // pip
    child.kill('SIGINT');
    expect((await finished).code).toBe(130);
    await expectNothingLeft();
    expect(await processesOf(root)).toEqual([]);
  });

  it('one that was killed leaves nothing that loads; the next one clears up, and two at once are refused', async () => {
    index = await startWheelIndex((response) => void response.writeHead(200, { 'content-length': 1_000_000 }).flushHeaders());
    const first = startWith({ ...alone, ...index.environment }, 'doctor', '--install-native');
    await index.asked;
    const second = await runWith(alone, 'doctor', '--install-native');
    expect({ code: second.code, stderr: second.stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/NATIVE_INSTALL.*process \d+/) });
    first.child.kill('SIGKILL');
    await first.finished;
    expect(await readdir(root)).toEqual(['.lock', expect.stringMatching(/^\.staging-/)]);
    const ask = await runWith(alone, 'ask', '--backend', 'tensorflow', 'examples/images/stars.png', 'where is the yellow object?');
    expect({ code: ask.code, stderr: ask.stderr }).toEqual({ code: 1, stderr: expect.stringMatching(`BACKEND_UNAVAILABLE.*${root}`) });
    await index.close(); // the pip that was left behind ends
    index = await startWheelIndex((response) => void response.writeHead(404).end());
    expect((await runWith({ ...alone, ...index.environment }, 'doctor', '--install-native')).stderr).toMatch(/NATIVE_INSTALL.*failed/);
    await expectNothingLeft();
  });

  /** An npm that reaches nothing. */
  const unreachable = () => ({
    npm_config_registry: 'http://127.0.0.1:9',
    npm_config_cache: path.join(folder, 'npm'),
    npm_config_fetch_retries: '0',
  });

  it('takes the libraries of another version of this package, without a copy or a download, and keeps them when a later step fails', async () => {
    const other = path.join(folder, 'cache', 'vispruner', 'native-1', 'tensorflow');
    await mkdir(path.join(other, 'include'), { recursive: true });
    await writeFile(path.join(other, 'wheels.json'), `${JSON.stringify(WHEELS.cpu, null, 2)}\n`);
    await writeFile(path.join(other, 'include', 'header.h'), 'a header');
    const { code, stderr } = await runWith({ ...alone, ...unreachable(), PIP_INDEX_URL: 'http://127.0.0.1:9' }, 'doctor', '--install-native');
    expect({ code, stderr: /Installing @tensorflow\/tfjs-node 4\.22\.0 failed/.test(stderr) }).toEqual({ code: 1, stderr: true });
    expect(await readdir(root)).toEqual(['tensorflow']);
    const header = path.join('include', 'header.h');
    expect((await stat(path.join(root, 'tensorflow', header))).ino).toBe((await stat(path.join(other, header))).ino);
  });

  it('one that fails in its middle leaves the one before in place', async () => {
    const before = path.join(root, 'node_modules', '@tensorflow', 'tfjs-node');
    await mkdir(before, { recursive: true });
    await writeFile(path.join(before, 'mark'), 'the one before');
    await mkdir(path.join(root, 'tensorflow'));
    await writeFile(path.join(root, 'tensorflow', 'wheels.json'), `${JSON.stringify(WHEELS.cpu, null, 2)}\n`); // nothing to download
    const { code, stderr } = await runWith({ ...alone, ...unreachable() }, 'doctor', '--install-native');
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/NATIVE_INSTALL.*Installing @tensorflow\/tfjs-node 4\.22\.0 failed[\s\S]*npm config get registry/),
    });
    expect(await readdir(root)).toEqual(['node_modules', 'tensorflow']);
    expect(await readFile(path.join(before, 'mark'), 'utf8')).toBe('the one before');
  });
});
