import { sizeOf } from '../../core/tensor.ts';
import type { Pass } from '../rewrite.ts';
import { permOf } from './move-transposes.ts';
import { reshapeNode } from './move-views.ts';
import { listOf, nodeOf } from './patterns.ts';

/**
 * One entry of the axis that a Transpose brings to the front is taken where it lies: halves of shuffled channels then
 * need no Transpose, when all that reads it takes such an entry.
 */
export const gatherTransposed: Pass = {
  name: 'gather-transposed',
  exactness: 'exact',
  roots: ({ op }) => op === 'Gather',
  rewrite: (node, graph) => {
    const index = listOf(graph, node.inputs[1]);
    const data = node.inputs[0]!;
    const shape = graph.fact(data)?.shape;
    const out = graph.fact(node.outputs[0])?.shape;
    if (
      index?.length !== 1 ||
      shape === undefined ||
      out === undefined ||
      (node.attrs.axis as number) % shape.length !== 0
    )
      return null;
    const single = graph.maker(data);
    const view = single !== undefined && graph.ops.get(single.op)?.view === true ? single : null;
    const turn = view ? graph.maker(view.inputs[0]) : single;
    const perm = permOf(turn, graph);
    const from = graph.fact(turn?.inputs[0])?.shape;
    const turned = graph.fact(turn?.outputs[0])?.shape;
    if (perm === null || from === undefined || turned === undefined || turned[0] !== shape[0] || sizeOf(from) === 0)
      return null;
    // What is left keeps its order.
    if (perm[0] === 0 || perm.slice(1).some((p, i) => i > 0 && p < perm[i]!)) return null;
    const taken = (v: number): boolean =>
      !graph.isOutput(v) &&
      graph
        .readers(v)
        .every(
          (r) =>
            r.op === 'Gather' &&
            r.inputs[0] === v &&
            (r.attrs.axis as number) === 0 &&
            listOf(graph, r.inputs[1])?.length === 1,
        );
    if (!taken(data) || (view !== null && !graph.readOnce(turn!.outputs[0]!))) return null;
    const entry = graph.addValue(`${node.name}.entry`);
    return {
      reason: `${node.name} takes an entry of an axis before ${turn!.name} moves it`,
      remove: [node],
      add: [
        nodeOf('Gather', node, [turn!.inputs[0]!, node.inputs[1]!], entry, { axis: perm[0]! }, 'entry'),
        reshapeNode(node, graph, entry, node.outputs[0]!, out, 'shape'),
      ],
    };
  },
};
