/**
 * The part of ONNX's schema that a run needs. A field that is not here is skipped. Names of fields are ours.
 * https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 */
import { schemaOf } from './wire.ts';

/** TensorProto. Its other typed fields are read when the tensor is decoded. */
export const TENSOR =
  'dims 1 int*, type 2 int, segment 3 bytes, floats 4 packed, name 8 text, raw 9 bytes, doubles 10 packed, external 13 entry*, location 14 int';

export const ONNX = /* @__PURE__ */ schemaOf({
  model:
    'irVersion 1 int, producer 2 text, graph 7 graph, imports 8 opset*, metadata 14 entry*, functions 25 function*',
  opset: 'domain 1 text, version 2 int',
  entry: 'key 1 text, value 2 text',
  graph:
    'nodes 1 node*, name 2 text, initializers 5 tensor*, inputs 11 value*, outputs 12 value*, values 13 value*, sparse 15 sparse*',
  function:
    'name 1 text, inputs 4 text*, outputs 5 text*, attributes 6 text*, nodes 7 node*, imports 9 opset*, domain 10 text, defaults 11 attribute*, overload 13 text',
  node: 'inputs 1 text*, outputs 2 text*, name 3 text, op 4 text, attrs 5 attribute*, domain 7 text, overload 8 text',
  attribute: `name 1 text, float 2 float, int 3 long, string 4 bytes, tensor 5 tensor, graph 6 graph, floats 7 float*, ints 8 long*, strings 9 text*, tensors 10 tensor*,
    graphs 11 graph*, valueType 14 type, type 20 int, ref 21 text, sparse 22 sparse`,
  tensor: TENSOR,
  sparse: 'values 1 tensor, indices 2 tensor, dims 3 int*',
  value: 'name 1 text, type 2 type',
  type: 'tensor 1 tensorType, sequence 4 elementType, map 5 mapType, sparse 8 tensorType, optional 9 elementType',
  tensorType: 'type 1 int, shape 2 shape',
  elementType: 'of 1 type',
  mapType: 'key 1 int, value 2 type',
  shape: 'dims 1 dim*',
  dim: 'number 1 long, name 2 text',
});
