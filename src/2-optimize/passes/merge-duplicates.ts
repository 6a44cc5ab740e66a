import { bytesOfTensor, sizeOf } from '../../core/tensor.ts';
import { type AttrValue, bodiesOf, type Node, type ValueId } from '../../core/graph.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { equal } from './patterns.ts';

/** Nodes that read one value are compared with one another only up to this many. */
const MAX_READERS = 32;
/** Constants are compared by content up to this many elements. */
const MAX_ELEMENTS = 64;

/** Two nodes of one operator that read the same and say the same are one. */
export const mergeDuplicates: Pass = {
  name: 'merge-duplicates',
  exactness: 'exact',
  rewrite: (node, graph) => {
    const op = graph.ops.get(node.op)!;
    if (op.random || bodiesOf(node).length > 0 || node.outputs.some((v) => v !== null && graph.isOutput(v)))
      return null;
    const main = node.inputs.find((v) => v !== null && graph.constant(v) === null);
    if (main == null) return null;
    const readers = graph.readers(main);
    if (readers.length < 2 || readers.length > MAX_READERS) return null;
    const twin = readers.find(
      (r) =>
        r !== node &&
        r.op === node.op &&
        bodiesOf(r).length === 0 &&
        r.inputs.length === node.inputs.length &&
        r.inputs.every((v, i) => sameValue(v, node.inputs[i]!, graph)) &&
        node.outputs.every((v, i) => v === null || r.outputs[i] != null) &&
        sameAttrs(node, r),
    );
    if (twin === undefined) return null;
    return {
      reason: `${node.name} does what ${twin.name} does`,
      remove: [node],
      add: [],
      instead: node.outputs.flatMap((v, i): [number, number][] => (v === null ? [] : [[v, twin.outputs[i]!]])),
    };
  },
};

function sameValue(a: ValueId | null, b: ValueId | null, graph: GraphView): boolean {
  if (a === b) return true;
  if (a === null || b === null) return false;
  const [s, t] = [graph.constant(a), graph.constant(b)];
  if (
    s === null ||
    t === null ||
    s.dtype !== t.dtype ||
    s.dtype === 'string' ||
    !equal(s.shape, t.shape) ||
    sizeOf(s.shape) > MAX_ELEMENTS
  )
    return false;
  const [x, y] = [bytesOfTensor(s), bytesOfTensor(t)];
  return x.length === y.length && x.every((v, i) => v === y[i]);
}
function sameAttrs(a: Node, b: Node): boolean {
  const names = Object.keys(a.attrs);
  return names.length === Object.keys(b.attrs).length && names.every((n) => sameAttr(a.attrs[n]!, b.attrs[n]));
}
const sameAttr = (a: AttrValue, b: AttrValue | undefined): boolean =>
  Object.is(a, b) ||
  (Array.isArray(a) &&
    Array.isArray(b) &&
    a.length === b.length &&
    a.every((v, i) => typeof v !== 'object' && Object.is(v, b[i])));
