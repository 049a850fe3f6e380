/**
 * The package as npm would publish it, installed into an empty folder: it holds what it should, and `require`, `import`, its types, its command and a
 * browser bundler find it. Needs the npm registry (or npm's cache) for the dependencies.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';

const require = createRequire(import.meta.url);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vispruner-package-'));
const run = (program, args, options = {}) => execFileSync(program, args, { cwd: folder, encoding: 'utf8', stdio: 'pipe', ...options });
const write = (name, text) => fs.writeFileSync(path.join(folder, name), text);

function expect(condition, message) {
  if (!condition) throw new Error(message);
  console.log(`ok  ${message}`);
}

try {
  const [packed] = JSON.parse(run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { cwd: process.cwd() }));
  const names = packed.files.map((file) => file.path);
  const stray = names.filter((name) => !/^(dist\/|weights\/vispruner-tiny\/|package\.json$|README\.md$|LICENSE$)/.test(name));
  expect(stray.length === 0, `the package holds dist, the shipped model, README and LICENSE only ${stray.join(' ')}`);
  const sources = fs.readdirSync('lib/backend/native/kernels').map((name) => `dist/cjs/lib/backend/native/kernels/${name}`);
  const needed = [...sources, 'dist/cjs/lib/backend/native/packages/lock.json', 'dist/cjs/lib/backend/native/packages/manifest.json'];
  const absent = needed.filter((name) => !names.includes(name));
  expect(absent.length === 0, `the package holds what the native backend is made of ${absent.join(' ')}`);
  expect(packed.size < 20e6, `it is smaller than 20 MB: ${(packed.size / 1e6).toFixed(1)} MB, ${names.length} files`);

  write('package.json', JSON.stringify({ name: 'consumer', version: '1.0.0', private: true }));
  run('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', path.join(folder, packed.filename)]);

  const keys = 'JSON.stringify(Object.keys(vispruner).filter((key) => key !== "default" && key !== "module.exports" && key !== "__esModule").sort())';
  write('consumer.cjs', `const vispruner = require('vispruner'); console.log(${keys});`);
  write('consumer.mjs', `import * as vispruner from 'vispruner'; console.log(${keys});`);
  const required = run('node', ['consumer.cjs']).trim();
  expect(JSON.parse(required).includes('loadModel'), `require gives ${JSON.parse(required).length} exports`);
  expect(run('node', ['consumer.mjs']).trim() === required, 'import gives the same exports');
  write(
    'same.mjs',
    "import { createRequire } from 'node:module'; import { loadModel } from 'vispruner';\nconst { loadModel: other } = createRequire(import.meta.url)('vispruner'); console.log(loadModel === other);",
  );
  expect(run('node', ['same.mjs']).trim() === 'true', 'require and import in one process share one copy');

  write('server.cjs', "console.log(typeof require('vispruner/server').createServer);");
  expect(run('node', ['server.cjs']).trim() === 'function', 'require of vispruner/server gives createServer');
  write('server.mjs', "import { createServer } from 'vispruner/server'; console.log(typeof createServer);");
  expect(run('node', ['server.mjs']).trim() === 'function', 'import of vispruner/server gives createServer');

  write(
    'consumer.ts',
    "import { loadModel } from 'vispruner';\nimport { createServer, type ModelServer } from 'vispruner/server';\nexport const load: (directory: string) => Promise<unknown> = loadModel;\nexport const serve = async (name: string): Promise<ModelServer> => createServer(await loadModel(name), { name });\n",
  );
  for (const resolution of [
    ['commonjs', 'node10'],
    ['node16', 'node16'],
    ['es2022', 'bundler'],
  ]) {
    const options = ['--module', resolution[0], '--moduleResolution', resolution[1], '--target', 'es2022', '--lib', 'es2022,dom'];
    run('node', [require.resolve('typescript/bin/tsc'), '--noEmit', '--strict', '--skipLibCheck', ...options, 'consumer.ts']);
    expect(true, `TypeScript finds the types with moduleResolution ${resolution[1]}`);
  }

  const help = run('npx', ['--no-install', 'vispruner', '--help']);
  expect(/\bask\b/.test(help), 'the vispruner command runs and its help names "ask"');

  const esbuild = require('esbuild');
  write('page.ts', "import { loadModel, visPruner } from 'vispruner';\nObject.assign(globalThis, { loadModel, visPruner });\n");
  const bundle = await esbuild.build({
    absWorkingDir: folder,
    entryPoints: ['page.ts'],
    bundle: true,
    write: false,
    platform: 'browser',
    format: 'esm',
    logLevel: 'silent',
  });
  expect(bundle.errors.length === 0, 'a bundler builds a page from it, with no Node module in it');
} catch (error) {
  console.error(`FAILED  ${error instanceof Error ? error.message : error}\n${error.stdout ?? ''}`);
  process.exitCode = 1;
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
