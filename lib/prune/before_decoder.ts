import type { TokenCount } from './budget';
import type { EncoderFacts, Needs, Pruner, PruningRun, Selection, VisionView } from './types';

/** A method that chooses or merges patches between the encoder and the projector, each crop by itself and without a look at the question. */
export interface CropSelector {
  readonly name: string;
  readonly count: TokenCount;
  /** See `Pruner.selectionPositions`. */
  readonly positions?: 'compact' | 'keep';
  needs(encoder: EncoderFacts): Needs;
  /** @returns `tokens` kept patches, ascending; or what becomes of them, with `tokens` tokens in the end */
  select(view: VisionView, tokens: number, encoder: EncoderFacts): Promise<Int32Array | Selection>;
}

/** The pruner of a crop selector. What enters the decoder is short from its first block on; its positions are counted anew unless it says otherwise. */
export function beforeDecoder(selector: CropSelector): Pruner {
  return {
    name: selector.name,
    textDependent: false,
    positions: selector.positions ?? 'compact',
    selectionPositions: selector.positions ?? 'compact',
    needs: (encoder) => selector.needs(encoder),
    enteringTokens: (patches, decoderBlocks) => new Array<number>(decoderBlocks).fill(selector.count(patches)),
    begin({ encoder, patchesPerCrop }): PruningRun {
      for (const patches of patchesPerCrop) selector.count(patches); // a budget that does not fit is an error before any work
      return {
        async select(view) {
          const chosen = await selector.select(view, selector.count(view.grid.rows * view.grid.columns), encoder);
          return chosen instanceof Int32Array ? { kept: chosen } : chosen;
        },
        dispose() {},
      };
    },
  };
}
