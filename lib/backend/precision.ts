import { BackendError } from '../../layers/errors';
import type { TensorFactory } from '../../weights/sources';
import type { BackendName } from './backends';
import { float32Factory } from './matrices';

/** What the matrices and embeddings of a model are held in. Norms, biases and all values between them are float32. */
export type WeightDtype = 'float32' | 'bfloat16' | 'float16' | 'int8';

/** What may be asked for. `auto`: the fastest that loses nothing of how the checkpoint is stored, or little; never int8. */
export const WEIGHT_DTYPES: readonly ('auto' | WeightDtype)[] = ['auto', 'float32', 'bfloat16', 'float16', 'int8'];

export interface Precision {
  readonly dtype: WeightDtype;
  readonly factory: TensorFactory;
  /** What makes it slower than it could be. */
  readonly warnings: readonly string[];
}

/**
 * How a model's weights are held on the backend in use. `auto` takes half precision where it is the faster one and where the weights are stored in half
 * precision: float16 on `cuda`; on `tensorflow` bfloat16 when the processor multiplies in it, else, with the compiled binding, what they are stored in,
 * which is exact.
 *
 * @param asked default `auto`
 * @param stored what (most of) the checkpoint is stored in
 * @throws BackendError `UNKNOWN_PRECISION`, `DTYPE_UNAVAILABLE`
 */
export async function choosePrecision(
  asked: 'auto' | WeightDtype | undefined,
  backend: BackendName,
  stored: 'float32' | 'bfloat16' | 'float16',
): Promise<Precision> {
  const wanted = asked ?? 'auto';
  if (!WEIGHT_DTYPES.includes(wanted)) {
    throw new BackendError('UNKNOWN_PRECISION', `Unknown dtype "${String(wanted)}". Known: ${WEIGHT_DTYPES.join(', ')}.`);
  }
  if (backend !== 'tensorflow' && backend !== 'cuda') {
    if (wanted === 'auto' || wanted === 'float32') return { dtype: 'float32', factory: float32Factory(), warnings: [] };
    throw new BackendError(
      'DTYPE_UNAVAILABLE',
      `dtype "${wanted}" is not possible on the backend "${backend}", which has float32 only. Use the backend "tensorflow" or "cuda" (vispruner doctor tells how), or dtype "auto".`,
    );
  }
  const { fastHalf, halfWarnings, hasProducts, nativeFactory, reducedHindrance } = await import('./native/factory_node');
  const dtype = wanted === 'auto' ? fastHalf(backend, stored) : wanted;
  if (dtype === undefined || dtype === 'float32') {
    return { dtype: 'float32', factory: hasProducts() ? nativeFactory('float32') : float32Factory(), warnings: [] };
  }
  const hindrance = reducedHindrance(dtype);
  if (hindrance !== undefined) throw new BackendError('DTYPE_UNAVAILABLE', `${hindrance} Use dtype "auto" otherwise.`);
  return { dtype, factory: nativeFactory(dtype), warnings: halfWarnings(dtype) };
}
