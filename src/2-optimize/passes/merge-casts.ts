import { type DType, DTYPE_OF_ONNX } from '../../core/dtype.ts';
import type { Pass } from '../rewrite.ts';
import { forward } from './patterns.ts';

/** Types that hold every value of a type. */
const WIDER: Readonly<Partial<Record<DType, readonly DType[]>>> = {
  float16: ['float32', 'float64'],
  bfloat16: ['float32', 'float64'],
  float32: ['float64'],
  bool: ['uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32', 'uint64', 'int64', 'float16', 'float32', 'float64'],
  uint8: ['uint16', 'int16', 'uint32', 'int32', 'uint64', 'int64', 'float16', 'float32', 'float64'],
  int8: ['int16', 'int32', 'int64', 'float16', 'float32', 'float64'],
  uint16: ['uint32', 'int32', 'uint64', 'int64', 'float32', 'float64'],
  int16: ['int32', 'int64', 'float32', 'float64'],
  uint32: ['uint64', 'int64', 'float64'],
  int32: ['int64', 'float64'],
};

/** A Cast to the type that a value has, or had before a Cast that lost nothing. */
export const mergeCasts: Pass = {
  name: 'merge-casts',
  exactness: 'exact',
  roots: ({ op }) => op === 'Cast',
  rewrite: (node, graph) => {
    if (node.op !== 'Cast') return null;
    const from = graph.fact(node.inputs[0])?.dtype;
    const to = DTYPE_OF_ONNX[node.attrs.to as number];
    if (from === undefined || to === undefined) return null;
    if (from === to) return forward(node, node.inputs[0]!, graph, `${node.name} casts ${to} to ${to}`);
    const before = graph.maker(node.inputs[0]);
    const first = before?.op === 'Cast' ? graph.fact(before.inputs[0])?.dtype : undefined;
    if (first === undefined || !WIDER[first]?.includes(from)) return null;
    const source = before!.inputs[0]!;
    if (first === to)
      return forward(node, source, graph, `${before!.name} and ${node.name} cast ${first} to ${from} and back`);
    // A float becomes an integer in another way than an integer becomes a narrower one.
    if (first !== 'bool' && /float/.test(first) !== /float/.test(from)) return null;
    return {
      reason: `${before!.name} widens what ${node.name} casts`,
      remove: [node],
      add: [{ ...node, inputs: [source] }],
    };
  },
};
