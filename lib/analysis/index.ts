export type { AnswerQuality } from './answers';
export {
  type AttentionDispersion,
  attentionDispersion,
  type Dispersion,
  DispersionAccumulator,
  type DispersionOptions,
  shareOfTop,
} from './dispersion';
export { effectiveRank, type KeptRank, keptRanks, type RankedMethod, type RankOptions } from './effective_rank';
export {
  CRITERIA,
  type Criterion,
  type EqualPositionAttention,
  type EqualPositionOptions,
  equalPositionAttention,
} from './equal_positions';
export { type CountedConfig, type CountedWork, type Flops, flops } from './flops';
export { type AnalysedPicture, type AnalysisOptions, scenePictures } from './pictures';
export { type QuartileOptions, type QuartileRetention, type QuartileRetentions, quartileRetention } from './quartiles';
export { type AttentionShift, attentionShift, type BlockShift, ShiftAccumulator, type ShiftOptions, type ShiftSums } from './shift';
export { type Profile, profileOf } from './statistics';
