import * as tf from '@tensorflow/tfjs';
import { type FailingBackend, reportFailures } from '../../../lib/backend/webgpu_failures';
import { withoutLeaks } from '../../support/backends';
import { describeWebgpu, useWebgpu } from '../../support/webgpu';

/** A backend whose device is lost when asked to be. */
function losable(read: () => Promise<unknown>): { backend: FailingBackend; lose(message: string): void } {
  let lose: (loss: { message: string }) => void = () => {};
  const lost = new Promise<{ message: string }>((resolve) => {
    lose = resolve;
  });
  const device = { limits: { maxBufferSize: 8, maxStorageBufferBindingSize: 4 }, lost, addEventListener() {} };
  const backend = { device, bufferManager: { acquireBuffer: () => ({}) }, read };
  reportFailures(backend);
  return { backend, lose: (message) => lose({ message }) };
}

describe('a lost device', () => {
  it('fails the reading that it leaves without an answer, and those after it', async () => {
    const { backend, lose } = losable(async () => [1]);
    await expect(backend.read({})).resolves.toEqual([1]);
    lose('the driver was restarted');
    await Promise.resolve();
    const refused = {
      code: 'WEBGPU_FAILED',
      message: expect.stringMatching(/the device was lost: the driver was restarted.*another process or worker/),
    };
    await expect(backend.read({})).rejects.toMatchObject(refused);
    await expect(backend.read({})).rejects.toMatchObject(refused);
  });

  it('fails a reading that is rejected', async () => {
    const { backend } = losable(() => Promise.reject(new Error('mapping was aborted')));
    await expect(backend.read({})).rejects.toMatchObject({ code: 'WEBGPU_FAILED', message: expect.stringMatching(/mapping was aborted/) });
  });
});

it('the smaller of two limits holds for buffers', () => {
  const { backend } = losable(async () => []);
  expect(() => backend.bufferManager.acquireBuffer(4)).not.toThrow();
  expect(() => backend.bufferManager.acquireBuffer(5)).toThrow(expect.objectContaining({ code: 'TOO_LARGE_FOR_WEBGPU' }));
});

describeWebgpu('failures of webgpu', () => {
  beforeAll(useWebgpu);

  const sumOf = async (x: tf.Tensor) => {
    const sum = tf.sum(x);
    const [value] = await sum.data();
    sum.dispose();
    return value;
  };

  it('a tensor over the limit is refused, where tfjs would go on with zeros, and harms nothing', async () => {
    const side = Math.ceil(Math.sqrt((tf.backend() as unknown as FailingBackend).device.limits.maxBufferSize / 4)) + 1;
    await withoutLeaks(async () => {
      const [row, column] = [tf.ones([1, side]), tf.ones([side, 1])];
      const product = () => tf.tidy(() => tf.add(row, column)); // [side, side]
      expect(product).toThrow(expect.objectContaining({ code: 'TOO_LARGE_FOR_WEBGPU', message: expect.stringMatching(/MiB is needed.*"prune"/) }));
      expect(await sumOf(row)).toBe(side);
      tf.dispose([row, column]);
    });
  });

  it('an error that the GPU reports is that of the next reading and of all later ones', async () => {
    const x = tf.ones([4]);
    expect(await sumOf(x)).toBe(4);
    const { device } = tf.backend() as unknown as { device: { createBuffer(options: object): object } };
    device.createBuffer({ size: 16, usage: 0 }); // no use: not valid, and nobody waits for it
    for (let i = 0; i < 2; i++)
      await expect(sumOf(x)).rejects.toMatchObject({ code: 'WEBGPU_FAILED', message: expect.stringMatching(/another process or worker/) });
  });
});
