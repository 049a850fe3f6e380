import type { Pruner } from './types';

/**
 * How faithful a method is. `exact`: every step and constant is that of the authors' code, but for the differences listed. `paper`: the algorithm is the
 * paper's, some constants are ours. `sketch`: only the idea is public. `ours`: a baseline of our own.
 */
export type Grade = 'exact' | 'paper' | 'sketch' | 'ours';

/** The model that a budget is for. */
export interface BudgetFacts {
  /** N of a crop. */
  readonly patches: number;
  readonly decoderBlocks: number;
  /** Encoder blocks up to that of the features. Not given: enough for any method. */
  readonly encoderBlocks?: number;
}

/** What `docs/methods.md` says of a method; one row of its table. */
export interface MethodAbout {
  readonly title: string;
  /** Where in the model it acts. */
  readonly acts: string;
  /** What it looks at. */
  readonly reads: string;
  /** What has to be trained or fitted before it can be used; absent: nothing. */
  readonly training?: string;
  /** Visual tokens entering each decoder block, of N patches, as a formula. */
  readonly entering: string;
  readonly source: string;
  readonly grade: Grade;
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
  /**
   * Options with which so many visual tokens of a crop enter a decoder block, averaged over the blocks, as near as whole tokens allow: how methods are
   * compared. Undefined where the method can't reach it. Absent where it has no budget.
   */
  forAverage?(average: number, facts: BudgetFacts): Options | undefined;
}
