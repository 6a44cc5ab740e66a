import { integers } from '../../core/numbers.ts';
import { sizeOf, tensor } from '../../core/tensor.ts';
import type { Pass } from '../rewrite.ts';
import { equal, nodeOf, scalarOf, soleReader } from './patterns.ts';

/** Index lists are compared entry by entry up to this many. */
const MAX_INDICES = 1 << 16;

/** A Gather that takes every entry of its axis, in order, gives the axis another shape. */
export const gatherAsReshape: Pass = {
  name: 'gather-as-reshape',
  exactness: 'exact',
  roots: ({ op }) => op === 'Gather',
  rewrite: (node, graph) => {
    if (node.op !== 'Gather') return null;
    const [data, out, index] = [
      graph.fact(node.inputs[0])?.shape,
      graph.fact(node.outputs[0])?.shape,
      graph.fact(node.inputs[1]),
    ];
    if (data === undefined || out === undefined || index === undefined || sizeOf(index.shape) > MAX_INDICES)
      return null;
    const axis = (node.attrs.axis as number | undefined) ?? 0;
    const at = axis < 0 ? axis + data.length : axis;
    const known = sizeOf(index.shape) === data[at] ? graph.constant(node.inputs[1]) : null;
    if (known === null || !integers(known).every((v, i) => v === i)) return null;
    return {
      reason: `${node.name} takes every entry in order`,
      remove: [node],
      add: [
        nodeOf(
          'Reshape',
          node,
          [node.inputs[0]!, graph.addValue(`shape [${out}]`, tensor('int64', [out.length], out))],
          node.outputs[0]!,
          { allowzero: 1 },
        ),
      ],
    };
  },
};

/** A product of depth one multiplies a column and a row: elementwise. */
export const outerProduct: Pass = {
  name: 'outer-product',
  exactness: 'reassociates',
  roots: ({ op }) => op === 'MatMul',
  rewrite: (node, graph) => {
    const [a, b] = node.inputs.map((v) => graph.fact(v));
    if (
      node.op !== 'MatMul' ||
      a === undefined ||
      b === undefined ||
      a.shape.length < 2 ||
      b.shape.length < 2 ||
      a.shape.at(-1) !== 1 ||
      !/^float/.test(a.dtype)
    )
      return null;
    return {
      reason: `${node.name} has depth one`,
      remove: [node],
      add: [nodeOf('Mul', node, node.inputs, node.outputs[0]!)],
    };
  },
};

/** A sum of squares is one reduction, and its root another. */
export const fuseSquares: Pass = {
  name: 'fuse-squares',
  exactness: 'reassociates',
  roots: ({ op }) => op === 'ReduceSum',
  rewrite: (node, graph) => {
    if (node.op !== 'ReduceSum' || !/^(float32|b?float16)$/.test(graph.fact(node.inputs[0])?.dtype ?? '')) return null;
    const square = graph.maker(node.inputs[0]);
    const x =
      square?.op === 'Mul' && square.inputs[0] === square.inputs[1]
        ? square.inputs[0]!
        : square?.op === 'Pow' && scalarOf(graph, square.inputs[1]) === 2
          ? square.inputs[0]!
          : null;
    if (
      x === null ||
      !graph.readOnce(node.inputs[0]!) ||
      !equal(graph.fact(x)?.shape ?? [], graph.fact(node.inputs[0])!.shape)
    )
      return null;
    const root = soleReader(graph, node.outputs[0]!);
    const isRoot =
      root?.op === 'Sqrt' ||
      (root?.op === 'Pow' && root.inputs[0] === node.outputs[0] && scalarOf(graph, root.inputs[1]) === 0.5);
    const last = isRoot ? root : node;
    return {
      reason: `${last.name} sums squares`,
      remove: isRoot ? [node, root] : [node],
      add: [
        {
          ...node,
          op: isRoot ? 'ReduceL2' : 'ReduceSumSquare',
          inputs: [x, ...node.inputs.slice(1)],
          outputs: last.outputs,
        },
      ],
    };
  },
};
