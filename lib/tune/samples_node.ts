import * as path from 'node:path';
import { DataError } from '../../layers/errors';
import { readText } from '../../weights/byte_directory';
import { openDirectory } from '../../weights/byte_directory_node';
import type { TuneSample } from './tune_set';

/**
 * Samples of a JSON-lines file, each line `{"image": path, "question": text}`; paths are relative to the file. Other fields are left alone.
 *
 * @param count as many of the first lines; all when absent
 * @throws CheckpointError `FILE_NOT_FOUND`, `NOT_UTF8`; DataError `SAMPLES_DAMAGED`
 */
export async function readSamples(file: string, count?: number, signal?: AbortSignal): Promise<TuneSample[]> {
  const folder = path.dirname(path.resolve(file));
  const text = await readText(await openDirectory(folder), path.basename(file), signal);
  const lines = text.split('\n').flatMap((line, i) => (line.trim() === '' ? [] : [{ line, number: i + 1 }]));
  if (lines.length === 0) throw new DataError('SAMPLES_DAMAGED', `${file} has no sample. Give one a line: {"image": "a.jpg", "question": "..."}.`);
  return lines.slice(0, count).map(({ line, number }) => {
    const { image, question } = parsed(line, `${file}, line ${number}`);
    return { question, image: () => Promise.resolve(path.resolve(folder, image)) };
  });
}

function parsed(line: string, where: string): { readonly image: string; readonly question: string } {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new DataError('SAMPLES_DAMAGED', `${where} is not JSON (${(cause as Error).message}). Write {"image": "a.jpg", "question": "..."}.`, {
      cause,
    });
  }
  const { image, question } = (value ?? {}) as { readonly image?: unknown; readonly question?: unknown };
  if (typeof image !== 'string' || typeof question !== 'string') {
    throw new DataError('SAMPLES_DAMAGED', `${where} has no text "image" or no text "question". Write {"image": "a.jpg", "question": "..."}.`);
  }
  return { image, question };
}
