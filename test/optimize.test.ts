import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { compareValues, mismatchText } from '../src/cli/compare.ts';
import { parseModel } from '../src/1-parse/model.ts';
import { parseTensor } from '../src/1-parse/values.ts';
import type { Constant } from '../src/core/graph.ts';
import { byteLength, bytesOfTensor } from '../src/core/tensor.ts';
import { scaledWeights } from '../src/2-optimize/batchnorm.ts';
import { type DType, type Plan, planModel, Session, type Tensor, tensor, type Trace } from '../src/index.ts';
import { measurer } from '../src/2-optimize/fuse-measure.ts';
import { input, x } from '../kernels/expr.ts';
import { encode, initializer, type Json, node, noise, port } from './onnx-model.ts';

interface Graph {
  readonly in: Readonly<Record<string, readonly number[]>>;
  readonly out: Readonly<Record<string, DType>>;
  readonly weights?: Readonly<Record<string, Tensor>>;
  readonly nodes: readonly Json[];
  readonly types?: Readonly<Record<string, DType>>;
  readonly opset?: number;
}
const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const f32 = (shape: readonly number[], seed = 5): Tensor => tensor('float32', shape, noise(size(shape), seed));
const filled = (v: number, shape: readonly number[] = []): Tensor =>
  tensor('float32', shape, new Float32Array(size(shape)).fill(v));
const i64 = (...v: number[]): Tensor => tensor('int64', [v.length], v);

const modelOf = (g: Graph): Uint8Array =>
  encode(
    {
      input: Object.entries(g.in).map(([name, shape]) => port(name, shape, g.types?.[name])),
      output: Object.entries(g.out).map(([name, dtype]) => ({
        name,
        type: {
          tensorType: {
            elemType: (port(name, [], dtype) as { type: { tensorType: { elemType: number } } }).type.tensorType
              .elemType,
          },
        },
      })),
      initializer: Object.entries(g.weights ?? {}).map(([name, t]) => initializer(name, t)),
      node: g.nodes,
    },
    g.opset ?? 17,
  );

/**
 * Runs the graph as it is and rewritten, on the reference and on WASM; they must agree. Gives the names of the passes
 * that changed it.
 */
async function rewrites(g: Graph, seed = 1): Promise<string[]> {
  const model = modelOf(g);
  const feeds = Object.fromEntries(
    Object.entries(g.in).map(([name, shape], i) => [
      name,
      tensor(g.types?.[name] ?? 'float32', shape, Array.from(noise(size(shape), seed + i))),
    ]),
  );
  const trace: Trace[] = [];
  await using plain = await Session.load(model, { device: 'reference', optimize: false });
  await using quick = await Session.load(model, { device: 'reference', trace: (t) => trace.push(t) });
  await using wasm = await Session.load(model, { device: 'wasm' });
  const want = await plain.run(feeds);
  for (const got of [await quick.run(feeds), await wasm.run(feeds)])
    for (const [name, value] of Object.entries(want)) {
      const { mismatch } = compareValues(
        got[name]!,
        value,
        { rtol: g.types ? 4e-3 : 1e-4, atol: g.types ? 4e-3 : 1e-5, scaled: false, integers: 0 },
        name,
      );
      if (mismatch !== null)
        expect.fail(`${mismatchText(mismatch)} after ${[...new Set(trace.map((t) => t.pass))].join(', ')}`);
    }
  for (const t of trace) expect(t.reason.length).toBeGreaterThan(8);
  return trace.map((t) => t.pass);
}

const d = [2, 3, 8] as const;
/** Layer normalisation as exporters write it; each part may be changed. */
const layerNorm = (
  o: {
    readonly axes?: readonly number[];
    readonly keep?: number;
    readonly eps?: Json | null;
    readonly square?: 'pow' | 'mul';
    readonly scale?: 'div' | 'reciprocal' | 'one' | 'pow';
    readonly gamma?: boolean;
    readonly out?: Graph['out'];
    readonly more?: readonly Json[];
    readonly exponent?: number;
  } = {},
): Graph => {
  const axes = o.axes ?? [-1];
  return {
    in: { x: d, e: [] },
    out: o.out ?? { y: 'float32' },
    weights: {
      two: filled(o.exponent ?? 2),
      one: filled(1),
      half: filled(-0.5),
      eps: filled(1e-5),
      gamma: f32([8], 7),
      beta: f32([1, 1, 8], 8),
    },
    nodes: [
      node('ReduceMean', ['x'], ['mean'], { axes }),
      node('Sub', ['x', 'mean'], ['c']),
      o.square === 'mul' ? node('Mul', ['c', 'c'], ['sq']) : node('Pow', ['c', 'two'], ['sq']),
      node('ReduceMean', ['sq'], ['var'], { axes, keepdims: o.keep ?? 1 }),
      node('Abs', ['e'], ['abs']),
      node('Add', o.eps === null ? ['var', 'abs'] : ['eps', 'var'], ['sum']),
      ...(o.scale === 'pow'
        ? [node('Pow', ['sum', 'half'], ['inv']), node('Mul', ['inv', 'c'], ['n'])]
        : [
            node('Sqrt', ['sum'], ['std']),
            ...(o.scale === 'reciprocal'
              ? [node('Reciprocal', ['std'], ['inv']), node('Mul', ['c', 'inv'], ['n'])]
              : o.scale === 'one'
                ? [node('Div', ['one', 'std'], ['inv']), node('Mul', ['c', 'inv'], ['n'])]
                : [node('Div', ['c', 'std'], ['n'])]),
          ]),
      ...(o.gamma === false
        ? [node('Neg', ['n'], ['y'])]
        : [node('Mul', ['gamma', 'n'], ['g']), node('Add', ['g', 'beta'], ['y'])]),
      ...(o.more ?? []),
    ],
  };
};
const rms = (cast: DType | null): Graph => ({
  in: { x: d },
  ...(cast ? { types: { x: cast } } : {}),
  out: { y: cast ?? 'float32' },
  weights: { two: filled(2), eps: filled(1e-5), gamma: tensor(cast ?? 'float32', [8], Array.from(noise(8))) },
  nodes: [
    node('Cast', ['x'], ['xx'], { to: 1 }),
    node('Pow', ['xx', 'two'], ['sq']),
    node('ReduceMean', ['sq'], ['m'], { axes: [-1] }),
    node('Add', ['m', 'eps'], ['s']),
    node('Sqrt', ['s'], ['r']),
    node('Reciprocal', ['r'], ['i']),
    node('Mul', ['xx', 'i'], ['n']),
    node('Cast', ['n'], ['nn'], { to: cast === 'float16' ? 10 : 1 }),
    node('Mul', ['gamma', 'nn'], ['y']),
  ],
});
const softmax = (axis: number, sumAxis = axis, first = true, out: Graph['out'] = { y: 'float32' }): Graph => ({
  in: { x: d },
  out,
  weights: { axes: i64(sumAxis) },
  nodes: [
    ...(first
      ? [node('ReduceMax', ['x'], ['m'], { axes: [axis] }), node('Sub', ['x', 'm'], ['c'])]
      : [node('Neg', ['x'], ['c'])]),
    node('Exp', ['c'], ['e']),
    node('ReduceSum', ['e', 'axes'], ['s']),
    node('Div', ['e', 's'], ['y']),
  ],
});
const conv = (
  op: string,
  c: readonly number[],
  order: 'first' | 'second' = 'first',
  more: Partial<Graph> = {},
): Graph => ({
  in: { x: [2, 4, 5, 6] },
  out: { y: 'float32' },
  weights: {
    w: f32([6, 2, 3, 3]),
    c: tensor(
      'float32',
      c,
      Array.from(noise(size(c), 3), (v) => v + 2),
    ),
  },
  nodes: [node('Conv', ['x', 'w'], ['a'], { group: 2 }), node(op, order === 'first' ? ['a', 'c'] : ['c', 'a'], ['y'])],
  ...more,
});
/** A convolution times -¼, ½, 1, …: its weights keep their bits. */
const timesPowers = (op: string): Graph =>
  conv(op, [6, 1, 1], 'first', {
    weights: { w: f32([6, 2, 3, 3]), c: tensor('float32', [6, 1, 1], [-0.25, 0.5, 1, 2, 4, 8]) },
  });
const padded = (
  pads: readonly number[],
  op = 'Conv',
  attributes: Parameters<typeof node>[3] = {},
  value = 0,
  mode = 'constant',
  channels = 4,
): Graph => ({
  in: { x: [1, channels, 6, 7] },
  out: { y: 'float32' },
  weights: { w: f32([3, 4, 3, 3]), pads: i64(...pads), v: filled(value) },
  nodes: [
    node('Pad', mode === 'constant' ? ['x', 'pads', 'v'] : ['x', 'pads'], ['p'], { mode }),
    node(op, op === 'Conv' ? ['p', 'w'] : ['p'], ['y'], {
      ...(op === 'Conv' ? {} : { kernel_shape: [3, 3] }),
      ...attributes,
    }),
  ],
});
const maximum = (
  before: ReturnType<typeof node>,
  value: number,
  attributes: Parameters<typeof node>[3] = {},
  put = 2,
): Graph => ({
  in: { x: [1, 4, 6, 7] },
  out: { y: 'float32' },
  weights: { pads: i64(0, 0, put, 1, 0, 0, 1, put), v: filled(value), least: filled(-0.25) },
  nodes: [
    before,
    node('Pad', ['r', 'pads', 'v'], ['p'], { mode: 'constant' }),
    node('MaxPool', ['p'], ['y'], { kernel_shape: [3, 3], ...attributes }),
  ],
});
/** Scaled dot-product attention as exporters write it, Q, K and V coming as [batch, steps, heads, size]. */
const attention = (
  o: {
    readonly mask?: readonly number[] | null;
    readonly scale?: 'score' | 'both' | 'none';
    readonly keyPerm?: 'once' | 'twice';
    readonly after?: boolean;
    readonly axis?: number;
    readonly out?: Graph['out'];
    readonly groups?: boolean;
  } = {},
): Graph => {
  const scale = o.scale ?? 'score';
  const keys = o.groups ? [2, 7, 2, 8] : [2, 7, 4, 8];
  return {
    in: { q: [2, 5, 4, 8], k: keys, v: keys, ...(o.mask ? { m: o.mask } : {}) },
    out: o.out ?? { y: 'float32' },
    weights: { c: filled(0.35), r: filled(0.6), s5: i64(2, 2, 2, 7, 8), s4: i64(2, 4, 7, 8), two: i64(2) },
    nodes: [
      node('Transpose', ['q'], ['q1'], { perm: [0, 2, 1, 3] }),
      ...(scale === 'both' ? [node('Mul', ['q1', 'r'], ['q2'])] : [node('Identity', ['q1'], ['q2'])]),
      ...(o.groups
        ? ['k', 'v'].flatMap((t) => [
            node('Transpose', [t], [`${t}a`], { perm: [0, 2, 1, 3] }),
            node('Unsqueeze', [`${t}a`, 'two'], [`${t}b`]),
            node('Expand', [`${t}b`, 's5'], [`${t}c`]),
            node('Reshape', [`${t}c`, 's4'], [`${t}1`]),
          ])
        : [
            node('Transpose', ['k'], ['k1'], { perm: [0, 2, 1, 3] }),
            node('Transpose', ['v'], ['v1'], { perm: [0, 2, 1, 3] }),
          ]),
      ...(o.keyPerm === 'once'
        ? [node('Transpose', ['k'], ['k2'], { perm: [0, 2, 3, 1] })]
        : [node('Transpose', ['k1'], ['k2'], { perm: [0, 1, 3, 2] })]),
      ...(scale === 'both' ? [node('Mul', ['r', 'k2'], ['k3'])] : [node('Identity', ['k2'], ['k3'])]),
      node('MatMul', ['q2', 'k3'], ['s']),
      ...(o.after
        ? [node('Add', ['s', 'm'], ['sm']), node('Mul', ['sm', 'c'], ['z'])]
        : [
            ...(scale === 'score' ? [node('Div', ['s', 'c'], ['s1'])] : [node('Identity', ['s'], ['s1'])]),
            ...(o.mask ? [node('Add', ['m', 's1'], ['z'])] : [node('Identity', ['s1'], ['z'])]),
          ]),
      node('Softmax', ['z'], ['p'], { axis: o.axis ?? -1 }),
      node('MatMul', ['p', 'v1'], ['y0']),
      node('Transpose', ['y0'], ['y'], { perm: [0, 2, 1, 3] }),
    ],
  };
};
const rotated = (parts: readonly string[]): Graph =>
  graph({
    in: { x: [2, 3, 8] },
    weights: { zero: i64(0), four: i64(4), end: i64(2 ** 40), ax: i64(-1), cos: f32([3, 8]), sin: f32([3, 8], 2) },
    nodes: [
      node('Slice', ['x', 'zero', 'four', 'ax'], ['a']),
      node('Slice', ['x', 'four', 'end', 'ax'], ['b']),
      node('Neg', ['b'], ['n']),
      node('Concat', parts, ['t'], { axis: -1 }),
      node('Mul', ['x', 'cos'], ['xc']),
      node('Mul', ['t', 'sin'], ['ts']),
      node('Add', ['xc', 'ts'], ['y']),
    ],
  });
const unary = (...ops: Json[]): Partial<Graph> => ({ nodes: ops });
const graph = (g: Partial<Graph>): Graph => ({ in: { x: d }, out: { y: 'float32' }, nodes: [], ...g });

const MATCH: readonly (readonly [pass: string, what: string, g: Graph])[] = [
  [
    'remove-identity',
    'a copy between two nodes',
    graph(unary(node('Relu', ['x'], ['a']), node('Identity', ['a'], ['b']), node('Neg', ['b'], ['y']))),
  ],
  [
    'remove-identity',
    'a copy that is an output too',
    graph({
      out: { y: 'float32', b: 'float32' },
      nodes: [node('Relu', ['x'], ['a']), node('Identity', ['a'], ['b']), node('Neg', ['b'], ['y'])],
    }),
  ],
  [
    'fold-constants',
    'arithmetic of weights',
    graph({
      weights: { a: f32([3, 8]), b: f32([8], 2) },
      nodes: [
        node('Mul', ['a', 'b'], ['c']),
        node('Transpose', ['c'], ['t'], { perm: [1, 0] }),
        node('MatMul', ['x', 't'], ['y']),
      ],
    }),
  ],
  [
    'merge-duplicates',
    'equal nodes',
    graph({
      weights: { one: filled(1), uno: filled(1) },
      nodes: [
        node('Add', ['x', 'one'], ['a']),
        node('Add', ['x', 'uno'], ['b']),
        node('Softmax', ['a'], ['s'], { axis: 1 }),
        node('Softmax', ['b'], ['t'], { axis: 1 }),
        node('Mul', ['s', 't'], ['y']),
      ],
    }),
  ],
  [
    'merge-casts',
    'a cast to the same type',
    graph(unary(node('Cast', ['x'], ['a'], { to: 1 }), node('Neg', ['a'], ['y']))),
  ],
  [
    'merge-casts',
    'a cast to a wider type and back',
    graph(
      unary(node('Cast', ['x'], ['a'], { to: 11 }), node('Cast', ['a'], ['b'], { to: 1 }), node('Neg', ['b'], ['y'])),
    ),
  ],
  [
    'merge-transposes',
    'two that undo each other',
    graph(
      unary(
        node('Transpose', ['x'], ['a'], { perm: [1, 2, 0] }),
        node('Transpose', ['a'], ['b'], { perm: [2, 0, 1] }),
        node('Softmax', ['b'], ['y']),
      ),
    ),
  ],
  [
    'merge-transposes',
    'two that make a third',
    graph(unary(node('Transpose', ['x'], ['a'], { perm: [1, 2, 0] }), node('Transpose', ['a'], ['y']))),
  ],
  [
    'sink-transposes',
    'an operator with constants between two',
    graph({
      weights: { w: f32([8, 2]) },
      nodes: [
        node('Transpose', ['x'], ['a'], { perm: [1, 2, 0] }),
        node('Mul', ['a', 'w'], ['b']),
        node('Sigmoid', ['b'], ['c']),
        node('Transpose', ['c'], ['y'], { perm: [2, 0, 1] }),
      ],
    }),
  ],
  [
    'sink-transposes',
    'two inputs of one order',
    graph({
      in: { x: d, z: d },
      nodes: [
        node('Transpose', ['x'], ['a'], { perm: [0, 2, 1] }),
        node('Transpose', ['z'], ['b'], { perm: [0, 2, 1] }),
        node('Add', ['a', 'b'], ['c']),
        node('Softmax', ['c'], ['y']),
      ],
    }),
  ],
  [
    'merge-views',
    'a change of shape of a change of shape',
    graph({
      weights: { s: i64(6, 8), a: i64(1) },
      nodes: [
        node('Relu', ['x'], ['r']),
        node('Reshape', ['r', 's'], ['p']),
        node('Unsqueeze', ['p', 'a'], ['q']),
        node('Softmax', ['q'], ['y']),
      ],
    }),
  ],
  [
    'merge-views',
    'a pair that cancels',
    graph({
      weights: { a: i64(1) },
      nodes: [
        node('Relu', ['x'], ['r']),
        node('Unsqueeze', ['r', 'a'], ['p']),
        node('Squeeze', ['p', 'a'], ['q']),
        node('Softmax', ['q'], ['y']),
      ],
    }),
  ],
  [
    'transpose-as-reshape',
    'axes of size 1',
    graph({
      in: { x: [1, 5, 1, 3] },
      nodes: [node('Transpose', ['x'], ['a'], { perm: [1, 0, 3, 2] }), node('Softmax', ['a'], ['y'], { axis: 2 })],
    }),
  ],
  [
    'sink-views',
    'a bias behind a change of shape',
    graph({
      weights: { w: f32([8, 6]), s: i64(2, 3, 2, 3), b: f32([2, 3], 4) },
      nodes: [
        node('MatMul', ['x', 'w'], ['m']),
        node('Reshape', ['m', 's'], ['r']),
        node('Add', ['r', 'b'], ['a']),
        node('Relu', ['a'], ['y']),
      ],
    }),
  ],
  [
    'drop-expand',
    'a sum of a repeated value',
    graph({
      in: { x: d, z: [1, 8] },
      weights: { s: i64(2, 3, 8) },
      nodes: [node('Expand', ['z', 's'], ['e']), node('Add', ['x', 'e'], ['y'])],
    }),
  ],
  [
    'remove-noops',
    'a Pad of nothing, a Slice of all, a Concat of one',
    graph({
      weights: { p: i64(0, 0, 0, 0, 0, 0), a: i64(0), b: i64(99), e: tensor('float32', [2, 0, 8], []) },
      nodes: [
        node('Pad', ['x', 'p'], ['q'], { mode: 'reflect' }),
        node('Slice', ['q', 'a', 'b', 'a'], ['r']),
        node('Concat', ['r', 'e'], ['s'], { axis: 1 }),
        node('Softmax', ['s'], ['y']),
      ],
    }),
  ],
  ['fold-pad', 'zeros around a convolution', padded([0, 0, 1, 0, 0, 0, 2, 1])],
  ['fold-pad', 'zeros around an average', padded([0, 0, 1, 1, 0, 0, 1, 1], 'AveragePool')],
  [
    'fold-pad',
    'zeros around a maximum of what is not negative',
    maximum(node('Relu', ['x'], ['r']), 0, { strides: [2, 1] }),
  ],
  ['fold-pad', 'a bound around a maximum of clipped values', maximum(node('Clip', ['x', 'least'], ['r']), -0.25)],
  [
    'fold-pad',
    'what is below all around any maximum',
    maximum(node('Neg', ['x'], ['r']), -Infinity, { dilations: [2, 1], auto_pad: 'VALID' }),
  ],
  ['fold-scale', 'Mul', timesPowers('Mul')],
  ['fold-scale', 'Add', conv('Add', [1, 6, 1, 1], 'second')],
  ['fold-scale', 'Sub', conv('Sub', [6, 1, 1], 'second')],
  ['fold-scale', 'Div', timesPowers('Div')],
  [
    'fold-scale',
    'a transposed convolution',
    conv('Mul', [4, 1, 1], 'first', {
      nodes: [node('ConvTranspose', ['x', 'w4'], ['a'], { group: 2 }), node('Mul', ['a', 'c'], ['y'])],
      weights: { w4: f32([4, 2, 3, 3]), c: f32([4, 1, 1]) },
    }),
  ],
  ['fuse-norm', 'pow, sqrt, div', layerNorm()],
  ['fuse-norm', 'a product as the square, the reciprocal', layerNorm({ square: 'mul', scale: 'reciprocal' })],
  ['fuse-norm', '1 / √', layerNorm({ scale: 'one' })],
  ['fuse-norm', 'a power of -½', layerNorm({ scale: 'pow' })],
  ['fuse-norm', 'no scale', layerNorm({ gamma: false })],
  ['fuse-norm', 'two axes', layerNorm({ axes: [1, 2], gamma: false })],
  ['fuse-norm', 'all but the mean, which makes an output', layerNorm({ out: { y: 'float32', c: 'float32' } })],
  ['fuse-norm', 'mean of squares', rms(null)],
  ['fuse-norm', 'mean of squares of narrow values', rms('float16')],
  ['fuse-attention', 'scaled scores', attention()],
  ['fuse-attention', 'no scale', attention({ scale: 'none' })],
  ['fuse-attention', 'both sides scaled', attention({ scale: 'both', mask: [2, 1, 5, 7] })],
  ['fuse-attention', 'keys transposed at once', attention({ keyPerm: 'once', mask: [1, 1, 5, 7] })],
  ['fuse-attention', 'a bias for each head', attention({ mask: [4, 5, 7] })],
  ['fuse-attention', 'a mask of keys', attention({ mask: [2, 1, 1, 7] })],
  ['fuse-attention', 'heads in groups', attention({ groups: true, mask: [5, 7] })],
  ['gather-slices', 'halves turned', rotated(['n', 'a'])],
  ['gather-slices', 'halves exchanged', rotated(['b', 'a'])],
  ['fuse-softmax', 'last axis', softmax(-1)],
  ['fuse-softmax', 'first axis', softmax(0)],
];

const LEAVE_ATTENTION: readonly (readonly [pass: string, why: string, g: Graph])[] = [
  ['fuse-attention', 'the mask is scaled', attention({ after: true, mask: [5, 7] })],
  ['fuse-attention', 'the probabilities are an output', attention({ out: { y: 'float32', p: 'float32' } })],
  ['fuse-attention', 'the scores are an output', attention({ out: { y: 'float32', s: 'float32' } })],
  ['fuse-attention', 'the softmax is over queries', attention({ axis: 2 })],
  ['gather-slices', 'a slice is read elsewhere', { ...rotated(['n', 'a']), out: { y: 'float32', a: 'float32' } }],
];
const LEAVE: readonly (readonly [pass: string, why: string, g: Graph])[] = [
  ['fuse-norm', 'the square is an output', layerNorm({ out: { y: 'float32', sq: 'float32' } })],
  [
    'fuse-norm',
    'the variance is read elsewhere',
    layerNorm({ out: { y: 'float32', z: 'float32' }, more: [node('Neg', ['var'], ['z'])] }),
  ],
  ['fuse-norm', 'the axis is not the last', layerNorm({ axes: [1] })],
  ['fuse-norm', 'epsilon is no constant', layerNorm({ eps: null })],
  ['fuse-norm', 'it is a cube', layerNorm({ exponent: 4 })],
  ['fuse-softmax', 'the axes differ', softmax(2, 1)],
  ['fuse-softmax', 'nothing is subtracted', softmax(2, 2, false)],
  ['fuse-softmax', 'the exponentials are an output', softmax(2, 2, true, { y: 'float32', e: 'float32' })],
  ['fold-scale', 'the constant follows width', conv('Mul', [4])],
  ['fold-scale', 'the constant is divided', conv('Div', [6, 1, 1], 'second')],
  ['fold-scale', 'the result is an output', { ...timesPowers('Mul'), out: { y: 'float32', a: 'float32' } }],
  ['fold-scale', 'the weights would be rounded', conv('Mul', [6, 1, 1])],
  ['fold-scale', 'the constant widens the result', conv('Mul', [3, 1, 1, 1, 1])],
  ['fold-pad', 'what is put is not 0', padded([0, 0, 1, 1, 0, 0, 1, 1], 'Conv', {}, 0.5)],
  ['fold-pad', 'channels are put', padded([0, 1, 1, 1, 0, 2, 1, 1], 'Conv', {}, 0, 'constant', 1)],
  ['fold-pad', 'the border is repeated', padded([0, 0, 1, 1, 0, 0, 1, 1], 'Conv', {}, 0, 'edge')],
  ['fold-pad', 'zeros exceed some of what a maximum reads', maximum(node('Neg', ['x'], ['r']), 0)],
  [
    'fold-pad',
    'a maximum rounds its windows up',
    maximum(node('Relu', ['x'], ['r']), 0, { strides: [2, 2], ceil_mode: 1 }),
  ],
  ['fold-pad', 'a maximum reads nothing but what is put', maximum(node('Relu', ['x'], ['r']), 0, {}, 3)],
  ['fold-pad', 'some is cut off', padded([0, 0, -1, 1, 0, 0, 1, 1])],
  [
    'fold-pad',
    'the average has padding that it does not count',
    padded([0, 0, 1, 1, 0, 0, 1, 1], 'AveragePool', { pads: [1, 1, 1, 1] }),
  ],
  [
    'merge-casts',
    'a cast loses something',
    graph(unary(node('Cast', ['x'], ['a'], { to: 6 }), node('Cast', ['a'], ['y'], { to: 1 }))),
  ],
  [
    'merge-duplicates',
    'the axes differ',
    graph(
      unary(
        node('Softmax', ['x'], ['s'], { axis: 1 }),
        node('Softmax', ['x'], ['t'], { axis: 2 }),
        node('Mul', ['s', 't'], ['y']),
      ),
    ),
  ],
  [
    'merge-transposes',
    'something is between that needs the order',
    graph(
      unary(
        node('Transpose', ['x'], ['a'], { perm: [1, 2, 0] }),
        node('Softmax', ['a'], ['b']),
        node('Transpose', ['b'], ['y'], { perm: [2, 0, 1] }),
      ),
    ),
  ],
  [
    'sink-transposes',
    'the orders differ',
    graph({
      in: { x: [3, 3, 3], z: [3, 3, 3] },
      nodes: [
        node('Transpose', ['x'], ['a'], { perm: [0, 2, 1] }),
        node('Transpose', ['z'], ['b'], { perm: [1, 0, 2] }),
        node('Add', ['a', 'b'], ['y']),
      ],
    }),
  ],
  ['transpose-as-reshape', 'elements move', graph(unary(node('Transpose', ['x'], ['y'], { perm: [0, 2, 1] })))],
  [
    'sink-views',
    'the other operand is broadcast across the change',
    graph({
      in: { x: [4, 6] },
      weights: { s: i64(6, 4), b: f32([6, 1]) },
      nodes: [node('Relu', ['x'], ['r']), node('Reshape', ['r', 's'], ['p']), node('Add', ['p', 'b'], ['y'])],
    }),
  ],
  [
    'drop-expand',
    'the Expand alone makes the shape',
    graph({
      in: { x: [1, 8] },
      weights: { s: i64(2, 3, 8) },
      nodes: [node('Expand', ['x', 's'], ['e']), node('Neg', ['e'], ['y'])],
    }),
  ],
  [
    'remove-noops',
    'a Slice turns the order around',
    graph({
      weights: { a: i64(-1), b: i64(-99), m: i64(1), s: i64(-1) },
      nodes: [node('Slice', ['x', 'a', 'b', 'm', 's'], ['y'])],
    }),
  ],
];

describe('a pass', () => {
  it.each(MATCH)('%s rewrites: %s', async (pass, _, g) => {
    for (const seed of [1, 2]) expect(await rewrites(g, seed)).toContain(pass);
  });
  it.each([...LEAVE, ...LEAVE_ATTENTION])('%s leaves alone where %s', async (pass, _, g) => {
    expect(await rewrites(g)).not.toContain(pass);
  });
  it('runs only if its kind is allowed', async () => {
    const passesFor = async (optimize: boolean | readonly ('exact' | 'reassociates')[]): Promise<Set<string>> => {
      const seen = new Set<string>();
      await planModel(
        modelOf({
          ...layerNorm(),
          nodes: [...layerNorm().nodes.slice(0, -1), node('Identity', ['g'], ['h']), node('Add', ['h', 'beta'], ['y'])],
        }),
        { device: 'wasm', optimize, trace: (t) => seen.add(t.pass) },
      );
      return seen;
    };
    expect([...(await passesFor(false))]).toEqual([]);
    const exact = await passesFor(['exact']);
    expect(exact).toContain('remove-identity');
    expect(exact).not.toContain('fuse-norm');
    expect(await passesFor(true)).toContain('fuse-norm');
  });
});

const steps = async (g: Graph, device: 'webgpu' | 'wasm' = 'webgpu'): Promise<string[]> =>
  (await planModel(modelOf(g), { device })).plan.steps.flatMap((s) =>
    s.run === 'gpu' || s.run === 'wasm' || s.run === 'host' ? [s.op] : [],
  );

describe.each(['webgpu', 'wasm'] as const)('fusion for %s', (device) => {
  const mm = { weights: { w: f32([8, 8]), b: f32([8]), half: filled(0.5), one: filled(1), root: filled(Math.SQRT2) } };
  it('makes one step of x * sigmoid(x)', async () => {
    expect(await steps(graph(unary(node('Sigmoid', ['x'], ['s']), node('Mul', ['x', 's'], ['y']))), device)).toEqual([
      'Sigmoid+Mul',
    ]);
  });
  it('makes one step of an intermediate that is read twice inside', async () => {
    expect(
      await steps(
        graph(
          unary(
            node('Neg', ['x'], ['a']),
            node('Sigmoid', ['a'], ['s']),
            node('Exp', ['a'], ['e']),
            node('Mul', ['s', 'e'], ['m']),
            node('Add', ['m', 'a'], ['y']),
          ),
        ),
        device,
      ),
    ).toHaveLength(1);
  });
  it('keeps an intermediate that is an output', async () => {
    expect(
      await steps(
        graph({
          out: { y: 'float32', s: 'float32' },
          nodes: [node('Sigmoid', ['x'], ['s']), node('Mul', ['x', 's'], ['y'])],
        }),
        device,
      ),
    ).toHaveLength(2);
  });
  it('makes one step of a product, its bias and GELU', async () => {
    const g = graph({
      ...mm,
      nodes: [
        node('MatMul', ['x', 'w'], ['m']),
        node('Add', ['m', 'b'], ['a']),
        node('Div', ['a', 'root'], ['d']),
        node('Erf', ['d'], ['e']),
        node('Add', ['e', 'one'], ['f']),
        node('Mul', ['a', 'f'], ['g']),
        node('Mul', ['g', 'half'], ['y']),
      ],
    });
    expect(await steps(g, device)).toHaveLength(1);
    await rewrites(g);
  });
  it('computes a small operand where it is read', async () => {
    const g = graph({
      in: { x: [64, 3, 8], z: [8] },
      nodes: [node('Abs', ['z'], ['a']), node('Add', ['x', 'a'], ['y'])],
    });
    expect(await steps(g, device)).toHaveLength(1);
    await rewrites(g);
  });
  it('does not compute an expensive small operand again and again', async () => {
    expect(
      await steps(
        graph({
          in: { x: [64, 64, 64], z: [64] },
          nodes: [node('Erf', ['z'], ['a']), node('Tanh', ['a'], ['b']), node('Add', ['x', 'b'], ['y'])],
        }),
        device,
      ),
    ).toHaveLength(2);
  });
});

it('counts equal parts of an expression once', () => {
  const v = input(0, 'f32');
  const measure = measurer();
  let e = x.add(v, v);
  for (let i = 0; i < 6; i++) e = x.mul(e, e);
  expect(measure(e)).toMatchObject({ cost: 7, tree: 127 });
  expect(measure(x.add(e, x.exp(v)))).toMatchObject({ cost: 9, work: 20 });
});

it('runs each branch to its end where turn by turn needs more memory', async () => {
  const branches = [0, 1, 2, 3, 4, 5];
  const g = graph({
    in: { x: [64, 64] },
    weights: { s: i64(4, 64, 64), one: i64(0) },
    nodes: [
      ...branches.map((b) => node('Concat', ['x', 'x', 'x', 'x'], [`w${b}`], { axis: b % 2 })),
      ...branches.map((b) => node('ReduceSum', [`w${b}`, 'one'], [`r${b}`])),
      node(
        'Concat',
        branches.map((b) => `r${b}`),
        ['c'],
        { axis: 1 },
      ),
      node('Neg', ['c'], ['y']),
    ].map((n, i) => ({ ...n, name: `n${i}` })),
  });
  const apart = {
    ...g,
    nodes: g.nodes.map((n) =>
      (n.opType as string) === 'Concat' && (n.output as string[])[0]!.startsWith('w')
        ? {
            ...n,
            input: ['x', 'x', ...Array.from({ length: 1 + Number((n.output as string[])[0]!.slice(1)) }, () => 'x')],
          }
        : n,
    ),
  };
  const [as, better] = (await Promise.all(
    [false, true].map(
      async (optimize) => (await planModel(modelOf(apart), { device: 'wasm', optimize })).plan.lowerBoundBytes,
    ),
  )) as [number, number];
  expect(better).toBeLessThan(0.6 * as);
  await rewrites(apart);
});

const models = resolve(import.meta.dirname, '../../shared/data/models');
/** Nodes that run, after all merging, at most. */
const BOUNDS: Readonly<Record<string, number>> = {
  'bert-mini-synth': 33,
  'blazeface-front': 56,
  'clip-mini-synth': 78,
  'convnext-mini-synth': 75,
  'dtln-1': 10,
  fastestdet: 134,
  'genai-tiny-gpt2-fp32': 34,
  'genai-tiny-lfm2': 7,
  'gpt2-mini-synth': 53,
  gtcrn: 210,
  'mlsd-320-tiny': 54,
  'mnist-8': 5,
  'mnist-cnn-pytorch': 9,
  'mobilenetv2-qdq-synth': 318,
  'mobilenetv2-synth': 54,
  'openseeface-det': 93,
  'openseeface-lm0': 80,
  'ort-bert-toy': 76,
  'ort-qdq-mobilenet-edge': 27,
  'oww-embedding': 25,
  'oww-hello-deepa': 7,
  'ppocr-cls': 75,
  'ppocrv4-det': 91,
  'ppocrv4-rec': 74,
  'qwen3-mini-synth': 56,
  'sam-mini-enc-synth': 48,
  'silero-vad-16k-op15': 17,
  'silero-vad-half': 16,
  'silero-vad-legacy': 1,
  'silero-vad-v5': 1,
  'squeezenet-winml': 44,
  'stories260k-gqa-fp16': 45,
  'stories260k-gqa-fp32': 45,
  'stories260k-gqa-int4': 50,
  'stories260k-hf-op17': 102,
  'stories260k-int8dyn': 155,
  'super-resolution-10': 5,
  't5-mini-enc-synth': 31,
  'ultraface-rfb-320': 75,
  'wav2vec2-mini-synth': 46,
  'whisper-mini-enc-synth': 30,
  'yunet-n-320': 79,
};

describe.skipIf(!existsSync(models))('steps of real models', () => {
  const lines: string[] = [];
  afterAll(() => {
    console.log(`${'model'.padEnd(24)} nodes steps dispatches peak/least\n${lines.join('\n')}`);
  });
  it.each(Object.entries(BOUNDS))('%s takes at most %i', async (name, bound) => {
    const { graph: file, dims } = dimsOf(resolve(models, name));
    const { plan } = await planModel(resolve(models, name, 'model.onnx'), { device: 'webgpu', dims });
    const work = plan.steps.filter((s) => s.run === 'gpu' || (s.run === 'host' && s.why !== 'shape')) as {
      readonly node: string;
      readonly run: string;
    }[];
    const nodes = new Set(work.map((s) => s.node)).size;
    lines.push(
      `${name.padEnd(24)} ${String(file.nodes.length).padStart(5)} ${String(nodes).padStart(5)} ${String(work.length).padStart(10)} ${(plan.peakBytes / plan.lowerBoundBytes).toFixed(3).padStart(10)}`,
    );
    expect(nodes).toBeLessThanOrEqual(bound);
    expect(plan.peakBytes).toBeLessThanOrEqual(1.25 * plan.lowerBoundBytes);
    checkBindings(plan);
  });
});

/** No dispatch binds a slab both read-only and writable, or one range of it twice where it is writable. */
function checkBindings(plan: Plan): void {
  const place = (v: number): { slab: number; offset: number } | null => {
    const { home } = plan.values[v]!;
    return home.in === 'view' ? place(home.of) : home.in === 'slab' ? home : null;
  };
  for (const step of plan.steps) {
    if (step.run !== 'gpu') continue;
    const bound = step.bind.flatMap((b, i) => {
      const at = 'value' in b ? place(b.value) : null;
      return at === null || !('value' in b)
        ? []
        : [
            {
              ...at,
              end: at.offset + byteLength(plan.values[b.value]!),
              writes: plan.shaders[step.shader]!.layout[i] === 'read_write',
            },
          ];
    });
    for (const [i, a] of bound.entries())
      for (const b of bound.slice(i + 1)) {
        if (a.slab !== b.slab || (!a.writes && !b.writes)) continue;
        expect(
          a.writes && b.writes && (a.end <= b.offset || b.end <= a.offset),
          `${step.node}: ${JSON.stringify([a, b])}`,
        ).toBe(true);
      }
  }
}

describe('weights that are scaled when a device wants them', () => {
  it('come in parts, from where they are stored, as they come whole', async () => {
    const w = f32([3, 2, 2, 2]);
    const bytes = bytesOfTensor(w);
    const stored: Constant = {
      dtype: 'float32',
      shape: w.shape,
      peek: () => null,
      load: async () => w,
      stored: { order: 7, read: async (at, n) => bytes.subarray(at, at + n) },
    };
    const scaled = scaledWeights(stored, Float64Array.of(2, 3, -1), 8, (r) => r);
    const whole = bytesOfTensor(await scaled.load());
    const parts = [
      [0, 12],
      [12, 40],
      [52, 44],
    ].map(([at, n]) => scaled.stored!.read(at!, n!));
    expect(Buffer.concat(await Promise.all(parts))).toEqual(Buffer.from(whole));
    expect(scaled.stored!.order).toBe(7);
    expect(Array.from(new Float32Array(whole.buffer, whole.byteOffset + 32, 2))).toEqual(
      [...(w.data as Float32Array).subarray(8, 10)].map((v) => Math.fround(v * 3)),
    );
  });
});

/** Free dims of a model as its recorded inputs have them. */
function dimsOf(folder: string): { graph: ReturnType<typeof parseModel>['graph']; dims: Record<string, number> } {
  const { graph: file } = parseModel(readFileSync(resolve(folder, 'model.onnx')));
  const dims: Record<string, number> = {};
  const set = resolve(folder, readdirSync(folder).find((f) => f.startsWith('test_data_set'))!);
  file.inputs.forEach((v, i) => {
    const { name, declared } = file.values[v]!;
    const path = resolve(set, `input_${i}.pb`);
    if (!declared?.shape || !existsSync(path)) return;
    const { shape } = parseTensor(readFileSync(path));
    declared.shape.forEach((dim, axis) => {
      if (typeof dim === 'string') dims[dim] ??= shape[axis]!;
      else if (dim === null) dims[`${name}.${axis}`] = shape[axis]!;
    });
  });
  return { graph: file, dims };
}
