/**
 * Cases of operators that have kernels of their own: conversions, losses, recurrences and what else is neither a
 * product nor a row nor a move.
 */
import { type DType, DTYPE_OF_ONNX } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { type Case, counted, int64, list } from './gpu-case.ts';

const rough = (dtype: DType, shape: readonly number[], scale = 1, seed = 0): Tensor =>
  fromNumbers(
    dtype,
    shape,
    Array.from(
      { length: sizeOf(shape) },
      (_, i) => (Math.round(Math.sin((i + seed) * 1.7 + 0.013 * (i + seed) * (i % 97)) * 64) / 64) * scale,
    ),
  );
const close = { rtol: 1e-4, atol: 2e-5 };
const coarse = (d: DType): { rtol: number; atol: number } =>
  d === 'float32' ? close : d === 'float16' ? { rtol: 4e-3, atol: 2e-3 } : { rtol: 3e-2, atol: 2e-2 };

const ONNX = Object.fromEntries(Object.entries(DTYPE_OF_ONNX).map(([n, d]) => [d, Number(n)])) as Record<DType, number>;
const SMALL_FLOATS: readonly DType[] = [
  'float8e4m3fn',
  'float8e4m3fnuz',
  'float8e5m2',
  'float8e5m2fnuz',
  'float8e8m0',
  'float4e2m1',
];
const SMALL_INTS: readonly DType[] = ['int4', 'uint4', 'int2', 'uint2'];
const HARD = [
  0,
  -0,
  0.3,
  -0.3,
  1,
  1.5,
  2.5,
  -3.5,
  5,
  7,
  447,
  448,
  464,
  465,
  480,
  -481,
  57344,
  61440,
  65536,
  1e9,
  -1e9,
  Infinity,
  -Infinity,
  NaN,
  2 ** -6,
  2 ** -9,
  2 ** -10,
  1.5 * 2 ** -10,
  2 ** -16,
  3 * 2 ** -18,
  2 ** -18,
  240,
  247.9,
  248,
  6.1,
  0.75,
  0.25,
];
/** Every code of a type, odd in number. */
const codes = (d: DType): Tensor => ({
  dtype: d,
  shape: [d === 'float4e2m1' || d.endsWith('4') ? 31 : d.endsWith('2') && d.includes('int') ? 7 : 255],
  data: Uint8Array.from(
    { length: d === 'float4e2m1' || d.endsWith('4') ? 16 : d.endsWith('2') && d.includes('int') ? 2 : 255 },
    (_, i) => (i * 37 + 11) & 255,
  ) as never,
});
const cast = (t: Tensor, to: DType, more: Readonly<Record<string, number | string>> = {}): Case => ({
  op: 'Cast',
  inputs: [t],
  attrs: { to: ONNX[to], ...more },
});
const casts: Case[] = [
  ...SMALL_FLOATS.flatMap((d): Case[] => [
    cast(fromNumbers('float32', [37], HARD), d),
    cast(fromNumbers('float32', [37], HARD), d, { saturate: 0 }),
    cast(fromNumbers('float16', [6], [1, -2.5, 70, 0.1, 3, 448]), d),
    cast(codes(d), 'float32'),
    cast(codes(d), 'float16'),
    cast(counted('int32', [5]), d),
    cast(codes(d), d),
    cast(fromNumbers('bool', [5], [1, 0, 0, 1, 1]), d),
  ]),
  ...['down', 'nearest'].map((round_mode) => cast(fromNumbers('float32', [37], HARD), 'float8e8m0', { round_mode })),
  ...SMALL_INTS.flatMap((d): Case[] => [
    cast(fromNumbers('float32', [9], [0.6, -1.9, 1, 2.5, 3, 7, -8, -1, 15]), d),
    cast(fromNumbers('float32', [9], [100, -100, 1, 2.5, -9, 7.9, -8.5, NaN, 15.5]), d, { clamp_nibbles: 1 }),
    cast(counted('int32', [21]), d),
    cast(counted('int64', [3]), d),
    cast(codes(d), 'float32'),
    cast(codes(d), 'int8'),
    cast(codes(d), 'int64'),
    cast(codes(d), 'uint8'),
    cast(codes(d), 'bool'),
    cast(codes(d), 'float16'),
  ]),
  cast(codes('int4'), 'uint2'),
  cast(codes('uint4'), 'float8e5m2'),
  cast(codes('float8e4m3fn'), 'int4'),
  cast(codes('float8e5m2'), 'float8e4m3fn'),
  cast(codes('int2'), 'int4'),
  { op: 'CastLike', inputs: [rough('float32', [2, 5], 8), codes('float8e4m3fnuz')] },
  ...(['float16', 'uint16', 'int16', 'bfloat16'] as const).map(
    (d): Case => ({ op: 'BitCast', inputs: [counted('int16', [2, 3])], attrs: { to: ONNX[d] } }),
  ),
  { op: 'BitCast', inputs: [counted('uint8', [7])], attrs: { to: ONNX.int8 } },
];

const targets = (shape: readonly number[], classes: number, dtype: 'int32' | 'int64' = 'int64'): Tensor =>
  fromNumbers(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => (i * 5 + 2) % classes),
  );
const losses = ['NegativeLogLikelihoodLoss', 'SoftmaxCrossEntropyLoss']
  .flatMap((op): Case[] => [
    ...['none', 'mean', 'sum'].flatMap((reduction): Case[] => [
      { op, inputs: [rough('float32', [3, 5]), targets([3], 5)], attrs: { reduction }, ...close },
      {
        op,
        inputs: [rough('float32', [2, 4, 3, 3], 3), targets([2, 3, 3], 4, 'int32'), rough('float32', [4], 1, 4)],
        attrs: { reduction, ignore_index: 2 },
        ...close,
      },
      { op, inputs: [rough('float16', [3, 5, 7]), targets([3, 7], 5)], attrs: { reduction }, ...coarse('float16') },
    ]),
    {
      op,
      inputs: [
        rough('float32', [2, 3, 200]),
        int64(
          [2, 200],
          Array.from({ length: 400 }, (_, i) => (i % 7 === 0 ? -5 : i % 3)),
        ),
      ],
      attrs: { ignore_index: -5 },
      ...close,
    },
  ])
  .concat(
    (['float32', 'float16'] as const).map(
      (d): Case => ({
        op: 'SoftmaxCrossEntropyLoss',
        inputs: [rough(d, [3, 5, 2], 4), targets([3, 2], 5)],
        outputs: 2,
        ...coarse(d),
      }),
    ),
  );

const REALS = ['float32', 'float16'] as const;
const lines = REALS.flatMap((d): Case[] => [
  ...[0, 1, 2].flatMap((axis): Case[] => [
    { op: 'Hardmax', inputs: [rough(d, [3, 5, 7])], attrs: { axis } },
    { op: 'LpNormalization', inputs: [rough(d, [3, 5, 7])], attrs: { axis, p: 1 }, ...coarse(d) },
  ]),
  { op: 'LpNormalization', inputs: [rough(d, [4, 131])], ...coarse(d) },
  { op: 'LpNormalization', inputs: [fromNumbers(d, [2, 2], [0, 0, 3, 4])], ...coarse(d) },
  { op: 'TopK', inputs: [rough(d, [3, 70]), int64([1], [5])], known: [1], outputs: 2 },
  {
    op: 'TopK',
    inputs: [rough(d, [2, 9, 5]), int64([1], [9])],
    known: [1],
    outputs: 2,
    attrs: { axis: 1, largest: 0 },
  },
  {
    op: 'TopK',
    inputs: [fromNumbers(d, [9], [1, NaN, -Infinity, 0, -0, 3, 3, Infinity, NaN]), int64([1], [9])],
    known: [1],
    outputs: 2,
  },
  { op: 'LRN', inputs: [rough(d, [2, 7, 3, 2], 3)], attrs: { size: 3, alpha: 0.3, bias: 2 }, ...coarse(d) },
  { op: 'LRN', inputs: [rough(d, [1, 4, 5], 3)], attrs: { size: 4 }, ...coarse(d) },
]).concat(
  (['int64', 'int32', 'uint8', 'int8'] as const).flatMap((d): Case[] =>
    [0, 1].map(
      (largest): Case => ({
        op: 'TopK',
        inputs: [counted(d, [2, 33]), int64([1], [7])],
        known: [1],
        outputs: 2,
        attrs: { largest },
      }),
    ),
  ),
);

const signals = REALS.flatMap((d): Case[] => [
  {
    op: 'DFT',
    inputs: [rough(d, [2, 5, 3, 1]), null, int64([], [1])],
    known: [2],
    ...coarse(d),
    atol: 2e-2 * (d === 'float32' ? 0.01 : 1),
  },
  { op: 'DFT', inputs: [rough(d, [2, 6, 2]), int64([], [9]), null], known: [1], attrs: { inverse: 1 }, ...coarse(d) },
  {
    op: 'DFT',
    inputs: [rough(d, [3, 8, 1]), int64([], [7]), null],
    known: [1],
    attrs: { onesided: 1 },
    ...coarse(d),
    atol: 2e-2 * (d === 'float32' ? 0.01 : 1),
  },
  { op: 'DFT', inputs: [rough(d, [2, 5, 2]), null, null], attrs: { onesided: 1, inverse: 1 }, ...coarse(d) },
  {
    op: 'STFT',
    inputs: [rough(d, [2, 20, 1]), int64([], [4]), rough(d, [8])],
    known: [1],
    ...coarse(d),
    atol: 2e-2 * (d === 'float32' ? 0.01 : 1),
  },
  {
    op: 'STFT',
    inputs: [rough(d, [1, 17, 2]), int64([], [3]), null, int64([], [5])],
    known: [1, 3],
    attrs: { onesided: 0 },
    ...coarse(d),
    atol: 2e-2 * (d === 'float32' ? 0.01 : 1),
  },
]).concat({ op: 'DFT', inputs: [rough('float32', [1, 500, 1]), null, null], ...close, atol: 2e-3 });

const linear = (
  d: DType,
  rule: string,
  more: Readonly<Record<string, number | string>>,
  ...inputs: (Tensor | null)[]
): Case => ({
  op: 'LinearAttention',
  inputs,
  outputs: 2,
  attrs: { q_num_heads: 4, kv_num_heads: 2, update_rule: rule, ...more },
  ...coarse(d),
});
const states = REALS.flatMap((d): Case[] => {
  const [q, k, v, past, decay, beta] = [
    rough(d, [2, 3, 20]),
    rough(d, [2, 3, 10], 0.5, 3),
    rough(d, [2, 3, 6], 1, 5),
    rough('float32', [2, 2, 5, 3], 1, 7),
    rough(d, [2, 3, 2], 0.3),
    rough(d, [2, 3, 2], 0.7, 9),
  ];
  const conv = (op: string, ...inputs: (Tensor | null)[]): Case => ({
    op,
    inputs,
    outputs: 2,
    attrs: { activation: 'silu', dilation: inputs[3] === undefined ? 1 : 2 },
    ...coarse(d),
  });
  return [
    linear(d, 'linear', {}, q, k, v),
    linear(d, 'gated', { scale: 0.5 }, q, k, v, past, decay),
    linear(d, 'delta', {}, q, k, v, past, null, beta),
    linear(d, 'gated_delta', {}, q, k, v, null, rough(d, [2, 3, 10], 0.3), rough(d, [2, 3, 1])),
    {
      op: 'com.microsoft.LinearAttention',
      inputs: [rough(d, [1, 4, 5]), rough(d, [1, 4, 10], 0.5), rough(d, [1, 4, 6])],
      outputs: 2,
      attrs: { q_num_heads: 1, kv_num_heads: 2, update_rule: 'linear' },
      ...coarse(d),
    },
    conv('CausalConvWithState', rough(d, [2, 3, 7]), rough(d, [3, 1, 4]), rough(d, [3])),
    conv('CausalConvWithState', rough(d, [2, 3, 2]), rough(d, [3, 1, 3]), null, rough(d, [2, 3, 4])),
    {
      op: 'com.microsoft.CausalConvWithState',
      inputs: [rough(d, [1, 5, 1]), rough(d, [5, 1, 2])],
      outputs: 2,
      ...coarse(d),
    },
  ];
});

const images = REALS.flatMap((d): Case[] => [
  { op: 'AffineGrid', inputs: [rough(d, [2, 2, 3]), int64([4], [2, 1, 4, 5])], known: [1], ...coarse(d) },
  {
    op: 'AffineGrid',
    inputs: [rough(d, [1, 3, 4]), int64([5], [1, 1, 1, 3, 2])],
    known: [1],
    attrs: { align_corners: 1 },
    ...coarse(d),
  },
  {
    op: 'Col2Im',
    inputs: [rough(d, [2, 12, 9]), int64([2], [5, 7]), int64([2], [2, 3])],
    known: [1, 2],
    attrs: { dilations: [2, 1], strides: [2, 2], pads: [1, 0, 1, 0] },
    ...coarse(d),
  },
  { op: 'Col2Im', inputs: [rough(d, [1, 6, 5]), int64([1], [7]), int64([1], [3])], known: [1, 2], ...coarse(d) },
  {
    op: 'DeformConv',
    inputs: [
      rough(d, [2, 4, 5, 6]),
      rough(d, [6, 2, 3, 2]),
      rough(d, [2, 24, 5, 5], 3),
      rough(d, [6]),
      rough(d, [2, 12, 5, 5]),
    ],
    attrs: { group: 2, offset_group: 2, pads: [1, 0, 1, 0] },
    ...coarse(d),
    atol: d === 'float32' ? 2e-4 : 2e-2,
  },
  {
    op: 'DeformConv',
    inputs: [rough(d, [1, 3, 6, 6]), rough(d, [2, 3, 2, 2]), rough(d, [1, 8, 2, 2], 2)],
    attrs: { strides: [2, 2], dilations: [2, 2] },
    ...coarse(d),
    atol: d === 'float32' ? 2e-4 : 2e-2,
  },
  { op: 'Det', inputs: [rough(d, [3, 4, 4], 2)], ...coarse(d), atol: d === 'float32' ? 2e-4 : 5e-2 },
  { op: 'Det', inputs: [fromNumbers(d, [3, 3], [0, 1, 2, 0, 3, 4, 0, 5, 6])] },
  { op: 'Det', inputs: [fromNumbers(d, [2, 2], [0, 1, 2, 0])] },
  {
    op: 'ai.onnx.preview.FlexAttention',
    inputs: [rough(d, [1, 4, 3, 8]), rough(d, [1, 2, 5, 8], 1, 3), rough(d, [1, 2, 5, 4], 1, 7)],
    attrs: { scale: 0.4 },
    ...coarse(d),
  },
]);

const found: Case[] = REALS.flatMap((d): Case[] => [
  ...['avg', 'max'].flatMap((mode) =>
    ['half_pixel', 'output_half_pixel'].map(
      (coordinate_transformation_mode): Case => ({
        op: 'RoiAlign',
        inputs: [
          rough(d, [2, 3, 7, 9]),
          fromNumbers(d, [3, 4], [0, 0, 8, 6, 2, 1.5, 5, 4, -3, -2, 20, 3]),
          int64([3], [1, 0, 1]),
        ],
        attrs: { mode, coordinate_transformation_mode, output_height: 2, output_width: 3 },
        ...coarse(d),
      }),
    ),
  ),
  {
    op: 'RoiAlign',
    inputs: [rough(d, [1, 1, 5, 5]), fromNumbers(d, [1, 4], [1, 1, 9, 7]), int64([1], [0])],
    attrs: { output_height: 3, output_width: 3, sampling_ratio: 2, spatial_scale: 0.5 },
    ...coarse(d),
  },
]).concat(
  (['float32', 'float16', 'uint8', 'int64'] as const).flatMap((d): Case[] => [
    { op: 'TensorScatter', inputs: [counted(d, [2, 3, 5, 4]), counted(d, [2, 3, 2, 4]), int64([2], [1, 3])] },
    {
      op: 'TensorScatter',
      inputs: [counted(d, [2, 5, 3]), counted(d, [2, 4, 3]), int64([2], [4, 7])],
      attrs: { mode: 'circular', axis: 1 },
    },
    { op: 'TensorScatter', inputs: [counted(d, [2, 5, 3]), counted(d, [2, 4, 3])], attrs: { axis: 1 } },
  ]),
);

const kept: Case[] = REALS.flatMap((d): Case[] => [
  { op: 'Dropout', inputs: [rough(d, [3, 5])], outputs: 2 },
  {
    op: 'Dropout',
    inputs: [rough(d, [7]), fromNumbers(d, [], [0]), fromNumbers('bool', [], [1])],
    known: [1, 2],
    outputs: 2,
  },
  {
    op: 'Dropout',
    inputs: [rough(d, [2, 3]), null, fromNumbers('bool', [], [0])],
    known: [2],
    attrs: { mask_like_data: 1 },
    outputs: 2,
  },
]).concat(
  (['int4', 'uint4'] as const).flatMap((d): Case[] => [
    {
      op: 'DequantizeLinear',
      inputs: [
        fromNumbers(
          d,
          [3, 7],
          Array.from({ length: 21 }, (_, i) => i % 8),
        ),
        fromNumbers('float32', [3], [2, 0.5, 1]),
        fromNumbers(d, [3], [1, 2, 3]),
      ],
      attrs: { axis: 0 },
    },
    { op: 'DequantizeLinear', inputs: [codes(d), fromNumbers('float16', [], [0.5])] },
    {
      op: 'DequantizeLinear',
      inputs: [
        fromNumbers(
          d,
          [2, 6],
          Array.from({ length: 12 }, (_, i) => i % 8),
        ),
        fromNumbers('float32', [2, 3], [1, 2, 3, 4, 5, 6]),
        fromNumbers(d, [2, 3], [1, 2, 3, 0, 1, 2]),
      ],
      attrs: { axis: 1, block_size: 2 },
    },
  ]),
);

const einsums: Case[] = (['float32', 'float16', 'int32'] as const).flatMap((d): Case[] =>
  (
    [
      ['bhwc,hkc->bhwk', [2, 3, 4, 5], [3, 6, 5]],
      ['bhwc,wkc->bhwk', [2, 3, 4, 8], [4, 6, 8]],
      ['ij,jk->ik', [5, 7], [7, 3]],
      ['ij,jk->ki', [5, 7], [7, 3]],
      ['bij,bjk', [3, 4, 5], [3, 5, 2]],
      ['i,j->ij', [4], [3]],
      ['i,i->', [9], [9]],
      ['...ij,...jk->...ik', [2, 1, 3, 4], [5, 4, 2]],
      ['ii->i', [5, 5]],
      ['ij->', [4, 5]],
      ['ab,bc,cd->ad', [2, 3], [3, 4], [4, 5]],
      ['ijk,kl->jil', [3, 1, 4], [4, 2]],
      ['ab,ab->b', [3, 8], [1, 8]],
    ] as const
  ).map(
    ([equation, ...shapes]): Case => ({
      op: 'Einsum',
      inputs: shapes.map((s, i) => counted(d, s, d === 'int32' ? 1 : 1 / 16 / (i + 1))),
      attrs: { equation },
      ...coarse(d === 'float16' ? 'float16' : 'float32'),
      ...(d === 'float16' ? { atol: 0.05 } : {}),
    }),
  ),
);

const cycle = (dtype: DType, shape: readonly number[], values: readonly number[]): Tensor =>
  fromNumbers(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => values[(i * 7 + (i >> 3)) % values.length]!),
  );
const wide = (dtype: DType, shape: readonly number[]): Tensor =>
  cycle(
    dtype,
    shape,
    dtype === 'int8' ? [-128, 127, 3, -77, 0, 91, -1, 64, 1, -33, 125] : [0, 255, 3, 177, 128, 91, 1, 64, 200, 33, 127],
  );
const scale = (v: number): Tensor => fromNumbers('float32', [], [v]);
const BYTES = ['uint8', 'int8'] as const;
/** Scales that keep results off ties. */
const quantized: Case[] = BYTES.flatMap((a) =>
  BYTES.flatMap((b): Case[] => {
    const [za, zb] = [fromNumbers(a, [], [a === 'int8' ? -7 : 119]), fromNumbers(b, [], [b === 'int8' ? 5 : 131])];
    const per = (n: number): Tensor => wide(b, [n]);
    const scales = (n: number): Tensor => cycle('float32', [n], [0.0131, 0.0073, 0.0217]);
    return [
      ...(a === b
        ? [
            [1, 8, 5],
            [5, 35, 4],
          ]
        : [
            [13, 36, 20],
            [3, 0, 5],
          ]
      ).flatMap(([m, k, n]): Case[] => [
        { op: 'MatMulInteger', inputs: [wide(a, [m!, k!]), wide(b, [k!, n!]), za, zb], known: [1, 2, 3] },
        { op: 'MatMulInteger', inputs: [wide(a, [2, m!, k!]), wide(b, [k!, n!]), wide(a, [m!]), per(n!)], known: [1] },
        { op: 'MatMulInteger', inputs: [wide(a, [3, m!, k!]), wide(b, [3, k!, n!]), null, null], known: [1] },
        {
          op: 'QLinearMatMul',
          inputs: [wide(a, [m!, k!]), scale(0.0123), za, wide(b, [k!, n!]), scale(0.0371), zb, scale(1.93), za],
          known: [3],
        },
        {
          op: 'QLinearMatMul',
          inputs: [
            wide(a, [m!, k!]),
            cycle('float32', [m!], [0.011, 0.0057]),
            za,
            wide(b, [k!, n!]),
            scales(n!),
            per(n!),
            scale(0.83),
            zb,
          ],
          known: [3, 4],
        },
        {
          op: 'com.microsoft.QGemm',
          inputs: [
            wide(a, [m!, k!]),
            scale(0.0123),
            za,
            wide(b, [n!, k!]),
            scales(n!),
            per(n!),
            counted('int32', [n!], 37),
            scale(1.31),
            zb,
          ],
          known: [3],
          attrs: { transB: 1, alpha: 0.7 },
        },
        {
          op: 'com.microsoft.QGemm',
          inputs: [wide(a, [k!, m!]), scale(0.0123), za, wide(b, [k!, n!]), scale(0.0051), zb, null, null, null],
          attrs: { transA: 1 },
          ...close,
        },
      ]),
      ...[null, za].flatMap((zx): Case[] => [
        {
          op: 'ConvInteger',
          inputs: [wide(a, [2, 4, 7, 5]), wide(b, [6, 2, 3, 3]), zx, zx && per(6)],
          known: [1],
          attrs: { group: 2, pads: [1, 1, 0, 1], strides: [2, 1] },
        },
        {
          op: 'ConvInteger',
          inputs: [wide(a, [1, 3, 9]), wide(b, [5, 3, 2]), zx, zx && zb],
          attrs: { dilations: [2] },
        },
        { op: 'ConvInteger', inputs: [wide(a, [2, 3, 4, 4]), wide(b, [5, 3, 1, 1]), zx, null] },
      ]),
      {
        op: 'QLinearConv',
        inputs: [
          wide(a, [2, 4, 7, 7]),
          scale(0.0123),
          za,
          wide(b, [6, 4, 3, 3]),
          scales(6),
          per(6),
          scale(1.31),
          zb,
          counted('int32', [6], 51),
        ],
        known: [3],
        attrs: { pads: [1, 1, 1, 1] },
      },
      {
        op: 'com.microsoft.QLinearConv',
        inputs: [wide(a, [1, 6, 5, 8]), scale(0.0123), za, wide(b, [6, 1, 3, 1]), scale(0.0371), zb, scale(0.57), za],
        attrs: { group: 6 },
      },
    ];
  }),
);
const samples: Case[] = REALS.flatMap((d) =>
  ['nearest', 'linear', 'cubic'].flatMap((mode) =>
    ['zeros', 'border', 'reflection'].flatMap((padding_mode) =>
      [0, 1].flatMap((align_corners): Case[] => {
        const attrs = { mode, padding_mode, align_corners };
        const grid = (...shape: number[]): Tensor =>
          cycle(d, shape, [0.1875, -1.4375, 0.53125, 1, -0.71875, 2.8125, -0.03125, 0.96875, -1]);
        return [
          { op: 'GridSample', inputs: [rough(d, [2, 3, 5, 7]), grid(2, 4, 3, 2)], attrs, ...coarse(d) },
          { op: 'GridSample', inputs: [rough(d, [1, 2, 3, 4, 1]), grid(1, 2, 3, 2, 3)], attrs, ...coarse(d) },
          { op: 'GridSample', inputs: [rough(d, [2, 1, 6]), grid(2, 5, 1)], attrs, ...coarse(d) },
        ];
      }),
    ),
  ),
);

/**
 * Quantising to and from types below a byte, tables that are widened as they are gathered from, unpooling, and norms
 * whose statistics are inputs.
 */
const steps = fromNumbers('float32', [3], [0.5, 2, 0.25]);
const narrowTypes: readonly DType[] = [
  'float8e4m3fn',
  'float8e4m3fnuz',
  'float8e5m2',
  'float8e5m2fnuz',
  'float4e2m1',
  'int4',
  'uint4',
  'int2',
  'uint2',
];
const small: Case[] = narrowTypes.flatMap((d): Case[] => {
  const least = d.startsWith('u') ? 0 : -2;
  const zero = d.startsWith('f') ? fromNumbers(d, [3], [0, 0, 0]) : fromNumbers(d, [3], [1, 0, least + 1]);
  return [
    { op: 'QuantizeLinear', inputs: [rough('float32', [5, 3, 7], 6), steps, zero], known: [2] },
    {
      op: 'QuantizeLinear',
      inputs: [
        fromNumbers(
          'float32',
          [37],
          HARD.map((v) => (Number.isNaN(v) ? 0.5 : v)),
        ),
        fromNumbers('float32', [], [1]),
        fromNumbers(d, [], [0]),
      ],
      known: [2],
    },
    { op: 'QuantizeLinear', inputs: [rough('float16', [2, 5], 3), scale(0.5)], attrs: { output_dtype: ONNX[d] } },
    {
      op: 'QuantizeLinear',
      inputs: [rough('float32', [2, 6], 4), fromNumbers('float32', [2, 2], [1, 0.5, 0.25, 2])],
      attrs: { output_dtype: ONNX[d], block_size: 3, saturate: 0 },
    },
    { op: 'DequantizeLinear', inputs: [codes(d), scale(0.25)] },
    {
      op: 'DequantizeLinear',
      inputs: [
        fromNumbers(
          d,
          [3, 7],
          Array.from({ length: 21 }, (_, i) => (i % 4) + least),
        ),
        steps,
        zero,
      ],
      attrs: { axis: 0 },
    },
  ];
});
const blocks: Case[] = (['float32', 'float16'] as const)
  .flatMap((d) =>
    [4, 8, 2].flatMap((bits): Case[] => {
      const columns = 64;
      const rows = 9;
      const per = 8 / bits;
      const indices = fromNumbers(bits === 4 ? 'int32' : 'int64', [2, 4], [0, 8, 3, -1, -9, 5, 20, -10]);
      return [
        {
          op: 'com.microsoft.GatherBlockQuantized',
          inputs: [wide('uint8', [rows, columns / per]), indices, rough(d, [rows, 4], 1, 3)],
          attrs: { bits, block_size: 16 },
          ...coarse(d),
        },
        {
          op: 'com.microsoft.GatherBlockQuantized',
          inputs: [
            wide('uint8', [rows, columns / per]),
            indices,
            rough(d, [rows, 2], 1, 3),
            wide('uint8', [rows, Math.ceil((2 * bits) / 8)]),
          ],
          attrs: { bits, block_size: 32 },
          ...coarse(d),
        },
      ];
    }),
  )
  .concat(
    (['int4', 'uint4'] as const).flatMap((d): Case[] =>
      [null, fromNumbers(d, [3, 2], [1, 2, 3, 0, 5, 6])].map((zero) => ({
        op: 'com.microsoft.GatherBlockQuantized',
        inputs: [
          fromNumbers(
            d,
            [3, 32],
            Array.from({ length: 96 }, (_, i) => (i * 5) % 8),
          ),
          int64([4], [2, 0, -2, 1]),
          rough('float32', [3, 2], 1, 3),
          ...(zero ? [zero] : []),
        ],
        attrs: { block_size: 16 },
      })),
    ),
  );
const spread: Case[] = REALS.flatMap((d): Case[] => [
  {
    op: 'MaxUnpool',
    inputs: [rough(d, [1, 2, 2, 2]), int64([1, 2, 2, 2], [5, 7, 13, 15, 16, 19, 29, 31])],
    attrs: { kernel_shape: [2, 2], strides: [2, 2] },
  },
  {
    op: 'MaxUnpool',
    inputs: [rough(d, [1, 1, 2, 2]), int64([1, 1, 2, 2], [5, 7, 13, 15]), list(1, 1, 5, 7)],
    known: [2],
    attrs: { kernel_shape: [2, 2], strides: [2, 2] },
  },
  {
    op: 'MaxUnpool',
    inputs: [rough(d, [2, 1, 3]), int64([2, 1, 3], [0, 3, 5, 7, 8, 11])],
    attrs: { kernel_shape: [2], strides: [2] },
  },
  {
    op: 'BatchNormalization',
    inputs: [
      rough(d, [2, 3, 5, 3]),
      rough(d, [3]),
      rough(d, [3], 1, 4),
      rough('float32', [3], 1, 5),
      fromNumbers('float32', [3], [0.5, 2, 1]),
    ],
    ...coarse(d),
  },
  {
    op: 'BatchNormalization',
    inputs: [
      rough(d, [7, 3]),
      rough(d, [3]),
      rough(d, [3], 1, 4),
      rough(d, [3], 1, 5),
      fromNumbers(d, [3], [0.5, 2, 1]),
    ],
    ...coarse(d),
  },
]);

export const MORE: Readonly<Record<string, readonly Case[]>> = {
  casts,
  losses,
  lines,
  signals,
  states,
  images,
  found,
  kept,
  einsums,
  quantized,
  samples,
  small,
  blocks,
  spread,
};
