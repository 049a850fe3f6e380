import { PruneError } from '../../layers/errors';
import type { AttentionNeed, EncoderFacts } from './types';

/**
 * The attention by which VisPruner ranks patches. With a class token: its row in the block whose output are the features. Without one: what each
 * patch receives on average in the encoder's last block, also when the features come from an earlier one, as the released SigLIP encoder has it.
 *
 * @throws PruneError `ATTENTION_UNAVAILABLE` when the features are the embeddings, before any block
 */
export function rankingAttention(encoder: EncoderFacts): AttentionNeed {
  if (!encoder.hasClassToken) return { block: encoder.blocks - 1, rows: 'received' };
  if (encoder.featureBlock < 0 || encoder.featureBlock >= encoder.blocks) {
    throw new PruneError(
      'ATTENTION_UNAVAILABLE',
      `The features come from block ${encoder.featureBlock}, but the encoder's blocks with attention are 0 to ${encoder.blocks - 1}. Use a "vision_feature_layer" that is a block's output, or the method "random".`,
    );
  }
  return { block: encoder.featureBlock, rows: 'class' };
}

/** `block`, whose class token is read. @throws PruneError `ATTENTION_UNAVAILABLE` when the encoder has none, or no such block */
export function classBlock({ hasClassToken, blocks }: EncoderFacts, block: number): number {
  if (hasClassToken && block >= 0 && block < blocks) return block;
  throw new PruneError(
    'ATTENTION_UNAVAILABLE',
    hasClassToken
      ? `The class token of encoder block ${block} is needed, but the encoder's blocks are 0 to ${blocks - 1}. Use another method.`
      : 'This method reads the class token, and the encoder has none. Use a method that does without, as "vispruner".',
  );
}
