/** ModelProto and all below it but tensors: bytes -> plain objects. Nothing is judged here but the encoding. */
import type { Dim } from '../core/graph.ts';
import { type AttrProto, domainOf, type FunctionProto, type GraphProto, type Imports, type ModelProto, type NodeProto, type SparseProto, type TensorProto, type ValueProto, type ValueType } from './proto.ts';
import { dtypeOf, readEntry, readSparse, readTensor } from './tensor-proto.ts';
import { bigint, bytesField, eachField, enumField, FIXED32, floatField, intField, malformed, messageField, type Reader, readerOf, repeated, textField, textOf, VARINT } from './wire.ts';

/** Reads a ModelProto. @throws model_malformed, model_unsupported, external_data_unsafe */
export function readModel(bytes: Uint8Array): ModelProto {
  const r = readerOf(bytes);
  let irVersion = 0;
  let producer = '';
  let graph = null as GraphProto | null;
  const imports = new Map<string, number>();
  const metadata = new Map<string, string>();
  const functions: FunctionProto[] = [];
  eachField(r, bytes.length, 'the model', (field, wire) => {
    switch (field) {
      case 1: irVersion = intField(r, wire, 'ir_version'); return true;
      case 2: producer = textField(r, wire, 'producer_name'); return true;
      case 7:
        if (graph) malformed(r.pos, 'the model has two graphs');
        graph = messageField(r, wire, 'graph', 0, readGraph);
        return true;
      case 8: messageField(r, wire, 'opset_import', 0, (at, end) => readImport(at, end, imports)); return true;
      case 14: messageField(r, wire, 'metadata_props', 0, (at, end) => readEntry(at, end, metadata)); return true;
      case 25: functions.push(messageField(r, wire, 'functions', 0, readFunction)); return true;
      default: return false;
    }
  });
  return { irVersion, producer, graph, imports, metadata, functions };
}

function readImport(r: Reader, end: number, to: Map<string, number>): void {
  let domain = '';
  let version = 0;
  eachField(r, end, 'an operator set', (field, wire) => {
    if (field === 1) domain = domainOf(textField(r, wire, 'domain'));
    else if (field === 2) version = intField(r, wire, 'version');
    else return false;
    return true;
  });
  if (!Number.isSafeInteger(version) || version < 1) malformed(r.pos, `operator set ${JSON.stringify(domain || 'ai.onnx')} has version ${version}`);
  if ((to.get(domain) ?? version) !== version) malformed(r.pos, `operator set ${JSON.stringify(domain || 'ai.onnx')} is imported as ${to.get(domain)} and as ${version}`);
  to.set(domain, version);
}

function readGraph(r: Reader, end: number, depth: number): GraphProto {
  let name = '';
  const nodes: NodeProto[] = [];
  const initializers: TensorProto[] = [];
  const sparse: SparseProto[] = [];
  const inputs: ValueProto[] = [];
  const outputs: ValueProto[] = [];
  const values: ValueProto[] = [];
  eachField(r, end, 'a graph', (field, wire) => {
    switch (field) {
      case 1: nodes.push(messageField(r, wire, 'a node', depth, readNode)); return true;
      case 2: name = textField(r, wire, 'a graph name'); return true;
      case 5: initializers.push(messageField(r, wire, 'an initializer', depth, readTensor)); return true;
      case 11: inputs.push(messageField(r, wire, 'a graph input', depth, readValue)); return true;
      case 12: outputs.push(messageField(r, wire, 'a graph output', depth, readValue)); return true;
      case 13: values.push(messageField(r, wire, 'value_info', depth, readValue)); return true;
      case 15: sparse.push(messageField(r, wire, 'a sparse initializer', depth, readSparse)); return true;
      default: return false;
    }
  });
  return { name, nodes, initializers, sparse, inputs, outputs, values };
}

function readNode(r: Reader, end: number, depth: number): NodeProto {
  let name = '';
  let op = '';
  let domain = '';
  let overload = '';
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attrs = new Map<string, AttrProto>();
  const at = r.pos;
  eachField(r, end, 'a node', (field, wire) => {
    switch (field) {
      case 1: inputs.push(textField(r, wire, 'an input name')); return true;
      case 2: outputs.push(textField(r, wire, 'an output name')); return true;
      case 3: name = textField(r, wire, 'a node name'); return true;
      case 4: op = textField(r, wire, 'op_type'); return true;
      case 5: addAttr(attrs, messageField(r, wire, 'an attribute', depth, readAttr), r.pos); return true;
      case 7: domain = domainOf(textField(r, wire, 'domain')); return true;
      case 8: overload = textField(r, wire, 'overload'); return true;
      default: return false;
    }
  });
  if (op === '') malformed(at, `node ${JSON.stringify(name)} has no op_type`);
  return { name, op, domain, overload, inputs, outputs, attrs };
}

function addAttr(to: Map<string, AttrProto | null>, [name, attr]: readonly [string, AttrProto], at: number): void {
  if (name === '') malformed(at, 'an attribute has no name');
  if (to.get(name)) malformed(at, `the attribute ${JSON.stringify(name)} is given twice`);
  to.set(name, attr);
}

/** AttributeProto.type; before IR version 3 it may be missing, and the field that is there tells. */
const KINDS = ['', 'float', 'int', 'string', 'tensor', 'graph', 'floats', 'ints', 'strings', 'tensors', 'graphs', 'sparse', 'sparses', 'type', 'types'] as const;

function readAttr(r: Reader, end: number, depth: number): readonly [string, AttrProto] {
  let name = '';
  let ref = '';
  let type = 0;
  let seen = 0;
  let number = 0;
  let exact = 0n;
  let text = '';
  let tensor = null as TensorProto | null;
  let graph = null as GraphProto | null;
  let sparse = null as SparseProto | null;
  let valueType = null as ValueType | null;
  const floats: number[] = [];
  const ints: bigint[] = [];
  const strings: string[] = [];
  const tensors: TensorProto[] = [];
  const graphs: GraphProto[] = [];
  eachField(r, end, 'an attribute', (field, wire) => {
    switch (field) {
      case 1: name = textField(r, wire, 'an attribute name'); return true;
      case 2: number = floatField(r, wire, 'f'); seen ||= 1; return true;
      case 3:
        if (wire !== VARINT) malformed(r.pos, `attribute ${JSON.stringify(name)} has an i of wire type ${wire}`);
        exact = bigint(r); seen ||= 2; return true;
      case 4: text = textOf(bytesField(r, wire, 's')); seen ||= 3; return true;
      case 5: tensor = messageField(r, wire, 't', depth, readTensor); seen ||= 4; return true;
      case 6: graph = messageField(r, wire, 'g', depth, readGraph); seen ||= 5; return true;
      case 7: repeated(r, wire, FIXED32, 'floats', (at) => { floats.push(at.float()); }); seen ||= 6; return true;
      case 8: repeated(r, wire, VARINT, 'ints', (at) => { ints.push(bigint(at)); }); seen ||= 7; return true;
      case 9: strings.push(textField(r, wire, 'strings')); seen ||= 8; return true;
      case 10: tensors.push(messageField(r, wire, 'tensors', depth, readTensor)); seen ||= 9; return true;
      case 11: graphs.push(messageField(r, wire, 'graphs', depth, readGraph)); seen ||= 10; return true;
      case 14: valueType = messageField(r, wire, 'tp', depth, readType); seen ||= 13; return true;
      case 20: type = enumField(r, wire, 'an attribute type'); return true;
      case 21: ref = textField(r, wire, 'ref_attr_name'); return true;
      case 22: sparse = messageField(r, wire, 'sparse_tensor', depth, readSparse); seen ||= 11; return true;
      default: return false;
    }
  });
  const said = `attribute ${JSON.stringify(name)}`;
  if (ref !== '') return [name, { kind: 'ref', ref }];
  const value = (): AttrProto => {
    switch (KINDS[type || seen]) {
      case 'float': return { kind: 'float', value: number };
      case 'int': return { kind: 'int', value: Number(exact), exact };
      case 'string': return { kind: 'string', value: text };
      case 'tensor': return { kind: 'tensor', value: tensor ?? malformed(end, `${said} has no tensor`) };
      case 'graph': return { kind: 'graph', value: graph ?? malformed(end, `${said} has no graph`) };
      case 'floats': return { kind: 'floats', value: floats };
      case 'ints': return { kind: 'ints', value: ints.map(Number), exact: ints };
      case 'strings': return { kind: 'strings', value: strings };
      case 'tensors': return { kind: 'tensors', value: tensors };
      case 'graphs': return { kind: 'graphs', value: graphs };
      case 'sparse': return { kind: 'sparse', value: sparse ?? malformed(end, `${said} has no sparse tensor`) };
      case 'type': return { kind: 'type', value: valueType };
      case '': return malformed(end, `${said} has neither a type nor a value`);
      default: return malformed(end, `${said} has the type ${type}, which is not read`);
    }
  };
  return [name, value()];
}

function readValue(r: Reader, end: number, depth: number): ValueProto {
  let name = '';
  let type = null as ValueType | null;
  eachField(r, end, 'a value', (field, wire) => {
    if (field === 1) name = textField(r, wire, 'a value name');
    else if (field === 2) type = messageField(r, wire, 'a type', depth, readType);
    else return false;
    return true;
  });
  return { name, type };
}

/** Reads a TypeProto; null when it says nothing. A sparse tensor's type is its dense form's, which is what it is made into. */
export function readType(r: Reader, end: number, depth: number): ValueType | null {
  let type = null as ValueType | null;
  eachField(r, end, 'a type', (field, wire) => {
    switch (field) {
      case 1: case 8: type = messageField(r, wire, 'a tensor type', depth, readTensorType); return true;
      case 4: type = { kind: 'sequence', of: messageField(r, wire, 'a sequence type', depth, readElement) }; return true;
      case 5: type = messageField(r, wire, 'a map type', depth, readMapType); return true;
      case 9: type = { kind: 'optional', of: messageField(r, wire, 'an optional type', depth, readElement) }; return true;
      default: return false;
    }
  });
  return type;
}

function readElement(r: Reader, end: number, depth: number): ValueType | null {
  let of = null as ValueType | null;
  eachField(r, end, 'a type', (field, wire) => {
    if (field !== 1) return false;
    of = messageField(r, wire, 'an element type', depth, readType);
    return true;
  });
  return of;
}

function readMapType(r: Reader, end: number, depth: number): ValueType {
  let key = 0;
  let value = null as ValueType | null;
  eachField(r, end, 'a map type', (field, wire) => {
    if (field === 1) key = enumField(r, wire, 'a key type');
    else if (field === 2) value = messageField(r, wire, 'a value type', depth, readType);
    else return false;
    return true;
  });
  return { kind: 'map', key: dtypeOf(key, 'a map key'), value };
}

function readTensorType(r: Reader, end: number, depth: number): ValueType | null {
  let type = 0;
  let shape: Dim[] | null = null;
  eachField(r, end, 'a tensor type', (field, wire) => {
    if (field === 1) type = enumField(r, wire, 'elem_type');
    else if (field === 2) shape = messageField(r, wire, 'a shape', depth, readShape);
    else return false;
    return true;
  });
  return type === 0 ? null : { kind: 'tensor', dtype: dtypeOf(type, 'a tensor type'), shape };
}

function readShape(r: Reader, end: number, depth: number): Dim[] {
  const dims: Dim[] = [];
  eachField(r, end, 'a shape', (field, wire) => {
    if (field !== 1) return false;
    dims.push(messageField(r, wire, 'a dim', depth, readDim));
    if (dims.length > 1024) malformed(r.pos, 'a shape has more than 1024 dims');
    return true;
  });
  return dims;
}

/** A dim of a declared shape; exporters write -1, too, for one they do not know. */
function readDim(r: Reader, end: number): Dim {
  let dim: Dim = null;
  eachField(r, end, 'a dim', (field, wire) => {
    if (field === 1) {
      const n = intField(r, wire, 'dim_value');
      if (!Number.isSafeInteger(n) || n < -1) malformed(r.pos, `a dim is ${n}`);
      dim = n === -1 ? null : n;
    } else if (field === 2) dim = textField(r, wire, 'dim_param') || null;
    else return false;
    return true;
  });
  return dim;
}

function readFunction(r: Reader, end: number, depth: number): FunctionProto {
  let name = '';
  let domain = '';
  let overload = '';
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes = new Map<string, AttrProto | null>();
  const nodes: NodeProto[] = [];
  const imports = new Map<string, number>();
  eachField(r, end, 'a function', (field, wire) => {
    switch (field) {
      case 1: name = textField(r, wire, 'a function name'); return true;
      case 4: inputs.push(textField(r, wire, 'an input name')); return true;
      case 5: outputs.push(textField(r, wire, 'an output name')); return true;
      case 6: {
        const attribute = textField(r, wire, 'an attribute name');
        if (!attributes.has(attribute)) attributes.set(attribute, null);
        return true;
      }
      case 7: nodes.push(messageField(r, wire, 'a node', depth, readNode)); return true;
      case 9: messageField(r, wire, 'opset_import', depth, (at, to) => readImport(at, to, imports)); return true;
      case 10: domain = domainOf(textField(r, wire, 'domain')); return true;
      case 11: addAttr(attributes, messageField(r, wire, 'an attribute', depth, readAttr), r.pos); return true;
      case 13: overload = textField(r, wire, 'overload'); return true;
      default: return false;
    }
  });
  return { name, domain, overload, inputs, outputs, attributes, nodes, imports: imports as Imports };
}
