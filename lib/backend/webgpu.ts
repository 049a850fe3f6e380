import * as tf from '@tensorflow/tfjs';
import { type BufferPool, trimFreeBuffers } from './webgpu_buffers';
import { type FailingBackend, reportFailures } from './webgpu_failures';

/** What is read of an adapter; browsers before `info.isFallbackAdapter` had the mark on the adapter itself. */
interface Adapter {
  readonly isFallbackAdapter?: boolean;
  readonly info?: {
    readonly vendor: string;
    readonly architecture: string;
    readonly device: string;
    readonly description: string;
    readonly isFallbackAdapter?: boolean;
  };
}

interface Gpu {
  requestAdapter(options: { readonly powerPreference: 'high-performance' }): Promise<Adapter | null>;
}

/** What is used of tfjs's backend. */
interface WebgpuBackend extends FailingBackend {
  readonly bufferManager: FailingBackend['bufferManager'] & BufferPool;
  /** Whose buffers are in commands that are still to be submitted. */
  readonly commandQueueOwnedIds: WeakSet<object>;
  readonly commandEncoder: object | null;
  endComputePassEncoder(): void;
  ensureCommandEncoderReady(): void;
  submitQueue(): void;
  uploadToGPU(dataId: object): void;
  write(values: tf.BackendValues | null | undefined, shape: number[], dtype: tf.DataType): object;
}

/** Drivers that compute on the processor: SwiftShader of Chromium, Mesa's two, Windows' WARP. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|basic render|warp/i;

/** Values from which a tensor goes to the GPU when it is made, and not when it is first used: 4 MiB. An image has fewer, whose values are read here first. */
const EARLY = 2 ** 20;

/** Dispatches in one submission at most; no block has so many. */
const DISPATCHES = 4096;

/** Fewer workgroups than a product can have; 0 is the backend's own choice. */
const NEVER = 0.5;

/** What was found of WebGPU on this platform. */
export interface WebgpuDevice {
  /** Why there is none. */
  readonly reason?: string;
  /** The driver's name where it computes on the processor. */
  readonly software?: string;
}

/** What tfjs will find: it asks for the same adapter. */
export async function findWebgpu(): Promise<WebgpuDevice> {
  const gpu = typeof navigator === 'undefined' ? undefined : (navigator as { readonly gpu?: Gpu }).gpu;
  if (!gpu) return { reason: 'this platform has no WebGPU (pages have it in a secure context only: https or localhost).' };
  if (tf.findBackendFactory('webgpu') === null) return { reason: 'import "@tensorflow/tfjs-backend-webgpu" first.' };
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) return { reason: 'WebGPU finds no GPU with a driver here (on Linux it needs Vulkan: the driver and the loader libvulkan.so.1).' };
  const name = softwareName(adapter);
  return name === undefined ? {} : { software: name };
}

/** The driver's name where an adapter is a processor in disguise. */
export function softwareName({ info, isFallbackAdapter }: Adapter): string | undefined {
  const names = info ? [info.description, info.device, info.architecture, info.vendor].filter(Boolean) : [];
  const marked = info?.isFallbackAdapter || isFallbackAdapter || names.some((name) => SOFTWARE.test(name));
  return marked ? (names[0] ?? 'a fallback adapter') : undefined;
}

const TUNED = Symbol.for('vispruner.webgpu');

/**
 * Makes tfjs's backend record what one stretch of synchronous code asks for (a decoder block, say) into one submission to the queue. By itself it submits
 * every 15 dispatches, each a call into the GPU's process. Large tensors go to the GPU when they are made, so that weights are not held here until they
 * are first used. In software, products are not cut into small workgroups for want of occupied cores: that costs 10 to 20 times the time there (SwiftShader).
 */
export function tuneWebgpu(software: boolean): void {
  const backend = tf.backend() as unknown as WebgpuBackend & { [TUNED]?: true };
  if (backend[TUNED]) return;
  backend[TUNED] = true;
  reportFailures(backend);
  trimFreeBuffers(backend.bufferManager);
  tf.env().set('WEBGPU_DEFERRED_SUBMIT_BATCH_SIZE', DISPATCHES);
  if (software) tf.env().set('WEBGPU_THRESHOLD_TO_INCREASE_WORKGROUPS_FOR_MATMUL', NEVER);
  let due = false;
  const ready = backend.ensureCommandEncoderReady.bind(backend);
  backend.ensureCommandEncoderReady = () => {
    ready();
    if (due) return;
    due = true;
    queueMicrotask(() => {
      due = false;
      if (backend.commandEncoder === null) return; // it was submitted by a read
      backend.endComputePassEncoder();
      backend.submitQueue();
    });
  };
  const write = backend.write.bind(backend);
  backend.write = (values, shape, dtype) => {
    const id = write(values, shape, dtype);
    if (!values || dtype === 'string' || values.length < EARLY) return id;
    backend.uploadToGPU(id);
    if (backend.commandEncoder !== null) backend.commandQueueOwnedIds.add(id);
    return id;
  };
}
