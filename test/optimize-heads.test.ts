/**
 * Layers of transformers as exporters write them out, at random shapes: rewritten for WebGPU they compute what they
 * did, in few dispatches.
 */
import { describe, expect, it } from 'vitest';
import { compareValues, mismatchText } from '../src/cli/compare.ts';
import { type Feeds, Session, type Tensor, tensor, type Trace } from '../src/index.ts';
import { encode, initializer, type Json, node, noise, port } from './onnx-model.ts';

interface Layer {
  readonly batch: number;
  readonly steps: number;
  readonly past: number | null;
  readonly heads: number;
  readonly kvHeads: number;
  readonly size: number;
  readonly hidden: number;
  readonly rotary: boolean;
  readonly norm: boolean;
  readonly bias: boolean;
  readonly mask: boolean;
  readonly gate: 'silu' | 'relu' | 'erf';
  readonly packed: boolean;
  readonly kept: boolean;
}
const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** One layer: attention and a perceptron, each with its residual. */
function layerOf(l: Layer, seed: number): { model: Uint8Array; feeds: Feeds } {
  const { batch, steps, heads, kvHeads, size: d, hidden } = l;
  const width = heads * d;
  const past = l.past ?? 0;
  const keys = past + steps;
  const weights: Record<string, Tensor> = {};
  let made = seed;
  const weight = (name: string, shape: readonly number[], scale = 0.3): string => {
    weights[name] = tensor(
      'float32',
      shape,
      noise(size(shape), made++).map((v) => v * scale),
    );
    return name;
  };
  const ints = (name: string, ...v: number[]): string => {
    weights[name] = tensor('int64', [v.length], v);
    return name;
  };
  const one = (name: string, v: number): string => {
    weights[name] = tensor('float32', [], [v]);
    return name;
  };
  const nodes: Json[] = [];
  const add = (op: string, inputs: readonly string[], out: string, attrs: Parameters<typeof node>[3] = {}): string => {
    nodes.push(node(op, inputs, [out], attrs));
    return out;
  };
  const linear = (x: string, name: string, from: number, to: number): string => {
    const y = add('MatMul', [x, weight(`${name}.w`, [from, to])], `${name}.product`);
    return l.bias ? add('Add', [weight(`${name}.b`, [to]), y], `${name}.sum`) : y;
  };
  const rms = (x: string, name: string, n: number): string => {
    const mean = add('ReduceMean', [add('Pow', [x, one(`${name}.two`, 2)], `${name}.square`)], `${name}.mean`, {
      axes: [-1],
      keepdims: 1,
    });
    const inverse = add(
      'Reciprocal',
      [add('Sqrt', [add('Add', [mean, one(`${name}.eps`, 1e-5)], `${name}.sum`)], `${name}.root`)],
      `${name}.inverse`,
    );
    return add('Mul', [weight(`${name}.gamma`, [n], 1), add('Mul', [x, inverse], `${name}.n`)], `${name}.y`);
  };
  const turn = (x: string, name: string): string => {
    const half = d / 2;
    const first = add(
      'Slice',
      [x, ints(`${name}.0`, 0), ints(`${name}.half`, half), ints(`${name}.axis`, 3)],
      `${name}.first`,
    );
    const second = add(
      'Slice',
      [x, ints(`${name}.from`, half), ints(`${name}.end`, 1 << 30), ints(`${name}.axis2`, 3)],
      `${name}.second`,
    );
    const turned = add('Concat', [add('Neg', [second], `${name}.neg`), first], `${name}.turned`, { axis: -1 });
    return add(
      'Add',
      [add('Mul', [x, 'cos'], `${name}.c`), add('Mul', [turned, 'sin'], `${name}.s`)],
      `${name}.rotated`,
    );
  };
  const head = (rows: string, name: string, n: number, normed: boolean): string => {
    let four = add('Reshape', [rows, ints(`${name}.shape`, batch, steps, n, d)], `${name}.four`);
    if (normed) four = rms(four, `${name}.norm`, d);
    return add('Transpose', [four], `${name}.heads`, { perm: [0, 2, 1, 3] });
  };
  if (l.rotary) {
    const angles = add('MatMul', [weight('inverse', [1, d / 2, 1], 1), 'positions'], 'angles');
    const both = add('Transpose', [angles], 'turned', { perm: [0, 2, 1] });
    const full = add('Concat', [both, both], 'full', { axis: -1 });
    for (const [name, op] of [
      ['cos', 'Cos'],
      ['sin', 'Sin'],
    ] as const)
      add('Unsqueeze', [add(op, [full], `${name}3`), ints(`${name}.axis`, 1)], name);
  }
  const kvWidth = kvHeads * d;
  let rows = ['q', 'k', 'v'];
  if (l.packed)
    nodes.push(
      node('Split', [linear('x', 'qkv', hidden, width + 2 * kvWidth), ints('parts', width, kvWidth, kvWidth)], rows, {
        axis: 2,
      }),
    );
  else rows = [linear('x', 'q', hidden, width), linear('x', 'k', hidden, kvWidth), linear('x', 'v', hidden, kvWidth)];
  let [q, k, v] = [
    head(rows[0]!, 'hq', heads, l.norm),
    head(rows[1]!, 'hk', kvHeads, l.norm),
    head(rows[2]!, 'hv', kvHeads, false),
  ];
  if (l.rotary) [q, k] = [turn(q, 'rq'), turn(k, 'rk')];
  if (l.past !== null)
    [k, v] = [
      add('Concat', ['past_k', k], 'present_k', { axis: -2 }),
      add('Concat', ['past_v', v], 'present_v', { axis: 2 }),
    ];
  else if (l.kept) [k, v] = [add('Identity', [k], 'present_k'), add('Identity', [v], 'present_v')];
  if (heads !== kvHeads)
    [k, v] = [k, v].map((t, i) =>
      add(
        'Reshape',
        [
          add(
            'Expand',
            [
              add('Unsqueeze', [t, ints(`g${i}.axis`, 2)], `g${i}.five`),
              ints(`g${i}.wide`, batch, kvHeads, heads / kvHeads, keys, d),
            ],
            `g${i}.expanded`,
          ),
          ints(`g${i}.shape`, batch, heads, keys, d),
        ],
        `g${i}.y`,
      ),
    ) as [string, string];
  const scores = add(
    'MatMul',
    [
      add('Mul', [q, one('scale', d ** -0.25)], 'scaled.q'),
      add('Mul', [add('Transpose', [k], 'kt', { perm: [0, 1, 3, 2] }), 'scale'], 'scaled.k'),
    ],
    'scores',
  );
  const p = add('Softmax', [l.mask ? add('Add', [scores, 'mask'], 'masked') : scores], 'p', { axis: -1 });
  const back = add(
    'Reshape',
    [
      add('Transpose', [add('MatMul', [p, v], 'mixed')], 'mixed.t', { perm: [0, 2, 1, 3] }),
      ints('rows', batch, steps, width),
    ],
    'mixed.rows',
  );
  const middle = add('Add', ['x', linear(back, 'o', width, hidden)], 'middle');
  const normal = rms(middle, 'post', hidden);
  const inner = 10;
  const gate = linear(normal, 'gate', hidden, inner);
  const acted =
    l.gate === 'silu'
      ? add('Mul', [gate, add('Sigmoid', [gate], 'sigmoid')], 'silu')
      : l.gate === 'relu'
        ? add('Relu', [gate], 'relu')
        : add('Erf', [gate], 'erf');
  const down = linear(add('Mul', [acted, linear(normal, 'up', hidden, inner)], 'product'), 'down', inner, hidden);
  add('Add', [middle, down], 'y');
  const inputs: Record<string, readonly number[]> = {
    x: [batch, steps, hidden],
    ...(l.rotary ? { positions: [1, 1, steps] } : {}),
    ...(l.past === null ? {} : { past_k: [batch, kvHeads, past, d], past_v: [batch, kvHeads, past, d] }),
    ...(l.mask ? { mask: [batch, 1, steps, keys] } : {}),
  };
  const outputs: Record<string, readonly number[]> = {
    y: [batch, steps, hidden],
    ...(l.past === null && !l.kept
      ? {}
      : { present_k: [batch, kvHeads, keys, d], present_v: [batch, kvHeads, keys, d] }),
  };
  const model = encode({
    input: Object.entries(inputs).map(([n, s]) => port(n, s)),
    output: Object.entries(outputs).map(([n, s]) => port(n, s)),
    initializer: Object.entries(weights).map(([n, t]) => initializer(n, t)),
    node: nodes,
  });
  return {
    model,
    feeds: Object.fromEntries(
      Object.entries(inputs).map(([n, s], i) => [n, tensor('float32', s, noise(size(s), seed + 50 + i))]),
    ),
  };
}

const plain: Layer = {
  batch: 1,
  steps: 3,
  past: null,
  heads: 2,
  kvHeads: 2,
  size: 4,
  hidden: 8,
  rotary: false,
  norm: false,
  bias: true,
  mask: false,
  gate: 'erf',
  packed: false,
  kept: false,
};
const LAYERS: readonly (readonly [name: string, layer: Layer, passes: readonly string[], dispatches: number])[] = [
  [
    'an encoder',
    { ...plain, batch: 2, steps: 5, heads: 3, kvHeads: 3, hidden: 12, mask: true },
    ['fuse-attention', 'pack-heads', 'merge-projections'],
    7,
  ],
  [
    'one projection for all three, and a cache',
    { ...plain, batch: 2, steps: 2, past: 3, packed: true, mask: true },
    ['pack-heads'],
    8,
  ],
  [
    'rotation, groups and a cache',
    { ...plain, steps: 4, past: 5, heads: 4, kvHeads: 2, size: 6, hidden: 10, rotary: true, bias: false, gate: 'silu' },
    ['fuse-rotary', 'outer-product', 'hoist-transposes', 'pack-heads', 'merge-projections'],
    11,
  ],
  [
    'rotation of normalised heads, an empty cache',
    {
      ...plain,
      steps: 9,
      heads: 3,
      kvHeads: 1,
      size: 8,
      rotary: true,
      norm: true,
      bias: false,
      gate: 'relu',
      kept: true,
    },
    ['fuse-rotary', 'pack-heads', 'merge-projections'],
    11,
  ],
  [
    'rotation of a batch',
    { ...plain, batch: 3, rotary: true, size: 2, mask: true, gate: 'silu' },
    ['fuse-rotary', 'pack-heads'],
    16,
  ],
];

/** A residual block's end: a convolution and the projection of what came in, added up. */
const block = (strides: readonly number[], bias: boolean, seed: number): { model: Uint8Array; feeds: Feeds } => {
  const [n, a, b, m, h, w] = [2, 3, 5, 6, 3, 4];
  const wide = [h * strides[0]! - (strides[0]! - 1), w * strides[1]!];
  const weight = (shape: readonly number[], at: number): Tensor =>
    tensor('float32', shape, noise(size(shape), seed + at));
  const inputs: Record<string, readonly number[]> = { x: [n, a, h, w], z: [n, b, ...wide] };
  return {
    model: encode({
      input: Object.entries(inputs).map(([name, shape]) => port(name, shape)),
      output: [port('y', [n, m, h, w])],
      initializer: [
        initializer('w', weight([m, a, 1, 1], 1)),
        initializer('v', weight([m, b, 1, 1], 2)),
        initializer('b', weight([m], 3)),
        initializer('c', weight([m], 4)),
      ],
      node: [
        node('Conv', ['x', 'w', 'b'], ['p']),
        node('Conv', ['z', 'v', ...(bias ? ['c'] : [])], ['q'], { strides }),
        node('Add', ['q', 'p'], ['s']),
        node('Relu', ['s'], ['y']),
      ],
    }),
    feeds: Object.fromEntries(
      Object.entries(inputs).map(([name, shape], i) => [
        name,
        tensor('float32', shape, noise(size(shape), seed + 9 + i)),
      ]),
    ),
  };
};
it.each([
  [[1, 1], true],
  [[2, 2], false],
  [[2, 1], true],
] as const)('convolutions that are added up are one: strides %s', async (strides, bias) => {
  for (const seed of [1, 7]) {
    const { model, feeds } = block(strides, bias, seed);
    await using reference = await Session.load(model, { device: 'reference', optimize: false });
    await using session = await Session.load(model, { device: 'webgpu', strict: true });
    const [want, got] = [await reference.run(feeds), await session.run(feeds)];
    const { mismatch } = compareValues(
      got['y']!,
      want['y']!,
      { rtol: 1e-4, atol: 1e-5, scaled: false, integers: 0 },
      'y',
    );
    if (mismatch !== null) expect.fail(mismatchText(mismatch));
    expect(session.plan!.steps.filter((s) => s.run === 'gpu').length).toBe(1);
  }
});

describe('layers written out', () => {
  it.each(LAYERS)('%s', async (_, layer, passes, dispatches) => {
    for (const seed of [3, 19]) {
      const { model, feeds } = layerOf(layer, seed);
      const trace: Trace[] = [];
      await using reference = await Session.load(model, { device: 'reference', optimize: false });
      await using session = await Session.load(model, { device: 'webgpu', strict: true, trace: (t) => trace.push(t) });
      const [want, got] = [await reference.run(feeds), await session.run(feeds)];
      for (const [name, value] of Object.entries(want)) {
        const { mismatch } = compareValues(
          got[name]!,
          value,
          { rtol: 1e-4, atol: 2e-5, scaled: false, integers: 0 },
          name,
        );
        if (mismatch !== null) expect.fail(mismatchText(mismatch));
      }
      const used = new Set(trace.map((t) => t.pass));
      for (const pass of passes) expect([...used]).toContain(pass);
      expect(session.plan!.steps.filter((s) => s.run === 'gpu').length).toBeLessThanOrEqual(dispatches);
    }
  });
});
