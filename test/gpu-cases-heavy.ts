/** Cases of products, convolutions, pooling, quantised and recurrent operators. */
import type { DType } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import type { Case } from './gpu-case.ts';

/**
 * Numbers of both signs without pattern, each a multiple of 1/8 below 2: their products and short sums are exact in
 * every type.
 */
export const rough = (dtype: DType, shape: readonly number[], seed = 1): Tensor =>
  fromNumbers(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => (((Math.imul(i + 1, 40503 + 2 * seed) >>> 4) % 31) - 15) / 8),
  );
/** Small whole numbers: 0 .. 14, or -7 .. 7. */
export const whole = (dtype: DType, shape: readonly number[], seed = 1): Tensor =>
  fromNumbers(
    dtype,
    shape,
    Array.from(
      { length: sizeOf(shape) },
      (_, i) => ((Math.imul(i + 1, 40503 + 2 * seed) >>> 4) % 15) - (dtype.startsWith('u') ? 0 : 7),
    ),
  );

const near = { rtol: 2e-5, atol: 2e-5 };
const F: readonly DType[] = ['float32', 'float16', 'bfloat16'];
const product = (op: string, d: DType, a: readonly number[], b: readonly number[], more: Partial<Case> = {}): Case => ({
  op,
  inputs: [rough(d, a), rough(d, b, 2)],
  ...near,
  ...(d === 'float32' ? {} : { atol: 1e-2 }),
  ...more,
});

const both = (make: (known: readonly number[]) => Case[]): Case[] => [...make([]), ...make([1])];
const matmul: readonly Case[] = [
  ...F.flatMap((d) =>
    both((known) => [
      product('MatMul', d, [5, 7], [7, 11], { known }),
      product('MatMul', d, [9, 16], [16, 12], { known }),
      product('MatMul', d, [2, 3, 8], [8, 5], { known }),
      product('MatMul', d, [3, 13], [13, 4], { known }),
    ]),
  ),
  ...both((known) => [
    product('MatMul', 'float32', [7], [7], { known }),
    product('MatMul', 'float32', [8], [8, 3], { known }),
    product('MatMul', 'float32', [3, 8], [8], { known }),
    product('MatMul', 'float32', [2, 1, 3, 4], [5, 4, 6], { known }),
    product('MatMul', 'float32', [5, 2, 3, 4], [5, 1, 4, 6], { known }),
    product('MatMul', 'float32', [1, 1], [1, 1], { known }),
    product('MatMul', 'float32', [1, 67], [67, 130], { known }),
    product('MatMul', 'float32', [2, 3, 2, 3, 4], [1, 3, 1, 4, 2], { known }),
    product('MatMul', 'float32', [37, 1], [1, 29], { known }),
    product('MatMul', 'float32', [0, 3], [3, 4], { known }),
    product('MatMul', 'float32', [2, 0], [0, 3], { known }),
    product('MatMul', 'float32', [6, 12], [6, 12, 20], { known }),
    product('MatMul', 'float32', [65, 100], [100, 68], { known }),
  ]),
  ...(['int32', 'uint32'] as const).map(
    (d): Case => ({ op: 'MatMul', inputs: [whole(d, [3, 5]), whole(d, [5, 6], 2)] }),
  ),
];
const turned: readonly Case[] = [
  [0, 1],
  [1, 0],
  [1, 1],
].flatMap(([transA, transB]) =>
  both((known) => {
    const of = (m: number, k: number, n: number): [number[], number[]] => [
      transA ? [k, m] : [m, k],
      transB ? [n, k] : [k, n],
    ];
    const attrs = { transA: transA!, transB: transB!, alpha: 0.5 };
    return [
      [5, 8, 6],
      [9, 7, 8],
      [4, 12, 12],
    ].flatMap(([m, k, n], size) => {
      const [a, b] = of(m!, k!, n!);
      return [
        product('Gemm', 'float32', a, b, { attrs, known }),
        product('com.microsoft.FusedMatMul', 'float32', [2, ...a], [2, ...b], { attrs, known }),
        product('Gemm', 'float16', a, b, { attrs, known }),
        ...(size > 0 ? [] : [[m!, n!], [n!], [m!, 1], [1], []]).map(
          (c): Case => ({
            op: 'Gemm',
            inputs: [rough('float32', a), rough('float32', b, 2), rough('float32', c, 3)],
            attrs: { ...attrs, beta: 1.5 },
            known,
            ...near,
          }),
        ),
      ];
    });
  }),
);
const stacks: readonly Case[] = [
  product('com.microsoft.FusedMatMul', 'float32', [3, 2, 8], [2, 2, 8, 3].slice(1), {
    attrs: { transBatchA: 1, transBatchB: 0 },
  }),
  product('com.microsoft.FusedMatMul', 'float32', [4, 2, 5], [4, 2, 5], {
    attrs: { transBatchA: 1, transBatchB: 1, transB: 1, alpha: 2 },
  }),
  product('com.microsoft.FusedMatMul', 'float32', [2, 4, 3, 8], [2, 4, 5, 8], { attrs: { transB: 1 } }),
  { op: 'Gemm', inputs: [rough('float32', [0, 3]), rough('float32', [3, 4]), rough('float32', [4])] },
  { op: 'Gemm', inputs: [rough('float32', [2, 0]), rough('float32', [0, 5]), rough('float32', [5])], ...near },
];

/** Convolution of x [n, c, ...size] with m filters of `kernel`, with a bias where m is even; weights known and not. */
const conv = (
  op: string,
  d: DType,
  n: number,
  c: number,
  m: number,
  size: readonly number[],
  kernel: readonly number[],
  attrs: NonNullable<Case['attrs']> = {},
): Case[] => {
  const group = (attrs.group as number | undefined) ?? 1;
  const w = op === 'Conv' ? [m, c / group, ...kernel] : [c, m / group, ...kernel];
  return [[1, 2], []].map((known) => ({
    op,
    inputs: [rough(d, [n, c, ...size]), rough(d, w, 2), m % 2 === 0 ? rough(d, [m], 3) : null],
    attrs,
    known,
    ...near,
    ...(d === 'float32' ? {} : { atol: 2e-2 }),
  }));
};
const pointwise = F.flatMap((d) => [
  ...conv('Conv', d, 2, 8, 6, [4, 5], [1, 1]),
  ...conv('Conv', d, 1, 3, 5, [3, 3], [1, 1]),
  ...conv('Conv', d, 2, 6, 4, [7], [1], { group: 2 }),
  ...conv('Conv', d, 1, 5, 12, [8, 8], [1, 1]),
  ...conv('Conv', d, 1, 4, 2, [2, 3, 2], [1, 1, 1]),
]);
const convs = [
  ...F.flatMap((d) => [
    ...conv('Conv', d, 2, 3, 8, [8, 8], [3, 3], { pads: [1, 1, 1, 1] }),
    ...conv('Conv', d, 1, 4, 5, [7, 9], [3, 3], { pads: [1, 0, 2, 1], strides: [2, 2] }),
  ]),
  ...conv('Conv', 'float32', 1, 3, 10, [15, 15], [7, 7], { pads: [3, 3, 3, 3], strides: [2, 2] }),
  ...conv('Conv', 'float32', 1, 2, 3, [11, 12], [3, 2], { dilations: [2, 3], auto_pad: 'SAME_UPPER' }),
  ...conv('Conv', 'float32', 2, 6, 9, [5, 6], [3, 3], { group: 3, pads: [1, 1, 1, 1] }),
  ...conv('Conv', 'float32', 1, 4, 4, [5, 5], [1, 1], { strides: [2, 2] }),
  ...conv('Conv', 'float32', 1, 3, 4, [19], [5], { pads: [2, 2], strides: [2] }),
  ...conv('Conv', 'float32', 1, 2, 4, [40], [16], { strides: [5], pads: [3, 4] }),
  ...conv('Conv', 'float32', 1, 2, 3, [4, 5, 6], [3, 3, 3], { pads: [1, 1, 1, 1, 1, 1] }),
  ...conv('Conv', 'float16', 1, 2, 3, [3, 4, 3], [2, 2, 2], { strides: [1, 2, 1] }),
  ...conv('Conv', 'float32', 1, 1, 1, [1, 1], [1, 1], { pads: [1, 1, 1, 1] }),
  ...conv('Conv', 'float32', 1, 2, 1, [5, 1], [5, 1]),
];
const depthwise = [
  ...F.flatMap((d) => [
    ...conv('Conv', d, 2, 5, 5, [7, 8], [3, 3], { group: 5, pads: [1, 1, 1, 1] }),
    ...conv('Conv', d, 1, 4, 4, [9, 9], [3, 3], { group: 4, pads: [1, 1, 1, 1], strides: [2, 2] }),
  ]),
  ...conv('Conv', 'float32', 1, 3, 6, [6, 7], [5, 5], { group: 3, pads: [2, 2, 2, 2] }),
  ...conv('Conv', 'float32', 1, 4, 4, [30], [9], { group: 4, pads: [4, 4] }),
  ...conv('Conv', 'float32', 2, 3, 3, [6, 6], [2, 3], { group: 3, dilations: [2, 2] }),
];
const transposed = [
  ...F.flatMap((d) => [
    ...conv('ConvTranspose', d, 2, 3, 4, [4, 4], [2, 2], { strides: [2, 2] }),
    ...conv('ConvTranspose', d, 1, 4, 5, [3, 5], [3, 3], {
      strides: [2, 2],
      pads: [1, 1, 1, 1],
      output_padding: [1, 1],
    }),
  ]),
  ...conv('ConvTranspose', 'float32', 1, 2, 3, [4, 5], [3, 3]),
  ...conv('ConvTranspose', 'float32', 1, 4, 6, [3, 4], [4, 4], { strides: [2, 2], pads: [1, 1, 1, 1], group: 2 }),
  ...conv('ConvTranspose', 'float32', 1, 2, 9, [3, 3], [5, 4], { strides: [3, 3], pads: [1, 0, 0, 2] }),
  ...conv('ConvTranspose', 'float32', 1, 2, 2, [7], [16], { strides: [8], pads: [4, 4] }),
  ...conv('ConvTranspose', 'float32', 1, 2, 3, [3, 4], [3, 3], { dilations: [2, 2], strides: [2, 3] }),
  ...conv('ConvTranspose', 'float32', 1, 2, 3, [3, 4], [2, 3], {
    dilations: [3, 2],
    strides: [4, 4],
    output_padding: [1, 2],
  }),
  ...conv('ConvTranspose', 'float32', 1, 2, 2, [2, 3, 2], [2, 2, 3], { strides: [2, 1, 2] }),
  ...conv('ConvTranspose', 'float32', 1, 3, 2, [4, 4], [3, 3], { strides: [2, 2], auto_pad: 'SAME_UPPER' }),
];

const pools: Case[] = [
  ...[...F, 'int8' as const, 'uint8' as const].flatMap((d): Case[] => [
    {
      op: 'MaxPool',
      inputs: [whole(d, [2, 3, 7, 6])],
      attrs: { kernel_shape: [3, 2], strides: [2, 1], pads: [1, 0, 1, 1] },
    },
    { op: 'MaxPool', inputs: [whole(d, [1, 2, 5, 5])], attrs: { kernel_shape: [2, 2], dilations: [2, 2] }, outputs: 2 },
    {
      op: 'MaxPool',
      inputs: [whole(d, [1, 2, 5, 7])],
      attrs: { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1, storage_order: 1 },
      outputs: 2,
    },
    {
      op: 'MaxPool',
      inputs: [whole(d, [1, 3, 9])],
      attrs: { kernel_shape: [3], auto_pad: 'SAME_LOWER', strides: [2] },
    },
  ]),
  {
    op: 'MaxPool',
    inputs: [whole('float32', [1, 2, 4, 5, 3])],
    attrs: { kernel_shape: [2, 3, 2], strides: [1, 2, 1], storage_order: 1 },
    outputs: 2,
  },
  ...F.flatMap((d) =>
    [0, 1].flatMap((count_include_pad): Case[] => [
      {
        op: 'AveragePool',
        inputs: [rough(d, [2, 3, 7, 6])],
        attrs: { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1], ceil_mode: 1, count_include_pad },
        ...near,
      },
      {
        op: 'AveragePool',
        inputs: [rough(d, [1, 2, 9])],
        attrs: { kernel_shape: [4], pads: [2, 1], dilations: [2], count_include_pad },
        ...near,
      },
    ]),
  ),
  { op: 'AveragePool', inputs: [rough('float32', [1, 2, 3, 4, 5])], attrs: { kernel_shape: [2, 2, 2] }, ...near },
  ...[1, 2, 3].flatMap((p): Case[] => [
    {
      op: 'LpPool',
      inputs: [rough('float32', [1, 3, 5, 6])],
      attrs: { kernel_shape: [2, 3], pads: [1, 0, 0, 1], p },
      ...near,
    },
    { op: 'GlobalLpPool', inputs: [rough('float32', [2, 3, 5, 4])], attrs: { p }, ...near },
  ]),
  ...['GlobalAveragePool', 'GlobalMaxPool'].flatMap((op) =>
    F.flatMap((d): Case[] => [
      { op, inputs: [rough(d, [2, 5, 7, 7])], ...near },
      { op, inputs: [rough(d, [1, 3, 5])], ...near },
    ]),
  ),
];

/** Bytes without pattern. */
const packed = (shape: readonly number[], seed = 1): Tensor =>
  fromNumbers(
    'uint8',
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => (Math.imul(i + 1, 2654435761 + seed) >>> 13) & 255),
  );
const nbits = (
  d: DType,
  rows: readonly number[],
  K: number,
  N: number,
  bits: number,
  block_size: number,
  zeros: 'none' | 'packed' | 'real' = 'none',
  more: { bias?: true; groups?: true } = {},
): Case => {
  const blocks = Math.ceil(K / block_size);
  const zero =
    zeros === 'none'
      ? null
      : zeros === 'packed'
        ? packed([N * Math.ceil((blocks * bits) / 8)], 5)
        : rough(d, [N, blocks], 4);
  const groups = more.groups
    ? fromNumbers(
        'int32',
        [K],
        Array.from({ length: K }, (_, k) => (k * 7) % blocks),
      )
    : null;
  return {
    op: 'com.microsoft.MatMulNBits',
    inputs: [
      rough(d, [...rows, K]),
      packed([N, blocks, (block_size * bits) / 8]),
      rough(d, [N, blocks], 3),
      zero,
      groups,
      more.bias ? rough(d, [N], 6) : null,
    ],
    attrs: { K, N, bits, block_size },
    rtol: 1e-4,
    atol: d === 'float32' ? 1e-3 : 1,
  };
};
const bits = [
  nbits('float32', [1], 64, 8, 4, 32),
  nbits('float32', [3, 2], 96, 12, 4, 32, 'packed', { bias: true }),
  nbits('float32', [5], 40, 7, 4, 16, 'packed'),
  nbits('float32', [2], 37, 5, 4, 16, 'real'),
  nbits('float32', [1], 32, 6, 8, 16, 'packed'),
  nbits('float32', [4], 64, 8, 2, 32, 'packed'),
  nbits('float32', [2], 48, 8, 4, 16, 'packed', { groups: true }),
  nbits('float32', [1], 100, 4, 4, 128),
  nbits('float16', [2], 64, 8, 4, 32, 'packed', { bias: true }),
  nbits('float16', [2], 64, 7, 4, 32, 'real'),
];

/** Rows times the weights of chosen experts; rows of their own or shared by the experts of a row. */
const expert = (
  d: DType,
  [rows, slots, E, N, K]: readonly [number, number, number, number, number],
  bits: 0 | 4 | 8,
  block_size = -1,
  more: { zeros?: true; bias?: true; own?: true } = {},
): Case => {
  const blocks = bits === 0 ? 0 : block_size < 0 ? 1 : K / block_size;
  return {
    op: 'sardonyx.ExpertMatMul',
    attrs: { bits, block_size },
    rtol: 1e-4,
    atol: d === 'float32' ? 1e-3 : 1,
    inputs: [
      rough(d, [rows, more.own ? slots : 1, K]),
      fromNumbers(
        'int64',
        [rows, slots],
        Array.from({ length: rows * slots }, (_, i) => (i * 5 + 1) % E),
      ),
      bits === 0 ? rough(d, [E, N, K], 2) : packed([E, N, (K * bits) / 8]),
      bits === 0 ? null : rough(d, block_size < 0 ? [E, N] : [E, N, blocks], 3),
      more.zeros ? packed([E, N, Math.ceil((blocks * bits) / 8)], 5) : null,
      more.bias ? rough(d, [E, N], 6) : null,
    ],
  };
};
const expertCases = [
  expert('float32', [1, 1, 1, 1, 4], 0),
  expert('float32', [3, 2, 4, 5, 12], 0, -1, { bias: true }),
  expert('float32', [2, 3, 3, 7, 8], 0, -1, { own: true }),
  expert('float16', [2, 2, 3, 6, 16], 0, -1, { bias: true }),
  expert('float32', [2, 2, 3, 6, 64], 4, 16, { zeros: true, bias: true }),
  expert('float32', [1, 4, 5, 9, 32], 4),
  expert('float32', [3, 2, 3, 5, 96], 8, 32, { zeros: true, own: true }),
  expert('float16', [2, 2, 4, 8, 64], 4, 32, { bias: true }),
  expert('float32', [2, 1, 2, 3, 520], 8),
];

const BYTES: readonly DType[] = ['uint8', 'int8'];
const scales = (shape: readonly number[]): Tensor =>
  fromNumbers(
    'float32',
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => 2 ** ((i % 4) - 3)),
  );
const quantised: Case[] = [
  ...(['uint8', 'int8', 'uint16', 'int16'] as const).flatMap((d): Case[] => [
    { op: 'QuantizeLinear', inputs: [rough('float32', [3, 7]), scales([]), whole(d, [])] },
    { op: 'QuantizeLinear', inputs: [rough('float32', [2, 5, 3]), scales([5]), whole(d, [5])] },
    {
      op: 'QuantizeLinear',
      inputs: [rough('float32', [2, 6, 5]), scales([2, 2, 5]), whole(d, [2, 2, 5])],
      attrs: { axis: 1, block_size: 3 },
    },
    { op: 'DequantizeLinear', inputs: [whole(d, [3, 7]), scales([]), whole(d, [], 2)] },
    { op: 'DequantizeLinear', inputs: [whole(d, [2, 5, 3]), scales([5]), whole(d, [5], 2)] },
    {
      op: 'DequantizeLinear',
      inputs: [whole(d, [2, 6, 5]), scales([2, 2, 5]), whole(d, [2, 2, 5], 2)],
      attrs: { axis: 1, block_size: 3 },
    },
  ]),
  { op: 'QuantizeLinear', inputs: [rough('float16', [9]), scales([])] },
  {
    op: 'QuantizeLinear',
    inputs: [fromNumbers('float32', [6], [1e9, -1e9, 0.5, 1.5, 2.5, -0.5]), fromNumbers('float32', [], [1])],
  },
  { op: 'QuantizeLinear', inputs: [whole('int32', [4, 3]), scales([3]), whole('int8', [3])], attrs: { axis: -1 } },
  { op: 'DequantizeLinear', inputs: [whole('int32', [4, 3]), scales([3])], attrs: { axis: 1 } },
  { op: 'DequantizeLinear', inputs: [whole('int8', [4, 3]), rough('float16', [4])], attrs: { axis: 0 } },
  { op: 'DynamicQuantizeLinear', inputs: [rough('float32', [2, 37])], outputs: 3 },
  { op: 'DynamicQuantizeLinear', inputs: [fromNumbers('float32', [3], [0, 0, 0])], outputs: 3 },
  { op: 'DynamicQuantizeLinear', inputs: [rough('float32', [70, 100])], outputs: 3 },
  ...BYTES.flatMap((a) =>
    BYTES.flatMap((b): Case[] => [
      { op: 'MatMulInteger', inputs: [whole(a, [5, 8]), whole(b, [8, 12], 2), whole(a, [], 3), whole(b, [], 4)] },
      { op: 'MatMulInteger', inputs: [whole(a, [3, 7]), whole(b, [7, 5], 2)] },
      { op: 'MatMulInteger', inputs: [whole(a, [2, 3, 9]), whole(b, [9, 6], 2), whole(a, [3], 3), whole(b, [6], 4)] },
      { op: 'MatMulInteger', inputs: [whole(a, [2, 3, 4]), whole(b, [2, 4, 8], 2), null, whole(b, [8], 4)] },
    ]),
  ),
];

/** X, W, R and, by `more`, bias, initial states and peepholes; every output. */
function recurrent(
  op: 'LSTM' | 'GRU' | 'RNN',
  d: DType,
  [steps, batch, input, hidden]: readonly [number, number, number, number],
  attrs: Record<string, number | string> = {},
  more: 'none' | 'all' = 'none',
  known: readonly number[] = [1, 2, 3],
): Case {
  const gates = { LSTM: 4, GRU: 3, RNN: 1 }[op];
  const n = attrs.direction === 'bidirectional' ? 2 : 1;
  const first = attrs.layout === 1;
  const state = first ? [batch, n, hidden] : [n, batch, hidden];
  const scaled = (shape: readonly number[], seed: number): Tensor => rough(d, shape, seed);
  const extra =
    more === 'all'
      ? [
          scaled([n, 2 * gates * hidden], 3),
          null,
          scaled(state, 4),
          ...(op === 'LSTM' ? [scaled(state, 5), scaled([n, 3 * hidden], 6)] : []),
        ]
      : [];
  return {
    op,
    inputs: [
      rough(d, first ? [batch, steps, input] : [steps, batch, input]),
      rough(d, [n, gates * hidden, input], 2),
      rough(d, [n, gates * hidden, hidden], 7),
      ...extra,
    ],
    attrs,
    known,
    outputs: op === 'LSTM' ? 3 : 2,
    rtol: 1e-4,
    atol: d === 'float32' ? 1e-4 : 2e-2,
  };
}
/** The same of entries that end after steps of their own. */
const timed = (c: Case, ...steps: readonly number[]): Case => {
  const inputs = [
    ...c.inputs.slice(0, 3),
    c.inputs[3] ?? null,
    fromNumbers('int32', [steps.length], steps),
    ...c.inputs.slice(5),
  ];
  return { ...c, inputs };
};
const recurrents = (['LSTM', 'GRU', 'RNN'] as const)
  .flatMap((op): Case[] => [
    recurrent(op, 'float32', [3, 1, 5, 4]),
    recurrent(op, 'float32', [4, 2, 3, 7], { direction: 'reverse' }, 'all'),
    recurrent(op, 'float32', [3, 2, 4, 5], { direction: 'bidirectional', layout: 1 }, 'all', []),
    recurrent(op, 'float32', [2, 3, 2, 6], { direction: 'bidirectional', clip: 0.5 }, 'all'),
    recurrent(op, 'float16', [2, 2, 3, 5], {}, 'all'),
    timed(recurrent(op, 'float32', [4, 3, 5, 6], { direction: 'bidirectional' }, 'all'), 4, 0, 2),
    timed(recurrent(op, 'float32', [5, 2, 3, 4], { direction: 'reverse', layout: 1 }), 1, 3),
  ])
  .concat([
    timed(
      recurrent('GRU', 'float32', [3, 2, 4, 6], { linear_before_reset: 1, direction: 'bidirectional' }, 'all'),
      3,
      1,
    ),
    recurrent('GRU', 'float32', [3, 2, 4, 6], { linear_before_reset: 1, direction: 'bidirectional' }, 'all'),
    recurrent('LSTM', 'float32', [3, 2, 4, 6], { input_forget: 1 }, 'all'),
    {
      ...recurrent('RNN', 'float32', [2, 2, 3, 4]),
      attrs: { activations: ['LeakyRelu'] as never, activation_alpha: [0.25] },
    },
  ]);

/**
 * Those of a workgroup that does all steps: hidden states of whole quads and not, longer than a workgroup's invocations
 * share by default.
 */
const looped: readonly Case[] = [
  ...(['LSTM', 'GRU', 'RNN'] as const).flatMap((op) => [
    recurrent(op, 'float32', [4, 2, 3, 7], { direction: 'bidirectional' }, 'all'),
    timed(recurrent(op, 'float32', [4, 3, 3, 19], { direction: 'reverse', layout: 1 }), 2, 4, 0),
  ]),
  recurrent('GRU', 'float32', [4, 2, 3, 18], { linear_before_reset: 1 }, 'all'),
  recurrent('GRU', 'float16', [3, 1, 4, 33], { clip: 0.5 }, 'all'),
  recurrent('LSTM', 'float32', [2, 1, 5, 36]),
  recurrent('RNN', 'float32', [3, 1, 4, 5], {}, 'none', []),
];

/** Two products that meet, and two convolutions that are added up. */
const meet = {
  k: 'f32',
  f: 'mul',
  a: [
    { k: 'f32', f: 'in', i: 1, a: [] },
    { k: 'f32', f: 'sigmoid', a: [{ k: 'f32', f: 'in', i: 0, a: [] }] },
  ],
};
const joint: readonly Case[] = [
  ...(
    [
      [1, 8, 6],
      [5, 7, 4],
      [30, 20, 34],
      [3, 96, 20],
    ] as const
  ).flatMap(([m, k, n]) =>
    both((known) => [
      {
        op: 'sardonyx.GatedMatMul',
        inputs: [rough('float32', [m, k]), rough('float32', [k, 2 * n], 2)],
        attrs: { expr: JSON.stringify(meet) },
        known,
        ...near,
      },
    ]),
  ),
  ...(['float32', 'float16'] as const).flatMap((d) =>
    (
      [
        [[2, 5, 3, 4], 7, [2, 2, 5, 8], [2, 2]],
        [[1, 16, 8, 8], 40, [1, 24, 8, 8], [1, 1]],
        [[1, 3, 4, 3], 30, [1, 5, 4, 7], [1, 3]],
        [[1, 3, 3, 3], 30, [1, 5, 3, 5], [1, 2]],
      ] as const
    )
      .filter(([x]) => d === 'float32' || (x[2] * x[3]) % 4 === 0)
      .map(
        ([x, m, z, strides]): Case => ({
          op: 'sardonyx.ConvSum',
          inputs: [rough(d, x), rough(d, z, 2), rough(d, [m, x[1] + z[1]], 3), rough(d, [m], 4)],
          attrs: { strides },
          known: [2],
          ...(d === 'float32' ? near : { rtol: 4e-3, atol: 2e-2 }),
        }),
      ),
  ),
];

export const HEAVY: Readonly<Record<string, readonly Case[]>> = {
  matmul,
  joint,
  turned,
  stacks,
  pointwise,
  convs,
  depthwise,
  transposed,
  pools,
  bits,
  experts: expertCases,
  quantised,
  recurrents,
};

/** Variants that the adapters of tests would not take, by name, with parameters. */
export const FORCED: Readonly<
  Record<string, { readonly tuned: Readonly<Record<string, number>>; readonly cases: readonly Case[] }>
> = {
  'matmul.tile': {
    tuned: { BM: 32, BN: 32, BK: 16, TX: 8, TY: 8 },
    cases: [
      ...both((known) => [product('MatMul', 'float32', [35, 33], [33, 37], { known })]),
      product('MatMul', 'float32', [2, 35, 20], [2, 20, 40]),
      product('MatMul', 'float16', [33, 20], [20, 40], { known: [1] }),
    ],
  },
  'matmul.tile 64': {
    tuned: { BM: 64, BN: 64, BK: 16, TX: 16, TY: 16 },
    cases: [product('MatMul', 'float32', [70, 40], [40, 68], { known: [1] })],
  },
  'matmul.tile 128': {
    tuned: { BM: 128, BN: 128, BK: 8, TX: 16, TY: 16 },
    cases: [product('MatMul', 'float32', [130, 12], [12, 132], { known: [1] })],
  },
  'gemm.tile': {
    tuned: { BM: 32, BN: 32, BK: 16, TX: 8, TY: 8 },
    cases: [
      {
        op: 'Gemm',
        inputs: [rough('float32', [18, 35]), rough('float32', [37, 18]), rough('float32', [37])],
        attrs: { transA: 1, transB: 1, alpha: 0.5, beta: 2 },
        ...near,
      },
    ],
  },
  'experts.group': { tuned: {}, cases: expertCases },
  'matmul.small': {
    tuned: { PARTS: 4 },
    cases: both((known) => [1, 2, 5, 8].map((m) => product('MatMul', 'float32', [m, 35], [35, 68], { known }))),
  },
  'matmul.splitk': {
    tuned: { BM: 32, BN: 32, BK: 16, TX: 8, TY: 8 },
    cases: [
      product('MatMul', 'float32', [34, 700], [700, 37], { known: [1], rtol: 1e-4, atol: 1e-3 }),
      product('MatMul', 'float32', [2, 34, 530], [2, 530, 36], { rtol: 1e-4, atol: 1e-3 }),
    ],
  },
  'conv.tile': {
    tuned: { BM: 32, BN: 32, BK: 16, TX: 8, TY: 8 },
    cases: [
      ...conv('Conv', 'float32', 2, 5, 34, [7, 6], [3, 3], { pads: [1, 1, 1, 1] }),
      ...conv('Conv', 'float32', 1, 6, 8, [5, 9], [3, 2], { group: 2, strides: [2, 1], dilations: [1, 2] }),
      ...conv('Conv', 'float32', 1, 3, 4, [19], [5], { pads: [2, 2] }).slice(0, 1),
      ...conv('Conv', 'float32', 1, 2, 4, [3, 5, 4], [2, 3, 3], { pads: [1, 0, 1, 0, 1, 1] }).slice(0, 1),
    ],
  },
  'conv.splitk': {
    tuned: { BM: 32, BN: 32, BK: 16, TX: 8, TY: 8 },
    cases: conv('Conv', 'float32', 1, 60, 10, [5, 5], [3, 3], { pads: [1, 1, 1, 1] }).map((c) => ({
      ...c,
      rtol: 1e-4,
      atol: 1e-3,
    })),
  },
  'conv.pointwise.tile': {
    tuned: { BM: 32, BN: 32, BK: 16, TX: 8, TY: 8 },
    cases: [
      ...conv('Conv', 'float32', 2, 6, 34, [5, 7], [1, 1], { group: 2 }),
      ...conv('Conv', 'float32', 1, 18, 4, [6, 6], [1, 1]),
    ],
  },
  'conv.gather': {
    tuned: { TM: 1 },
    cases: conv('Conv', 'float32', 2, 3, 3, [5, 6], [3, 2], { strides: [1, 2], pads: [1, 1, 0, 1] }),
  },
  'conv.direct': { tuned: { FQ: 1 }, cases: conv('Conv', 'float32', 2, 3, 9, [5, 7], [3, 3], { strides: [1, 2] }) },
  'pool.global-group': {
    tuned: { WG: 32 },
    cases: ['GlobalAveragePool', 'GlobalMaxPool', 'GlobalLpPool'].map(
      (op): Case => ({ op, inputs: [rough('float32', [2, 3, 9, 7])], ...near }),
    ),
  },
  'nbits.gemv': {
    tuned: { WG: 32 },
    cases: [
      nbits('float32', [1], 2080, 9, 4, 32, 'packed', { bias: true }),
      nbits('float32', [5], 70, 8, 4, 16),
      nbits('float32', [2], 64, 4, 8, 32),
    ],
  },
  'nbits.tile': {
    tuned: { BM: 32, BN: 32, BK: 16, TX: 8, TY: 8 },
    cases: [nbits('float32', [35], 72, 37, 4, 32, 'packed')],
  },
  'rnn.loop': { tuned: {}, cases: looped },
  'rnn.loop 4': { tuned: { PARTS: 4 }, cases: looped },
  'matmul.direct': { tuned: { TM: 2 }, cases: [product('MatMul', 'float32', [7, 9], [9, 10])] },
  'matmul.any': { tuned: {}, cases: [product('MatMul', 'float32', [2, 3, 9], [9, 10])] },
};
