import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { loadModel } from '../../lib';
import { ROOT } from './child';

const MODEL = join(ROOT, 'weights', 'vispruner-tiny');
const IMAGE = join(ROOT, 'examples', 'images', 'stars.png');
const QUESTION = 'where is the yellow object?';

/** Then Chromium takes the machine's GPU and not SwiftShader. */
const onGpu = process.env.VISPRUNER_TEST_GPU === '1';

const found = spawnSync('chromium', ['--version']).status === 0;

/** Runs the script. SwiftShader takes a minute for an answer, and more on a busy machine. */
function answerInPage(): Promise<string> {
  const child = spawn(process.execPath, [join(ROOT, '.ci', 'browser_answer.mjs'), ...(onGpu ? ['--gpu'] : [])], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
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
  `a worker of a real page answers on webgpu, keeps the patches that Node keeps on wasm, and leaves no tensor; "auto" takes no GPU that is software${found ? '' : ' (skipped: no "chromium" here)'}`,
  async () => {
    const seen = JSON.parse(await answerInPage());
    expect(seen).toMatchObject({ backend: 'webgpu', text: 'top-right', tensors: 0 });
    expect([seen.auto, /swiftshader/i.test(seen.adapter)]).toEqual(onGpu ? ['webgpu', false] : ['wasm', true]);
    const model = await loadModel(MODEL, { backend: 'wasm' });
    const { text, visual } = await model.ask(IMAGE, QUESTION, { prune: { method: 'vispruner', tokens: 28 } });
    model.dispose();
    expect(seen).toMatchObject({ text, kept: [...(visual[0]?.kept ?? [])] });
  },
  700_000,
);
