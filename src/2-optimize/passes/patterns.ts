/** What passes look for and propose, again and again. */
import type { AttrValue, Constant, Node, ValueId } from '../../core/graph.ts';
import { constantOf, readsOf } from '../../core/graph.ts';
import type { Op } from '../../../kernels/define.ts';
import { integers, numbers } from '../../core/numbers.ts';
import { sizeOf, type Tensor } from '../../core/tensor.ts';
import type { GraphView, Patch } from '../rewrite.ts';

/** The value of a constant of one element; null for anything else. */
export function scalarOf(graph: GraphView, v: ValueId | null | undefined): number | null {
  const t = graph.constant(v);
  return t !== null && sizeOf(t.shape) === 1 && t.dtype !== 'string' ? numbers(t)[0]! : null;
}
/** A constant's integers; null if it is none. */
export function listOf(graph: GraphView, v: ValueId | null | undefined): readonly number[] | null {
  const t = graph.constant(v);
  return t === null || !/int/.test(t.dtype) ? null : integers(t);
}
export const equal = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((d, i) => d === b[i]);

/** What reads the node's first output reads `to` instead; the node goes. */
export function forward(node: Node, to: ValueId, graph: GraphView, reason: string): Patch | null {
  const y = node.outputs[0]!;
  if (!graph.isOutput(y)) return { reason, remove: [node], add: [], instead: [[y, to]] };
  if (node.op !== 'Identity')
    return { reason, remove: [node], add: [nodeOf('Identity', node, [to], y)], instead: [[y, to]] };
  return graph.readers(y).length === 0 ? null : { reason, remove: [], add: [], instead: [[y, to]] };
}

/** A node in the place of another. */
export const nodeOf = (
  op: string,
  like: Node,
  inputs: readonly (ValueId | null)[],
  output: ValueId,
  attrs: Readonly<Record<string, AttrValue>> = {},
  part = '',
): Node => ({
  op,
  name: part === '' ? like.name : `${like.name}/${part}`,
  inputs,
  outputs: [output],
  attrs,
  opset: like.opset,
});

/** No one outside the nodes reads what they make, but for what the last of them makes. */
export function closed(graph: GraphView, nodes: readonly Node[]): boolean {
  const within = new Set(nodes);
  const last = nodes.at(-1)!;
  return nodes.every(
    (n) =>
      n === last ||
      n.outputs.every((v) => v === null || (!graph.isOutput(v) && graph.readers(v).every((r) => within.has(r)))),
  );
}

/** The input that is not `v`, of a node of two inputs; undefined if `v` is not the other. */
export const besides = (node: Node, v: ValueId): ValueId | undefined =>
  node.inputs.length !== 2
    ? undefined
    : node.inputs[0] === v
      ? (node.inputs[1] ?? undefined)
      : node.inputs[1] === v
        ? (node.inputs[0] ?? undefined)
        : undefined;

/** The only reader of a value that no one else wants. */
export const soleReader = (graph: GraphView, v: ValueId): Node | undefined =>
  graph.readOnce(v) ? graph.readers(v)[0] : undefined;

const DERIVED = new WeakMap<Constant, Map<string, Constant>>();
/**
 * A constant made from another one, once a process: plans of different dims share it. `key` says all that `make` does.
 */
export function derived(from: Constant, key: string, make: (t: Tensor) => Tensor): Constant | null {
  const made = DERIVED.get(from) ?? new Map<string, Constant>();
  DERIVED.set(from, made);
  const known = made.get(key);
  if (known !== undefined) return known;
  const t = from.peek();
  if (t === null) return null;
  const constant = constantOf(make(t));
  made.set(key, constant);
  return constant;
}
/** A constant under another shape. */
export const reshapedConstant = (from: Constant, shape: readonly number[]): Constant | null =>
  equal(from.shape, shape) ? from : derived(from, `shape ${shape}`, (t) => ({ ...t, shape }) as Tensor);

/** Operators that are elementwise, and whose attributes know nothing of axes. */
export const isMap = (op: Op): boolean => op.map !== undefined && op.random === undefined && !('axis' in op.attrs);
/** A node of such an operator, with one output. */
export const isElementwise = (node: Node, graph: GraphView): boolean =>
  isMap(graph.ops.get(node.op)!) && node.outputs.length === 1 && readsOf(node).length === node.inputs.length;
