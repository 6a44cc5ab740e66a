import type { Node, ValueId } from '../../core/graph.ts';
import { refCall } from '../../../kernels/define.ts';
import { sizeOf, type Tensor } from '../../core/tensor.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { derived, equal, forward, isElementwise, isMap, nodeOf } from './patterns.ts';

/** The order of axes that a Transpose makes; null for other nodes. */
export function permOf(node: Node | undefined, graph: GraphView): readonly number[] | null {
  if (node?.op !== 'Transpose') return null;
  const perm = node.attrs.perm as readonly number[] | undefined;
  if (perm !== undefined) return perm;
  const rank = graph.fact(node.inputs[0])?.shape.length;
  return rank === undefined ? null : Array.from({ length: rank }, (_, i) => rank - 1 - i);
}
const isIdentity = (perm: readonly number[]): boolean => perm.every((p, i) => p === i);

/** Two Transposes in a row are one, or none. */
export const mergeTransposes: Pass = {
  name: 'merge-transposes',
  exactness: 'exact',
  roots: ({ op }) => op === 'Transpose',
  rewrite: (node, graph) => {
    const outer = permOf(node, graph);
    const before = graph.maker(node.inputs[0]);
    const inner = permOf(before, graph);
    if (outer === null || inner === null || outer.length !== inner.length) return null;
    const perm = outer.map((p) => inner[p]!);
    const source = before!.inputs[0]!;
    if (isIdentity(perm)) return forward(node, source, graph, `${node.name} undoes ${before!.name}`);
    return { reason: `${before!.name} and ${node.name} order the axes once`, remove: [node], add: [{ ...node, inputs: [source], attrs: { perm } }] };
  },
};

/**
 * An elementwise operator comes before the Transposes of its inputs: it then joins what makes them, one Transpose is left of several, and
 * where another waits behind it, both may go.
 */
export const sinkTransposes: Pass = {
  name: 'sink-transposes',
  exactness: 'exact',
  roots: isMap,
  rewrite: (node, graph) => {
    if (!isElementwise(node, graph)) return null;
    const first = node.inputs.map((v) => graph.maker(v)).find((m) => m?.op === 'Transpose');
    const perm = permOf(first, graph);
    const out = graph.fact(node.outputs[0]);
    if (perm === null || out === undefined || out.shape.length !== perm.length) return null;
    const inputs: (ValueId | null)[] = [];
    const constants: [at: number, v: ValueId][] = [];
    for (const [at, v] of node.inputs.entries()) {
      const from = graph.maker(v);
      const fact = graph.fact(v);
      if (v === null || fact === undefined) {
        if (v !== null) return null;
        inputs.push(null);
      } else if (equal(permOf(from, graph) ?? [], perm)) {
        // One that others read would be there as well as the new one.
        if (graph.isOutput(v) || graph.readers(v).some((r) => r !== node)) return null;
        inputs.push(from!.inputs[0]!);
      } else if (sizeOf(fact.shape) === 1 && fact.shape.length <= perm.length) inputs.push(v);
      else if (fact.constant !== undefined && fact.constant.peek() !== null && fact.shape.length <= perm.length) {
        constants.push([at, v]);
        inputs.push(v);
      } else return null;
    }
    for (const [at, v] of constants) inputs[at] = transposedBack(v, perm, graph);
    const before = graph.addValue(`${graph.nameOf(node.outputs[0]!)}.untransposed`);
    return {
      reason: `${node.name} can run before ${first!.name}`, remove: [node],
      add: [{ ...node, inputs, outputs: [before] }, nodeOf('Transpose', first!, [before], node.outputs[0]!, { perm })],
    };
  },
};

/** A constant that is broadcast to the transposed shape, under the shape before it. */
function transposedBack(v: ValueId, perm: readonly number[], graph: GraphView): ValueId {
  const constant = graph.fact(v)!.constant!;
  const shape = [...new Array<number>(perm.length - constant.shape.length).fill(1), ...constant.shape];
  const back = perm.map((_, axis) => perm.indexOf(axis));
  const made = derived(constant, `shape ${shape} perm ${back}`, (t) => {
    const [turned] = graph.ops.get('Transpose')!.reference(refCall([{ ...t, shape } as Tensor], { perm: back }, 1)) as [Tensor];
    return turned;
  })!;
  return graph.addValue(graph.nameOf(v), made);
}
