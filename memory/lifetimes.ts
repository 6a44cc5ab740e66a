/**
 * What one step does with memory. Values are numbers of the caller's choosing; each is written by one step, before it
 * is read.
 */
export interface Access {
  readonly reads: readonly number[];
  /** A temporary is written and never read. */
  readonly writes: readonly number[];
  /**
   * [written, read]: the kernel tolerates both being the same memory. Granted where the read value dies here and the
   * written one fits in its place.
   */
  readonly sharing?: readonly (readonly [written: number, read: number])[];
}

/**
 * A piece of memory, and the steps in which it may not hold anything else. Its id is its index in the list of blocks.
 */
export interface Block {
  readonly bytes: number;
  /** The step that first writes it; 0 if no step does. */
  readonly first: number;
  /** The last step that touches it. */
  readonly last: number;
}

export interface Lifetimes {
  readonly blocks: readonly Block[];
  /**
   * Pairs of blocks of which a step writes one while it reads the other: no WebGPU buffer may hold both. Lower id
   * first, no pair twice.
   */
  readonly conflicts: readonly (readonly [number, number])[];
  /** The block that a value lives in. Two values in one block share its memory. */
  readonly blockOf: ReadonlyMap<number, number>;
  /** Of each block the value that it was made for, which is as large. */
  readonly madeFor: readonly number[];
  /**
   * Which values might have taken over another's memory, and whether sizes let them: with the steps, all that blocks
   * depend on.
   */
  readonly takeovers: readonly Takeover[];
}
/** `held` is the value that a block was made for. */
interface Takeover {
  readonly written: number;
  readonly held: number;
  readonly granted: boolean;
}

/** Far too large, the memory would be held for little. */
const worthHolding = (bytes: number, held: number): boolean => bytes <= held && 2 * bytes > held;

/** The same steps with other sizes: the same blocks with theirs, if sizes decide as they did then; else null. */
export function lifetimesAgain(before: Lifetimes, bytesOf: (value: number) => number): Lifetimes | null {
  for (const { written, held, granted } of before.takeovers)
    if (worthHolding(bytesOf(written), bytesOf(held)) !== granted) return null;
  return {
    ...before,
    blocks: before.blocks.map(({ first, last }, b) => ({ bytes: bytesOf(before.madeFor[b]!), first, last })),
  };
}

/** Do the steps the same with memory? */
export function sameAccesses(a: readonly Access[], b: readonly Access[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) {
    const x = a[i]!;
    const y = b[i]!;
    const m = x.sharing?.length ?? 0;
    if (x === y) continue;
    if (!sameNumbers(x.reads, y.reads) || !sameNumbers(x.writes, y.writes) || m !== (y.sharing?.length ?? 0))
      return false;
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
 * `kept` values must survive the last step. A value that is read but never written is taken to be there from the start.
 */
export function lifetimes(
  steps: readonly Access[],
  bytesOf: (value: number) => number,
  kept: ReadonlySet<number> = new Set(),
): Lifetimes {
  const lastRead = new Map<number, number>();
  steps.forEach(({ reads }, i) => {
    for (const v of reads) lastRead.set(v, i);
  });
  for (const v of kept) lastRead.set(v, steps.length);

  const blocks: { bytes: number; first: number; last: number }[] = [];
  const madeFor: number[] = [];
  const lastReads: number[] = [];
  const takeovers: Takeover[] = [];
  const blockOf = new Map<number, number>();
  const join = (v: number, b: number): void => {
    blockOf.set(v, b);
    lastReads[b] = Math.max(lastReads[b] ?? -1, lastRead.get(v) ?? -1);
  };
  const enter = (v: number, step: number): number => {
    let b = blockOf.get(v);
    if (b === undefined) {
      b = blocks.push({ bytes: bytesOf(v), first: step, last: step }) - 1;
      madeFor.push(v);
      join(v, b);
    }
    return b;
  };

  steps.forEach(({ reads, writes, sharing = [] }, i) => {
    const read = reads.map((v) => enter(v, 0));
    const taken = new Set<number>();
    for (const v of writes) {
      if (blockOf.has(v)) continue;
      const bytes = bytesOf(v);
      for (const [w, r] of sharing) {
        const b = w === v ? blockOf.get(r) : undefined;
        // Written while another operand is read from it, or by another output, it would be lost.
        if (b === undefined || lastReads[b]! > i || taken.has(b) || read.filter((x) => x === b).length !== 1) continue;
        const granted = worthHolding(bytes, blocks[b]!.bytes);
        takeovers.push({ written: v, held: madeFor[b]!, granted });
        if (!granted) continue;
        taken.add(b);
        join(v, b);
        break;
      }
    }
    for (const v of [...reads, ...writes]) blocks[enter(v, i)]!.last = i;
  });
  blocks.forEach((block, b) => {
    if (lastReads[b] === steps.length) block.last = Math.max(0, steps.length - 1);
  });
  return { blocks, conflicts: conflictsOf(steps, blockOf), blockOf, madeFor, takeovers };
}

function conflictsOf(steps: readonly Access[], blockOf: ReadonlyMap<number, number>): [number, number][] {
  const pairs = new Map<number, [number, number]>();
  for (const { reads, writes } of steps)
    for (const w of writes)
      for (const r of reads) {
        const [a, b] = [blockOf.get(w)!, blockOf.get(r)!];
        if (a !== b) pairs.set(Math.min(a, b) * 2 ** 26 + Math.max(a, b), a < b ? [a, b] : [b, a]);
      }
  return [...pairs.values()];
}
