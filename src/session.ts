/**
 * The table of contents: parse -> normalize -> (specialize -> fuse -> plan -> instantiate, once per set of dims) ->
 * run.
 */
import { equip } from '../kernels/operators.ts';
import type { SetName } from '../kernels/sets.ts';
import { goOn } from './0-read/bytes.ts';
import type { ModelSource } from './0-read/open.ts';
import { leaving } from './3-plan/leaving.ts';
import type { TuningTable } from './3-plan/tuning.ts';
import { type Backend, type EngineState, type Held, hostHeld } from './4-run/executable.ts';
import { begin } from './4-run/turns.ts';
import { fail, SardonyxError, within } from './core/errors.ts';
import type { Graph, ValueId } from './core/graph.ts';
import type { Plan } from './core/plan.ts';
import { type GpuTensor, isGpuTensor, isTensor, type Value } from './core/tensor.ts';
import { type Device, kernelsFor, openDevice } from './devices/index.ts';
import { type GraphOptions, loadGraph, unlessAborted } from './load.ts';
import { makeRunner, type Planning, type Runner } from './runner.ts';
import { hostWork, mulberry32, type Random } from './host-work.ts';
import { checkShape, checkTensor, inputFacts, isBound, type Port, portOf } from './feeds.ts';
import type { Places } from './places.ts';

export interface SessionOptions extends GraphOptions {
  /** Where to run; 'auto' takes a hardware GPU, else WASM. Default 'auto'. */
  readonly device?: Device;
  /**
   * Sizes of the free dims, by name, or "INPUT.AXIS" for one without: the plan for them is made at load, and the
   * weights are fetched. Other dims may still be run. Several sets are planned and compiled each: of a decoder one for
   * the prompt and one for the tokens that follow, so that no length makes a pipeline later.
   */
  readonly dims?: Dims | readonly Dims[];
  /**
   * Throw, with the list of nodes, rather than leave the device. Nodes that only compute shapes do not count. Default
   * false.
   */
  readonly strict?: boolean;
  /**
   * Threads of the CPU path. Default: half of the machine's, 4 at most; 1 in pages that are not cross-origin isolated.
   * Results do not depend on it.
   */
  readonly threads?: number;
  /** Run the CPU path in a worker, so that the caller's thread stays free. Default: in pages only. */
  readonly worker?: boolean;
  /** Seed of random operators. Default 0. */
  readonly seed?: number;
  /**
   * Measured choices of GPU kernels (see `sardonyx/tune`), asked before the table that ships for the adapter; false:
   * neither. A table for another adapter is passed over.
   */
  readonly tuning?: TuningTable | readonly TuningTable[] | false;
  /**
   * On a GPU: milliseconds of its time to submit at once, so that pages draw and other sessions run in between; 0: each
   * plan whole. Default 8 in browsers, 0 in Node.
   */
  readonly slice?: number;
  /** Where results go when a run does not say. The type of `run` knows only of its own option. Default 'cpu'. */
  readonly outputs?: RunOptions['outputs'];
}

export type Dims = Readonly<Record<string, number>>;

/** What tools put between a session and its device. */
export interface SessionTools {
  /** Stands in for the backend. */
  readonly wrap?: (backend: Backend) => Backend;
  readonly placed?: NonNullable<Planning['placed']>;
  /** Changes the graph as it was parsed. */
  readonly edit?: (parsed: Graph) => Graph;
  /** Instead of the tables. */
  readonly tuning?: NonNullable<Planning['tuning']>;
}

export interface RunOptions {
  /**
   * Rejects the run, and stops it: between its steps, on a GPU between slices of some milliseconds. The session stays
   * usable.
   */
  readonly signal?: AbortSignal;
  /**
   * Where results go, all or by name, of a WebGPU session: 'gpu' leaves them on the device as a `GpuTensor`; a tensor
   * of the caller's is written. That may be one that is fed, too: of a cache only what is new is then written, where
   * the operator allows it (GroupQueryAttention whose past is as long as its present, TensorScatter, ScatterND,
   * ScatterElements), and else it is copied when all is done. After a run that fails its contents are unknown. Default:
   * the session's `outputs`.
   */
  readonly outputs?: 'cpu' | 'gpu' | Readonly<Record<string, 'cpu' | 'gpu' | GpuTensor>>;
}

export type Feeds = Readonly<Record<string, Value | GpuTensor>>;
export type Results = Record<string, Value>;

/** A device, and what runs the graph on it. */
interface Live {
  readonly backend: Backend;
  readonly runner: Runner;
  lost: boolean;
}

/** A model ready to run. Overlapping `run` calls give what serial ones would. */
export class Session implements AsyncDisposable {
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly #graph: Graph;
  readonly #name: string;
  /** Opens the device anew, with nothing planned. */
  readonly #open: () => Promise<Live>;
  readonly #random: Random;
  readonly #plans: Plan[];
  readonly #places: Places;
  #live: Live;
  #queue: Promise<unknown> = Promise.resolve();
  #released = false;

  private constructor(
    graph: Graph,
    name: string,
    live: Live,
    open: () => Promise<Live>,
    random: Random,
    plans: Plan[],
    places: RunOptions['outputs'] = 'cpu',
  ) {
    this.#graph = graph;
    this.#name = name;
    this.#live = live;
    this.#open = open;
    this.#random = random;
    this.#plans = plans;
    this.#places = places;
    this.inputs = graph.inputs.map((v) => portOf(graph, v));
    this.outputs = graph.outputs.map((v) => portOf(graph, v));
  }

  /**
   * Reads a model and makes it ready for a device. When all dims of its inputs are known, from the model or from
   * `dims`, it is planned, compiled, and its weights are on the device; otherwise the first run does that. Files and
   * Blobs must stay as they are while the session lives: large weights are read from them when a plan wants them.
   * @throws source_failed, integrity_mismatch, model_malformed and its like, op_unsupported, external_data_missing,
   * device_unavailable, dimension_unbound, aborted, option_invalid
   */
  static async load(source: ModelSource, options: SessionOptions = {}, tools: SessionTools = {}): Promise<Session> {
    goOn(options);
    const first = openDevice(options.device ?? 'auto', options);
    first.catch(() => undefined); // reported where it is waited for
    // Kernels come while definitions do; where they cannot, it is said when they are asked for.
    const needs = (sets: readonly SetName[]): void => {
      const { device } = options;
      const asked =
        device === 'wasm' || device === 'webgpu'
          ? kernelsFor(device, sets)
          : first.then(({ backend }) => kernelsFor(backend.caps.kind, sets));
      asked.catch(() => undefined);
    };
    const loaded = await loadGraph(source, options, false, tools.edit, needs).catch((e: unknown) => {
      void first.then(
        ({ backend }) => backend.release(),
        () => undefined,
      );
      throw e;
    });
    const {
      model: { graph },
      name,
      definitions,
      sets,
      rules,
    } = loaded;
    if (options.slice !== undefined && !(options.slice >= 0))
      fail('option_invalid', `slice is a time in milliseconds, not ${options.slice}`);
    const random = mulberry32(options.seed ?? 0);
    const plans: Plan[] = [];
    const planned = (plan: Plan): void => {
      if (options.strict) refuseLeaving(plan, name);
      plans.push(plan);
      if (plans.length > 64) plans.shift();
      loaded.planned(plan);
    };
    let opening: typeof first | null = first;
    const open = async (): Promise<Live> => {
      const {
        backend: opened,
        kernels,
        packers,
        tuningFor,
      } = await (opening ?? openDevice(options.device ?? 'auto', options));
      opening = null;
      opened.slice = options.slice;
      const backend = tools.wrap?.(opened) ?? opened;
      const {
        tuning = options.tuning === false
          ? undefined
          : await tuningFor?.(([] as TuningTable[]).concat(options.tuning ?? [])),
        placed,
      } = tools;
      const ops = equip(definitions, await kernels(sets, graph));
      const runner = makeRunner(graph, {
        model: name,
        ops,
        backend,
        work: hostWork(ops, packers, random),
        random,
        rules,
        ...(options.trace ? { trace: options.trace } : {}),
        planned,
        planning: { ...(tuning ? { tuning } : {}), ...(placed ? { placed } : {}) },
      });
      const live: Live = { backend, runner, lost: false };
      void backend.lost?.then(() => {
        live.lost = true;
      });
      return live;
    };
    const again =
      typeof options.device === 'object'
        ? (): never =>
            fail(
              'device_lost',
              'the GPUDevice that the session was given is lost; request a new one and load the model on it',
            )
        : open;
    const session = new Session(
      graph,
      name,
      await unlessAborted(open(), options.signal, ({ backend }) => backend.release()),
      again,
      random,
      plans,
      options.outputs,
    );
    try {
      if (options.outputs)
        (await import('./places.ts')).placesOf(options.outputs, session.outputs, session.#live.backend);
      const prepare = async (): Promise<void> => {
        const sets = options.dims ? ([options.dims].flat() as readonly Dims[]) : isBound(graph) ? [{}] : [];
        for (const dims of sets) await session.#live.runner.prepare(inputFacts(graph, dims));
        await loaded.settle();
      };
      await unlessAborted(prepare(), options.signal, () => undefined);
      return session;
    } catch (e) {
      await session.release();
      throw e instanceof SardonyxError && !e.path.some((p) => p.startsWith('model ')) ? e.within(`model ${name}`) : e;
    }
  }

  /** Where it runs. When a lost GPU cannot be had again, a session on 'auto' goes on with WASM. */
  get device(): 'webgpu' | 'wasm' | 'reference' {
    return this.#live.backend.caps.kind;
  }
  /** Plans made so far, oldest first: one for each set of dims and each place where shapes depended on data. */
  get plans(): readonly Plan[] {
    return this.#plans;
  }
  /** The newest plan; before the first run of a model with free dims there is none. */
  get plan(): Plan | undefined {
    return this.#plans.at(-1);
  }
  /** Of the CPU path: where and on how many threads it runs, and why not otherwise. */
  get engine(): EngineState | undefined {
    return this.#live.backend.engine;
  }
  /** Device objects made so far. A steady run makes none. */
  get made(): Readonly<Record<string, number>> {
    return this.#live.backend.made;
  }
  /**
   * The device it runs on; null where that is no GPU. It is another one after a loss. Buffers of `gpuTensor`, and
   * renderers that draw results, must be of this one.
   */
  get gpuDevice(): GPUDevice | null {
    return this.#live.backend.gpu ?? null;
  }
  /**
   * Of a GPU: bytes copied within it so far, for feeds that could not be bound where they lie and results that could
   * not be made where they are wanted.
   */
  get copiedBytes(): number {
    return this.#live.backend.tensors?.copiedBytes ?? 0;
  }
  /** Bytes of device memory held now. */
  get bytes(): number {
    return this.#live.backend.bytes;
  }

  /**
   * Runs the model on `feeds`, by input name, and gives every output by name. GPU tensors are taken without a copy to
   * the host where the plan has the input on the device. What is fed must stay as it is until the run has ended:
   * nothing is copied before its turn. Where all results stay on the GPU, a bad value (such as an index out of range)
   * is reported by the first read. When the GPU is lost, the session opens it again, reads the weights again and
   * repeats the run, once; not so on a GPUDevice of the caller's.
   * @throws input_missing, input_unknown, input_dtype, input_shape, input_device, output_unknown, output_invalid,
   * value_invalid, value_disposed, not_on_device, aborted, session_released, device_lost
   */
  run(feeds: Feeds, options: RunOptions & { readonly outputs: 'gpu' }): Promise<Record<string, GpuTensor>>;
  run(
    feeds: Feeds,
    options: RunOptions & { readonly outputs: Exclude<RunOptions['outputs'], 'cpu' | undefined> },
  ): Promise<Record<string, Value | GpuTensor>>;
  run(feeds: Feeds, options?: RunOptions & { readonly outputs?: 'cpu' }): Promise<Results>;
  run(feeds: Feeds, options: RunOptions = {}): Promise<Record<string, Value | GpuTensor>> {
    const { signal } = options;
    const here = `model ${this.#name}`;
    const aborted = (cause?: unknown): SardonyxError =>
      new SardonyxError('aborted', 'the run was aborted', [here], { cause });
    const placed = (e: unknown): unknown =>
      signal?.aborted
        ? aborted(e)
        : e instanceof SardonyxError && !e.path.some((p) => p.startsWith('model '))
          ? e.within(here)
          : e;
    if (this.#released)
      return Promise.reject(
        new SardonyxError('session_released', 'the session is released; load the model again', [here]),
      );
    if (signal?.aborted) return Promise.reject(aborted(signal.reason));
    let drop: () => void;
    const { outputs = this.#places } = options;
    try {
      drop = holdAll(
        [
          ['input', Object(feeds)],
          ['output', Object(outputs)],
        ],
        this.#live.backend,
      );
    } catch (e) {
      return Promise.reject(placed(e));
    }
    const work = this.#queue
      .then(() => this.#run(Object(feeds), outputs, signal))
      .catch((e: unknown) => {
        throw placed(e);
      })
      .finally(drop);
    this.#queue = work.catch(() => undefined);
    if (signal === undefined) return work;
    // What runs is stopped at its next step; the caller need not wait for that.
    return new Promise((resolve, reject) => {
      const stop = (): void => reject(aborted(signal.reason));
      signal.addEventListener('abort', stop, { once: true });
      work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
    });
  }

  async #run(feeds: Feeds, outputs: Places, signal?: AbortSignal): Promise<Record<string, Value | GpuTensor>> {
    for (let repeated = false; ; repeated = true) {
      signal?.throwIfAborted();
      if (this.#live.lost) await this.#renew();
      const live = this.#live;
      const { state } = this.#random;
      begin(signal);
      try {
        return await this.#attempt(live, feeds, outputs, signal);
      } catch (e) {
        if (repeated || signal?.aborted || !(await wasLost(live, e))) throw e;
        this.#random.state = state;
      }
    }
  }

  async #attempt(
    { backend, runner }: Live,
    feeds: Feeds,
    outputs: Places,
    signal?: AbortSignal,
  ): Promise<Record<string, Value | GpuTensor>> {
    const places =
      outputs === 'cpu' ? null : await (await import('./places.ts')).destinations(outputs, this.outputs, backend);
    try {
      const held = new Map<ValueId, Held>();
      checkFeeds(this.#graph, this.inputs, feeds, held, backend);
      const results = await runner.run(held, signal, places?.target);
      const read = await backend.read(places ? places.settle(results) : results);
      signal?.throwIfAborted();
      return places ? places.named(read) : Object.fromEntries(this.outputs.map(({ name }, i) => [name, read[i]!]));
    } catch (e) {
      places?.drop();
      await backend.read([]).catch(() => undefined);
      throw e;
    }
  }

  /** In place of a lost device, a new one. @throws device_lost, device_unavailable */
  async #renew(): Promise<void> {
    const old = this.#live;
    this.#plans.length = 0;
    this.#live = await this.#open();
    old.runner.release();
    old.backend.release();
  }

  /** Frees all device memory once running calls have ended. */
  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await this.#queue;
    this.#live.runner.release();
    this.#live.backend.release();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

/** Whether an error came of the loss of the device, which may be told a little later. */
async function wasLost(live: Live, e: unknown): Promise<boolean> {
  const { lost } = live.backend;
  if (lost === undefined || (e instanceof SardonyxError && !LOSS.has(e.code))) return false;
  let timer: ReturnType<typeof setTimeout>;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, 100);
  });
  await Promise.race([lost, late]).finally(() => clearTimeout(timer));
  return live.lost;
}
const LOSS: ReadonlySet<string> = new Set(['device_lost', 'device_fault', 'out_of_memory', 'input_device', 'internal']);

function checkFeeds(
  graph: Graph,
  ports: readonly Port[],
  feeds: Feeds,
  into: Map<ValueId, Held>,
  backend: Backend,
): void {
  const known = new Set(ports.map((p) => p.name));
  const names = (): string =>
    ports.map((p) => `${p.name}: ${p.dtype ?? 'any'}[${p.shape?.map((d) => d ?? '?') ?? '…'}]`).join(', ');
  for (const name of Object.keys(feeds))
    if (!known.has(name)) fail('input_unknown', `the model has no input ${JSON.stringify(name)}; it has ${names()}`);
  ports.forEach((port, i) => {
    const value = Object.hasOwn(feeds, port.name) ? feeds[port.name] : undefined;
    if (value === undefined || value === null)
      fail('input_missing', `input ${JSON.stringify(port.name)} is not given; the model has ${names()}`);
    if (typeof value !== 'object' || !('dtype' in value || 'kind' in value))
      fail('input_dtype', `input ${port.name} is no tensor; make one with tensor(dtype, shape, data)`);
    if (isGpuTensor(value)) {
      checkShape(port, value);
      const held = within(`input ${port.name}`, () =>
        (backend.tensors ?? fail('not_on_device', 'the GPU was lost; the session goes on without one')).take(value),
      );
      into.set(graph.inputs[i]!, held.on === 'device' && port.shape?.length === 0 ? { ...held, shape: [] } : held);
      return;
    }
    if (isTensor(value)) checkTensor(port, value);
    // Recorded feeds and onnxruntime's users give scalars as [1].
    into.set(graph.inputs[i]!, hostHeld(isTensor(value) && port.shape?.length === 0 ? { ...value, shape: [] } : value));
  });
}

/** Keeps the buffers of GPU tensors until the answer is called. @throws not_on_device, value_disposed, input_device */
function holdAll(
  all: readonly (readonly [what: string, Readonly<Record<string, unknown>>])[],
  backend: Backend,
): () => void {
  const drops: (() => void)[] = [];
  const drop = (): void => {
    for (const d of drops) d();
  };
  try {
    for (const [what, values] of all)
      for (const [name, value] of Object.entries(values)) {
        if (typeof value !== 'object' || value === null || !isGpuTensor(value)) continue;
        const { tensors } = backend;
        if (tensors === undefined)
          fail(
            'not_on_device',
            `${what} ${name} is a GPU tensor and the session runs on ${backend.caps.kind}: give it await tensor.read(), or load it with { device: 'webgpu' }`,
          );
        drops.push(within(`${what} ${name}`, () => tensors.hold(value)));
      }
    return drop;
  } catch (e) {
    drop();
    throw e;
  }
}

function refuseLeaving(plan: Plan, model: string): void {
  const left = leaving(plan).map(({ node, op, why }) => `${node} (${op}): ${why}`);
  if (left.length > 0)
    fail(
      'not_on_device',
      `${left.length} node${left.length > 1 ? 's' : ''} would leave ${plan.device}: ${left.join('; ')}`,
      [`model ${model}`],
    );
}
