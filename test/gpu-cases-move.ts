/** Cases of the operators that move elements. */
import type { DType } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { type Case, counted, int64, list } from './gpu-case.ts';

const WIDTHS: readonly DType[] = ['float32', 'float16', 'uint8', 'int64', 'bool'];
const over = (make: (dtype: DType) => readonly Case[], dtypes: readonly DType[] = WIDTHS): Case[] =>
  dtypes.flatMap(make);
/** Indices into an axis, of both signs. */
const places = (dtype: 'int32' | 'int64', shape: readonly number[], dim: number): Case['inputs'][0] =>
  fromNumbers(
    dtype,
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => ((i * 7 + 3) % (2 * dim)) - dim),
  );

const transposes = over((d) => [
  { op: 'Transpose', inputs: [counted(d, [7])] },
  { op: 'Transpose', inputs: [counted(d, [])] },
  { op: 'Transpose', inputs: [counted(d, [3, 5])] },
  { op: 'Transpose', inputs: [counted(d, [2, 3, 4])], attrs: { perm: [0, 2, 1] } },
  { op: 'Transpose', inputs: [counted(d, [2, 3, 4, 5])], attrs: { perm: [0, 2, 1, 3] } },
  { op: 'Transpose', inputs: [counted(d, [2, 3, 4, 5])], attrs: { perm: [3, 1, 0, 2] } },
  { op: 'Transpose', inputs: [counted(d, [2, 1, 3, 2, 1, 2, 3, 2])], attrs: { perm: [7, 0, 6, 1, 5, 2, 4, 3] } },
  { op: 'Transpose', inputs: [counted(d, [2, 5, 3, 8])], attrs: { perm: [1, 0, 2, 3] } },
  { op: 'Transpose', inputs: [counted(d, [37, 67])] },
  { op: 'Transpose', inputs: [counted(d, [3, 33, 16])], attrs: { perm: [0, 2, 1] } },
  { op: 'DepthToSpace', inputs: [counted(d, [1, 8, 2, 3])], attrs: { blocksize: 2 } },
  { op: 'DepthToSpace', inputs: [counted(d, [2, 9, 1, 2])], attrs: { blocksize: 3, mode: 'CRD' } },
  { op: 'SpaceToDepth', inputs: [counted(d, [1, 3, 4, 6])], attrs: { blocksize: 2 } },
]);
const slices = over((d) => [
  { op: 'Slice', inputs: [counted(d, [11]), list(2), list(9)], known: [1, 2, 3, 4] },
  { op: 'Slice', inputs: [counted(d, [11]), list(-1), list(-100), list(0), list(-2)], known: [1, 2, 3, 4] },
  { op: 'Slice', inputs: [counted(d, [4, 6, 8]), list(1, 2), list(4, 6), list(0, 1)], known: [1, 2, 3, 4] },
  {
    op: 'Slice',
    inputs: [counted(d, [4, 6, 8]), list(5, 0), list(0, 7), list(1, 2), list(-2, 3)],
    known: [1, 2, 3, 4],
  },
  { op: 'Split', inputs: [counted(d, [2, 7, 3]), list(2, 1, 4)], attrs: { axis: 1 }, outputs: 3, known: [1] },
  { op: 'Split', inputs: [counted(d, [6])], outputs: 2 },
  { op: 'Split', inputs: [counted(d, [5, 2]), list(0, 5)], outputs: 2, known: [1] },
  { op: 'Expand', inputs: [counted(d, [3, 1]), list(2, 1, 6)], known: [1] },
  { op: 'Expand', inputs: [counted(d, []), list(13)], known: [1] },
  { op: 'Expand', inputs: [counted(d, [5, 1, 4]), list(5, 3, 4)], known: [1] },
  { op: 'Tile', inputs: [counted(d, [2, 3]), list(2, 3)], known: [1] },
  { op: 'Tile', inputs: [counted(d, [7]), list(5)], known: [1] },
  { op: 'Tile', inputs: [counted(d, [2, 1, 3, 2]), list(1, 4, 1, 2)], known: [1] },
]);
const concats = over((d) => [
  { op: 'Concat', inputs: [counted(d, [5])], attrs: { axis: 0 } },
  { op: 'Concat', inputs: [counted(d, [2, 3]), counted(d, [2, 4], 0.5), counted(d, [2, 1])], attrs: { axis: -1 } },
  {
    op: 'Concat',
    inputs: [counted(d, [3, 4]), counted(d, [1, 4], 0.5), counted(d, [0, 4]), counted(d, [8, 4])],
    attrs: { axis: 0 },
  },
  {
    op: 'Concat',
    inputs: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18].map((n) => counted(d, [3, (n % 4) + 1, 1])),
    attrs: { axis: 1 },
  },
  { op: 'Concat', inputs: Array.from({ length: 25 }, () => counted(d, [2, 4])), attrs: { axis: 1 } },
]);
const pads = over((d) => [
  { op: 'Pad', inputs: [counted(d, [3]), list(2, 1)], known: [1] },
  { op: 'Pad', inputs: [counted(d, [2, 3]), list(1, -1, 0, 2), counted(d, [])], known: [1] },
  { op: 'Pad', inputs: [counted(d, [2, 3, 4, 5]), list(1, 2), null, list(2)], known: [1, 3] },
  ...['reflect', 'edge', 'wrap'].map(
    (mode): Case => ({
      op: 'Pad',
      inputs: [counted(d, [2, 4, 5]), list(0, 3, 2, 0, 2, 4)],
      attrs: { mode },
      known: [1],
    }),
  ),
  ...['reflect', 'edge', 'wrap'].map(
    (mode): Case => ({ op: 'Pad', inputs: [counted(d, [4, 5]), list(-1, 7, 9, -2)], attrs: { mode }, known: [1] }),
  ),
  { op: 'Pad', inputs: [counted(d, [1, 1]), list(2, 0, 3, 4)], attrs: { mode: 'reflect' }, known: [1] },
  { op: 'Pad', inputs: [counted(d, [2, 2]), list(0, 1, 1, 0)], attrs: { value: 1.5 }, known: [1] },
  { op: 'CenterCropPad', inputs: [counted(d, [5, 4, 3]), list(2, 7)], attrs: { axes: [0, 2] }, known: [1] },
]);
const gathers = over((d) =>
  (['int32', 'int64'] as const).flatMap((i): Case[] => [
    { op: 'Gather', inputs: [counted(d, [5]), places(i, [3], 5)!] },
    { op: 'Gather', inputs: [counted(d, [5, 3]), places(i, [2, 4], 5)!] },
    { op: 'Gather', inputs: [counted(d, [5, 8]), places(i, [], 5)!] },
    { op: 'Gather', inputs: [counted(d, [2, 5, 3]), places(i, [7], 5)!], attrs: { axis: 1 } },
    { op: 'Gather', inputs: [counted(d, [2, 3, 6]), places(i, [5], 6)!], attrs: { axis: -1 } },
    { op: 'GatherElements', inputs: [counted(d, [3, 4, 2]), places(i, [2, 7, 2], 4)!], attrs: { axis: 1 } },
    { op: 'GatherElements', inputs: [counted(d, [6]), places(i, [11], 6)!] },
    { op: 'GatherND', inputs: [counted(d, [2, 2, 4]), int64([3, 2], [0, 1, -1, 0, 1, -2])] },
    { op: 'GatherND', inputs: [counted(d, [2, 3, 5]), fromNumbers(i, [2, 1, 1], [2, -3])], attrs: { batch_dims: 1 } },
    { op: 'GatherND', inputs: [counted(d, [2, 3]), fromNumbers(i, [4, 2], [0, 0, 1, 2, -1, -1, 0, 1])] },
  ]),
);
const scatters = over((d) => [
  {
    op: 'ScatterElements',
    inputs: [counted(d, [3, 5]), int64([2, 3], [4, 1, 0, -1, 2, 3]), counted(d, [2, 3], 0.5)],
    attrs: { axis: 1 },
  },
  {
    op: 'ScatterElements',
    inputs: [counted(d, [3, 3]), int64([2, 3], [1, 0, 2, 0, 2, 1]), counted(d, [2, 3], 0.5)],
    attrs: { axis: 0 },
  },
  { op: 'ScatterND', inputs: [counted(d, [8]), int64([4, 1], [4, 3, 1, -1]), counted(d, [4], 0.5)] },
  { op: 'ScatterND', inputs: [counted(d, [4, 3, 4]), int64([2, 1], [0, -2]), counted(d, [2, 3, 4], 0.5)] },
  { op: 'ScatterND', inputs: [counted(d, [4, 3]), int64([3, 2], [0, 1, 3, 2, 1, 0]), counted(d, [3], 0.5)] },
]);
const combining = (['float32', 'int32', 'uint32', 'int64'] as const).flatMap((d) =>
  ['add', 'mul', 'max', 'min'].flatMap((reduction): Case[] => [
    {
      op: 'ScatterElements',
      inputs: [counted(d, [3, 5]), int64([2, 4], [4, 1, 1, 1, 2, 2, 2, 0]), counted(d, [2, 4], 2)],
      attrs: { axis: 1, reduction },
    },
    {
      op: 'ScatterND',
      inputs: [counted(d, [4, 3]), int64([5, 1], [1, 1, 0, 1, 0]), counted(d, [5, 3], 2)],
      attrs: { reduction },
    },
  ]),
);

const makes: readonly Case[] = [
  ...(['float32', 'float16', 'int64', 'uint8', 'bool', 'int32'] as const).flatMap((d): Case[] => [
    { op: 'Trilu', inputs: [counted(d, [2, 3, 5])] },
    { op: 'Trilu', inputs: [counted(d, [4, 3]), int64([], [-1])], attrs: { upper: 0 }, known: [1] },
    { op: 'Trilu', inputs: [counted(d, [3, 4]), int64([], [2 ** 40])], known: [1] },
    { op: 'ReverseSequence', inputs: [counted(d, [4, 3]), list(4, 2, 1)] },
    { op: 'ReverseSequence', inputs: [counted(d, [2, 4, 2]), list(0, 3)], attrs: { time_axis: 1, batch_axis: 0 } },
    { op: 'OneHot', inputs: [list(0, 3, -1, 7, -9, 1), list(4), counted(d, [2])], known: [1] },
  ]),
  {
    op: 'OneHot',
    inputs: [fromNumbers('float32', [2, 3], [0, 1, 2, -1, 2, 5]), list(3), fromNumbers('int32', [2], [-5, 9])],
    attrs: { axis: 1 },
    known: [1],
  },
  {
    op: 'OneHot',
    inputs: [fromNumbers('int32', [], [2]), list(3), counted('float32', [2])],
    attrs: { axis: 0 },
    known: [1],
  },
  ...[1, 2, 6, 7, 9, 10].map(
    (dtype): Case => ({ op: 'EyeLike', inputs: [counted('float32', [3, 5])], attrs: { dtype, k: dtype - 6 } }),
  ),
  { op: 'Range', inputs: [0.5, 9, 0.25].map((v) => fromNumbers('float32', [], [v])), known: [0, 1, 2] },
  { op: 'Range', inputs: [10, -11, -3].map((v) => int64([], [v])), known: [0, 1, 2] },
  { op: 'Range', inputs: [3, 17, 2].map((v) => fromNumbers('int32', [], [v])), known: [0, 1, 2] },
  { op: 'ConstantOfShape', inputs: [list(2, 7)], known: [0] },
];

interface Sizes {
  readonly scales?: readonly number[];
  readonly sizes?: readonly number[];
  readonly roi?: readonly number[];
}
const resized = (d: DType, shape: readonly number[], to: Sizes, attrs: Record<string, string | number> = {}): Case => ({
  op: 'Resize',
  inputs: [
    counted(d, shape),
    to.roi ? fromNumbers('float32', [to.roi.length], to.roi) : null,
    to.scales ? fromNumbers('float32', [to.scales.length], to.scales) : null,
    to.sizes ? list(...to.sizes) : null,
  ],
  known: [1, 2, 3],
  attrs,
  rtol: 1e-5,
  atol: d === 'float16' ? 0.05 : 1e-4,
});
const crop = { sizes: [1, 1, 3, 3], roi: [0, 0, 0.4, 0.6, 1, 1, 1.2, 1.7] };
const resizes = over((d) => [
  resized(d, [1, 2, 3, 4], { scales: [1, 1, 2, 2] }),
  resized(d, [2, 5], { sizes: [2, 3] }, { nearest_mode: 'ceil' }),
  resized(
    d,
    [1, 4, 5, 3],
    { scales: [1, 0.6, 1.7, 1] },
    { coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' },
  ),
  resized(
    d,
    [3, 2, 8],
    { sizes: [7, 2, 8] },
    { coordinate_transformation_mode: 'align_corners', nearest_mode: 'round_prefer_ceil' },
  ),
]).concat(
  ...(['float32', 'float16', 'uint8', 'int8'] as const).map((d): Case[] => [
    resized(d, [1, 2, 3, 4], { scales: [1, 1, 2, 2] }, { mode: 'linear' }),
    resized(
      d,
      [1, 1, 5, 4],
      { sizes: [1, 1, 3, 7] },
      { mode: 'linear', coordinate_transformation_mode: 'align_corners' },
    ),
    resized(d, [1, 6, 5, 3], { sizes: [1, 4, 9, 3] }, { mode: 'cubic', cubic_coeff_a: -0.5, exclude_outside: 1 }),
    resized(d, [2, 3, 4, 5], { sizes: [4, 6, 2, 5] }, { mode: 'linear' }),
    resized(d, [1, 1, 4, 4], crop, {
      mode: 'linear',
      coordinate_transformation_mode: 'tf_crop_and_resize',
      extrapolation_value: 10,
    }),
  ]),
  resized('float32', [1, 1, 8, 8], { scales: [1, 1, 0.4, 0.6] }, { mode: 'cubic', antialias: 1 }),
  resized('float32', [1, 1, 4, 4], crop, {
    coordinate_transformation_mode: 'tf_crop_and_resize',
    extrapolation_value: 10,
  }),
  resized('float32', [2, 3], { sizes: [2, 3] }, { mode: 'linear' }),
);

export const MOVES: Readonly<Record<string, readonly Case[]>> = {
  transposes,
  slices,
  concats,
  pads,
  gathers,
  scatters,
  combining,
  makes,
  resizes,
};
