import type * as codes from './error_codes';

export type CheckpointCode = keyof typeof codes.CHECKPOINT_CODES;
export type ConfigCode = keyof typeof codes.CONFIG_CODES;
export type ImageCode = keyof typeof codes.IMAGE_CODES;
export type PromptCode = keyof typeof codes.PROMPT_CODES;
export type PruneCode = keyof typeof codes.PRUNE_CODES;
export type BackendCode = keyof typeof codes.BACKEND_CODES;
export type StateCode = keyof typeof codes.STATE_CODES;
export type DataCode = keyof typeof codes.DATA_CODES;
export type OutputCode = keyof typeof codes.OUTPUT_CODES;
export type UseCode = keyof typeof codes.USE_CODES;
export type ServerCode = keyof typeof codes.SERVER_CODES;
export type RequestCode = keyof typeof codes.REQUEST_CODES;
export type HubCode = keyof typeof codes.HUB_CODES;
export type ErrorCode =
  | CheckpointCode
  | HubCode
  | ConfigCode
  | ImageCode
  | PromptCode
  | PruneCode
  | BackendCode
  | StateCode
  | DataCode
  | OutputCode
  | UseCode
  | ServerCode
  | RequestCode;

/**
 * The errors that this package throws on purpose. Each has a stable `code` (docs/errors.md lists them all, from `error_codes.ts`), and a message that
 * says what was wrong, where, and what to do. They live in the lowest room so that every room can throw them.
 */
export abstract class VisPrunerError<Code extends string = ErrorCode> extends Error {
  constructor(
    readonly code: Code,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A checkpoint's files or tensors are wrong: safetensors, index, missing, mis-shaped or unexpected keys. */
export class CheckpointError extends VisPrunerError<CheckpointCode> {}
/** A hub of models can't be reached, refuses, or sends what it should not. */
export class HubError extends VisPrunerError<HubCode> {}
/** config.json, preprocessor_config.json, tokenizer.json, a config object or the options of a call are wrong or not supported. */
export class ConfigError extends VisPrunerError<ConfigCode> {}
/** An image can't be decoded or has the wrong form. */
export class ImageError extends VisPrunerError<ImageCode> {}
/** A prompt, or an option of generation, is wrong. */
export class PromptError extends VisPrunerError<PromptCode> {}
/** A pruning option or a pruner's input is wrong. */
export class PruneError extends VisPrunerError<PruneCode> {}
/** A backend is absent, failed or is used wrongly. */
export class BackendError extends VisPrunerError<BackendCode> {}
/** Something is used after `dispose()`, or before it was filled. */
export class StateError extends VisPrunerError<StateCode> {}
/** A data set, or a file with the results of an evaluation, is wrong. */
export class DataError extends VisPrunerError<DataCode> {}
/** A result can't be written where it was asked for. */
export class OutputError extends VisPrunerError<OutputCode> {}
