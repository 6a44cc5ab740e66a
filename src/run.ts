/**
 * `sardonyx/run`: runs what `compile` of `sardonyx/plan` wrote. No parser, no optimizer, no operators: a few kilobytes.
 */
import type { Backend, Executable, HostWork } from './4-run/executable.ts';
import { hostHeld } from './4-run/executable.ts';
import { wasmBackend } from './4-run/wasm/backend.ts';
import { openEngine } from './4-run/wasm/engine.ts';
import { webgpuBackend } from './4-run/webgpu/backend.ts';
import { fail, SardonyxError } from './core/errors.ts';
import type { Caps, GpuCaps, Plan } from './core/plan.ts';
import { checkTensor, type Port } from './feeds.ts';
import { type Compiled, readCompiled } from './plan-file.ts';
import { isTensor, type Tensor } from './core/tensor.ts';

export { SardonyxError } from './core/errors.ts';
export type { ErrorCode } from './core/errors.ts';
export type { DType } from './core/dtype.ts';
export type { Plan } from './core/plan.ts';
export { numbers } from './core/numbers.ts';
export { tensor } from './core/tensor.ts';
export type { Tensor } from './core/tensor.ts';
export type { Port } from './feeds.ts';

/** A compiled plan on its device. Overlapping `run` calls give what serial ones would. */
export class CompiledModel implements AsyncDisposable {
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly plan: Plan;
  readonly #backend: Backend;
  readonly #executable: Executable;
  #queue: Promise<unknown> = Promise.resolve();
  #released = false;

  private constructor(plan: Plan, backend: Backend, executable: Executable) {
    this.plan = plan;
    this.#backend = backend;
    this.#executable = executable;
    const port = (v: number): Port => {
      const { name, dtype, shape } = plan.values[v]!;
      return { name, dtype, shape };
    };
    this.inputs = plan.inputs.map(port);
    this.outputs = plan.outputs.map(port);
  }

  /**
   * Makes a compiled plan ready on its device: bytes, or what `fetch` answered.
   * @param options.device the caller's GPU device, for a plan on 'webgpu'; default: one of our own
   * @throws model_not_onnx, model_malformed, device_unavailable, device_limit, out_of_memory
   */
  static async load(
    source: Uint8Array<ArrayBuffer> | ArrayBuffer | Response,
    options: { readonly device?: GPUDevice } = {},
  ): Promise<CompiledModel> {
    const compiled = readCompiled(
      source instanceof Uint8Array
        ? source
        : new Uint8Array(source instanceof ArrayBuffer ? source : await answered(source)),
    );
    const backend = await open(compiled, options.device);
    try {
      return new CompiledModel(
        compiled.plan,
        backend,
        await backend.instantiate(compiled.plan, compiled.constants, NO_OPERATORS),
      );
    } catch (e) {
      backend.release();
      throw e instanceof SardonyxError ? e.within(`model ${compiled.plan.model}`) : e;
    }
  }

  /**
   * Runs the plan on `feeds`, by input name; shapes are those of `inputs`. @throws input_missing, input_dtype,
   * input_shape, value_invalid, aborted, session_released
   */
  run(
    feeds: Readonly<Record<string, Tensor>>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<Record<string, Tensor>> {
    if (this.#released)
      return Promise.reject(new SardonyxError('session_released', 'the model is released; load it again'));
    const turn = this.#queue.then(async () => {
      const held = this.inputs.map((port) => {
        const value = Object.hasOwn(feeds, port.name) ? feeds[port.name] : undefined;
        if (value === undefined || !isTensor(value))
          return fail(
            'input_missing',
            `input ${port.name} is not given; the model takes ${this.inputs.map((p) => `${p.name}: ${p.dtype}[${p.shape}]`).join(', ')}`,
          );
        checkTensor(port, value);
        return hostHeld(value);
      });
      if (options.signal?.aborted) fail('aborted', 'the run was aborted');
      const results = await this.#backend.read(await this.#executable.run(held, options.signal));
      return Object.fromEntries(this.outputs.map((port, i) => [port.name, results[i] as Tensor]));
    });
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  /** Frees all device memory once running calls have ended. */
  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await this.#queue;
    this.#executable.destroy();
    this.#backend.release();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

const NO_OPERATORS: HostWork = {
  run: () => fail('internal', 'a compiled plan has no host steps'),
  pack: () => fail('internal', 'a compiled plan is packed'),
};

async function answered(response: Response): Promise<ArrayBuffer> {
  if (!response.ok) fail('model_not_onnx', `${response.url} answered ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

async function open({ caps, plan }: Compiled, device: GPUDevice | undefined): Promise<Backend> {
  if (caps.kind === 'wasm') {
    const engine = await openEngine({ threads: caps.threads });
    const lacking =
      caps.fma && !engine.caps.fma ? 'relaxed SIMD' : caps.shared !== engine.caps.shared ? 'shared memory' : null;
    if (lacking === null) return wasmBackend(engine);
    engine.close();
    fail(
      'device_unavailable',
      `the plan uses ${lacking}, which this engine does not have; compile the model without it`,
    );
  }
  const backend = await webgpuBackend(device);
  const why = lacks(caps, backend.caps);
  if (why === null) return backend;
  backend.release();
  return fail(
    'device_limit',
    `the plan was compiled for a GPU with ${why}; compile the model for this one, or for every GPU by leaving caps out`,
    [`model ${plan.model}`],
  );
}

/** The first thing that a plan for `wanted` may use and a device with `caps` has not; null: nothing. */
function lacks(wanted: Caps, caps: Caps): string | null {
  const [need, has] = [wanted as GpuCaps, caps as GpuCaps];
  const feature = need.features.find((f) => !has.features.includes(f));
  if (feature !== undefined) return `the feature ${feature}`;
  if (need.dot4 && !has.dot4) return 'packed dot products in WGSL';
  if (need.subgroupSizes && need.subgroupSizes[1] !== has.subgroupSizes?.[1])
    return `subgroups of up to ${need.subgroupSizes[1]}`;
  const limit = (Object.keys(need.limits) as (keyof GpuCaps['limits'])[]).find((l) =>
    l.startsWith('min') ? has.limits[l] > need.limits[l] : has.limits[l] < need.limits[l],
  );
  return limit === undefined ? null : `${limit} ${need.limits[limit]}, where this one has ${has.limits[limit]}`;
}
