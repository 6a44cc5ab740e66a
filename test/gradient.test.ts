import { expect, it } from 'vitest';
import { numbers } from '../src/core/numbers.ts';
import { Session, type Tensor, tensor } from '../src/index.ts';
import { encode, node, noise, port } from './onnx-model.ts';

/** L = sum of tanh(x W + b) / (1 + exp(x W)) over all elements, by way of broadcasting, and its derivatives. */
const forward = [
  node('MatMul', ['x', 'W'], ['m']),
  node('Add', ['m', 'b'], ['a']),
  node('Tanh', ['a'], ['t']),
  node('Exp', ['m'], ['e']),
  node('Sigmoid', ['m'], ['s']),
  node('Add', ['e', 's'], ['d']),
  node('Div', ['t', 'd'], ['q']),
  node('Relu', ['q'], ['r']),
  node('Mul', ['r', 'q'], ['y']),
];
const ports = [port('x', [3, 4]), port('W', [4, 5]), port('b', [5])];
const attribute = [
  { name: 'xs', type: 8, strings: ['x', 'W', 'b'].map((s) => Buffer.from(s)) },
  { name: 'y', type: 3, s: Buffer.from('y') },
];
const gradient = {
  opType: 'Gradient',
  domain: 'ai.onnx.preview.training',
  name: 'grad',
  input: ['x', 'W', 'b'],
  output: ['dx', 'dW', 'db'],
  attribute,
};
const model = encode(
  {
    input: ports,
    output: [port('y', [3, 5]), port('dx', [3, 4]), port('dW', [4, 5]), port('db', [5])],
    node: [...forward, gradient],
  },
  17,
  { opsetImport: [{ version: 17 }, { domain: 'ai.onnx.preview.training', version: 1 }] },
);

it.each(['reference', 'wasm'] as const)('Gradient on %s agrees with finite differences', async (device) => {
  await using session = await Session.load(model, { device });
  const feeds = { x: noise(12, 1), W: noise(20, 2), b: noise(5, 3) };
  const shapes = { x: [3, 4], W: [4, 5], b: [5] } as const;
  const run = (f: typeof feeds) =>
    session.run(
      Object.fromEntries(
        Object.entries(f).map(([k, v]) => [k, tensor('float32', shapes[k as keyof typeof shapes], v)]),
      ),
    );
  const total = async (f: typeof feeds): Promise<number> =>
    Array.from(numbers((await run(f)).y as Tensor) as Float64Array).reduce((a, b) => a + b, 0);
  const results = await run(feeds);
  for (const name of ['x', 'W', 'b'] as const) {
    const got = numbers(results[`d${name}`] as Tensor);
    for (let i = 0; i < feeds[name].length; i++) {
      const moved = (by: number): typeof feeds => ({
        ...feeds,
        [name]: feeds[name].map((v, k) => (k === i ? v + by : v)),
      });
      const want = ((await total(moved(1e-2))) - (await total(moved(-1e-2)))) / 2e-2;
      expect(Math.abs(got[i]! - want), `d${name}[${i}]: ${got[i]} and ${want}`).toBeLessThan(
        2e-3 + 1e-2 * Math.abs(want),
      );
    }
  }
});
