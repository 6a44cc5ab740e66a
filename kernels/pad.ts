import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, stridesOf } from '../src/core/tensor.ts';
import { ALL, defineOp, float, INDEX, ints, NUMERIC, type Op, type OutFact, string } from './define.ts';
import { cellsOf, indexed, sized, strided } from './elements.ts';
import { type Given, givenRun, infers, int64s, listOf, without } from './given.ts';
import { axesOf, axisOf, broadcast, broadcastStrides } from './shapes.ts';
import { padTable } from './pad-table.ts';
import type { PadGeometry, StridedView } from './webgpu/move.ts';

const MODES = ['constant', 'reflect', 'edge', 'wrap'];

/** Elements put before and after each axis (removed, where negative), and the shape that results. */
export interface Padding {
  readonly before: readonly number[];
  readonly after: readonly number[];
  readonly shape: readonly number[];
}

/** What a Pad does to `from`. @throws shape_mismatch, value_invalid */
export function paddingOf(
  from: readonly number[],
  pads: readonly number[],
  axes: readonly number[] | null,
  mode: string,
): Padding {
  if (!MODES.includes(mode))
    fail('attribute_invalid', `mode ${JSON.stringify(mode)} must be one of ${MODES.join(', ')}`);
  const named = axes ? axesOf(axes, from.length) : from.map((_, i) => i);
  if (pads.length !== 2 * named.length)
    fail('shape_mismatch', `pads [${pads}] must name two numbers for each of ${named.length} axes`);
  const before = from.map(() => 0);
  const after = from.map(() => 0);
  named.forEach((axis, i) => {
    [before[axis], after[axis]] = [pads[i]!, pads[i + named.length]!];
  });
  const shape = from.map((d, i) => d + before[i]! + after[i]!);
  from.forEach((d, i) => {
    const kept = d + Math.min(0, before[i]!) + Math.min(0, after[i]!);
    if (kept < 0 || shape[i]! < 0)
      fail('value_invalid', `pads ${before[i]} and ${after[i]} take more than the ${d} elements of axis ${i}`);
    if (kept === 0 && shape[i]! > 0 && mode !== 'constant')
      fail('value_invalid', `axis ${i} of [${from}] has nothing to ${mode}`);
  });
  return { before, after, shape };
}

function padShape(g: Given): { padding: Padding; out: OutFact } {
  const padding = paddingOf(g.shape(0), listOf(g, 1, 'pads')!, listOf(g, 3, 'axes'), g.attrs.mode);
  if (g.has(2) && sizeOf(g.shape(2)) !== 1)
    fail('shape_mismatch', `constant_value has shape [${g.shape(2)}]; it must be one element`);
  return { padding, out: sized(g.dtype(0), padding.shape) };
}

function tiledShape(g: Given): OutFact[] {
  const from = g.shape(0);
  if (g.has(2)) {
    if (sizeOf(g.shape(1)) !== 1 || sizeOf(g.shape(2)) !== 1)
      fail('shape_mismatch', 'tiles and axis must be one number each');
    const axis = axisOf(numbers(g.value(2))[0]!, from.length);
    return [
      sized(
        g.dtype(0),
        from.map((d, i) => (i === axis ? d * numbers(g.value(1))[0]! : d)),
      ),
    ];
  }
  const repeats = listOf(g, 1, 'repeats')!;
  if (repeats.length !== from.length)
    fail('shape_mismatch', `repeats [${repeats}] must have a number for each dim of [${from}]`);
  return [
    sized(
      g.dtype(0),
      from.map((d, i) => d * Math.max(-1, repeats[i]!)),
    ),
  ];
}

function expandedShape(g: Given): OutFact[] {
  const target = listOf(g, 1, 'shape')!;
  if (target.some((d) => d < 0)) fail('value_invalid', `[${target}] is no shape to expand to`);
  return [sized(g.dtype(0), broadcast(g.shape(0), target))];
}

/** Axes that are too long lose half their excess at each end, axes too short gain it: as the pads of one Pad. */
function centred(g: Given<{ readonly axes: readonly number[] | undefined }>): Padding {
  const from = g.shape(0);
  const target = listOf(g, 1, 'shape')!;
  const axes = axesOf(g.attrs.axes ?? from.map((_, i) => i), from.length);
  if (target.length !== axes.length || target.some((d) => d < 0))
    fail('value_invalid', `shape [${target}] must have a size for each of ${axes.length} axes`);
  const first = axes.map((axis, i) => {
    const more = target[i]! - from[axis]!;
    return more >= 0 ? Math.floor(more / 2) : -Math.floor(-more / 2);
  });
  const last = axes.map((axis, i) => target[i]! - from[axis]! - first[i]!);
  return paddingOf(from, [...first, ...last], axes, 'constant');
}

/** What kernels copy, and where they fill. */
export const padGeometry = (g: Given): PadGeometry => ({ ...padShape(g).padding, mode: g.attrs.mode });
export const cropGeometry = (g: Given): PadGeometry => ({ ...centred(g), mode: 'constant' });
/** Outputs as views of input 0. */
export function tileViews(g: Given): readonly StridedView[] {
  const [from, { shape }] = [g.shape(0), tiledShape(g)[0]!];
  return [{ shape: from.flatMap((d, i) => [shape[i]! / d, d]), strides: stridesOf(from).flatMap((s) => [0, s]) }];
}
export function expandViews(g: Given): readonly StridedView[] {
  const { shape } = expandedShape(g)[0]!;
  return [{ shape, strides: broadcastStrides(g.shape(0), shape) }];
}

/**
 * https://onnx.ai/onnx/operators/onnx__Pad.html, CenterCropPad, Tile, Expand: outputs larger than what they are made
 * of.
 */
export const pad: readonly Op[] = [
  defineOp({
    op: 'Pad',
    since: [1, 2, 11, 13, 18, 19, 21, 23, 24, 25],
    inputs: ['data: T', 'pads: int64', 'constant_value: T?', 'axes: I?'],
    outputs: ['output: T'],
    types: { T: ALL, I: INDEX },
    attrs: { mode: string('constant'), /** The constant where it is no input: opsets below 11. */ value: float(0) },
    normalize: ({ attrs, inputs, opset, constant }) =>
      opset >= 11
        ? {}
        : {
            attrs: without(attrs, 'pads', 'paddings'),
            inputs: [inputs[0]!, constant(int64s((attrs.pads ?? attrs.paddings ?? []) as number[]))],
          },
    infer: infers((g) => [padShape(g).out]),
    reference: (call) => {
      const t = call.tensor(0);
      const {
        padding: { before, after },
        out,
      } = padShape(givenRun(call));
      if (out.shape.includes(0))
        return [
          strided(
            t,
            out.shape,
            out.shape.map(() => 0),
          ),
        ];
      const given =
        call.optional(2) ??
        (t.dtype === 'string' || call.attrs.value === 0 ? null : fromNumbers(t.dtype, [1], [call.attrs.value]));
      return [
        indexed(
          t,
          out.shape,
          t.shape.map((d, i) => padTable(d, before[i]!, after[i]!, call.attrs.mode)),
          given && cellsOf(given),
        ),
      ];
    },
  }),
  defineOp({
    op: 'CenterCropPad',
    since: [18],
    inputs: ['input_data: T', 'shape: I'],
    outputs: ['output_data: T'],
    types: { T: ALL, I: INDEX },
    attrs: { axes: ints() },
    infer: infers((g) => [sized(g.dtype(0), centred(g).shape)]),
    reference: (call) => {
      const t = call.tensor(0);
      const { before, after, shape } = centred(givenRun(call));
      sized(t.dtype, shape);
      if (shape.includes(0))
        return [
          strided(
            t,
            shape,
            shape.map(() => 0),
          ),
        ];
      return [
        indexed(
          t,
          shape,
          t.shape.map((d, i) => padTable(d, before[i]!, after[i]!, 'constant')),
        ),
      ];
    },
  }),
  defineOp({
    op: 'Tile',
    since: [1, 6, 13],
    inputs: ['input: T', 'repeats: R', 'axis: R?'],
    outputs: ['output: T'],
    types: { T: ALL, R: NUMERIC },
    attrs: {},
    infer: infers(tiledShape),
    reference: (call) => {
      const t = call.tensor(0);
      const { shape } = tiledShape(givenRun(call))[0]!;
      if (shape.includes(0))
        return [
          strided(
            t,
            shape,
            shape.map(() => 0),
          ),
        ];
      const strides = stridesOf(t.shape);
      const tiles = strided(
        t,
        t.shape.flatMap((d, i) => [shape[i]! / d, d]),
        strides.flatMap((s) => [0, s]),
      );
      return [{ ...tiles, shape }];
    },
  }),
  defineOp({
    op: 'Expand',
    since: [8, 13],
    inputs: ['input: T', 'shape: int64'],
    outputs: ['output: T'],
    types: { T: ALL },
    attrs: {},
    infer: infers(expandedShape),
    reference: (call) => {
      const t = call.tensor(0);
      const { shape } = expandedShape(givenRun(call))[0]!;
      return [strided(t, shape, broadcastStrides(t.shape, shape))];
    },
  }),
];
