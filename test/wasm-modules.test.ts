import { expect, it } from 'vitest';
import { joinCrew } from '../src/4-run/wasm/crew.ts';
import type { Order, Thread } from '../src/4-run/wasm/thread.ts';
import { Session, tensor } from '../src/index.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

/** A depthwise convolution, whose module serves images of any size, and a pool, whose modules know theirs. */
const model = encode({
  input: [port('x', [1, 4, 5, 'width'])],
  output: [port('y', [1, 4, 'height', 'left'])],
  initializer: [initializer('K', tensor('float32', [4, 1, 3, 3], noise(36)))],
  node: [
    node('Conv', ['x', 'K'], ['c'], { group: 4, pads: [1, 1, 1, 1] }),
    node('MaxPool', ['c'], ['y'], { kernel_shape: [2, 2] }),
  ],
});
const image = (width: number) => ({ x: tensor('float32', [1, 4, 5, width], noise(20 * width, width)) });

it('a session that sees ever other sizes keeps some modules, forgets others, and makes them again', async () => {
  const crew = await joinCrew(1, false);
  const thread = crew.local as { -readonly [K in keyof Thread]: Thread[K] };
  const known = new Set<number>();
  let forgotten = 0;
  const { obey } = thread;
  thread.obey = (order: Order) => {
    if (order.to === 'code') known.add(order.code);
    if (order.to === 'forget') forgotten += known.delete(order.code) ? 1 : 0;
    obey(order);
  };
  try {
    await using session = await Session.load(model, { device: 'wasm', threads: 1, worker: false });
    const first = (await session.run(image(8))).y;
    for (let width = 9; width < 300; width++) await session.run(image(width));
    expect(session.engine).toMatchObject({ threads: 1, worker: false });
    expect(known.size + forgotten).toBeGreaterThan(290);
    expect(known.size).toBeLessThan(256 + 100);
    expect(forgotten).toBeGreaterThan(10);
    expect((await session.run(image(8))).y).toEqual(first);
    await using reference = await Session.load(model, { device: 'reference' });
    for (const width of [8, 9, 299]) {
      const [got, want] = [(await session.run(image(width))).y, (await reference.run(image(width))).y] as {
        data: Float32Array;
      }[];
      expect(Math.max(...got!.data.map((v, i) => Math.abs(v - want!.data[i]!)))).toBeLessThan(1e-5);
    }
  } finally {
    thread.obey = obey;
    crew.leave();
  }
});
