import { UseError } from './errors';

const IMAGE_FILE = /\.(jpe?g|png|webp)$/i;

/** For a chat, which may begin without a question: the last word is one unless it is the name of an image. */
export function splitFirstTurn(words: readonly string[]): { images: string[]; question: string | undefined } {
  const last = words.at(-1);
  if (last === undefined || isImageName(last)) return { images: [...words], question: undefined };
  return splitWords(words);
}

/** `IMAGE... QUESTION`: the last word is the question. @throws UseError `QUESTION_MISSING` */
export function splitWords(words: readonly string[]): { images: string[]; question: string } {
  const question = words.at(-1)?.trim() ?? '';
  if (question === '') throw new UseError('QUESTION_MISSING', 'There is no question. Write: vispruner ask photo.jpg "What is on the table?"');
  if (isImageName(question)) {
    throw new UseError(
      'QUESTION_MISSING',
      `The last word is taken as the question, but "${question}" is the name of an image. Write the question after it.`,
    );
  }
  return { images: words.slice(0, -1), question };
}

function isImageName(word: string): boolean {
  return IMAGE_FILE.test(word) && !word.includes(' ');
}
