import { BackendError } from '../../layers/errors';

/** What is used of tfjs's backend and of its device. */
export interface FailingBackend {
  readonly device: {
    readonly limits: { readonly maxBufferSize: number; readonly maxStorageBufferBindingSize: number };
    readonly lost: Promise<{ readonly message: string }>;
    addEventListener(type: 'uncapturederror', listener: (event: ErrorEventOfDevice) => void): void;
  };
  readonly bufferManager: { acquireBuffer(size: number, ...rest: unknown[]): object };
  read(dataId: object): Promise<unknown>;
}

interface ErrorEventOfDevice {
  readonly error: { readonly message: string };
  preventDefault(): void;
}

/**
 * Makes failures of the GPU errors of the call that they spoil. WebGPU reports them to nobody in particular, and tfjs does not listen: what is computed from a
 * buffer that could not be made reads as zeros.
 *
 * A buffer over the device's limits is refused before it is made, which harms nothing else. Of any other failure (memory has run out, the driver was
 * restarted) it is not known what it spoiled, weights perhaps: every later reading fails.
 */
export function reportFailures(backend: FailingBackend): void {
  const { device, bufferManager } = backend;
  const most = Math.min(device.limits.maxBufferSize, device.limits.maxStorageBufferBindingSize);
  const acquire = bufferManager.acquireBuffer.bind(bufferManager);
  bufferManager.acquireBuffer = (size, ...rest) => {
    if (size > most) throw tooLarge(size, most);
    return acquire(size, ...rest);
  };
  let failure: string | undefined;
  device.addEventListener('uncapturederror', (event) => {
    event.preventDefault(); // it is told by the error below
    failure ??= event.error.message;
  });
  void device.lost.then(({ message }) => {
    failure ??= `the device was lost: ${message}`;
  });
  const read = backend.read.bind(backend);
  backend.read = async (dataId) => {
    const values = await read(dataId).catch((cause: unknown) => {
      throw failed(failure ?? String(cause), cause);
    });
    if (failure !== undefined) throw failed(failure);
    return values;
  };
}

function tooLarge(size: number, most: number): BackendError {
  const mib = (bytes: number) => Math.round(bytes / 2 ** 20);
  return new BackendError(
    'TOO_LARGE_FOR_WEBGPU',
    `A tensor of ${mib(size)} MiB is needed, and the GPU's largest buffer is ${mib(most)} MiB. Shorten the prompt, give fewer images, or keep fewer visual tokens ("prune").`,
  );
}

function failed(message: string, cause?: unknown): BackendError {
  return new BackendError(
    'WEBGPU_FAILED',
    `The GPU failed: ${message.split('\n')[0]} What it computed since can't be trusted. Load the model anew in another process or worker; if its memory ran out, take a smaller model or keep fewer visual tokens ("prune").`,
    { cause },
  );
}
