import { BITS, type DType } from '../../core/dtype.ts';
import { fail, SardonyxError } from '../../core/errors.ts';
import { byteLength, type GpuTensor, type Tensor, tensorOver } from '../../core/tensor.ts';

/** What only this module may do with a tensor. */
interface State {
  disposed: boolean;
  holds: number;
  readonly free: (() => void) | null;
}
const states = new WeakMap<object, State>();
const lost = new WeakSet<GPUDevice>();
const watched = new WeakSet<GPUDevice>();

/** Bytes of a tensor as copies move it: whole words. */
export const copiedBytes = (t: { readonly dtype: DType; readonly shape: readonly number[] }): number =>
  Math.ceil(byteLength(t) / 4) * 4;

/**
 * A tensor over a buffer of the caller's, to feed without a copy to the host: row-major from `offset` (in bytes, a
 * multiple of 4; default 0). The buffer needs the usage COPY_SRC and whole words; it stays the caller's to destroy, and
 * may be changed when runs that were given it have resolved.
 *
 * @throws input_shape if the buffer is too small, input_dtype for types without bytes, option_invalid for a wrong
 * usage, offset or device
 */
export function gpuTensor<D extends DType>(
  dtype: D,
  shape: readonly number[],
  buffer: GPUBuffer,
  { device, offset = 0 }: { readonly device: GPUDevice; readonly offset?: number },
): GpuTensor<D> {
  if (BITS[dtype] === undefined || dtype === 'string') fail('input_dtype', `a GPU buffer holds no ${dtype}`);
  if (!Array.isArray(shape) || shape.some((d) => !Number.isSafeInteger(d) || d < 0))
    fail('input_shape', `[${shape}] is no shape`);
  if (typeof device?.createBuffer !== 'function')
    fail('option_invalid', 'say which device the buffer is of: { device }');
  if (!Number.isSafeInteger(offset) || offset < 0 || offset % 4 !== 0)
    fail('option_invalid', `the offset of a GPU tensor is a multiple of 4, not ${offset}`);
  if ((buffer.usage & GPUBufferUsage.COPY_SRC) === 0)
    fail('option_invalid', `the buffer ${buffer.label} needs the usage COPY_SRC`);
  const need = copiedBytes({ dtype, shape });
  if (offset + need > buffer.size)
    fail('input_shape', `${dtype}[${shape}] takes ${need} bytes from offset ${offset}; the buffer has ${buffer.size}`);
  return makeGpuTensor(device, { dtype, shape, buffer, offset }, null, (t) => readAlone(device, t));
}

export type Place<D extends DType = DType> = Pick<GpuTensor<D>, 'dtype' | 'shape' | 'buffer' | 'offset'>;

/** `free` is called once, when the tensor is disposed and nobody holds it; null: the buffer is the caller's. */
export function makeGpuTensor<D extends DType>(
  device: GPUDevice,
  place: Place<D>,
  free: (() => void) | null,
  read: (t: GpuTensor<D>) => Promise<Tensor<D>>,
): GpuTensor<D> {
  watch(device);
  const state: State = { disposed: false, holds: 0, free };
  const dispose = (): void => {
    if (state.disposed) return;
    state.disposed = true;
    if (state.holds === 0) free?.();
  };
  const t: GpuTensor<D> = {
    ...place,
    device,
    dispose,
    [Symbol.dispose]: dispose,
    read: async () => {
      const release = holdGpuTensor(t);
      try {
        refuseLost(device);
        return await read(t);
      } finally {
        release();
      }
    },
  };
  states.set(t, state);
  return t;
}

function watch(device: GPUDevice): void {
  if (watched.has(device)) return;
  watched.add(device);
  void device.lost.then(() => lost.add(device));
}
function refuseLost(device: GPUDevice): void {
  if (lost.has(device))
    fail(
      'device_lost',
      "the device of this GPU tensor was lost, and its contents with it; make it again on the session's device now",
    );
}

/**
 * Puts off what `dispose` frees until the answer is called. @throws value_disposed, and input_device for what is no GPU
 * tensor
 */
export function holdGpuTensor(t: GpuTensor): () => void {
  const state =
    states.get(t) ?? fail('input_device', 'make GPU tensors with gpuTensor(dtype, shape, buffer, { device })');
  if (state.disposed) fail('value_disposed', `the GPU tensor ${t.dtype}[${t.shape}] was disposed`);
  state.holds++;
  let held = true;
  return () => {
    if (!held) return;
    held = false;
    if (--state.holds === 0 && state.disposed) state.free?.();
  };
}

/** Whether the buffer is a caller's, so that only the GPU knows what is wrong with it. */
export const isCallers = (t: GpuTensor): boolean => states.get(t)?.free === null;

/** Checks that a tensor can be used on this device now. @throws device_lost, input_device */
export function checkGpuTensor(t: GpuTensor, device: GPUDevice): void {
  refuseLost(t.device);
  if (t.device !== device)
    fail(
      'input_device',
      'the GPU tensor lies on another device than the session; open both on one: { device: gpuDevice }',
    );
  if (t.buffer.mapState !== 'unmapped') fail('input_device', `the buffer ${t.buffer.label} is mapped; unmap it first`);
}

/** Reads through a buffer made for it: for tensors that no session keeps a staging buffer for. */
export async function readAlone<D extends DType>(device: GPUDevice, t: Place<D>): Promise<Tensor<D>> {
  const size = copiedBytes(t);
  if (size === 0) return tensorOver(t.dtype, t.shape, new Uint8Array(0)) as Tensor<D>;
  const staging = device.createBuffer({
    size,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    label: 'readback',
  });
  try {
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(t.buffer, t.offset, staging, 0, size);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    return tensorOver(t.dtype, t.shape, new Uint8Array(staging.getMappedRange().slice(0))) as Tensor<D>;
  } catch (cause) {
    refuseLost(device);
    throw new SardonyxError('device_fault', `a GPU tensor could not be read: ${(cause as Error).message}`, [], {
      cause,
    });
  } finally {
    staging.destroy();
  }
}
