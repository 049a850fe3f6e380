import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { start } from './program';

jest.setTimeout(180_000);

/** A server that takes a request and never answers: who asked is surely at work, and stays so. */
async function silentServer(): Promise<{ server: Server; address: string; asked: Promise<void> }> {
  let noteAsked: () => void = () => {};
  const asked = new Promise<void>((resolve) => {
    noteAsked = resolve;
  });
  const server = createServer(() => noteAsked());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, address: `http://127.0.0.1:${(server.address() as AddressInfo).port}/image.png`, asked };
}

it('Ctrl-C ends with code 130 at once, prints nothing, and leaves no file', async () => {
  const { server, address, asked } = await silentServer();
  const folder = await mkdtemp(path.join(tmpdir(), 'vispruner-interrupt-'));
  try {
    const out = path.join(folder, 'kept.png');
    const { child, finished } = start('select', '--model', '__tests__/fixtures/gqa', '--backend', 'wasm', '--tokens', '4', '--out', out, address);
    const early = await Promise.race([asked, finished]);
    expect(early).toBeUndefined(); // it asked for the image and still runs
    child.kill('SIGINT');
    expect(await finished).toEqual({ code: 130, stdout: '', stderr: '' });
    expect(await readdir(folder)).toEqual([]);
  } finally {
    server.closeAllConnections();
    server.close();
    await rm(folder, { recursive: true });
  }
});
