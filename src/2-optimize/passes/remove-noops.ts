import { sizeOf } from '../../core/tensor.ts';
import type { Node } from '../../core/graph.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { equal, forward, listOf, scalarOf } from './patterns.ts';

/** Of operators whose output has the shape and type of input 0: when it has its elements too. */
const SAME: Readonly<Record<string, (node: Node, graph: GraphView) => boolean>> = {
  Pad: (node, graph) => listOf(graph, node.inputs[1])?.every((p) => p === 0) ?? false,
  Slice: (node, graph) => node.inputs[4] == null || (listOf(graph, node.inputs[4])?.every((s) => s > 0) ?? false),
  Expand: () => true,
  Tile: () => true,
  Transpose: (node) => (node.attrs.perm as readonly number[] | undefined)?.every((p, i) => p === i) ?? false,
  Mul: (node, graph) => scalarOf(graph, node.inputs[1]) === 1,
  Div: (node, graph) => scalarOf(graph, node.inputs[1]) === 1,
  Sub: (node, graph) => Object.is(scalarOf(graph, node.inputs[1]), 0),
  Pow: (node, graph) => scalarOf(graph, node.inputs[1]) === 1,
};

/** Nodes that give back what they get, at these dims. */
export const removeNoops: Pass = {
  name: 'remove-noops',
  exactness: 'exact',
  roots: ({ op }) => op === 'Concat' || op in SAME,
  rewrite: (node, graph) => {
    if (node.op === 'Concat') return shortened(node, graph);
    const same = SAME[node.op];
    if (same === undefined || node.inputs[0] == null) return null;
    const [x, y] = [graph.fact(node.inputs[0]), graph.fact(node.outputs[0])];
    if (x === undefined || y === undefined || x.dtype !== y.dtype || !equal(x.shape, y.shape) || !same(node, graph))
      return null;
    return forward(node, node.inputs[0], graph, `${node.name} changes nothing`);
  },
};

/** A Concat without its empty parts, or with one part alone. */
function shortened(node: Node, graph: GraphView): ReturnType<Pass['rewrite']> {
  const facts = node.inputs.map((v) => graph.fact(v));
  if (facts.some((f) => f === undefined)) return null;
  const full = node.inputs.filter((_, i) => sizeOf(facts[i]!.shape) > 0);
  if (full.length === 1) return forward(node, full[0]!, graph, `${node.name} has one part`);
  if (full.length === 0 || full.length === node.inputs.length) return null;
  return { reason: `${node.name} has empty parts`, remove: [node], add: [{ ...node, inputs: full }] };
}
