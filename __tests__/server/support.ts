import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import OpenAI from 'openai';
import { loadModel, type VisionLanguageModel } from '../../lib/index';
import { createServer, type ListeningAt, type ModelServer, type ServerOptions } from '../../lib/server';

export const ROOT: string = path.resolve(__dirname, '../..');
export const NAME = 'vispruner-tiny';
export const QUESTION = 'where is the yellow object?';

export function loadTiny(): Promise<VisionLanguageModel> {
  return loadModel(path.join(ROOT, 'weights', NAME), { backend: 'wasm' });
}

export function imageFile(name: string): Buffer {
  return readFileSync(path.join(ROOT, 'examples/images', name));
}

export function dataUri(name: string): string {
  return `data:image/png;base64,${imageFile(name).toString('base64')}`;
}

/** A user's message about an image. */
export function about(image: string, text: string): OpenAI.ChatCompletionMessageParam {
  return {
    role: 'user',
    content: [
      { type: 'image_url', image_url: { url: image } },
      { type: 'text', text },
    ],
  };
}

export interface Started {
  readonly server: ModelServer;
  readonly at: ListeningAt;
  readonly lines: string[];
  client(options?: ConstructorParameters<typeof OpenAI>[0]): OpenAI;
}

/** A server on a free port, with what it logs. */
export async function startServer(model: VisionLanguageModel, options: Partial<ServerOptions> = {}): Promise<Started> {
  const lines: string[] = [];
  const server = createServer(model, { name: NAME, log: (line) => lines.push(line), ...options });
  const at = await server.listen();
  const client: Started['client'] = (more) => new OpenAI({ baseURL: `${at.url}/v1`, apiKey: 'none', maxRetries: 0, ...more });
  return { server, at, lines, client };
}

export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('It never came true.');
}

/** A value of the metrics, by its name and labels as the text has them. */
export async function metric(at: ListeningAt, name: string): Promise<number> {
  const text = await (await fetch(`${at.url}/metrics`)).text();
  const line = text.split('\n').find((one) => one.startsWith(`${name} `));
  return line === undefined ? 0 : Number(line.slice(name.length));
}
