/**
 * Memory planning: where each block goes in a few buffers, so that what is never live together shares bytes.
 *
 * The unit of reuse is a SLAB, one buffer with a planned offset for every block. Two blocks may overlap in a slab if no
 * step finds both live. One slab would do for a CPU. WebGPU refuses a dispatch that binds one buffer both read-only and
 * writable, even where the ranges are disjoint, so there what a step writes and what it reads go to different slabs:
 * packing with colours.
 *
 * Both halves are NP-hard; blocks are placed greedily, one after another, each where it makes the slabs grow least.
 * This is greedy-by-size of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference"
 * (arXiv:2001.03288), with colours. What is searched is the order: several are tried, then the best is perturbed, above
 * all by moving the blocks that end at a slab's top. The search counts evaluations, not time, and draws from a seeded
 * generator: equal inputs give equal plans on every machine.
 */
import type { Block } from './lifetimes.ts';

export interface MemoryPlan {
  /** Bytes of each slab. */
  readonly slabs: readonly number[];
  /** Where each block goes, by its id. */
  readonly place: ReadonlyMap<number, Place>;
  /** Bytes of all slabs. */
  readonly total: number;
  /** The most bytes live at one step; no plan can do with less. */
  readonly lowerBound: number;
  /** How the blocks were placed: for a plan of the same blocks with other sizes. */
  readonly way: Way;
}
/** The order in which blocks are placed, and how a slab is chosen. */
interface Way {
  readonly order: Int32Array;
  readonly choice: Choice;
  /**
   * Bytes of all slabs over the lower bound where the order was searched for: plans made this way are not measured by
   * one another.
   */
  readonly ratio: number;
  /**
   * What came of it, and of what: blocks of the same lifetimes and conflicts keep their slab and who lies under whom.
   */
  readonly blocks: readonly Block[];
  readonly conflicts: readonly (readonly [number, number])[];
  readonly problem: Problem;
  readonly layout: Layout;
  /**
   * Blocks from the floors up; of each, from `from[i]` on in `under`, those in its slab that it meets and that lie
   * lower. Made when first asked for.
   */
  stack?: { readonly order: Int32Array; readonly from: Int32Array; readonly under: Int32Array };
}
export interface Place {
  readonly slab: number;
  readonly offset: number;
}

export interface SlabOptions {
  /**
   * Numbers of slabs to try; the smallest total wins. Further slabs are opened only where the conflicts or
   * `maxSlabBytes` leave no other way. Default [3, 4].
   */
  readonly slabs?: number | readonly number[];
  /** Of offsets and sizes, in bytes. Default 256, WebGPU's for storage bindings. */
  readonly alignment?: number;
  /** No slab grows past this, except for one block that is larger by itself. */
  readonly maxSlabBytes?: number;
  /**
   * Where as many blocks went before, with other sizes: blocks of the same lifetimes, and the same conflicts, stay one
   * above another in their slabs; others are placed in the same order. Either only where that needs at most 1.01 times
   * as much over the lower bound as the search it began with found, or next to nothing.
   */
  readonly like?: MemoryPlan;
  /**
   * Orders to evaluate after the first few; the time is linear in it. Default 60, and none for a heap, where no search
   * found better on any of our nets.
   */
  readonly effort?: number;
}

/** Places blocks in slabs so that the two blocks of a conflict never share one. */
export function planSlabs(
  blocks: readonly Block[],
  conflicts: readonly (readonly [number, number])[],
  options: SlabOptions = {},
): MemoryPlan {
  const counts = typeof options.slabs === 'number' ? [options.slabs] : (options.slabs ?? [3, 4]);
  return search(
    blocks,
    conflicts,
    counts,
    options.alignment ?? 256,
    options.maxSlabBytes ?? Infinity,
    options.effort ?? 60,
    SLAB_SLACK,
    options.like,
  );
}

/**
 * What is this much above the lower bound, or this many bytes, is not worth a search: a plan is made for every new set
 * of dims.
 */
const HEAP_SLACK = 1.03;
const SLAB_SLACK = 1.01;
const FEW_BYTES = 4096;
/** A known way may be this much farther from the bound than it was. */
const AS_NEAR = 1.01;

const NONE: readonly (readonly [number, number])[] = [];
/**
 * Packs blocks into one region, for memory that kernels address freely: one slab, or none if there is nothing to place.
 */
export function planHeap(
  blocks: readonly Block[],
  options: Pick<SlabOptions, 'alignment' | 'effort' | 'like'> = {},
): MemoryPlan {
  return search(blocks, NONE, [1], options.alignment ?? 64, Infinity, options.effort ?? 0, HEAP_SLACK, options.like);
}

/** Bytes live at each step. */
function liveBytes(blocks: readonly Block[], size: Float64Array): Float64Array {
  const live = new Float64Array(blocks.reduce((end, b) => Math.max(end, b.last + 1), 0) + 1);
  blocks.forEach(({ first, last }, b) => {
    live[first]! += size[b]!;
    live[last + 1]! -= size[b]!;
  });
  for (let step = 1; step < live.length; step++) live[step]! += live[step - 1]!;
  return live;
}

/** An empty block keeps one unit: a binding may not be empty. */
const align = (bytes: number, alignment: number): number => Math.max(1, Math.ceil(bytes / alignment)) * alignment;

/** The question in typed arrays, which greedy runs read a hundred times. */
interface Problem {
  readonly size: Float64Array;
  /** Of each block, the ones live at some step with it, and the ones that may not share its slab. */
  readonly meets: readonly Int32Array[];
  readonly rivals: readonly Int32Array[];
  readonly maxSlabBytes: number;
}
interface Layout {
  readonly slabOf: Int32Array;
  readonly offsetOf: Float64Array;
  readonly slabs: number[];
  readonly total: number;
}

function search(
  blocks: readonly Block[],
  conflicts: readonly (readonly [number, number])[],
  counts: readonly number[],
  alignment: number,
  maxSlabBytes: number,
  effort: number,
  slack: number,
  like?: MemoryPlan,
): MemoryPlan {
  const size = new Float64Array(blocks.length);
  for (let b = 0; b < size.length; b++) size[b] = align(blocks[b]!.bytes, alignment);
  const live = liveBytes(blocks, size);
  const lowerBound = live.reduce((most, bytes) => Math.max(most, bytes), 0);
  const enough = Math.max(lowerBound * slack, lowerBound + FEW_BYTES);
  const way = like?.way;
  const limit = Math.max(enough, AS_NEAR * lowerBound * (way?.ratio ?? 0));
  const same = way && sameSpans(way.blocks, blocks) && samePairs(way.conflicts, conflicts);
  const problem: Problem = same
    ? { ...way.problem, size, maxSlabBytes }
    : { size, meets: meetings(blocks), rivals: rivalsOf(blocks.length, conflicts), maxSlabBytes };
  const finish = (
    layout: Layout,
    { order, choice }: Pick<Way, 'order' | 'choice'>,
    ratio: number,
    stack?: Way['stack'],
  ): MemoryPlan => {
    const place = new Map<number, Place>();
    for (let b = 0; b < size.length; b++) place.set(b, { slab: layout.slabOf[b]!, offset: layout.offsetOf[b]! });
    return {
      slabs: layout.slabs,
      place,
      total: layout.total,
      lowerBound,
      way: { order, choice, ratio, blocks, conflicts, problem, layout, ...(stack ? { stack } : {}) },
    };
  };
  if (same) {
    const stack = (way.stack ??= stackOf(way));
    const sunk = stacked(way, size, stack);
    if (sunk.total <= limit && sunk.slabs.every((bytes) => bytes <= maxSlabBytes))
      return finish(sunk, way, way.ratio, stack);
  }
  const known = way?.order.length === blocks.length ? greedy(problem, way.order, way.choice, limit) : null;
  if (known) return finish(known, way!, way!.ratio);
  const { best, ...by } = climb(
    problem,
    orders(blocks, size, live),
    counts.flatMap((count) => (count === 1 ? [true] : [true, false]).map((snug) => ({ count, snug }))),
    effort,
    enough,
  );
  return finish(best, by, best.total / Math.max(1, lowerBound));
}

function rivalsOf(n: number, conflicts: readonly (readonly [number, number])[]): Int32Array[] {
  const rivals: number[][] = Array.from({ length: n }, () => []);
  for (const [a, b] of conflicts) {
    rivals[a]!.push(b);
    rivals[b]!.push(a);
  }
  return rivals.map((r) => Int32Array.from(r));
}

function samePairs(a: Way['conflicts'], b: Way['conflicts']): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i]![0] !== b[i]![0] || a[i]![1] !== b[i]![1]) return false;
  return true;
}
function sameSpans(a: readonly Block[], b: readonly Block[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i]!.first !== b[i]!.first || a[i]!.last !== b[i]!.last) return false;
  return true;
}

/** Who lies under whom in a layout. */
function stackOf({ problem: { meets }, layout: { slabOf, offsetOf } }: Way): NonNullable<Way['stack']> {
  const order = Int32Array.from(slabOf.keys()).sort((a, b) => offsetOf[a]! - offsetOf[b]!);
  const from = new Int32Array(order.length + 1);
  const under: number[] = [];
  order.forEach((b, i) => {
    for (const other of meets[b]!)
      if (slabOf[other] === slabOf[b] && offsetOf[other]! < offsetOf[b]!) under.push(other);
    from[i + 1] = under.length;
  });
  return { order, from, under: Int32Array.from(under) };
}

/**
 * The layout with other sizes: each block lies on the highest end of those that lay under it. Blocks that meet stay
 * apart, since one of two lies under the other.
 */
function stacked(
  {
    layout: {
      slabOf,
      slabs: { length },
    },
  }: Way,
  size: Float64Array,
  { order, from, under }: NonNullable<Way['stack']>,
): Layout {
  const offsetOf = new Float64Array(size.length);
  const slabs = new Array<number>(length).fill(0);
  for (let i = 0; i < order.length; i++) {
    let offset = 0;
    for (let j = from[i]!; j < from[i + 1]!; j++) offset = Math.max(offset, offsetOf[under[j]!]! + size[under[j]!]!);
    const b = order[i]!;
    const slab = slabOf[b]!;
    offsetOf[b] = offset;
    slabs[slab] = Math.max(slabs[slab]!, offset + size[b]!);
  }
  return { slabOf, offsetOf, slabs, total: slabs.reduce((sum, bytes) => sum + bytes, 0) };
}

/** Sweeps over the steps, with the set of live blocks. */
function meetings(blocks: readonly Block[]): Int32Array[] {
  const meets: number[][] = blocks.map(() => []);
  let live: number[] = [];
  for (const b of [...blocks.keys()].sort((x, y) => blocks[x]!.first - blocks[y]!.first)) {
    live = live.filter((other) => blocks[other]!.last >= blocks[b]!.first);
    for (const other of live) {
      meets[b]!.push(other);
      meets[other]!.push(b);
    }
    live.push(b);
  }
  return meets.map((m) => Int32Array.from(m));
}

/**
 * Orders to start from: by size, what is live at the fullest step first, by size times lifetime, by lifetime, by time.
 */
function* orders(blocks: readonly Block[], size: Float64Array, live: Float64Array): Iterable<Int32Array> {
  const span = (b: number): number => blocks[b]!.last - blocks[b]!.first + 1;
  const bySize = (a: number, b: number): number => size[b]! - size[a]! || blocks[a]!.first - blocks[b]!.first || a - b;
  const by = (key: (a: number, b: number) => number): Int32Array =>
    Int32Array.from(blocks.keys()).sort((a, b) => key(a, b) || bySize(a, b));
  yield by(() => 0);
  const crowd = Float64Array.from(blocks, ({ first, last }) =>
    live.subarray(first, last + 1).reduce((most, bytes) => Math.max(most, bytes), 0),
  );
  yield by((a, b) => crowd[b]! - crowd[a]!);
  yield by((a, b) => size[b]! * span(b) - size[a]! * span(a));
  yield by((a, b) => span(b) - span(a));
  yield by((a, b) => blocks[a]!.first - blocks[b]!.first);
}

/** A list longer than this is not kept sorted by insertion. */
const LONG = 32;

/**
 * How many slabs to open, and which to take where several need not grow: the tightest gap, or else the largest slab,
 * which keeps the small ones free.
 */
interface Choice {
  readonly count: number;
  readonly snug: boolean;
}

/** Places blocks in this order, in `count` slabs if it can; null as soon as they pass `limit` bytes. */
function greedy(
  { size, meets, rivals, maxSlabBytes }: Problem,
  order: Int32Array,
  { count, snug }: Choice,
  limit: number,
): Layout | null {
  const slabOf = new Int32Array(size.length).fill(-1);
  const offsetOf = new Float64Array(size.length);
  const slabs: number[] = [];
  const closedFor: number[] = []; // of each slab, the last block that a rival kept out of it
  const taken: number[][] = []; // of each slab, the placed blocks that this block meets, by offset
  let total = 0;
  for (let i = 0; i < order.length; i++) {
    const b = order[i]!;
    const bytes = size[b]!;
    const others = meets[b]!;
    const rival = rivals[b]!;
    for (let k = 0; k < slabs.length; k++) taken[k]!.length = 0;
    for (let j = 0; j < rival.length; j++) if (slabOf[rival[j]!]! >= 0) closedFor[slabOf[rival[j]!]!] = b;
    for (let j = 0; j < others.length; j++) {
      const other = others[j]!;
      const slab = slabOf[other]!;
      if (slab < 0 || closedFor[slab] === b) continue;
      const list = taken[slab]!;
      let at = list.push(other) - 1;
      if (at >= LONG) continue;
      for (; at > 0 && offsetOf[list[at - 1]!]! > offsetOf[other]!; at--) list[at] = list[at - 1]!;
      list[at] = other;
    }
    for (let k = 0; k < slabs.length; k++)
      if (taken[k]!.length > LONG) taken[k]!.sort((x, y) => offsetOf[x]! - offsetOf[y]!);

    let best = -1;
    let bestOffset = 0;
    let bestGrowth = Infinity;
    let bestGap = Infinity;
    for (let k = 0; k < slabs.length; k++) {
      if (closedFor[k] === b) continue;
      const list = taken[k]!;
      let offset = 0;
      let gap = Infinity;
      let end = 0;
      for (let j = 0; j < list.length; j++) {
        const start = offsetOf[list[j]!]!;
        const room = start - end;
        if (room >= bytes && room < gap) {
          gap = room;
          offset = end;
        }
        end = Math.max(end, start + size[list[j]!]!);
      }
      if (gap === Infinity) {
        offset = end;
        gap = Math.max(bytes, slabs[k]! - end);
      }
      const growth = Math.max(0, offset + bytes - slabs[k]!);
      if (offset > 0 && offset + bytes > maxSlabBytes) continue;
      if (growth < bestGrowth || (growth === bestGrowth && (snug ? gap < bestGap : slabs[k]! > slabs[best]!))) {
        best = k;
        bestOffset = offset;
        bestGrowth = growth;
        bestGap = gap;
      }
    }
    if (best < 0 || (slabs.length < count && bytes < bestGrowth)) {
      best = slabs.push(0) - 1;
      bestOffset = 0;
      bestGrowth = bytes;
      taken.push([]);
      closedFor.push(-1);
    }
    total += bestGrowth;
    if (total > limit) return null;
    slabs[best] = Math.max(slabs[best]!, bestOffset + bytes);
    slabOf[b] = best;
    offsetOf[b] = bestOffset;
  }
  return { slabOf, offsetOf, slabs, total };
}

/** Blocks that meet more others than this on average make an evaluation dear: fewer are made. */
const MANY = 64;

/** The best start, then a walk from order to order that never gets worse, until `enough`. */
function climb(
  problem: Problem,
  starts: Iterable<Int32Array>,
  choices: readonly Choice[],
  effort: number,
  enough: number,
): { best: Layout } & Pick<Way, 'order' | 'choice'> {
  let found: (Pick<Way, 'order' | 'choice'> & { readonly layout: Layout }) | null = null;
  for (const order of starts) {
    for (const choice of choices) {
      const layout = greedy(problem, order, choice, found ? found.layout.total - 1 : Infinity);
      if (layout) found = { layout, order, choice };
      if (found!.layout.total <= enough) break;
    }
    if (found!.layout.total <= enough) break;
  }
  let { layout: best, order, choice: by } = found!;
  const n = order.length;
  const random = generator(n);
  const meetings = problem.meets.reduce((sum, m) => sum + m.length, 0);
  const evaluations = Math.min(effort, Math.floor((effort * MANY * n) / (meetings + 1)));
  const endsOnTop = (b: number): boolean => best.offsetOf[b]! + problem.size[b]! === best.slabs[best.slabOf[b]!];
  for (let i = 0; i < evaluations && n > 1 && best.total > enough; i++) {
    let from = Math.floor(random() * n);
    if (random() < 0.5) while (!endsOnTop(order[from]!)) from = (from + 1) % n;
    const to = Math.floor(random() * (random() < 0.5 ? from + 1 : Math.min(n, from + 20)));
    const next = order.slice();
    if (to < from) next.copyWithin(to + 1, to, from);
    else next.copyWithin(from, from + 1, to + 1);
    next[to] = order[from]!;
    const choice = choices[i % choices.length]!;
    const layout = greedy(problem, next, choice, best.total);
    if (layout) {
      best = layout;
      order = next;
      by = choice;
    }
  }
  return { best, order, choice: by };
}

/** Uniform in [0, 1): mulberry32. */
function generator(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
