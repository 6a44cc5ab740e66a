/** Where the time and the memory of a model go: each step measured by itself, in runs whose data are right. */
import { printPlan, summarize } from '../3-plan/print.ts';
import { capsOf } from '../4-run/webgpu/device.ts';
import type { Backend, Executable, Probe } from '../4-run/executable.ts';
import { fail } from '../core/errors.ts';
import type { Plan, Step } from '../core/plan.ts';
import { byteLength } from '../core/tensor.ts';
import { type Feeds, Session, type SessionOptions } from '../session.ts';
import type { ModelSource } from '../0-read/open.ts';
import { floorMs, gauge, type Gauge, type Peaks } from './peaks.ts';
import { arithmetic, copying, rateOf } from './peaks-wasm.ts';
import { problemOf } from './problem.ts';
import { median } from './timer.ts';

/** One node: its steps together. Times are medians over the measured runs, in milliseconds. */
export interface ProfiledNode {
  /** Index of its plan in `plans`, and of its first step there. */
  readonly plan: number;
  readonly step: number;
  readonly node: string;
  readonly op: string;
  /**
   * Kernels of its dispatches, "host" for work in JavaScript, "upload" and "download" for copies between host and
   * device.
   */
  readonly kernels: readonly string[];
  readonly ms: number;
  /**
   * Arithmetic and bytes that the node cannot do without, and the time that they take at the device's peaks; null for
   * work on the host.
   */
  readonly flops: number | null;
  readonly bytes: number | null;
  readonly floorMs: number | null;
  /** floorMs / ms: how much of what the device could do is done. */
  readonly roofline: number | null;
}

/** A value in memory of the device: where, and from the step that makes it to the last that reads it. */
export interface Block {
  readonly name: string;
  readonly at: number;
  readonly bytes: number;
  readonly from: number;
  readonly to: number;
}
export interface ProfiledPlan {
  readonly text: string;
  readonly steps: number;
  /** Of WASM: calls, and modules. */
  readonly dispatches: number;
  readonly pipelines: number;
  readonly weightBytes: number;
  readonly copiedBytes: number;
  readonly peakBytes: number;
  readonly lowerBoundBytes: number;
  readonly slabs: readonly number[];
  readonly blocks: readonly Block[];
}

/** A profile: JSON. `profileHtml` draws it. */
export interface Profile {
  readonly model: string;
  readonly device: 'webgpu' | 'wasm' | 'reference';
  readonly adapter: string;
  readonly clock: 'timestamps' | 'wall' | 'host';
  /** How the times came about, for people. */
  readonly method: string;
  readonly peaks: Peaks;
  readonly threads: number;
  readonly loadMs: number;
  readonly firstMs: number;
  /** A run as users have it, inputs copied in and outputs out. */
  readonly runMs: number;
  /** Sum of the nodes' times. */
  readonly nodesMs: number;
  /**
   * runMs less nodesMs, if positive: copies of inputs and outputs, submitting, waiting. Negative where steps by
   * themselves are slower than in a row.
   */
  readonly gapMs: number;
  readonly runs: number;
  readonly deviceBytes: number;
  readonly nodes: readonly ProfiledNode[];
  readonly plans: readonly ProfiledPlan[];
}

export interface ProfileOptions
  extends Pick<SessionOptions, 'device' | 'dims' | 'externalData' | 'optimize' | 'threads' | 'tuning'> {
  /** Measured runs; the median of each step counts. Default 5. */
  readonly runs?: number;
  readonly onProgress?: (what: string) => void;
  readonly signal?: AbortSignal;
}

interface Recorded {
  readonly plan: Plan;
  readonly work: ReadonlyMap<string, { readonly flops: number; readonly bytes: number }>;
  readonly times: number[][];
  readonly repeats: number[];
}

/**
 * Loads a model, runs it on `feeds` (or on what a function makes for the session), and measures. On a GPU by its
 * timestamps, a pass for each dispatch; where it has none, each dispatch is repeated and waited for.
 * @throws what `Session.load` and `run` throw
 */
export async function profile(
  source: ModelSource,
  feeds: Feeds | ((session: Session) => Feeds | Promise<Feeds>),
  options: ProfileOptions = {},
): Promise<Profile> {
  const { runs = 5, onProgress = () => undefined, signal, ...loading } = options;
  const recorded: Recorded[] = [];
  let placed = new Map<string, { flops: number; bytes: number }>();
  let measuring = false;
  let gauged: Gauge | null = null;
  const goOn = (): void => {
    if (signal?.aborted) fail('aborted', 'profiling was aborted');
  };
  const wrap = (inner: Backend): Backend =>
    Object.create(inner, {
      instantiate: {
        value: async (...args: Parameters<Backend['instantiate']>): Promise<Executable> => {
          const executable = await inner.instantiate(...args);
          const one: Recorded = {
            plan: args[0],
            work: placed,
            times: args[0].steps.map(() => []),
            repeats: args[0].steps.map(() => 1),
          };
          placed = new Map();
          recorded.push(one);
          return {
            run: (inputs, stop) => executable.run(inputs, stop, measuring ? probeOf(one, gauged) : undefined),
            destroy: () => executable.destroy(),
          };
        },
      },
    }) as Backend;

  onProgress('loading');
  let from = performance.now();
  const session = await Session.load(
    source,
    { ...loading, worker: false, ...(signal ? { signal } : {}) },
    {
      wrap,
      placed: ({ name, op }, call) => {
        const { work, bytes } = problemOf(op, call);
        placed.set(name, { flops: work.flops, bytes });
      },
    },
  );
  try {
    const loadMs = performance.now() - from;
    const given = typeof feeds === 'function' ? await feeds(session) : feeds;
    const timed = async (): Promise<number> => {
      goOn();
      from = performance.now();
      await session.run(given);
      return performance.now() - from;
    };
    onProgress('first run');
    const firstMs = await timed();
    const whole: number[] = [];
    await timed();
    for (let i = 0; i < Math.max(3, runs); i++) {
      onProgress(`run ${i + 1} of ${Math.max(3, runs)}`);
      whole.push(await timed());
    }
    onProgress('measuring the device');
    const gpu = session.gpuDevice;
    if (gpu) gauged = await gauge(gpu, capsOf(gpu));
    const threads = session.engine?.threads ?? 1;
    const before = gauged?.peaks ?? cpuPeaks(threads);
    measuring = true;
    for (let i = 0; i < runs; i++) {
      onProgress(`measured run ${i + 1} of ${runs}`);
      await timed();
    }
    measuring = false;
    const after = gauged ? before : cpuPeaks(threads); // a peak is what is reached undisturbed
    const peaks = { gflops: Math.max(before.gflops, after.gflops), copyGBs: Math.max(before.copyGBs, after.copyGBs) };
    const used = recorded.filter((r) => r.times.some((t) => t.length > 0) || r.plan.steps.length === 0);
    const nodes = used.flatMap((r, plan) => nodesOf(r, plan, peaks));
    const runMs = median(whole);
    const nodesMs = nodes.reduce((n, { ms }) => n + ms, 0);
    return {
      model: session.plans[0]?.model ?? '',
      device: session.device,
      adapter: gpu
        ? [gpu.adapterInfo?.vendor, gpu.adapterInfo?.architecture, gpu.adapterInfo?.description]
            .filter(Boolean)
            .join(' ')
        : session.device === 'wasm'
          ? `WebAssembly, ${threads} thread${threads > 1 ? 's' : ''}`
          : 'JavaScript',
      clock: gauged?.timer.kind ?? 'host',
      method: METHOD[gauged?.timer.kind ?? 'host'],
      peaks,
      threads,
      loadMs,
      firstMs,
      runMs,
      nodesMs,
      gapMs: runMs - nodesMs,
      runs,
      deviceBytes: session.bytes,
      nodes,
      plans: used.map((r) => planOf(r.plan)),
    };
  } finally {
    gauged?.timer.destroy();
    await session.release();
  }
}

const METHOD = {
  timestamps: 'GPU timestamps around each dispatch, in a pass of its own',
  wall: 'this device has no timestamps: each dispatch was repeated by itself and waited for, less an empty submit',
  host: 'the clock around each step',
} as const;

const cpuPeaks = (threads: number): Peaks => {
  const fma = (() => {
    try {
      return rateOf(arithmetic(true));
    } catch {
      return 0;
    }
  })(); // relaxed SIMD, where the engine has it
  return { gflops: threads * Math.max(fma, rateOf(arithmetic(false))), copyGBs: rateOf(copying(1 << 24)) };
};

/** Times each step of a run; how often a dispatch is repeated follows from what it took in the run before. */
function probeOf({ times, repeats }: Recorded, gauged: Gauge | null): Probe {
  return {
    async host(step, go) {
      const from = performance.now();
      await go();
      times[step]!.push(performance.now() - from);
    },
    async gpu(step, go) {
      const { timer } = gauged!;
      const ms = await timer.time(go, repeats[step]!);
      repeats[step] = timer.repeatsFor(ms);
      times[step]!.push(ms);
    },
  };
}

const kernelOf = (s: Step): string => ('kernel' in s ? s.kernel : s.run);

function nodesOf({ plan, work, times }: Recorded, index: number, peaks: Peaks): ProfiledNode[] {
  const found = new Map<
    string,
    { step: number; node: string; op: string; kernels: string[]; ms: number; host: boolean }
  >();
  plan.steps.forEach((s, step) => {
    const copy = 'from' in s;
    const node = copy ? plan.values[s.from]!.name : s.node;
    const key = copy ? `${s.run} ${step}` : `${node} ${s.run}`;
    const ms = times[step]!.length > 0 ? median(times[step]!) : 0; // copies have no probe: they count as gaps
    const known = found.get(key);
    if (known) {
      known.ms += ms;
      known.kernels.push(kernelOf(s));
    } else
      found.set(key, {
        step,
        node,
        op: copy ? s.run : s.op,
        kernels: [kernelOf(s)],
        ms,
        host: copy || s.run === 'host',
      });
  });
  return [...found.values()].map(({ host, ...n }): ProfiledNode => {
    const done = host ? undefined : (work.get(n.node) ?? work.get(n.node.replace(/\.before$/, '')));
    const least = done ? floorMs(done, peaks) : null;
    return {
      plan: index,
      ...n,
      flops: done?.flops ?? null,
      bytes: done?.bytes ?? null,
      floorMs: least,
      roofline: least === null || n.ms === 0 ? null : least / n.ms,
    };
  });
}

function planOf(plan: Plan): ProfiledPlan {
  const { dispatches, wasmCalls, pipelines, modules, weightBytes, copiedBytes, peakBytes, lowerBoundBytes } =
    summarize(plan);
  const ends = new Map<number, { from: number; to: number }>();
  const root = (v: number): number => {
    const { home } = plan.values[v]!;
    return home.in === 'view' ? root(home.of) : v;
  };
  const touch = (v: number, step: number): void => {
    const r = root(v);
    if (plan.values[r]!.home.in !== 'slab') return;
    const known = ends.get(r);
    ends.set(r, { from: known?.from ?? step, to: step });
  };
  for (const v of plan.inputs) touch(v, 0);
  plan.steps.forEach((s, i) => {
    const values =
      s.run === 'gpu'
        ? s.bind
        : s.run === 'wasm'
          ? s.args
          : s.run === 'host'
            ? []
            : [{ value: s.from }, { value: s.to }];
    for (const b of values) if (typeof b === 'object' && 'value' in b) touch(b.value, i);
  });
  for (const v of plan.outputs) touch(v, plan.steps.length);
  let end = 0;
  const starts = plan.slabs.map((size) => (end += size) - size);
  const blocks = [...ends].map(([v, { from, to }]): Block => {
    const { name, home } = plan.values[v]! as { name: string; home: { slab: number; offset: number } };
    return { name, at: starts[home.slab]! + home.offset, bytes: byteLength(plan.values[v]!), from, to };
  });
  return {
    text: printPlan(plan),
    steps: plan.steps.length,
    dispatches: dispatches + wasmCalls,
    pipelines: pipelines + modules,
    weightBytes,
    copiedBytes,
    peakBytes,
    lowerBoundBytes,
    slabs: plan.slabs,
    blocks,
  };
}
