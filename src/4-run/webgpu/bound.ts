/**
 * Feeds and results in buffers of their own. The plan has a place in a slab for every input and output; a run whose
 * feed lies in a buffer that can be bound, or whose result is wanted in one, binds that buffer in all steps that touch
 * the value, in place of the slab. What cannot be bound (an offset that is not aligned, a buffer without the usage
 * STORAGE, one that a dispatch would bind both read-only and writable) is left to copies.
 *
 * Where a result is wanted in the very memory of a feed, the step that copies the one to the other (`GpuStep.copies`)
 * is left out and later steps change the feed in place: if nothing needs what it held before.
 */
import type { GpuStep, Plan } from '../../core/plan.ts';
import { byteLength } from '../../core/tensor.ts';
import type { Held, Targets } from '../executable.ts';
import type { GpuAround, GpuRef } from './executable.ts';
import { padded } from './transfer.ts';

/** Where the values of one run lie that lie elsewhere than the plan says. */
export interface Bound {
  /** By the plan value that owns the memory. */
  readonly at: ReadonlyMap<number, GpuRef>;
  /** Bind groups in place of the plan's, by step. */
  readonly groups: ReadonlyMap<number, GPUBindGroup>;
  /** Copies of what is where it should be. */
  readonly skipped: ReadonlySet<number>;
}
export type Bind = (inputs: readonly Held[], targets: Targets | undefined) => Bound;

/** Bind groups kept of each step: a loop has its results by turns in the buffers of a pool. */
const KEPT = 8;
interface Variant {
  readonly places: readonly (GpuRef | undefined)[];
  readonly group: GPUBindGroup | null;
}
interface Copying {
  readonly step: number;
  readonly from: number;
}
/** A range of a buffer that a dispatch binds. */
interface Span {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
  readonly writes: boolean;
}

const STORAGE = 0x80;
const overlap = (a: GpuRef, bytesA: number, b: GpuRef, bytesB: number): boolean =>
  a.buffer === b.buffer && a.offset < b.offset + bytesB && b.offset < a.offset + bytesA;
/** May a dispatch bind all of them? Of one buffer all read-only, or all writable and apart. */
const bindable = (spans: readonly Span[]): boolean =>
  spans.every((a, i) =>
    spans.every(
      (b, k) =>
        k <= i || a.buffer !== b.buffer || (a.writes === b.writes && (!a.writes || !overlap(a, a.size, b, b.size))),
    ),
  );

/**
 * @param refs where the plan has its values
 * @param group makes the bind group of a step with these places instead, by the value that owns the memory
 */
export function makeBind(
  { caps, device, recorder, checks }: GpuAround,
  plan: Plan,
  refs: readonly (GpuRef | null)[],
  group: (step: number, at: ReadonlyMap<number, GpuRef>) => GPUBindGroup,
): Bind {
  const rootOf = (v: number): number => {
    const { home } = plan.values[v]!;
    return home.in === 'view' ? rootOf(home.of) : v;
  };
  const inSlab = (v: number): boolean => plan.values[v]!.home.in === 'slab';
  const sizes = new Map(
    [...plan.inputs, ...plan.outputs.map(rootOf)].filter(inSlab).map((v) => [v, byteLength(plan.values[v]!)]),
  );
  const lasting = new Set(plan.outputs.map(rootOf));
  const fed = new Set(plan.inputs);
  /** Steps that touch a value, and the values that a step touches. */
  const steps = new Map<number, number[]>();
  const values = new Map<number, readonly number[]>();
  const variants = new Map<number, Variant[]>();
  const copying = new Map<number, Copying>();
  const bound = (s: GpuStep): number[] => s.bind.flatMap((b) => ('value' in b ? [rootOf(b.value)] : []));
  plan.steps.forEach((s, i) => {
    const touched = [
      ...new Set(
        s.run === 'gpu' ? bound(s) : s.run === 'upload' ? [rootOf(s.to)] : s.run === 'download' ? [rootOf(s.from)] : [],
      ),
    ].filter((v) => sizes.has(v));
    for (const v of touched) steps.set(v, [...(steps.get(v) ?? []), i]);
    if (s.run !== 'gpu' || touched.length === 0) return;
    values.set(i, touched);
    const [from, to] = bound(s);
    if (s.copies && from !== undefined && to !== undefined) copying.set(to, { step: i, from });
  });

  const fits = (place: GpuRef, bytes: number, write: boolean): boolean =>
    bytes > 0 &&
    (place.buffer.usage & STORAGE) !== 0 &&
    place.offset % caps.limits.minStorageBufferOffsetAlignment === 0 &&
    place.offset + padded(bytes) <= place.buffer.size &&
    !(write && place.callers && bytes % 16 !== 0);
  /** The step that may be left out where `to` is made in the memory that `from` is fed in. */
  const inPlace = (from: number, to: number): Copying | null => {
    const copy = copying.get(to);
    if (copy?.from !== from || lasting.has(from) || sizes.get(from) !== sizes.get(to)) return null;
    return steps.get(from)!.every((s) => s <= copy.step) && steps.get(to)!.every((s) => s >= copy.step) ? copy : null;
  };

  function choose(
    feeds: readonly (GpuRef | null)[],
    targets: readonly (GpuRef | null)[],
    kept: readonly GpuRef[],
    refused: ReadonlySet<number>,
  ): { at: Map<number, GpuRef>; skipped: Set<number> } {
    const at = new Map<number, GpuRef>();
    const skipped = new Set<number>();
    plan.inputs.forEach((v, i) => {
      if (feeds[i] && sizes.has(v) && !refused.has(v) && fits(feeds[i], sizes.get(v)!, false)) at.set(v, feeds[i]);
    });
    plan.outputs.forEach((v, i) => {
      const to = rootOf(v);
      const place = targets[i];
      const bytes = sizes.get(to);
      if (
        !place ||
        bytes === undefined ||
        fed.has(to) ||
        refused.has(to) ||
        at.has(to) ||
        !fits(place, bytes, true) ||
        kept.some((k) => k.buffer === place.buffer)
      )
        return;
      const under = plan.inputs.filter((f) => at.has(f) && overlap(at.get(f)!, sizes.get(f)!, place, padded(bytes)));
      const copy = under.length === 1 && at.get(under[0]!)!.offset === place.offset ? inPlace(under[0]!, to) : null;
      if (under.length > 0 && copy === null) return;
      if (copy !== null) skipped.add(copy.step);
      at.set(to, place);
    });
    return { at, skipped };
  }

  /** The bind group of a step; null where the device would refuse it. */
  function groupOf(step: number, at: ReadonlyMap<number, GpuRef>): GPUBindGroup | null {
    const known = variants.get(step) ?? [];
    const places = values.get(step)!.map((v) => at.get(v));
    const found = known.findIndex((k) =>
      k.places.every((p, i) => p === places[i] || (p?.buffer === places[i]?.buffer && p?.offset === places[i]?.offset)),
    );
    const [variant] = found < 0 ? [{ places, group: made(step, at) }] : known.splice(found, 1);
    known.push(variant!);
    if (known.length > KEPT) known.shift();
    variants.set(step, known);
    return variant!.group;
  }
  function made(step: number, at: ReadonlyMap<number, GpuRef>): GPUBindGroup | null {
    const { bind, shader } = plan.steps[step] as GpuStep;
    const { layout } = plan.shaders[shader]!;
    const spans = bind.flatMap((b, i): Span[] => {
      if (!('value' in b)) return [];
      const place = at.get(rootOf(b.value)) ?? refs[b.value];
      return place
        ? [
            {
              buffer: place.buffer,
              offset: place.offset,
              size: padded(byteLength(plan.values[b.value]!)),
              writes: layout[i] === 'read_write',
            },
          ]
        : [];
    });
    return bindable(spans) ? group(step, at) : null;
  }

  /** All bind groups that differ, where the device takes them. */
  function settle(
    feeds: readonly (GpuRef | null)[],
    targets: readonly (GpuRef | null)[],
    kept: readonly GpuRef[],
  ): Bound {
    const refused = new Set<number>();
    again: for (;;) {
      const { at, skipped } = choose(feeds, targets, kept, refused);
      const groups = new Map<number, GPUBindGroup>();
      for (const v of at.keys()) {
        for (const s of steps.get(v) ?? []) {
          if (groups.has(s) || skipped.has(s) || !values.has(s)) continue;
          const group = groupOf(s, at);
          if (group === null) {
            refused.add(values.get(s)!.find((t) => at.has(t))!);
            continue again;
          }
          groups.set(s, group);
        }
      }
      return { at, groups, skipped };
    }
  }

  return (inputs, targets) => {
    const feeds = inputs.map(refOf);
    const wanted = targets?.outputs.map(refOf) ?? [];
    // Only the device knows whether a caller's buffer is still there.
    const callers = [...feeds, ...wanted].some((r) => r?.callers);
    if (callers) {
      recorder.checks = checks;
      device.pushErrorScope('validation');
    }
    const bound = settle(feeds, wanted, targets?.kept.map((k) => refOf(k)!) ?? []);
    if (callers) checks.push(device.popErrorScope());
    return bound;
  };
}

const refOf = (held: Held | null): GpuRef | null => (held?.on === 'device' ? (held.ref as GpuRef) : null);
