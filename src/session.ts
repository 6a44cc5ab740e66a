/** The table of contents: parse -> normalize -> (specialize -> fuse -> plan -> instantiate, once per set of dims) -> run. */
import { type Definitions, definitionsFor, equip } from '../kernels/operators.ts';
import { packers } from '../kernels/pack.ts';
import { type Op, refCall } from '../kernels/define.ts';
import { parseModel, type Model } from './1-parse/model.ts';
import { MAP } from './2-optimize/fuse.ts';
import { expandGradients } from './2-optimize/gradient.ts';
import { normalize } from './2-optimize/normalize.ts';
import { allowed, allowedPasses, passes } from './2-optimize/passes/index.ts';
import { type Exactness, rewrite, type Trace } from './2-optimize/rewrite.ts';
import { printPlan } from './3-plan/print.ts';
import type { TuningTable } from './3-plan/tuning.ts';
import { type Backend, type Held, hostHeld, type HostWork } from './4-run/executable.ts';
import { fail, SardonyxError } from './core/errors.ts';
import type { DType } from './core/dtype.ts';
import { type Constant, type Dim, type Fact, type Graph, operatorsIn, type ValueId } from './core/graph.ts';
import { BASE_GPU, BASE_WASM, type Caps, type HostStep, type Plan } from './core/plan.ts';
import { entriesOf, isTensor, sizeOf, type Tensor, type Value, zeros } from './core/tensor.ts';
import { type Device, kernelsFor, openDevice } from './devices/index.ts';
import { draft, makeRunner, type Planning, type Runner, segmentRequest } from './runner.ts';
import { openModel, type ModelSource } from './source.ts';

export interface SessionOptions {
  /** Where to run; 'auto' takes a hardware GPU, else WASM. Default 'auto'. */
  readonly device?: Device;
  /** Sizes of the free dims, by name, or "INPUT.AXIS" for one without: the plan for them is made at load. Other dims may still be run. */
  readonly dims?: Readonly<Record<string, number>>;
  /** Throw, with the list of nodes, rather than leave the device. Nodes that only compute shapes do not count. Default false. */
  readonly strict?: boolean;
  /** External data by the name that the model uses; default: files beside the model's path or URL. */
  readonly externalData?: Readonly<Record<string, Uint8Array>>;
  /** Merge operators and rewrite the graph; a list allows only rewrites of these kinds. Default true: 'exact' and 'reassociates'. */
  readonly optimize?: boolean | readonly Exactness[];
  /** Called with every rewrite of the graph. */
  readonly trace?: (t: Trace) => void;
  /** Seed of random operators. Default 0. */
  readonly seed?: number;
  /** Measured choices of GPU kernels (see `sardonyx/tune`), asked before the table that ships for the adapter; false: neither. A table for another adapter is passed over. */
  readonly tuning?: TuningTable | readonly TuningTable[] | false;
  /** Stops loading between its stages. */
  readonly signal?: AbortSignal;
}

/** What tools put between a session and its device. */
export interface SessionTools {
  /** Stands in for the backend. */
  readonly wrap?: (backend: Backend) => Backend;
  readonly placed?: NonNullable<Planning['placed']>;
  /** Instead of the tables. */
  readonly tuning?: NonNullable<Planning['tuning']>;
}

export interface RunOptions { readonly signal?: AbortSignal }

/** An input or output as the model declares it; `shape` null when even the rank is unknown. */
export interface Port { readonly name: string; readonly dtype: DType | null; readonly shape: readonly Dim[] | null }

export type Feeds = Readonly<Record<string, Value>>;
export type Results = Record<string, Value>;

/** A model ready to run. Overlapping `run` calls give what serial ones would. */
export class Session implements AsyncDisposable {
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly device: 'webgpu' | 'wasm' | 'reference';
  readonly #graph: Graph;
  readonly #backend: Backend;
  readonly #runner: Runner;
  readonly #plans: Plan[] = [];
  readonly #name: string;
  #queue: Promise<unknown> = Promise.resolve();
  #released = false;

  private constructor(model: Model, name: string, backend: Backend, ops: ReadonlyMap<string, Op>, options: SessionOptions, planning: Planning) {
    this.#graph = model.graph;
    this.#backend = backend;
    this.#name = name;
    this.device = backend.caps.kind;
    this.inputs = model.graph.inputs.map((v) => portOf(model.graph, v));
    this.outputs = model.graph.outputs.map((v) => portOf(model.graph, v));
    const random = mulberry32(options.seed ?? 0);
    this.#runner = makeRunner(model.graph, {
      model: name, ops, backend, work: hostWork(ops, random), random, allow: allowed(options.optimize), ...(options.trace ? { trace: options.trace } : {}), planning,
      planned: (plan) => {
        if (options.strict) refuseLeaving(plan, name);
        this.#plans.push(plan);
        if (this.#plans.length > 64) this.#plans.shift();
      },
    });
  }

  /**
   * Reads a model and makes it ready for a device.
   * @throws model_malformed and its like, op_unsupported, external_data_missing, device_unavailable, dimension_unbound, aborted, option_invalid
   */
  static async load(source: ModelSource, options: SessionOptions = {}, tools: SessionTools = {}): Promise<Session> {
    const goOn = (): void => { if (options.signal?.aborted) fail('aborted', 'loading was aborted'); };
    goOn();
    const { model, name, definitions } = await readModel(source, options);
    goOn();
    const { backend: opened, kernels } = await openDevice(options.device ?? 'auto');
    const backend = tools.wrap?.(opened) ?? opened;
    const { tuning = await tuningOf(backend.caps, options.tuning), placed } = tools;
    const session = new Session(model, name, backend, equip(definitions, kernels), options, { ...(tuning ? { tuning } : {}), ...(placed ? { placed } : {}) });
    try {
      goOn();
      if (options.dims !== undefined) await session.#runner.prepare(inputFacts(model.graph, options.dims));
      goOn();
      return session;
    } catch (e) {
      await session.release();
      throw e instanceof SardonyxError && !e.path.some((p) => p.startsWith('model ')) ? e.within(`model ${name}`) : e;
    }
  }

  /** Plans made so far, oldest first: one for each set of dims and each place where shapes depended on data. */
  get plans(): readonly Plan[] { return this.#plans; }
  /** The newest plan; before the first run of a model with free dims there is none. */
  get plan(): Plan | undefined { return this.#plans.at(-1); }
  /** Device objects made so far. A steady run makes none. */
  get made(): Readonly<Record<string, number>> { return this.#backend.made; }
  /** Bytes of device memory held now. */
  get bytes(): number { return this.#backend.bytes; }

  /**
   * Runs the model on `feeds`, by input name, and gives every output by name.
   * @throws input_missing, input_unknown, input_dtype, input_shape, value_invalid, aborted, session_released
   */
  run(feeds: Feeds, options: RunOptions = {}): Promise<Results> {
    if (this.#released) return Promise.reject(new SardonyxError('session_released', 'the session is released; load the model again', [`model ${this.#name}`]));
    const turn = this.#queue.then(() => this.#run(feeds, options), () => this.#run(feeds, options));
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  async #run(feeds: Feeds, { signal }: RunOptions): Promise<Results> {
    const held = new Map<ValueId, Held>();
    checkFeeds(this.#graph, this.inputs, feeds, held);
    try {
      signal?.throwIfAborted();
      const results = await this.#backend.read(await this.#runner.run(held, signal));
      return Object.fromEntries(this.outputs.map((port, i) => [port.name, results[i]!]));
    } catch (e) {
      if (signal?.aborted) throw new SardonyxError('aborted', 'the run was aborted', [`model ${this.#name}`], { cause: e });
      throw e instanceof SardonyxError && !e.path.some((p) => p.startsWith('model ')) ? e.within(`model ${this.#name}`) : e;
    }
  }

  /** Frees all device memory once running calls have ended. */
  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await this.#queue;
    this.#runner.release();
    this.#backend.release();
  }
  [Symbol.asyncDispose](): Promise<void> { return this.release(); }
}

/** Tables are for GPUs: nothing of them is loaded for other devices. */
async function tuningOf(caps: Caps, given: SessionOptions['tuning']): Promise<Planning['tuning']> {
  if (caps.kind !== 'webgpu' || given === false) return undefined;
  const { tuningFor } = await import('./3-plan/tuning.ts');
  return tuningFor(caps, ([] as TuningTable[]).concat(given ?? []));
}

async function readModel(source: ModelSource, options: Pick<SessionOptions, 'externalData' | 'optimize' | 'trace'>): Promise<{ model: Model; name: string; definitions: Definitions }> {
  const { bytes, name, external } = await openModel(source, options.externalData ?? {});
  try {
    const model = parseModel(bytes, (file, offset, length) => external(file!, offset, length));
    const definitions = await definitionsFor(operatorsIn(model.graph));
    const graph = expandGradients(normalize(model.graph, definitions));
    return { model: { ...model, graph: rewrite(graph, allowedPasses(passes, allowed(options.optimize)), definitions, options.trace) }, name, definitions };
  } catch (e) {
    throw e instanceof SardonyxError ? e.within(`model ${name}`) : e;
  }
}

/**
 * The plan of a model at these dims, made without any device: where every node would run, what it copies, what memory it needs.
 * Where shapes depend on data it covers the model up to there, and `complete` is false.
 */
export async function planModel(source: ModelSource, options: { readonly device?: 'webgpu' | 'wasm' | 'reference'; readonly dims?: Readonly<Record<string, number>>; readonly caps?: Caps; readonly optimize?: boolean | readonly Exactness[]; readonly trace?: (t: Trace) => void; readonly externalData?: Readonly<Record<string, Uint8Array>> } = {}):
  Promise<{ plan: Plan; constants: readonly Constant[]; complete: boolean; graph: Graph }> {
  const { model, name, definitions } = await readModel(source, options);
  const { graph } = model;
  const caps = options.caps ?? (options.device === 'wasm' ? BASE_WASM : options.device === 'reference' ? { kind: 'reference' as const } : BASE_GPU);
  const ops = equip(definitions, await kernelsFor(caps.kind));
  const facts = inputFacts(graph, options.dims ?? {});
  const request = segmentRequest({ nodes: graph.nodes, values: graph.values, facts, opaque: new Set(), outputs: graph.outputs }, ops, allowed(options.optimize), caps, options.trace);
  const { plan, constants } = draft(request, name, ops, caps);
  return { plan, constants, complete: request.specialized.deferred.length === 0, graph };
}

/** The facts of the inputs at these dims. @throws dimension_unbound */
const inputFacts = (graph: Graph, dims: Readonly<Record<string, number>>): Map<ValueId, Fact> => new Map(graph.inputs.map((v) => [v, bind(portOf(graph, v), dims)]));

function bind(port: Port, dims: Readonly<Record<string, number>>): Fact {
  if (port.dtype === null || port.shape === null) fail('dimension_unbound', `input ${port.name} declares no ${port.dtype === null ? 'tensor type' : 'rank'}; run the session with a value to plan it`);
  const shape = port.shape.map((d, i) => {
    const value = typeof d === 'number' ? d : Object.hasOwn(dims, d ?? `${port.name}.${i}`) ? dims[d ?? `${port.name}.${i}`] : undefined;
    return value ?? fail('dimension_unbound', `dim ${i} of input ${port.name} is free; pass dims: { ${JSON.stringify(d ?? `${port.name}.${i}`)}: … }`);
  });
  return { dtype: port.dtype, shape };
}

function portOf(graph: Graph, v: ValueId): Port {
  const { name, declared } = graph.values[v]!;
  return { name, dtype: declared?.dtype ?? null, shape: declared?.shape ?? null };
}

function checkFeeds(graph: Graph, ports: readonly Port[], feeds: Feeds, into: Map<ValueId, Held>): void {
  const known = new Set(ports.map((p) => p.name));
  const names = (): string => ports.map((p) => `${p.name}: ${p.dtype ?? 'any'}[${p.shape?.map((d) => d ?? '?') ?? '…'}]`).join(', ');
  for (const name of Object.keys(feeds)) if (!known.has(name)) fail('input_unknown', `the model has no input ${JSON.stringify(name)}; it has ${names()}`);
  ports.forEach((port, i) => {
    const value = Object.hasOwn(feeds, port.name) ? feeds[port.name] : undefined;
    if (value === undefined) fail('input_missing', `input ${JSON.stringify(port.name)} is not given; the model has ${names()}`);
    if (isTensor(value)) checkTensor(port, value);
    else if (typeof value !== 'object' || !('kind' in value)) fail('input_dtype', `input ${port.name} is no tensor; make one with tensor(dtype, shape, data)`);
    // Recorded feeds and onnxruntime's users give scalars as [1].
    into.set(graph.inputs[i]!, hostHeld(isTensor(value) && port.shape?.length === 0 ? { ...value, shape: [] } : value));
  });
}

function checkTensor(port: Port, value: Extract<Value, { dtype: DType }>): void {
  if (port.dtype !== null && value.dtype !== port.dtype) fail('input_dtype', `input ${port.name} is ${value.dtype}; the model takes ${port.dtype}`);
  const expected = (zeros(value.dtype, []).data as { constructor: unknown }).constructor;
  if ((value.data as { constructor: unknown } | null | undefined)?.constructor !== expected) fail('input_dtype', `input ${port.name} of type ${value.dtype} must hold a ${(expected as { name: string }).name}`);
  if (!Array.isArray(value.shape) || value.shape.some((d) => !Number.isInteger(d) || d < 0)) fail('input_shape', `input ${port.name} has shape [${value.shape}], which is no shape`);
  const need = entriesOf(value.dtype, value.shape);
  if (value.data.length !== need) fail('input_shape', `input ${port.name} of shape [${value.shape}] needs ${need} entries and has ${value.data.length}`);
  if (port.shape === null) return;
  const wanted = `[${port.shape.map((d) => d ?? '?')}]`;
  if (port.shape.length === 0 && sizeOf(value.shape) === 1) return;
  if (value.shape.length !== port.shape.length) fail('input_shape', `input ${port.name} has shape [${value.shape}]; the model takes ${wanted}`);
  if (port.shape.some((d, i) => typeof d === 'number' && d !== value.shape[i])) fail('input_shape', `input ${port.name} has shape [${value.shape}]; the model takes ${wanted}`);
}

function refuseLeaving(plan: Plan, model: string): void {
  const left = plan.steps.flatMap((s) => (s.run === 'host' && s.why !== 'shape' && plan.device !== 'reference' ? [`${s.node} (${s.op}): ${s.why}`] : [])).concat(plan.device === 'reference' ? [] : plan.after.map((n) => `${n.node} (${n.op}): its shape depends on data`));
  if (left.length > 0) fail('not_on_device', `${left.length} node${left.length > 1 ? 's' : ''} would leave ${plan.device}: ${left.join('; ')}`, [`model ${model}`]);
}

function hostWork(ops: ReadonlyMap<string, Op>, random: () => number): HostWork {
  return {
    run: (step, inputs) => {
      const op = ops.get(step.op)!;
      if (typeof step.attrs.epilogue !== 'string') return op.reference(refCall(inputs, step.attrs, step.outputs.length, undefined, random));
      return runWithEpilogue(ops, op, step, inputs);
    },
    pack: (constant, pack) => (packers.get(pack.name) ?? fail('internal', `no packer ${pack.name}`))(constant, pack.args),
  };
}

/** A fused node whose kernel is missing: the operator, then its epilogue as a map over the result. */
async function runWithEpilogue(ops: ReadonlyMap<string, Op>, op: Op, step: HostStep, inputs: readonly (Value | null)[]): Promise<readonly (Value | null)[]> {
  const from = step.attrs.operandsFrom as number;
  const [result] = await op.reference(refCall(inputs.slice(0, from), step.attrs, 1));
  const { dtype, shape } = result as Tensor;
  return ops.get(MAP)!.reference(refCall([result!, ...inputs.slice(from)], { expr: step.attrs.epilogue, dtype, shape }, 1));
}

/** Tommy Ettinger's 32-bit generator: small, and good enough for noise. */
function mulberry32(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export { printPlan };
