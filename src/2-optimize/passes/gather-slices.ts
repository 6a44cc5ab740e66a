import type { Node, ValueId } from '../../core/graph.ts';
import { fromNumbers } from '../../core/numbers.ts';
import { sizeOf, tensor } from '../../core/tensor.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { listOf, nodeOf } from './patterns.ts';

/** The elements of one axis that a Slice of that axis takes; null for other nodes. */
export function sliceOf(
  node: Node | undefined,
  graph: GraphView,
): { of: ValueId; axis: number; indices: readonly number[] } | null {
  if (node?.op !== 'Slice') return null;
  const shape = graph.fact(node.inputs[0])?.shape;
  const [starts, axes] = [listOf(graph, node.inputs[1]), node.inputs[3] == null ? [0] : listOf(graph, node.inputs[3])];
  const steps = node.inputs[4] == null ? [1] : listOf(graph, node.inputs[4]);
  if (shape === undefined || starts?.length !== 1 || axes?.length !== 1 || steps?.length !== 1 || steps[0]! < 1)
    return null;
  const axis = axes[0]! < 0 ? axes[0]! + shape.length : axes[0]!;
  const first = Math.min(Math.max(starts[0]! < 0 ? starts[0]! + shape[axis]! : starts[0]!, 0), shape[axis]!);
  const count = graph.fact(node.outputs[0])!.shape[axis]!;
  return { of: node.inputs[0]!, axis, indices: Array.from({ length: count }, (_, i) => first + i * steps[0]!) };
}

/**
 * Slices of one value, some negated, put together again in another order, are a Gather, times a sign for each index:
 * the turn in rotary embeddings.
 */
export const gatherSlices: Pass = {
  name: 'gather-slices',
  exactness: 'exact',
  roots: ({ op }) => op === 'Concat',
  rewrite: (node, graph) => {
    const out = graph.fact(node.outputs[0]);
    if (node.op !== 'Concat' || node.inputs.length < 2 || out === undefined || !/^(float|bfloat)/.test(out.dtype))
      return null;
    const axis =
      (node.attrs.axis as number) < 0 ? (node.attrs.axis as number) + out.shape.length : (node.attrs.axis as number);
    const signs: number[] = [];
    const indices: number[] = [];
    let of: ValueId | null = null;
    for (const v of node.inputs) {
      const maker = graph.maker(v);
      const negated = maker?.op === 'Neg';
      const slice = sliceOf(negated ? graph.maker(maker.inputs[0]) : maker, graph);
      if (
        slice === null ||
        slice.axis !== axis ||
        (of !== null && of !== slice.of) ||
        !graph.readOnce(v!) ||
        (negated && !graph.readOnce(maker.inputs[0]!))
      )
        return null;
      of = slice.of;
      indices.push(...slice.indices);
      signs.push(...slice.indices.map(() => (negated ? -1 : 1)));
    }
    const y = node.outputs[0]!;
    const index = graph.addValue(`${node.name}.indices`, tensor('int64', [indices.length], indices));
    const gather = (to: ValueId): Node => nodeOf('Gather', node, [of, index], to, { axis });
    if (sizeOf(out.shape) === 0) return null;
    const reason = `${node.name} puts slices of ${graph.nameOf(of!)} in another order`;
    if (signs.every((s) => s === 1)) return { reason, remove: [node], add: [gather(y)] };
    const turned = graph.addValue(`${graph.nameOf(y)}.turned`);
    const sign = graph.addValue(
      `${node.name}.signs`,
      fromNumbers(out.dtype, [signs.length, ...out.shape.slice(axis + 1).map(() => 1)], signs),
    );
    return { reason, remove: [node], add: [gather(turned), nodeOf('Mul', node, [turned, sign], y, {}, 'sign')] };
  },
};
