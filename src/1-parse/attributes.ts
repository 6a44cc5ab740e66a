import { tensor } from '../core/tensor.ts';
import { fail } from '../core/errors.ts';
import { type AttrValue, type Attrs, type Constant, constantOf, type Graph } from '../core/graph.ts';
import type { AttrProto, GraphProto, NodeProto, ValueType } from './proto.ts';
import { constantOfProto, decodeTensor, denseOf, type Source } from './tensor-proto.ts';

/** A type in ONNX's notation, with our dtype names: "seq(tensor(float32))". */
export function typeText(type: ValueType | null): string {
  if (!type) return 'undefined';
  switch (type.kind) {
    case 'tensor':
      return `tensor(${type.dtype})`;
    case 'sequence':
      return `seq(${typeText(type.of)})`;
    case 'optional':
      return `optional(${typeText(type.of)})`;
    case 'map':
      return `map(${type.key},${typeText(type.value)})`;
  }
}

/** A node's attributes, its bodies built by `build`. Sparse tensors become dense, types their text. */
export function attrsOf(node: NodeProto, build: (body: GraphProto) => Graph): Attrs {
  const out: Record<string, AttrValue> = Object.create(null);
  for (const [name, attr] of node.attrs) out[name] = valueOf(name, attr, build);
  return out;
}

function valueOf(name: string, attr: AttrProto, build: (body: GraphProto) => Graph): AttrValue {
  switch (attr.kind) {
    case 'ref':
      return fail(
        'model_malformed',
        `attribute ${JSON.stringify(name)} refers to ${JSON.stringify(attr.ref)} outside of a function`,
      );
    case 'tensor':
      return decodeTensor(attr.value);
    case 'tensors':
      return attr.value.map(decodeTensor);
    case 'sparse':
      return denseOf(attr.value);
    case 'graph':
      return build(attr.value);
    case 'graphs':
      return attr.value.map(build);
    case 'type':
      return typeText(attr.value);
    default:
      return attr.value;
  }
}

/** The value of a Constant node. https://onnx.ai/onnx/operators/onnx__Constant.html @throws model_malformed */
export function constantOfNode(node: NodeProto, source: Source): Constant {
  const [entry, ...more] = node.attrs;
  if (!entry || more.length > 0)
    return fail('model_malformed', `a Constant has exactly one attribute, not ${node.attrs.size}`);
  const [name, attr] = entry;
  if (name === 'value' && attr.kind === 'tensor') return constantOfProto(attr.value, source);
  if (name === 'sparse_value' && attr.kind === 'sparse') return constantOf(denseOf(attr.value));
  if (name === 'value_float' && attr.kind === 'float') return constantOf(tensor('float32', [], [attr.value]));
  if (name === 'value_int' && attr.kind === 'int') return constantOf(tensor('int64', [], [attr.exact]));
  if (name === 'value_floats' && attr.kind === 'floats')
    return constantOf(tensor('float32', [attr.value.length], attr.value));
  if (name === 'value_ints' && attr.kind === 'ints')
    return constantOf(tensor('int64', [attr.exact.length], attr.exact));
  if (name === 'value_string' && attr.kind === 'string') return constantOf(tensor('string', [], [attr.value]));
  if (name === 'value_strings' && attr.kind === 'strings')
    return constantOf(tensor('string', [attr.value.length], attr.value as string[]));
  return fail('model_malformed', `a Constant has no attribute ${JSON.stringify(name)} of kind ${attr.kind}`);
}
