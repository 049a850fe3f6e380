/**
 * LLaVA-style vision-language models in TensorFlow.js: run them, prune their visual tokens, look inside.
 *
 * @packageDocumentation
 */

// Layers, each usable alone
export { ACTIVATION_NAMES, type Activation, activation } from '../layers/activation';
export { type AttendOptions, attend, attendSegments, attentionProbabilities, CausalMask, causalMask, type HeadShape } from '../layers/attention';
export { ClipText, type ClipTextShape } from '../layers/clip_text';
export {
  type ClipBlockShape,
  ClipVision,
  ClipVisionBlock,
  type ClipVisionShape,
  disposeVisionValues,
  type Mixed,
  type MixOptions,
  type Projected,
  type VisionBlockOutput,
  type VisionReads,
  type VisionValues,
} from '../layers/clip_vision';
// Errors
export {
  BackendError,
  CheckpointError,
  ConfigError,
  DataError,
  type ErrorCode,
  HubError,
  ImageError,
  OutputError,
  PromptError,
  PruneError,
  StateError,
  VisPrunerError,
} from '../layers/errors';
export { ConcatKeyValueCache, HeadwiseKeyValueCache, type KeyValueCache, newKeyValueCache } from '../layers/kv_cache';
export { Linear } from '../layers/linear';
export { type BlockContext, Llama, LlamaBlock, type LlamaShape, type ProjectedRows } from '../layers/llama';
export { LayerNorm, RmsNorm } from '../layers/norm';
export type { Embedding, Matrix, Parameter, Parameters } from '../layers/parameters';
export { Projector } from '../layers/projector';
export { type RopeParameters, Rotary, type RotaryTable } from '../layers/rotary';
export type { Segment, Tap } from '../layers/tap';
// Weights
export { type ByteDirectory, memoryDirectory, urlDirectory } from '../weights/byte_directory';
export { type ByteSource, blobSource, memorySource, openUrl } from '../weights/byte_source';
export { Checkpoint, openCheckpoint } from '../weights/checkpoint';
export { readCheckpoint } from '../weights/checkpoint_node';
export { type VerifyOptions, verifyChecksums } from '../weights/checksums';
export { findModel } from '../weights/hub_cache_node';
export type { Pause } from '../weights/pacer';
export { openSafetensors, type SafetensorsFile, type TensorInfo } from '../weights/safetensors';
export { readSafetensors, writeSafetensors } from '../weights/safetensors_node';
export { checkpointSource, type FillProgress, type MakeOptions, type ParameterSource, seedSource, type TensorFactory } from '../weights/sources';
// Analyses
export * from './analysis';
export type { Answer, AskOptions, QuestionImages, WrittenToken } from './answer';
// Backends
export { BACKENDS, type BackendName, currentBackend, useBackend } from './backend/backends';
export { float32Factory } from './backend/matrices';
export { choosePrecision, type Precision, WEIGHT_DTYPES, type WeightDtype } from './backend/precision';
export { type BuildOptions, buildModel } from './build';
export { type ChatMessage, type ChatPart, ChatProcessor, Detokenizer, StopStrings } from './chat';
export type { Choice } from './choices';
export { Clip, type EncodeText, type LoadClipOptions, loadClip } from './clip';
export {
  type ClipVisionConfig,
  type GenerationConfig,
  type LanguageConfig,
  type LlamaConfig,
  type ModelConfig,
  parseConfig,
  type VisionLanguageConfig,
} from './config';
export type { ClipConfig } from './config/clip';
export { Chat, type ChatOptions, type TurnImage, type TurnOptions } from './conversation';
export type { DrawnToken, DrawOptions } from './draw';
export type { EncodedCrop, EncodedImage, KeptPatches } from './encoded';
// Scenes and evaluation
export * from './eval';
export type { FinishReason, StreamedToken, Timing, TokenOptions, Usage } from './generate';
export type { JsonSchema } from './grammar/json_schema';
// Models by name
export { type PulledFile, type PullOptions, type PullProgress, type PullReport, pullModel } from './hub/pull_node';
// Images and prompts
export { decodeImage } from './image/decode_node';
export { drawKept, type OverlayOptions } from './image/overlay';
export { type PrepareOptions, patchRectangle, prepareImage } from './image/prepare';
export { type Aspect, type PreprocessorConfig, parsePreprocessorConfig } from './image/preprocessor_config';
export type { CropGeometry, DecodeOptions, ImageInput, PreparedImage, Rectangle, RgbImage, Size } from './image/types';
export type { Llava } from './llava';
// Models
export { type LoadOptions, loadModel } from './load';
export { frequencyPenalty, type LogitsContext, type LogitsProcessor, logitBias, repetitionPenalty, suppressTokens } from './logits_processors';
export type { ScoredToken, TokenLogprobs } from './logprobs';
export { type PrepareImagesOptions, VisionLanguageModel } from './model';
// Plots
export { drawDispersion, drawEqualPositions, drawQuartiles, drawRanks, drawShift } from './plot/analyses';
export { PromptCache } from './prompt_cache';
// Pruning
export { type ConditionalOptions, type RelevanceEncoder, selectConditional } from './prune/cdpruner';
export { divPrune, selectDiverse } from './prune/divprune';
export { type GraphOptions, gPrune, graphScores } from './prune/g_prune';
export { importanceMap, recycle } from './prune/importance_flow';
export { kneeCount } from './prune/interaction';
export type { EncoderReducer, EncoderView, MergedTokens, RowGroups } from './prune/merging';
export { mustDrop, type TextAttention } from './prune/mustdrop';
export { type Prototypes, redundancy } from './prune/prototypes';
export { outlierCount, PruMergeChooser } from './prune/prumerge_choice';
export { createPruner, METHODS, type PruneOptions } from './prune/registry';
export { mutualAttention, selectDispersed } from './prune/todre';
export { type ToMeSchedule, toMeCounts, toMeGroups } from './prune/tome';
export { optimalTransport } from './prune/transport';
export type {
  AttentionNeed,
  CacheView,
  DecoderFacts,
  DecoderView,
  EncoderFacts,
  Grid,
  Needs,
  Projections,
  Pruner,
  PruningRun,
  Reduction,
  RequestView,
  Selection,
  VisionView,
  VisualOrigins,
} from './prune/types';
export { type VisionZipChoice, visionZip } from './prune/visionzip';
export { type SelectionOptions, selectTokens, visPruner } from './prune/vispruner';
export type { WeightedSum } from './prune/weighted_sums';
export { Random } from './random';
export type { SamplingOptions } from './sampler';
export {
  encodeQuestion,
  generateScene,
  HELD_OUT_SEEDS,
  makeQuestions,
  QUESTION_TYPES,
  type Question,
  type QuestionType,
  type Scene,
  TRAINING_SEEDS,
} from './scenes';
export type { ContinuationScore } from './score';
export { type Guidance, type GuidanceOptions, sglGuidance, sglImportance } from './sgl';
export type { TextLogprobs, TextToken } from './text_logprobs';
export { TokenModel } from './token_model';
export {
  EncodedImages,
  type ForwardResult,
  type GenerateOptions,
  type GenerateResult,
  type Prune,
  type RunOptions,
  type ScoreResult,
  type TokenRequest,
} from './token_request';
// Parameters of methods, searched
export * from './tune';
