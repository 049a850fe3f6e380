import { DataError } from '../../layers/errors';
import type { ImageInput } from '../image/types';
import { Random } from '../random';
import type { DataSet, EvalQuestion, MetricName } from './data_set';
import type { ImagePlace, RawQuestion } from './formats/format';

/** Questions of files, as a data set. */
export interface FileDataOptions {
  readonly name: string;
  readonly digest: string;
  readonly metric: MetricName;
  readonly suffix: string;
  readonly maxNewTokens: number;
  readonly questions: readonly RawQuestion[];
  readonly image: (place: ImagePlace) => Promise<ImageInput>;
}

interface ImageQuestions {
  readonly place: ImagePlace;
  readonly questions: EvalQuestion[];
}

/**
 * Questions gathered by image. Images come in an order that is drawn once and for all, so that the first of them are a fair sample of a file that is sorted.
 * @throws DataError `DATA_EMPTY`, `DATA_ROW` for an id that comes twice
 */
export function fileData({ suffix, questions, image, ...rest }: FileDataOptions): DataSet {
  if (questions.length === 0) throw new DataError('DATA_EMPTY', `${rest.name} has no question to ask. Check its mapping and its files.`);
  const seen = new Set<string>();
  const images = new Map<string, ImageQuestions>();
  for (const { image: place, ...question } of questions) {
    if (seen.has(question.id))
      throw new DataError('DATA_ROW', `${rest.name}: there are two questions with the id "${question.id}". Give each its own.`);
    seen.add(question.id);
    const key = 'path' in place ? place.path : place.name;
    const found = images.get(key) ?? { place, questions: [] };
    found.questions.push({ ...question, text: `${question.text}${suffix}` });
    images.set(key, found);
  }
  const ordered = shuffled([...images.values()]);
  return {
    ...rest,
    images: ordered.length,
    questions: (number) => ordered[number]?.questions ?? [],
    image: (number) => image((ordered[number] as ImageQuestions).place),
  };
}

/** Fisher-Yates, the same every time. */
function shuffled<T>(all: T[]): T[] {
  const random = new Random(0);
  for (let i = all.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [all[i], all[j]] = [all[j] as T, all[i] as T];
  }
  return all;
}
