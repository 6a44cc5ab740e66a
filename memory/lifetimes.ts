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
  const groupOf = new Map<number, Group | null>(); // null: pinned
  const enter = (v: number, step: number): Group | null => {
    const known = groupOf.get(v);
    if (known !== undefined) return known;
    const group = pinned.has(v) ? null : { bytes: bytesOf(v), first: step, last: step, lastRead: -1 };
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
      const mine = (step.sharing ?? []).filter(([w]) => w === v).map(([, r]) => groupOf.get(r)).find((g): g is Group =>
        // Written while another operand is read from it, or by another output, it would be lost; far too large, it would be held for little.
        g !== undefined && g !== null && g.lastRead <= i && bytes <= g.bytes && 2 * bytes > g.bytes && !taken.has(g) && read.filter((r) => r === g).length === 1);
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
  return { blocks, conflicts: conflictsOf(steps, blockOf, scratchOf), blockOf, scratchOf };
}

interface Group { bytes: number; first: number; last: number; lastRead: number }

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
