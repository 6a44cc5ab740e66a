import { fail } from '../src/core/errors.ts';
import { integers, numbers } from '../src/core/numbers.ts';
import { sizeOf, stridesOf, type Tensor } from '../src/core/tensor.ts';
import {
  ALL,
  defineOp,
  INDEX,
  int,
  type NormalizeCall,
  type Normalized,
  type Op,
  type OutFact,
  required,
} from './define.ts';
import { cellsOf, copyRun, fromCells, newCells, strided } from './elements.ts';
import { type Given, givenRun, infers, int64s, listOf, without } from './given.ts';
import { axesOf, axisOf } from './shapes.ts';
import type { StridedView } from './webgpu/move.ts';

/** Where a slice of `shape` begins, what it steps by (in elements along each axis), and its shape. */
export interface Sliced {
  readonly starts: readonly number[];
  readonly steps: readonly number[];
  readonly shape: readonly number[];
}

/**
 * Negative bounds count from the end and all bounds are clamped, so that the largest int64 means "to the end". A start
 * before the beginning is the beginning, also where the step is negative: there NumPy has nothing.
 * https://onnx.ai/onnx/operators/onnx__Slice.html
 */
export function slicesOf(
  shape: readonly number[],
  from: readonly number[],
  to: readonly number[],
  axes?: readonly number[] | null,
  by?: readonly number[] | null,
): Sliced {
  const named = axesOf(axes ?? from.map((_, i) => i), shape.length);
  for (const [what, list] of [
    ['ends', to],
    ['axes', named],
    ['steps', by ?? from],
  ] as const) {
    if (list.length !== from.length)
      fail('shape_mismatch', `Slice has ${from.length} starts but ${list.length} ${what}`);
  }
  const starts = shape.map(() => 0);
  const steps = shape.map(() => 1);
  const out = [...shape];
  named.forEach((axis, i) => {
    const dim = shape[axis]!;
    const step = by?.[i] ?? 1;
    if (step === 0) fail('value_invalid', `step ${i} of Slice is 0`);
    const most = step > 0 ? dim : dim - 1;
    const clamp = (v: number, least: number): number => Math.min(most, Math.max(least, v < 0 ? v + dim : v));
    const start = clamp(from[i]!, 0);
    out[axis] = Math.max(0, Math.ceil((clamp(to[i]!, step > 0 ? 0 : -1) - start) / step));
    starts[axis] = out[axis] === 0 ? 0 : start;
    steps[axis] = step;
  });
  return { starts, steps, shape: out };
}
const sliceOf = (g: Given): Sliced =>
  slicesOf(g.shape(0), listOf(g, 1, 'starts')!, listOf(g, 2, 'ends')!, listOf(g, 3, 'axes'), listOf(g, 4, 'steps'));

/** A slice of a tensor of `from`'s shape as strides: of a batch of 1 as of one of more, 0 along other dims of 1. */
function viewOf(from: readonly number[], { starts, steps, shape }: Sliced): StridedView & { readonly start: number } {
  const strides = stridesOf(from);
  return {
    shape,
    strides: shape.map((d, i) => (d > 1 ? steps[i]! * strides[i]! : i === 0 && from[0] === 1 ? strides[0]! : 0)),
    start: starts.reduce((n, s, i) => n + s * strides[i]!, 0),
  };
}
/** The part of `t` that a slice names. */
export function sliced(t: Tensor, slice: Sliced): Tensor {
  const { shape, strides, start } = viewOf(t.shape, slice);
  return strided(t, shape, strides, start);
}

/** Sizes along the axis of the pieces that a Split makes. */
export function piecesOf(dim: number, outputs: number, sizes: readonly number[] | null, parts?: number): number[] {
  const given = sizes ?? equalPieces(dim, parts ?? outputs, parts !== undefined);
  if (given.length < outputs) fail('shape_mismatch', `Split has ${outputs} outputs but makes ${given.length} pieces`);
  if (given.some((n) => n < 0) || given.reduce((a, b) => a + b, 0) !== dim)
    fail('value_invalid', `pieces [${given}] do not make up the axis of ${dim}`);
  return [...given];
}
function equalPieces(dim: number, parts: number, lastSmaller: boolean): number[] {
  if (!(parts > 0) || parts > 2 ** 20) fail('attribute_invalid', `num_outputs is ${parts}`);
  if (!lastSmaller && dim % parts !== 0)
    fail('shape_mismatch', `an axis of ${dim} does not split into ${parts} equal pieces`);
  const size = Math.ceil(dim / parts);
  return Array.from({ length: parts }, (_, i) => (i < parts - 1 ? size : dim - size * (parts - 1)));
}
function splitShapes(g: Given): OutFact[] {
  const shape = g.shape(0);
  const axis = axisOf(g.attrs.axis, shape.length);
  return piecesOf(shape[axis]!, g.outputs, listOf(g, 1, 'split'), g.attrs.num_outputs).map((n) => ({
    dtype: g.dtype(0),
    shape: shape.map((d, i) => (i === axis ? n : d)),
  }));
}

/** Shape of `shapes` put one behind another along `axis`. */
export function concatenated(shapes: readonly (readonly number[])[], axis: number): number[] {
  const first = shapes[0]!;
  const at = axisOf(axis, first.length);
  for (const s of shapes) {
    if (s.length !== first.length || s.some((d, i) => i !== at && d !== first[i]))
      fail('shape_mismatch', `[${s}] and [${first}] differ in more than axis ${at}`);
  }
  return first.map((d, i) => (i === at ? shapes.reduce((n, s) => n + s[at]!, 0) : d));
}
/** The tensors one behind another along `axis`. */
export function concatenate(tensors: readonly Tensor[], axis: number): Tensor {
  const shape = concatenated(
    tensors.map((t) => t.shape),
    axis,
  );
  const at = axisOf(axis, shape.length);
  const { dtype } = tensors[0]!;
  const to = newCells(dtype, sizeOf(shape));
  const outer = sizeOf(shape) === 0 ? 0 : sizeOf(shape.slice(0, at));
  const row = sizeOf(shape.slice(at));
  let place = 0;
  for (const t of tensors) {
    if (t.dtype !== dtype) fail('type_mismatch', `${t.dtype} and ${dtype} cannot be concatenated`);
    const from = cellsOf(t);
    const run = sizeOf(t.shape.slice(at));
    for (let o = 0; o < outer; o++) copyRun(from, o * run, to, o * row + place, run);
    place += run;
  }
  return fromCells(dtype, shape, to);
}

/** Old attributes as inputs 1, 2, …; those not given are left out. */
const asInputs =
  (...names: readonly string[]) =>
  ({ attrs, inputs, constant }: NormalizeCall): Normalized => ({
    attrs: without(attrs, ...names),
    inputs: [
      inputs[0]!,
      ...names.map((n) => (Array.isArray(attrs[n]) ? constant(int64s(attrs[n] as number[])) : null)),
    ],
  });

const slice10 = defineOp({
  op: 'Slice',
  since: [1, 10, 11, 13],
  inputs: ['data: T', 'starts: I', 'ends: I', 'axes: I?', 'steps: I?'],
  outputs: ['output: T'],
  types: { T: ALL, I: INDEX },
  attrs: {},
  normalize: (node) => (node.opset < 10 ? asInputs('starts', 'ends', 'axes')(node) : {}),
  infer: infers((g) => [{ dtype: g.dtype(0), shape: sliceOf(g).shape }]),
  reference: (call) => [sliced(call.tensor(0), sliceOf(givenRun(call)))],
});

/** Outputs as views of input 0. */
export const sliceViews = (g: Given): readonly StridedView[] => [viewOf(g.shape(0), sliceOf(g))];
export function splitViews(g: Given): readonly StridedView[] {
  const axis = axisOf(g.attrs.axis, g.shape(0).length);
  let at = 0;
  return splitShapes(g).map(({ shape }) =>
    viewOf(g.shape(0), {
      starts: shape.map((_, i) => (i === axis ? (at += shape[axis]!) - shape[axis]! : 0)),
      steps: shape.map(() => 1),
      shape,
    }),
  );
}

/** https://onnx.ai/onnx/operators/onnx__Slice.html, Split, Concat, ReverseSequence, Trilu */
export const slice: readonly Op[] = [
  slice10,
  { ...slice10, op: 'DynamicSlice', since: [1], normalize: () => ({ op: 'Slice' }) },
  defineOp({
    op: 'Split',
    since: [1, 2, 11, 13, 18],
    inputs: ['input: T', 'split: int64?'],
    outputs: ['outputs: T*'],
    types: { T: ALL },
    attrs: { axis: int(0), num_outputs: int() },
    normalize: (node) => (node.opset < 13 && node.attrs.split ? asInputs('split')(node) : {}),
    infer: infers(splitShapes),
    reference: (call) => {
      const t = call.tensor(0);
      const axis = axisOf(call.attrs.axis, t.shape.length);
      let start = 0;
      return splitShapes(givenRun(call)).map(({ shape }) => {
        const piece = sliced(t, {
          starts: shape.map((_, i) => (i === axis ? start : 0)),
          steps: shape.map(() => 1),
          shape,
        });
        start += shape[axis]!;
        return piece;
      });
    },
  }),
  defineOp({
    op: 'Concat',
    since: [1, 4, 11, 13],
    inputs: ['inputs: T*'],
    outputs: ['concat_result: T'],
    types: { T: ALL },
    attrs: { axis: required(int()) },
    normalize: ({ attrs, opset }) => (opset < 4 ? { attrs: { axis: 1, ...attrs } } : {}),
    infer: (call) => [
      {
        dtype: call.fact(0).dtype,
        shape: concatenated(
          call.inputs.map((_, i) => call.fact(i).shape),
          call.attrs.axis,
        ),
      },
    ],
    reference: (call) => [
      concatenate(
        call.inputs.map((_, i) => call.tensor(i)),
        call.attrs.axis,
      ),
    ],
  }),
  defineOp({
    op: 'ReverseSequence',
    since: [10],
    inputs: ['input: T', 'sequence_lens: int64'],
    outputs: ['Y: T'],
    types: { T: ALL },
    attrs: { time_axis: int(0), batch_axis: int(1) },
    infer: (call) => {
      const { dtype, shape } = call.fact(0);
      const [time, batch] = axesOf([call.attrs.time_axis, call.attrs.batch_axis], shape.length);
      if (time! + batch! !== 1) fail('attribute_invalid', `time_axis ${time} and batch_axis ${batch} must be 0 and 1`);
      if (String(call.fact(1).shape) !== String([shape[batch!]]))
        fail(
          'shape_mismatch',
          `sequence_lens has shape [${call.fact(1).shape}]; the batch of [${shape}] is ${shape[batch!]}`,
        );
      return [{ dtype, shape }];
    },
    reference: (call) => {
      const t = call.tensor(0);
      const lens = integers(call.tensor(1));
      const [time] = axesOf([call.attrs.time_axis, call.attrs.batch_axis], t.shape.length);
      const steps = t.shape[time!]!;
      lens.forEach((n, b) => {
        if (!(n >= 0 && n <= steps)) fail('value_invalid', `sequence_lens[${b}] is ${n}; the time axis has ${steps}`);
      });
      const from = cellsOf(t);
      const count = sizeOf(t.shape);
      const to = newCells(t.dtype, count);
      const rows = count === 0 ? 0 : t.shape[0]! * t.shape[1]!;
      const run = count / rows;
      const columns = t.shape[1]!;
      for (let r = 0; r < rows; r++) {
        const [first, second] = [Math.floor(r / columns), r % columns];
        const [step, b] = time === 0 ? [first, second] : [second, first];
        const source = step < lens[b]! ? lens[b]! - 1 - step : step;
        copyRun(from, (time === 0 ? source * columns + second : first * columns + source) * run, to, r * run, run);
      }
      return [fromCells(t.dtype, t.shape, to)];
    },
  }),
  ...(['Trilu', 'com.microsoft.Trilu'] as const).map((op) =>
    defineOp({
      op,
      since: op === 'Trilu' ? [14] : [1],
      inputs: ['input: T', 'k: int64?'],
      outputs: ['output: T'],
      types: { T: ALL },
      attrs: { upper: int(1) },
      normalize: () => ({ op: 'Trilu' }),
      infer: (call) => {
        const { dtype, shape } = call.fact(0);
        if (shape.length < 2) fail('shape_mismatch', `Trilu needs a matrix, not [${shape}]`);
        if (call.inputs[1] && sizeOf(call.inputs[1].shape) !== 1)
          fail('shape_mismatch', `k has shape [${call.inputs[1].shape}]; it must be one number`);
        return [{ dtype, shape }];
      },
      reference: (call) => {
        const t = call.tensor(0);
        const given = call.optional(1);
        const k = given ? numbers(given)[0]! : 0;
        const [rows = 0, columns = 0] = t.shape.slice(-2);
        const from = cellsOf(t);
        const count = sizeOf(t.shape);
        const to = newCells(t.dtype, count);
        for (let r = 0, n = count === 0 ? 0 : count / columns; r < n; r++) {
          const edge = Math.min(columns, Math.max(0, (r % rows) + k + (call.attrs.upper ? 0 : 1)));
          if (call.attrs.upper) copyRun(from, r * columns + edge, to, r * columns + edge, columns - edge);
          else copyRun(from, r * columns, to, r * columns, edge);
        }
        return [fromCells(t.dtype, t.shape, to)];
      },
    }),
  ),
];
