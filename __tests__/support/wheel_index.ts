import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** The name under which the index has the one file that is asked for. */
const FILE = 'tensorflow_cpu-2.21.0-cp311-cp311-manylinux_2_27_x86_64.whl';

export interface WheelIndex {
  /** Variables that make pip look here and nowhere else. */
  readonly environment: Readonly<Record<string, string>>;
  /** Settles when the file is asked for. */
  readonly asked: Promise<void>;
  close(): Promise<void>;
}

/** A package index on this machine, with one wheel that is sent as `send` does it. */
export async function startWheelIndex(send: (response: ServerResponse) => void): Promise<WheelIndex> {
  let ask = () => {};
  const asked = new Promise<void>((resolve) => {
    ask = resolve;
  });
  const server = createServer((request, response) => {
    if (!request.url?.endsWith('.whl')) {
      response.setHeader('content-type', 'text/html');
      response.end(`<!DOCTYPE html><html><body><a href="/${FILE}">${FILE}</a></body></html>`);
      return;
    }
    ask();
    send(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const environment = {
    PIP_CONFIG_FILE: '/dev/null',
    PIP_INDEX_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/simple/`,
    PIP_EXTRA_INDEX_URL: '',
    PIP_FIND_LINKS: '',
    PIP_RETRIES: '0',
    NO_PROXY: '127.0.0.1',
  };
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  return { environment, asked, close };
}
