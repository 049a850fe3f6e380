import { z } from 'zod';
import { MME_COGNITION, MME_PERCEPTION } from '../metrics/mme';
import { type DataFiles, type Format, type RawQuestion, rowError, SHORT_ANSWER } from './format';

interface MmeFields {
  /** The directory of the tasks' directories. */
  readonly root: string;
}

const fields = z.strictObject({ root: z.string() });

const IMAGE = /\.(jpe?g|png|webp)$/i;

/**
 * MME (Fu et al. 2023): a directory a task; in it images and, by the same names, text files of two lines, each a question, a tab, and Yes or No. Both lie
 * in the task's directory, or apart in `images` and `questions_answers_YN`.
 */
export const mmeFormat: Format<MmeFields> = {
  fields,
  metric: 'mme',
  suffix: SHORT_ANSWER,
  maxNewTokens: 16,
  async read({ root }, files) {
    const present = await files.list(root);
    const tasks = [...MME_PERCEPTION, ...MME_COGNITION].filter((task) => present.includes(task));
    if (tasks.length === 0) throw rowError(root, `there is no directory of a task (${MME_PERCEPTION.join(', ')}, ${MME_COGNITION.join(', ')})`);
    const found: RawQuestion[] = [];
    for (const task of tasks) found.push(...(await readTask(`${root}/${task}`, task, files)));
    return found;
  },
};

async function readTask(folder: string, task: string, files: DataFiles): Promise<RawQuestion[]> {
  const names = await files.list(folder);
  const [imageFolder, textFolder] = names.includes('questions_answers_YN')
    ? [`${folder}/images`, `${folder}/questions_answers_YN`]
    : [folder, folder];
  const images = (imageFolder === folder ? names : await files.list(imageFolder)).filter((name) => IMAGE.test(name));
  const found: RawQuestion[] = [];
  for (const name of images) {
    const base = name.replace(IMAGE, '');
    const file = `${textFolder}/${base}.txt`;
    const lines = (await files.text(file)).split(/\r?\n/).filter((line) => line.trim() !== '');
    if (lines.length !== 2) throw rowError(file, `it has ${lines.length} lines with text, where MME has two questions an image`);
    for (const [i, line] of lines.entries()) {
      const [text = '', label = ''] = line.split('\t').map((part) => part.trim());
      const reference = label.toLowerCase();
      if (text === '' || !['yes', 'no'].includes(reference)) throw rowError(`${file}, line ${i + 1}`, 'it is not a question, a tab, and Yes or No');
      found.push({ id: `${task} ${base} ${i}`, group: task, text, reference, bundle: `${task} ${base}`, image: { path: `${imageFolder}/${name}` } });
    }
  }
  return found;
}
