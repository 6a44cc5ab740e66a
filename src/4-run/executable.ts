import type { DType } from '../core/dtype.ts';
import type { Constant } from '../core/graph.ts';
import type { Caps, HostStep, Pack, Plan } from '../core/plan.ts';
import type { GpuTensor, Tensor, Value } from '../core/tensor.ts';

/** A value between plans: on the host, or in memory of the device that made it. */
export type Held =
  | { readonly on: 'host'; readonly value: Value }
  | { readonly on: 'device'; readonly dtype: DType; readonly shape: readonly number[]; readonly ref: unknown };

export const hostHeld = (value: Value): Held => ({ on: 'host', value });

/** What the runtime needs from those who know operators. */
export interface HostWork {
  /** Runs a node's reference. */
  readonly run: (
    step: HostStep,
    inputs: readonly (Value | null)[],
  ) => readonly (Value | null)[] | Promise<readonly (Value | null)[]>;
  /** Rearranges a constant for a kernel: into `into`, `pack.bytes` long and aligned to 16, or into new memory. */
  readonly pack: (constant: Tensor, pack: Pack, into?: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;
}

/**
 * Is handed every step of a measured run, in order and one at a time. `go` does the step and may be called again; on a
 * GPU it records the step's dispatch into the pass that it is given, and submitting is the probe's work.
 */
export interface Probe {
  readonly host: (step: number, go: () => unknown) => Promise<void>;
  readonly gpu: (step: number, go: (pass: GPUComputePassEncoder) => void) => Promise<void>;
}

/**
 * Memory of the device, as `Held` has it, that the outputs of a plan are to be made in, where that can be; and what
 * nobody may write.
 */
export interface Targets {
  readonly outputs: readonly (Held | null)[];
  readonly kept: readonly Held[];
}

/** A plan bound to a device. Running only records and submits; nothing is created after the first run. */
export interface Executable {
  /**
   * Results stay valid until the next `run` of the same executable. Each says where it is: in its target, or elsewhere.
   */
  run(inputs: readonly Held[], signal?: AbortSignal, probe?: Probe, targets?: Targets): Promise<readonly Held[]>;
  /** Gives its memory back. */
  destroy(): void;
}

/** How results stay on a GPU. */
export interface GpuResults {
  /** A tensor, not filled yet, in a buffer that is the caller's until disposed. @throws device_limit, type_mismatch */
  make(like: { readonly dtype: DType; readonly shape: readonly number[] }): GpuTensor;
  /**
   * Copies values into tensors, but for those that are there, all as they were before the first was written; gives
   * where `rest` is then. Submitted with the next `read`.
   */
  fill(pairs: readonly (readonly [to: GpuTensor, value: Held])[], rest: readonly Held[]): readonly Held[];
}

/** What a GPU backend does with tensors of the caller's. */
export interface GpuTensors {
  /** Puts off what the tensor's `dispose` frees until the answer is called. @throws value_disposed, input_device */
  hold(t: GpuTensor): () => void;
  /** The tensor as a value of a run. @throws device_lost, input_device */
  take(t: GpuTensor): Held;
  results(): Promise<GpuResults>;
  /**
   * Bytes copied within the device so far, for feeds that could not be bound and for results that were not made where
   * they are wanted.
   */
  readonly copiedBytes: number;
}

/** Where and on how many threads WASM runs. */
export interface EngineState {
  readonly threads: number;
  /** In a worker, so that the caller's thread stays free. */
  readonly worker: boolean;
  /** Why it is not on as many threads, or not in a worker, as was wanted. */
  readonly reason?: string;
}

/** A device that plans can be bound to. */
export interface Backend {
  readonly caps: Caps;
  /** Of a GPU: what its plans run on. */
  readonly gpu?: GPUDevice;
  readonly tensors?: GpuTensors;
  /** Of a GPU: milliseconds of its time that are submitted at once; 0: plans whole; undefined: what suits the place. */
  slice?: number | undefined;
  /** Of the CPU path. */
  readonly engine?: EngineState;
  instantiate(plan: Plan, constants: readonly Constant[], work: HostWork): Promise<Executable>;
  /** Host copies of values, in one round trip. Submits all that was recorded, also for no values. */
  read(held: readonly Held[]): Promise<readonly Value[]>;
  /** Objects made so far; steady runs must not raise them. */
  readonly made: Readonly<Record<string, number>>;
  /** Bytes of device memory held now. */
  readonly bytes: number;
  /** Resolves with a reason if the device is lost. */
  readonly lost?: Promise<string>;
  release(): void;
}
