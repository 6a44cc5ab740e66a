import { type Op, refCall } from '../../../kernels/define.ts';
import { type Constant, constantOf, type Node, type ValueId } from '../../core/graph.ts';
import { sizeOf, type Tensor, tensor } from '../../core/tensor.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { permOf } from './move-transposes.ts';
import { reshapeNode } from './move-views.ts';
import { isElementwise, listOf, nodeOf, soleReader } from './patterns.ts';

/** Rows at most of which the places are listed, and elements of a row at least: less is no row. */
const MAX_ROWS = 1 << 18;
const LEAST = 4;

/** Does the node move whole rows: the last axis, of as many elements on both sides, stays as it is? */
function movesRows(node: Node, graph: GraphView): boolean {
  const [from, to] = [graph.fact(node.inputs[0])?.shape, graph.fact(node.outputs[0])?.shape];
  const last = (from?.length ?? 0) - 1;
  if (from === undefined || to === undefined || last < 1 || to.length < 2 || from[last] !== to.at(-1)) return false;
  if (isView(node, graph)) return true;
  if (node.op === 'Transpose') return permOf(node, graph)?.at(-1) === last;
  const axis = (node.attrs.axis as number | undefined) ?? 0;
  const index = node.op === 'Gather' ? listOf(graph, node.inputs[1]) : null;
  if (index !== null)
    return (
      axis !== -1 &&
      axis !== last &&
      graph.fact(node.inputs[1])!.shape.length === 1 &&
      index.every((i) => i >= -from.at(axis)! && i < from.at(axis)!)
    );
  return node.op === 'Slice' && node.inputs.slice(1).every((v) => v === null || graph.constant(v) !== null);
}
const isView = (node: Node, graph: GraphView): boolean =>
  graph.ops.get(node.op)?.view === true && node.inputs[0] != null;

const TABLES = new WeakMap<object, Map<string, Constant>>();
/** Which row of its first value comes where, behind all of the nodes. The layers of a model share one list. */
function placesOf(nodes: readonly Node[], graph: GraphView): Constant {
  const shapes = nodes.map((n) => graph.fact(n.outputs[0])!.shape);
  const from = graph.fact(nodes[0]!.inputs[0])!.shape;
  const given = nodes.map((n) =>
    n.inputs.slice(1).map((v) => {
      const t = isView(n, graph) || v === null ? null : graph.constant(v);
      return t && Array.from(t.data as ArrayLike<number | bigint>, String);
    }),
  );
  const key = JSON.stringify([from, shapes, given, nodes.map((n) => [n.op, n.attrs])]);
  const known = TABLES.get(graph.ops) ?? new Map<string, Constant>();
  TABLES.set(graph.ops, known);
  let places = known.get(key);
  if (places === undefined) {
    const rows = sizeOf(from.slice(0, -1));
    let t = tensor(
      'int32',
      [...from.slice(0, -1), 1],
      Int32Array.from({ length: rows }, (_, i) => i),
    ) as Tensor;
    nodes.forEach((n, i) => {
      const shape = [...shapes[i]!.slice(0, -1), 1];
      t = isView(n, graph)
        ? ({ ...t, shape } as Tensor)
        : (
            (graph.ops.get(n.op) as Op).reference(
              refCall([t, ...n.inputs.slice(1).map((v) => graph.constant(v))], n.attrs, 1),
            ) as readonly Tensor[]
          )[0]!;
    });
    known.set(key, (places = constantOf({ ...t, shape: [sizeOf(t.shape)] } as Tensor)));
  }
  return places;
}

/**
 * Moves of whole rows one after another, as windows that are rolled, cut out and brought back, are one look-up of rows.
 */
export const mergeMoves: Pass = {
  name: 'merge-moves',
  exactness: 'exact',
  roots: ({ op }) => op === 'Transpose' || op === 'Gather' || op === 'Slice',
  rewrite: (node, graph) => {
    if (!movesRows(node, graph)) return null;
    const chain: Node[] = [node];
    for (
      let at = node.inputs[0]!, from = graph.maker(at);
      from !== undefined && graph.readOnce(at) && movesRows(from, graph);
      from = graph.maker(at)
    ) {
      chain.unshift(from);
      at = from.inputs[0]!;
    }
    while (isView(chain[0]!, graph)) chain.shift();
    const source = chain[0]!.inputs[0]!;
    const from = graph.fact(source)!.shape;
    const to = graph.fact(node.outputs[0])!.shape;
    const width = to.at(-1)!;
    if (
      chain.filter((n) => !isView(n, graph)).length < 2 ||
      width < LEAST ||
      sizeOf(from) / width > MAX_ROWS ||
      sizeOf(to) / width > MAX_ROWS ||
      sizeOf(to) === 0
    )
      return null;
    const rows = graph.addValue(`${graph.nameOf(source)}.rows`);
    const moved = graph.addValue(`${node.name}.rows`);
    return {
      reason: `${chain.length} nodes up to ${node.name} move rows of ${width}`,
      remove: chain,
      add: [
        reshapeNode(node, graph, source, rows, [sizeOf(from) / width, width], 'source'),
        nodeOf('Gather', node, [rows, graph.addValue(`${node.name}.places`, placesOf(chain, graph))], moved, {
          axis: 0,
        }),
        reshapeNode(node, graph, moved, node.outputs[0]!, to, 'shape'),
      ],
    };
  },
};

/**
 * Rows that a product with weights makes, and that are moved before something is added to them, are moved before the
 * product: the sum then is its epilogue.
 */
export const hoistMoves: Pass = {
  name: 'hoist-moves',
  exactness: 'exact',
  roots: ({ op }) => op === 'Transpose' || op === 'Gather' || op === 'Slice',
  rewrite: (node, graph) => {
    if (!movesRows(node, graph)) return null;
    let y: ValueId = node.outputs[0]!;
    let reader = soleReader(graph, y);
    for (; reader !== undefined && isView(reader, graph); reader = soleReader(graph, y)) y = reader.outputs[0]!;
    const sum =
      reader !== undefined &&
      isElementwise(reader, graph) &&
      reader.inputs.some((v) => v !== y && graph.fact(v)!.constant === undefined);
    if (!sum || reader!.inputs.filter((v) => v === y).length !== 1) return null;
    const gone: Node[] = [node];
    let bias: Node | null = null;
    let product: Node | undefined;
    for (let at = node.inputs[0]!; product === undefined; ) {
      const from = graph.maker(at);
      const other = from?.inputs.findIndex((v) => graph.fact(v)?.constant !== undefined) ?? -1;
      if (from === undefined || !graph.readOnce(at)) return null;
      gone.push(from);
      if (isView(from, graph) && movesRows(from, graph)) at = from.inputs[0]!;
      else if (from.op === 'Add' && bias === null && other >= 0 && graph.fact(from.inputs[other])!.shape.length === 1) {
        bias = from;
        at = from.inputs[1 - other]!;
      } else if (from.op === 'MatMul' && other === 1 && graph.fact(from.inputs[1])!.shape.length === 2) product = from;
      else return null;
    }
    const [depth, width] = graph.fact(product.inputs[1])!.shape as [number, number];
    if (depth > width || graph.fact(node.inputs[0])!.shape.at(-1) !== width) return null;
    const value = (part: string): ValueId => graph.addValue(`${node.name}.${part}`);
    const rows = value('rows');
    const moved = value('moved');
    const made = bias ? value('product') : node.outputs[0]!;
    return {
      reason: `${node.name} can move the rows of which ${product.name} is made`,
      remove: gone,
      add: [
        reshapeNode(
          node,
          graph,
          product.inputs[0]!,
          rows,
          [...graph.fact(node.inputs[0])!.shape.slice(0, -1), depth],
          'rows',
        ),
        { ...node, inputs: [rows, ...node.inputs.slice(1)], outputs: [moved] },
        { ...product, inputs: [moved, product.inputs[1]!], outputs: [made] },
        ...(bias
          ? [
              {
                ...bias,
                inputs: bias.inputs.map((v) => (graph.fact(v)!.constant === undefined ? made : v)),
                outputs: [node.outputs[0]!],
              },
            ]
          : []),
      ],
    };
  },
};
