/** Small ONNX models made on the spot, in onnx-proto's JSON form. */
import onnxProto from 'onnx-proto';
import { type DType, ONNX_OF_DTYPE } from '../src/core/dtype.ts';
import { bytesOfTensor, type Tensor } from '../src/core/tensor.ts';

const { onnx } = onnxProto;
export type Json = Record<string, unknown>;

/** A model's bytes. `graph` has input, output, node, initializer; `rest` overrides what is beside it. */
export const encode = (graph: Json, opset = 17, rest: Json = {}): Uint8Array =>
  new Uint8Array(
    onnx.ModelProto.encode(
      onnx.ModelProto.fromObject({
        irVersion: 8,
        producerName: 'test',
        opsetImport: [
          { domain: '', version: opset },
          { domain: 'com.microsoft', version: 1 },
        ],
        graph: { name: 'g', ...graph },
        ...rest,
      }),
    ).finish(),
  );

export const port = (name: string, dims: readonly (number | string | null)[], dtype: DType = 'float32'): Json => ({
  name,
  type: {
    tensorType: {
      elemType: ONNX_OF_DTYPE[dtype],
      shape: { dim: dims.map((d) => (d === null ? {} : typeof d === 'number' ? { dimValue: d } : { dimParam: d })) },
    },
  },
});

type Attribute =
  | number
  | string
  | readonly number[]
  | { readonly float: number }
  | { readonly floats: readonly number[] }
  | { readonly graph: Json }
  | { readonly tensor: Tensor };
export const node = (
  opType: string,
  input: readonly string[],
  output: readonly string[],
  attributes: Readonly<Record<string, Attribute>> = {},
  rest: Json = {},
): Json => ({
  opType,
  name: `/${opType}:${output[0]}`,
  input,
  output,
  attribute: Object.entries(attributes).map(([name, v]) => attribute(name, v)),
  ...rest,
});
function attribute(name: string, v: Attribute): Json {
  if (typeof v === 'number') return { name, type: 2, i: v };
  if (typeof v === 'string') return { name, type: 3, s: Buffer.from(v) };
  if (Array.isArray(v)) return { name, type: 7, ints: v };
  if ('float' in v) return { name, type: 1, f: v.float };
  if ('floats' in v) return { name, type: 6, floats: v.floats };
  if ('graph' in v) return { name, type: 5, g: { name: `${name} body`, ...v.graph } };
  return { name, type: 4, t: initializer(name, (v as { tensor: Tensor }).tensor) };
}
export const initializer = (name: string, t: Tensor): Json => ({
  name,
  dataType: ONNX_OF_DTYPE[t.dtype],
  dims: t.shape,
  rawData: Buffer.from(bytesOfTensor(t)),
});

/** Uniform in [-1, 1), from a seed. */
export function noise(count: number, seed = 1): Float32Array {
  let s = seed >>> 0;
  return Float32Array.from({ length: count }, () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return s / 2 ** 31 - 1;
  });
}
