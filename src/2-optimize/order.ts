/**
 * The order in which nodes run decides how much is live at once. Branches of a graph can run one after another, or turn
 * by turn.
 */
import type { Op } from '../../kernels/define.ts';
import { bytesOf } from '../core/dtype.ts';
import { type Node, readsOf, type ValueId } from '../core/graph.ts';
import { sizeOf } from '../core/tensor.ts';
import type { Bound } from './rewrite.ts';

/** Another order is taken only if it needs at most this part of what the given one needs. */
const WORTH = 0.95;

/**
 * The nodes in the order that needs the least memory of three: as they are, the one that frees most first, and each
 * branch to its end.
 */
export function orderForMemory(graph: Bound, wanted: ReadonlySet<ValueId>, ops: ReadonlyMap<string, Op>): Bound {
  const memory = memoryOf(graph, wanted, ops);
  let best = graph.nodes;
  let least = memory.peak(best) * WORTH;
  for (const nodes of [greedy(graph.nodes, memory), deep(graph.nodes, memory)]) {
    const peak = memory.peak(nodes);
    if (peak > least) continue;
    best = nodes;
    least = peak * (1 - Number.EPSILON);
  }
  return best === graph.nodes ? graph : { ...graph, nodes: best };
}

interface Memory {
  /** The most bytes that are live while a node runs. */
  peak(nodes: readonly Node[]): number;
  /** Memory that a node reads and makes; views and constants have none of their own. */
  reads(node: Node): readonly ValueId[];
  makes(node: Node): readonly ValueId[];
  bytes(root: ValueId): number;
  /** How many nodes read it; wanted values have one reader more, who never comes. */
  uses(root: ValueId): number;
}

function memoryOf(graph: Bound, wanted: ReadonlySet<ValueId>, ops: ReadonlyMap<string, Op>): Memory {
  const rootOf = new Map<ValueId, ValueId>();
  const root = (v: ValueId): ValueId => rootOf.get(v) ?? v;
  const lists = new Map<Node, { reads: ValueId[]; makes: ValueId[] }>();
  const uses = new Map<ValueId, number>();
  for (const node of graph.nodes) {
    const reads = [
      ...new Set(
        readsOf(node)
          .filter((v) => graph.facts[v]?.constant === undefined)
          .map(root),
      ),
    ];
    const view = ops.get(node.op)?.view === true && node.inputs[0] != null;
    if (view) rootOf.set(node.outputs[0]!, root(node.inputs[0]!));
    lists.set(node, { reads, makes: view ? [] : node.outputs.filter((v): v is ValueId => v !== null) });
    for (const v of reads) uses.set(v, (uses.get(v) ?? 0) + 1);
  }
  for (const v of wanted) uses.set(root(v), (uses.get(root(v)) ?? 0) + 1);
  const bytes = (v: ValueId): number => {
    const fact = graph.facts[v];
    return fact === undefined || fact.constant !== undefined
      ? 0
      : Math.max(1, Math.ceil(bytesOf(fact.dtype, sizeOf(fact.shape)) / 256)) * 256;
  };
  const memory: Memory = {
    reads: (n) => lists.get(n)!.reads,
    makes: (n) => lists.get(n)!.makes,
    bytes,
    uses: (v) => uses.get(v) ?? 0,
    peak: (nodes) => {
      const left = new Map(uses);
      const made = new Set(graph.nodes.flatMap((n) => memory.makes(n)));
      // what comes from outside is there from the start
      let live = [...uses.keys()].reduce((sum, v) => sum + (made.has(v) ? 0 : bytes(v)), 0);
      let most = live;
      for (const node of nodes) {
        for (const v of memory.makes(node)) live += bytes(v);
        most = Math.max(most, live);
        for (const v of memory.reads(node)) {
          left.set(v, left.get(v)! - 1);
          if (left.get(v) === 0) live -= bytes(v);
        }
        for (const v of memory.makes(node)) if (memory.uses(v) === 0) live -= bytes(v);
      }
      return most;
    },
  };
  return memory;
}

/** Of the nodes that can run, always the one after which the least more is live; the earlier where they are equal. */
function greedy(nodes: readonly Node[], memory: Memory): Node[] {
  const left = new Map<ValueId, number>();
  const uses = (v: ValueId): number => left.get(v) ?? memory.uses(v);
  const { waits, readers } = dependencies(nodes);
  const place = new Map(nodes.map((n, i) => [n, i]));
  const ready = nodes.filter((n) => waits.get(n) === 0);
  const out: Node[] = [];
  while (ready.length > 0) {
    let at = 0;
    let least = Infinity;
    ready.forEach((n, i) => {
      const more =
        memory.makes(n).reduce((sum, v) => sum + (memory.uses(v) > 0 ? memory.bytes(v) : 0), 0) -
        memory.reads(n).reduce((sum, v) => sum + (uses(v) === 1 ? memory.bytes(v) : 0), 0);
      if (more < least || (more === least && place.get(n)! < place.get(ready[at]!)!)) {
        least = more;
        at = i;
      }
    });
    const [node] = ready.splice(at, 1) as [Node];
    out.push(node);
    for (const v of memory.reads(node)) left.set(v, uses(v) - 1);
    for (const reader of readers.get(node) ?? []) {
      waits.set(reader, waits.get(reader)! - 1);
      if (waits.get(reader) === 0) ready.push(reader);
    }
  }
  return out;
}

/** Each node as late as its reader needs it; of several inputs the one first that makes the largest value. */
function deep(nodes: readonly Node[], memory: Memory): Node[] {
  const made = new Map<ValueId, Node>();
  for (const n of nodes) for (const v of n.outputs) if (v !== null) made.set(v, n);
  const size = (n: Node): number => memory.makes(n).reduce((sum, v) => sum + memory.bytes(v), 0);
  const done = new Set<Node>();
  const out: Node[] = [];
  const { readers } = dependencies(nodes);
  for (const end of nodes) {
    if ((readers.get(end)?.length ?? 0) > 0) continue;
    const stack: Node[] = [end];
    while (stack.length > 0) {
      const n = stack.at(-1)!;
      const waits = done.has(n)
        ? []
        : [...new Set(readsOf(n).map((v) => made.get(v)))]
            .filter((m): m is Node => m !== undefined && !done.has(m))
            .sort((a, b) => size(a) - size(b));
      if (waits.length > 0) {
        stack.push(...waits);
        continue;
      }
      stack.pop();
      if (!done.has(n)) out.push(n);
      done.add(n);
    }
  }
  return out;
}

/** How many nodes each node waits for, and which nodes wait for it. */
function dependencies(nodes: readonly Node[]): { waits: Map<Node, number>; readers: Map<Node, Node[]> } {
  const made = new Map<ValueId, Node>();
  for (const n of nodes) for (const v of n.outputs) if (v !== null) made.set(v, n);
  const waits = new Map<Node, number>();
  const readers = new Map<Node, Node[]>();
  for (const n of nodes) {
    const before = new Set(
      readsOf(n)
        .map((v) => made.get(v))
        .filter((m): m is Node => m !== undefined),
    );
    waits.set(n, before.size);
    for (const m of before) readers.set(m, [...(readers.get(m) ?? []), n]);
  }
  return { waits, readers };
}
