/** From a graph whose shapes are known to the nodes that a device runs: rewritten, merged, in the order that needs little memory. */
import type { Op } from '../../kernels/define.ts';
import { type Fact, readsOf, type ValueId } from '../core/graph.ts';
import type { Caps } from '../core/plan.ts';
import { fuse, fuseAgain, type Fusion } from './fuse.ts';
import { orderForMemory } from './order.ts';
import { type Rules, simplify } from './passes/index.ts';
import { type Bound, type Log, rewriteAgain, type Tracer } from './rewrite.ts';

/**
 * What was done to a graph at some dims. At other dims of the same class the same is done, without a search for what can be: which dims are 0, 1 or
 * equal is nearly all that rewrites look at, and each looks again before it does anything.
 */
export interface Recipe {
  readonly from: Bound;
  readonly wanted: ReadonlySet<ValueId>;
  readonly dims: string;
  readonly log: Log;
  readonly fusion: Fusion;
  /** For each place in the order, the place among the merged nodes. */
  readonly order: readonly number[];
  /** One and the same object for all recipes of a graph. */
  readonly family: object;
}
/** Recipes kept of one graph: for one token and for many, a batch of one and of more. */
const KEPT = 6;

/** `recipes`: what this function did before, the newest last; it adds what it does now. With a tracer nothing is repeated, so that it hears all. */
export function optimize(graph: Bound, wanted: ReadonlySet<ValueId>, ops: ReadonlyMap<string, Op>, rules: Rules, caps: Caps, trace?: Tracer, recipes: Recipe[] = []): Bound & { readonly recipe?: Recipe } {
  if (rules.allow.size === 0 || caps.kind === 'reference') return fuse(simplify(graph, wanted, ops, rules, caps.kind, trace), wanted, ops, caps, rules.allow).to;
  const dims = classOf(graph);
  for (const recipe of trace ? [] : recipes) {
    if (recipe.dims !== dims || !sameGraph(recipe, graph, wanted)) continue;
    const again = follow(recipe, graph, wanted, ops);
    if (again !== null) return { ...again, recipe };
  }
  const log: Log = { done: [], end: graph };
  const fusion = fuse(simplify(graph, wanted, ops, rules, caps.kind, trace, log), wanted, ops, caps, rules.allow);
  const ordered = orderForMemory(fusion.to, wanted, ops);
  const places = new Map(fusion.to.nodes.map((n, i) => [n, i]));
  const recipe = { from: graph, wanted, dims, log, fusion, order: ordered.nodes.map((n) => places.get(n)!), family: recipes.at(-1)?.family ?? {} };
  recipes.push(recipe);
  if (recipes.length > KEPT) recipes.shift();
  return { ...ordered, recipe };
}

function follow({ log, fusion, order }: Recipe, graph: Bound, wanted: ReadonlySet<ValueId>, ops: ReadonlyMap<string, Op>): Bound | null {
  const rewritten = rewriteAgain(graph, wanted, log, ops);
  const fused = rewritten && fuseAgain(rewritten, fusion);
  return fused && { ...fused, nodes: order.map((i) => fused.nodes[i]!) };
}

const sameGraph = ({ from, wanted }: Recipe, graph: Bound, now: ReadonlySet<ValueId>): boolean =>
  from.values.length === graph.values.length && from.nodes.length === graph.nodes.length && wanted.size === now.size && from.nodes.every((n, i) => n === graph.nodes[i]) && [...wanted].every((v) => now.has(v));

/** The dims of what the graph reads from outside, but for their sizes: 0 and 1 are themselves, the others are told apart. */
function classOf({ nodes, facts }: Bound): string {
  const made = new Set<ValueId>(), dims = new Map<number, number>(), text: string[] = [];
  for (const n of nodes) {
    for (const v of readsOf(n)) {
      if (made.has(v)) continue;
      made.add(v);
      const { shape, constant }: Fact = facts[v]!;
      if (constant === undefined) text.push(`${v}:${shape.map((d) => (d < 2 ? d : (dims.get(d) ?? (dims.set(d, dims.size + 2), dims.size + 1))))}`);
    }
    for (const v of n.outputs) if (v !== null) made.add(v);
  }
  return text.join(' ');
}

