import { describe, expect, it } from 'vitest';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { type GpuTensor, gpuTensor, type Results, SardonyxError, Session, type Tensor, tensor } from '../src/index.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const SIZE = 128;
/** A chain of products, long enough to be cut off in, with noise from the host at its end. */
const chain = encode({
  input: [port('x', ['n', SIZE])],
  output: [port('y', ['n', SIZE]), port('r', ['n', SIZE])],
  initializer: [
    initializer(
      'W',
      tensor(
        'float32',
        [SIZE, SIZE],
        noise(SIZE * SIZE).map((v) => v / 8),
      ),
    ),
  ],
  node: [
    ...Array.from({ length: 60 }, (_, i) =>
      node('MatMul', [i === 0 ? 'x' : `m${i}`, 'W'], [i === 59 ? 'y' : `m${i + 1}`]),
    ),
    node('RandomNormalLike', ['x'], ['r']),
  ],
});
const feed = (n: number): { x: Tensor } => ({ x: tensor('float32', [n, SIZE], noise(n * SIZE, n)) });
async function errorOf(f: () => Promise<unknown>): Promise<SardonyxError> {
  try {
    await f();
  } catch (e) {
    expect(e).toBeInstanceOf(SardonyxError);
    return e as SardonyxError;
  }
  throw new Error('nothing was thrown');
}
/** What sessions give that never lose anything. */
async function wanted(sizes: readonly number[]): Promise<Results[]> {
  await using session = await Session.load(chain, { device: 'webgpu' });
  const results: Results[] = [];
  for (const n of sizes) results.push(await session.run(feed(n)));
  return results;
}

describe('a session whose GPU is lost', () => {
  it('between runs goes on with another, and gives the same', async () => {
    const want = await wanted([128, 128]);
    await using session = await Session.load(chain, { device: 'webgpu' });
    expect(await session.run(feed(128))).toEqual(want[0]);
    const old = session.gpuDevice!;
    old.destroy();
    await old.lost;
    expect(await session.run(feed(128))).toEqual(want[1]);
    expect(session.gpuDevice).not.toBe(old);
    expect(session.plans).toHaveLength(1);
  });

  it.each([0, 5, 40])('%i ms into a run repeats it, and gives the same', async (ms) => {
    const want = await wanted([192, 192]);
    for (const slice of [0, 4]) {
      await using session = await Session.load(chain, { device: 'webgpu', slice });
      const old = session.gpuDevice!;
      const first = session.run(feed(192)); // compiling, or running
      const second = session.run(feed(192));
      await new Promise((resolve) => setTimeout(resolve, ms));
      old.destroy();
      expect(await first).toEqual(want[0]);
      expect(await second).toEqual(want[1]);
      expect(session.gpuDevice).not.toBe(old);
    }
  });

  it('makes the tensors it had left there useless, and says so', async () => {
    await using session = await Session.load(chain, { device: 'webgpu' });
    const { y } = await session.run(feed(2), { outputs: 'gpu' });
    const waiting = session.run({ x: y! }); // given before the loss
    session.gpuDevice!.destroy();
    expect((await errorOf(() => waiting)).code).toBe('device_lost');
    expect((await errorOf(() => session.run({ x: y! }))).message).toMatch(/device_lost: .*GPU tensor/);
    expect((await errorOf(() => y!.read())).code).toBe('device_lost');
    y!.dispose();
    const again = await session.run(feed(2), { outputs: 'gpu' });
    expect(((await again.y!.read()).data as Float32Array).length).toBe(2 * SIZE);
    for (const t of Object.values(again) as GpuTensor[]) t.dispose();
  });

  it("that was the caller's says what to do, in a run and after it", async () => {
    const { device } = await requestGpuDevice({ allowSoftware: true, own: true });
    await using session = await Session.load(chain, { device, slice: 4 });
    await session.run(feed(3));
    const x = gpuTensor('float32', [2, SIZE], device.createBuffer({ size: 8 * SIZE, usage: 4 }), { device });
    const running = session.run(feed(128));
    setTimeout(() => device.destroy(), 10);
    for (const run of [() => running, () => session.run(feed(3)), () => session.run({ x })]) {
      const { code, message } = await errorOf(run);
      expect(code).toBe('device_lost');
      expect(message).toMatch(/new one|on the session's device now/);
    }
  });

  it('twice in one run is an error, and the next run is well', async () => {
    await using session = await Session.load(chain, { device: 'webgpu', slice: 2 });
    const [want] = await wanted([64]);
    let losses = 0;
    const timer = setInterval(() => {
      if (losses < 40) losses++, session.gpuDevice!.destroy();
    }, 0);
    const { code } = await errorOf(() => session.run(feed(64)));
    clearInterval(timer);
    expect(code).toMatch(/device_lost|device_fault/);
    expect((await session.run(feed(64))).y).toEqual(want!.y);
  });
});
