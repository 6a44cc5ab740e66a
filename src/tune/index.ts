/**
 * `sardonyx/tune`: finds the fastest GPU kernels for a device, in Node and in a page alike.
 *
 * ```ts
 * import { Session } from 'sardonyx';
 * import { loadTuning, saveTuning, tuneModel } from 'sardonyx/tune';
 *
 * const record = await tuneModel('/model.onnx', { seconds: 60, onProgress: (p) => console.log(`${p.done} of ${p.of}:
 * ${p.problem}`) }); await saveTuning(record); // IndexedDB; JSON.stringify(record) is a file to keep or to share const
 * session = await Session.load('/model.onnx', { device: 'webgpu', tuning: record });
 * ```
 */
import { adapterName, checkTable, type TuningTable } from '../3-plan/tuning.ts';
import { capsOf, requestGpuDevice } from '../4-run/webgpu/device.ts';
import { fail } from '../core/errors.ts';
import type { GpuCaps } from '../core/plan.ts';
import { planModel } from '../preview.ts';
import type { ModelSource } from '../0-read/open.ts';
import { floorMs, gauge, type Peaks } from './peaks.ts';
import { keyOf, problemOf, type Problem } from './problem.ts';
import { standardProblems } from './problems.ts';
import { type Measured, tuneProblem } from './search.ts';

export type { Measured } from './search.ts';
export type { Peaks } from './peaks.ts';
export type { TuningEntry, TuningTable } from '../3-plan/tuning.ts';
export { profile } from './profile.ts';
export type { Profile, ProfiledNode, ProfiledPlan, ProfileOptions } from './profile.ts';
export { profileHtml } from './profile-html.ts';
export { loadTuning, saveTuning } from './store.ts';

/** A table with everything that was measured: JSON. `Session.load` takes it as `tuning`. */
export interface TuningRecord extends TuningTable {
  /** Version of the harness that measured; records of others are not gone on with. */
  readonly harness: number;
  readonly device: {
    readonly description: string;
    readonly software: boolean;
    readonly features: readonly string[];
    readonly clock: 'timestamps' | 'wall';
  };
  /** Copy bandwidth and multiply-add rate of the device, measured. */
  readonly peaks: Peaks;
  readonly entries: readonly Measured[];
}

export interface TuneProgress {
  /** Problems that are done, and all of them. */
  readonly done: number;
  readonly of: number;
  /** The one being tuned: operator, types and sizes. */
  readonly problem: string;
  /** Seconds spent. */
  readonly seconds: number;
  /** All that is known so far: a state that `resume` goes on from. */
  readonly record: TuningRecord;
}

export interface TuneOptions {
  /** The device to tune; default: the one that sessions share. */
  readonly device?: GPUDevice;
  /** Time for everything, in seconds; problems that it does not suffice for stay open. Default 120. */
  readonly seconds?: number;
  /** Goes on with a record of the same adapter and harness: what is in it is not measured again. */
  readonly resume?: TuningRecord;
  /** Only problems whose name (operator, types, sizes) this takes. */
  readonly only?: (problem: string) => boolean;
  /** Called before each problem, and at the end. */
  readonly onProgress?: (progress: TuneProgress) => void;
  readonly signal?: AbortSignal;
}

export const HARNESS = 1;

/**
 * Tunes the kernels that a model's plan uses, the dearest first. `dims`: sizes of free dims (others are 1). Where
 * shapes depend on data, the nodes behind are left out.
 * @throws what `Session.load` throws; aborted
 */
export async function tuneModel(
  source: ModelSource,
  options: TuneOptions & { readonly dims?: Readonly<Record<string, number>> } = {},
): Promise<TuningRecord> {
  const gpu = await opened(options.device);
  const found = new Map<string, Problem>();
  await planModel(
    source,
    { caps: gpu.caps, dims: options.dims ?? {} },
    {
      freeDims: 1,
      placed: ({ op }, call) => {
        const problem = problemOf(op, call);
        const before = found.get(keyOf(problem));
        found.set(keyOf(problem), before ? { ...before, count: before.count + 1 } : problem);
      },
    },
  );
  return tune(gpu, [...found.values()], options);
}

/** Tunes the standard set of problems: shapes of common models. @throws device_unavailable, aborted */
export async function tuneStandard(options: TuneOptions = {}): Promise<TuningRecord> {
  const gpu = await opened(options.device);
  return tune(gpu, standardProblems(gpu.caps), options);
}

interface Opened {
  readonly device: GPUDevice;
  readonly caps: GpuCaps;
}
const opened = async (device: GPUDevice | undefined): Promise<Opened> =>
  device ? { device, caps: capsOf(device) } : requestGpuDevice({ allowSoftware: true });

async function tune(
  { device, caps }: Opened,
  problems: readonly Problem[],
  { seconds = 120, resume, only = () => true, onProgress, signal }: TuneOptions,
): Promise<TuningRecord> {
  const started = performance.now();
  const measured = await gauge(device, caps);
  try {
    const info = device.adapterInfo as GPUAdapterInfo | undefined;
    let record: TuningRecord = {
      format: 1,
      harness: HARNESS,
      adapter: adapterName(caps),
      device: {
        description: [info?.device, info?.description].filter(Boolean).join(' '),
        software: caps.software,
        features: caps.features,
        clock: measured.timer.kind,
      },
      peaks: measured.peaks,
      entries: [],
    };
    if (resume !== undefined) record = { ...record, entries: goOn(resume, record) };
    const known = new Set(record.entries.map((e) => keyOf({ work: { ...e } })));
    const share = (p: Problem): number => p.count * floorMs({ flops: p.work.flops, bytes: p.bytes }, measured.peaks);
    const open = problems.filter((p) => !known.has(keyOf(p)) && only(keyOf(p))).sort((a, b) => share(b) - share(a));
    const until = started + 1000 * seconds;
    const tell = (done: number, problem: string): void =>
      onProgress?.({ done, of: open.length, problem, seconds: (performance.now() - started) / 1000, record });
    let done = 0;
    for (const problem of open) {
      const now = performance.now();
      if (now > until) break;
      tell(done, keyOf(problem));
      // Twice an even share: most problems have few variants and need less.
      const entry = await tuneProblem(
        { device, caps, gauge: measured },
        problem,
        Math.min(until, now + (2 * (until - now)) / (open.length - done)),
        signal,
      );
      if (entry !== null && entry !== 'open') record = { ...record, entries: [...record.entries, entry] };
      done++;
    }
    tell(done, '');
    return record;
  } finally {
    measured.timer.destroy();
  }
}

function goOn(from: TuningRecord, to: TuningRecord): readonly Measured[] {
  checkTable(from);
  if (from.adapter !== to.adapter)
    fail('option_invalid', `the record to go on with is of ${from.adapter}; this device is ${to.adapter}`);
  return from.harness === to.harness ? from.entries : [];
}

/**
 * The record of both: where they answer the same, `newer` does. @throws option_invalid unless they are of one adapter
 */
export function mergeTuning(older: TuningRecord, newer: TuningRecord): TuningRecord {
  goOn(older, newer);
  const fresh = new Set(newer.entries.map((e) => keyOf({ work: e })));
  return { ...newer, entries: [...older.entries.filter((e) => !fresh.has(keyOf({ work: e }))), ...newer.entries] };
}

/** What a planner needs of a record, and no more: for shipping. */
export const compactTuning = ({ adapter, entries }: TuningRecord): TuningTable => ({
  format: 1,
  adapter,
  entries: entries.map(({ group, sizes, kernel, params }) => ({
    group,
    sizes,
    kernel,
    ...(params && Object.keys(params).length > 0 ? { params } : {}),
  })),
});
