import { swiftShaderVariables, WEBGPU_HINDRANCE } from '../support/webgpu';
import { childIn, type Ended } from './child';

const onWebgpu = WEBGPU_HINDRANCE === undefined && process.env.VISPRUNER_TEST_GPU !== '1' ? it : it.skip;

/** `tryBackend` is there, and what was said is printed as JSON. */
function tried(code: string, variables: Record<string, string>): Promise<Ended> {
  return childIn(
    variables,
    `const { tryBackend } = require('./lib/backend/backends');
     (async () => { ${code} })().then((said) => process.stdout.write(JSON.stringify(said)), fail);`,
  );
}

onWebgpu(
  `works where it is named, leaves no navigator behind and lets the process end (SwiftShader${WEBGPU_HINDRANCE ? `; skipped: ${WEBGPU_HINDRANCE}` : ''})`,
  async () => {
    const ended = await tried(
      `const before = typeof navigator === 'undefined' ? undefined : 'gpu' in navigator;
     const { available, software } = await tryBackend('webgpu');
     const tf = require('@tensorflow/tfjs');
     const values = await tf.square(tf.tensor1d([1, 2, 3])).data();
     const after = typeof navigator === 'undefined' ? undefined : 'gpu' in navigator;
     return { available, software: /SwiftShader/i.test(software), backend: tf.getBackend(), values: [...values], same: before === after };`,
      swiftShaderVariables(),
    );
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(ended.stdout)).toEqual({ available: true, software: true, backend: 'webgpu', values: [1, 4, 9], same: true });
  },
);

onWebgpu('is not what "auto" takes when it would compute in software', async () => {
  const ended = await tried(`return await tryBackend('webgpu', { automatic: true });`, swiftShaderVariables());
  const said = JSON.parse(ended.stdout);
  expect(said).toMatchObject({ backend: 'webgpu', available: false, software: expect.stringMatching(/SwiftShader/i) });
  expect(said.reason).toMatch(/computes on the processor; name the backend to use it/);
});

it('without its packages, the error has the command that installs them', async () => {
  const ended = await tried(
    `const Module = require('node:module');
     const resolve = Module._resolveFilename;
     Module._resolveFilename = function (name, ...rest) {
       if (name === 'webgpu' || name === '@tensorflow/tfjs-backend-webgpu') throw new Error('not installed');
       return resolve.call(this, name, ...rest);
     };
     return await require('./lib/index').useBackend('webgpu').catch(({ code, message }) => ({ code, message }));`,
    {},
  );
  const { code, message } = JSON.parse(ended.stdout);
  expect(code).toBe('BACKEND_UNAVAILABLE');
  expect(message).toMatch(/npm install webgpu @tensorflow\/tfjs-backend-webgpu@4\.\d+\.\d+/);
});

it('without a driver it says what is missing, and the process goes on', async () => {
  const ended = await tried(`return await tryBackend('webgpu');`, { VK_ICD_FILENAMES: '/nowhere.json' });
  expect(ended.code).toBe(0);
  const said = JSON.parse(ended.stdout);
  if (process.env.VISPRUNER_TEST_GPU !== '1') expect(said).toMatchObject({ available: false, reason: expect.stringMatching(/libvulkan/) });
});
