import { parse } from 'csv-parse/sync';
import { z } from 'zod';
import { anyId, type Format, type ImagePlace, LETTER_ANSWER, parseRow, type RawQuestion, rowError, withChoices } from './format';

interface MmBenchFields {
  readonly questions: string;
}

const fields = z.strictObject({ questions: z.string() });

const row = z.object({
  index: anyId,
  question: z.string().min(1),
  image: z.string().min(1),
  answer: z.string().default(''),
  hint: z.string().default(''),
  category: z.string().default('all'),
  g_index: z.string().optional(),
  A: z.string().default(''),
  B: z.string().default(''),
  C: z.string().default(''),
  D: z.string().default(''),
});

type Row = z.infer<typeof row>;

/** Rotated questions of CircularEval have the number of the first plus a multiple of this. */
const ROTATION = 1_000_000;
/** No file of an image in base64 is as short as the number of a row. */
const LONGEST_INDEX = 12;

/**
 * MMBench (Liu et al. 2023): tab-separated, with the image in base64, or the index of the row that has it. Rows of one question with its choices rotated
 * (one `g_index`, or indices that differ by millions) are counted together as well, as CircularEval does. Only rows with an answer can be scored.
 */
export const mmBenchFormat: Format<MmBenchFields> = {
  fields,
  metric: 'choice',
  suffix: LETTER_ANSWER,
  maxNewTokens: 16,
  async read({ questions: file }, files) {
    const rows = parseTable(await files.text(file), file);
    const images = new Map(rows.map(({ index, image }) => [index, image]));
    const firstWith = new Map(rows.map(({ index, image }) => [image, index] as const).reverse());
    return rows.map((one, i): RawQuestion => {
      const place = `${file}, row ${i + 1} (index ${one.index})`;
      const choices = choicesOf(one);
      if (choices.length < 2) throw rowError(place, 'it has fewer than two of the choices A, B, C and D');
      const { answer } = one;
      if (!/^[A-D]$/.test(answer) || 'ABCD'.indexOf(answer) >= choices.length) {
        throw rowError(
          place,
          `"answer" is ${JSON.stringify(answer)}, not the letter of one of its ${choices.length} choices: take a split with answers`,
        );
      }
      const asked = withChoices(one.question, choices);
      const text = isAbsent(one.hint) ? asked : `${one.hint}\n${asked}`;
      return {
        id: one.index,
        group: one.category,
        text,
        reference: answer,
        choices: choices.length,
        bundle: one.g_index ?? firstOf(one.index),
        image: imageOf(one, { images, firstWith }, place),
      };
    });
  },
};

function parseTable(text: string, file: string): Row[] {
  let rows: unknown[];
  try {
    rows = parse(text, { delimiter: '\t', columns: true, bom: true, skip_empty_lines: true });
  } catch (cause) {
    throw rowError(file, `it is no table with tabs (${cause instanceof Error ? cause.message : String(cause)})`);
  }
  return rows.map((one, i) => parseRow(row, one, `${file}, row ${i + 1}`));
}

function firstOf(index: string): string {
  return /^\d+$/.test(index) ? String(Number(index) % ROTATION) : index;
}

/** As pandas writes what is not there. */
function isAbsent(text: string): boolean {
  return ['', 'nan', 'none'].includes(text.trim().toLowerCase());
}

function choicesOf({ A, B, C, D }: Row): string[] {
  const all = [A, B, C, D];
  const end = all.findIndex(isAbsent);
  return end < 0 ? all : all.slice(0, end);
}

interface Images {
  /** By the index of their row. */
  readonly images: ReadonlyMap<string, string>;
  /** The first row with an image. */
  readonly firstWith: ReadonlyMap<string, string>;
}

/** Named by the first row that has it, so that rows of one image are asked together. */
function imageOf({ index, image }: Row, { images, firstWith }: Images, place: string): ImagePlace {
  if (image.length > LONGEST_INDEX) return { base64: image, name: firstWith.get(image) ?? index };
  const base64 = images.get(image);
  if (base64 === undefined || base64.length <= LONGEST_INDEX)
    throw rowError(place, `"image" is ${JSON.stringify(image)}, neither base64 nor the index of a row that has one`);
  return { base64, name: firstWith.get(base64) ?? image };
}
