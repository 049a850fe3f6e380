import { z } from 'zod';
import { DataError } from '../../../layers/errors';
import type { EvalQuestion, MetricName } from '../data_set';

/** Where a question's image is: a path from the data set's folder, or the bytes of a file in base64. */
export type ImagePlace = { readonly path: string } | { readonly base64: string; readonly name: string };

/** A question as a file has it, before what is added to each. */
export interface RawQuestion extends EvalQuestion {
  readonly image: ImagePlace;
}

/** The files of a data set; paths are from the folder of its mapping. */
export interface DataFiles {
  /** @throws DataError `DATA_FILE` */
  text(path: string): Promise<string>;
  /** Names of what lies in a directory, sorted. @throws DataError `DATA_FILE` */
  list(path: string): Promise<readonly string[]>;
}

/** One layout of files. */
export interface Format<Fields> {
  /** What the mapping has to say, beside `format`, `name`, `suffix` and `maxNewTokens`. */
  readonly fields: z.ZodType<Fields>;
  /** How answers are scored; a function where the mapping chooses. */
  readonly metric: MetricName | ((fields: Fields) => MetricName);
  /** Added to every question, as LLaVA's evaluation adds it. */
  readonly suffix: string;
  readonly maxNewTokens: number;
  read(fields: Fields, files: DataFiles): Promise<readonly RawQuestion[]>;
}

/** A layout with what a mapping says of it. */
export interface OpenedFormat {
  readonly metric: MetricName;
  readonly suffix: string;
  readonly maxNewTokens: number;
  read(files: DataFiles): Promise<readonly RawQuestion[]>;
}

/** Checks what a mapping says. @throws DataError `DATA_MAPPING` */
export function openFormat<Fields>(format: Format<Fields>, fields: unknown, mapping: string): OpenedFormat {
  const parsed = format.fields.safeParse(fields);
  if (!parsed.success) {
    throw new DataError('DATA_MAPPING', `${mapping}: ${issuesOf(parsed.error)}. docs/eval.md shows what a mapping of this format has.`);
  }
  const { metric, suffix, maxNewTokens } = format;
  return {
    metric: typeof metric === 'function' ? metric(parsed.data) : metric,
    suffix,
    maxNewTokens,
    read: (files) => format.read(parsed.data, files),
  };
}

export const SHORT_ANSWER = '\nAnswer the question using a single word or phrase.';
export const LETTER_ANSWER = "\nAnswer with the option's letter from the given choices directly.";

/** Ids are numbers in some files and texts in others. */
export const anyId: z.ZodType<string> = z.union([z.string().min(1), z.number()]).transform(String);

/** @throws DataError `DATA_ROW`, with the place and every field of the wrong form */
export function parseRow<T>(schema: z.ZodType<T>, row: unknown, place: string): T {
  const parsed = schema.safeParse(row);
  if (parsed.success) return parsed.data;
  throw rowError(place, issuesOf(parsed.error));
}

/** What a schema found wrong, on a line. */
export function issuesOf(error: z.ZodError): string {
  return error.issues.map(({ path, message }) => (path.length > 0 ? `"${path.join('.')}": ${message}` : message)).join('; ');
}

export function rowError(place: string, problem: string): DataError {
  return new DataError('DATA_ROW', `${place}: ${problem}. Correct the file; docs/eval.md shows what it must look like.`);
}

/** Rows of a file with a JSON value a line; empty lines are passed over. @throws DataError `DATA_ROW` */
export function jsonLines<T>(schema: z.ZodType<T>, text: string, file: string): { readonly row: T; readonly place: string }[] {
  return text.split('\n').flatMap((line, i) => {
    if (line.trim() === '') return [];
    const place = `${file}, line ${i + 1}`;
    return [{ row: parseRow(schema, parseJson(line, place), place), place }];
  });
}

/** @throws DataError `DATA_ROW` */
export function parseJson(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw rowError(place, `it is not JSON (${cause instanceof Error ? cause.message : String(cause)})`);
  }
}

/** A question with its choices under it, by letter. */
export function withChoices(question: string, choices: readonly string[]): string {
  return [question, ...choices.map((choice, i) => `${'ABCDEFGHIJ'[i]}. ${choice}`)].join('\n');
}

export function join(folder: string, name: string): string {
  return `${folder}/${name}`;
}
