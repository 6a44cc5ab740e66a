import { bytesOfTensor, type Tensor } from '../../core/tensor.ts';

/** Binding sizes are padded to 16 bytes: kernels store up to four words at once. */
export const padded = (bytes: number): number => Math.max(16, Math.ceil(bytes / 16) * 16);

/** Dawn refuses views of shared memory, and WebGPU sizes that are no multiple of 4. */
export function upload(
  device: GPUDevice,
  to: { readonly buffer: GPUBuffer; readonly offset: number },
  t: Tensor,
): void {
  uploadBytes(device, to.buffer, to.offset, bytesOfTensor(t));
}

/** Bytes go up in pieces, so that no staging copy of a big tensor is made at once. */
const CHUNK = 8 << 20;

export function uploadBytes(device: GPUDevice, buffer: GPUBuffer, offset: number, bytes: Uint8Array): void {
  const whole = bytes.byteLength & ~3;
  for (let at = 0; at < whole; at += CHUNK) {
    const part = bytes.subarray(at, Math.min(whole, at + CHUNK));
    device.queue.writeBuffer(buffer, offset + at, unshared(part));
  }
  if (whole < bytes.byteLength) {
    const tail = new Uint8Array(4);
    tail.set(bytes.subarray(whole));
    device.queue.writeBuffer(buffer, offset + whole, tail);
  }
}

const unshared = (bytes: Uint8Array): Uint8Array<ArrayBuffer> =>
  bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);
