import { z } from 'zod';
import { type Format, join, parseJson, parseRow, SHORT_ANSWER } from './format';

interface GqaFields {
  readonly questions: string;
  readonly images: string;
}

const fields = z.strictObject({ questions: z.string(), images: z.string() });
const file = z.record(
  z.string(),
  z.object({
    imageId: z.string().min(1),
    question: z.string().min(1),
    answer: z.string(),
    types: z.object({ structural: z.string() }).optional(),
  }),
);

/** GQA (Hudson & Manning 2019): a JSON object of questions by id; images are `imageId.jpg`. */
export const gqaFormat: Format<GqaFields> = {
  fields,
  metric: 'gqa',
  suffix: SHORT_ANSWER,
  maxNewTokens: 16,
  async read({ questions, images }, files) {
    const rows = parseRow(file, parseJson(await files.text(questions), questions), questions);
    return Object.entries(rows).map(([id, { imageId, question, answer, types }]) => ({
      id,
      group: types?.structural ?? 'all',
      text: question,
      reference: answer.trim().toLowerCase(),
      image: { path: join(images, `${imageId}.jpg`) },
    }));
  },
};
