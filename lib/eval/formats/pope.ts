import { z } from 'zod';
import { type Format, join, jsonLines, type RawQuestion, rowError, SHORT_ANSWER } from './format';

interface PopeFields {
  /** One file, or one a split. */
  readonly questions: string | Readonly<Record<string, string>>;
  readonly images: string;
}

const fields = z.strictObject({
  questions: z.union([z.string(), z.record(z.string(), z.string())]),
  images: z.string(),
});

const row = z.object({
  question_id: z.union([z.string(), z.number()]),
  image: z.string().min(1),
  text: z.string().min(1),
  label: z.enum(['yes', 'no']).optional(),
  category: z.string().optional(),
});

const SPLITS = ['random', 'popular', 'adversarial'];

/**
 * POPE (Li et al. 2023): JSON lines with question_id, image, text and label; a file for each split. The split of a single file is what a row calls its
 * `category` (as in LLaVA's file of questions), else the one in the file's name.
 */
export const popeFormat: Format<PopeFields> = {
  fields,
  metric: 'pope',
  suffix: SHORT_ANSWER,
  maxNewTokens: 16,
  async read({ questions, images }, files) {
    const splits = typeof questions === 'string' ? [[undefined, questions] as const] : Object.entries(questions);
    const found: RawQuestion[] = [];
    for (const [split, file] of splits) {
      for (const { row: one, place } of jsonLines(row, await files.text(file), file)) {
        if (one.label === undefined) throw rowError(place, 'there is no "label", yes or no: take the files of POPE itself');
        const group = split ?? one.category ?? SPLITS.find((name) => file.includes(name)) ?? 'all';
        const { image, text, label } = one;
        found.push({ id: `${group} ${one.question_id}`, group, text, reference: label, image: { path: join(images, image) } });
      }
    }
    return found;
  },
};
