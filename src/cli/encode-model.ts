/** Writes small ONNX models: protobuf's wire format, by hand. https://github.com/onnx/onnx/blob/main/onnx/onnx.proto */
import type { AttrKind } from '../../kernels/define.ts';
import { type DType, ONNX_OF_DTYPE } from '../core/dtype.ts';
import { bytesOfTensor, type Tensor } from '../core/tensor.ts';

/** A graph to be written. A name that no one defines is looked for in the graph around it. */
export interface GraphText {
  readonly inputs: readonly PortText[];
  readonly outputs: readonly PortText[];
  readonly weights: readonly { readonly name: string; readonly tensor: Tensor }[];
  readonly nodes: readonly NodeText[];
}
/** `dtype` left out: the model says no type. */
export interface PortText {
  readonly name: string;
  readonly dtype?: DType;
  readonly shape?: readonly number[];
}
export interface NodeText {
  /** As the registry names it: "Softmax", "com.microsoft.Gelu". */
  readonly op: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attrs: readonly AttrText[];
}
export interface AttrText {
  readonly name: string;
  readonly kind: AttrKind;
  readonly value: number | string | readonly number[] | readonly string[] | Tensor | GraphText;
}

const utf8 = new TextEncoder();
const join = (parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> => {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  parts.reduce((at, p) => (out.set(p, at), at + p.length), 0);
  return out;
};
function varint(v: number | bigint): Uint8Array {
  const out: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(v));
  for (; rest > 127n; rest >>= 7n) out.push(Number(rest & 127n) | 128);
  return Uint8Array.of(...out, Number(rest));
}
const int = (field: number, v: number | bigint): Uint8Array => join([varint(field << 3), varint(v)]);
const bytes = (field: number, b: Uint8Array): Uint8Array => join([varint((field << 3) | 2), varint(b.length), b]);
const text = (field: number, s: string): Uint8Array => bytes(field, utf8.encode(s));
const single = (field: number, v: number): Uint8Array =>
  join([varint((field << 3) | 5), new Uint8Array(Float32Array.of(v).buffer)]);

/** A TensorProto. */
export const tensorProto = (name: string, t: Tensor): Uint8Array<ArrayBuffer> =>
  join([
    ...t.shape.map((d) => int(1, d)),
    int(2, ONNX_OF_DTYPE[t.dtype]),
    text(8, name),
    ...(t.dtype === 'string' ? (t.data as readonly string[]).map((s) => text(6, s)) : [bytes(9, bytesOfTensor(t))]),
  ]);

/** AttributeProto.AttributeType. */
const KIND: Readonly<Record<AttrKind, number>> = {
  float: 1,
  int: 2,
  string: 3,
  tensor: 4,
  graph: 5,
  floats: 6,
  ints: 7,
  strings: 8,
};
function attribute({ name, kind, value }: AttrText): Uint8Array {
  const list = value as readonly number[];
  const payload = (): readonly Uint8Array[] => {
    switch (kind) {
      case 'float':
        return [single(2, value as number)];
      case 'int':
        return [int(3, value as number)];
      case 'string':
        return [text(4, value as string)];
      case 'tensor':
        return [bytes(5, tensorProto('', value as Tensor))];
      case 'graph':
        return [bytes(6, graphProto(value as GraphText, name))];
      case 'floats':
        return list.map((v) => single(7, v));
      case 'ints':
        return list.map((v) => int(8, v));
      case 'strings':
        return (value as readonly string[]).map((s) => text(9, s));
    }
  };
  return join([text(1, name), int(20, KIND[kind]), ...payload()]);
}

/** The domain and the bare name: "com.microsoft.Gelu" is Gelu of com.microsoft. */
const split = (op: string): [domain: string, name: string] => [
  op.slice(0, Math.max(0, op.lastIndexOf('.'))),
  op.slice(op.lastIndexOf('.') + 1),
];
const nodeProto = (n: NodeText): Uint8Array =>
  join([
    ...n.inputs.map((v) => text(1, v)),
    ...n.outputs.map((v) => text(2, v)),
    text(3, n.name),
    text(4, split(n.op)[1]),
    ...n.attrs.map((a) => bytes(5, attribute(a))),
    text(7, split(n.op)[0]),
  ]);

const portProto = ({ name, dtype, shape }: PortText): Uint8Array =>
  join([
    text(1, name),
    ...(dtype === undefined
      ? []
      : [
          bytes(
            2,
            bytes(
              1,
              join([
                int(1, ONNX_OF_DTYPE[dtype]),
                ...(shape === undefined ? [] : [bytes(2, join(shape.map((d) => bytes(1, int(1, d)))))]),
              ]),
            ),
          ),
        ]),
  ]);
const graphProto = (g: GraphText, name: string): Uint8Array =>
  join([
    ...g.nodes.map((n) => bytes(1, nodeProto(n))),
    text(2, name),
    ...g.weights.map((w) => bytes(5, tensorProto(w.name, w.tensor))),
    ...g.inputs.map((p) => bytes(11, portProto(p))),
    ...g.outputs.map((p) => bytes(12, portProto(p))),
  ]);

/** The bytes of a model. `opsets`: imported versions by domain, "" for ONNX's own. */
export const encodeModel = (graph: GraphText, opsets: Readonly<Record<string, number>>): Uint8Array<ArrayBuffer> =>
  join([
    int(1, 10),
    ...Object.entries(opsets).map(([domain, version]) => bytes(8, join([text(1, domain), int(2, version)]))),
    bytes(7, graphProto(graph, 'example')),
  ]);
