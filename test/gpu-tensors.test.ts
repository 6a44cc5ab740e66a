import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { numbers } from '../src/core/numbers.ts';
import {
  type Feeds,
  type GpuTensor,
  gpuTensor,
  SardonyxError,
  Session,
  type Tensor,
  tensor,
  type Value,
} from '../src/index.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

/** y = softmax(x * W), s = x + x: two outputs of a size that is no multiple of 16 bytes. */
const small = encode({
  input: [port('x', ['batch', 7])],
  output: [port('y', ['batch', 7]), port('s', ['batch', 7])],
  initializer: [initializer('W', tensor('float32', [7, 7], noise(49)))],
  node: [node('MatMul', ['x', 'W'], ['m']), node('Softmax', ['m'], ['y']), node('Add', ['x', 'x'], ['s'])],
});
const feed = (batch: number, seed = 3): { x: Tensor } => ({ x: tensor('float32', [batch, 7], noise(batch * 7, seed)) });
const values = (v: Value | undefined): number[] => Array.from(numbers(v as Tensor) as Float64Array);
const codeOf = async (f: () => unknown): Promise<string> => {
  try {
    await f();
  } catch (e) {
    expect(e).toBeInstanceOf(SardonyxError);
    return (e as SardonyxError).code;
  }
  throw new Error('nothing was thrown');
};
/** Bytes that come to the host while `f` runs. */
async function bytesRead(f: () => Promise<unknown>): Promise<number> {
  const spy = vi.spyOn(GPUBuffer.prototype, 'mapAsync');
  try {
    await f();
    return spy.mock.calls.reduce((sum, [, , size], i) => sum + (size ?? (spy.mock.contexts[i] as GPUBuffer).size), 0);
  } finally {
    spy.mockRestore();
  }
}
const STORAGE = 0x80;
const COPY_SRC = 4;
const COPY_DST = 8;

let device: GPUDevice;
beforeAll(async () => {
  ({ device } = await requestGpuDevice({ allowSoftware: true }));
});
/** A buffer of the caller's with `data` from `offset` on. */
function bufferOf(data: Float32Array, offset = 0, usage = STORAGE | COPY_SRC | COPY_DST): GPUBuffer {
  const buffer = device.createBuffer({ size: offset + data.byteLength, usage });
  if (usage & COPY_DST) device.queue.writeBuffer(buffer, offset, data as Float32Array<ArrayBuffer>);
  return buffer;
}

describe('tensors on the GPU', () => {
  it('hold what the host would get, all or by name', async () => {
    await using session = await Session.load(small, { device: 'webgpu' });
    expect(session.gpuDevice).toBe(device);
    const want = await session.run(feed(3));
    const all = await session.run(feed(3), { outputs: 'gpu' });
    for (const name of ['y', 's']) expect(await all[name]!.read()).toEqual(want[name]);
    const some = await session.run(feed(3), { outputs: { y: 'gpu' } });
    expect(some.s).toEqual(want.s);
    expect(await (some.y as GpuTensor).read()).toEqual(want.y);
  });

  it('go from session to session without a readback', async () => {
    const second = encode({
      input: [port('y', ['n', 7]), port('s', ['n', 7])],
      output: [port('z', ['n', 7])],
      node: [node('Mul', ['y', 's'], ['m']), node('Neg', ['m'], ['z'])],
    });
    await using a = await Session.load(small, { device });
    await using b = await Session.load(second, { device });
    const host = await b.run(await a.run(feed(5)));
    let got: GpuTensor | undefined;
    expect(
      await bytesRead(async () => {
        const between = await a.run(feed(5), { outputs: 'gpu' });
        const run = b.run(between, { outputs: 'gpu' });
        for (const t of Object.values(between)) t.dispose(); // the run has them until it took them
        got = (await run).z;
      }),
    ).toBe(0);
    expect(await got!.read()).toEqual(host.z);
  });

  it('are not overwritten by later runs, and a steady loop makes no buffers', async () => {
    await using session = await Session.load(small, { device: 'webgpu' });
    const wants = await Promise.all([1, 2, 3].map((seed) => session.run(feed(4, seed))));
    const kept = await Promise.all([1, 2, 3].map((seed) => session.run(feed(4, seed), { outputs: 'gpu' })));
    for (const [i, k] of kept.entries()) expect(await k.y!.read()).toEqual(wants[i]!.y);
    for (const k of kept) for (const t of Object.values(k)) t.dispose();
    const { runs: _, ...before } = session.made;
    const bytes = session.bytes;
    for (let i = 0; i < 20; i++)
      for (const t of Object.values(await session.run(feed(4, i), { outputs: 'gpu' }))) t.dispose();
    const { runs: __, ...after } = session.made;
    expect(after).toEqual(before);
    expect(session.bytes).toBe(bytes);
  });

  it('outlive their session', async () => {
    const session = await Session.load(small, { device: 'webgpu' });
    const want = await session.run(feed(2));
    const { y } = await session.run(feed(2), { outputs: { y: 'gpu' } });
    await session.release();
    expect(session.bytes).toBe((y as GpuTensor).buffer.size);
    expect(await (y as GpuTensor).read()).toEqual(want.y);
    (y as GpuTensor).dispose();
    expect(session.bytes).toBe(0);
  });

  it('may be made of buffers of the caller, at an offset', async () => {
    await using session = await Session.load(small, { device: 'webgpu' });
    const want = await session.run(feed(3));
    const x = gpuTensor('float32', [3, 7], bufferOf(feed(3).x.data as Float32Array, 12), { device, offset: 12 });
    expect(await x.read()).toEqual(feed(3).x);
    expect(await session.run({ x })).toEqual(want);
    x.buffer.destroy();
    expect(await codeOf(() => session.run({ x }))).toBe('input_device');
    expect(await session.run(feed(3))).toEqual(want);
  });

  it('are read by the host where the plan needs their values', async () => {
    const model = encode({
      input: [port('x', ['n']), port('shape', [2], 'int64')],
      output: [port('y', ['a', 'b'])],
      node: [node('Reshape', ['x', 'shape'], ['r']), node('Neg', ['r'], ['y'])],
    });
    await using session = await Session.load(model, { device: 'webgpu' });
    const buffer = device.createBuffer({ size: 16, usage: COPY_SRC | COPY_DST });
    device.queue.writeBuffer(buffer, 0, new BigInt64Array([3n, 2n]));
    const { y } = await session.run({
      x: tensor('float32', [6], noise(6)),
      shape: gpuTensor('int64', [2], buffer, { device }),
    });
    expect((y as Tensor).shape).toEqual([3, 2]);
  });

  it('report a bad value when they are read', async () => {
    const model = encode({
      input: [port('x', [4, 2]), port('i', ['n'], 'int64')],
      output: [port('y', ['n', 2])],
      node: [node('Gather', ['x', 'i'], ['y'])],
    });
    await using session = await Session.load(model, { device: 'webgpu' });
    const run = (i: number): Promise<Record<string, GpuTensor>> =>
      session.run({ x: tensor('float32', [4, 2], noise(8)), i: tensor('int64', [2], [1, i]) }, { outputs: 'gpu' });
    const bad = await run(9);
    const good = await run(2);
    expect(await codeOf(() => bad.y!.read())).toBe('value_invalid');
    expect((await good.y!.read()).data).toHaveLength(4);
  });

  it('are refused where they do not fit, before anything runs', async () => {
    await using session = await Session.load(small, { device: 'webgpu' });
    await using wasm = await Session.load(small, { device: 'wasm' });
    const make = (shape: number[], options: { offset?: number; usage?: number; floats?: number } = {}): GpuTensor =>
      gpuTensor('float32', shape, bufferOf(new Float32Array(options.floats ?? 7), 0, options.usage), {
        device,
        ...(options.offset ? { offset: options.offset } : {}),
      });
    expect(await codeOf(() => make([2, 7]))).toBe('input_shape');
    expect(await codeOf(() => make([1, 7], { offset: 4 }))).toBe('input_shape');
    expect(await codeOf(() => make([1, 6], { offset: 2 }))).toBe('option_invalid');
    expect(await codeOf(() => make([1, 7], { usage: STORAGE | COPY_DST }))).toBe('option_invalid');
    expect(await codeOf(() => make([-1, 7]))).toBe('input_shape');
    expect(await codeOf(() => gpuTensor('string', [1], bufferOf(new Float32Array(7)), { device }))).toBe('input_dtype');
    const x = make([1, 7]);
    expect(await codeOf(() => session.run({ x: make([1, 6]) }))).toBe('input_shape');
    expect(await codeOf(() => session.run({ x: gpuTensor('int32', [1, 7], x.buffer, { device }) }))).toBe(
      'input_dtype',
    );
    expect(await codeOf(() => session.run({ x: { ...x } }))).toBe('input_device');
    expect(await codeOf(() => wasm.run({ x }))).toBe('not_on_device');
    expect(await codeOf(() => wasm.run(feed(1), { outputs: 'gpu' }))).toBe('not_on_device');
    expect(await codeOf(() => session.run(feed(1), { outputs: { z: 'gpu' } }))).toBe('output_unknown');
    expect(await codeOf(() => session.run(feed(1), { outputs: 'disk' as 'gpu' }))).toBe('option_invalid');
    const { device: other } = await requestGpuDevice({ allowSoftware: true, own: true });
    const elsewhere = gpuTensor('float32', [1, 7], other.createBuffer({ size: 28, usage: COPY_SRC }), {
      device: other,
    });
    expect(await codeOf(() => session.run({ x: elsewhere }))).toBe('input_device');
    other.destroy();
    await other.lost;
    expect(await codeOf(() => session.run({ x: elsewhere }))).toBe('device_lost');
    x.dispose();
    expect(await codeOf(() => session.run({ x }))).toBe('value_disposed');
    expect(await codeOf(() => x.read())).toBe('value_disposed');
    expect(values((await session.run(feed(2))).y)).toHaveLength(14);
  });
});

const llm = resolve(import.meta.dirname, '../../shared/data/models/stories260k-gqa-fp32/model.onnx');
describe.skipIf(!existsSync(llm))('a decode loop', () => {
  const CACHE = /^past_key_values\.(.*)$/;
  /** Greedy tokens, with the cache on the host or on the GPU. */
  async function decode(session: Session, steps: number, cache: 'cpu' | 'gpu'): Promise<number[]> {
    const caches = session.inputs.map((p) => p.name).filter((name) => CACHE.test(name));
    const present = (name: string): string => name.replace(CACHE, 'present.$1');
    const outputs = Object.fromEntries(caches.map((name) => [present(name), cache]));
    const empty = tensor('float32', [1, 4, 0, 16], new Float32Array(0));
    let past: Feeds = Object.fromEntries(caches.map((name) => [name, empty]));
    const tokens = [1];
    for (let i = 0; i < steps; i++) {
      const results: Record<string, Value | GpuTensor> = await session.run(
        {
          ...past,
          input_ids: tensor('int64', [1, 1], [tokens.at(-1)!]),
          attention_mask: tensor('int64', [1, i + 1], new Array<number>(i + 1).fill(1)),
        },
        { outputs },
      );
      const logits = (results.logits as Tensor).data as Float32Array;
      tokens.push(logits.indexOf(Math.max(...logits)));
      for (const t of Object.values(past)) (t as Partial<GpuTensor>).dispose?.();
      past = Object.fromEntries(caches.map((name) => [name, results[present(name)]!]));
    }
    for (const t of Object.values(past)) (t as Partial<GpuTensor>).dispose?.();
    return tokens;
  }

  it('brings nothing but the logits to the host, and makes no buffers', async () => {
    await using session = await Session.load(llm, { device: 'webgpu' });
    const STEPS = 8;
    const want = await decode(session, STEPS, 'cpu');
    let got: number[] = [];
    const read = await bytesRead(async () => {
      got = await decode(session, STEPS, 'gpu');
    });
    expect(got).toEqual(want);
    expect(read).toBe(STEPS * (512 * 4 + 256 * session.plan!.faults.length)); // and the words that report a bad index
    const made = session.made.buffers;
    expect(await decode(session, STEPS, 'gpu')).toEqual(want);
    expect(session.made.buffers).toBe(made);
  });
});
