import type { Fact, Node, ValueId } from '../../core/graph.ts';
import { sizeOf, tensor } from '../../core/tensor.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { permOf } from './move-transposes.ts';
import { equal, forward, isElementwise, isMap, nodeOf, reshapedConstant } from './patterns.ts';

const isView = (node: Node | undefined, graph: GraphView): node is Node =>
  node !== undefined && graph.ops.get(node.op)?.view === true && node.inputs[0] != null;
const shapeInput = (graph: GraphView, shape: readonly number[]): ValueId =>
  graph.addValue(`shape [${shape}]`, tensor('int64', [shape.length], shape));
/** A Reshape of `v` to `shape`, writing `to`. */
export const reshapeNode = (
  like: Node,
  graph: GraphView,
  v: ValueId,
  to: ValueId,
  shape: readonly number[],
  part = '',
): Node => nodeOf('Reshape', like, [v, shapeInput(graph, shape)], to, { allowzero: 1 }, part);

/** Reshape, Squeeze, Unsqueeze and Flatten in a row are one Reshape, or none. */
export const mergeViews: Pass = {
  name: 'merge-views',
  exactness: 'exact',
  roots: (op) => op.view === true,
  rewrite: (node, graph) => {
    if (!isView(node, graph) || node.op === 'Identity') return null;
    const before = graph.maker(node.inputs[0]);
    const shape = graph.fact(node.outputs[0])?.shape;
    const source = isView(before, graph) ? before.inputs[0]! : node.inputs[0]!;
    const from = graph.fact(source)?.shape;
    if (shape === undefined || from === undefined) return null;
    if (equal(shape, from)) return forward(node, source, graph, `${node.name} leaves the shape [${shape}]`);
    if (!isView(before, graph) || before.op === 'Identity') return null;
    return {
      reason: `${before.name} and ${node.name} give one new shape`,
      remove: graph.readOnce(node.inputs[0]!) ? [before, node] : [node],
      add: [reshapeNode(node, graph, source, node.outputs[0]!, shape)],
    };
  },
};

/** A Transpose that moves only axes of size 1 moves no element. */
export const transposeAsReshape: Pass = {
  name: 'transpose-as-reshape',
  exactness: 'exact',
  roots: ({ op }) => op === 'Transpose',
  rewrite: (node, graph) => {
    const perm = permOf(node, graph);
    const [from, to] = [graph.fact(node.inputs[0])?.shape, graph.fact(node.outputs[0])?.shape];
    if (perm === null || from === undefined || to === undefined) return null;
    const moved = perm.filter((p) => from[p] !== 1);
    if (moved.some((p, i) => i > 0 && p < moved[i - 1]!)) return null;
    return {
      reason: `${node.name} moves only axes of size 1`,
      remove: [node],
      add: [reshapeNode(node, graph, node.inputs[0]!, node.outputs[0]!, to)],
    };
  },
};

/** What makes a value that an elementwise operator could join. */
const joins = (node: Node | undefined, graph: GraphView): boolean =>
  node !== undefined && (isElementwise(node, graph) || graph.ops.get(node.op)?.epilogue === true);

/**
 * Is `v` read by elementwise operators alone, none of which makes it larger? All of them come before a change of shape,
 * or none does.
 */
const allSink = (v: ValueId, graph: GraphView): boolean =>
  !graph.isOutput(v) &&
  graph
    .readers(v)
    .every(
      (r) => isElementwise(r, graph) && equal(graph.fact(r.outputs[0])?.shape ?? [], graph.fact(v)?.shape ?? [-1]),
    );

/** An elementwise operator comes before the change of shape of one of its inputs, and so joins what makes it. */
export const sinkViews: Pass = {
  name: 'sink-views',
  exactness: 'exact',
  roots: isMap,
  rewrite: (node, graph) => {
    if (!isElementwise(node, graph)) return null;
    const y = node.outputs[0]!;
    const out = graph.fact(y);
    if (out === undefined) return null;
    for (const v of node.inputs) {
      const view = graph.maker(v);
      if (v === null || !isView(view, graph) || !allSink(v, graph)) continue;
      const source = view.inputs[0]!;
      const from = graph.fact(source)?.shape;
      if (
        from === undefined ||
        !equal(graph.fact(v)!.shape, out.shape) ||
        equal(from, out.shape) ||
        graph.isOutput(source) ||
        graph.readers(source).some((r) => r !== view && !isElementwise(r, graph)) ||
        !joins(graph.maker(source), graph)
      )
        continue;
      const shapes = node.inputs.map((u) =>
        u === null ? null : u === v ? from : shapeBefore(graph.fact(u), out.shape, from),
      );
      if (shapes.some((s, i) => s === null && node.inputs[i] !== null)) continue;
      const added: Node[] = [];
      const inputs = node.inputs.map((u, i) =>
        u === null ? null : u === v ? source : reshaped(u, shapes[i]!, `input${i}`),
      );
      const before = graph.addValue(`${graph.nameOf(y)}.before`);
      return {
        reason: `${node.name} can run before ${view.name}`,
        remove: [node],
        add: [
          ...added,
          { ...node, inputs, outputs: [before] },
          reshapeNode(node, graph, before, y, out.shape, 'shape'),
        ],
      };

      function reshaped(u: ValueId, shape: readonly number[], part: string): ValueId {
        const fact = graph.fact(u)!;
        if (equal(fact.shape, shape)) return u;
        const constant = fact.constant && reshapedConstant(fact.constant, shape);
        if (constant) return graph.addValue(graph.nameOf(u), constant);
        const to = graph.addValue(`${graph.nameOf(u)}.view`);
        added.push(reshapeNode(node, graph, u, to, shape, part));
        return to;
      }
    }
    return null;
  },
};

/**
 * A change of shape comes before the elementwise operator of one value that makes what it reads, if that would join
 * nothing there: what follows then takes it in.
 */
export const hoistViews: Pass = {
  name: 'hoist-views',
  exactness: 'exact',
  roots: ({ op }) => op === 'Reshape',
  rewrite: (node, graph) => {
    if (node.op !== 'Reshape') return null;
    const maker = graph.maker(node.inputs[0]);
    const [x] = maker?.inputs ?? [];
    const shape = graph.fact(node.outputs[0])?.shape;
    if (
      maker === undefined ||
      x == null ||
      shape === undefined ||
      maker.inputs.length !== 1 ||
      !isElementwise(maker, graph) ||
      !graph.readOnce(node.inputs[0]!) ||
      joins(graph.maker(x), graph) ||
      !equal(graph.fact(x)?.shape ?? [-1], graph.fact(node.inputs[0])!.shape)
    )
      return null;
    const to = graph.addValue(`${graph.nameOf(x)}.view`);
    return {
      reason: `${maker.name} can run behind ${node.name}`,
      remove: [maker, node],
      add: [reshapeNode(node, graph, x, to, shape), { ...maker, inputs: [to], outputs: [node.outputs[0]!] }],
    };
  },
};

/**
 * The shape under which a value that is broadcast to `after` is broadcast to `before` in the same way; null if there is
 * none. Dims are taken in the smallest groups of equal size on both sides; within one the value must have all of the
 * dims or none.
 */
export function shapeBefore(
  fact: Pick<Fact, 'shape'> | undefined,
  after: readonly number[],
  before: readonly number[],
): readonly number[] | null {
  if (fact === undefined) return null;
  if (sizeOf(fact.shape) === 1) return before.length === 0 ? [] : [1];
  if (fact.shape.length > after.length || sizeOf(after) === 0) return null;
  const padded = [...new Array<number>(after.length - fact.shape.length).fill(1), ...fact.shape];
  const shape: number[] = [];
  for (let i = 0, j = 0; i < after.length || j < before.length; ) {
    const [i0, j0] = [i, j];
    let [a, b] = [1, 1];
    do {
      if (j >= before.length || (i < after.length && a <= b)) a *= after[i++]!;
      else b *= before[j++]!;
    } while (a !== b);
    const mine = padded.slice(i0, i);
    const all = after.slice(i0, i);
    if (equal(mine, all)) shape.push(...before.slice(j0, j));
    else if (mine.every((d) => d === 1)) shape.push(...new Array<number>(j - j0).fill(1));
    else return null;
  }
  return shape;
}
