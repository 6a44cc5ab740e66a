import type { Node, ValueId } from '../../core/graph.ts';
import { sizeOf } from '../../core/tensor.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { layoutOf, merged, type Part } from './layout.ts';
import { transposedBack } from './move-transposes.ts';
import { equal } from './patterns.ts';

/**
 * Queries [batch · heads, rows, columns, size] by the vectors [rows, key rows, size] of their rows, or [columns, key
 * columns, size] of their columns.
 */
const BY_ROW = 'abcd,bed->abce';
const BY_COLUMN = 'abcd,ced->abce';

/** An equation with its letters renamed in order of appearance. */
function renamed(equation: string): string {
  const letters = [...new Set(equation.match(/[A-Za-z]/g) ?? [])];
  return equation.replace(/\s/g, '').replace(/[A-Za-z]/g, (l) => String.fromCharCode(97 + letters.indexOf(l)));
}

/** The node under the views of `v`. */
function under(v: ValueId, graph: GraphView): Node | undefined {
  const node = graph.maker(v);
  return node !== undefined && graph.ops.get(node.op)?.view && node.inputs[0] != null
    ? under(node.inputs[0], graph)
    : node;
}

/**
 * The axis of the queries that chooses among the vectors of a product, and these; null for other nodes. Einsum may have
 * been written out as a product of matrices.
 */
function productOf(node: Node, graph: GraphView): { axis: number; table: () => ValueId | null } | null {
  const y = node.inputs[1] ?? null;
  if (node.op === 'Einsum') {
    const equation = renamed(node.attrs.equation as string);
    return equation === BY_ROW || equation === BY_COLUMN ? { axis: equation === BY_ROW ? 1 : 2, table: () => y } : null;
  }
  const shape = graph.fact(y)?.shape;
  return node.op !== 'MatMul' || shape?.length !== 3 || shape[0] !== graph.fact(node.inputs[0])?.shape[0]
    ? null
    : { axis: 0, table: () => (graph.constant(y) === null ? null : transposedBack(y!, [0, 2, 1], graph)) };
}

/**
 * Scores of which the mask is a product of the queries with vectors for the distance of rows, plus one for the distance
 * of columns, as in SAM and ViTDet: attention takes the vectors, and never makes that mask, which is as large as all
 * scores.
 */
export const relativePositions: Pass = {
  name: 'relative-positions',
  exactness: 'reassociates',
  device: 'webgpu',
  roots: ({ op }) => op === 'sardonyx.HeadAttention',
  rewrite: (node, graph) => {
    const mask = node.inputs[3];
    if (node.op !== 'sardonyx.HeadAttention' || mask == null || [4, 6, 8].some((i) => node.inputs[i] != null))
      return null;
    const sum = under(mask, graph);
    const full = graph.fact(sum?.outputs[0])?.shape;
    if (sum?.op !== 'Add' || full === undefined || full.length < 3) return null;
    const { heads, size } = node.attrs as { readonly heads: number; readonly size: number };
    const rows = layoutOf(node.inputs[0]!, graph);
    const [batch, queries, width] = graph.fact(node.inputs[0])!.shape as [number, number, number];
    const dtype = graph.fact(node.inputs[0])!.dtype;
    const same = (a: readonly Part[], b: readonly Part[]): boolean =>
      JSON.stringify(merged(a)) === JSON.stringify(merged(b));
    const wanted: readonly Part[] = [
      { count: batch, step: queries * width },
      { count: heads, step: (node.attrs.apart as readonly number[])[0]! },
      { count: queries, step: width },
    ];
    const plane = full.slice(-2);
    /** Vectors by the rows (0) or columns (1) of the plane. */
    const vectors = (place: 0 | 1): ValueId | null => {
      for (const v of sum.inputs) {
        const own = graph.fact(v)!.shape;
        if (!equal(own, [...full.slice(0, -2), place === 0 ? plane[0]! : 1, place === 0 ? 1 : plane[1]!])) continue;
        const { base, at, axes, through } = layoutOf(v!, graph, (n) => productOf(n, graph) !== null);
        const from = productOf(through[0] ?? sum, graph);
        if (
          through.length !== 1 ||
          from === null ||
          base !== rows.base ||
          at !== (node.attrs.at as readonly number[])[0] ||
          !same(axes.slice(0, -2).flat(), wanted) ||
          axes[axes.length - 2 + place]!.some((p) => p.step !== 0)
        )
          continue;
        const table = graph.fact(through[0]!.inputs[1])!;
        const chosen = layoutOf(through[0]!.inputs[0]!, graph).axes[from.axis]!;
        const [count, keys] = [table.shape[0]!, plane[place]!];
        const across = place === 0 ? queries / count : count;
        // One vector for all queries of a row, or of a column.
        if (
          table.dtype !== dtype ||
          sizeOf(table.shape) !== count * keys * size ||
          !Number.isInteger(across) ||
          !same(chosen, [{ count, step: place === 0 ? across * width : width }])
        )
          continue;
        const found = from.table();
        if (found !== null) return found;
      }
      return null;
    };
    const [tall, wide] = [vectors(0), vectors(1)];
    if (tall === null || wide === null || graph.fact(tall)!.shape[0]! * graph.fact(wide)!.shape[0]! !== queries)
      return null;
    const inputs = [...node.inputs.slice(0, 3), null, ...new Array<null>(6).fill(null), tall, wide];
    return {
      reason: `the mask of ${node.name} is made of relative positions in a plane`,
      remove: [node],
      add: [{ ...node, inputs }],
    };
  },
};
