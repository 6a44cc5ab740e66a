/** Results that stay on the GPU: loaded when a run asks for the first. */
import { fail } from '../../core/errors.ts';
import { byteLength, bytesOfTensor, type Tensor } from '../../core/tensor.ts';
import type { GpuResults, Held } from '../executable.ts';
import type { GpuAround, GpuRef } from './executable.ts';
import { copiedBytes, makeGpuTensor, readAlone } from './gpu-tensor.ts';
import type { Pool } from './pool.ts';
import { uploadBytes } from './transfer.ts';

/** `released`: whether the session is. */
export function gpuResults(
  { device, caps, recorder, readback, copy }: GpuAround,
  pool: Pool,
  released: () => boolean,
): GpuResults {
  return {
    make({ dtype, shape }) {
      if (dtype === 'string') fail('type_mismatch', 'only tensors of numbers can stay on the GPU');
      const bytes = byteLength({ dtype, shape });
      const most = caps.limits.maxBufferSize;
      if (bytes > most)
        fail(
          'device_limit',
          `${dtype}[${shape}] takes ${bytes} bytes and a buffer of this device ${most}: ask for it on the host, with outputs 'cpu'`,
        );
      const buffer = pool.take(bytes);
      return makeGpuTensor(
        device,
        { dtype, shape, buffer, offset: 0 },
        () => pool.give(buffer),
        async (t) => (released() ? readAlone(device, t) : ((await readback.read([t]))[0]! as Tensor<typeof dtype>)),
      );
    },
    fill(pairs, rest) {
      const away = pairs.filter(
        ([to, value]) =>
          byteLength(to) > 0 &&
          !(
            value.on === 'device' &&
            (value.ref as GpuRef).buffer === to.buffer &&
            (value.ref as GpuRef).offset === to.offset
          ),
      );
      // What a copy would overwrite first goes aside; so does what moves within a buffer.
      const spare: GPUBuffer[] = [];
      const aside = (value: Held): Held => {
        if (value.on === 'host' || !away.some(([to]) => to.buffer === (value.ref as GpuRef).buffer)) return value;
        const size = copiedBytes(value);
        const ref: GpuRef = { buffer: pool.take(size), offset: 0 };
        spare.push(ref.buffer);
        copy(value.ref as GpuRef, ref, size);
        return { ...value, ref };
      };
      const values = away.map(([, value]) => aside(value));
      const others = rest.map(aside);
      if (values.some((v) => v.on === 'host')) recorder.flush();
      values.forEach((value, i) => {
        const [to] = away[i]!;
        if (value.on === 'device') copy(value.ref as GpuRef, to, copiedBytes(value));
        else uploadBytes(device, to.buffer, to.offset, bytesOfTensor(value.value as Tensor));
      });
      for (const buffer of spare) pool.give(buffer);
      return others;
    },
  };
}
