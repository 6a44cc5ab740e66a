import { beforeAll, describe, expect, it } from 'vitest';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { uploadBytes } from '../src/4-run/webgpu/transfer.ts';
import { weightStore } from '../src/4-run/webgpu/weights.ts';
import { BASE_GPU } from '../src/core/plan.ts';
import type { Constant } from '../src/core/graph.ts';
import { planModel, type SardonyxError, Session, type Tensor, tensor } from '../src/index.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

describe('weights', () => {
  beforeAll(() => requestGpuDevice({ allowSoftware: true })); // brings WebGPU's constants
  it('are read no faster than the device takes them', async () => {
    let onTheWay = 0;
    let most = 0;
    const sent: number[] = [];
    const device = {
      lost: new Promise(() => undefined),
      queue: {
        writeBuffer: (_: GPUBuffer, __: number, bytes: Uint8Array) => {
          most = Math.max(most, (onTheWay += bytes.byteLength));
          sent.push(bytes.byteLength);
        },
        onSubmittedWorkDone: () => {
          const arrived = onTheWay;
          return new Promise<void>((resolve) => {
            setTimeout(() => {
              onTheWay -= arrived;
              resolve();
            }, 5);
          });
        },
      },
    } as unknown as GPUDevice;
    const store = weightStore(
      device,
      BASE_GPU,
      (size) => ({ size }) as GPUBuffer,
      () => undefined,
    );
    const MIB = 1 << 20;
    const part = new Uint8Array(8 * MIB);
    const stored = (mib: number, order: number): Constant => ({
      dtype: 'uint8',
      shape: [mib * MIB],
      peek: () => null,
      load: () => {
        throw new Error('read whole');
      },
      stored: { order, read: (_, length) => part.subarray(0, length) },
    });
    const here: Constant = {
      dtype: 'uint8',
      shape: [50 * MIB],
      peek: () => tensor('uint8', [50 * MIB], new Uint8Array(50 * MIB)),
      load: () => {
        throw new Error('read whole');
      },
    };
    await store.place(
      [
        { constant: 0, bytes: 40 * MIB },
        { constant: 1, bytes: 50 * MIB },
        { constant: 2, bytes: 60 * MIB },
      ],
      [stored(40, 1), here, stored(60, 0)],
      { run: () => [], pack: () => part },
    );
    expect(sent.reduce((a, b) => a + b, 0)).toBe(150 * MIB);
    expect(Math.max(...sent)).toBeLessThanOrEqual(8 * MIB);
    expect(most).toBeLessThanOrEqual(40 * MIB);
  });

  it('of any length arrive whole', async () => {
    const { device } = await requestGpuDevice({ allowSoftware: true });
    const bytes = Uint8Array.from({ length: (8 << 20) + 5 }, (_, i) => (i * 31) & 255);
    const buffer = device.createBuffer({
      size: (8 << 20) + 8,
      usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC,
    });
    const back = device.createBuffer({ size: buffer.size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
    uploadBytes(device, buffer, 0, bytes);
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, back, 0, buffer.size);
    device.queue.submit([encoder.finish()]);
    await back.mapAsync(GPUMapMode.READ);
    expect(Buffer.compare(Buffer.from(back.getMappedRange(), 0, bytes.length), Buffer.from(bytes))).toBe(0);
  });

  it('that the device cannot bind are named, with what they take and what it allows', async () => {
    const model = encode({
      input: [port('x', [1, 64], 'int64')],
      output: [port('y', [1, 64])],
      initializer: [initializer('table', tensor('float32', [64, 64], noise(4096)))],
      node: [node('GatherElements', ['table', 'x'], ['y'])],
    });
    const caps = { ...BASE_GPU, limits: { ...BASE_GPU.limits, maxStorageBufferBindingSize: 8192 } };
    const { plan } = await planModel(model, { caps });
    expect(plan.steps.flatMap((s) => ('why' in s ? [s.why] : []))).toEqual([
      'table, float32[64,64], takes 16384 bytes, and the device binds 8192 at once',
    ]);
    const { device } = await requestGpuDevice({ allowSoftware: true, own: true });
    const narrow = new Proxy(device, {
      get: (d, key) => {
        if (key === 'limits')
          return new Proxy(d.limits, {
            get: (l, name) => (name === 'maxStorageBufferBindingSize' ? 8192 : Reflect.get(l, name, l)),
          });
        const value: unknown = Reflect.get(d, key, d);
        return typeof value === 'function' ? value.bind(d) : value;
      },
    });
    const refused = await Session.load(model, { device: narrow, strict: true, dims: {} }).then(
      () => null,
      (e: unknown) => e as SardonyxError,
    );
    expect(refused?.code).toBe('not_on_device');
    expect(refused?.message).toMatch(/table, float32\[64,64\], takes 16384 bytes/);
    await using session = await Session.load(model, { device: narrow });
    expect(
      (
        (
          await session.run({
            x: tensor(
              'int64',
              [1, 64],
              Array.from({ length: 64 }, (_, i) => i),
            ),
          })
        ).y as Tensor
      ).shape,
    ).toEqual([1, 64]);
    await session.release();
    device.destroy();
  });
});
