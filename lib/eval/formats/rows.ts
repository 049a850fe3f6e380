import { z } from 'zod';
import { anyId, type Format, join, jsonLines, rowError, SHORT_ANSWER } from './format';

interface RowsFields {
  readonly questions: string;
  readonly images: string;
  readonly metric: 'word' | 'gqa' | 'vqa' | 'textvqa';
}

const fields = z.strictObject({ questions: z.string(), images: z.string(), metric: z.enum(['word', 'gqa', 'vqa', 'textvqa']) });

const row = z.object({
  id: anyId,
  image: z.string().min(1),
  question: z.string().min(1),
  answer: z.string().optional(),
  answers: z.array(z.string()).min(1).optional(),
  group: z.string().default('all'),
});

/** A layout of our own for any other data: JSON lines with id, image, question, and answer (metrics word and gqa) or answers (vqa and textvqa). */
export const rowsFormat: Format<RowsFields> = {
  fields,
  metric: ({ metric }) => metric,
  suffix: SHORT_ANSWER,
  maxNewTokens: 16,
  async read({ questions, images, metric }, files) {
    const several = metric === 'vqa' || metric === 'textvqa';
    return jsonLines(row, await files.text(questions), questions).map(({ row: one, place }) => {
      const { id, image, question, group } = one;
      const reference = several ? one.answers : one.answer;
      if (reference === undefined) throw rowError(place, `there is no "${several ? 'answers' : 'answer'}", which the metric "${metric}" needs`);
      return { id, group, text: question, reference, image: { path: join(images, image) } };
    });
  },
};
