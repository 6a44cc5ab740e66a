/** The variants of an attention that an operator's calls resolve to, and what they share. */
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import { flash } from './attention-flash.ts';
import { lane, row } from './attention-row.ts';
import { split } from './attention-split.ts';
import { stepsLaunches, stepsScratch, type Work } from './attention.ts';
import { ofLast } from '../remembered.ts';

/** What has to run before an attention, and the attention. Scratch 0 … of `scratch` is what `before` fills. */
export interface Resolved {
  readonly work: Work;
  readonly before: readonly Launch[];
  readonly scratch: readonly number[];
}
export type Resolve = (call: Call, caps: GpuCaps) => Resolved | null;

const fits = (r: Resolved, caps: GpuCaps): boolean =>
  [...r.before.map((l) => l.module.bindings.length + (l.extra?.length ?? 0)), 4 + r.work.riders.extra.length].every(
    (n) => n <= caps.limits.maxStorageBuffersPerShaderStage,
  ) &&
  r.work.batch * r.work.heads <= 65535 &&
  [...r.scratch, ...stepsScratch(r.work, caps)].every((b) => b <= caps.limits.maxStorageBufferBindingSize) &&
  sizeOf(r.work.out.shape) > 0 &&
  r.work.keys > 0 &&
  r.work.size > 0;
// Tiles need no scores in memory.
const fitsTiled = (r: Resolved, caps: GpuCaps): boolean =>
  [...r.before.map((l) => l.module.bindings.length + (l.extra?.length ?? 0)), 4 + r.work.riders.extra.length].every(
    (n) => n <= caps.limits.maxStorageBuffersPerShaderStage,
  ) && sizeOf(r.work.out.shape) > 0;

/** The variants of an attention that an operator's calls resolve to. */
export function attentionVariants(family: string, of: Resolve): readonly GpuKernel[] {
  const resolve = ofLast(of);
  return [
    ...[split, flash, row, lane].map(
      (variant): GpuKernel => ({
        name: `${family}.${variant.name}`,
        accepts: (call, caps) => {
          const r = resolve(call, caps);
          return r !== null && fitsTiled(r, caps) && !r.work.seen && variant.accepts(r.work, caps);
        },
        scratch: (call, caps) => {
          const r = resolve(call, caps)!;
          return [...r.scratch, ...variant.scratch(r.work, caps)];
        },
        ...(variant.tunables ? { tunables: variant.tunables } : {}),
        launch: (call, caps, tuned) => {
          const r = resolve(call, caps)!;
          return [...r.before, ...variant.launches(r.work, caps, r.scratch.length, tuned)];
        },
      }),
    ),
    {
      name: `${family}.steps`,
      accepts: (call, caps) => {
        const r = resolve(call, caps);
        return r !== null && fits(r, caps);
      },
      scratch: (call, caps) => {
        const r = resolve(call, caps)!;
        return [...r.scratch, ...stepsScratch(r.work, caps)];
      },
      launch: (call, caps) => {
        const r = resolve(call, caps)!;
        return [...r.before, ...stepsLaunches(r.work, caps, r.scratch.length)];
      },
    },
  ];
}
