import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import type { AttrValue, Attrs, Fact, Graph, ValueId } from '../src/core/graph.ts';
import type { GpuCaps, Pack, Split, WasmCaps } from '../src/core/plan.ts';
import { isTensor, type Tensor, type Value } from '../src/core/tensor.ts';
import type { Elem, WgslModule } from '../wgsl/assemble.ts';
import type { Ex } from './expr.ts';

export { shader } from '../wgsl/shader.ts';
export type { Elem, WgslModule };

// ── attributes: a schema that is also a type ────────────────────────────────────────────────────────────────────────
export type AttrKind = 'int' | 'ints' | 'float' | 'floats' | 'string' | 'strings' | 'tensor' | 'graph';
export interface Attr<T> {
  readonly kind: AttrKind;
  readonly default?: T;
  readonly required?: true;
}

type Make<T> = { (): Attr<T | undefined>; (fallback: T): Attr<T> };
const make = (kind: AttrKind) =>
  ((fallback?: unknown) => (fallback === undefined ? { kind } : { kind, default: fallback })) as never;
export const int: Make<number> = make('int');
export const ints: Make<readonly number[]> = make('ints');
export const float: Make<number> = make('float');
export const floats: Make<readonly number[]> = make('floats');
export const string: Make<string> = make('string');
export const strings: Make<readonly string[]> = make('strings');
export const tensorAttr: Make<Tensor> = make('tensor');
export const graphAttr: Make<Graph> = make('graph');
/** The attribute must be given. */
export const required = <T>(attr: Attr<T | undefined>): Attr<T> => ({ ...attr, required: true }) as Attr<T>;

export type AttrSchema = Readonly<Record<string, Attr<any>>>;
export type Values<A extends AttrSchema> = { readonly [K in keyof A]: A[K] extends Attr<infer T> ? T : never };

const FITS: Record<AttrKind, (v: AttrValue) => boolean> = {
  int: (v) => typeof v === 'number',
  float: (v) => typeof v === 'number',
  string: (v) => typeof v === 'string',
  ints: (v) => Array.isArray(v) && v.every((x) => typeof x === 'number'),
  floats: (v) => Array.isArray(v) && v.every((x) => typeof x === 'number'),
  strings: (v) => Array.isArray(v) && v.every((x) => typeof x === 'string'),
  tensor: (v) => typeof v === 'object' && 'dtype' in v,
  graph: (v) => typeof v === 'object' && 'nodes' in v,
};

/** Attributes checked against the schema, with its defaults. @throws attribute_invalid */
export function parseAttrs(schema: AttrSchema, raw: Attrs): Attrs {
  for (const name of Object.keys(raw))
    if (!Object.hasOwn(schema, name))
      fail(
        'attribute_invalid',
        `unknown attribute ${JSON.stringify(name)}; known: ${Object.keys(schema).join(', ') || 'none'}`,
      );
  const out: Record<string, AttrValue> = {};
  for (const [name, attr] of Object.entries(schema)) {
    const value = Object.hasOwn(raw, name) ? raw[name] : undefined;
    if (value !== undefined && !FITS[attr.kind](value))
      fail('attribute_invalid', `attribute ${name} must be of kind ${attr.kind}`);
    if (value === undefined && attr.required) fail('attribute_invalid', `attribute ${name} is required`);
    const given = value ?? attr.default;
    if (given !== undefined) out[name] = given;
  }
  return out;
}

// ── a call: one node at known shapes ────────────────────────────────────────────────────────────────────────────────
export interface Call<A = any> {
  /** null: left out. */
  readonly inputs: readonly (Fact | null)[];
  /** null: not wanted. */
  readonly outputs: readonly (Fact | null)[];
  readonly attrs: A;
  /** Elementwise work to do on output 0 as it is stored; see `Epilogue`. */
  readonly epilogue?: Epilogue;
}

/**
 * An expression of the stored value (`input 0` of `expr`) and of operands (`input 1 …`), each broadcast to output 0.
 * A kernel whose operator says `epilogue: true` must honour it; `Ref { operand }` binds an operand.
 */
export interface Epilogue {
  readonly expr: Ex;
  readonly operands: readonly Fact[];
}

export interface InferCall<A = any> {
  readonly inputs: readonly (Fact | null)[];
  readonly attrs: A;
  /** How many outputs the node lists. */
  readonly outputs: number;
  /** Input i as a tensor. If its value is not known before running, the planner looks at it first and asks again. */
  value(i: number): Tensor;
  /** The fact of an input that must be there. */
  fact(i: number): Fact;
}
/** Dtype and shape of an output. */
export interface OutFact {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

export interface RefCall<A = any> {
  readonly inputs: readonly (Value | null)[];
  readonly attrs: A;
  readonly outputs: number;
  /** Input i, which must be a tensor. */
  tensor(i: number): Tensor;
  /** Input i if given. */
  optional(i: number): Tensor | null;
  /** Runs a body of a control-flow node, on the session's device. */
  run(body: Graph, inputs: readonly Value[]): Promise<readonly Value[]>;
  /** Uniform in [0, 1), from the session's seed. */
  random(): number;
}
/**
 * The operator in plain TypeScript: its definition, the oracle of its tests, the constant folder, the last fallback.
 * Makes its outputs.
 */
export type Reference<A = any> = (call: RefCall<A>) => readonly (Value | null)[] | Promise<readonly (Value | null)[]>;

export function refCall<A>(
  inputs: readonly (Value | null)[],
  attrs: A,
  outputs: number,
  run?: RefCall['run'],
  random: () => number = Math.random,
): RefCall<A> {
  const optional = (i: number): Tensor | null => {
    const v = inputs[i] ?? null;
    if (v !== null && !isTensor(v)) fail('type_mismatch', `input ${i} must be a tensor`);
    return v as Tensor | null;
  };
  return {
    inputs,
    attrs,
    outputs,
    optional,
    random,
    tensor: (i) => optional(i) ?? fail('input_missing', `input ${i} is required`),
    run: run ?? (() => fail('internal', 'control flow outside a session')),
  };
}

// ── kernels ─────────────────────────────────────────────────────────────────────────────────────────────────────────
/** Device memory that a launch names. `pack` asks for a constant input in another arrangement, made once at load. */
export type Ref =
  | { readonly input: number; readonly pack?: Pack }
  | { readonly output: number }
  | { readonly operand: number }
  | { readonly scratch: number }
  /**
   * A word, zero at the start of a run, that the dispatch sets to 1 if it meets a bad value (GPU only; a read_write
   * binding).
   */
  | { readonly fault: true };

export interface GpuKernel<A = any> {
  /** "matmul.tile": family.variant */
  readonly name: string;
  /** Can it run this call? Kernels are asked in order; the first yes wins. */
  readonly accepts?: (call: Call<A>, caps: GpuCaps) => boolean;
  /** Values of the module's parameters that the tuner may try. */
  readonly tunables?: Readonly<Record<string, readonly number[]>>;
  /** Bytes of temporaries, planned like any value. `tuned` as for `launch`. */
  readonly scratch?: (call: Call<A>, caps: GpuCaps, tuned: Readonly<Record<string, number>>) => readonly number[];
  /** Everything the dispatches need that is not a tensor. Pure. `tuned` overrides parameters. */
  readonly launch: (
    call: Call<A>,
    caps: GpuCaps,
    tuned: Readonly<Record<string, number>>,
  ) => Launch | readonly Launch[];
}
export interface Launch {
  readonly module: WgslModule<any, any, any>;
  /** Element type of each storage binding by name; a binding left out is declared whole in the file. */
  readonly types: Readonly<Record<string, Elem>>;
  readonly params?: Readonly<Record<string, number>>;
  readonly slots?: Readonly<Record<string, string>>;
  readonly uniforms?: Readonly<Record<string, number | readonly number[]>>;
  readonly workgroups: readonly [number, number, number];
  /** What the module's storage bindings are bound to, in their order. */
  readonly bind: readonly Ref[];
  /**
   * It makes the second of `bind` equal to the first, whole, and does nothing else. Where a caller wants both in one
   * buffer it is left out, and what follows works in place.
   */
  readonly copies?: true;
  /** Further read-only bindings for slots, in order. */
  readonly extra?: readonly { readonly name: string; readonly bind: Ref }[];
  readonly extraUniforms?: readonly {
    readonly name: string;
    readonly type: 'u32' | 'i32' | 'f32';
    readonly value: number;
  }[];
}

export interface WasmKernel<A = any> {
  readonly name: string;
  readonly accepts?: (call: Call<A>, caps: WasmCaps) => boolean;
  readonly scratch?: (call: Call<A>, caps: WasmCaps) => readonly number[];
  /** [output, input] pairs that may be the same memory, if the input dies here and is as large. */
  readonly inPlace?: (call: Call<A>) => readonly (readonly [output: number, input: number])[];
  readonly launch: (call: Call<A>, caps: WasmCaps) => WasmLaunch | readonly WasmLaunch[];
}
export interface WasmLaunch<S = any> {
  readonly emit: WasmEmitter<S>;
  /** All that the emitter looks at: JSON, since its text names the module while planning. */
  readonly spec: S;
  /** Arguments of the module's function `run`: memory becomes an i32 address; an f32 parameter is written { f32 }. */
  readonly args: readonly (Ref | number | { readonly f32: number })[];
  /** How threads may share the call. Addresses of what a call does not have are 0 and must not be among its moves. */
  readonly split?: Split | null;
}
/** Makes a WebAssembly module that imports `env.memory` and exports `run`. Pure: equal specs give equal bytes. */
export interface WasmEmitter<S = any> {
  readonly name: string;
  readonly build: (spec: S, caps: WasmCaps) => Uint8Array<ArrayBuffer>;
}

// ── operators ───────────────────────────────────────────────────────────────────────────────────────────────────────
export interface NormalizeCall {
  readonly attrs: Attrs;
  readonly inputs: readonly (ValueId | null)[];
  readonly outputs: readonly (ValueId | null)[];
  readonly opset: number;
  /** Adds a constant to the graph. */
  readonly constant: (t: Tensor) => ValueId;
}
export interface Normalized {
  readonly op?: string;
  readonly attrs?: Attrs;
  readonly inputs?: readonly (ValueId | null)[];
  readonly outputs?: readonly (ValueId | null)[];
}

export interface OpDef<A extends AttrSchema = any> {
  /** "Softmax", or "com.microsoft.Gelu". */
  readonly op: string;
  /** Opsets of its domain in which its meaning changed, oldest first. */
  readonly since: readonly number[];
  /**
   * Parameters of the canonical (newest) form: "X: T", "bias: T?" (optional), "inputs: T*" (one or more), "inputs:
   * any*" (of any types). A type is a key of `types`, a dtype, or "any" (unchecked: sequences, optionals, mixed lists).
   */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly types: Readonly<Record<string, readonly DType[]>>;
  readonly attrs: A;
  /** Turns any opset's form into the canonical one; nothing after it sees an opset. Given raw attributes. */
  readonly normalize?: (node: NormalizeCall) => Normalized;
  /** Dtypes and shapes of the outputs; checks ranks and shapes. @throws shape_mismatch and its like */
  readonly infer?: (call: InferCall<Values<A>>) => readonly OutFact[];
  /**
   * Its outputs' shapes depend on data, or are no tensors: run by `reference` on the host, and planning goes on behind
   * it.
   */
  readonly dynamic?: true | ((attrs: Values<A>, outputs: number) => boolean);
  /** Output 0 is input 0's bytes under another shape: no kernel, no copy. */
  readonly view?: true;
  /**
   * Its outputs are determined by its inputs' shapes and types alone, so they are computed before running. `reference`
   * gets tensors without data.
   */
  readonly shapeOnly?: true;
  /** It is random: never folded, never merged with an equal node. */
  readonly random?: true;
  /** Elementwise: output 0 as an expression of the broadcast inputs. Map kernels run it, and fusion merges it. */
  readonly map?: (inputs: readonly Ex[], attrs: Values<A>, output: DType) => Ex | null;
  /** Its kernels accept an `Epilogue`. */
  readonly epilogue?: true;
  readonly reference: Reference<Values<A>>;
}
/**
 * An operator of the caller's own, which Sardonyx does not have. What is left out: `since` [1], `types` none, `attrs`
 * none; where there is a `map`, `infer` broadcasts the inputs and `reference` evaluates it.
 */
export interface CustomOperator<A extends AttrSchema = any>
  extends Pick<OpDef<A>, 'op' | 'inputs' | 'outputs' | 'infer' | 'map' | 'dynamic' | 'random' | 'normalize'>,
    Partial<Pick<OpDef<A>, 'since' | 'types' | 'attrs' | 'reference'>> {
  readonly webgpu?: readonly GpuKernel<Values<A>>[];
}

/**
 * Kernels by operator, asked in order. Apart from the definitions, so that a build with one backend leaves the other's
 * out.
 */
export type KernelTable<K> = Readonly<Record<string, readonly K[]>>;
export interface Kernels {
  readonly webgpu?: KernelTable<GpuKernel>;
  readonly wasm?: KernelTable<WasmKernel>;
}
/**
 * An operator with its attribute types forgotten, as the registry keeps them, and the kernels of the devices at hand.
 */
export type Op = OpDef<any> & { readonly webgpu?: readonly GpuKernel[]; readonly wasm?: readonly WasmKernel[] };
export const defineOp = <A extends AttrSchema>(op: OpDef<A>): Op => op;

/** Thrown by `InferCall.value` when input `index` is not a constant; the planner reads the value and asks again. */
export class NeedsValue {
  readonly index: number;
  constructor(index: number) {
    this.index = index;
  }
}

/** Dtype groups for `types`. */
export const FLOAT: readonly DType[] = ['float32', 'float16', 'float64', 'bfloat16'];
export const SIGNED: readonly DType[] = ['int8', 'int16', 'int32', 'int64'];
export const UNSIGNED: readonly DType[] = ['uint8', 'uint16', 'uint32', 'uint64'];
export const NUMERIC: readonly DType[] = [...FLOAT, ...SIGNED, ...UNSIGNED];
export const INDEX: readonly DType[] = ['int32', 'int64'];
export const FIXED: readonly DType[] = [
  ...NUMERIC,
  'bool',
  'complex64',
  'complex128',
  'float8e4m3fn',
  'float8e4m3fnuz',
  'float8e5m2',
  'float8e5m2fnuz',
  'float8e8m0',
  'float4e2m1',
  'int4',
  'uint4',
  'int2',
  'uint2',
];
export const ALL: readonly DType[] = [...FIXED, 'string'];
