import { fail } from '../src/core/errors.ts';
import { stridesOf, type Tensor } from '../src/core/tensor.ts';
import { ALL, defineOp, int, ints, type Op, required, string } from './define.ts';
import { strided } from './elements.ts';
import { axesOf, rankOf } from './shapes.ts';
import type { Given } from './given.ts';
import type { StridedView } from './webgpu/move.ts';

/** The order of axes: reversed when none is given. @throws attribute_invalid */
export function permOf(perm: readonly number[] | undefined, rank: number): number[] {
  const axes = perm ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  if (axes.length !== rank)
    fail('attribute_invalid', `perm [${axes}] does not order the axes of a tensor of rank ${rank}`);
  return axesOf(axes, rank);
}

const permuted = (shape: readonly number[], perm: readonly number[]): StridedView => {
  const strides = stridesOf(shape);
  return { shape: perm.map((p) => shape[p]!), strides: perm.map((p) => strides[p]!) };
};

/** `t`, seen under the shape `as`, with its axes reordered, under the shape `to`. */
function rearranged(t: Tensor, as: readonly number[], perm: readonly number[], to: readonly number[]): Tensor {
  const strides = stridesOf(as);
  return {
    ...strided(
      t,
      perm.map((p) => as[p]!),
      perm.map((p) => strides[p]!),
    ),
    shape: to,
  } as Tensor;
}

/**
 * DepthToSpace and SpaceToDepth as a transpose: the input under the shape `as`, its axes in the order `perm`, the
 * result under the shape `to`.
 * @throws attribute_invalid, shape_mismatch
 */
export function blocksOf(
  op: 'DepthToSpace' | 'SpaceToDepth',
  shape: readonly number[],
  { blocksize: b, mode }: { readonly blocksize: number; readonly mode: string },
): { as: number[]; perm: number[]; to: number[] } {
  const [n = 0, c = 0, h = 0, w = 0] = shape;
  if (!(b > 0)) fail('attribute_invalid', `blocksize is ${b}`);
  if (op === 'SpaceToDepth') {
    if (h % b !== 0 || w % b !== 0) fail('shape_mismatch', `blocksize ${b} does not divide the plane of [${shape}]`);
    return { as: [n, c, h / b, b, w / b, b], perm: [0, 3, 5, 1, 2, 4], to: [n, c * b * b, h / b, w / b] };
  }
  if (mode !== 'DCR' && mode !== 'CRD') fail('attribute_invalid', `mode ${JSON.stringify(mode)} must be DCR or CRD`);
  if (c % (b * b) !== 0)
    fail('shape_mismatch', `the ${c} channels of [${shape}] are no multiple of blocksize ${b} squared`);
  const deep = c / (b * b);
  const to = [n, deep, h * b, w * b];
  return mode === 'DCR'
    ? { as: [n, b, b, deep, h, w], perm: [0, 3, 4, 1, 5, 2], to }
    : { as: [n, deep, b, b, h, w], perm: [0, 1, 4, 2, 5, 3], to };
}

/** The output as a view of input 0. */
export const blockViews =
  (op: 'DepthToSpace' | 'SpaceToDepth') =>
  (g: Given): readonly StridedView[] => {
    const { as, perm } = blocksOf(op, g.shape(0), g.attrs);
    return [permuted(as, perm)];
  };
export const transposeViews = (g: Given): readonly StridedView[] => [
  permuted(g.shape(0), permOf(g.attrs.perm, g.shape(0).length)),
];

const blocks = (op: 'DepthToSpace' | 'SpaceToDepth', since: readonly number[]): Op =>
  defineOp({
    op,
    since,
    inputs: ['input: T'],
    outputs: ['output: T'],
    types: { T: ALL },
    attrs: { blocksize: required(int()), mode: string('DCR') },
    infer: (call) => {
      const { dtype, shape } = call.fact(0);
      rankOf(call.fact(0), 'input', 4);
      return [{ dtype, shape: blocksOf(op, shape, call.attrs).to }];
    },
    reference: (call) => {
      const t = call.tensor(0);
      const { as, perm, to } = blocksOf(op, t.shape, call.attrs);
      return [rearranged(t, as, perm, to)];
    },
  });

/**
 * https://onnx.ai/onnx/operators/onnx__Transpose.html, https://onnx.ai/onnx/operators/onnx__DepthToSpace.html,
 * https://onnx.ai/onnx/operators/onnx__SpaceToDepth.html
 */
export const transpose: readonly Op[] = [
  defineOp({
    op: 'Transpose',
    since: [1, 13, 21, 23, 24, 25],
    inputs: ['data: T'],
    outputs: ['transposed: T'],
    types: { T: ALL },
    attrs: { perm: ints() },
    infer: (call) => {
      const { dtype, shape } = call.fact(0);
      return [{ dtype, shape: permOf(call.attrs.perm, shape.length).map((p) => shape[p]!) }];
    },
    reference: (call) => {
      const t = call.tensor(0);
      const perm = permOf(call.attrs.perm, t.shape.length);
      return [
        rearranged(
          t,
          t.shape,
          perm,
          perm.map((p) => t.shape[p]!),
        ),
      ];
    },
  }),
  blocks('DepthToSpace', [1, 11, 13]),
  blocks('SpaceToDepth', [1, 13]),
];
