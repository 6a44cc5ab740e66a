import type { Call, Epilogue } from '../../kernels/define.ts';
import type { Ex } from '../../kernels/expr.ts';
import type { Fact, Node, ValueId } from '../core/graph.ts';

/**
 * A node at known shapes, as kernels see it. A node that carries an epilogue has it in `attrs.epilogue` (the expression as JSON),
 * and its operands as the inputs from number `attrs.operandsFrom` on.
 */
export function callOf(node: Node, fact: (v: ValueId) => Fact): Call {
  const facts = node.inputs.map((v) => (v === null ? null : fact(v)));
  const outputs = node.outputs.map((v) => (v === null ? null : fact(v)));
  if (typeof node.attrs.epilogue !== 'string') return { inputs: facts, outputs, attrs: node.attrs };
  const from = node.attrs.operandsFrom as number;
  const epilogue: Epilogue = { expr: parsed(node.attrs.epilogue), operands: facts.slice(from) as Fact[] };
  return { inputs: facts.slice(0, from), outputs, attrs: node.attrs, epilogue };
}

const EXPRESSIONS = new Map<string, Ex>();
/** Kept at most: far more than the models of a page have. */
const MOST = 2000;
/** An epilogue, read once: kernels know an expression that they have seen by its identity. */
function parsed(text: string): Ex {
  let expr = EXPRESSIONS.get(text);
  if (expr === undefined) {
    if (EXPRESSIONS.size >= MOST) EXPRESSIONS.clear();
    EXPRESSIONS.set(text, (expr = JSON.parse(text) as Ex));
  }
  return expr;
}
