/** Elementwise nodes as expressions, and expressions as the node that map kernels run. */
import type { Op } from '../../kernels/define.ts';
import { constant, type Ex, input, inputsOf, kindOf, substitute, written } from '../../kernels/expr.ts';
import type { Facts, Node, ValueId } from '../core/graph.ts';
import type { Caps } from '../core/plan.ts';
import { kindOfInput } from './fuse-measure.ts';
import { type Lowered, scalarOf } from './lowering.ts';

/** What fusion makes: an expression by itself, and one over two products of one value. */
export const MAP = 'sardonyx.Map';
export const GATED = 'sardonyx.GatedMatMul';

/** An elementwise node as a map; null where it is none, or has types that the device does not compute with. */
export function lower(node: Node, op: Op, facts: Facts, caps: Caps): Lowered | null {
  if (op.map === undefined || node.outputs.slice(1).some((v) => v !== null)) return null;
  const y = facts[node.outputs[0]!]!;
  const all = [...node.inputs.filter((v): v is ValueId => v !== null).map((v) => facts[v]!), y];
  if (all.some((f) => kindOf(f.dtype) === undefined || (caps.kind === 'webgpu' && f.dtype === 'float64'))) return null;
  const inputs: ValueId[] = [];
  const args = node.inputs.map((v): Ex | undefined => {
    if (v === null) return undefined;
    const fact = facts[v]!;
    const baked = scalarOf(fact);
    if (baked !== null) return constant(baked, kindOf(fact.dtype)!);
    if (!inputs.includes(v)) inputs.push(v);
    return input(inputs.indexOf(v), kindOf(fact.dtype)!);
  });
  const expr = op.map(args as readonly Ex[], node.attrs, y.dtype);
  return expr === null ? null : { expr, inputs, label: [node.op.replace(/^.*\./, '')] };
}

/**
 * The node that map kernels run. Inputs that the expression does not read are left out; the output's shape is an
 * attribute.
 */
export function mapNode(
  node: Node,
  inputs: readonly ValueId[],
  label: readonly string[],
  expr: Ex,
  facts: Facts,
): Node {
  const used = inputsOf(expr);
  const y = facts[node.outputs[0]!]!;
  const order = new Map(used.map((i, k) => [i, k]));
  const renumbered = substitute(
    expr,
    inputs.map((_, i) => input(order.get(i) ?? 0, kindOfInput(expr, i) ?? 'f32')),
  );
  return {
    ...node,
    op: MAP,
    inputs: used.map((i) => inputs[i]!),
    outputs: [node.outputs[0]!],
    attrs: { expr: written(renumbered), dtype: y.dtype, shape: y.shape, label },
  };
}
