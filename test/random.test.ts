import { describe, expect, it } from 'vitest';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { Session, type Tensor, tensor } from '../src/index.ts';
import { encode, initializer, node, port } from './onnx-model.ts';

const N = 40_000;
/**
 * Elements of `y`, which `n` makes of `x`, with a seed; also that the same seed gives the same, and another seed
 * something else.
 */
async function draw(
  n: ReturnType<typeof node>,
  input: Tensor,
  initializers: ReturnType<typeof initializer>[] = [],
  opset = 22,
  device: 'wasm' | 'webgpu' = 'wasm',
): Promise<number[]> {
  const model = encode(
    {
      input: [port('x', input.shape as number[], input.dtype)],
      output: [{ name: 'y' }],
      initializer: initializers,
      node: [n],
    },
    opset,
  );
  const once = async (seed: number): Promise<number[]> => {
    await using session = await Session.load(model, {
      device,
      seed,
      ...(device === 'webgpu' ? { strict: true, dims: {} } : {}),
    });
    return Array.from(numbers((await session.run({ x: input })).y as Tensor) as Float64Array);
  };
  const [a, b, c] = [await once(7), await once(7), await once(8)];
  expect(a.every((v, i) => v === b[i])).toBe(true);
  expect(a.every((v, i) => v === c[i])).toBe(false);
  return a;
}
const mean = (v: number[]): number => v.reduce((s, x) => s + x, 0) / v.length;
const variance = (v: number[]): number => {
  const m = mean(v);
  return mean(v.map((x) => (x - m) ** 2));
};
const x = tensor('float32', [N], new Float32Array(N).fill(0.3));

describe.each(['wasm', 'webgpu'] as const)('random operators on %s', (device) => {
  it('draw uniform numbers between low and high', async () => {
    const y = await draw(
      node('RandomUniformLike', ['x'], ['y'], { low: { float: -1 }, high: { float: 3 } }),
      x,
      [],
      22,
      device,
    );
    expect(Math.min(...y)).toBeGreaterThanOrEqual(-1);
    expect(Math.max(...y)).toBeLessThan(3);
    expect(mean(y)).toBeCloseTo(1, 1);
    expect(variance(y)).toBeCloseTo(16 / 12, 1);
  });
  it('draw normal numbers of a mean and scale', async () => {
    const y = await draw(
      node('RandomNormalLike', ['x'], ['y'], { mean: { float: 2 }, scale: { float: 0.5 } }),
      x,
      [],
      22,
      device,
    );
    expect(mean(y)).toBeCloseTo(2, 1);
    expect(variance(y)).toBeCloseTo(0.25, 2);
    expect(y.filter((v) => Math.abs(v - 2) < 0.5).length / N).toBeCloseTo(0.6827, 1);
  });
  it('draw Bernoulli numbers of the given probabilities', async () => {
    const y = await draw(node('Bernoulli', ['x'], ['y']), x, [], 22, device);
    expect(new Set(y)).toEqual(new Set([0, 1]));
    expect(mean(y)).toBeCloseTo(0.3, 1);
  });
  it('drop at the given ratio, and scale what stays', async () => {
    const y = await draw(node('Dropout', ['x', 'ratio', 'training'], ['y']), x, [
      initializer('ratio', tensor('float32', [], [0.25])),
      initializer('training', tensor('bool', [], [true])),
    ]);
    expect(y.filter((v) => v === 0).length / N).toBeCloseTo(0.25, 1);
    expect(y.find((v) => v !== 0)).toBeCloseTo(0.4, 5);
  });
  it('draw classes by their log probabilities', async () => {
    const logits = tensor('float32', [1, 3], [Math.log(0.2), Math.log(0.5), Math.log(0.3)]);
    const y = await draw(node('Multinomial', ['x'], ['y'], { sample_size: N }), logits, [], 22, device);
    [0.2, 0.5, 0.3].forEach((p, k) => expect(y.filter((v) => v === k).length / N).toBeCloseTo(p, 1));
  });
});

describe('random operators on the GPU', () => {
  it('draw others in every run, and the same of their own seed', async () => {
    const model = encode(
      {
        input: [port('x', [64])],
        output: [{ name: 'y' }, { name: 'z' }],
        initializer: [],
        node: [node('RandomNormalLike', ['x'], ['y']), node('RandomNormalLike', ['x'], ['z'], { seed: { float: 3 } })],
      },
      22,
    );
    await using session = await Session.load(model, { device: 'webgpu', strict: true, dims: {} });
    const [a, b] = [
      await session.run({ x: tensor('float32', [64], new Float32Array(64)) }),
      await session.run({ x: tensor('float32', [64], new Float32Array(64)) }),
    ];
    expect((a.y as Tensor).data).not.toEqual((b.y as Tensor).data);
    expect((a.z as Tensor).data).toEqual((b.z as Tensor).data);
  });
  it('draw halves, integers and numbers of a shape', async () => {
    const model = encode(
      {
        input: [port('p', [1001], 'float16')],
        output: [{ name: 'u' }, { name: 'b' }],
        node: [
          node('RandomUniform', [], ['u'], { shape: [7, 11], dtype: 10, low: { float: 2 }, high: { float: 3 } }),
          node('Bernoulli', ['p'], ['b'], { dtype: 7 }),
        ],
      },
      22,
    );
    await using session = await Session.load(model, { device: 'webgpu' });
    const { u, b } = (await session.run({
      p: fromNumbers(
        'float16',
        [1001],
        Array.from({ length: 1001 }, (_, i) => i % 2),
      ),
    })) as Record<string, Tensor>;
    expect([u!.dtype, u!.shape]).toEqual(['float16', [7, 11]]);
    expect(Array.from(numbers(u!)).every((v) => v >= 2 && v <= 3)).toBe(true);
    expect(Array.from(numbers(b!))).toEqual(Array.from({ length: 1001 }, (_, i) => i % 2));
  });
});
