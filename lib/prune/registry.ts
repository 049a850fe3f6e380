import { PruneError } from '../../layers/errors';
import { type CdPrunerOptions, cdPrunerMethod } from './cdpruner';
import { checkNames, show } from './checks';
import { type DartOptions, dartMethod } from './dart';
import { type DedupOptions, dedupMethod } from './dedup';
import { type DivPruneOptions, divPruneMethod } from './divprune';
import { type FasterVlmOptions, fasterVlmMethod } from './fastervlm';
import { type FastVOptions, fastVMethod } from './fastv';
import { type FeatherOptions, featherMethod } from './feather';
import { type FitPruneOptions, fitPruneMethod } from './fitprune';
import { type GPruneOptions, gPruneMethod } from './g_prune';
import { type HiMapOptions, hiMapMethod } from './himap';
import { type InteractionOptions, interactionMethod } from './interaction';
import type { Method } from './method';
import { type MustDropOptions, mustDropMethod } from './mustdrop';
import { type NoneOptions, noneMethod } from './none';
import { type PoolOptions, poolMethod } from './pool';
import { type PrototypesOptions, prototypesMethod } from './prototypes';
import { type PruMergeOptions, type PruMergePlusOptions, pruMergeMethod, pruMergePlusMethod } from './prumerge';
import { type PyramidDropOptions, pyramidDropMethod } from './pyramiddrop';
import { type RandomOptions, randomMethod } from './random';
import { type SglOptions, sglMethod } from './sgl';
import { type SparseVlmOptions, sparseVlmMethod } from './sparsevlm';
import { type ToDreOptions, toDreMethod } from './todre';
import { type ToMeOptions, toMeMethod } from './tome';
import { type TopVOptions, topVMethod } from './topv';
import type { Pruner } from './types';
import { type UniformOptions, uniformMethod } from './uniform';
import { type VFlowOptOptions, vFlowOptMethod } from './vflowopt';
import { type VisionDropOptions, visionDropMethod } from './visiondrop';
import { type VisionZipOptions, visionZipMethod } from './visionzip';
import { type VisPrunerOptions, visPrunerMethod } from './vispruner';
import { type VtcClsOptions, vtcClsMethod } from './vtc_cls';
import { type VtwOptions, vtwMethod } from './vtw';

/** A built-in method with its options, as plain data. */
export type PruneOptions =
  | VisPrunerOptions
  | DedupOptions
  | RandomOptions
  | DivPruneOptions
  | CdPrunerOptions
  | GPruneOptions
  | ToDreOptions
  | PrototypesOptions
  | InteractionOptions
  | FastVOptions
  | PyramidDropOptions
  | SparseVlmOptions
  | DartOptions
  | FitPruneOptions
  | VtwOptions
  | VisionDropOptions
  | HiMapOptions
  | FeatherOptions
  | MustDropOptions
  | VFlowOptOptions
  | TopVOptions
  | SglOptions
  | FasterVlmOptions
  | VisionZipOptions
  | PruMergeOptions
  | PruMergePlusOptions
  | ToMeOptions
  | VtcClsOptions
  | PoolOptions
  | UniformOptions
  | NoneOptions;

type MethodName = PruneOptions['method'];

/** Every built-in method. A user's own is a `Pruner` and needs no row here: it is passed where options are. */
export const METHODS: { readonly [Name in MethodName]: Method<Extract<PruneOptions, { method: Name }>> } = {
  vispruner: visPrunerMethod,
  fastervlm: fasterVlmMethod,
  visionzip: visionZipMethod,
  prumerge: pruMergeMethod,
  'prumerge-plus': pruMergePlusMethod,
  tome: toMeMethod,
  'vtc-cls': vtcClsMethod,
  pool: poolMethod,
  uniform: uniformMethod,
  dedup: dedupMethod,
  random: randomMethod,
  divprune: divPruneMethod,
  cdpruner: cdPrunerMethod,
  'g-prune': gPruneMethod,
  todre: toDreMethod,
  prototypes: prototypesMethod,
  interaction: interactionMethod,
  fastv: fastVMethod,
  pyramiddrop: pyramidDropMethod,
  sparsevlm: sparseVlmMethod,
  dart: dartMethod,
  fitprune: fitPruneMethod,
  vtw: vtwMethod,
  visiondrop: visionDropMethod,
  himap: hiMapMethod,
  feather: featherMethod,
  mustdrop: mustDropMethod,
  vflowopt: vFlowOptMethod,
  topv: topVMethod,
  sgl: sglMethod,
  none: noneMethod,
};

/**
 * @param prune a method's options, or a pruner, which is returned as it is
 * @throws PruneError `OPTIONS_INVALID` (neither), `METHOD_UNKNOWN`, `METHOD_OPTION_UNKNOWN`, and what the method says of its options
 */
export function createPruner(prune: PruneOptions | Pruner): Pruner {
  const given: unknown = prune;
  if (typeof given !== 'object' || given === null) {
    throw new PruneError('OPTIONS_INVALID', `Pruning is ${show(given)}. Give {method: …} with its options, or a Pruner.`);
  }
  if ('begin' in given) return given as Pruner;
  const options = given as PruneOptions;
  if (!Object.hasOwn(METHODS, options.method)) {
    throw new PruneError(
      'METHOD_UNKNOWN',
      `Pruning method ${show(options.method)} is not known. Use one of these: ${Object.keys(METHODS).join(', ')}.`,
    );
  }
  const method = METHODS[options.method] as Method<PruneOptions>;
  const { method: name, ...own } = options;
  checkNames(own, method.options, `Method "${name}"`);
  const pruner = method.create(options);
  const key = pruner.key ?? keyOf(options);
  return { ...pruner, ...(key === undefined ? {} : { key }) };
}

/** Options as text, where they are plain data: a function or a tensor among them tells nothing of what it does. */
function keyOf(options: PruneOptions): string | undefined {
  const plain = (value: unknown): boolean =>
    value === undefined || ['string', 'number', 'boolean'].includes(typeof value) || (Array.isArray(value) && value.every(plain));
  return Object.values(options).every(plain) ? JSON.stringify(options) : undefined;
}
