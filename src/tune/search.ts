/**
 * Finds the fastest kernel and parameters for one problem. Candidates must first give what the reference gives. They
 * are timed in turns beside the incumbent, the planner's own choice, and count by the ratio to it, so that a machine
 * that slows down slows both; the slow half drops out early (successive halving, after Jamieson and Talwalkar 2016,
 * with thresholds instead of halves, since most candidates are far off).
 */
import type { GpuKernel } from '../../kernels/define.ts';
import { ops } from '../../kernels/index.ts';
import { packed } from '../../kernels/packers.ts';
import { ableKernels } from '../3-plan/choose.ts';
import { fail } from '../core/errors.ts';
import type { GpuCaps } from '../core/plan.ts';
import type { Tensor } from '../core/tensor.ts';
import { bindKernel, callMemory, type CallMemory, type Packer, type Params, runOnce, shadersOf } from './kernel.ts';
import { floorMs, type Gauge } from './peaks.ts';
import { awkwardProblems } from './problems.ts';
import { disagreement, expectedOf, type Problem, tensorsOf } from './problem.ts';
import { deviation, median, type Recorded } from './timer.ts';
import type { TuningEntry } from '../3-plan/tuning.ts';

/** An entry of a table, and how it was found. Times are of the median sample, in milliseconds. */
export interface Measured extends TuningEntry {
  readonly ms: number;
  /** What the planner takes by itself, and its time beside this one's. */
  readonly untuned: { readonly kernel: string; readonly ms: number };
  /** untuned.ms / ms, from samples taken side by side; 1 where the planner's own choice stays. */
  readonly gain: number;
  /** Of the ratio to the incumbent: its median deviation. */
  readonly noise: number;
  readonly samples: number;
  /** Candidates that were compared with the reference, and those that were timed. */
  readonly checked: number;
  readonly timed: number;
  /** Share of what the device could do at most. */
  readonly roofline: number;
  readonly flops: number;
  readonly bytes: number;
  /** Candidates that gave wrong results or did not compile, and why. */
  readonly wrong: readonly string[];
}

/** The device that is tuned, and what it can do. */
export interface Tuned {
  readonly device: GPUDevice;
  readonly caps: GpuCaps;
  readonly gauge: Gauge;
}

export const pack: Packer = (made, t) => packed(t, made);

export interface Variant {
  readonly kernel: GpuKernel;
  readonly params: Params;
}
const nameOf = ({ kernel, params }: Variant): string =>
  [kernel.name, ...Object.entries(params).map(([k, v]) => `${k}=${v}`)].join(' ');

/**
 * Characters of a shader above which its tile is larger than any register file, and compilers take seconds and
 * gigabytes; those of software adapters sooner.
 */
const MOST_CODE = { software: 9000, hardware: 18_000 } as const;

/**
 * All that may run a problem, the planner's own choice first, then each kernel as it is, then its parameters. Equal
 * programs are one, and those longer than `mostCode` are none.
 */
export function variantsOf(
  { op, call }: Pick<Problem, 'op' | 'call'>,
  caps: GpuCaps,
  mostCode: number = caps.software ? MOST_CODE.software : MOST_CODE.hardware,
): Variant[] {
  const able = ableKernels(ops.get(op)?.webgpu ?? [], call, caps);
  const own = able.find((k) => k.accepts?.(call, caps) ?? true);
  const ordered = [...able].sort((a, b) => Number(b === own) - Number(a === own));
  const seen = new Set<string>();
  return [
    ...ordered.map((kernel): Variant => ({ kernel, params: {} })),
    ...ordered.flatMap((kernel) => combinations(kernel.tunables ?? {}).map((params) => ({ kernel, params }))),
  ].filter((v) => {
    if ((v.params.WG ?? 0) > caps.limits.maxComputeInvocationsPerWorkgroup) return false;
    const shaders = shadersOf(v.kernel, call, caps, v.params);
    if (Object.keys(v.params).length > 0 && shaders.some(({ shader }) => shader.code.length > mostCode)) return false;
    const key = JSON.stringify(
      shaders.map(({ launch, shader }) => [shader.code, launch.uniforms, launch.workgroups, launch.bind]),
    );
    return !seen.has(key) && seen.add(key);
  });
}
const combinations = (of: NonNullable<GpuKernel['tunables']>): Params[] =>
  Object.entries(of)
    .reduce<Params[]>((all, [name, values]) => all.flatMap((p) => values.map((v) => ({ ...p, [name]: v }))), [{}])
    .filter((p) => Object.keys(p).length > 0);

interface Runner extends Variant {
  readonly record: Recorded;
  readonly repeats: number;
  readonly ratios: number[];
  readonly times: number[];
}

/** What rounding one side of a product to 8 bits may change, where a call allows it, of the largest result. */
const BYTEWISE = 2e-2;
/** Above this the reference takes too long; the incumbent, itself compared on small problems, stands in for it. */
const REFERENCE_FLOPS = 1e8;
/**
 * A kernel whose defaults are this much slower than the best is not looked at further, and a candidate is not timed
 * again.
 */
const HOPELESS = 3;
/** Rounds, and how far behind the best a candidate may then be. */
const CUTS: readonly (readonly [rounds: number, ratio: number])[] = [
  [3, 1.5],
  [5, 1.2],
  [9, 1.05],
];
/** A round in which the incumbent's own time moves by more than this says nothing. */
const DRIFT = 0.25;
/** A winner must be faster than the incumbent by this and by twice the noise. */
const MARGIN = 0.02;
/** Of the roofline: nothing is left to find. */
const ENOUGH = 0.92;

/** What fits into caches is faster than the memory's roofline says. In bytes. */
const UNCACHED = 1 << 27;

/**
 * The best variant of a problem, searched until `deadline` (of performance.now()) at the latest; 'open' when that came
 * before anything was found, null when there is only one variant. @throws aborted
 */
export async function tuneProblem(
  { device, caps, gauge: { timer, peaks } }: Tuned,
  problem: Problem,
  deadline: number,
  signal?: AbortSignal,
): Promise<Measured | 'open' | null> {
  const variants = variantsOf(problem, caps);
  if (variants.length < 2) return null;
  const { inputs, operands } = await tensorsOf(problem.call);
  const memory = callMemory(device, problem.call, inputs, operands, pack);
  const wrong: string[] = [];
  const late = (): boolean => {
    if (signal?.aborted) fail('aborted', 'tuning was aborted');
    return performance.now() > deadline;
  };
  try {
    let expected: readonly (Tensor | null)[] | null =
      problem.work.flops <= REFERENCE_FLOPS ? await expectedOf(problem, inputs, operands) : null;
    let checked = 0;
    let anchor: Runner | null = null;
    const runners: Runner[] = [];
    const floor = floorMs({ flops: problem.work.flops, bytes: problem.bytes }, peaks);
    const sure = problem.bytes < UNCACHED ? floorMs({ flops: problem.work.flops, bytes: 0 }, peaks) : floor;
    let cut = false;
    const hopeless = new Set<GpuKernel>();
    const began = performance.now();
    for (const v of variants) {
      if (anchor !== null && (late() || performance.now() > began + 0.6 * (deadline - began))) {
        cut = true;
        break;
      }
      if (hopeless.has(v.kernel)) continue;
      const ready = await prepare(memory, caps, v, expected);
      checked++;
      if ('why' in ready) {
        wrong.push(`${nameOf(v)}: ${ready.why}`);
        if (anchor === null && expected === null) return null;
        continue;
      }
      expected ??= ready.results;
      await timer.time(ready.record);
      const once = await timer.time(ready.record);
      const base: number = anchor === null ? once : await timer.time(anchor.record);
      if (anchor !== null && once > HOPELESS * base && once > HOPELESS * (await timer.time(anchor.record))) {
        if (Object.keys(v.params).length === 0) hopeless.add(v.kernel);
        continue;
      }
      const runner: Runner = { ...v, record: ready.record, repeats: timer.repeatsFor(once), ratios: [], times: [] };
      runners.push(runner);
      anchor ??= runner;
      if (once * ENOUGH < sure) break;
    }
    if (anchor === null) return null;
    const timed = runners.length;
    let left = runners;
    let wasted = 0;
    for (let round = 0; left.length > 1 && round < CUTS.at(-1)![0] + wasted; round++) {
      if (late()) {
        cut ||= round - wasted < CUTS[0]![0];
        break;
      }
      const before = await timer.time(anchor.record, anchor.repeats);
      const sampled: number[] = [];
      for (const r of left) sampled.push(r === anchor ? before : await timer.time(r.record, r.repeats));
      const after = await timer.time(anchor.record, anchor.repeats);
      const base = (before + after) / 2;
      if (Math.abs(after - before) > DRIFT * base && wasted < 6) {
        wasted++;
        continue;
      }
      left.forEach((r, i) => {
        r.times.push(r === anchor ? base : sampled[i]!);
        r.ratios.push(r === anchor ? 1 : sampled[i]! / base);
      });
      const stage = CUTS.find(([rounds]) => rounds === round + 1 - wasted);
      if (stage) {
        const best = Math.min(...left.map((r) => median(r.ratios)));
        left = left.filter((r) => r === anchor || median(r.ratios) <= stage[1] * best);
      }
    }
    if (anchor.times.length === 0) anchor.times.push(await timer.time(anchor.record, anchor.repeats));
    const challengers = left
      .filter((r) => r !== anchor && r.ratios.length >= CUTS[0]![0])
      .sort((a, b) => median(a.ratios) - median(b.ratios));
    let winner: Runner = anchor;
    for (const c of challengers) {
      if (1 - median(c.ratios) <= Math.max(MARGIN, 2 * deviation(c.ratios))) break;
      const why = await wrongElsewhere(device, caps, problem.op, c);
      if (why === null) {
        winner = c;
        break;
      }
      wrong.push(`${nameOf(c)}: ${why}`);
    }
    if (cut && winner === anchor) return 'open';
    const ms = median(winner.times);
    const untuned = median(anchor.times);
    return {
      group: problem.work.group,
      sizes: problem.work.sizes,
      kernel: winner.kernel.name,
      params: winner.params,
      ms,
      untuned: { kernel: anchor.kernel.name, ms: untuned },
      gain: winner === anchor ? 1 : 1 / median(winner.ratios),
      noise: winner === anchor ? 0 : deviation(winner.ratios),
      samples: winner.times.length,
      checked,
      timed,
      roofline: Math.min(1, floor / ms),
      flops: problem.work.flops,
      bytes: problem.bytes,
      wrong,
    };
  } finally {
    memory.destroy();
  }
}

type Ready = { readonly record: Recorded; readonly results: readonly Tensor[] } | { readonly why: string };

/** Compiles a variant and runs it once; `why` when it does not compile, faults, or differs from what is expected. */
async function prepare(
  memory: CallMemory,
  caps: GpuCaps,
  { kernel, params }: Variant,
  expected: readonly (Tensor | null)[] | null,
): Promise<Ready> {
  try {
    let record: Recorded | undefined;
    const results = await runOnce(
      memory,
      kernel.name,
      async () => (record = await bindKernel(memory, caps, kernel, params)),
    );
    const why =
      expected && disagreement(results, expected, memory.call.attrs.accuracy_level === 4 ? BYTEWISE : undefined);
    return why ? { why } : { record: record!, results };
  } catch (e) {
    return { why: e instanceof Error ? e.message.split('\n')[0]! : String(e) };
  }
}

/** Why a variant is wrong on the awkward problems of its operator that it can run; null: it is right on all. */
async function wrongElsewhere(device: GPUDevice, caps: GpuCaps, op: string, variant: Variant): Promise<string | null> {
  for (const problem of awkwardProblems())
    if (problem.op === op && ableKernels([variant.kernel], problem.call, caps).length > 0) {
      const why = await checkVariant(device, caps, problem, variant);
      if (why !== null) return why;
    }
  return null;
}

/** Runs a variant on a problem and compares it with the reference: null where they agree. */
export async function checkVariant(
  device: GPUDevice,
  caps: GpuCaps,
  problem: Problem,
  variant: Variant,
): Promise<string | null> {
  const { inputs, operands } = await tensorsOf(problem.call);
  const memory = callMemory(device, problem.call, inputs, operands, pack);
  try {
    const ready = await prepare(memory, caps, variant, await expectedOf(problem, inputs, operands));
    return 'why' in ready
      ? `${problem.op} ${problem.call.inputs.map((f) => f && `${f.dtype}[${f.shape}]`).join(' ')}: ${ready.why}`
      : null;
  } finally {
    memory.destroy();
  }
}
