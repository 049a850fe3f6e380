import type * as tf from '@tensorflow/tfjs';
import type { Embedding, Matrix, Parameters } from '../layers/parameters';
import { checkDeclarations, type Plan } from './check';
import type { Checkpoint } from './checkpoint';
import { type Declaration, Declarations } from './declarations';
import { bytesOf, type Dtype } from './dtype';
import { findNotFinite, notFinite } from './finite';
import type { Layout } from './layouts';
import { Pacer, type Pause } from './pacer';
import { fanIn, SeededNormals } from './seeded';

/** A weight as a checkpoint holds it. */
export interface StoredWeight {
  readonly name: string;
  readonly dtype: Dtype;
  /** What the layer declared: [outDim, inDim] of a matrix, [rows, dim] of an embedding. */
  readonly shape: readonly number[];
  /** Little-endian, row by row; may start at any address. The factory may keep it. */
  readonly bytes: Uint8Array;
}

export interface MakeOptions {
  /** Whether the embedding serves as the language model's head too. */
  readonly head: boolean;
  /** To be awaited between steps of long work. What it throws ends the filling; a factory frees what it has begun. */
  readonly pause: Pause;
}

/** Makes what layers compute with, in the layout and precision that a backend is fast at. `lib/backend` has one for each backend. */
export interface TensorFactory {
  matrix(name: string, inDim: number, outDim: number, weight: StoredWeight, options: MakeOptions): Matrix | Promise<Matrix>;
  embedding(name: string, rows: number, dim: number, weight: StoredWeight, options: MakeOptions): Embedding | Promise<Embedding>;
  tensor(name: string, shape: readonly number[], weight: StoredWeight): tf.Tensor;
  /**
   * Called before anything is read, with everything that will be made.
   * @throws BackendError when it will not fit into memory
   */
  checkCapacity?(declarations: readonly Declaration[]): void;
}

export interface FillProgress {
  /** The tensor that was just filled. */
  readonly name: string;
  readonly bytes: number;
  readonly totalBytes: number;
  /** Since the filling began. */
  readonly seconds: number;
}

export interface FillOptions {
  /** Refuse weights that are NaN or infinite; each is looked at, which takes about as long as reading it. */
  readonly checkFinite?: boolean;
  readonly progress?: (progress: FillProgress) => void;
  readonly signal?: AbortSignal;
}

/** Where the parameters of a model come from. Layers declare under `root`, then the source is checked and filled. */
export interface ParameterSource {
  readonly root: Parameters;
  /**
   * Compares what was declared with what there is, by headers alone.
   * @throws CheckpointError `MISSING_KEYS`, `UNEXPECTED_KEYS`, `SHAPE_MISMATCH`, `UNSUPPORTED_DTYPE`, or `KEYS_DO_NOT_FIT` for several of them: every key in one error
   */
  check(): void;
  /** Checks, then fills everything. A failure or an abort frees all of it; then it can be tried again. @throws CheckpointError `NOT_FINITE` on request */
  fill(options?: FillOptions): Promise<void>;
  /** Frees everything. Idempotent. */
  dispose(): void;
}

/**
 * Parameters from a checkpoint, which stays open and belongs to the caller (it can be closed after `fill`).
 * `layouts`: how its tensors may be named; default: as releases of LLaVA and Llama do.
 *
 * `const source = checkpointSource(await readCheckpoint(dir), factory); const model = new Llava(config, source.root); await source.fill();`
 */
export function checkpointSource(checkpoint: Checkpoint, factory: TensorFactory, layouts?: readonly Layout[]): ParameterSource {
  const declarations = new Declarations();
  const plan = (): Plan => checkDeclarations(declarations.all, checkpoint, layouts);
  return {
    root: declarations.root,
    check(): void {
      plan();
      factory.checkCapacity?.(declarations.all);
    },
    async fill(options: FillOptions = {}): Promise<void> {
      const { steps, totalBytes } = plan();
      await fillAll(declarations, factory, steps, totalBytes, options, async ({ declaration, stored, dtype }, pause) => {
        const bytes = await checkpoint.bytes(stored, options.signal);
        if (options.checkFinite) await checkFinite({ name: stored, dtype }, bytes, checkpoint.name, pause);
        return { name: declaration.name, dtype, shape: declaration.shape, bytes };
      });
    },
    dispose(): void {
      declarations.dispose();
    },
  };
}

/**
 * Parameters made up from a seed, for models built in code, tests and benchmarks: matrices and embeddings are normal with variance 1 / fan-in (so that
 * values neither grow nor vanish from layer to layer), norms are 1, biases normal with deviation 0.02. The same seed and name give the same values,
 * whatever else is declared.
 */
export function seedSource(seed: number, factory: TensorFactory): ParameterSource {
  const declarations = new Declarations();
  return {
    root: declarations.root,
    check(): void {
      factory.checkCapacity?.(declarations.all);
    },
    async fill(options: FillOptions = {}): Promise<void> {
      const steps = declarations.all.map((declaration) => ({ declaration, byteLength: elements(declaration) * 4 }));
      const totalBytes = steps.reduce((sum, step) => sum + step.byteLength, 0);
      await fillAll(declarations, factory, steps, totalBytes, options, ({ declaration }, pause) => seeded(seed, declaration, pause));
    },
    dispose(): void {
      declarations.dispose();
    },
  };
}

/** Bytes looked at between two pauses: about 10 ms. A multiple of every element's size. */
const CHECKED_STEP = 2 ** 24;

/** @throws CheckpointError `NOT_FINITE` */
async function checkFinite(tensor: { readonly name: string; readonly dtype: Dtype }, bytes: Uint8Array, where: string, pause: Pause): Promise<void> {
  for (let start = 0; start < bytes.length; start += CHECKED_STEP) {
    const damage = findNotFinite(tensor, bytes.subarray(start, start + CHECKED_STEP), start / bytesOf(tensor.dtype));
    if (damage !== undefined) throw notFinite(where, [damage]);
    await pause();
  }
}

async function fillAll<S extends { readonly declaration: Declaration; readonly byteLength: number }>(
  declarations: Declarations,
  factory: TensorFactory,
  steps: readonly S[],
  totalBytes: number,
  { progress, signal }: FillOptions,
  weightOf: (step: S, pause: Pause) => Promise<StoredWeight>,
): Promise<void> {
  declarations.checkEmpty();
  factory.checkCapacity?.(declarations.all);
  let bytes = 0;
  const begun = performance.now();
  const { pause } = new Pacer(signal);
  try {
    signal?.throwIfAborted();
    for (const step of steps) {
      await make(declarations, factory, step.declaration, await weightOf(step, pause), pause);
      bytes += step.byteLength;
      progress?.({ name: step.declaration.name, bytes, totalBytes, seconds: (performance.now() - begun) / 1000 });
      await pause();
    }
    declarations.markFilled();
  } catch (error) {
    declarations.empty();
    throw error;
  }
}

async function make(declarations: Declarations, factory: TensorFactory, declaration: Declaration, weight: StoredWeight, pause: Pause): Promise<void> {
  const { kind, name, shape, head = false } = declaration;
  const [rows, columns] = shape as readonly [number, number];
  if (kind === 'tensor') declarations.put(kind, name, factory.tensor(name, shape, weight));
  else if (kind === 'matrix') declarations.put(kind, name, await factory.matrix(name, columns, rows, weight, { head, pause }));
  else declarations.put(kind, name, await factory.embedding(name, rows, columns, weight, { head, pause }));
}

function elements({ shape }: Declaration): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Normal numbers made between two pauses: about 10 ms. Even, because they are made in pairs. */
const SEEDED_STEP = 2 ** 21;

async function seeded(seed: number, declaration: Declaration, pause: Pause): Promise<StoredWeight> {
  const { name, shape } = declaration;
  const values = new Float32Array(elements(declaration));
  const normals = new SeededNormals(seed, name);
  const bias = name.endsWith('bias');
  const ones = !bias && declaration.kind === 'tensor' && shape.length === 1 && /norm\d*\.weight$/.test(name);
  for (let start = 0; start < values.length; start += SEEDED_STEP) {
    const some = values.subarray(start, start + SEEDED_STEP);
    if (ones) some.fill(1);
    else normals.fill(some, bias ? 0.02 : 1 / Math.sqrt(fanIn(shape)));
    await pause();
  }
  return { name, dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) };
}
