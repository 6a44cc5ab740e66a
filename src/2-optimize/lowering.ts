/**
 * Nodes as elementwise expressions: what fusion merges. Most operators say by `map` what theirs is; a lowering knows it
 * of others, from what their constants hold.
 */
import type { Ex } from '../../kernels/expr.ts';
import type { Constant, Fact, Facts, Node, ValueId } from '../core/graph.ts';
import { bigints, numbers } from '../core/numbers.ts';
import type { DeviceKind } from '../core/plan.ts';
import { sizeOf } from '../core/tensor.ts';

/** An expression over values; `label` names the operators in it. */
export interface Lowered {
  readonly expr: Ex;
  readonly inputs: readonly ValueId[];
  readonly label: readonly string[];
}
export type Lowering = (
  node: Node,
  facts: Facts,
  addConstant: (name: string, c: Constant) => ValueId,
  device: DeviceKind,
) => Lowered | null;

/** The value of a one-element constant: it is written into the expression. */
export function scalarOf(fact: Fact): number | bigint | null {
  if (fact.constant === undefined || sizeOf(fact.shape) !== 1) return null;
  const t = fact.constant.peek();
  if (t === null) return null;
  return t.dtype === 'int64' || t.dtype === 'uint64' ? bigints(t)[0]! : numbers(t)[0]!;
}
