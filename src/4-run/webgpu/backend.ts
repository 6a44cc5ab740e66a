import { fail } from '../../core/errors.ts';
import type { GpuCaps } from '../../core/plan.ts';
import type { Value } from '../../core/tensor.ts';
import type { Backend, Held } from '../executable.ts';
import { capsOf, isNode, requestGpuDevice } from './device.ts';
import { bindPlan, type GpuAround, type GpuRef } from './executable.ts';
import { checkGpuTensor, holdGpuTensor, isCallers } from './gpu-tensor.ts';
import { onLoss } from './loss.ts';
import { makePool } from './pool.ts';
import { makeReadback } from './readback.ts';
import { makeRecorder } from './recorder.ts';
import { weightStore } from './weights.ts';

/**
 * Milliseconds submitted at once, where pages must draw in between; and elsewhere, where a signal may abort the run.
 */
const PAGE_SLICE = 8;
const ABORTABLE_SLICE = 32;

/** The GPU path. `device`: the caller's, never destroyed by us; without it one that is shared by all sessions. */
export async function webgpuBackend(
  own?: GPUDevice,
  options: { readonly allowSoftware?: boolean } = {},
): Promise<Backend> {
  const { device, caps } = own
    ? { device: own, caps: capsOf(own) }
    : await requestGpuDevice({ allowSoftware: options.allowSoftware ?? true });
  return makeBackend(device, caps);
}

function makeBackend(device: GPUDevice, caps: GpuCaps): Backend {
  const made = { buffers: 0, pipelines: 0, bindGroups: 0, runs: 0 };
  let bytes = 0;
  let lost: string | null = null;
  let released = false;
  let forget = (): void => undefined;
  const lostReason = new Promise<string>((resolve) => {
    forget = onLoss(device, (reason) => resolve((lost = reason)));
  });
  const checkAlive = (): void => {
    if (lost !== null) fail('device_lost', `the GPU device is lost (${lost})`);
  };

  const create = (size: number, usage: number, label: string): GPUBuffer => {
    made.buffers++;
    bytes += size;
    return device.createBuffer({ size, usage, label });
  };
  const destroy = (buffer: GPUBuffer): void => {
    bytes -= buffer.size;
    buffer.destroy();
  };
  const recorder = makeRecorder(device);
  const readback = makeReadback(recorder, create, destroy, checkAlive);
  const weights = weightStore(device, caps, create, destroy);
  const pool = makePool(
    caps.limits.maxBufferSize,
    (size) => create(size, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST, 'result'),
    destroy,
  );
  const checks: Promise<GPUError | null>[] = [];
  let copied = 0;
  const copy: GpuAround['copy'] = (from, to, size) => {
    copied += size;
    recorder.encoder().copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, size);
  };
  const around: GpuAround = {
    device,
    caps,
    made,
    recorder,
    readback,
    weights,
    create,
    destroy,
    checkAlive,
    checks,
    copy,
    sliceOf: (signal) => backend.slice ?? (isNode() ? (signal ? ABORTABLE_SLICE : 0) : PAGE_SLICE),
  };

  const backend: Backend = {
    caps,
    made,
    gpu: device,
    get bytes() {
      return bytes;
    },
    lost: lostReason,
    instantiate: (plan, constants, work) => bindPlan(around, plan, constants, work),
    async read(held) {
      const onDevice = held.flatMap((h, i) =>
        h.on === 'device' ? [{ i, ...(h.ref as GpuRef), dtype: h.dtype, shape: h.shape }] : [],
      );
      if (onDevice.length === 0) recorder.flush();
      const tensors =
        onDevice.length > 0 || (held.length > 0 && readback.watched.size > 0) ? await readback.read(onDevice) : [];
      for (const check of checks.splice(0)) {
        const error = await check;
        if (error) fail('input_device', `the GPU refuses a tensor that was given: ${error.message}`);
      }
      const out: (Value | null)[] = held.map((h) => (h.on === 'host' ? h.value : null));
      onDevice.forEach((d, k) => {
        out[d.i] = tensors[k]!;
      });
      return out as Value[];
    },
    tensors: {
      hold: holdGpuTensor,
      take(t): Held {
        checkGpuTensor(t, device);
        const ref: GpuRef = { buffer: t.buffer, offset: t.offset, ...(isCallers(t) ? { callers: true } : {}) };
        return { on: 'device', dtype: t.dtype, shape: t.shape, ref };
      },
      results: async () => (await import('./results.ts')).gpuResults(around, pool, () => released),
      get copiedBytes() {
        return copied;
      },
    },
    release() {
      released = true;
      forget();
      recorder.flush();
      readback.release();
      pool.release();
      weights.release();
    },
  };
  return backend;
}
