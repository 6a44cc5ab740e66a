/**
 * Layers of vision transformers and convolutional nets as exporters write them out, at several shapes: rewritten they
 * compute what they did on every device, in few dispatches.
 */
import { describe, expect, it } from 'vitest';
import { compareValues, mismatchText } from '../src/cli/compare.ts';
import { type DType, type Feeds, printPlan, Session, type Tensor, tensor, type Trace } from '../src/index.ts';
import { encode, initializer, type Json, node, noise, port } from './onnx-model.ts';

type Shape = readonly number[];
const sizeOf = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);

/** A graph under construction: each function adds a node, or a constant, and gives the name of its value. */
function builder(seed: number, dtype: DType = 'float32') {
  const weights: Record<string, Tensor> = {};
  const nodes: Json[] = [];
  let made = 0;
  const weight = (shape: Shape, scale = 0.5): string => {
    const name = `w${made++}`;
    weights[name] = tensor(
      dtype,
      shape,
      Array.from(noise(sizeOf(shape), seed + made), (v) => v * scale),
    );
    return name;
  };
  const constant = (t: Tensor): string => {
    const name = `c${made++}`;
    weights[name] = t;
    return name;
  };
  const ints = (...v: number[]): string => constant(tensor('int64', [v.length], v));
  const one = (v: number): string => constant(tensor(dtype, [], [v]));
  const add = (
    op: string,
    inputs: readonly string[],
    attrs: Parameters<typeof node>[3] = {},
    outputs = 1,
  ): string[] => {
    const names = Array.from({ length: outputs }, () => `v${made++}`);
    nodes.push(node(op, inputs, names, attrs));
    return names;
  };
  const of = (op: string, inputs: readonly string[], attrs: Parameters<typeof node>[3] = {}): string =>
    add(op, inputs, attrs)[0]!;
  const reshape = (x: string, ...to: number[]): string => of('Reshape', [x, ints(...to)]);
  const transpose = (x: string, ...perm: number[]): string => of('Transpose', [x], { perm });
  const linear = (x: string, from: number, to: number): string =>
    of('Add', [of('MatMul', [x, weight([from, to])]), weight([to])]);
  const slice = (x: string, axis: number, from: number, to: number): string =>
    of('Slice', [x, ints(from), ints(to), ints(axis)]);
  const norm = (x: string, n: number): string =>
    of('LayerNormalization', [x, weight([n], 1), weight([n])], { axis: -1, epsilon: 1e-5 });
  const gelu = (x: string): string =>
    of('Mul', [of('Mul', [x, of('Add', [of('Erf', [of('Div', [x, one(Math.SQRT2)])]), one(1)])]), one(0.5)]);
  const model = (
    inputs: Readonly<Record<string, Shape>>,
    y: string,
    shape: Shape,
    opset = 17,
  ): { model: Uint8Array; feeds: Feeds } => {
    nodes.push(node('Identity', [y], ['y']));
    return {
      model: encode(
        {
          input: Object.entries(inputs).map(([n, s]) => port(n, s, dtype)),
          output: [port('y', shape, dtype)],
          initializer: Object.entries(weights).map(([n, t]) => initializer(n, t)),
          node: nodes,
        },
        opset,
      ),
      feeds: Object.fromEntries(
        Object.entries(inputs).map(([n, s], i) => [n, tensor(dtype, s, Array.from(noise(sizeOf(s), seed + 90 + i)))]),
      ),
    };
  };
  return { weight, constant, ints, one, add, of, reshape, transpose, linear, slice, norm, gelu, model };
}
type Made = ReturnType<ReturnType<typeof builder>['model']>;

interface Idiom {
  readonly make: (seed: number, dims: readonly number[]) => Made;
  readonly dims: readonly (readonly number[])[];
  readonly passes: readonly string[];
  readonly dispatches: number;
  readonly near?: number;
}

/** Heads of queries, keys and values from one product, split as timm, SAM and others do. */
function heads(
  g: ReturnType<typeof builder>,
  x: string,
  [batch, steps, n, size]: readonly [number, number, number, number],
  how: 'split' | 'gather' | 'slices' | 'interleaved',
  rank: 3 | 4,
): string[] {
  const qkv = g.linear(x, n * size, 3 * n * size);
  if (how === 'interleaved')
    return [0, 1, 2].map((i) =>
      g.transpose(g.slice(g.reshape(qkv, batch, steps, n, 3 * size), 3, i * size, (i + 1) * size), 0, 2, 1, 3),
    );
  const five = g.transpose(g.reshape(qkv, batch, steps, 3, n, size), 2, 0, 3, 1, 4);
  const whole = rank === 3 ? g.reshape(five, 3, batch * n, steps, size) : five;
  const shape = rank === 3 ? [batch * n, steps, size] : [batch, n, steps, size];
  if (how === 'gather')
    return [0, 1, 2].map((i) => g.of('Gather', [whole, g.constant(tensor('int64', [], [i]))], { axis: 0 }));
  if (how === 'slices') return [0, 1, 2].map((i) => g.reshape(g.slice(whole, 0, i, i + 1), ...shape));
  return g.add('Split', [whole, g.ints(1, 1, 1)], { axis: 0 }, 3).map((v) => g.of('Squeeze', [v, g.ints(0)]));
}
const turned = (g: ReturnType<typeof builder>, k: string, rank: number): string =>
  g.transpose(k, ...(rank === 3 ? [0, 2, 1] : [0, 1, 3, 2]));
/** Rows of a plane in windows of w × w, and back. */
const windows = (g: ReturnType<typeof builder>, x: string, b: number, h: number, w: number, c: number): string =>
  g.reshape(g.transpose(g.reshape(x, b, h, w, h, w, c), 0, 1, 3, 2, 4, 5), b * h * h, w, w, c);
const unwindowed = (g: ReturnType<typeof builder>, x: string, b: number, h: number, w: number, c: number): string =>
  g.reshape(g.transpose(g.reshape(x, b, h, h, w, w, c), 0, 1, 3, 2, 4, 5), b, h * w, h * w, c);

/**
 * A layer of SAM's encoder: windows, relative positions in rows and columns, a residual. `decomposed`: einsum() as
 * products of matrices.
 */
const samLayer =
  (windowed: boolean, decomposed = false) =>
  (seed: number, [b, h, w, n, size]: readonly number[]): Made => {
    const g = builder(seed);
    const c = n! * size!;
    const plane = windowed ? w! : h! * w!;
    const count = windowed ? b! * h! * h! : b!;
    const steps = plane * plane;
    const inner = windowed ? windows(g, g.norm('x', c), b!, h!, w!, c) : g.norm('x', c);
    const [q, k, v] = heads(g, inner, [count, steps, n!, size!], 'split', 3) as [string, string, string];
    const scores = g.of('MatMul', [g.of('Mul', [q, g.one(size! ** -0.5)]), turned(g, k, 3)]);
    const four = g.reshape(q, count * n!, plane, plane, size!);
    const einsum = (equation: string): string => {
      const table = g.weight([plane, plane, size!]);
      if (!decomposed) return g.of('Einsum', [four, table], { equation });
      const perm = equation.startsWith('bhwc,h') ? [1, 0, 2, 3] : [2, 0, 1, 3];
      const back = equation.startsWith('bhwc,h') ? [1, 0, 2, 3] : [1, 2, 0, 3];
      const product = g.of('MatMul', [
        g.reshape(g.transpose(four, ...perm), plane, count * n! * plane, size!),
        g.transpose(table, 0, 2, 1),
      ]);
      return g.transpose(g.reshape(product, plane, count * n!, plane, plane), ...back);
    };
    const part = (equation: string, axis: number): string => g.of('Unsqueeze', [einsum(equation), g.ints(axis)]);
    const bias = g.reshape(
      g.of('Add', [part('bhwc,hkc->bhwk', 4), part('bhwc,wkc->bhwk', 3)]),
      count * n!,
      steps,
      steps,
    );
    const p = g.of('Softmax', [g.of('Add', [scores, bias])], { axis: -1 });
    const rows = g.reshape(
      g.transpose(g.reshape(g.of('MatMul', [p, v]), count, n!, plane, plane, size!), 0, 2, 3, 1, 4),
      count,
      plane,
      plane,
      c,
    );
    const out = g.linear(rows, c, c);
    const shape = [b!, h! * w!, h! * w!, c];
    return g.model({ x: shape }, g.of('Add', ['x', windowed ? unwindowed(g, out, b!, h!, w!, c) : out]), shape);
  };
/** Attention of heads that come of one product. */
const attentionOf =
  (how: 'split' | 'gather' | 'slices' | 'interleaved', rank: 3 | 4) =>
  (seed: number, [b, steps, n, size]: readonly number[]): Made => {
    const g = builder(seed);
    const c = n! * size!;
    const [q, k, v] = heads(g, g.norm('x', c), [b!, steps!, n!, size!], how, rank) as [string, string, string];
    const p = g.of('Softmax', [g.of('Mul', [g.of('MatMul', [q, turned(g, k, rank)]), g.one(0.4)])], { axis: -1 });
    const mixed = g.of('MatMul', [p, v]);
    const rows = g.reshape(
      g.transpose(rank === 3 ? g.reshape(mixed, b!, n!, steps!, size!) : mixed, 0, 2, 1, 3),
      b!,
      steps!,
      c,
    );
    return g.model({ x: [b!, steps!, c] }, g.of('Add', [g.linear(rows, c, c), 'x']), [b!, steps!, c]);
  };
/** Attention of Swin's windows: a bias of each head, and a mask of windows that were rolled. */
const swin = (seed: number, [b, wins, steps, n, size]: readonly number[]): Made => {
  const g = builder(seed);
  const c = n! * size!;
  const all = b! * wins!;
  const [q, k, v] = ['q', 'k', 'v'].map(() =>
    g.transpose(g.reshape(g.linear('x', c, c), all, steps!, n!, size!), 0, 2, 1, 3),
  ) as [string, string, string];
  const scores = g.of('Add', [
    g.of('Div', [g.of('MatMul', [q, turned(g, k, 4)]), g.one(Math.sqrt(size!))]),
    g.weight([1, n!, steps!, steps!]),
  ]);
  const masked = g.of('Add', [
    g.reshape(scores, b!, wins!, n!, steps!, steps!),
    g.weight([1, wins!, 1, steps!, steps!], 4),
  ]);
  const p = g.of('Softmax', [g.reshape(masked, all, n!, steps!, steps!)], { axis: -1 });
  return g.model({ x: [all, steps!, c] }, g.reshape(g.transpose(g.of('MatMul', [p, v]), 0, 2, 1, 3), all, steps!, c), [
    all,
    steps!,
    c,
  ]);
};
/** A block of Swin: rows of a plane are rolled and cut into windows, and brought back behind attention. */
const swinBlock =
  (shifted: boolean) =>
  (seed: number, [b, h, w, n, size]: readonly number[]): Made => {
    const g = builder(seed);
    const c = n! * size!;
    const side = h! * w!;
    const count = b! * h! * h!;
    const steps = w! * w!;
    const by = Math.floor(w! / 2);
    const rolled = (x: string, axis: number, from: number): string =>
      g.of('Concat', [g.slice(x, axis, from, 2 ** 40), g.slice(x, axis, 0, from)], { axis });
    const roll = (x: string, from: number): string => (shifted ? rolled(rolled(x, 1, from), 2, from) : x);
    const rows = g.reshape(
      windows(g, roll(g.reshape(g.norm('x', c), b!, side, side, c), by), b!, h!, w!, c),
      count,
      steps,
      c,
    );
    const [q, k, v] = ['q', 'k', 'v'].map(() =>
      g.transpose(g.reshape(g.linear(rows, c, c), count, steps, n!, size!), 0, 2, 1, 3),
    ) as [string, string, string];
    const p = g.of(
      'Softmax',
      [
        g.of('Add', [
          g.of('Div', [g.of('MatMul', [q, turned(g, k, 4)]), g.one(Math.sqrt(size!))]),
          g.weight([1, n!, steps, steps]),
        ]),
      ],
      { axis: -1 },
    );
    const out = g.linear(g.reshape(g.transpose(g.of('MatMul', [p, v]), 0, 2, 1, 3), count, steps, c), c, c);
    const back = roll(unwindowed(g, g.reshape(out, count, w!, w!, c), b!, h!, w!, c), -by);
    return g.model({ x: [b!, side * side, c] }, g.of('Add', ['x', g.reshape(back, b!, side * side, c)]), [
      b!,
      side * side,
      c,
    ]);
  };
/** A decoder's attention with a causal mask by Where. */
const whereMasked =
  (first: boolean, fill: number) =>
  (seed: number, [b, steps, n, size]: readonly number[]): Made => {
    const g = builder(seed);
    const c = n! * size!;
    const [q, k, v] = heads(g, 'x', [b!, steps!, n!, size!], 'gather', 4) as [string, string, string];
    const scores = g.of('MatMul', [q, turned(g, k, 4)]);
    const bits = (keep: boolean): string =>
      g.constant(
        tensor(
          'bool',
          [1, 1, steps!, steps!],
          Array.from({ length: steps! ** 2 }, (_, i) => i % steps! <= Math.floor(i / steps!) === keep),
        ),
      );
    const p = g.of(
      'Softmax',
      [first ? g.of('Where', [bits(false), g.one(fill), scores]) : g.of('Where', [bits(true), scores, g.one(fill)])],
      { axis: -1 },
    );
    return g.model({ x: [b!, steps!, c] }, g.reshape(g.transpose(g.of('MatMul', [p, v]), 0, 2, 1, 3), b!, steps!, c), [
      b!,
      steps!,
      c,
    ]);
  };
/** Half precision throughout; PyTorch takes the softmax in float32. */
const half = (seed: number, [b, steps, n, size]: readonly number[]): Made => {
  const g = builder(seed, 'float16');
  const c = n! * size!;
  const [q, k, v] = heads(g, 'x', [b!, steps!, n!, size!], 'gather', 4) as [string, string, string];
  const p = g.of(
    'Cast',
    [g.of('Softmax', [g.of('Cast', [g.of('MatMul', [q, turned(g, k, 4)])], { to: 1 })], { axis: -1 })],
    { to: 10 },
  );
  return g.model({ x: [b!, steps!, c] }, g.reshape(g.transpose(g.of('MatMul', [p, v]), 0, 2, 1, 3), b!, steps!, c), [
    b!,
    steps!,
    c,
  ]);
};

/** The same as newer exporters write it: a softmax without NaN, or ONNX's own operators. */
const safe = (seed: number, [b, steps, n, size]: readonly number[]): Made => {
  const g = builder(seed);
  const c = n! * size!;
  const [q, k, v] = heads(g, 'x', [b!, steps!, n!, size!], 'gather', 4) as [string, string, string];
  const mask = g.constant(
    tensor(
      'float32',
      [1, 1, steps!, steps!],
      Array.from({ length: steps! ** 2 }, (_, i) => (i < steps! || i % 3 === 0 ? Number.NEGATIVE_INFINITY : i % 5)),
    ),
  );
  const s = g.of('Softmax', [g.of('Add', [g.of('MatMul', [q, turned(g, k, 4)]), mask])], { axis: -1 });
  const p = g.of('Where', [g.of('IsNaN', [s]), g.one(0), s]);
  return g.model(
    { x: [b!, steps!, c] },
    g.reshape(g.transpose(g.of('MatMul', [p, v]), 0, 2, 1, 3), b!, steps!, c),
    [b!, steps!, c],
    18,
  );
};
const operators =
  (packed: boolean, normed: boolean) =>
  (seed: number, [b, steps, n, size, kv]: readonly number[]): Made => {
    const g = builder(seed);
    const c = n! * size!;
    const [q, k, v] = [n!, kv!, kv!].map((count, i) => {
      const rows = g.linear('x', c, count * size!);
      if (packed) return rows;
      const four = g.reshape(rows, b!, steps!, count, size!);
      return g.transpose(
        normed && i < 2 ? g.of('RMSNormalization', [four, g.weight([size!], 1)], { axis: -1, epsilon: 1e-5 }) : four,
        0,
        2,
        1,
        3,
      );
    }) as [string, string, string];
    const mixed = g.of('Attention', [q, k, v], {
      is_causal: 1,
      ...(packed ? { q_num_heads: n!, kv_num_heads: kv! } : {}),
    });
    const rows = packed ? mixed : g.reshape(g.transpose(mixed, 0, 2, 1, 3), b!, steps!, c);
    return g.model({ x: [b!, steps!, c] }, g.of('Add', ['x', g.linear(rows, c, c)]), [b!, steps!, c], 23);
  };

/** A block of ConvNeXt, without or with the second version's response normalisation. */
const convNext =
  (second: boolean) =>
  (seed: number, [b, c, h, w]: readonly number[]): Made => {
    const g = builder(seed);
    const shape = [b!, c!, h!, w!];
    const deep = g.transpose(
      g.of('Conv', ['x', g.weight([c!, 1, 3, 3]), g.weight([c!])], { group: c!, pads: [1, 1, 1, 1] }),
      0,
      2,
      3,
      1,
    );
    let inner = g.gelu(g.linear(g.norm(deep, c!), c!, 2 * c!));
    if (second) {
      const size = g.of('ReduceL2', [inner], { axes: [1, 2], keepdims: 1 });
      const by = g.of('Div', [
        size,
        g.of('Add', [g.of('ReduceMean', [size], { axes: [-1], keepdims: 1 }), g.one(1e-6)]),
      ]);
      inner = g.of('Add', [
        g.of('Add', [
          g.of('Mul', [g.weight([1, 1, 1, 2 * c!]), g.of('Mul', [inner, by])]),
          g.weight([1, 1, 1, 2 * c!]),
        ]),
        inner,
      ]);
    }
    const out = g.linear(inner, 2 * c!, c!);
    return g.model(
      { x: shape },
      g.of('Add', ['x', g.transpose(second ? out : g.of('Mul', [out, g.weight([c!])]), 0, 3, 1, 2)]),
      shape,
    );
  };
/** A unit of ShuffleNet V2: channels are shuffled, one half of them goes on as it is. */
const shuffled = (seed: number, [c, h, w]: readonly number[]): Made => {
  const g = builder(seed);
  const turned = g.reshape(g.transpose(g.reshape('x', c!, 2, h! * w!), 1, 0, 2), 2, 1, c!, h!, w!);
  const [kept, own] = [0, -1].map((i) => g.of('Gather', [turned, g.constant(tensor('int64', [], [i]))])) as [
    string,
    string,
  ];
  return g.model(
    { x: [1, 2 * c!, h!, w!] },
    g.of('Concat', [kept, g.of('Conv', [own, g.weight([c!, c!, 1, 1])])], { axis: 1 }),
    [1, 2 * c!, h!, w!],
  );
};
const IDIOMS: Readonly<Record<string, Idiom>> = {
  'a layer of SAM': {
    make: samLayer(false),
    dims: [
      [1, 2, 3, 2, 4],
      [2, 1, 3, 3, 2],
    ],
    passes: ['fuse-attention', 'pack-heads', 'relative-positions'],
    dispatches: 5,
  },
  'a windowed layer of SAM': {
    make: samLayer(true),
    dims: [
      [1, 2, 3, 2, 4],
      [2, 3, 2, 1, 3],
    ],
    passes: ['relative-positions', 'hoist-moves'],
    dispatches: 7,
  },
  'a layer of SAM, its einsum decomposed': {
    make: samLayer(false, true),
    dims: [
      [1, 2, 3, 2, 4],
      [2, 1, 3, 3, 2],
    ],
    passes: ['relative-positions'],
    dispatches: 5,
  },
  'heads by Split, brought into the batch': {
    make: attentionOf('split', 3),
    dims: [
      [2, 5, 3, 4],
      [1, 7, 2, 6],
    ],
    passes: ['fuse-attention', 'pack-heads'],
    dispatches: 4,
  },
  'heads by Gather': {
    make: attentionOf('gather', 4),
    dims: [
      [2, 5, 3, 4],
      [1, 9, 1, 3],
    ],
    passes: ['pack-heads'],
    dispatches: 4,
  },
  'heads by Slice': { make: attentionOf('slices', 4), dims: [[3, 4, 2, 4]], passes: ['pack-heads'], dispatches: 4 },
  'heads that hold queries, keys and values': {
    make: attentionOf('interleaved', 4),
    dims: [
      [2, 5, 3, 4],
      [1, 3, 4, 2],
    ],
    passes: ['pack-heads'],
    dispatches: 4,
  },
  'windows that were rolled': {
    make: swin,
    dims: [
      [1, 4, 5, 2, 3],
      [1, 2, 4, 3, 4],
    ],
    passes: ['fuse-attention', 'pack-heads', 'merge-projections'],
    dispatches: 3,
  },
  'a block of Swin': {
    make: swinBlock(false),
    dims: [
      [1, 2, 3, 2, 3],
      [2, 3, 2, 1, 4],
    ],
    passes: ['pack-heads', 'hoist-moves', 'merge-projections'],
    dispatches: 6,
  },
  'a block of Swin, shifted': {
    make: swinBlock(true),
    dims: [
      [1, 2, 3, 2, 3],
      [2, 3, 2, 1, 4],
    ],
    passes: ['merge-moves', 'hoist-moves', 'merge-projections'],
    dispatches: 6,
  },
  'a causal mask by Where': {
    make: whereMasked(false, -3.4028234663852886e38),
    dims: [[2, 5, 2, 4]],
    passes: ['fuse-attention', 'pack-heads'],
    dispatches: 2,
  },
  'a causal mask by Where, the fill first': {
    make: whereMasked(true, Number.NEGATIVE_INFINITY),
    dims: [[1, 6, 3, 4]],
    passes: ['fuse-attention', 'pack-heads'],
    dispatches: 2,
  },
  'a softmax without NaN': {
    make: safe,
    dims: [[2, 5, 2, 4]],
    passes: ['fuse-attention', 'pack-heads'],
    dispatches: 2,
  },
  "ONNX's Attention of heads": {
    make: operators(false, false),
    dims: [
      [2, 5, 4, 2, 2],
      [1, 6, 3, 4, 3],
    ],
    passes: ['pack-heads', 'merge-projections'],
    dispatches: 3,
  },
  "ONNX's Attention of normalised heads": {
    make: operators(false, true),
    dims: [[2, 5, 4, 2, 2]],
    passes: ['pack-heads', 'merge-projections'],
    dispatches: 5,
  },
  "ONNX's Attention of rows": {
    make: operators(true, false),
    dims: [
      [2, 5, 4, 2, 2],
      [1, 6, 3, 4, 1],
    ],
    passes: ['pack-heads', 'merge-projections'],
    dispatches: 3,
  },
  'half precision': {
    make: half,
    dims: [[2, 6, 2, 8]],
    passes: ['fuse-attention', 'pack-heads'],
    dispatches: 2,
    near: 4e-3,
  },
  'shuffled channels': {
    make: shuffled,
    dims: [
      [3, 4, 5],
      [4, 1, 7],
    ],
    passes: ['gather-transposed'],
    dispatches: 4,
  },
  'a block of ConvNeXt': {
    make: convNext(false),
    dims: [
      [1, 6, 4, 5],
      [2, 4, 3, 3],
    ],
    passes: ['channels-first'],
    dispatches: 4,
  },
  'a block of ConvNeXt V2': {
    make: convNext(true),
    dims: [
      [1, 6, 4, 5],
      [2, 4, 3, 3],
    ],
    passes: ['channels-first'],
    dispatches: 7,
  },
};

describe('layers written out', () => {
  it.each(Object.entries(IDIOMS))('%s', async (_, { make, dims, passes, dispatches, near = 1e-4 }) => {
    for (const [i, at] of dims.entries()) {
      const { model, feeds } = make(3 + 17 * i, at);
      const trace: Trace[] = [];
      await using reference = await Session.load(model, { device: 'reference', optimize: false });
      const want = (await reference.run(feeds))['y']!;
      for (const device of ['reference', 'wasm', 'webgpu'] as const) {
        await using session = await Session.load(model, {
          device,
          strict: device === 'webgpu',
          ...(device === 'webgpu' ? { trace: (t) => trace.push(t) } : {}),
        });
        const { mismatch } = compareValues(
          (await session.run(feeds))['y']!,
          want,
          { rtol: near, atol: near, scaled: false, integers: 0 },
          device,
        );
        if (mismatch !== null) expect.fail(mismatchText(mismatch));
        if (device === 'webgpu')
          expect(
            session.plan!.steps.filter((s) => s.run === 'gpu').length,
            printPlan(session.plan!),
          ).toBeLessThanOrEqual(dispatches);
        if (device === 'wasm')
          expect(session.plan!.steps.filter((s) => s.run === 'host').map((s) => 'op' in s && s.op)).toEqual([]);
      }
      expect([...new Set(trace.map((t) => t.pass))]).toEqual(expect.arrayContaining([...passes]));
    }
  });
});
