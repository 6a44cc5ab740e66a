import type { Attrs } from './graph.ts';
import type { DType } from './dtype.ts';

export type DeviceKind = 'webgpu' | 'wasm' | 'reference';

/**
 * Everything needed to run a graph at fixed dims on one kind of machine. The runtime reads only this; it knows no
 * operators. A model whose shapes depend on data has several: each ends where a value must be looked at.
 */
export interface Plan {
  readonly format: 1;
  readonly device: DeviceKind;
  readonly model: string;
  readonly values: readonly PlannedValue[];
  /** Bytes of each reusable activation buffer; on WASM the one heap region. */
  readonly slabs: readonly number[];
  readonly shaders: readonly PlannedShader[]; // no two alike
  readonly modules: readonly WasmCode[]; // no two alike
  readonly weights: readonly Weight[];
  readonly steps: readonly Step[];
  /**
   * Dispatches that may find a bad value (an index out of range), by node: each has a word that it sets, and results
   * are refused if it did.
   */
  readonly faults: readonly string[];
  /** Nodes that the host runs behind this plan, because only data can tell what they yield. */
  readonly after: readonly { readonly node: string; readonly op: string }[];
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  /** Bytes of all slabs, and the most bytes that are live at once: no plan can do with less. */
  readonly peakBytes: number;
  readonly lowerBoundBytes: number;
}

export interface PlannedValue {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly home: Home;
}

/**
 * Where a value lives. `input` and `output` have device memory of their own; `host` values are tensors in JavaScript.
 */
export type Home =
  | { readonly in: 'slab'; readonly slab: number; readonly offset: number }
  | { readonly in: 'weights'; readonly weight: number }
  | { readonly in: 'constant'; readonly constant: number } // a host constant, by its number in the planner's list
  | { readonly in: 'input' }
  | { readonly in: 'output' }
  | { readonly in: 'host' }
  | { readonly in: 'view'; readonly of: number };

/** Device memory that holds a constant, possibly rearranged for a kernel. */
export interface Weight {
  readonly constant: number;
  readonly bytes: number;
  readonly pack?: Pack;
}
/** A named, pure rearrangement of a constant (`kernels/pack.ts`), and its arguments. */
export interface Pack {
  readonly name: string;
  readonly args: readonly (number | string)[];
  readonly bytes: number;
}

export interface PlannedShader {
  readonly name: string;
  readonly code: string;
  readonly requires: readonly string[];
  readonly layout: readonly ('read' | 'read_write' | 'uniform')[];
}
export interface WasmCode {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** `uniform`: index of the step's uniform blocks. `fault`: index into the plan's `faults`. */
export type Binding =
  | { readonly value: number }
  | { readonly weight: number }
  | { readonly uniform: number }
  | { readonly fault: number };
export type Argument = { readonly value: number } | { readonly weight: number } | number;

interface OfNode {
  readonly node: string;
  readonly op: string;
  readonly why?: string;
}
export interface GpuStep extends OfNode {
  readonly run: 'gpu';
  readonly kernel: string;
  readonly shader: number;
  readonly params: Readonly<Record<string, number>>;
  readonly bind: readonly Binding[];
  /**
   * It makes its second binding equal to its first, whole, and does nothing else: left out where both are the same
   * memory.
   */
  readonly copies?: true;
  /** Uniform blocks, as 32-bit words. */
  readonly uniforms: readonly (readonly number[])[];
  readonly workgroups: readonly [number, number, number];
}
export interface WasmStep extends OfNode {
  readonly run: 'wasm';
  readonly kernel: string;
  readonly module: number;
  /** Addresses of values and weights, and plain numbers, in the order of the function's parameters. */
  readonly args: readonly Argument[];
  /** How threads share the call; without it one thread does all. */
  readonly split?: Split;
}
/**
 * How a WASM call over `n` independent items is cut into parts for threads. Items from `from` on are done by the same
 * function with argument `items` set to their number and each argument in `moves` grown by `from` times its step. Parts
 * write disjoint memory and no sum runs across them, so results have the same bits however a call is cut.
 */
export interface Split {
  /** The argument that is n, a plain number in the call. */
  readonly items: number;
  /** Parts begin at multiples of this. */
  readonly grain: number;
  readonly moves: readonly (readonly [argument: number, step: number])[];
  /**
   * Scratch of which each thread has its own piece: thread t's lies t times `bytes` behind the first. The kernel asks
   * for `caps.threads` pieces.
   */
  readonly own?: readonly (readonly [argument: number, bytes: number])[];
  /** Roughly how many nanoseconds one thread spends on an item: what is too little to share is not shared. */
  readonly cost: number;
}
export interface HostStep extends OfNode {
  readonly run: 'host';
  readonly inputs: readonly (number | null)[];
  readonly outputs: readonly (number | null)[];
  readonly attrs: Attrs;
}
/** Copies a value between host and device; they are two values of the plan. */
export interface CopyStep {
  readonly run: 'upload' | 'download';
  readonly from: number;
  readonly to: number;
}
export type Step = GpuStep | WasmStep | HostStep | CopyStep;

/** What the planner may know of a GPU. Plain data, so a plan can be made for a machine we are not on. */
export interface GpuCaps {
  readonly kind: 'webgpu';
  readonly features: readonly string[];
  readonly limits: {
    readonly maxComputeWorkgroupsPerDimension: number;
    readonly maxComputeInvocationsPerWorkgroup: number;
    readonly maxComputeWorkgroupStorageSize: number;
    readonly maxStorageBufferBindingSize: number;
    readonly maxBufferSize: number;
    readonly maxStorageBuffersPerShaderStage: number;
    readonly minStorageBufferOffsetAlignment: number;
  };
  readonly vendor: string;
  readonly architecture: string;
  /** A software adapter: workgroup memory and barriers are slow there, and so is compiling. */
  readonly software: boolean;
  readonly f16: boolean;
  readonly subgroups: boolean;
  /** The least and the greatest size of subgroups, where the adapter tells. */
  readonly subgroupSizes?: readonly [least: number, most: number];
  /**
   * Products of m x k by k x n of elements `of` that a subgroup forms at once in f32
   * (`chromium-experimental-subgroup-matrix`).
   */
  readonly matrices?: readonly {
    readonly of: 'f16' | 'f32';
    readonly m: number;
    readonly n: number;
    readonly k: number;
  }[];
  /** WGSL here has dot products of four bytes in a word (`packed_4x8_integer_dot_product`). */
  readonly dot4?: boolean;
}
export interface WasmCaps {
  readonly kind: 'wasm';
  /** Relaxed SIMD multiply-add. */
  readonly fma: boolean;
  readonly shared: boolean;
  readonly threads: number;
  /** Rows and columns of the register tile of matrix products that was measured fastest here. */
  readonly tile?: readonly [number, number];
}
export interface ReferenceCaps {
  readonly kind: 'reference';
}
export type Caps = GpuCaps | WasmCaps | ReferenceCaps;

/** WebGPU's default limits and no optional feature: what every adapter offers. */
export const BASE_GPU: GpuCaps = {
  kind: 'webgpu',
  features: [],
  vendor: 'any',
  architecture: '',
  software: false,
  f16: false,
  subgroups: false,
  limits: {
    maxComputeWorkgroupsPerDimension: 65535,
    maxComputeInvocationsPerWorkgroup: 256,
    maxComputeWorkgroupStorageSize: 16384,
    maxStorageBufferBindingSize: 2 ** 27,
    maxBufferSize: 2 ** 28,
    maxStorageBuffersPerShaderStage: 8,
    minStorageBufferOffsetAlignment: 256,
  },
};
export const BASE_WASM: WasmCaps = { kind: 'wasm', fma: false, shared: false, threads: 1 };
