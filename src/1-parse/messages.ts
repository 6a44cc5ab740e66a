/** ModelProto and all below it: bytes -> plain objects. Nothing is judged here but the encoding. */
import type { Dim } from '../core/graph.ts';
import {
  type AttrProto,
  domainOf,
  type FunctionProto,
  type GraphProto,
  type Imports,
  type ModelProto,
  type NodeProto,
  type SparseProto,
  type TensorProto,
  type ValueType,
} from './proto.ts';
import { ONNX } from './schema.ts';
import { dtypeOf, entriesOf, type Entry, type Raw, sparseOf, tensorOf } from './tensor-proto.ts';
import { type Finish, malformed, readerOf, readMessage, type Sparse, textOf } from './wire.ts';

/** Reads a ModelProto. @throws model_malformed, model_unsupported, external_data_unsafe */
export function readModel(from: Uint8Array | Sparse): ModelProto {
  return readMessage(readerOf(from), ONNX, FINISH, 'model') as ModelProto;
}

interface OpsetProto {
  readonly domain: string;
  readonly version: number;
  readonly at: number;
}

function importsOf(opsets: readonly OpsetProto[]): Imports {
  const imports = new Map<string, number>();
  for (const { domain, version, at } of opsets) {
    const said = `operator set ${JSON.stringify(domain || 'ai.onnx')}`;
    if (!Number.isSafeInteger(version) || version < 1) malformed(at, `${said} has version ${version}`);
    if ((imports.get(domain) ?? version) !== version)
      malformed(at, `${said} is imported as ${imports.get(domain)} and as ${version}`);
    imports.set(domain, version);
  }
  return imports;
}

function attrsOf(attrs: readonly NamedAttr[], at: number): Map<string, AttrProto> {
  const out = new Map<string, AttrProto>();
  for (const [name, attr] of attrs) {
    if (name === '') malformed(at, 'an attribute has no name');
    if (out.has(name)) malformed(at, `the attribute ${JSON.stringify(name)} is given twice`);
    out.set(name, attr);
  }
  return out;
}

type NamedAttr = readonly [name: string, AttrProto];
/** AttributeProto.type; before IR version 3 it may be missing, and the field that is there tells. */
const KINDS = [
  '',
  'float',
  'int',
  'string',
  'tensor',
  'graph',
  'floats',
  'ints',
  'strings',
  'tensors',
  'graphs',
  'sparse',
  'sparses',
  'valueType',
] as const;

interface AttributeFields {
  readonly name: string;
  readonly ref: string;
  readonly type: number;
  readonly float: number | null;
  readonly int: bigint | null;
  readonly string: Uint8Array | null;
  readonly tensor: TensorProto | null;
  readonly graph: GraphProto | null;
  readonly sparse: SparseProto | null;
  readonly valueType: ValueType | null;
  readonly floats: readonly number[];
  readonly ints: readonly bigint[];
  readonly strings: readonly string[];
  readonly tensors: readonly TensorProto[];
  readonly graphs: readonly GraphProto[];
}
const isThere = (value: unknown): boolean => value != null && !(Array.isArray(value) && value.length === 0);

function attributeOf({ fields: a, at }: Raw<AttributeFields>): NamedAttr {
  if (a.ref !== '') return [a.name, { kind: 'ref', ref: a.ref }];
  const said = `attribute ${JSON.stringify(a.name)}`;
  const kind = a.type === 0 ? KINDS.find((k) => isThere(a[k])) : KINDS[a.type];
  const there = <T>(value: T | null): T => value ?? malformed(at, `${said} has no value`);
  const value = (): AttrProto => {
    switch (kind) {
      case 'float':
        return { kind, value: a.float ?? 0 };
      case 'int':
        return { kind, value: Number(a.int ?? 0n), exact: a.int ?? 0n };
      case 'string':
        return { kind, value: textOf(a.string ?? new Uint8Array()) };
      case 'tensor':
        return { kind, value: there(a.tensor) };
      case 'graph':
        return { kind, value: there(a.graph) };
      case 'sparse':
        return { kind, value: there(a.sparse) };
      case 'floats':
        return { kind, value: a.floats };
      case 'ints':
        return { kind, value: a.ints.map(Number), exact: a.ints };
      case 'strings':
        return { kind, value: a.strings };
      case 'tensors':
        return { kind, value: a.tensors };
      case 'graphs':
        return { kind, value: a.graphs };
      case 'valueType':
        return { kind: 'type', value: a.valueType };
      default:
        return malformed(
          at,
          a.type === 0 ? `${said} has neither a type nor a value` : `${said} has the type ${a.type}, which is not read`,
        );
    }
  };
  return [a.name, value()];
}

function dimOf({ fields: { number, name }, at }: Raw<{ number: bigint | null; name: string }>): Dim {
  if (name !== '') return name;
  const n = Number(number ?? -1); // exporters write -1 for one they do not know
  if (!Number.isSafeInteger(n) || n < -1) malformed(at, `a dim is ${n}`);
  return n === -1 ? null : n;
}

function shapeOf({ fields: { dims }, at }: Raw<{ dims: readonly Dim[] }>): readonly Dim[] {
  if (dims.length > 1024) malformed(at, 'a shape has more than 1024 dims');
  return dims;
}

type TypeFields = Readonly<Record<'tensor' | 'map' | 'sparse', ValueType | null>> &
  Readonly<Record<'sequence' | 'optional', { readonly of: ValueType | null } | null>>;
/** A type; null when it says nothing. A sparse tensor's type is its dense form's, which is what it is made into. */
const typeOf = ({ fields: { tensor, sequence, map, sparse, optional } }: Raw<TypeFields>): ValueType | null =>
  sequence
    ? { kind: 'sequence', of: sequence.of }
    : optional
      ? { kind: 'optional', of: optional.of }
      : (map ?? tensor ?? sparse);

export const FINISH: Finish = {
  model: ({
    fields: m,
  }: Raw<
    Omit<ModelProto, 'imports' | 'metadata'> & { imports: readonly OpsetProto[]; metadata: readonly Entry[] }
  >): ModelProto => ({ ...m, imports: importsOf(m.imports), metadata: entriesOf(m.metadata) }),
  opset: ({ fields: o, at }: Raw<OpsetProto>): OpsetProto => ({ domain: domainOf(o.domain), version: o.version, at }),
  function: ({
    fields: f,
    at,
  }: Raw<
    Omit<FunctionProto, 'attributes' | 'imports'> & {
      attributes: readonly string[];
      defaults: readonly NamedAttr[];
      imports: readonly OpsetProto[];
    }
  >): FunctionProto => {
    const defaults = attrsOf(f.defaults, at);
    return {
      ...f,
      domain: domainOf(f.domain),
      attributes: new Map<string, AttrProto | null>([
        ...f.attributes.map((name) => [name, null] as const),
        ...defaults,
      ]),
      imports: importsOf(f.imports),
    };
  },
  node: ({ fields: n, at }: Raw<Omit<NodeProto, 'attrs'> & { attrs: readonly NamedAttr[] }>): NodeProto => {
    if (n.op === '') malformed(at, `node ${JSON.stringify(n.name)} has no op_type`);
    return { ...n, domain: domainOf(n.domain), attrs: attrsOf(n.attrs, at) };
  },
  attribute: attributeOf,
  tensor: tensorOf,
  sparse: sparseOf,
  type: typeOf,
  tensorType: ({ fields: { type, shape } }: Raw<{ type: number; shape: readonly Dim[] | null }>): ValueType | null =>
    type === 0 ? null : { kind: 'tensor', dtype: dtypeOf(type, 'a tensor type'), shape },
  mapType: ({ fields: { key, value } }: Raw<{ key: number; value: ValueType | null }>): ValueType => ({
    kind: 'map',
    key: dtypeOf(key, 'a map key'),
    value,
  }),
  shape: shapeOf,
  dim: dimOf,
};
