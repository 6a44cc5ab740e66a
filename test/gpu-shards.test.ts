import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compareValues, mismatchText } from '../src/cli/compare.ts';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { BASE_GPU, type Plan } from '../src/core/plan.ts';
import { planModel, Session, type Tensor, tensor } from '../src/index.ts';
import { encode, initializer, type Json, node, noise, port } from './onnx-model.ts';
import { drawGraph, feedsOf, modelOf } from './random-graphs.ts';

/** Bytes that the narrow device binds at once. */
const LIMIT = 8192;
const caps = { ...BASE_GPU, limits: { ...BASE_GPU.limits, maxStorageBufferBindingSize: LIMIT } };
let narrow: GPUDevice;
let wide: GPUDevice;
/** `wide` as if it bound no more than this. */
const narrowed = (limit: number): GPUDevice =>
  new Proxy(wide, {
    get: (d, key) => {
      if (key === 'limits')
        return new Proxy(d.limits, {
          get: (l, name) => (name === 'maxStorageBufferBindingSize' ? limit : Reflect.get(l, name, l)),
        });
      const value: unknown = Reflect.get(d, key, d);
      return typeof value === 'function' ? value.bind(d) : value;
    },
  });
beforeAll(async () => {
  wide = (await requestGpuDevice({ allowSoftware: true, own: true })).device;
  narrow = narrowed(LIMIT);
});
afterAll(() => {
  wide.destroy();
});

const f32 = (shape: readonly number[], seed = 1): Tensor =>
  tensor(
    'float32',
    shape,
    noise(
      shape.reduce((n, d) => n * d, 1),
      seed,
    ),
  );
const f16 = (shape: readonly number[], seed = 1): Tensor =>
  fromNumbers('float16', shape, Float64Array.from(f32(shape, seed).data as Float32Array));
const bytes = (shape: readonly number[], seed = 1): Tensor =>
  tensor(
    'uint8',
    shape,
    Uint8Array.from(
      noise(
        shape.reduce((n, d) => n * d, 1),
        seed,
      ),
      (v) => (v + 1) * 127,
    ),
  );
const ids = (most: number, count: number): Tensor =>
  tensor(
    'int64',
    [count],
    Array.from({ length: count }, (_, i) => (i % 3 === 2 ? -1 - ((i * 37) % most) : (i * 53) % most)),
  );

interface Case {
  readonly nodes: readonly Json[];
  readonly weights?: Readonly<Record<string, Tensor>>;
  readonly feeds: Readonly<Record<string, Tensor>>;
  readonly output?: readonly string[];
  readonly kernels?: RegExp;
}
const graph = ({ nodes, weights = {}, feeds, output = ['y'] }: Case): Uint8Array =>
  encode(
    {
      input: Object.entries(feeds).map(([n, t]) => port(n, t.shape, t.dtype)),
      output: output.map((name) => ({ name })),
      initializer: Object.entries(weights).map(([n, t]) => initializer(n, t)),
      node: nodes,
    },
    18,
  );

const weighed: Readonly<Record<string, Case>> = {
  'a table that is gathered from': {
    nodes: [node('Gather', ['table', 'x'], ['y'])],
    weights: { table: f32([300, 24]) },
    feeds: { x: ids(300, 40) },
    kernels: /^gather\.shards/,
  },
  'a table of halves, of odd rows': {
    nodes: [node('Gather', ['table', 'x'], ['y'])],
    weights: { table: f16([1000, 7]) },
    feeds: { x: ids(1000, 33) },
  },
  'a table of bytes': {
    nodes: [node('Gather', ['table', 'x'], ['y'])],
    weights: { table: bytes([5000, 3]) },
    feeds: { x: ids(5000, 31) },
  },
  'a table whose rows are then scaled': {
    nodes: [node('Gather', ['table', 'x'], ['g']), node('Mul', ['g', 's'], ['y'])],
    weights: { table: f32([300, 24]), s: f32([24], 2) },
    feeds: { x: ids(300, 40) },
  },
  'a head by depth': {
    nodes: [node('MatMul', ['x', 'w'], ['y'])],
    weights: { w: f32([96, 50]) },
    feeds: { x: f32([1, 3, 96], 2) },
  },
  'a head of one row': {
    nodes: [node('MatMul', ['x', 'w'], ['y'])],
    weights: { w: f32([200, 33]) },
    feeds: { x: f32([1, 200], 2) },
  },
  'a head with bias, tanh and a scale': {
    nodes: [
      node('MatMul', ['x', 'w'], ['a']),
      node('Add', ['a', 'b'], ['c']),
      node('Tanh', ['c'], ['d']),
      node('Mul', ['d', 's'], ['y']),
    ],
    weights: { w: f32([96, 50]), b: f32([50], 3), s: f32([50], 4) },
    feeds: { x: f32([5, 96], 2) },
  },
  'halves by depth': {
    nodes: [node('MatMul', ['x', 'w'], ['a']), node('Add', ['a', 'b'], ['y'])],
    weights: { w: f16([256, 40]), b: f16([40], 3) },
    feeds: { x: f16([2, 256], 2) },
  },
  Gemm: {
    nodes: [node('Gemm', ['x', 'w', 'c'], ['y'], { alpha: { float: 0.5 }, beta: { float: 2 } })],
    weights: { w: f32([96, 50]), c: f32([50], 3) },
    feeds: { x: f32([5, 96], 2) },
  },
  'Gemm of turned weights, behind it a relu': {
    nodes: [
      node('Gemm', ['x', 'w', 'c'], ['g'], { transB: 1, alpha: { float: 0.5 }, beta: { float: 2 } }),
      node('Relu', ['g'], ['y']),
    ],
    weights: { w: f32([150, 32]), c: f32([150], 3) },
    feeds: { x: f32([5, 32], 2) },
  },
  'Gemm of turned inputs': {
    nodes: [node('Gemm', ['x', 'w'], ['y'], { transA: 1 })],
    weights: { w: f32([96, 50]) },
    feeds: { x: f32([96, 5], 2) },
  },
  'FusedMatMul of a tied table': {
    nodes: [node('FusedMatMul', ['x', 'w'], ['y'], { transB: 1, alpha: { float: 0.25 } }, { domain: 'com.microsoft' })],
    weights: { w: f32([150, 32]) },
    feeds: { x: f32([2, 3, 32], 2) },
  },
  'weights of four bits': {
    nodes: [
      node(
        'MatMulNBits',
        ['x', 'w', 's', 'z'],
        ['y'],
        { K: 64, N: 600, bits: 4, block_size: 32 },
        { domain: 'com.microsoft' },
      ),
    ],
    weights: { w: bytes([600, 2, 16]), s: f32([1200], 2), z: bytes([600], 3) },
    feeds: { x: f32([3, 64], 4) },
  },
  'weights of four bits with bias, and a sigmoid': {
    nodes: [
      node(
        'MatMulNBits',
        ['x', 'w', 's', '', '', 'b'],
        ['m'],
        { K: 64, N: 600, bits: 4, block_size: 32 },
        { domain: 'com.microsoft' },
      ),
      node('Sigmoid', ['m'], ['y']),
    ],
    weights: { w: bytes([600, 2, 16]), s: f32([600, 2], 2), b: f32([600], 5) },
    feeds: { x: f32([1, 64], 4) },
  },
  filters: {
    nodes: [node('Conv', ['x', 'w', 'b'], ['c']), node('Relu', ['c'], ['y'])],
    weights: { w: f32([80, 16, 3, 3]), b: f32([80], 2) },
    feeds: { x: f32([1, 16, 5, 5], 3) },
  },
};
const long = f32([70, 90], 9);
const moved: Readonly<Record<string, Case>> = {
  'a chain of elementwise work': {
    nodes: [
      node('Mul', ['x', 's'], ['a']),
      node('Tanh', ['a'], ['b']),
      node('Add', ['b', 'r'], ['c']),
      node('ReduceMax', ['c', 'axes'], ['y']),
    ],
    weights: { s: f32([90]), r: f32([70, 1], 2), axes: tensor('int64', [1], [1]) },
    feeds: { x: long },
  },
  'a product, its softmax and where it is greatest': {
    nodes: [
      node('MatMul', ['x', 'w'], ['a']),
      node('Softmax', ['a'], ['b']),
      node('ArgMax', ['b'], ['y'], { axis: -1, keepdims: 0 }),
    ],
    weights: { w: f32([20, 64], 2) },
    feeds: { x: f32([1, 50, 20]) },
  },
  'a product of wide weights': {
    nodes: [
      node('MatMul', ['x', 'w'], ['a']),
      node('Add', ['a', 'b'], ['c']),
      node('ReduceMean', ['c', 'axes'], ['y']),
    ],
    weights: { w: f32([40, 100], 2), b: f32([100], 3), axes: tensor('int64', [1], [-1]) },
    feeds: { x: f32([1, 50, 40]) },
  },
  'rows that are normalised, and viewed': {
    nodes: [
      node('Add', ['x', 'x'], ['a']),
      node('LayerNormalization', ['a', 's', 'b'], ['n']),
      node('Reshape', ['n', 'to'], ['v']),
      node('ReduceSum', ['v', 'axes'], ['y']),
    ],
    weights: {
      s: f32([90], 2),
      b: f32([90], 3),
      to: tensor('int64', [3], [70, 9, 10]),
      axes: tensor('int64', [2], [1, 2]),
    },
    feeds: { x: f32([1, 70, 90]) },
  },
  'a constant as long as what it is added to': {
    nodes: [node('Add', ['x', 'w'], ['a']), node('ReduceMax', ['a', 'axes'], ['y'])],
    weights: { w: f32([70, 90], 3), axes: tensor('int64', [1], [1]) },
    feeds: { x: f32([1, 90], 2) },
  },
};
const results = async (
  model: Uint8Array,
  feeds: Readonly<Record<string, Tensor>>,
  device: GPUDevice | 'reference',
  strict = false,
): Promise<Record<string, Tensor>> => {
  await using session = await Session.load(model, { device, ...(strict ? { strict: true, dims: {} } : {}) });
  return (await session.run(feeds)) as Record<string, Tensor>;
};
async function agrees(c: Case, strict: boolean): Promise<Plan> {
  const model = graph(c);
  const { plan } = await planModel(model, { caps });
  expect(Math.max(0, ...plan.weights.map((w) => w.bytes))).toBeLessThanOrEqual(LIMIT);
  const [got, want] = [await results(model, c.feeds, narrow, strict), await results(model, c.feeds, 'reference')];
  for (const [name, t] of Object.entries(want)) {
    expect(got[name]!.shape).toEqual(t.shape);
    const [a, b] = [numbers(got[name]!), numbers(t)];
    const tolerance = t.dtype === 'float16' ? 4e-3 : 2e-5;
    for (let i = 0; i < b.length; i++)
      if (!(Math.abs(a[i]! - b[i]!) <= tolerance * Math.max(1, Math.abs(b[i]!))))
        throw new Error(`${name}[${i}] is ${a[i]}, and must be ${b[i]}`);
  }
  return plan;
}

describe('what is larger than a device binds', () => {
  it.each(Object.entries(weighed))('runs there in shards: %s', async (_, c) => {
    const plan = await agrees(c, true);
    expect(plan.steps.every((s) => s.run === 'gpu')).toBe(true);
    expect(plan.weights.length).toBeGreaterThan(1);
    if (c.kernels) expect(plan.steps.some((s) => s.run === 'gpu' && c.kernels!.test(s.kernel))).toBe(true);
  });
  it.each(Object.entries(moved))('is worked on in pieces: %s', async (_, c) => {
    const plan = await agrees(c, false);
    // Only what comes in, or goes out, is cut and joined by the host.
    expect(plan.steps.flatMap((s) => (s.run === 'host' && s.op !== 'Split' ? [s.op] : []))).toEqual([]);
  });
  it('is put together by the host where it is wanted whole', async () => {
    const plan = await agrees(
      { nodes: [node('Mul', ['x', 's'], ['y'])], weights: { s: f32([90]) }, feeds: { x: long } },
      false,
    );
    expect(plan.steps.flatMap((s) => (s.run === 'host' ? [s.op] : []))).toEqual(['Split', 'Concat']);
  });
  it('refuses an index that lies outside all shards', async () => {
    const model = graph({ ...weighed['a table that is gathered from']!, feeds: { x: tensor('int64', [2], [1, 300]) } });
    await expect(results(model, { x: tensor('int64', [2], [1, 300]) }, narrow)).rejects.toThrow(/Gather/);
  });
  it('leaves no table and head of a language model to the host where limits are the default ones', async () => {
    const stored = (name: string, dims: number[]): Json => ({
      name,
      dataType: 1,
      dims,
      dataLocation: 1,
      externalData: [{ key: 'location', value: name }],
    });
    const shapes = {
      table: [32_000, 2048],
      head: [2048, 32_000],
      'gate.up': [4096, 11_008],
      up: [4096, 11_008],
      project: [2048, 4096],
    };
    const model = encode({
      input: [port('x', [1, 7], 'int64')],
      output: [{ name: 'y' }, { name: 'z' }],
      initializer: Object.entries(shapes).map(([name, dims]) => stored(name, dims)),
      node: [
        node('Gather', ['table', 'x'], ['a']),
        node('MatMul', ['a', 'head'], ['y']),
        node('MatMul', ['a', 'project'], ['p']),
        node('MatMul', ['p', 'gate.up'], ['g']),
        node('Sigmoid', ['g'], ['s']),
        node('Mul', ['g', 's'], ['t']),
        node('MatMul', ['p', 'up'], ['u']),
        node('Mul', ['t', 'u'], ['z']),
      ],
    });
    const externalData = Object.fromEntries(
      Object.entries(shapes).map(([name, [a, b]]) => [
        name,
        {
          size: 4 * a! * b!,
          read: () => {
            throw new Error('read');
          },
        },
      ]),
    );
    const { plan, fits, left } = await planModel(model, { caps: BASE_GPU, externalData });
    expect({ fits, left }).toEqual({ fits: true, left: [] });
    expect(Math.max(...plan.weights.map((w) => w.bytes))).toBeLessThanOrEqual(2 ** 27);
    expect(plan.steps.filter((s) => s.run === 'gpu').length).toBe(plan.steps.length);
  });
  it.each(Array.from({ length: Number(process.env.SARDONYX_SEEDS ?? 6) }, (_, i) => i + 1))(
    'makes no difference to random graph %i',
    { timeout: 60_000 },
    async (seed) => {
      const drawn = drawGraph(seed, 10 + (seed % 23));
      const model = modelOf(drawn);
      const feeds = feedsOf(drawn, seed);
      const want = await results(model, feeds, 'reference');
      const got = await results(model, feeds, narrowed(1024));
      for (const [name, value] of Object.entries(want)) {
        const { mismatch } = compareValues(
          got[name]!,
          value,
          { rtol: 2e-3, atol: 2e-4, scaled: true, integers: 1 },
          name,
        );
        if (mismatch !== null && (mismatch.of === 1 || mismatch.wrong > mismatch.of * 0.02 + 1))
          expect.fail(mismatchText(mismatch));
      }
    },
  );
  it('is read from its file shard by shard, once', async () => {
    const model = encode({
      input: [port('x', [1, 96])],
      output: [port('y', [1, 50])],
      initializer: [
        {
          ...initializer('w', f32([96, 50])),
          rawData: undefined,
          dataLocation: 1,
          externalData: [{ key: 'location', value: 'w.bin' }],
        },
      ],
      node: [node('MatMul', ['x', 'w'], ['y'])],
    });
    const reads: [number, number][] = [];
    const whole = new Uint8Array((f32([96, 50]).data as Float32Array).buffer);
    const externalData = {
      'w.bin': {
        size: whole.length,
        read: async (at: number, length: number) => {
          reads.push([at, length]);
          return whole.slice(at, at + length);
        },
      },
    };
    await using session = await Session.load(model, { device: narrow, externalData });
    const [got] = [numbers((await session.run({ x: f32([1, 96], 2) })).y as Tensor)];
    expect(got.length).toBe(50);
    expect(reads.reduce((n, [, length]) => n + length, 0)).toBe(whole.length);
  });
});
