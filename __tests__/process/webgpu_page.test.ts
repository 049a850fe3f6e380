import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { loadModel } from '../../lib';
import { ROOT } from './child';

const MODEL = join(ROOT, 'weights', 'vispruner-tiny');
const IMAGE = join(ROOT, 'examples', 'images', 'stars.png');
const QUESTION = 'where is the yellow object?';

const found = spawnSync('chromium', ['--version']).status === 0;

/** Runs the script; its time on a busy machine is mostly that of compiling shaders for SwiftShader. */
function answerInPage(): Promise<string> {
  const child = spawn(process.execPath, [join(ROOT, '.ci', 'browser_answer.mjs')], { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] });
  return new Promise((resolve, reject) => {
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.on('error', reject);
    child.on('close', () => resolve(output));
  });
}

(found ? it : it.skip)(
  `a worker of a real page answers on webgpu, keeps the patches that Node keeps on wasm, and leaves no tensor; "auto" takes wasm there, for the GPU is software${found ? '' : ' (skipped: no "chromium" here)'}`,
  async () => {
    const seen = JSON.parse(await answerInPage());
    expect(seen).toMatchObject({ auto: 'wasm', backend: 'webgpu', adapter: expect.stringMatching(/swiftshader/i), text: 'top-right', tensors: 0 });
    const model = await loadModel(MODEL, { backend: 'wasm' });
    const pruned = await model.ask(IMAGE, QUESTION, { prune: { method: 'vispruner', tokens: 28 } });
    model.dispose();
    expect(seen).toMatchObject({ pruned: pruned.text, kept: [...(pruned.visual[0]?.kept ?? [])] });
  },
  700_000,
);
