import type { PruneOptions } from '../prune/registry';
import type { EncoderFacts, Needs } from '../prune/types';
import type { TuneSet } from './tune_set';

/** What a search is given. */
export interface TuneRequest {
  /** Visual tokens of a crop that are to enter a decoder block, averaged over the blocks; only where the search takes a budget. */
  readonly average: number;
  /** Options of the search, of the names that it has. */
  readonly options: Readonly<Record<string, number>>;
  readonly progress: (done: number, total: number) => void;
}

/** The search for a method's parameters on a model: one row of `TUNERS`. */
export interface Tuner {
  /** What it looks for, for the command's help. */
  readonly about: string;
  /** Numbers that steer it, and what each is. */
  readonly options: Readonly<Record<string, string>>;
  /** Whether it aims at a budget. */
  readonly budget: boolean;
  /** What the encoder has to hand over; absent: no more than features. */
  readonly needs?: (encoder: EncoderFacts) => Needs;
  /** @throws PruneError for bad options and budgets; the signal's reason */
  search(set: TuneSet, request: TuneRequest): Promise<PruneOptions>;
}
