import { z } from 'zod';
import { letterOf } from '../metrics/choice';
import { type Format, LETTER_ANSWER, parseJson, parseRow, type RawQuestion, rowError, withChoices } from './format';

interface ScienceQaFields {
  readonly problems: string;
  readonly splits: string;
  readonly split: string;
  readonly images: string;
}

const fields = z.strictObject({ problems: z.string(), splits: z.string(), split: z.string().default('test'), images: z.string() });

const problem = z.object({
  question: z.string().min(1),
  choices: z.array(z.string()).min(2),
  answer: z.int().min(0),
  hint: z.string().default(''),
  image: z.string().nullable().default(null),
  subject: z.string().default('all'),
});

/**
 * ScienceQA (Lu et al. 2022): problems.json, pid_splits.json, and images as `<images>/<id>/<image>`. Only problems with an image are asked. The hint, where
 * there is one, comes first; the choices follow the question, by letter.
 */
export const scienceQaFormat: Format<ScienceQaFields> = {
  fields,
  metric: 'choice',
  suffix: LETTER_ANSWER,
  maxNewTokens: 16,
  async read({ problems: problemFile, splits: splitFile, split, images }, files) {
    const splits = parseRow(z.record(z.string(), z.array(z.string())), parseJson(await files.text(splitFile), splitFile), splitFile);
    const ids = splits[split];
    if (!ids) throw rowError(splitFile, `there is no split "${split}", only ${Object.keys(splits).join(', ')}`);
    const problems = parseRow(z.record(z.string(), z.unknown()), parseJson(await files.text(problemFile), problemFile), problemFile);
    return ids.flatMap((id): RawQuestion[] => {
      const place = `${problemFile}, problem ${id}`;
      const { question, choices, answer, hint, image, subject } = parseRow(problem, problems[id], place);
      if (image === null || image === '') return [];
      if (answer >= choices.length) throw rowError(place, `"answer" is ${answer}, but there are ${choices.length} choices, from 0`);
      const asked = withChoices(question, choices);
      const text = hint.trim() === '' ? asked : `Context: ${hint.trim()}\n${asked}`;
      return [{ id, group: subject, text, reference: letterOf(answer), choices: choices.length, image: { path: `${images}/${id}/${image}` } }];
    });
  },
};
