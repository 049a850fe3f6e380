import * as tf from '@tensorflow/tfjs';

/** TensorFlow's numbers of the types that weights are held in. */
export const TYPES = { float32: 1, bfloat16: 14, float16: 19 } as const;

interface Attribute {
  readonly name: string;
  readonly type: number;
  readonly value: boolean | number | string | readonly string[];
}

/** The parts of the backend that are called past this package. */
interface Bare {
  readonly binding: {
    readonly VISPRUNER_PATCH?: number;
    readonly TF_ATTR_TYPE: number;
    readonly TF_ATTR_BOOL: number;
    readonly TF_ATTR_INT: number;
    readonly TF_ATTR_FLOAT: number;
    readonly TF_ATTR_STRING: number;
    createTensor(shape: readonly number[], dtype: number, values: Uint8Array): number;
    deleteTensor(id: number): void;
    executeOp(name: string, attributes: readonly Attribute[], inputs: readonly number[], outputs: number): { readonly id: number }[];
  };
  getInputTensorIds(tensors: readonly tf.Tensor[]): number[];
}

/** Version of our additions to the binding that the backend `tensorflow` was loaded with, 0 without. */
export function bindingPatch(): number {
  return (tf.findBackend('tensorflow') as unknown as Bare).binding.VISPRUNER_PATCH ?? 0;
}

/** TensorFlow's operations themselves, on handles, without this package: what it can be at best. */
export class BareOperations {
  private readonly backend = tf.findBackend('tensorflow') as unknown as Bare;

  /** @param oneRow whether oneDNN's own product of one row in bfloat16 can be called; where it can't, the call ends the process */
  constructor(readonly oneRow: boolean) {}

  weight(bytes: Uint8Array, shape: readonly [number, number], type: number): number {
    const { binding } = this.backend;
    const raw = binding.createTensor([...shape, 2], 4, bytes);
    const id = this.run('Bitcast', [this.type('T', 4), this.type('type', type)], [raw]);
    binding.deleteTensor(raw);
    return id;
  }

  cast(id: number, from: number, to: number): number {
    return this.run('Cast', [this.type('SrcT', from), this.type('DstT', to), this.flag('Truncate', false)], [id]);
  }

  idOf(tensor: tf.Tensor): number {
    return this.backend.getInputTensorIds([tensor])[0] as number;
  }

  /** rows x W^T with W [out, in], in the way that is fastest for so many rows. */
  product(rows: number, type: number, x: number, weight: number, zeros: number): number {
    const transposed = [this.type('T', type), this.flag('transpose_a', false), this.flag('transpose_b', true)];
    if (rows === 1 && type === TYPES.bfloat16 && this.oneRow) {
      const { TF_ATTR_INT, TF_ATTR_FLOAT, TF_ATTR_STRING } = this.backend.binding;
      const more: Attribute[] = [
        { name: 'num_args', type: TF_ATTR_INT, value: 1 },
        { name: 'fused_ops', type: TF_ATTR_STRING, value: ['BiasAdd'] },
        { name: 'epsilon', type: TF_ATTR_FLOAT, value: 0.0001 },
        { name: 'leakyrelu_alpha', type: TF_ATTR_FLOAT, value: 0.2 },
        { name: '_kernel', type: TF_ATTR_STRING, value: 'MklNameChangeOp' },
      ];
      return this.run('_MklNativeFusedMatMul', [...transposed, ...more], [x, weight, zeros]);
    }
    return this.run('MatMul', transposed, [x, weight]);
  }

  free(id: number): void {
    this.backend.binding.deleteTensor(id);
  }

  private run(name: string, attributes: readonly Attribute[], inputs: readonly number[]): number {
    return (this.backend.binding.executeOp(name, attributes, inputs, 1)[0] as { id: number }).id;
  }

  private type(name: string, value: number): Attribute {
    return { name, type: this.backend.binding.TF_ATTR_TYPE, value };
  }

  private flag(name: string, value: boolean): Attribute {
    return { name, type: this.backend.binding.TF_ATTR_BOOL, value };
  }
}

/** Random bits of numbers between 2^-7 and 2 of either sign, in both types. */
export function randomBytes(count: number, dtype: 'bfloat16' | 'float16'): Uint8Array {
  const [smallest, range] = dtype === 'bfloat16' ? [0x3c00, 0x0400] : [0x2000, 0x2000];
  let state = 1;
  const bits = new Uint16Array(count);
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bits[i] = ((state >>> 16) & 0x8000) | (smallest + ((state >>> 8) % range));
  }
  return new Uint8Array(bits.buffer);
}
