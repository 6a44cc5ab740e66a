/** Runs cases and compares what comes out with what is recorded. */
import { readFile } from 'node:fs/promises';
import { parseModel } from '../1-parse/model.ts';
import type { ValueType } from '../1-parse/proto.ts';
import { parseValue } from '../1-parse/values.ts';
import { fail, SardonyxError } from '../core/errors.ts';
import { isTensor, sizeOf, type Value } from '../core/tensor.ts';
import { type Plan, Session, type SessionOptions } from '../index.ts';
import type { Case, DataSet } from './cases.ts';
import { compareValues, mismatchText, type Tolerance } from './compare.ts';
import { boundShape } from './inputs.ts';

export type DeviceName = 'auto' | 'webgpu' | 'wasm' | 'reference';
export interface VerifyOptions {
  readonly device: DeviceName;
  /** A node that computes and ran elsewhere than on the device fails its case. */
  readonly strict?: boolean;
  /** Milliseconds for one case, loading included. A kernel that never yields cannot be stopped. */
  readonly timeout?: number;
  readonly rtol?: number;
  readonly atol?: number;
  readonly optimize?: boolean;
  readonly operators?: NonNullable<SessionOptions['operators']>;
}
/** Where a node ran: on the device, or on the host and why. */
export interface Placement {
  readonly node: string;
  readonly op: string;
  readonly device: 'webgpu' | 'wasm' | 'host';
  readonly why?: string;
}
export interface CaseResult {
  readonly name: string;
  readonly status: 'passed' | 'failed' | 'skipped';
  /** What is wrong, or why it is skipped. */
  readonly message?: string;
  readonly nodes: readonly Placement[];
  readonly maxAbs: number;
  readonly maxRel: number;
  readonly ms: number;
}

/** Where each node of these plans runs, once for each node. */
export function placements(plans: readonly Plan[]): Placement[] {
  const seen = new Map<string, Placement>();
  for (const plan of plans)
    for (const step of plan.steps) {
      if (!('node' in step)) continue;
      const device = step.run === 'gpu' ? 'webgpu' : step.run;
      seen.set(`${step.node}\0${device}`, {
        node: step.node,
        op: step.op,
        device,
        ...(step.why === undefined ? {} : { why: step.why }),
      });
    }
  for (const plan of plans)
    for (const { node, op } of plan.after)
      seen.set(`${node}\0host`, { node, op, device: 'host', why: 'its shape depends on data' });
  return [...seen.values()];
}

/** Nodes that compute and do not run on the plans' device. */
export const strays = (plans: readonly Plan[]): Placement[] =>
  placements(plans.filter((p) => p.device !== 'reference')).filter((p) => p.device === 'host' && p.why !== 'shape');

/** An error in one line, its place last: ours say it themselves, others by their stack. */
export function errorText(e: unknown): string {
  if (!(e instanceof Error)) return String(e);
  const frame = e instanceof SardonyxError ? '' : (/\n\s*(at .*)/.exec(e.stack ?? '')?.[1] ?? '');
  return [
    ...(e instanceof SardonyxError ? [] : [`${e.name}:`]),
    ...e.message.split('\n').map((line) => line.trim()),
    frame,
  ]
    .filter(Boolean)
    .join(' ');
}

/**
 * Runs one case. Its failures are in the result; that the device is missing is thrown, since no case can pass then.
 * @throws device_unavailable
 */
export async function verifyCase(one: Case, options: VerifyOptions): Promise<CaseResult> {
  const started = performance.now();
  const seen = { nodes: [] as Placement[], maxAbs: 0, maxRel: 0 };
  const stop = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<string>((resolve) => {
    if (options.timeout === undefined) return;
    timer = setTimeout(() => {
      stop.abort();
      resolve(`took longer than ${options.timeout} ms`);
    }, options.timeout);
  });
  let message: string | null;
  try {
    message = await Promise.race([late, attempt(one, options, seen, stop.signal)]);
  } catch (e) {
    if (e instanceof SardonyxError && e.code === 'device_unavailable') throw e;
    message = errorText(e);
  } finally {
    clearTimeout(timer);
  }
  return {
    name: one.name,
    status: message === null ? 'passed' : 'failed',
    ...(message === null ? {} : { message }),
    ...seen,
    ms: performance.now() - started,
  };
}

async function attempt(
  one: Case,
  options: VerifyOptions,
  seen: { nodes: Placement[]; maxAbs: number; maxRel: number },
  signal: AbortSignal,
): Promise<string | null> {
  if (one.sets.length === 0) return 'the case has no test_data_set_N';
  const types = parseModel(await readFile(one.model));
  const session = await Session.load(one.model, {
    device: options.device,
    signal,
    ...(options.optimize === undefined ? {} : { optimize: options.optimize }),
    ...(options.operators ? { operators: options.operators } : {}),
  });
  try {
    const wrong: string[] = [];
    for (const set of one.sets) {
      const problem = await runSet(session, set, types, toleranceOf(one, options), seen, signal);
      if (problem !== null) wrong.push(one.sets.length > 1 ? `${set.name}: ${problem}` : problem);
    }
    seen.nodes = placements(session.plans);
    const left = options.strict ? strays(session.plans) : [];
    if (left.length > 0)
      wrong.push(`left the device: ${left.map((p) => `${p.node} (${p.op}${p.why ? `: ${p.why}` : ''})`).join(', ')}`);
    return wrong.length > 0 ? wrong.join('; ') : null;
  } finally {
    await session.release();
  }
}

const toleranceOf = (one: Case, { rtol, atol }: VerifyOptions): Tolerance => ({
  ...one.tolerance,
  ...(rtol === undefined ? {} : { rtol }),
  ...(atol === undefined ? {} : { atol, scaled: false, integers: atol }),
});

export type Types = {
  readonly inputTypes: readonly (ValueType | null)[];
  readonly outputTypes: readonly (ValueType | null)[];
};

/** The inputs of a data set, by name. */
export async function recordedFeeds(
  session: Pick<Session, 'inputs'>,
  set: DataSet,
  types: Pick<Types, 'inputTypes'>,
): Promise<Record<string, Value>> {
  const feeds: Record<string, Value> = Object.create(null);
  for (const [i, port] of session.inputs.entries()) {
    const file = set.inputs?.[i];
    if (set.inputs === null) feeds[port.name] = countedUp(boundShape(port, {}));
    else if (file !== undefined) feeds[port.name] = await readValue(file, types.inputTypes[i]);
  }
  return feeds;
}
/** The outputs that a data set recorded, by name. */
export async function recordedResults(session: Pick<Session, 'outputs'>, set: DataSet): Promise<Record<string, Value>> {
  return Object.fromEntries(
    await Promise.all(
      set.outputs.map(async (file, i) => [session.outputs[i]!.name, await readValue(file, null)] as const),
    ),
  );
}

const readValue = async (file: string, type: ValueType | null | undefined): Promise<Value> =>
  asDeclared(parseValue(await readFile(file), type ?? null), type ?? null);

async function runSet(
  session: Session,
  set: DataSet,
  types: Types,
  tolerance: Tolerance,
  worst: { maxAbs: number; maxRel: number },
  signal: AbortSignal,
): Promise<string | null> {
  const feeds = await recordedFeeds(session, set, types);
  if (set.outputs.length === 0) return 'no outputs are recorded';
  if (set.inputs !== null && set.inputs.length > session.inputs.length)
    fail('option_invalid', `${set.inputs.length} inputs are recorded for a model with ${session.inputs.length}`);
  const results = await session.run(feeds, { signal });
  let problem: string | null = null;
  for (const [i, file] of set.outputs.entries()) {
    if (file === undefined) continue;
    const name =
      session.outputs[i]?.name ??
      fail('option_invalid', `output ${i} is recorded for a model with ${session.outputs.length}`);
    const c = compareValues(results[name]!, await readValue(file, types.outputTypes[i]), tolerance, name);
    worst.maxAbs = Math.max(worst.maxAbs, c.maxAbs);
    worst.maxRel = Math.max(worst.maxRel, c.maxRel);
    if (c.mismatch && problem === null) problem = mismatchText(c.mismatch);
  }
  return problem;
}

/** Old test data has bfloat16 as the uint16 of its bits, for want of a NumPy type. */
const asDeclared = (value: Value, type: ValueType | null): Value =>
  type?.kind === 'tensor' && type.dtype === 'bfloat16' && isTensor(value) && value.dtype === 'uint16'
    ? { ...value, dtype: 'bfloat16' }
    : value;

/** arange(n) / n, rounded to float32 as NumPy's float32 division rounds it. */
function countedUp(shape: readonly number[]): Value {
  const n = sizeOf(shape);
  return { dtype: 'float32', shape, data: Float32Array.from({ length: n }, (_, i) => Math.fround(i) / Math.fround(n)) };
}
