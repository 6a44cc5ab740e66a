/** Cases of the operators that look at whole rows. */
import type { DType } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { type Case, counted, list } from './gpu-case.ts';

const REALS: readonly DType[] = ['float32', 'float16', 'bfloat16'];
const over = (make: (dtype: DType) => readonly Case[], dtypes: readonly DType[]): Case[] => dtypes.flatMap(make);
/** Rows that differ from one another. */
const wavy = (dtype: DType, shape: readonly number[], scale = 1): Tensor =>
  fromNumbers(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => (Math.round(Math.sin(i * 1.7 + 0.01 * i * i) * 64) / 16) * scale),
  );
const close = { rtol: 2e-5, atol: 2e-6 };
const coarse = (d: DType): { rtol: number; atol: number } =>
  d === 'float32' ? close : d === 'float16' ? { rtol: 2e-3, atol: 1e-3 } : { rtol: 2e-2, atol: 1e-2 };

const SHAPES: readonly (readonly [readonly number[], number])[] = [
  [[4], -1],
  [[1], 0],
  [[3, 5], -1],
  [[3, 5], 0],
  [[2, 3, 8], 1],
  [[7, 64], -1],
  [[2, 131], 1],
  [[2, 300, 3], 1],
  [[1, 10007], -1],
];
const softmaxes = over(
  (d) =>
    SHAPES.filter(([s]) => d !== 'bfloat16' || s.length === 2).map(
      ([shape, axis]): Case => ({ op: 'Softmax', inputs: [wavy(d, shape, 3)], attrs: { axis }, ...coarse(d) }),
    ),
  REALS,
).concat(
  ...SHAPES.slice(2).map(
    ([shape, axis]): Case => ({ op: 'LogSoftmax', inputs: [wavy('float32', shape, 3)], attrs: { axis }, ...close }),
  ),
  {
    op: 'Softmax',
    inputs: [fromNumbers('float32', [2, 4], [-Infinity, 1, 2, -Infinity, 1000, 1000, -1000, 0])],
    ...close,
  },
  { op: 'Softmax', inputs: [wavy('float32', [2, 3, 4])], attrs: { axis: 1, flatten: 1 }, ...close },
);

const norms = over(
  (d): Case[] => [
    ...[
      [2, 7],
      [3, 64],
      [2, 5, 33],
      [1, 9001],
      [5, 1],
    ].flatMap((shape): Case[] => {
      const n = shape.at(-1)!;
      const [scale, bias] = [wavy(d, [n], 0.5), wavy(d, [n])];
      return [
        { op: 'LayerNormalization', inputs: [wavy(d, shape), scale, bias], ...coarse(d) },
        { op: 'LayerNormalization', inputs: [wavy(d, shape), scale], outputs: 3, ...coarse(d) },
        { op: 'RMSNormalization', inputs: [wavy(d, shape), scale], attrs: { epsilon: 1e-3 }, ...coarse(d) },
      ];
    }),
    {
      op: 'LayerNormalization',
      inputs: [wavy(d, [2, 3, 4]), wavy(d, [3, 4]), wavy(d, [3, 4])],
      attrs: { axis: 1 },
      ...coarse(d),
    },
    {
      op: 'LayerNormalization',
      inputs: [wavy(d, [2, 3, 4]), wavy(d, [3, 1]), wavy(d, [4])],
      attrs: { axis: 1 },
      ...coarse(d),
    },
    { op: 'LayerNormalization', inputs: [wavy(d, [4, 4]), wavy(d, [4, 1]), wavy(d, [])], ...coarse(d) },
    { op: 'LayerNormalization', inputs: [wavy(d, [2, 5]), wavy('float32', [5])], outputs: 2, ...coarse(d) },
    {
      op: 'com.microsoft.SkipLayerNormalization',
      inputs: [wavy(d, [2, 3, 8]), wavy(d, [2, 3, 8], 0.5), wavy(d, [8]), wavy(d, [8]), wavy(d, [8])],
      outputs: 4,
      ...coarse(d),
    },
    {
      op: 'com.microsoft.SkipLayerNormalization',
      inputs: [wavy(d, [2, 3, 72]), wavy(d, [3, 72], 0.5), wavy(d, [72]), null, null],
      attrs: { epsilon: 1e-5 },
      ...coarse(d),
    },
    {
      op: 'com.microsoft.SkipSimplifiedLayerNormalization',
      inputs: [wavy(d, [6, 36]), wavy(d, [1, 36], 0.5), wavy(d, [36]), wavy(d, [36])],
      outputs: 4,
      ...coarse(d),
    },
    { op: 'InstanceNormalization', inputs: [wavy(d, [2, 3, 5, 5]), wavy(d, [3]), wavy(d, [3])], ...coarse(d) },
    { op: 'InstanceNormalization', inputs: [wavy(d, [2, 4, 4, 40]), wavy(d, [4]), wavy(d, [4])], ...coarse(d) },
    {
      op: 'GroupNormalization',
      inputs: [wavy(d, [2, 6, 4, 3]), wavy(d, [6]), wavy(d, [6])],
      attrs: { num_groups: 3 },
      ...coarse(d),
    },
    // As many channels as elements of a group, or of a channel.
    ...[
      [2, 4, 1, 2],
      [1, 4, 2],
      [2, 6, 3],
    ].map(
      (shape): Case => ({
        op: 'GroupNormalization',
        inputs: [wavy(d, shape), wavy(d, [shape[1]!]), wavy(d, [shape[1]!])],
        attrs: { num_groups: shape[1]! / 2 },
        ...coarse(d),
      }),
    ),
    ...[
      [2, 6, 2, 3],
      [1, 4, 4],
      [2, 4, 2, 2],
    ].map(
      (shape): Case => ({
        op: 'InstanceNormalization',
        inputs: [wavy(d, shape), wavy(d, [shape[1]!]), wavy(d, [shape[1]!])],
        ...coarse(d),
      }),
    ),
    ...[
      [2, 4, 2, 2],
      [1, 6, 6],
      [2, 4, 1],
    ].map(
      (shape): Case => ({
        op: 'sardonyx.ChannelNormalization',
        inputs: [wavy(d, shape), wavy(d, [shape[1]!], 0.5), wavy(d, [shape[1]!])],
        ...coarse(d),
      }),
    ),
    {
      op: 'GroupNormalization',
      inputs: [wavy(d, [2, 6, 5]), wavy(d, [2]), wavy(d, [2])],
      attrs: { num_groups: 2, scale_per_group: 1 },
      ...coarse(d),
    },
    ...[
      [2, 6, 4, 3],
      [1, 40, 7],
      [1, 300, 2, 3],
    ].map(
      (shape): Case => ({
        op: 'sardonyx.ChannelNormalization',
        inputs: [wavy(d, shape), wavy(d, [shape[1]!], 0.5), wavy(d, [shape[1]!])],
        ...coarse(d),
      }),
    ),
    {
      op: 'sardonyx.ChannelNormalization',
      inputs: [wavy(d, [3, 5, 4]), wavy(d, [5])],
      attrs: { centred: 0, epsilon: 1e-3 },
      ...coarse(d),
    },
  ],
  ['float32', 'float16'],
).concat({
  op: 'com.microsoft.SkipLayerNormalization',
  inputs: [wavy('float32', [2, 7]), wavy('float32', [2, 7], 0.5), wavy('float32', [7]), wavy('float32', [7])],
  outputs: 4,
  ...close,
});

const REDUCTIONS = [
  'ReduceSum',
  'ReduceMean',
  'ReduceProd',
  'ReduceL1',
  'ReduceL2',
  'ReduceSumSquare',
  'ReduceLogSum',
  'ReduceLogSumExp',
  'ReduceMax',
  'ReduceMin',
];
const INTEGERS = ['ReduceSum', 'ReduceProd', 'ReduceL1', 'ReduceSumSquare', 'ReduceMax', 'ReduceMin'];
/** Positive for those that take logarithms; near 1 where a product would overflow. */
const positive = (op: string, t: Tensor): Tensor =>
  (t.dtype.startsWith('float') || t.dtype === 'bfloat16') && (op === 'ReduceLogSum' || op === 'ReduceProd')
    ? fromNumbers(
        t.dtype,
        t.shape,
        Array.from({ length: sizeOf(t.shape) }, (_, i) => 0.75 + (i % 17) / 32),
      )
    : t;
const reductions = REDUCTIONS.flatMap((op): Case[] =>
  [
    [[7], null],
    [[2, 3, 4], [1]],
    [
      [5, 3, 2, 4],
      [0, 2],
    ],
    [[3, 40], [1]],
    [[40, 3], [0]],
  ].map(
    ([shape, axes]): Case => ({
      op,
      inputs: [positive(op, wavy('float32', shape as number[])), axes === null ? null : list(...(axes as number[]))],
      known: [1],
      attrs: { keepdims: shape!.length % 2 },
      ...close,
      atol: 2e-5,
    }),
  ),
).concat(
  ...['ReduceSum', 'ReduceMax', 'ReduceMean'].map(
    (op): Case => ({ op, inputs: [wavy('float32', [3, 20000]), list(1)], known: [1], ...close, atol: 1e-3 }),
  ),
  ...['ReduceSum', 'ReduceMin'].map(
    (op): Case => ({ op, inputs: [wavy('float32', [1300, 5]), list(0)], known: [1], ...close, atol: 1e-3 }),
  ),
  ...INTEGERS.flatMap((op): Case[] =>
    (['int32', 'int64', 'uint8', 'int8'] as const)
      .filter((d) => d !== 'int8' || op === 'ReduceMax' || op === 'ReduceSum')
      .flatMap((d): Case[] => [
        { op, inputs: [counted(d, [3, 5]), list(1)], known: [1] },
        { op, inputs: [counted(d, [2, 130]), list(-1)], known: [1] },
      ]),
  ),
  ...['ReduceMax', 'ReduceMin'].flatMap((op): Case[] => [
    { op, inputs: [counted('bool', [3, 5]), list(1)], known: [1] },
    { op, inputs: [fromNumbers('float32', [2, 3], [1, NaN, 2, -Infinity, -5, -7]), list(1)], known: [1] },
    { op, inputs: [fromNumbers('int8', [2, 0], []), list(1)], known: [1] },
  ]),
  ...['ReduceSum', 'ReduceLogSumExp'].flatMap((op): Case[] => [
    { op, inputs: [wavy('float16', [3, 70]), list(1)], known: [1], ...coarse('float16') },
    { op, inputs: [wavy('float16', [5, 3]), list(0)], known: [1], ...coarse('float16') },
    { op, inputs: [wavy('float32', [2, 3]), list()], known: [1], attrs: { noop_with_empty_axes: 1 }, ...close },
  ]),
  {
    op: 'ReduceLogSumExp',
    inputs: [
      fromNumbers('float32', [3, 3], [-Infinity, -Infinity, -Infinity, 1000, 1000, 1, Infinity, 1, -Infinity]),
      list(1),
    ],
    known: [1],
    ...close,
  },
  { op: 'ReduceSum', inputs: [fromNumbers('float32', [2, 0], []), list(1)], known: [1] },
  { op: 'ReduceSum', inputs: [wavy('float32', []), null], ...close },
);
const positions = (['ArgMax', 'ArgMin'] as const).flatMap((op) =>
  (['float32', 'float16', 'int32', 'int64', 'uint8'] as const).flatMap((d): Case[] => [
    { op, inputs: [counted(d, [130])] },
    { op, inputs: [counted(d, [3, 7, 5])], attrs: { axis: 1 } },
    ...(d === 'float32' || d === 'int64'
      ? [{ op, inputs: [counted(d, [3, 200])], attrs: { axis: -1, keepdims: 0, select_last_index: 1 } }]
      : []),
  ]),
);
const scans = (['float32', 'float16', 'int32', 'int64'] as const).flatMap((d): Case[] => [
  { op: 'CumSum', inputs: [counted(d, [7], 0.25), list(0)], known: [1] },
  { op: 'CumSum', inputs: [counted(d, [2, 5, 3]), list(1)], known: [1], attrs: { exclusive: 1 } },
  { op: 'CumSum', inputs: [counted(d, [3, 5]), list(-1)], known: [1], attrs: { reverse: 1 } },
  {
    op: 'CumSum',
    inputs: [counted(d, [2, 1001]), list(1)],
    known: [1],
    attrs: { exclusive: 1, reverse: 1 },
    atol: 1e-3,
  },
  { op: 'CumSum', inputs: [counted(d, [997, 2], 0.5), list(0)], known: [1], atol: 1e-3 },
  { op: 'CumProd', inputs: [fromNumbers(d, [2, 6], [1, 2, -1, 3, 1, 2, 2, 2, 1, 1, -1, 5]), list(1)], known: [1] },
]);

export const ROWS: Readonly<Record<string, readonly Case[]>> = { softmaxes, norms, reductions, positions, scans };
