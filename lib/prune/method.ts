import type { Pruner } from './types';

/** What `docs/methods.md` says of a method; one row of its table. */
export interface MethodAbout {
  readonly title: string;
  /** Where in the model it acts. */
  readonly acts: string;
  /** What it looks at. */
  readonly reads: string;
  /** Visual tokens entering each decoder block, of N patches, as a formula. */
  readonly entering: string;
  readonly source: string;
  /** How faithful it is: `exact` when every step is that of the authors' code, but for the differences listed. */
  readonly grade: 'exact' | 'ours';
  /** Where it differs from its source, on purpose. */
  readonly differences: readonly string[];
}

/** A pruning method before its options are known: one row of the registry. */
export interface Method<Options> {
  /** Option names besides `method`; any other is refused. */
  readonly options: readonly string[];
  readonly about: MethodAbout;
  /** Options as the documentation shows them. */
  readonly example: Options;
  /** @throws PruneError for a bad option */
  create(options: Options): Pruner;
}
