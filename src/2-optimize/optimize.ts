/**
 * From a graph whose shapes are known to the nodes that a device runs: rewritten, merged, in the order that needs
 * little memory.
 */
import type { Op } from '../../kernels/define.ts';
import { readsOf, type ValueId } from '../core/graph.ts';
import type { Caps } from '../core/plan.ts';
import { fuse } from './fuse.ts';
import { fuseAgain, type Fusion } from './fuse-again.ts';
import { orderForMemory } from './order.ts';
import { type Rules, simplify } from './passes/index.ts';
import { type Bound, type Log, rewriteAgain, type Tracer } from './rewrite.ts';

/**
 * What was done to a graph at some dims. At other dims of the same class the same is done, without a search for what
 * can be: which dims are 0, 1 or equal is nearly all that rewrites look at, and each looks again before it does
 * anything.
 */
export interface Recipe {
  readonly from: Bound;
  readonly wanted: ReadonlySet<ValueId>;
  /** What the graph reads from outside and is no constant, and the class of those values' dims. */
  readonly reads: readonly ValueId[];
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

/**
 * `recipes`: what this function did before, the newest last; it adds what it does now. With a tracer nothing is
 * repeated, so that it hears all.
 */
export function optimize(
  graph: Bound,
  wanted: ReadonlySet<ValueId>,
  ops: ReadonlyMap<string, Op>,
  rules: Rules,
  caps: Caps,
  trace?: Tracer,
  recipes: Recipe[] = [],
): Bound & { readonly recipe?: Recipe } {
  if (rules.allow.size === 0 || caps.kind === 'reference')
    return fuse(simplify(graph, wanted, ops, rules, caps.kind, trace), wanted, ops, caps, rules).to;
  for (const recipe of trace ? [] : recipes) {
    if (!sameGraph(recipe, graph, wanted) || recipe.dims !== classOf(recipe.reads, graph)) continue;
    const again = follow(recipe, graph, wanted, ops);
    if (again !== null) return { ...again, recipe };
  }
  const log: Log = { done: [], end: graph };
  const fusion = fuse(simplify(graph, wanted, ops, rules, caps.kind, trace, log), wanted, ops, caps, rules);
  const ordered = orderForMemory(fusion.to, wanted, ops);
  const places = new Map(fusion.to.nodes.map((n, i) => [n, i]));
  const reads = outsideOf(graph);
  const recipe = {
    from: graph,
    wanted,
    reads,
    dims: classOf(reads, graph),
    log,
    fusion,
    order: ordered.nodes.map((n) => places.get(n)!),
    family: recipes.at(-1)?.family ?? {},
  };
  recipes.push(recipe);
  if (recipes.length > KEPT) recipes.shift();
  return { ...ordered, recipe };
}

function follow(
  { log, fusion, order }: Recipe,
  graph: Bound,
  wanted: ReadonlySet<ValueId>,
  ops: ReadonlyMap<string, Op>,
): Bound | null {
  const rewritten = rewriteAgain(graph, wanted, log, ops);
  const fused = rewritten && fuseAgain(rewritten, fusion);
  return fused && { ...fused, nodes: order.map((i) => fused.nodes[i]!) };
}

const sameGraph = ({ from, wanted }: Recipe, graph: Bound, now: ReadonlySet<ValueId>): boolean =>
  from.values.length === graph.values.length &&
  from.nodes.length === graph.nodes.length &&
  wanted.size === now.size &&
  from.nodes.every((n, i) => n === graph.nodes[i]) &&
  [...wanted].every((v) => now.has(v));

function outsideOf({ nodes, facts }: Bound): ValueId[] {
  const made = new Set(nodes.flatMap((n) => n.outputs));
  return [...new Set(nodes.flatMap(readsOf))].filter((v) => !made.has(v) && facts[v]!.constant === undefined);
}

/**
 * The dims of what the graph reads from outside, but for their sizes: 0 and 1 are themselves, the others are told
 * apart.
 */
function classOf(reads: readonly ValueId[], { facts }: Bound): string {
  const sizes: number[] = [];
  let text = '';
  for (const v of reads) {
    text += `${v}:`;
    for (const d of facts[v]!.shape) {
      const known = sizes.indexOf(d);
      text += `${d < 2 ? d : known < 0 ? sizes.push(d) + 1 : known + 2},`;
    }
  }
  return text;
}
