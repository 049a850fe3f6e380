/**
 * One question to the shipped model in a real page: builds dist/esm anew (elsewhere), bundles it with tfjs's webgpu backend, serves it beside the model,
 * opens it in headless Chromium, where a worker answers on webgpu, and prints what it said as JSON, also what "auto" takes there.
 *
 *   node .ci/browser_answer.mjs [--chromium PATH] [--gpu]     --gpu: the machine's own GPU, not SwiftShader
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { setTimeout as setTimeoutPromise } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const MODEL = path.join(ROOT, 'weights', 'vispruner-tiny');
const IMAGE = path.join(ROOT, 'examples', 'images', 'stars.png');
const WASM = path.join(ROOT, 'node_modules', '@tensorflow', 'tfjs-backend-wasm', 'dist');
const QUESTION = 'where is the yellow object?';
const SECONDS = 600;

/** Started twice, for a worker has one backend: the first answers, the second tells which backend "auto" takes. */
const WORKER = `
import '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs';
import { loadModel, useBackend } from 'vispruner';

async function answers() {
  const model = await loadModel(new URL('model/', location.href).href, { backend: 'webgpu' });
  const { info } = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  const image = await (await fetch(new URL('image.png', location.href))).blob();
  const { text, timing, visual } = await model.ask(image, ${JSON.stringify(QUESTION)}, { prune: { method: 'vispruner', tokens: 28 } });
  model.dispose();
  const adapter = [info.vendor, info.architecture, info.device, info.description].filter(Boolean).join(', ');
  return { backend: tf.getBackend(), adapter, text, timing, kept: Array.from(visual[0].kept), tensors: tf.memory().numTensors };
}

const job = location.search === '?auto' ? useBackend('auto').then((auto) => ({ auto })) : answers();
job.catch((error) => ({ error: String(error?.stack ?? error) })).then(postMessage);
`;

const PAGE = `<!doctype html><title>vispruner</title><script type="module">
const said = (url) => new Promise((resolve) => {
  const worker = new Worker(url, { type: 'module' });
  worker.onmessage = ({ data }) => { worker.terminate(); resolve(data); };
  worker.onerror = ({ message }) => resolve({ error: message });
});
const seen = { ...(await said('worker.js?auto')), ...(await said('worker.js')) };
await fetch('seen', { method: 'POST', body: JSON.stringify(seen) });
</script>`;

const FLAGS = ['--headless=new', '--no-sandbox', '--no-first-run', '--disable-extensions', '--enable-unsafe-webgpu', '--enable-features=Vulkan'];
const SOFTWARE = ['--use-vulkan=swiftshader', '--use-webgpu-adapter=swiftshader', '--disable-vulkan-surface'];

/** The worker's bundle, from a build of its own: that of dist may be an older one. */
async function bundle(folder) {
  execFileSync(process.execPath, [path.join(ROOT, '.ci', 'build_browser.mjs'), folder], { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
  const { outputFiles } = await build({
    stdin: { contents: WORKER, resolveDir: ROOT, sourcefile: 'worker.js' },
    bundle: true,
    format: 'esm',
    target: 'es2022',
    write: false,
    logLevel: 'error',
    nodePaths: [path.join(ROOT, 'node_modules')],
    alias: { vispruner: path.join(folder, 'index.mjs') },
    banner: { js: 'var global = globalThis;' },
  });
  return outputFiles[0].contents;
}

/** Serves page, worker, image and model; resolves with what the worker reports. */
function serve(worker) {
  let report;
  const seen = new Promise((resolve) => {
    report = resolve;
  });
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    if (request.method === 'POST') {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => {
        response.end();
        report(JSON.parse(Buffer.concat(chunks).toString()));
      });
      return;
    }
    const send = (type, body) => response.setHeader('content-type', type).end(body);
    if (pathname === '/') return send('text/html', PAGE);
    if (pathname === '/worker.js') return send('text/javascript', worker);
    const file = fileOf(pathname);
    if (!fs.existsSync(file)) return response.writeHead(404).end();
    return sendFile(request, response, file);
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve({ server, seen, url: `http://127.0.0.1:${server.address().port}/` })));
}

function fileOf(pathname) {
  if (pathname === '/image.png') return IMAGE;
  return path.join(pathname.endsWith('.wasm') ? WASM : MODEL, path.basename(pathname));
}

/** Whole, or the range asked for. */
function sendFile({ headers }, response, file) {
  const bytes = fs.readFileSync(file);
  const range = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? '');
  if (!range) return response.setHeader('accept-ranges', 'bytes').end(bytes);
  const [start, end] = [Number(range[1]), range[2] === '' ? bytes.length - 1 : Math.min(Number(range[2]), bytes.length - 1)];
  return response.writeHead(206, { 'content-range': `bytes ${start}-${end}/${bytes.length}` }).end(bytes.subarray(start, end + 1));
}

const { values: options } = parseArgs({ options: { chromium: { type: 'string', default: 'chromium' }, gpu: { type: 'boolean', default: false } } });
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vispruner-page-'));
const { server, seen, url } = await serve(await bundle(path.join(folder, 'esm')));
const flags = [...FLAGS, ...(options.gpu ? [] : SOFTWARE), `--user-data-dir=${path.join(folder, 'profile')}`];
const browser = spawn(options.chromium, [...flags, url], {
  stdio: ['ignore', 'ignore', process.env.VISPRUNER_DEBUG ? 'inherit' : 'ignore'],
  detached: true,
});
const ended = new Promise((resolve) => {
  browser.on('error', (error) => resolve({ error: `Chromium did not start: ${error.message}` }));
  browser.on('exit', (code) => resolve({ error: `Chromium ended with ${code} before the page answered.` }));
  setTimeout(() => resolve({ error: `no answer within ${SECONDS} s` }), SECONDS * 1000).unref();
});
const result = await Promise.race([seen, ended]);
server.closeAllConnections();
server.close();
console.log(JSON.stringify(result, null, 2));
process.exitCode = result.error === undefined ? 0 : 1;
await endBrowser();
await removeProfile();

/** Its process, and those that it started, which go on writing into the profile until they have ended. */
async function endBrowser() {
  if (browser.pid === undefined || browser.exitCode !== null || browser.signalCode !== null) return;
  const exited = once(browser, 'exit');
  process.kill(-browser.pid, 'SIGKILL');
  await exited;
}

/** A profile that can't be removed is no reason to lose the answer. */
async function removeProfile() {
  const deadline = Date.now() + 30_000;
  for (;;) {
    try {
      fs.rmSync(folder, { recursive: true, force: true });
      return;
    } catch (error) {
      if (Date.now() > deadline) return console.error(`${folder} was left behind: ${error.message}`);
      await setTimeoutPromise(200);
    }
  }
}
