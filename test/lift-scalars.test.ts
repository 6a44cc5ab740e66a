/**
 * Layers that differ in nothing but numbers: one shader and one module for all of them, and each computes with its own.
 */
import { describe, expect, it } from 'vitest';
import { compareValues, mismatchText } from '../src/cli/compare.ts';
import { type DType, type Plan, printPlan, Session, type Tensor, tensor } from '../src/index.ts';
import { encode, initializer, type Json, node, noise, port } from './onnx-model.ts';

/** Numbers of three layers: signs, zeros, tiny and huge ones, equal pairs. */
const NUMBERS: readonly (readonly number[])[] = [
  [1.25, -0.5, 0.75, 2],
  [-3, 0, 0.75, 1e-3],
  [7.5e-5, 400, -0, 2],
];

/** What is done to a value by four numbers, as nodes; the value's name is given and returned. */
type Work = (
  put: (op: string, inputs: readonly string[], attrs?: Parameters<typeof node>[3]) => string,
  value: string,
  numbers: readonly string[],
) => string;
const affine: Work = (put, v, [a, b, c, d]) =>
  put('Add', [put('Mul', [put('HardSwish', [put('Add', [put('Mul', [v, a!]), b!])]), c!]), d!]);
/** The bounds of a clip and an exponent are code; what is in between is read. */
const bounded: Work = (put, v, [a, b, c, d]) =>
  put('Mul', [put('Max', [put('Min', [put('Div', [v, a!]), c!]), b!]), d!]);
const powers: Work = (put, v, [a, , c, d]) =>
  put('Mul', [put('Pow', [put('Mul', [v, v]), d!]), put('Sub', [a!, put('Sigmoid', [put('Mul', [v, c!])])])]);

type Layer = 'Conv' | 'depthwise' | 'MatMul' | 'map';
interface Case {
  readonly layer: Layer;
  readonly work: Work;
  readonly dtype?: DType;
  readonly shaders?: number;
  readonly modules?: number;
}
const CASES: Readonly<Record<string, Case>> = {
  convolutions: { layer: 'Conv', work: affine, shaders: 1, modules: 1 },
  'depthwise convolutions': { layer: 'depthwise', work: affine, shaders: 1, modules: 1 },
  products: { layer: 'MatMul', work: affine, shaders: 1, modules: 1 },
  maps: { layer: 'map', work: affine, shaders: 1, modules: 1 },
  halves: { layer: 'MatMul', work: affine, dtype: 'float16', shaders: 1 },
  bounds: { layer: 'Conv', work: bounded },
  exponents: { layer: 'map', work: powers },
};

const C = 4;
const shapeOf = (layer: Layer, batch: number): number[] =>
  layer === 'Conv' || layer === 'depthwise' ? [batch, C, 5, 7] : [batch, 3, C];
/** Three layers, each behind the one before; of maps, each beside it, so that they stay apart. */
function model({ layer, work, dtype = 'float32' }: Case): Uint8Array {
  const weights: [string, Tensor][] = [];
  const nodes: Json[] = [];
  const outputs: string[] = [];
  let made = 0;
  const weight = (shape: readonly number[], values: ArrayLike<number>): string => {
    const name = `w${weights.length}`;
    weights.push([name, tensor(dtype, shape, Array.from(values))]);
    return name;
  };
  const put = (op: string, inputs: readonly string[], attrs: Parameters<typeof node>[3] = {}): string => {
    const name = `v${made++}`;
    nodes.push(node(op, inputs, [name], attrs));
    return name;
  };
  const random = (...shape: number[]): string =>
    weight(
      shape,
      noise(
        shape.reduce((a, b) => a * b, 1),
        5 + weights.length,
      ),
    );
  let v = 'x';
  for (const numbers of NUMBERS) {
    const of =
      layer === 'map'
        ? 'x'
        : layer === 'MatMul'
          ? put('MatMul', [v, random(C, C)])
          : layer === 'Conv'
            ? put('Conv', [v, random(C, C, 1, 1), random(C)])
            : put('Conv', [v, random(C, 1, 3, 3), random(C)], { group: C, pads: [1, 1, 1, 1] });
    v = work(
      put,
      of,
      numbers.map((n) => weight([], [n])),
    );
    outputs.push(v);
  }
  const dims = shapeOf(layer, 0).map((d, i) => (i === 0 ? 'batch' : d));
  return encode(
    {
      input: [port('x', dims, dtype)],
      output: outputs.map((name) => port(name, dims, dtype)),
      initializer: weights.map(([n, t]) => initializer(n, t)),
      node: nodes,
    },
    15,
  );
}
const codes = (plan: Plan): number => (plan.device === 'webgpu' ? plan.shaders.length : plan.modules.length);

describe('layers that differ in numbers', () => {
  it.each(Object.entries(CASES))('%s', async (_, given) => {
    const bytes = model(given);
    const { layer, dtype = 'float32' } = given;
    await using reference = await Session.load(bytes, { device: 'reference', optimize: false });
    for (const device of ['wasm', 'webgpu'] as const) {
      await using session = await Session.load(bytes, { device, strict: true });
      for (const batch of [2, 3]) {
        const shape = shapeOf(layer, batch);
        const feeds = {
          x: tensor(
            dtype,
            shape,
            Array.from(
              noise(
                shape.reduce((a, b) => a * b, 1),
                batch,
              ),
              (v) => 3 * v,
            ),
          ),
        };
        const want = await reference.run(feeds);
        const got = await session.run(feeds);
        const near = dtype === 'float16' ? 4e-3 : 1e-5;
        for (const [name, value] of Object.entries(got)) {
          const { mismatch } = compareValues(
            value,
            want[name]!,
            { rtol: near, atol: near, scaled: true, integers: 0 },
            `${device} ${name}`,
          );
          if (mismatch !== null) expect.fail(mismatchText(mismatch));
        }
        const most = device === 'webgpu' ? given.shaders : given.modules;
        if (most !== undefined) expect(codes(session.plan!), printPlan(session.plan!)).toBe(most);
        // A part that is read twice reads its numbers once, or it would be computed twice.
        if (layer === 'map' && given.work === affine)
          for (const s of session.plan!.steps)
            if (s.run === 'wasm') expect(s.args.filter((a) => typeof a === 'object' && 'weight' in a)).toHaveLength(4);
      }
    }
  });

  it.each(['reference', 'wasm', 'webgpu'] as const)('a zero keeps its sign (%s)', async (device) => {
    const bytes = encode({
      input: [port('x', [4])],
      output: [port('a', [4]), port('b', [4])],
      initializer: [initializer('zero', tensor('float32', [], [-0])), initializer('none', tensor('float32', [], [0]))],
      node: [node('Mul', ['x', 'zero'], ['a']), node('Mul', ['x', 'none'], ['b'])],
    });
    await using session = await Session.load(bytes, { device });
    const { a, b } = (await session.run({ x: tensor('float32', [4], [1, -2, 3, -4]) })) as Record<string, Tensor>;
    expect([Array.from(a!.data as Float32Array), Array.from(b!.data as Float32Array)]).toEqual([
      [-0, 0, -0, 0],
      [0, -0, 0, -0],
    ]);
  });
});
