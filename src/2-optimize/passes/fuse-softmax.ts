import type { Node } from '../../core/graph.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { closed, listOf } from './patterns.ts';

/** The axis over which a reduction that keeps its axis runs; null for others. */
function axisOf(node: Node | undefined, op: string, graph: GraphView): number | null {
  if (node?.op !== op || node.attrs.keepdims !== 1) return null;
  const rank = graph.fact(node.inputs[0])?.shape.length;
  const axes = listOf(graph, node.inputs[1]);
  return rank === undefined || axes?.length !== 1 ? null : axes[0]! < 0 ? axes[0]! + rank : axes[0]!;
}

/**
 * exp(x - max(x)) / sum(exp(x - max(x))) is Softmax. Without the maximum it would overflow where Softmax does not: that
 * is left as it is.
 */
export const fuseSoftmax: Pass = {
  name: 'fuse-softmax',
  exactness: 'reassociates',
  roots: ({ op }) => op === 'Div',
  rewrite: (node, graph) => {
    if (node.op !== 'Div') return null;
    const exp = graph.maker(node.inputs[0]);
    const sum = graph.maker(node.inputs[1]);
    const axis = axisOf(sum, 'ReduceSum', graph);
    if (exp?.op !== 'Exp' || axis === null || sum!.inputs[0] !== exp.outputs[0]) return null;
    const sub = graph.maker(exp.inputs[0]);
    const max = sub?.op === 'Sub' ? graph.maker(sub.inputs[1]) : undefined;
    if (
      axisOf(max, 'ReduceMax', graph) !== axis ||
      max!.inputs[0] !== sub!.inputs[0] ||
      !/^(float32|b?float16)$/.test(graph.fact(sub!.inputs[0])?.dtype ?? '')
    )
      return null;
    const nodes = [max!, sub!, exp, sum!, node];
    if (!closed(graph, nodes)) return null;
    return {
      reason: `${node.name} and what it reads are a softmax over axis ${axis}`,
      remove: nodes,
      add: [
        {
          op: 'Softmax',
          name: node.name,
          inputs: [sub!.inputs[0]!],
          outputs: [node.outputs[0]!],
          attrs: { axis, flatten: 0 },
          opset: node.opset,
        },
      ],
    };
  },
};
