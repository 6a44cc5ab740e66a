import type { Node } from '../../core/graph.ts';
import { joinedRows, sumOf } from '../joined.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { equal } from './patterns.ts';

interface Pointwise {
  readonly node: Node;
  readonly strides: readonly number[];
}

/** The pointwise convolution of an image without padding that makes `v` for one reader. */
function pointwise(v: number, graph: GraphView): Pointwise | null {
  const node = graph.maker(v);
  const w = graph.fact(node?.inputs[1]);
  if (
    node?.op !== 'Conv' ||
    !graph.readOnce(v) ||
    w?.constant === undefined ||
    w.shape.length !== 4 ||
    w.shape[2] !== 1 ||
    w.shape[3] !== 1 ||
    node.attrs.group !== 1 ||
    node.attrs.epilogue !== undefined
  )
    return null;
  if (node.inputs[2] != null && graph.fact(node.inputs[2])?.constant === undefined) return null;
  const pads = (node.attrs.pads as readonly number[] | undefined) ?? [];
  return pads.some((p) => p !== 0)
    ? null
    : { node, strides: (node.attrs.strides as readonly number[] | undefined) ?? [1, 1] };
}

/** The sum of two pointwise convolutions, one of them at every position, is one over the channels of both. */
export const fuseConvSum: Pass = {
  name: 'fuse-conv-sum',
  exactness: 'reassociates',
  device: 'webgpu',
  roots: ({ op }) => op === 'Add' || op === 'Sum',
  rewrite: (node, graph) => {
    const [a, b] = node.inputs;
    if (
      node.inputs.length !== 2 ||
      a == null ||
      b == null ||
      a === b ||
      !/^(float32|b?float16)$/.test(graph.fact(a)?.dtype ?? '') ||
      !equal(graph.fact(a)!.shape, graph.fact(b)?.shape ?? [])
    )
      return null;
    // Narrow elements are stored by whole quads of a row.
    const shape = graph.fact(a)!.shape;
    if (shape.length !== 4 || (graph.fact(a)!.dtype !== 'float32' && (shape[2]! * shape[3]!) % 4 !== 0)) return null;
    const found = [pointwise(a, graph), pointwise(b, graph)];
    if (found.some((f) => f === null)) return null;
    const [first, second] = (found as Pointwise[]).sort((p, q) => Math.max(...p.strides) - Math.max(...q.strides)) as [
      Pointwise,
      Pointwise,
    ];
    if (first.strides.some((s) => s !== 1)) return null;
    const weights = [first, second].map((p) => graph.fact(p.node.inputs[1])!.constant!);
    const biases = [first, second].flatMap((p) =>
      p.node.inputs[2] == null ? [] : [graph.fact(p.node.inputs[2])!.constant!],
    );
    if (weights[0]!.dtype !== weights[1]!.dtype) return null;
    const inputs = [
      first.node.inputs[0]!,
      second.node.inputs[0]!,
      graph.addValue(`${node.name}.weights`, joinedRows(weights)),
      biases.length === 0
        ? null
        : graph.addValue(`${node.name}.bias`, biases.length === 1 ? biases[0]! : sumOf(biases)),
    ];
    return {
      reason: `${first.node.name} and ${second.node.name} are one convolution over the channels of both`,
      remove: [first.node, second.node, node],
      add: [
        {
          op: 'sardonyx.ConvSum',
          name: node.name,
          inputs,
          outputs: node.outputs,
          attrs: { strides: second.strides },
          opset: node.opset,
        },
      ],
    };
  },
};
