/** What one step does with memory. Values are numbers of the caller's choosing; each is written by one step, before it is read. */
export interface Access {
  readonly reads: readonly number[];
  readonly writes: readonly number[];
  /** Bytes of each temporary of this step alone. */
  readonly scratch?: readonly number[];
  /** [written, read]: the kernel tolerates both being the same memory. Granted where the read value dies here and the written one fits in its place. */
  readonly sharing?: readonly (readonly [written: number, read: number])[];
  /** [view, base]: the same bytes under another shape. The view is written, and the base read, by this step. */
  readonly views?: readonly (readonly [view: number, base: number])[];
}

/** A piece of memory, and the steps in which it may not hold anything else. Its id is its index in the list of blocks. */
export interface Block {
  readonly bytes: number;
  /** The step that first writes it; 0 if no step does. */
  readonly first: number;
  /** The last step that touches it. */
  readonly last: number;
}

export interface Lifetimes {
  readonly blocks: readonly Block[];
  /** Pairs of blocks of which a step writes one while it uses the other: no WebGPU buffer may hold both. Lower id first, no pair twice. */
  readonly conflicts: readonly (readonly [number, number])[];
  /** The block that a value lives in. Pinned values, and views of them, have none. Two values in one block share its memory. */
  readonly blockOf: ReadonlyMap<number, number>;
  /** The blocks of each step's `scratch`, in its order. */
  readonly scratchOf: readonly (readonly number[])[];
  /** Of each block the value that it was made for, which is as large. */
  readonly madeFor: readonly number[];
  /** Which values might have taken over another's memory, and whether sizes let them: with the steps, all that blocks depend on. Null of steps with scratch or views. */
  readonly takeovers: readonly Takeover[] | null;
}
/** `held` is the value that a block was made for. */
interface Takeover { readonly written: number; readonly held: number; readonly granted: boolean }

/** Far too large, the memory would be held for little. */
const worthHolding = (bytes: number, held: number): boolean => bytes <= held && 2 * bytes > held;

/** The same steps with other sizes: the same blocks with theirs, if sizes decide as they did then; else null. */
export function lifetimesAgain(before: Lifetimes, bytesOf: (value: number) => number): Lifetimes | null {
  const { takeovers, blocks, madeFor } = before;
  if (takeovers === null) return null;
  for (const { written, held, granted } of takeovers) if (worthHolding(bytesOf(written), bytesOf(held)) !== granted) return null;
  return { ...before, blocks: blocks.map(({ first, last }, b) => ({ bytes: bytesOf(madeFor[b]!), first, last })) };
}

/** Do the steps the same with memory? Scratch is not compared: no lifetimes are found again where there is some. */
export function sameAccesses(a: readonly Access[], b: readonly Access[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) {
    const x = a[i]!, y = b[i]!, m = x.sharing?.length ?? 0;
    if (x === y) continue;
    if (!sameNumbers(x.reads, y.reads) || !sameNumbers(x.writes, y.writes) || m !== (y.sharing?.length ?? 0)) return false;
    for (let j = 0; j < m; j++) if (!sameNumbers(x.sharing![j]!, y.sharing![j]!)) return false;
  }
  return true;
}
function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/**
 * Folds values that share memory into blocks, and finds how long each block is live and which blocks meet in a step.
 *
 * `pinned` values have memory of their own, outside the plan; `kept` ones are placed and must survive the last step.
 * A value that is read but never written is taken to be there from the start. Scratch may be read back within its step (by a
 * second dispatch), so it conflicts with the step's reads, its writes and the other scratch; a step made of several dispatches
 * whose temporaries need less than that can be given as several steps, with the temporaries as values.
 */
export function lifetimes(
  steps: readonly Access[],
  bytesOf: (value: number) => number,
  { pinned = new Set(), kept = new Set() }: { pinned?: ReadonlySet<number>; kept?: ReadonlySet<number> } = {},
): Lifetimes {
  const lastRead = new Map<number, number>();
  const readsOf = steps.map(({ reads, views = [] }) => [...reads, ...views.map(([, base]) => base).filter((base) => !reads.includes(base))]);
  readsOf.forEach((reads, i) => {
    for (const v of reads) lastRead.set(v, i);
  });
  for (const v of kept) lastRead.set(v, steps.length);

  const groups: Group[] = [];
  const takeovers: Takeover[] = [];
  const groupOf = new Map<number, Group | null>(); // null: pinned
  const enter = (v: number, step: number): Group | null => {
    const known = groupOf.get(v);
    if (known !== undefined) return known;
    const group = pinned.has(v) ? null : { bytes: bytesOf(v), first: step, last: step, lastRead: -1, of: v };
    if (group) groups.push(group);
    join(v, group);
    return group;
  };
  const join = (v: number, group: Group | null): void => {
    groupOf.set(v, group);
    if (group) group.lastRead = Math.max(group.lastRead, lastRead.get(v) ?? -1);
  };

  steps.forEach((step, i) => {
    const read = readsOf[i]!.map((v) => enter(v, 0));
    for (const [view, base] of step.views ?? []) {
      if (pinned.has(view)) continue; // a copy into memory of its own
      const group = enter(base, 0);
      if (group) Object.assign(group, { bytes: Math.max(group.bytes, bytesOf(view)), last: i });
      join(view, group);
    }
    const taken = new Set<Group>();
    for (const v of step.writes) {
      if (groupOf.has(v) || pinned.has(v)) continue;
      const bytes = bytesOf(v);
      const mine = (step.sharing ?? []).filter(([w]) => w === v).map(([, r]) => groupOf.get(r)).find((g): g is Group => {
        // Written while another operand is read from it, or by another output, it would be lost.
        if (g === undefined || g === null || g.lastRead > i || taken.has(g) || read.filter((r) => r === g).length !== 1) return false;
        const granted = worthHolding(bytes, g.bytes);
        takeovers.push({ written: v, held: g.of, granted });
        return granted;
      });
      if (mine) {
        taken.add(mine);
        join(v, mine);
      }
    }
    for (const v of [...readsOf[i]!, ...step.writes]) {
      const group = enter(v, i);
      if (group) group.last = i;
    }
  });
  for (const group of groups) if (group.lastRead === steps.length) group.last = Math.max(0, steps.length - 1);

  const blocks: Block[] = groups.map(({ bytes, first, last }) => ({ bytes, first, last }));
  const index = new Map(groups.map((group, b) => [group, b]));
  const blockOf = new Map([...groupOf].flatMap(([v, group]): [number, number][] => (group ? [[v, index.get(group)!]] : [])));
  const scratchOf = steps.map((step, i) => (step.scratch ?? []).map((bytes) => blocks.push({ bytes, first: i, last: i }) - 1));
  return { blocks, conflicts: conflictsOf(steps, blockOf, scratchOf), blockOf, scratchOf, madeFor: groups.map((g) => g.of), takeovers: steps.some((s) => s.scratch?.length || s.views?.length) ? null : takeovers };
}

interface Group { bytes: number; first: number; last: number; lastRead: number; of: number }

function conflictsOf(steps: readonly Access[], blockOf: ReadonlyMap<number, number>, scratchOf: readonly (readonly number[])[]): [number, number][] {
  const pairs = new Map<number, [number, number]>();
  const add = (a: number | undefined, b: number | undefined): void => {
    if (a === undefined || b === undefined || a === b) return;
    const pair: [number, number] = a < b ? [a, b] : [b, a];
    pairs.set(pair[0] * 2 ** 26 + pair[1], pair);
  };
  steps.forEach((step, i) => {
    const reads = step.reads.map((v) => blockOf.get(v));
    const writes = step.writes.map((v) => blockOf.get(v));
    const scratch = scratchOf[i]!;
    for (const w of writes) for (const r of reads) add(w, r);
    for (const s of scratch) for (const other of [...reads, ...writes, ...scratch]) add(s, other);
  });
  return [...pairs.values()];
}
