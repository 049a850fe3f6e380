import { readdirSync, readlinkSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { ERROR_CODES } from '../../layers/error_codes';
import { type ErrorCode, loadModel, readSafetensors, type VisionLanguageModel, VisPrunerError, writeSafetensors } from '../../lib/index';
import { KINDS, type Kind } from './kinds';

/** A bad input, given as a user would give it, and the error that says so. */
export interface Refusal {
  readonly kind: Kind;
  readonly what: string;
  readonly act: () => Promise<unknown>;
  readonly name: string;
  readonly code: ErrorCode;
  /** What the message has to tell: the file or option, and the values that are wrong. */
  readonly tells: readonly (string | RegExp)[];
}

const VERBS =
  'add ask begin change check choose convert correct delete dispose do\\snot drop encode fetch get give keep leave load look lower make name or\\swrite prepare read remove repeat run save scale shorten start transpose use wait write';
/** Every message has a sentence or clause that begins with what to do. */
const ADVICE = new RegExp(`[.:;,)] (?:${VERBS.replaceAll(' ', '|')})\\b`, 'i');

/** A test a row: the error's class and code, what its message tells and advises, and that neither a tensor nor a file is left open. */
export function refuses(rows: readonly Refusal[]): void {
  for (const { kind, what, act, name, code, tells } of rows) {
    it(`${kind}, ${KINDS[kind]}: ${what} is refused`, async () => {
      const tensors = tf.memory().numTensors;
      const error = await act().then(
        (result) => {
          throw new Error(`${what} was accepted: ${String(result)}`);
        },
        (reason: unknown) => reason,
      );
      if (!(error instanceof VisPrunerError)) throw error;
      expect({ name: error.name, code: error.code }).toEqual({ name, code });
      expect(ERROR_CODES[name]).toHaveProperty(code);
      for (const part of tells) expect(error.message).toMatch(part);
      expect(error.message).toMatch(ADVICE);
      expect(tf.memory().numTensors).toBe(tensors);
      expect(openFiles()).toEqual([]);
    });
  }
}

/** A test that something out of the ordinary works, and leaves no tensor and no file open. */
export function works(kind: Kind, what: string, act: () => Promise<void>): void {
  it(`${kind}, ${KINDS[kind]}: ${what}`, async () => {
    const tensors = tf.memory().numTensors;
    await act();
    expect(tf.memory().numTensors).toBe(tensors);
    expect(openFiles()).toEqual([]);
  });
}

let folder = '';
let count = 0;

/** Makes a folder for the bad files of a test file. Call it once, outside of tests. */
export function useFolder(): void {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'bad-input-'));
  });
  afterAll(() => rm(folder, { recursive: true }));
}

export const SHIPPED: string = join(__dirname, '../../weights/vispruner-tiny');

/** Loads the shipped model for all tests of a file. Call it once, outside of tests. */
export function useShippedModel(use: (model: VisionLanguageModel) => void): void {
  let model: VisionLanguageModel | undefined;
  beforeAll(async () => {
    model = await loadModel(SHIPPED, { backend: 'wasm' });
    await model.ask([], 'what is it?', { maxNewTokens: 1 }); // the head turns its matrix when it first serves
    use(model);
  });
  afterAll(() => model?.dispose());
}

export function newPath(name: string): string {
  return join(folder, `${count++}-${name}`);
}

/** Writes a file with these bytes and returns its path. */
export async function fileOf(content: Uint8Array | string, name = 'bad.safetensors'): Promise<string> {
  const path = newPath(name);
  await writeFile(path, content);
  return path;
}

/** A copy of a directory, changed; its path. */
export async function copyOf(directory: string, change: (copy: string) => Promise<unknown>): Promise<string> {
  const copy = newPath('model');
  await cp(directory, copy, { recursive: true });
  await change(copy);
  return copy;
}

/** Changes a JSON file: its object is handed over and may be written to. */
export async function changeJson<T extends object>(path: string, change: (json: T) => void): Promise<void> {
  const json = JSON.parse(await readFile(path, 'utf8')) as T;
  change(json);
  await writeFile(path, JSON.stringify(json));
}

/** Reads a safetensors file, lets its tensors be changed, and writes it again. */
export async function changeTensors(path: string, change: (tensors: Map<string, Stored>) => void): Promise<void> {
  const file = await readSafetensors(path);
  const tensors = new Map<string, Stored>();
  for (const name of file.names) {
    const { dtype, shape } = file.info(name);
    tensors.set(name, { dtype, shape, bytes: await file.bytes(name) });
  }
  const { metadata } = file;
  await file.close();
  change(tensors);
  await writeSafetensors(path, tensors, metadata);
}

/** A tensor as it lies in a file. */
export interface Stored {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** A safetensors file from a header's text, so many bytes of data, and (where it lies) a length. */
export function safetensors(header: string | Uint8Array, data: number | Uint8Array = 0, length?: bigint): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const bytes = typeof data === 'number' ? new Uint8Array(data) : data;
  const file = new Uint8Array(8 + text.byteLength + bytes.byteLength);
  new DataView(file.buffer).setBigUint64(0, length ?? BigInt(text.byteLength), true);
  file.set(text, 8);
  file.set(bytes, 8 + text.byteLength);
  return file;
}

/** Files of the folder that this process has open; Linux tells. */
function openFiles(): string[] {
  if (process.platform !== 'linux' || folder === '') return [];
  const targets = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // closed meanwhile
    }
  });
  return targets.filter((target) => target.startsWith(folder));
}
