import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { Session, tensor } from '../src/index.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const model = encode({
  input: [port('x', ['batch', 4])],
  output: [port('y', ['batch', 4])],
  initializer: [
    initializer('W', tensor('float32', [4, 8], noise(32))),
    initializer('V', tensor('float32', [8, 4], noise(32, 2))),
  ],
  node: [
    node('MatMul', ['x', 'W'], ['m']),
    node('Tanh', ['m'], ['t']),
    node('MatMul', ['t', 'V'], ['n']),
    node('Softmax', ['n'], ['y']),
  ],
});
const feeds = [1, 3, 7].map((batch) => ({ x: tensor('float32', [batch, 4], noise(4 * batch, batch)) }));

/** Bytes alive once all that nobody holds is collected; finalizers want turns of the event loop. */
async function alive(): Promise<{ heap: number; external: number }> {
  for (let i = 0; i < 4; i++) {
    collect();
    await new Promise((done) => setTimeout(done, 5));
  }
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  return { heap: heapUsed, external: external + arrayBuffers };
}
/**
 * What memory may differ by, in bytes a run; a kept result has 280 of heap and 110 of buffers. Engines go on to compile
 * for thousands of runs, of which WebGPU gets fewer here; test/leaks.test.ts has more.
 */
const LEVEL = { wasm: 20, webgpu: 100, buffers: 20 };

describe.each([
  ['wasm', 10_000],
  ['webgpu', 2000],
] as const)('on %s', (device, runs) => {
  it(`${runs} runs of three shapes by turns leave nothing behind`, async () => {
    await using session = await Session.load(model, { device, threads: 1 });
    const run = async (n: number): Promise<void> => {
      for (let i = 0; i < n; i++) await session.run(feeds[i % 3]!);
    };
    const held = (): unknown => ({ bytes: session.bytes, plans: session.plans.length, made: session.made });
    await run(runs);
    const was = held();
    const seen: Awaited<ReturnType<typeof alive>>[] = [];
    for (let part = 0; part < 8; part++) {
      await run(runs / 8);
      seen.push(await alive());
    }
    expect(held()).toEqual(was);
    // Engines and Dawn hold some memory now and then: the least of the first half is held against the least of the
    // second.
    const grown = (of: 'heap' | 'external'): number =>
      Math.min(...seen.slice(4).map((s) => s[of])) - Math.min(...seen.slice(0, 4).map((s) => s[of]));
    console.log(
      `${device}: ${grown('heap')} B of heap and ${grown('external')} B of buffers more from one half of ${runs} runs to the next`,
    );
    expect(grown('heap')).toBeLessThan((LEVEL[device] * runs) / 2);
    expect(grown('external')).toBeLessThan((LEVEL.buffers * runs) / 2);
  });
});
