import type { Node, ValueId } from '../../core/graph.ts';
import { numbers } from '../../core/numbers.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { listOf, scalarOf } from './patterns.ts';

/** Zeros put around an image by a Pad that a convolution or an average reads: the window's own padding does that. */
export const foldPad: Pass = {
  name: 'fold-pad',
  exactness: 'exact',
  roots: ({ op }) => op === 'Conv' || op === 'AveragePool' || op === 'QLinearConv',
  rewrite: (node, graph) => {
    if (node.op !== 'Conv' && node.op !== 'AveragePool' && node.op !== 'QLinearConv') return null;
    if (node.attrs.auto_pad !== 'NOTSET' && node.attrs.auto_pad !== undefined && node.attrs.auto_pad !== '') return null;
    const pad = graph.maker(node.inputs[0]);
    if (pad?.op !== 'Pad' || pad.attrs.mode !== 'constant' || !isZero(pad, graph, node.op === 'QLinearConv' ? node.inputs[2]! : null)) return null;
    const shape = graph.fact(pad.inputs[0])?.shape;
    const more = shape && padsOf(pad, shape.length, graph);
    if (!more || more.some((p) => p < 0) || [0, 1].some((axis) => more[axis] !== 0 || more[axis + shape.length] !== 0)) return null;
    const spatial = shape.length - 2;
    const own = (node.attrs.pads as readonly number[] | undefined) ?? new Array<number>(2 * spatial).fill(0);
    if (own.length !== 2 * spatial) return null;
    // An average that leaves out its own padding counts the zeros of the Pad: both kinds cannot be one.
    if (node.op === 'AveragePool' && (node.attrs.ceil_mode === 1 || (own.some((p) => p !== 0) && node.attrs.count_include_pad !== 1))) return null;
    const kernel = node.op === 'AveragePool' ? (node.attrs.kernel_shape as readonly number[]) : undefined;
    const dilations = (node.attrs.dilations as readonly number[] | undefined) ?? [];
    const pads = own.map((p, i) => p + more[i < spatial ? 2 + i : shape.length + 2 + i - spatial]!);
    // A pooling window must meet the image somewhere.
    if (node.op === 'AveragePool' && (kernel === undefined || pads.some((p, i) => p >= (kernel[i % spatial]! - 1) * (dilations[i % spatial] ?? 1) + 1))) return null;
    const attrs = { ...node.attrs, pads, ...(node.op === 'AveragePool' ? { count_include_pad: 1 } : {}) };
    return { reason: `${pad.name} puts zeros around what ${node.name} reads: its window does that`, remove: [node], add: [{ ...node, inputs: [pad.inputs[0]!, ...node.inputs.slice(1)], attrs }] };
  },
};

/** Does the Pad put zeros, or the number at `zero`, around? */
function isZero(pad: Node, graph: GraphView, zero: ValueId | null): boolean {
  if (zero !== null) return pad.inputs[2] != null && scalarOf(graph, zero) !== null && scalarOf(graph, pad.inputs[2]) === scalarOf(graph, zero);
  if (pad.inputs[2] == null) return pad.attrs.value === undefined || pad.attrs.value === 0;
  const t = graph.constant(pad.inputs[2]);
  return t !== null && t.dtype !== 'string' && numbers(t)[0] === 0;
}
/** Elements put before and after each axis, as [before…, after…]. */
function padsOf(pad: Node, rank: number, graph: GraphView): readonly number[] | null {
  const given = listOf(graph, pad.inputs[1]);
  const axes = pad.inputs[3] == null ? Array.from({ length: rank }, (_, i) => i) : listOf(graph, pad.inputs[3])?.map((a) => (a < 0 ? a + rank : a));
  if (given === null || axes === undefined || given.length !== 2 * axes.length) return null;
  const pads = new Array<number>(2 * rank).fill(0);
  axes.forEach((axis, i) => {
    pads[axis] = given[i]!;
    pads[axis + rank] = given[i + axes.length]!;
  });
  return pads;
}
