import type { Node, ValueId } from '../../core/graph.ts';
import { numbers } from '../../core/numbers.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { listOf, scalarOf } from './patterns.ts';

const WINDOWS: ReadonlySet<string> = new Set(['Conv', 'QLinearConv', 'AveragePool', 'MaxPool']);
type Numbers = readonly number[] | undefined;

/**
 * What a Pad puts around an image that a window reads, the window's own padding does: zeros for a convolution or an
 * average, and for a maximum what is no greater than any pixel, such as zeros behind a Relu.
 */
export const foldPad: Pass = {
  name: 'fold-pad',
  exactness: 'exact',
  roots: ({ op }) => WINDOWS.has(op),
  rewrite: (node, graph) => {
    const {
      op,
      attrs: { auto_pad: auto = 'NOTSET', ceil_mode: ceil, kernel_shape: kernel, count_include_pad: counts, ...attrs },
    } = node;
    if (!WINDOWS.has(op) || !/^(NOTSET|VALID|)$/.test(auto as string)) return null;
    const pad = graph.maker(node.inputs[0]);
    if (pad?.op !== 'Pad' || pad.attrs.mode !== 'constant') return null;
    const value = filler(pad, graph);
    const zero = op === 'QLinearConv' ? scalarOf(graph, node.inputs[2]) : 0;
    if (value === null || (op === 'MaxPool' ? !(value <= leastOf(graph, pad.inputs[0]!)) : value !== zero)) return null;
    const shape = graph.fact(pad.inputs[0])?.shape;
    const more = shape && padsOf(pad, shape.length, graph);
    if (!more || more.some((p) => p < 0) || [0, 1].some((axis) => more[axis] !== 0 || more[axis + shape.length] !== 0))
      return null;
    const spatial = shape.length - 2;
    const own = (auto === 'VALID' ? undefined : (attrs.pads as Numbers)) ?? new Array<number>(2 * spatial).fill(0);
    const dilations = (attrs.dilations as Numbers) ?? [];
    if (own.length !== 2 * spatial) return null;
    const pads = own.map((p, i) => p + more[i < spatial ? 2 + i : shape.length + 2 + i - spatial]!);
    if (op.endsWith('Pool')) {
      // A pooling window must meet the image somewhere, one that ceil_mode adds may not, and indices count the pixels
      // of the Pad.
      if (
        ceil === 1 ||
        node.outputs.length > 1 ||
        pads.some((p, i) => p >= ((kernel as number[])[i % spatial]! - 1) * (dilations[i % spatial] ?? 1) + 1)
      )
        return null;
      // An average that leaves out its own padding counts the zeros of the Pad: both kinds cannot be one.
      if (op === 'AveragePool' && own.some((p) => p !== 0) && counts !== 1) return null;
    }
    const kept = { ...node.attrs, auto_pad: 'NOTSET', pads, ...(op === 'AveragePool' ? { count_include_pad: 1 } : {}) };
    return {
      reason: `what ${pad.name} puts around the image that ${node.name} reads, its window does`,
      remove: [node],
      add: [{ ...node, inputs: [pad.inputs[0]!, ...node.inputs.slice(1)], attrs: kept }],
    };
  },
};

/** What the Pad puts around; null where that is not known. */
function filler(pad: Node, graph: GraphView): number | null {
  if (pad.inputs[2] == null) return (pad.attrs.value as number | undefined) ?? 0;
  const t = graph.constant(pad.inputs[2]);
  return t === null || t.dtype === 'string' ? null : Number(numbers(t)[0]);
}
/** A bound below every element. */
function leastOf(graph: GraphView, v: ValueId, depth = 8): number {
  const maker = graph.maker(v);
  const of = (v2: ValueId): number => (depth > 0 ? leastOf(graph, v2, depth - 1) : -Infinity);
  switch (maker?.op) {
    case 'Relu':
    case 'Sigmoid':
    case 'HardSigmoid':
    case 'Softplus':
    case 'Abs':
    case 'Exp':
      return 0;
    case 'Clip':
      return maker.inputs[1] == null ? -Infinity : (scalarOf(graph, maker.inputs[1]) ?? -Infinity);
    case 'Concat':
    case 'Max':
      return Math.min(...maker.inputs.map((i) => of(i!)));
    case 'MaxPool':
    case 'Identity':
    case 'Dropout':
      return of(maker.inputs[0]!);
    default:
      return graph.fact(v)?.dtype.startsWith('uint') ? 0 : -Infinity;
  }
}
/** Elements put before and after each axis, as [before…, after…]. */
function padsOf(pad: Node, rank: number, graph: GraphView): readonly number[] | null {
  const given = listOf(graph, pad.inputs[1]);
  const axes =
    pad.inputs[3] == null
      ? Array.from({ length: rank }, (_, i) => i)
      : listOf(graph, pad.inputs[3])?.map((a) => (a < 0 ? a + rank : a));
  if (given === null || axes === undefined || given.length !== 2 * axes.length) return null;
  const pads = new Array<number>(2 * rank).fill(0);
  axes.forEach((axis, i) => {
    pads[axis] = given[i]!;
    pads[axis + rank] = given[i + axes.length]!;
  });
  return pads;
}
