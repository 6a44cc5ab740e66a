import { bytesOf } from '../core/dtype.ts';
import type { Plan, PlannedValue, Step } from '../core/plan.ts';
import { sizeOf } from '../core/tensor.ts';

/**
 * One line a step, then memory. Goldens, bug reports and the README are made of this, so it changes only on purpose.
 */
export function printPlan(plan: Plan): string {
  const width = (f: (s: Step) => string): number => Math.max(4, ...plan.steps.map((s) => f(s).length));
  const node = width(nodeOf);
  const kernel = width(kernelOf);
  const value = (v: number | null): string => (v === null ? '·' : show(plan, plan.values[v]!));
  const lines = plan.steps.map((s, i) => {
    const head = `${String(i).padStart(4)}  ${s.run.padEnd(8)}  ${kernelOf(s).padEnd(kernel)}  ${nodeOf(s).padEnd(node)}  `;
    switch (s.run) {
      case 'gpu':
        return `${head}${s.bind.flatMap((b) => ('value' in b ? [value(b.value)] : 'weight' in b ? [`w${b.weight}`] : [])).join(' ')}  <${s.workgroups.join('×')}>${s.copies ? '  (left out in place)' : ''}`;
      case 'wasm':
        return `${head}${s.args.flatMap((a) => (typeof a === 'number' ? [] : 'value' in a ? [value(a.value)] : [`w${a.weight}`])).join(' ')}`;
      case 'host':
        return `${head}${s.inputs.map(value).join(' ')} -> ${s.outputs.map(value).join(' ')}${s.why ? `  (${s.why})` : ''}`;
      default:
        return `${head}${value(s.from)} -> ${value(s.to)}`;
    }
  });
  const s = summarize(plan);
  return [
    `plan of ${plan.model} on ${plan.device}: ${[`${plan.steps.length} steps`, ...WORK[plan.device](s)].join(', ')}`,
    ...lines,
    ...plan.after.map((n) => `      after     ${n.op} ${n.node}  (its shape depends on data)`),
    `slabs    ${plan.slabs.map(human).join(' + ')} = ${human(plan.peakBytes)}, lower bound ${human(plan.lowerBoundBytes)}`,
    `weights  ${human(s.weightBytes)}`,
    `copied   ${human(s.copiedBytes)} between host and ${plan.device} inside the run`,
    '',
  ].join('\n');
}

const WORK: Readonly<Record<Plan['device'], (s: Summary) => string[]>> = {
  webgpu: (s) => [`${s.dispatches} dispatches`, `${s.pipelines} pipelines`],
  wasm: (s) => [`${s.wasmCalls} calls`, `${s.modules} modules`],
  reference: () => [],
};
const nodeOf = (s: Step): string => ('node' in s ? `${s.op} ${s.node}` : '');
const kernelOf = (s: Step): string => ('kernel' in s ? s.kernel : '');

function show(plan: Plan, v: PlannedValue): string {
  const { home } = v;
  const where =
    home.in === 'slab'
      ? `@${home.slab}+${home.offset}`
      : home.in === 'view'
        ? `=${plan.values[home.of]!.name}`
        : home.in === 'weights'
          ? `@w${home.weight}`
          : `@${home.in}`;
  return `${v.name}:${v.dtype}[${v.shape.join('×')}]${where}`;
}

const human = (n: number): string =>
  n < 10240 ? `${n} B` : n < 10 * 2 ** 20 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / 2 ** 20).toFixed(1)} MiB`;

/** Figures of a plan: what `inspect` shows and tests track. */
export interface Summary {
  readonly dispatches: number;
  readonly pipelines: number;
  readonly wasmCalls: number;
  /** WASM modules. */
  readonly modules: number;
  readonly hostSteps: number;
  readonly weightBytes: number;
  readonly copiedBytes: number;
  readonly peakBytes: number;
  readonly lowerBoundBytes: number;
}

export function summarize(plan: Plan): Summary {
  const count = (run: Step['run']): number => plan.steps.filter((s) => s.run === run).length;
  const bytes = (v: number): number => bytesOf(plan.values[v]!.dtype, sizeOf(plan.values[v]!.shape));
  return {
    dispatches: count('gpu'),
    pipelines: plan.shaders.length,
    wasmCalls: count('wasm'),
    modules: plan.modules.length,
    hostSteps: count('host'),
    weightBytes: plan.weights.reduce((n, w) => n + w.bytes, 0),
    copiedBytes: plan.steps.reduce((n, s) => n + (s.run === 'upload' || s.run === 'download' ? bytes(s.to) : 0), 0),
    peakBytes: plan.peakBytes,
    lowerBoundBytes: plan.lowerBoundBytes,
  };
}
