import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import { promisify } from 'node:util';
import type { VisionLanguageModel } from '../../lib/index';
import { imageFile, loadTiny, QUESTION, ROOT, type Started, startServer } from './support';

const run = promisify(execFile);
const page = readFileSync(path.join(ROOT, 'docs/server.md'), 'utf8');

let model: VisionLanguageModel;
let started: Started;

beforeAll(async () => {
  model = await loadTiny();
  started = await startServer(model);
});

afterAll(async () => {
  await started.server.close();
  model.dispose();
});

/** The block of the page that begins with this, for the server of this test. */
function block(language: string, first: string): string {
  const [body] = [...page.matchAll(/```(\w+)\n(.*?)```/gs)].flatMap(([, own, text]) => (own === language && text?.startsWith(first) ? [text] : []));
  if (body === undefined) throw new Error(`The page has no such block: ${first}`);
  return body.replaceAll('http://127.0.0.1:8000', started.at.url);
}

it("docs/server.md: what it shows for curl and for OpenAI's client runs, and gives the model's answer", async () => {
  const { text, visual } = await model.ask(imageFile('stars.png'), QUESTION, { prune: { method: 'vispruner', tokens: 28 } });
  const curl = await run('bash', ['-c', block('sh', 'curl ')], { cwd: ROOT });
  expect(JSON.parse(curl.stdout)).toMatchObject({ choices: [{ message: { content: text } }] });
  const client = await run(process.execPath, ['--input-type=module', '--eval', block('js', 'import { readFile }')], { cwd: ROOT });
  expect(client.stdout.startsWith(`${text} {`)).toBe(true);
  expect(client.stdout.replace(/\s/g, '')).toContain(
    Array.from(visual[0]?.kept ?? [])
      .slice(0, 20)
      .join(','),
  );
  expect(client.stdout.trimEnd().endsWith(text)).toBe(true); // the stream
});
