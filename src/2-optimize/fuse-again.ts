import type { Facts, Node, ValueId } from '../core/graph.ts';
import { readsOf, sameAttrs, sameNumbers } from '../core/graph.ts';
import { scalarOf } from './lowering.ts';
import type { Bound } from './rewrite.ts';
import { GATED, MAP } from './lower-map.ts';

/** What was merged into what, so that the same can be done at other dims. */
export interface Fusion {
  readonly from: Bound;
  readonly to: Bound;
  readonly items: readonly Fused[];
}
/** A node of the result, by the places of the nodes it was made of; of one that is as it came, `parts` is its own. */
interface Fused {
  readonly node: Node;
  /** Values that must have one shape. */
  readonly equal: readonly (readonly [ValueId, ValueId])[];
  readonly parts: readonly number[];
  readonly base: number | null;
}

/**
 * The same merged again in the same graph at other dims: `graph` has what `fusion.from` has in its places. Null where
 * an expression could be another now, since a constant or an attribute is, or where shapes no longer match.
 */
export function fuseAgain(graph: Bound, { from, to, items }: Fusion): Bound | null {
  const facts = graph.facts.slice();
  const values = [...graph.values];
  for (let v = from.values.length; v < to.values.length; v++) {
    values[v] = to.values[v]!;
    facts[v] = to.facts[v];
  }
  const nodes: Node[] = [];
  for (const { node, parts, base, equal } of items) {
    if (from.nodes[parts[0]!] === node) {
      nodes.push(graph.nodes[parts[0]!]!);
      continue;
    }
    const whole = node.op === MAP ? null : node.op;
    for (const i of parts)
      if (
        !sameMeaning(
          from.nodes[i]!,
          graph.nodes[i]!,
          from.facts,
          facts,
          from.nodes[i]!.op === 'BatchNormalization' || whole === GATED,
        )
      )
        return null;
    for (const [a, b] of equal) if (!sameNumbers(facts[a]!.shape, facts[b]!.shape)) return null;
    const { shape } = facts[node.outputs[0]!]!;
    const before = base === null ? null : from.nodes[base]!;
    const after = base === null ? null : graph.nodes[base]!;
    if (after?.attrs.epilogue !== before?.attrs.epilogue) return null;
    if (whole === null) nodes.push(shape === node.attrs.shape ? node : { ...node, attrs: { ...node.attrs, shape } });
    else if (after === null || after === before) nodes.push(node);
    else
      nodes.push({
        ...node,
        attrs: {
          ...after.attrs,
          epilogue: node.attrs.epilogue!,
          operandsFrom: node.attrs.operandsFrom!,
          label: node.attrs.label!,
        },
      });
  }
  return { nodes, facts, values };
}

/**
 * Would an expression made of node `a` be the same made of `b`? `whole`: it has the contents of constants, not of those
 * with one element only.
 */
function sameMeaning(a: Node, b: Node, then: Facts, now: Facts, whole: boolean): boolean {
  if (a !== b && (a.op !== b.op || !sameAttrs(a.attrs, b.attrs))) return false;
  const same = (v: ValueId | null): boolean => {
    if (v === null) return true;
    const f = then[v]!;
    const g = now[v]!;
    return (
      f === g || (f.dtype === g.dtype && (f.constant === g.constant || (!whole && Object.is(scalarOf(f), scalarOf(g)))))
    );
  };
  for (const v of readsOf(a)) if (!same(v)) return false;
  for (const v of a.outputs) if (!same(v)) return false;
  return true;
}
