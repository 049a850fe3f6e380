/**
 * Loads the native folder that VISPRUNER_NATIVE names and multiplies with it: node check.js. The answer goes to the parent as a message; a process of its
 * own, because a binding that is broken takes its process along.
 */
import { loadNative } from '../load_node';
import { bindingVersion } from '../operations_node';
import { nativeDevice } from '../processor_node';

export interface Checked {
  readonly tensorflow: string;
  readonly patch: number;
  readonly device: 'cpu' | 'gpu';
}

async function check(): Promise<Checked> {
  const tf = loadNative();
  if (tf === undefined || (await tf.setBackend('tensorflow')) !== true) throw new Error('the backend "tensorflow" does not start');
  const sum = (await tf.matMul(tf.ones([2, 3]), tf.ones([3, 2])).data())[0];
  if (sum !== 3) throw new Error(`it computes wrongly: 3 expected, ${sum} found`);
  return { ...bindingVersion(), device: nativeDevice() };
}

void check().then(
  (checked) => process.send?.(checked, () => process.exit(0)),
  (error: unknown) => process.send?.(error instanceof Error ? error.message : String(error), () => process.exit(1)),
);
