import { type DType, ONNX_OF_DTYPE } from '../../core/dtype.ts';
import type { AttrValue, Node, ValueId } from '../../core/graph.ts';
import { fromNumbers } from '../../core/numbers.ts';
import type { DeviceKind } from '../../core/plan.ts';
import { tensor } from '../../core/tensor.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { nodeOf } from './patterns.ts';

/**
 * Nodes that take the place of one, in the order in which they are put. What puts one gives the value that it writes:
 * `to`, or a new one.
 */
export interface Expansion {
  readonly added: Node[];
  put(
    op: string,
    inputs: readonly (ValueId | null)[],
    attrs?: Readonly<Record<string, AttrValue>>,
    to?: ValueId | null,
  ): ValueId;
  cast(v: ValueId, dtype: DType, to?: ValueId | null): ValueId;
  reshape(v: ValueId, shape: readonly number[], to?: ValueId | null): ValueId;
  transpose(v: ValueId, perm: readonly number[], to?: ValueId | null): ValueId;
  /** A reduction of some axes, which stay as dims of 1. */
  reduce(op: string, v: ValueId, axes: readonly number[]): ValueId;
  /** An int64 constant. */
  list(values: readonly number[]): ValueId;
  constant(dtype: DType, values: readonly number[], shape?: readonly number[]): ValueId;
  number(dtype: DType, value: number): ValueId;
  /** Lets what writes `v` write `to`. */
  name(v: ValueId, to: ValueId | null | undefined): void;
}

function expansionOf(node: Node, graph: GraphView): Expansion {
  const added: Node[] = [];
  const put: Expansion['put'] = (op, inputs, attrs = {}, to) => {
    const part = `${op.slice(op.lastIndexOf('.') + 1)}.${added.length}`;
    const y = to ?? graph.addValue(`${node.name}.${part}`);
    added.push(nodeOf(op, node, inputs, y, attrs, part));
    return y;
  };
  const constant: Expansion['constant'] = (dtype, values, shape = [values.length]) =>
    graph.addValue(`${node.name}.constant`, fromNumbers(dtype, shape, values));
  const list: Expansion['list'] = (values) =>
    graph.addValue(`${node.name}.list`, tensor('int64', [values.length], values));
  return {
    added,
    put,
    constant,
    list,
    cast: (v, dtype, to) =>
      to == null && graph.fact(v)?.dtype === dtype
        ? v
        : put('Cast', [v], { to: ONNX_OF_DTYPE[dtype], saturate: 1, round_mode: 'up', clamp_nibbles: 0 }, to),
    reshape: (v, shape, to) => put('Reshape', [v, list(shape)], { allowzero: 1 }, to),
    transpose: (v, perm, to) => put('Transpose', [v], { perm }, to),
    reduce: (op, v, axes) => put(op, [v, list(axes)], { keepdims: 1, noop_with_empty_axes: 0 }),
    number: (dtype, value) => constant(dtype, [value], []),
    name: (v, to) => {
      const as = (of: ValueId | null): ValueId | null => (of === v ? to! : of);
      if (to != null)
        added.forEach((n, i) => {
          added[i] = { ...n, inputs: n.inputs.map(as), outputs: n.outputs.map(as) };
        });
    },
  };
}

/** Puts nodes in the place of `node`, and says what they are; null if it is left as it is. */
export type Expand = (e: Expansion, node: Node, graph: GraphView) => string | null;

/** Operators that a device has no kernels for as others, at known shapes; float64 and text are left to the host. */
export const expanding = (name: string, table: Readonly<Record<string, Expand>>, device?: DeviceKind): Pass => ({
  name,
  exactness: 'reassociates',
  ...(device ? { device } : {}),
  roots: ({ op }) => Object.hasOwn(table, op),
  rewrite: (node, graph) => {
    const e = expansionOf(node, graph);
    const fact = graph.fact(node.inputs[0]);
    const what = fact === undefined || /float64|string/.test(fact.dtype) ? null : table[node.op]!(e, node, graph);
    return what === null ? null : { reason: `${node.name} is ${what}`, remove: [node], add: e.added };
  },
});
