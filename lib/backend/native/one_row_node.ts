import { type Attribute, attribute } from './operations_node';

/** What decides whether oneDNN's own kernel for one row can be called. */
export interface OneRowConditions {
  /** TensorFlow's version. */
  readonly tensorflow: string;
  /** Version of the additions to the binding, 0 without. */
  readonly patch: number;
  readonly device: 'cpu' | 'gpu';
  /** Whether TensorFlow multiplies in bfloat16 with the processor's instructions for it. */
  readonly fastBfloat16: boolean;
}

export const ONE_ROW_PRODUCT = '_MklNativeFusedMatMul';

/**
 * Whether oneDNN's own kernel for one row in bfloat16 can be called. A call where it can't is no exception but the end of the process, so everything
 * is asked before: the binding can pass the attributes, TensorFlow is the version that has the operation in this form, and oneDNN has bfloat16 here.
 */
export function hasOneRowProduct({ tensorflow, patch, device, fastBfloat16 }: OneRowConditions): boolean {
  return patch >= 1 && tensorflow.startsWith('2.21.') && device === 'cpu' && fastBfloat16;
}

/** Attributes of `ONE_ROW_PRODUCT` besides MatMul's: x W^T + bias, and what other fusions would need. */
export function oneRowAttributes(): Attribute[] {
  return [
    attribute.whole('num_args', 1),
    attribute.texts('fused_ops', ['BiasAdd']),
    attribute.real('epsilon', 0.0001),
    attribute.real('leakyrelu_alpha', 0.2),
    attribute.text('_kernel', 'MklNameChangeOp'),
  ];
}
