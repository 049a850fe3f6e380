/**
 * The errors that this package throws on purpose. Each has a stable `code`, and a message that says what was wrong, where, and what to do.
 * They live in the lowest room so that every room can throw them.
 */
export abstract class VisPrunerError extends Error {
  constructor(
    readonly code: string,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A checkpoint's files or tensors are wrong: safetensors, index, missing, mis-shaped or unexpected keys. */
export class CheckpointError extends VisPrunerError {}
/** config.json, preprocessor_config.json, tokenizer.json or a config object contradicts itself or is not supported. */
export class ConfigError extends VisPrunerError {}
/** An image can't be decoded or has the wrong form. */
export class ImageError extends VisPrunerError {}
/** A prompt, or an option of generation, is wrong. */
export class PromptError extends VisPrunerError {}
/** A pruning option or a pruner's input is wrong. */
export class PruneError extends VisPrunerError {}
/** A backend is absent, failed or is used wrongly. */
export class BackendError extends VisPrunerError {}
/** Something is used after `dispose()`, or before it was filled. */
export class StateError extends VisPrunerError {}
