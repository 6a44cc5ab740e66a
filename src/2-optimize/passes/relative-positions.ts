import type { Node, ValueId } from '../../core/graph.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { type Layout, layoutOf, merged } from './layout.ts';
import { equal } from './patterns.ts';

/** Queries [batch · heads, rows, columns, size] by the vectors [rows, key rows, size] of their rows, or [columns, key columns, size] of their columns. */
const BY_ROW = 'abcd,bed->abce', BY_COLUMN = 'abcd,ced->abce';

/** An equation with its letters renamed in order of appearance. */
function renamed(equation: string): string {
  const letters = [...new Set(equation.match(/[A-Za-z]/g) ?? [])];
  return equation.replace(/\s/g, '').replace(/[A-Za-z]/g, (l) => String.fromCharCode(97 + letters.indexOf(l)));
}

/** The node under the views of `v`. */
function under(v: ValueId, graph: GraphView): Node | undefined {
  const node = graph.maker(v);
  return node !== undefined && graph.ops.get(node.op)?.view && node.inputs[0] != null ? under(node.inputs[0], graph) : node;
}

/**
 * Scores of which the mask is a product of the queries with vectors for the distance of rows, plus one for the distance of columns, as in SAM and ViTDet:
 * attention takes the vectors, and never makes that mask, which is as large as all scores.
 */
export const relativePositions: Pass = {
  name: 'relative-positions',
  exactness: 'reassociates',
  device: 'webgpu',
  roots: ({ op }) => op === 'sardonyx.HeadAttention',
  rewrite: (node, graph) => {
    const mask = node.inputs[3];
    if (node.op !== 'sardonyx.HeadAttention' || mask == null || [4, 6, 8].some((i) => node.inputs[i] != null)) return null;
    const sum = under(mask, graph), full = graph.fact(sum?.outputs[0])?.shape;
    if (sum?.op !== 'Add' || full === undefined || full.length < 3) return null;
    const parts = [[BY_ROW, full.at(-2)!, 1], [BY_COLUMN, 1, full.at(-1)!]].map(([equation, y, x]) => {
      for (const v of sum.inputs) {
        const einsum = under(v!, graph);
        if (einsum?.op === 'Einsum' && renamed(einsum.attrs.equation as string) === equation && equal(graph.fact(v)!.shape, [...full.slice(0, -2), y as number, x as number])) return einsum;
      }
      return null;
    });
    const [tall, wide] = parts;
    if (!tall || !wide || tall === wide) return null;
    const { heads, size } = node.attrs as { readonly heads: number; readonly size: number }, rows = layoutOf(node.inputs[0]!, graph);
    const [batch, queries, width] = graph.fact(node.inputs[0])!.shape as [number, number, number];
    const wanted = merged([{ count: batch, step: queries * width }, { count: heads, step: (node.attrs.apart as readonly number[])[0]! }, { count: queries, step: width }, { count: size, step: 1 }]);
    const isQueries = ({ base, at, axes }: Layout): boolean => base === rows.base && at === (node.attrs.at as readonly number[])[0] && JSON.stringify(merged(axes.flat())) === JSON.stringify(wanted);
    if (![tall, wide].every((e) => isQueries(layoutOf(e.inputs[0]!, graph)))) return null;
    const dtype = graph.fact(node.inputs[0])!.dtype;
    if (![tall, wide].every((e) => graph.fact(e.inputs[1])!.dtype === dtype) || graph.fact(tall.inputs[1])!.shape[2] !== size || graph.fact(wide.inputs[1])!.shape[2] !== size) return null;
    const inputs = [...node.inputs.slice(0, 3), null, ...new Array<null>(6).fill(null), tall.inputs[1]!, wide.inputs[1]!];
    return { reason: `the mask of ${node.name} is made of relative positions in a plane`, remove: [node], add: [{ ...node, inputs }] };
  },
};
