import type { Method } from './method';

export interface NoneOptions {
  readonly method: 'none';
}

/** All visual tokens: the model as it was trained. */
export const noneMethod: Method<NoneOptions> = {
  options: [],
  about: {
    title: 'No pruning',
    acts: 'nowhere',
    reads: 'nothing',
    entering: 'N',
    source: 'the unpruned model',
    grade: 'exact',
    differences: [],
  },
  example: { method: 'none' },
  create: () => ({
    name: 'none',
    textDependent: false,
    positions: 'compact',
    needs: () => ({ attention: [] }),
    enteringTokens: (patches, decoderBlocks) => new Array<number>(decoderBlocks).fill(patches),
    begin: () => ({ dispose() {} }),
  }),
};
