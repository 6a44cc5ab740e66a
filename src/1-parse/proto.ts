/**
 * ONNX's messages as plain objects: what of onnx.proto a run needs.
 * https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 */
import type { DType } from '../core/dtype.ts';
import type { Dim } from '../core/graph.ts';
import type { Hole } from './wire.ts';

/** A value's type as a model declares it. `of` and `value` null: not said. */
export type ValueType =
  | { readonly kind: 'tensor'; readonly dtype: DType; readonly shape: readonly Dim[] | null }
  | { readonly kind: 'sequence'; readonly of: ValueType | null }
  | { readonly kind: 'optional'; readonly of: ValueType | null }
  | { readonly kind: 'map'; readonly key: DType; readonly value: ValueType | null };

export interface ValueProto {
  readonly name: string;
  readonly type: ValueType | null;
}

/** Where a tensor's bytes lie outside of the model; the path is checked. */
export interface External {
  readonly file: string;
  readonly offset: number;
  readonly length: number | null;
}

/**
 * A tensor whose elements are still in the file: `raw` views them or says where they lie, or `message` (the whole
 * TensorProto) holds them in typed fields.
 */
export interface TensorProto {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly raw: Uint8Array | Hole | null;
  readonly external: External | null;
  readonly message: Uint8Array | null;
}
export interface SparseProto {
  readonly values: TensorProto;
  readonly indices: TensorProto;
  readonly shape: readonly number[];
}

/** An attribute holds one of these; `ref` names the attribute of the calling function node it stands for. */
export type AttrProto =
  | { readonly kind: 'ref'; readonly ref: string }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'int'; readonly value: number; readonly exact: bigint }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'floats'; readonly value: readonly number[] }
  | { readonly kind: 'ints'; readonly value: readonly number[]; readonly exact: readonly bigint[] }
  | { readonly kind: 'strings'; readonly value: readonly string[] }
  | { readonly kind: 'tensor'; readonly value: TensorProto }
  | { readonly kind: 'tensors'; readonly value: readonly TensorProto[] }
  | { readonly kind: 'graph'; readonly value: GraphProto }
  | { readonly kind: 'graphs'; readonly value: readonly GraphProto[] }
  | { readonly kind: 'sparse'; readonly value: SparseProto }
  | { readonly kind: 'type'; readonly value: ValueType | null };

export interface NodeProto {
  readonly name: string;
  readonly op: string;
  readonly domain: string;
  readonly overload: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attrs: ReadonlyMap<string, AttrProto>;
  /** Of a node that came from a function: the operator sets which that function imports. */
  readonly imports?: Imports;
}
export interface GraphProto {
  readonly name: string;
  readonly nodes: readonly NodeProto[];
  readonly initializers: readonly TensorProto[];
  readonly sparse: readonly SparseProto[];
  readonly inputs: readonly ValueProto[];
  readonly outputs: readonly ValueProto[];
  readonly values: readonly ValueProto[];
}
export interface FunctionProto {
  readonly name: string;
  readonly domain: string;
  readonly overload: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Attributes a call may give, and their defaults where they have one. */
  readonly attributes: ReadonlyMap<string, AttrProto | null>;
  readonly nodes: readonly NodeProto[];
  readonly imports: Imports;
}
/** Opset by domain; the default domain is ''. */
export type Imports = ReadonlyMap<string, number>;
export interface ModelProto {
  readonly irVersion: number;
  readonly producer: string;
  readonly graph: GraphProto | null;
  readonly imports: Imports;
  readonly metadata: ReadonlyMap<string, string>;
  readonly functions: readonly FunctionProto[];
}

/** A domain's canonical name: "ai.onnx" is another spelling of ''. */
export const domainOf = (domain: string): string => (domain === 'ai.onnx' ? '' : domain);
/** An operator as the rest of the program names it: "Softmax", "com.microsoft.Gelu". */
export const opName = (domain: string, op: string): string => (domainOf(domain) === '' ? op : `${domain}.${op}`);
