export { sceneSamples } from './samples';
export { TUNERS, type TuneOptions, tune } from './tune';
export { type PromptEnd, type TuneSample, TuneSet } from './tune_set';
export type { TuneRequest, Tuner } from './tuner';
