// Worker of bench/small.ts: llama.cpp by npm's node-llama-cpp, an ES module that is installed for this benchmark alone. Arguments: the folder where it is
// installed, threads, GGUF files. The protocol is in small_worker.ts.
import { readFileSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const CONTEXT = 2048;

const [folder, threads, ...files] = process.argv.slice(2);
const root = resolve(folder, 'node_modules', 'node-llama-cpp');
const { getLlama } = await import(pathToFileURL(join(root, 'dist', 'index.js')).href);
const llama = await getLlama({ gpu: false, build: 'never', maxThreads: Number(threads), logLevel: 'error' });
const sequences = new Map();
for (const file of files) {
  const model = await llama.loadModel({ modelPath: resolve(file), gpuLayers: 0 });
  const context = await model.createContext({ contextSize: CONTEXT, batchSize: CONTEXT, threads: Number(threads), sequences: 1 });
  sequences.set(basename(file, '.gguf'), context.getSequence());
}
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const models = Object.fromEntries(files.map((file) => [basename(file, '.gguf'), statSync(file).size]));
console.log(JSON.stringify({ version: `node-llama-cpp ${version}`, models }));
for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(await run(JSON.parse(line))));
process.exit(); // its threads would keep the process

async function run({ model, ids, newTokens }) {
  const sequence = sequences.get(model);
  await sequence.clearHistory(); // or the next prompt would go on from what it has in common with this one
  const begun = performance.now();
  let first = 0;
  const written = [];
  for await (const id of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
    first ||= performance.now() - begun;
    written.push(id);
    if (written.length === newTokens) break;
  }
  return { first, rest: performance.now() - begun - first, ids: written };
}
