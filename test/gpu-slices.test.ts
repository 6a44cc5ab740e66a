import { beforeAll, describe, expect, it } from 'vitest';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { makeCosts } from '../src/4-run/webgpu/slices.ts';
import { numbers } from '../src/core/numbers.ts';
import { type SardonyxError, Session, type Tensor, tensor, type Value } from '../src/index.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

/** A chain of products: each a dispatch of some milliseconds where the GPU is software. */
const chain = (length: number, size: number): Uint8Array =>
  encode({
    input: [port('x', [size, size])],
    output: [port('y', [size, size])],
    initializer: [
      initializer(
        'W',
        tensor(
          'float32',
          [size, size],
          noise(size * size).map((v) => v / Math.sqrt(size)),
        ),
      ),
    ],
    node: Array.from({ length }, (_, i) =>
      node('MatMul', [i === 0 ? 'x' : `m${i}`, 'W'], [i === length - 1 ? 'y' : `m${i + 1}`]),
    ),
  });
const feed = (size: number): { x: Tensor } => ({ x: tensor('float32', [size, size], noise(size * size, 5)) });
const values = (v: Value | undefined): number[] => Array.from(numbers(v as Tensor) as Float64Array);

let device: GPUDevice;
beforeAll(async () => {
  ({ device } = await requestGpuDevice({ allowSoftware: true }));
});
/** Submits while `f` runs. */
async function submits(f: () => Promise<unknown>): Promise<number> {
  const { submit } = device.queue;
  let count = 0;
  device.queue.submit = (buffers) => {
    count++;
    return submit.call(device.queue, buffers);
  };
  try {
    await f();
  } finally {
    device.queue.submit = submit;
  }
  return count;
}

describe('submits', () => {
  it('are one a run, with its readback, unless sliced', async () => {
    await using session = await Session.load(chain(20, 64), { device });
    await session.run(feed(64));
    expect(await submits(() => session.run(feed(64)))).toBe(1);
  });

  it('are cut to the time that is given, with the same results', async () => {
    await using whole = await Session.load(chain(60, 128), { device });
    await using sliced = await Session.load(chain(60, 128), { device, slice: 4 });
    const want = await whole.run(feed(128));
    for (let i = 0; i < 3; i++) expect(await sliced.run(feed(128))).toEqual(want);
    const start = performance.now();
    const count = await submits(() => sliced.run(feed(128)));
    const took = performance.now() - start;
    expect(count).toBeGreaterThan(Math.min(60, took / 4) / 4); // learned: neither one
    expect(count).toBeLessThan(61); // nor one a dispatch, unless each takes that long
    await using small = await Session.load(chain(2, 8), { device, slice: 1000 });
    await small.run(feed(8));
    await small.run(feed(8));
    expect(await submits(() => small.run(feed(8)))).toBe(1);
  });

  it('of two sessions take turns', async () => {
    const [long, short] = await Promise.all([
      Session.load(chain(80, 160), { device, slice: 4 }),
      Session.load(chain(3, 64), { device, slice: 4 }),
    ]);
    for (let i = 0; i < 2; i++) await Promise.all([long.run(feed(160)), short.run(feed(64))]);
    let done = false;
    const running = long.run(feed(160)).then(() => {
      done = true;
    });
    let between = 0;
    while (!done) {
      await short.run(feed(64));
      if (!done) between++;
    }
    await running;
    expect(between).toBeGreaterThan(3);
    await Promise.all([long.release(), short.release()]);
  });

  it('end within 100 ms of an abort, and the session goes on', { timeout: 60_000 }, async () => {
    await using session = await Session.load(chain(150, 160), { device, slice: 8 });
    const want = values((await session.run(feed(160))).y);
    const begin = performance.now();
    await session.run(feed(160));
    const whole = performance.now() - begin;
    const stop = new AbortController();
    const run = session.run(feed(160), { signal: stop.signal }).then(
      () => 'done',
      (e: unknown) => (e as SardonyxError).code,
    );
    await new Promise((resolve) => setTimeout(resolve, whole / 8));
    const start = performance.now();
    stop.abort();
    expect(await run).toBe('aborted');
    expect(performance.now() - start).toBeLessThan(100);
    await device.queue.onSubmittedWorkDone(); // the GPU stops too, not only the promise
    expect(performance.now() - start).toBeLessThan(Math.max(100, whole / 2));
    expect(values((await session.run(feed(160))).y)).toEqual(want);
  });

  it('are sliced in Node where a signal may stop them', async () => {
    await using session = await Session.load(chain(200, 96), { device });
    await session.run(feed(96));
    const { signal } = new AbortController();
    expect(await submits(() => session.run(feed(96), { signal }))).toBeGreaterThan(1);
  });
});

it('costs of dispatches are learned from their slices', async () => {
  const done: (() => void)[] = [];
  const fake = {
    lost: new Promise(() => undefined),
    queue: {
      onSubmittedWorkDone: () =>
        new Promise<void>((resolve) => {
          done.push(resolve);
        }),
    },
  } as unknown as GPUDevice;
  const costs = makeCosts(fake, [10, 10, 0, 30]);
  const guess = costs.of(0);
  expect([costs.of(1), costs.of(2), costs.of(3)]).toEqual([guess, 0, 3 * guess]);
  expect([costs.enter(), costs.enter()]).toEqual([null, null]);
  const third = costs.enter();
  expect(third).toBeInstanceOf(Promise);
  costs.submitted(0, 2);
  await new Promise((resolve) => setTimeout(resolve, 20));
  done.shift()!();
  await third; // the turn of the slice that is done
  expect(costs.of(0)).toBeGreaterThan(5);
  expect(costs.of(0)).toBeLessThan(8 * guess + 1e-9);
  expect(costs.of(3)).toBeGreaterThan(3 * guess); // what was not run yet is guessed anew
});
