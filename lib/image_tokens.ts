import { PromptError } from '../layers/errors';

export interface SplitPrompt {
  /** All text ids, image tokens left out. */
  readonly textIds: Int32Array;
  /** Lengths of the runs of text around the images: one more than there are images. */
  readonly textLengths: readonly number[];
}

/**
 * Takes a prompt apart at its images.
 *
 * @param unpruned visual tokens of each image before pruning
 * @throws PromptError `IMAGE_TOKEN_COUNT` when image tokens are neither one an image nor one a visual token, `EMPTY_PROMPT`
 */
export function splitPrompt(inputIds: Int32Array, unpruned: readonly number[], imageToken: number | undefined): SplitPrompt {
  const found = imageToken === undefined ? 0 : inputIds.reduce((sum, id) => sum + (id === imageToken ? 1 : 0), 0);
  const repeated = unpruned.reduce((sum, count) => sum + count, 0);
  if (found !== unpruned.length && found !== repeated) {
    throw new PromptError(
      'IMAGE_TOKEN_COUNT',
      `Image tokens and visual features do not match: the prompt has ${found} image tokens, ${unpruned.length} image(s) gave ${repeated} features. Use one "<image>" per image and let the library expand it.`,
    );
  }
  const text: number[] = [];
  const lengths: number[] = [];
  let run = 0;
  let image = 0;
  for (let i = 0; i < inputIds.length; i++) {
    if (inputIds[i] !== imageToken || imageToken === undefined) {
      text.push(inputIds[i] as number);
      run++;
      continue;
    }
    lengths.push(run);
    run = 0;
    if (found !== unpruned.length) i = endOfRepeat(inputIds, i, unpruned[image] as number, imageToken, image);
    image++;
  }
  lengths.push(run);
  if (text.length + found === 0) throw new PromptError('EMPTY_PROMPT', 'The prompt has no tokens. Give at least one id.');
  return { textIds: Int32Array.from(text), textLengths: lengths };
}

/** The last place of an image whose token is repeated once a visual token. */
function endOfRepeat(ids: Int32Array, start: number, count: number, imageToken: number, image: number): number {
  for (let i = start; i < start + count; i++) {
    if (ids[i] !== imageToken) {
      throw new PromptError(
        'IMAGE_TOKEN_COUNT',
        `Image ${image} gave ${count} features, but its run of image tokens ends after ${i - start}. Use one "<image>" per image and let the library expand it.`,
      );
    }
  }
  return start + count - 1;
}
