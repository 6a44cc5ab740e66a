/** Reads from a plan what its pictures need: which step makes which value, who reads it, and how long it lives. */
import type { Plan } from 'sardonyx';

/** A plan as it travels: shaders and modules by their names alone. */
export type Seen = Omit<Plan, 'modules' | 'shaders'>;
type Step = Seen['steps'][number];
export const PLACES = ['gpu', 'wasm', 'host', 'copy'] as const;
export type Place = (typeof PLACES)[number];

/** Where a step runs; copies between host and device are a kind of their own. */
export const placeOf = (s: Step): Place => (s.run === 'upload' || s.run === 'download' ? 'copy' : s.run);
export const opOf = (s: Step): string => ('node' in s ? s.op : s.run);
/** The kernel, or why there is none. */
export const kernelOf = (s: Step): string => ('kernel' in s ? s.kernel : 'node' in s ? (s.why ?? 'host') : '');

/** A value that has memory of its own, and the steps between which it lives. */
export interface Life {
  readonly value: number;
  readonly first: number;
  last: number;
}
/** `from`, `to`: steps, of which the second reads what the first makes. */
export interface Edge {
  readonly from: number;
  readonly to: number;
}

const BITS: Readonly<Record<string, number>> = {
  float64: 64,
  int64: 64,
  uint64: 64,
  complex64: 64,
  complex128: 128,
  float32: 32,
  int32: 32,
  uint32: 32,
  float16: 16,
  bfloat16: 16,
  int16: 16,
  uint16: 16,
  int4: 4,
  uint4: 4,
};
/** Bytes of a planned value, as its type stores it. */
export function bytesOf({ dtype, shape }: Seen['values'][number]): number {
  return Math.ceil((shape.reduce((n, d) => n * d, 1) * (BITS[dtype] ?? 8)) / 8);
}

const valuesOf = (s: Step): number[] => {
  switch (s.run) {
    case 'gpu':
      return s.bind.flatMap((b) => ('value' in b ? [b.value] : []));
    case 'wasm':
      return s.args.flatMap((a) => (typeof a === 'object' && 'value' in a ? [a.value] : []));
    case 'host':
      return [...s.inputs, ...s.outputs].filter((v) => v !== null);
    default:
      return [s.from, s.to];
  }
};

/** The value that holds the memory of `v`: views lead to it. */
export function baseOf(plan: Seen, v: number): number {
  for (;;) {
    const { home } = plan.values[v]!;
    if (home.in !== 'view') return v;
    v = home.of;
  }
}

/** Values are written once: the first step that names one makes it, unless it is an input or constant. */
export function flow(plan: Seen): { lives: Life[]; edges: Edge[] } {
  const lives = new Map<number, Life>();
  const edges: Edge[] = [];
  for (const v of plan.inputs) lives.set(baseOf(plan, v), { value: baseOf(plan, v), first: -1, last: -1 });
  plan.steps.forEach((step, i) => {
    for (const v of new Set(valuesOf(step).map((named) => baseOf(plan, named)))) {
      const { in: kind } = plan.values[v]!.home;
      if (kind === 'weights' || kind === 'constant') continue;
      const life = lives.get(v);
      if (life === undefined) lives.set(v, { value: v, first: i, last: i });
      else {
        life.last = i;
        if (life.first >= 0 && life.first !== i) edges.push({ from: life.first, to: i });
      }
    }
  });
  for (const v of plan.outputs) {
    const life = lives.get(baseOf(plan, v));
    if (life !== undefined) life.last = plan.steps.length;
  }
  return { lives: [...lives.values()], edges };
}
