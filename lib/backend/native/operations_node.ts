import * as tf from '@tensorflow/tfjs';

// TensorFlow's operations by name, on handles: what tfjs's own backend uses underneath, and the only way to types that tfjs does not have.

/** TensorFlow's numbers of the element types that are used here (tensorflow/core/framework/types.proto). */
export const TYPE = { float32: 1, int32: 3, uint8: 4, int8: 6, bfloat16: 14, float16: 19 } as const;

/** A tensor of TensorFlow's. It lives until it is deleted, or belongs to tfjs after `own`. */
export interface Handle {
  readonly id: number;
  readonly shape: number[];
  readonly dtype: number;
}

export interface Attribute {
  readonly name: string;
  readonly type: number;
  readonly value: boolean | number | string | readonly string[];
}

/** The parts of tfjs-node 4.22's binding that are used here. */
interface Binding {
  readonly TF_Version: string;
  /** Of the edits in `patch.ts`; absent from a binding that was built without them. */
  readonly VISPRUNER_PATCH?: number;
  readonly TF_ATTR_STRING: number;
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_FLOAT: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_TYPE: number;
  createTensor(shape: readonly number[], dtype: number, values: Uint8Array | Int32Array): number;
  deleteTensor(id: number): void;
  executeOp(name: string, attributes: readonly Attribute[], inputs: readonly number[], outputs: number): Handle[];
}

interface Backend {
  readonly binding: Binding;
  readonly tensorMap: { set(dataId: object, entry: { shape: number[]; dtype: number; id: number; values: null; refCount: number }): void };
  getInputTensorIds(tensors: readonly tf.TensorInfo[]): number[];
}

function backend(): Backend {
  return tf.findBackend('tensorflow') as unknown as Backend;
}

/** Which binding was loaded: TensorFlow's version, and the version of our additions to it (0: none). */
export function bindingVersion(): { readonly tensorflow: string; readonly patch: number } {
  const { TF_Version, VISPRUNER_PATCH } = backend().binding;
  return { tensorflow: TF_Version, patch: VISPRUNER_PATCH ?? 0 };
}

/** Attributes of an operation, made once and used by many calls. */
export const attribute = {
  type: (name: string, value: number): Attribute => ({ name, type: backend().binding.TF_ATTR_TYPE, value }),
  flag: (name: string, value: boolean): Attribute => ({ name, type: backend().binding.TF_ATTR_BOOL, value }),
  whole: (name: string, value: number): Attribute => ({ name, type: backend().binding.TF_ATTR_INT, value }),
  real: (name: string, value: number): Attribute => ({ name, type: backend().binding.TF_ATTR_FLOAT, value }),
  text: (name: string, value: string): Attribute => ({ name, type: backend().binding.TF_ATTR_STRING, value }),
  /** For a binding of patch version 1 and later only; an older one leaves the attribute out, and the operation ends the process. */
  texts: (name: string, value: readonly string[]): Attribute => ({ name, type: backend().binding.TF_ATTR_STRING, value }),
};

/** Runs an operation with one output. The caller deletes it or hands it to `own`. @throws Error with TensorFlow's message */
export function execute(name: string, attributes: readonly Attribute[], inputs: readonly number[]): Handle {
  const [output] = executeAll(name, attributes, inputs, 1);
  return output as Handle;
}

/** The same with several outputs. */
export function executeAll(name: string, attributes: readonly Attribute[], inputs: readonly number[], outputs: number): Handle[] {
  return backend().binding.executeOp(name, attributes, inputs, outputs);
}

export function deleteHandle(id: number): void {
  backend().binding.deleteTensor(id);
}

/** The handle of int32 values [n]; the caller deletes it. */
export function wholeNumbers(values: readonly number[]): number {
  return backend().binding.createTensor([values.length], TYPE.int32, Int32Array.from(values));
}

/** The handle of a tensor of tfjs's, which stays its owner. Values that tfjs has not written yet are written now. */
export function handleOf(tensor: tf.Tensor): number {
  const [id] = backend().getInputTensorIds([tensor]);
  return id as number;
}

/**
 * A handle as a tensor that tfjs counts, tidies and disposes. One of a type that tfjs lacks shows itself as float32 (and counts 4 bytes an element);
 * its values can't be read, and most operations of tfjs refuse it: it is for `execute`.
 */
export function own<T extends tf.Tensor>({ id, shape, dtype }: Handle): T {
  const dataId = {};
  backend().tensorMap.set(dataId, { shape, dtype, id, values: null, refCount: 1 });
  return tf.engine().makeTensorFromTensorInfo({ dataId, shape, dtype: 'float32' }) as T;
}

/**
 * Bytes as they lie in memory, as a tensor of a floating-point type. TensorFlow may go on using the memory of `bytes` in place of a copy (it does so where
 * their address is a multiple of 64): nobody may write to them any more.
 */
export function fromBytes<T extends tf.Tensor>(bytes: Uint8Array, shape: readonly number[], type: number): T {
  const raw = backend().binding.createTensor([...shape, type === TYPE.float32 ? 4 : 2], TYPE.uint8, bytes);
  try {
    return own(execute('Bitcast', [attribute.type('T', TYPE.uint8), attribute.type('type', type)], [raw]));
  } finally {
    deleteHandle(raw);
  }
}
