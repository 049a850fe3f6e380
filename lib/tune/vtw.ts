import { createPruner } from '../prune/registry';
import { searchNumber } from './options';
import type { Tuner } from './tuner';

/** The first block that is tried, of 32. */
const FIRST = 5;
/** How far the next token's distribution may move: what VTW's authors use for LLaVA-1.5-7B. */
const ETA = 0.003;

/**
 * VTW's search (https://arxiv.org/abs/2405.05803): the first block before which all visual tokens can go while the distribution of the next token stays where
 * it was: the mean over samples of KL(dropped || full) is at most eta. The authors take 20 samples, eta 0.003 for 7B, 0.0005 for 13B, 0.0001 for LLaVA-1.6-7B.
 *
 * Differs from the reference: samples are encoded once, and blocks are tried until the first that suffices. Where none does, the layer is the number of
 * blocks, which drops nothing.
 */
export const tuneVtw: Tuner = {
  about: 'the first block before which all visual tokens can go',
  options: {
    eta: `largest divergence of the next token's distribution, in nats (default: ${ETA})`,
    first: `block to begin with (default: ${FIRST} of 32)`,
  },
  budget: false,
  async search(set, { options, progress }) {
    const { decoderBlocks } = set.facts;
    const eta = searchNumber(options, 'eta', ETA, { least: 0 });
    const usual = Math.min(decoderBlocks, Math.max(1, Math.round((FIRST * decoderBlocks) / 32)));
    const first = searchNumber(options, 'first', usual, { least: 1, most: decoderBlocks, whole: true });
    const total = (decoderBlocks - first + 1) * set.prompts.length;
    let done = 0;
    const distributions = async (layer: number) => {
      const pruner = createPruner({ method: 'vtw', layer });
      const found: Float32Array[] = [];
      for (const prompt of set.prompts) {
        found.push(await set.logProbabilities(prompt, pruner));
        progress(++done, total);
      }
      return found;
    };
    const full = await distributions(decoderBlocks);
    for (let layer = first; layer < decoderBlocks; layer++) {
      const dropped = await distributions(layer);
      const sum = dropped.reduce((before, one, i) => before + divergence(one, full[i] as Float32Array), 0);
      if (sum / full.length <= eta) return { method: 'vtw', layer };
    }
    return { method: 'vtw', layer: decoderBlocks };
  },
};

/** KL(p || q) in nats of two distributions, given as log-probabilities. */
export function divergence(p: Float32Array, q: Float32Array): number {
  return p.reduce((sum, value, i) => sum + Math.exp(value) * (value - (q[i] as number)), 0);
}
