import { fail } from '../src/core/errors.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import {
  ALL,
  defineOp,
  int,
  type NormalizeCall,
  type Normalized,
  type Op,
  type OutFact,
  type RefCall,
} from './define.ts';
import { type Given, givenRun, infers, int64s, listOf, without } from './given.ts';
import { axesOf, axisOf } from './shapes.ts';

/** Input 0's bytes under the shape that `shapes` gives. */
const view =
  (shapes: (given: Given) => OutFact[]) =>
  (call: RefCall): Tensor[] => [{ ...call.tensor(0), shape: shapes(givenRun(call))[0]!.shape } as Tensor];

/** The target shape with its 0s (as the input's dim, unless `allowzero`) and its -1 (what is left) worked out. */
export function reshaped(from: readonly number[], to: readonly number[], allowzero: boolean): number[] {
  const shape = to.map((d, i) =>
    d === 0 && !allowzero
      ? (from[i] ?? fail('shape_mismatch', `dim ${i} of [${to}] is to be copied from a tensor of rank ${from.length}`))
      : d,
  );
  const free = shape.indexOf(-1);
  if (shape.some((d, i) => d < -1 || (d === -1 && i !== free)))
    fail('value_invalid', `[${to}] is no target for Reshape: one dim may be -1, the others must be 0 or more`);
  const count = sizeOf(from);
  if (free >= 0) {
    const rest = shape.reduce((n, d, i) => (i === free ? n : n * d), 1);
    if (rest === 0 || count % rest !== 0) fail('shape_mismatch', `[${from}] does not reshape to [${to}]`);
    shape[free] = count / rest;
  }
  if (sizeOf(shape) !== count)
    fail('shape_mismatch', `[${from}] has ${count} elements and does not reshape to [${to}]`);
  return shape;
}
const reshapeShapes = (g: Given): OutFact[] => [
  { dtype: g.dtype(0), shape: reshaped(g.shape(0), listOf(g, 1, 'shape')!, g.attrs.allowzero !== 0) },
];

function squeezed(g: Given): OutFact[] {
  const from = g.shape(0);
  const given = listOf(g, 1, 'axes');
  const axes = given ? axesOf(given, from.length) : from.flatMap((d, i) => (d === 1 ? [i] : []));
  for (const a of axes)
    if (from[a] !== 1) fail('shape_mismatch', `axis ${a} of [${from}] is not 1 and cannot be squeezed`);
  return [{ dtype: g.dtype(0), shape: from.filter((_, i) => !axes.includes(i)) }];
}

function unsqueezed(g: Given): OutFact[] {
  const from = g.shape(0);
  const given = listOf(g, 1, 'axes')!;
  const axes = axesOf(given, from.length + given.length);
  let next = 0;
  return [
    {
      dtype: g.dtype(0),
      shape: Array.from({ length: from.length + axes.length }, (_, i) => (axes.includes(i) ? 1 : from[next++]!)),
    },
  ];
}

function flattened(g: Given): OutFact[] {
  const from = g.shape(0);
  const axis = g.attrs.axis === from.length ? from.length : axisOf(g.attrs.axis, from.length);
  return [{ dtype: g.dtype(0), shape: [sizeOf(from.slice(0, axis)), sizeOf(from.slice(axis))] }];
}

/** Below opset 13 the axes are an attribute. */
const axesInput = ({ attrs, inputs, opset, constant }: NormalizeCall): Normalized =>
  opset < 13 && Array.isArray(attrs.axes)
    ? { attrs: without(attrs, 'axes'), inputs: [inputs[0]!, constant(int64s(attrs.axes as number[]))] }
    : {};

/** The dims from `start` up to `end`, both clamped; negative ones count from the end. */
function dimsBetween(
  shape: readonly number[],
  { start, end }: { readonly start: number; readonly end: number | undefined },
): number[] {
  const clamp = (i: number): number => Math.min(shape.length, Math.max(0, i < 0 ? i + shape.length : i));
  return shape.slice(clamp(start), clamp(end ?? shape.length));
}

/**
 * https://onnx.ai/onnx/operators/onnx__Reshape.html and its like: Squeeze, Unsqueeze, Flatten, which move nothing,
 * and Shape and Size, which only look at the shape.
 */
export const reshape: readonly Op[] = [
  defineOp({
    op: 'Reshape',
    since: [1, 5, 13, 14, 19, 21, 23, 24, 25],
    inputs: ['data: T', 'shape: int64'],
    outputs: ['reshaped: T'],
    types: { T: ALL },
    attrs: { allowzero: int(0) },
    view: true,
    normalize: ({ attrs, inputs, opset, constant }) =>
      opset < 5
        ? {
            attrs: without(attrs, 'shape', 'consumed_inputs'),
            inputs: [inputs[0]!, constant(int64s((attrs.shape ?? []) as number[]))],
          }
        : {},
    infer: infers(reshapeShapes),
    reference: view(reshapeShapes),
  }),
  defineOp({
    op: 'Squeeze',
    since: [1, 11, 13, 21, 23, 24, 25],
    inputs: ['data: T', 'axes: int64?'],
    outputs: ['squeezed: T'],
    types: { T: ALL },
    attrs: {},
    view: true,
    normalize: axesInput,
    infer: infers(squeezed),
    reference: view(squeezed),
  }),
  defineOp({
    op: 'Unsqueeze',
    since: [1, 11, 13, 21, 23, 24, 25],
    inputs: ['data: T', 'axes: int64'],
    outputs: ['expanded: T'],
    types: { T: ALL },
    attrs: {},
    view: true,
    normalize: axesInput,
    infer: infers(unsqueezed),
    reference: view(unsqueezed),
  }),
  defineOp({
    op: 'Flatten',
    since: [1, 9, 11, 13, 21, 23, 24, 25],
    inputs: ['input: T'],
    outputs: ['output: T'],
    types: { T: ALL },
    attrs: { axis: int(1) },
    view: true,
    infer: infers(flattened),
    reference: view(flattened),
  }),
  defineOp({
    op: 'Shape',
    since: [1, 13, 15, 19, 21, 23, 24, 25],
    inputs: ['data: T'],
    outputs: ['shape: int64'],
    types: { T: ALL },
    shapeOnly: true,
    attrs: { start: int(0), end: int() },
    infer: (call) => [{ dtype: 'int64', shape: [dimsBetween(call.fact(0).shape, call.attrs).length] }],
    reference: (call) => [int64s(dimsBetween(call.tensor(0).shape, call.attrs))],
  }),
  defineOp({
    op: 'Size',
    since: [1, 13, 19, 21, 23, 24, 25],
    inputs: ['data: T'],
    outputs: ['size: int64'],
    types: { T: ALL },
    attrs: {},
    shapeOnly: true,
    infer: () => [{ dtype: 'int64', shape: [] }],
    reference: (call) => [{ dtype: 'int64', shape: [], data: BigInt64Array.of(BigInt(sizeOf(call.tensor(0).shape))) }],
  }),
];
