import { readFileSync } from 'node:fs';
import type { Answer, PruneOptions, VisionLanguageModel } from '../lib/index';

export type Kind = 'whole' | 'stream' | 'malformed' | 'huge' | 'aborted';
export type Verdict = 'answered' | 'refused' | 'busy' | 'aborted' | 'wrong';

/** A request and what is right as its reply. */
export interface LoadRequest {
  readonly kind: Kind;
  readonly body: string;
  judge(status: number, reply: string): Verdict;
}

const QUESTIONS: readonly (readonly [image: string, question: string, prune: PruneOptions])[] = [
  ['stars', 'where is the yellow object?', { method: 'vispruner', tokens: 28 }],
  ['stars', 'what shape is the purple object?', { method: 'none' }],
  ['crosses', 'what colour is the cross?', { method: 'fastervlm', tokens: 56 }],
  ['letter_a', 'which letter is shown?', { method: 'dedup', tokens: 56 }],
  ['letter_e', 'which letter is shown?', { method: 'fastv', tokens: 64, layer: 1 }],
  ['crosses', 'is there a red star?', { method: 'random', tokens: 100, seed: 3 }],
];

/** Questions with the answers that the model gives when it is asked directly: each whole, and each as a stream. */
export async function rightRequests(model: VisionLanguageModel, name: string): Promise<LoadRequest[]> {
  const requests: LoadRequest[] = [];
  for (const [image, question, prune] of QUESTIONS) {
    const file = readFileSync(`examples/images/${image}.png`);
    const answer = await model.ask(file, question, { prune });
    for (const kind of ['whole', 'stream'] as const) {
      const body = completion(name, `data:image/png;base64,${file.toString('base64')}`, question, { prune, stream: kind === 'stream' });
      requests.push({
        kind,
        body,
        judge: (status, reply) => verdict(status, () => isSame(kind === 'stream' ? joined(reply) : whole(reply), answer)),
      });
    }
  }
  return requests;
}

/** What has to be refused, and with which code. */
export function wrongRequests(name: string, maxBodyBytes: number): LoadRequest[] {
  const png = readFileSync('examples/images/stars.png');
  const bomb = Buffer.from(png);
  bomb.writeUInt32BE(100_000, 16); // the sides that its header declares
  bomb.writeUInt32BE(100_000, 20);
  const uri = (bytes: Buffer) => `data:image/png;base64,${bytes.toString('base64')}`;
  const malformed: readonly (readonly [body: string, code: string])[] = [
    ['{"model": ', 'BODY_NOT_JSON'],
    ['['.repeat(100_000), 'BODY_NOT_JSON'],
    [completion(name, uri(png), 'what?', { n: 3 }), 'FIELD_INVALID'],
    [completion(name, uri(png), 'what?', { colour: 'red' }), 'FIELD_UNKNOWN'],
    [completion('another', uri(png), 'what?', {}), 'MODEL_UNKNOWN'],
    [completion(name, uri(png.subarray(0, png.length >> 1)), 'what?', {}), 'IMAGE_TRUNCATED'],
    [completion(name, uri(bomb), 'what?', {}), 'IMAGE_TOO_LARGE'],
    [completion(name, uri(png), 'what?', { prune: { tokens: 5000 } }), 'TOKENS_EXCEED_PATCHES'],
    [completion(name, uri(png), 'red '.repeat(20_000), {}), 'PROMPT_TOO_LONG'],
    [completion(name, 'http://169.254.169.254/latest/meta-data/', 'what?', {}), 'IMAGE_URL_REFUSED'],
  ];
  const huge = completion(name, uri(png), 'x'.repeat(maxBodyBytes + 1), {});
  return [
    ...malformed.map(([body, code]): LoadRequest => ({ kind: 'malformed', body, judge: (status, reply) => refusal(status, reply, code) })),
    { kind: 'huge', body: huge, judge: (status, reply) => refusal(status, reply, 'BODY_TOO_LARGE') },
  ];
}

function completion(model: string, url: string, text: string, more: object): string {
  const content = [
    { type: 'image_url', image_url: { url } },
    { type: 'text', text },
  ];
  return JSON.stringify({ model, messages: [{ role: 'user', content }], ...more });
}

interface Given {
  readonly text: string;
  readonly kept: readonly number[];
}

interface Details {
  readonly vispruner: { readonly visual: readonly { readonly kept: readonly number[] }[] };
}

function whole(reply: string): Given {
  const { choices, vispruner } = JSON.parse(reply) as Details & { choices: { message: { content: string } }[] };
  return { text: choices[0]?.message.content ?? '', kept: vispruner.visual[0]?.kept ?? [] };
}

function joined(reply: string): Given {
  const events = reply.split('\n\n').filter((event) => event !== '');
  if (events.at(-1) !== 'data: [DONE]') throw new Error(`A stream ended without its end: ${events.at(-1)}`);
  const chunks = events
    .slice(0, -1)
    .map((event) => JSON.parse(event.replace(/^data: /, '')) as Details & { choices: { delta: { content?: string } }[] });
  return { text: chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join(''), kept: chunks.at(-1)?.vispruner.visual[0]?.kept ?? [] };
}

function isSame({ text, kept }: Given, answer: Answer): boolean {
  const right = answer.visual[0]?.kept ?? [];
  return text === answer.text && kept.length === right.length && kept.every((index, i) => index === right[i]);
}

function verdict(status: number, isRight: () => boolean): Verdict {
  if (status === 429) return 'busy';
  try {
    return status === 200 && isRight() ? 'answered' : 'wrong';
  } catch {
    return 'wrong'; // not even of the right form
  }
}

function refusal(status: number, reply: string, code: string): Verdict {
  if (status === 429) return 'busy';
  return status >= 400 && status < 500 && reply.includes(`"code":"${code}"`) ? 'refused' : 'wrong';
}
