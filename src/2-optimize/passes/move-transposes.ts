import type { Node, ValueId } from '../../core/graph.ts';
import { refCall } from '../../../kernels/define.ts';
import { sizeOf, tensor, type Tensor } from '../../core/tensor.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { derived, equal, forward, isElementwise, isMap, nodeOf, reshapedConstant } from './patterns.ts';

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
    return {
      reason: `${before!.name} and ${node.name} order the axes once`,
      remove: [node],
      add: [{ ...node, inputs: [source], attrs: { perm } }],
    };
  },
};

/**
 * An elementwise operator comes before the Transposes of its inputs: it then joins what makes them, one Transpose is
 * left of several, and where another waits behind it, both may go.
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
      reason: `${node.name} can run before ${first!.name}`,
      remove: [node],
      add: [{ ...node, inputs, outputs: [before] }, nodeOf('Transpose', first!, [before], node.outputs[0]!, { perm })],
    };
  },
};

/**
 * An elementwise operator of values that a Transpose would only give another shape, as a row and a column, comes after
 * their new shapes, without the Transpose.
 */
export const hoistTransposes: Pass = {
  name: 'hoist-transposes',
  exactness: 'exact',
  roots: ({ op }) => op === 'Transpose',
  rewrite: (node, graph) => {
    const perm = permOf(node, graph);
    const maker = graph.maker(node.inputs[0]);
    if (perm === null || maker === undefined || !isElementwise(maker, graph) || !graph.readOnce(node.inputs[0]!))
      return null;
    const add: Node[] = [];
    const shapes = maker.inputs.map((v) => {
      const own = graph.fact(v)?.shape;
      if (own === undefined || own.length > perm.length) return null;
      const shape = [...new Array<number>(perm.length - own.length).fill(1), ...own];
      const moved = perm.filter((p) => shape[p] !== 1);
      return moved.some((p, i) => i > 0 && p < moved[i - 1]!) ? null : perm.map((p) => shape[p]!);
    });
    if (shapes.some((s) => s === null)) return null;
    const inputs = maker.inputs.map((v, i) => {
      const shape = shapes[i]!;
      const constant = graph.fact(v)!.constant;
      const same = constant && reshapedConstant(constant, shape);
      if (same) return graph.addValue(graph.nameOf(v!), same);
      const to = graph.addValue(`${graph.nameOf(v!)}.turned`);
      add.push(
        nodeOf(
          'Reshape',
          node,
          [v, graph.addValue(`shape [${shape}]`, tensor('int64', [shape.length], shape))],
          to,
          { allowzero: 1 },
          `input${i}`,
        ),
      );
      return to;
    });
    return {
      reason: `${maker.name} can run behind ${node.name}, whose inputs it would only reshape`,
      remove: [maker, node],
      add: [...add, { ...maker, inputs, outputs: [node.outputs[0]!] }],
    };
  },
};

/** A constant that is broadcast to the transposed shape, under the shape before it. */
export function transposedBack(v: ValueId, perm: readonly number[], graph: GraphView): ValueId {
  const constant = graph.fact(v)!.constant!;
  const shape = [...new Array<number>(perm.length - constant.shape.length).fill(1), ...constant.shape];
  const back = perm.map((_, axis) => perm.indexOf(axis));
  const made = derived(constant, `shape ${shape} perm ${back}`, (t) => {
    const [turned] = graph.ops.get('Transpose')!.reference(refCall([{ ...t, shape } as Tensor], { perm: back }, 1)) as [
      Tensor,
    ];
    return turned;
  })!;
  return graph.addValue(graph.nameOf(v), made);
}
