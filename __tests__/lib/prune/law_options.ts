import type { Method } from '../../../lib/prune/method';
import { METHODS, type PruneOptions } from '../../../lib/prune/registry';

/** The model of the laws: `law_model.ts`. */
export const FACTS = { patches: 36, decoderBlocks: 8 };

export type MethodName = PruneOptions['method'];

/**
 * Options for the laws, for methods that have no budget of an average, or in whose usual options a law would be empty. One or more for each; a method that
 * is not here gets options for averages of 60% and 30% of the patches, as far as it can reach them.
 */
const OPTIONS: Partial<Record<MethodName, readonly PruneOptions[]>> = {
  none: [{ method: 'none' }],
  vispruner: [
    { method: 'vispruner', tokens: 20 },
    { method: 'vispruner', tokens: 7, importantRatio: 0.3 },
  ],
  sparsevlm: [
    { method: 'sparsevlm', target: 192 },
    { method: 'sparsevlm', layers: [2, 4], ratios: [0.5, 0.2] },
    { method: 'sparsevlm', version: 'plus', target: 128 },
    { method: 'sparsevlm', version: 1, scale: 3 },
  ],
  feather: [
    { method: 'feather', removed: 0.3 },
    { method: 'feather', layers: [1, 4], ratios: [0.5, 0.2] },
  ],
  vtw: [
    { method: 'vtw', layer: 3 },
    { method: 'vtw', layer: 7 },
  ],
  divprune: [
    { method: 'divprune', tokens: 12 },
    { method: 'divprune', tokens: 12, positions: 'keep' },
  ],
  prototypes: [
    { method: 'prototypes', prototypes: codebook(), tokens: 12 },
    { method: 'prototypes', prototypes: codebook(), threshold: 0.3 },
  ],
  interaction: [{ method: 'interaction' }, { method: 'interaction', tokens: 20, finalTokens: 9, layer: 3 }],
  todre: [
    { method: 'todre', tokens: 12 },
    { method: 'todre', tokens: 20, tau: 1 },
  ],
  mustdrop: [
    { method: 'mustdrop', globalThreshold: 0.03, individualThreshold: 0.1 },
    { method: 'mustdrop', averageTokens: 15 },
  ],
};

/** Methods that keep nothing as it is even where they have room for all. */
const NEVER_PLAIN: readonly MethodName[] = [];

export const METHOD_NAMES: readonly MethodName[] = Object.keys(METHODS) as MethodName[];

export function lawOptions(name: MethodName): readonly PruneOptions[] {
  const method = METHODS[name] as Method<PruneOptions>;
  const averages = [0.6, 0.3].map((share) => method.forAverage?.(share * FACTS.patches, FACTS));
  const found = OPTIONS[name] ?? averages.filter((options) => options !== undefined);
  if (found.length === 0) throw new Error(`No options for the laws of "${name}": add some to law_options.ts.`);
  return found;
}

/** Options that keep every token, by the method's own account; undefined for methods that can't. */
export function keepAllOptions(name: MethodName): PruneOptions | undefined {
  if (NEVER_PLAIN.includes(name)) return undefined;
  return (METHODS[name] as Method<PruneOptions>).forAverage?.(FACTS.patches, FACTS);
}

/** Some vectors as wide as the law model's decoder. */
function codebook(): number[][] {
  return Array.from({ length: 5 }, (_, row) => Array.from({ length: 24 }, (_, i) => Math.sin(row * 7 + i * (row + 1.3))));
}
