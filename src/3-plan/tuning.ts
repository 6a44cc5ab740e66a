/** Measured choices of kernels: tables of them, and how a call finds the one that is meant for it. */
import type { Call } from '../../kernels/define.ts';
import { workOf } from '../../kernels/work.ts';
import { fail } from '../core/errors.ts';
import type { GpuCaps } from '../core/plan.ts';
import type { KernelChoice, Tuning } from './choose.ts';
import { shipped } from './shipped-tuning.ts';

/**
 * What was fastest for one problem on an adapter. `kernel` is the kernel's name, `params` what differs from its
 * defaults.
 */
export interface TuningEntry extends KernelChoice {
  /** Calls that this may stand for (`workOf`): operator, types and what else is no size. */
  readonly group: string;
  readonly sizes: readonly number[];
}
/**
 * What `sardonyx tune` found on one kind of adapter. Tables are JSON; each entry may say more (times, gains), which the
 * planner does not read. A table made elsewhere can make a plan slow, never wrong.
 */
export interface TuningTable {
  readonly format: 1;
  /** `vendor-architecture`, as the adapter calls itself. */
  readonly adapter: string;
  readonly entries: readonly TuningEntry[];
}

/** The name of an adapter's table. */
export const adapterName = (caps: Pick<GpuCaps, 'vendor' | 'architecture'>): string =>
  `${caps.vendor || 'unknown'}-${caps.architecture || 'any'}`;

/** The farthest that a size of an entry may be from the call's, in octaves. */
const NEAR = 1;

/**
 * How far two problems of a group are apart: the greatest ratio of their sizes, in octaves. Up to 8, a size is another
 * problem, since kernels unroll it.
 */
export function distance(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length) return Infinity;
  return a.reduce((most, x, i) => {
    const y = b[i]!;
    return x === y ? most : Math.min(x, y) <= 8 ? Infinity : Math.max(most, Math.abs(Math.log2(x / y)));
  }, 0);
}

/**
 * The choices of tables for an adapter, the first table that knows a near problem deciding; then the tables that ship,
 * `otherwise`. @throws option_invalid
 */
export function tuningFor(
  caps: GpuCaps,
  tables: readonly TuningTable[] = [],
  otherwise: readonly TuningTable[] = shipped,
): Tuning {
  for (const table of tables) checkTable(table);
  const groups = [...tables, ...otherwise]
    .filter((t) => t.adapter === adapterName(caps))
    .map(({ entries }) => {
      const byGroup = new Map<string, TuningEntry[]>();
      for (const e of entries) byGroup.set(e.group, [...(byGroup.get(e.group) ?? []), e]);
      return byGroup;
    });
  return (op: string, call: Call) => {
    if (groups.length === 0) return null;
    const { group, sizes } = workOf(op, call);
    for (const byGroup of groups) {
      let best: TuningEntry | null = null;
      let nearest = NEAR;
      for (const e of byGroup.get(group) ?? []) {
        const d = distance(e.sizes, sizes);
        if (d <= nearest && (best === null || d < nearest)) [best, nearest] = [e, d];
      }
      if (best !== null) return best;
    }
    return null;
  };
}

/** @throws option_invalid unless `table` is a table of a format that is known here */
export function checkTable(table: unknown): asserts table is TuningTable {
  const t = table as Partial<TuningTable> | null;
  if (typeof t !== 'object' || t === null || typeof t.adapter !== 'string' || !Array.isArray(t.entries))
    fail('option_invalid', 'tuning must be a table as `sardonyx tune` writes it: { format, adapter, entries }');
  if (t.format !== 1) fail('option_invalid', `this tuning table has format ${t.format}; known is 1: tune again`);
  const wrong = t.entries.findIndex(
    (e: Partial<TuningEntry> | null) =>
      typeof e?.group !== 'string' ||
      typeof e.kernel !== 'string' ||
      !Array.isArray(e.sizes) ||
      !e.sizes.every((s) => typeof s === 'number' && s > 0),
  );
  if (wrong >= 0)
    fail('option_invalid', `entry ${wrong} of the tuning table for ${t.adapter} is no { group, sizes, kernel }`);
}
