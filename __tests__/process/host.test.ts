import { child } from './child';

const ANSWER = 'top-right';

it('loading, asking and disposing print nothing, leave every listener of the process as it was, and let it end', async () => {
  const ended = await child(`
    process.on('uncaughtException', () => {});
    process.on('unhandledRejection', () => {});
    process.on('SIGINT', () => {});
    process.on('SIGTERM', () => {});
    process.on('warning', () => {});
    process.on('exit', () => {});
    const listeners = () => new Map(process.eventNames().map((name) => [name, process.rawListeners(name)]));
    const before = listeners();
    (async () => {
      const loaded = await model();
      const { text } = await loaded.ask(IMAGE, QUESTION, { prune: { method: 'vispruner', tokens: 28 } });
      if (text !== '${ANSWER}') fail(text);
      await loaded.ask('no such image.png', QUESTION).then(() => fail('answered'), () => {});
      await loaded.ask(IMAGE, QUESTION, { signal: AbortSignal.abort() }).then(() => fail('answered'), () => {});
      loaded.dispose();
      const after = listeners();
      if ([...before.keys()].join() !== [...after.keys()].join()) fail('events: ' + [...before.keys()] + ' / ' + [...after.keys()]);
      for (const [name, all] of before) {
        const now = after.get(name) ?? [];
        if (all.length !== now.length || all.some((listener, i) => listener !== now[i])) fail('listeners of ' + String(name));
      }
      const done = performance.now();
      process.on('exit', () => { if (performance.now() - done > 1000) fail('it was held open for ' + (performance.now() - done) + ' ms'); });
    })().catch(fail);
  `);
  expect(ended).toEqual({ code: 0, stdout: '', stderr: '' });
});

it("a host's own handler gets its uncaught errors and rejections, and goes on", async () => {
  const ended = await child(`
    const seen = [];
    process.on('uncaughtException', (error) => seen.push(error.message));
    process.on('unhandledRejection', (error) => seen.push(error.message));
    (async () => {
      const loaded = await model();
      setTimeout(() => { throw new Error('thrown'); }, 0);
      void Promise.reject(new Error('rejected'));
      await new Promise((resolve) => setTimeout(resolve, 50));
      const { text } = await loaded.ask(IMAGE, QUESTION);
      loaded.dispose();
      process.stdout.write(JSON.stringify({ seen: seen.sort(), text }));
    })().catch(fail);
  `);
  expect(ended).toEqual({ code: 0, stdout: JSON.stringify({ seen: ['rejected', 'thrown'], text: ANSWER }), stderr: '' });
});

it('without a handler an error ends the process as in any other, with its message once', async () => {
  const ended = await child(`
    model().then(() => setTimeout(() => { throw new Error('nobody handles this'); }, 0), fail);
  `);
  expect({ code: ended.code, stdout: ended.stdout }).toEqual({ code: 1, stdout: '' });
  expect(ended.stderr.match(/Error: nobody handles this/g)).toHaveLength(1);
});

it('two copies of the library in one process share the backend, and each answers', async () => {
  const ended = await child(`
    (async () => {
      const first = await model();
      for (const file of Object.keys(require.cache)) if (/[\\\\/](lib|layers|weights)[\\\\/][^\\\\/]+/.test(file) && !file.includes('node_modules')) delete require.cache[file];
      const copy = require('./lib/index');
      if (first instanceof copy.VisionLanguageModel) fail('one copy');
      const second = await copy.loadModel('weights/vispruner-tiny');
      const texts = [await first.ask(IMAGE, QUESTION), await second.ask(IMAGE, QUESTION)].map(({ text }) => text);
      first.dispose();
      texts.push((await second.ask(IMAGE, QUESTION)).text);
      second.dispose();
      const refused = await copy.loadModel('weights/vispruner-tiny', { backend: 'cpu' }).catch(({ code }) => code);
      process.stdout.write(JSON.stringify([second.backend, texts, refused]));
    })().catch(fail);
  `);
  expect(ended).toEqual({ code: 0, stdout: JSON.stringify(['wasm', [ANSWER, ANSWER, ANSWER], 'SECOND_BACKEND']), stderr: '' });
});

it('a backend that the host has started is taken, with its tensors', async () => {
  const ended = await child(`
    const tf = require('@tensorflow/tfjs');
    const { setWasmPaths } = require('@tensorflow/tfjs-backend-wasm');
    (async () => {
      setWasmPaths(require('node:path').dirname(require.resolve('@tensorflow/tfjs-backend-wasm/package.json')) + '/dist/');
      await tf.setBackend('wasm');
      const own = tf.tensor1d([1, 2, 3]);
      const loaded = await require('./lib/index').loadModel('weights/vispruner-tiny');
      const { text } = await loaded.ask(IMAGE, QUESTION);
      loaded.dispose();
      process.stdout.write(JSON.stringify([loaded.backend, text, [...await own.data()], tf.memory().numTensors]));
    })().catch(fail);
  `);
  expect(ended).toEqual({ code: 0, stdout: JSON.stringify(['wasm', ANSWER, [1, 2, 3], 1]), stderr: '' });
});
