import { fail } from '../src/core/errors.ts';
import type { Graph } from '../src/core/graph.ts';
import { integers } from '../src/core/numbers.ts';
import { isTensor, sizeOf, type Sequence, type Tensor, tensor, type Value } from '../src/core/tensor.ts';
import { ALL, defineOp, graphAttr, INDEX, int, type Op, type RefCall, required, string } from './define.ts';
import { dtypeOf } from './create.ts';
import { entry, stack } from './control.ts';
import { axisOf } from './shapes.ts';
import { concatenate, sliced } from './slice.ts';

const sequenceOf = (items: readonly Value[]): Sequence => ({ kind: 'sequence', items });
const isSequence = (v: Value | null | undefined): v is Sequence => !!v && !isTensor(v) && v.kind === 'sequence';
const itemsOf = (call: RefCall, i = 0): readonly Value[] => {
  const v = call.inputs[i];
  return isSequence(v) ? v.items : fail('type_mismatch', `input ${i} must be a sequence`);
};
const tensorsOf = (call: RefCall, i = 0): Tensor[] =>
  itemsOf(call, i).map((v) => (isTensor(v) ? v : fail('type_mismatch', 'the sequence must be of tensors')));

/** The position that input i names among `count` places; negative ones count from the end. @throws value_invalid */
function positionOf(call: RefCall, i: number, count: number): number {
  const t = call.tensor(i);
  const [at = NaN] = sizeOf(t.shape) === 1 ? integers(t) : [];
  if (!(at >= -count && at < count)) fail('value_invalid', `position ${at} is outside a sequence of ${count}`);
  return at < 0 ? at + count : at;
}

/** Most tensors that one axis is cut into when no list of lengths is given. */
const MAX_PIECES = 2 ** 20;

function splitToSequence(call: RefCall<{ readonly axis: number; readonly keepdims: number }>): Sequence[] {
  const t = call.tensor(0);
  const given = call.optional(1);
  const axis = axisOf(call.attrs.axis, t.shape.length);
  const dim = t.shape[axis]!;
  if (dim > MAX_PIECES && (!given || given.shape.length === 0))
    fail('model_too_large', `an axis of ${dim} is split into too many tensors`);
  if (!given && !call.attrs.keepdims) return [sequenceOf(Array.from({ length: dim }, (_, i) => entry(t, axis, i)))];
  const split = given ? integers(given) : [1];
  if (split.some((n) => !(n >= 0)) || (given && given.shape.length > 1))
    fail('value_invalid', `split [${split}] must be one length or a list of them`);
  let sizes = split;
  if (!given || given.shape.length === 0) {
    const size = split[0]!;
    if (size === 0) fail('value_invalid', 'split is 0');
    sizes = Array.from({ length: Math.ceil(dim / size) }, (_, i) => Math.min(size, dim - i * size));
  }
  if (sizes.reduce((a, b) => a + b, 0) !== dim)
    fail('value_invalid', `pieces [${sizes}] do not make up the axis of ${dim}`);
  let start = 0;
  return [
    sequenceOf(
      sizes.map((n) => {
        const piece = sliced(t, {
          starts: t.shape.map((_, d) => (d === axis ? start : 0)),
          steps: t.shape.map(() => 1),
          shape: t.shape.map((d, k) => (k === axis ? n : d)),
        });
        start += n;
        return piece;
      }),
    ),
  ];
}

/** A body applied to each item; further inputs are sequences walked beside the first, or tensors that stay. */
async function sequenceMap(call: RefCall<{ readonly body: Graph }>): Promise<Sequence[]> {
  const { body } = call.attrs;
  const items = itemsOf(call);
  const more = call.inputs.slice(1).map((v, i) => v ?? fail('input_missing', `input ${i + 1} is missing`));
  for (const v of more)
    if (isSequence(v) && v.items.length !== items.length)
      fail('shape_mismatch', `sequences of ${items.length} and ${v.items.length} items are walked together`);
  const outs: Value[][] = body.outputs.map(() => []);
  for (const [i, item] of items.entries()) {
    const made = await call.run(body, [item, ...more.map((v) => (isSequence(v) ? v.items[i]! : v))]);
    outs.forEach((list, k) => list.push(made[k]!));
  }
  return outs.map(sequenceOf);
}

/** What an optional, or a value that stands for one, holds. */
const held = (v: Value | null | undefined): Value | null =>
  v == null ? null : !isTensor(v) && v.kind === 'optional' ? v.value : v;

/**
 * https://onnx.ai/onnx/operators/onnx__SequenceConstruct.html and its like,
 * https://onnx.ai/onnx/operators/onnx__Optional.html
 */
export const sequence: readonly Op[] = [
  defineOp({
    op: 'SequenceEmpty',
    since: [11],
    inputs: [],
    outputs: ['output: any'],
    types: {},
    attrs: { dtype: int(1) },
    dynamic: true,
    reference: (call) => {
      dtypeOf(call.attrs.dtype);
      return [sequenceOf([])];
    },
  }),
  defineOp({
    op: 'SequenceConstruct',
    since: [11],
    inputs: ['inputs: T*'],
    outputs: ['output_sequence: any'],
    types: { T: ALL },
    attrs: {},
    dynamic: true,
    reference: (call) => {
      const items = call.inputs.map((_, i) => call.tensor(i));
      for (const t of items)
        if (t.dtype !== items[0]!.dtype) fail('type_mismatch', `a sequence of ${items[0]!.dtype} and ${t.dtype}`);
      return [sequenceOf(items)];
    },
  }),
  defineOp({
    op: 'SequenceInsert',
    since: [11],
    inputs: ['input_sequence: any', 'tensor: T', 'position: I?'],
    outputs: ['output_sequence: any'],
    types: { T: ALL, I: INDEX },
    attrs: {},
    dynamic: true,
    reference: (call) => {
      const items = itemsOf(call);
      let at = items.length;
      if (call.optional(2)) {
        const [given = NaN] = integers(call.tensor(2));
        if (!(given >= -items.length && given <= items.length))
          fail('value_invalid', `position ${given} is outside a sequence of ${items.length}`);
        at = given < 0 ? given + items.length : given;
      }
      return [sequenceOf([...items.slice(0, at), call.tensor(1), ...items.slice(at)])];
    },
  }),
  defineOp({
    op: 'SequenceErase',
    since: [11],
    inputs: ['input_sequence: any', 'position: I?'],
    outputs: ['output_sequence: any'],
    types: { I: INDEX },
    attrs: {},
    dynamic: true,
    reference: (call) => {
      const items = itemsOf(call);
      if (items.length === 0) fail('value_invalid', 'nothing can be erased from an empty sequence');
      const at = call.optional(1) ? positionOf(call, 1, items.length) : items.length - 1;
      return [sequenceOf(items.filter((_, i) => i !== at))];
    },
  }),
  defineOp({
    op: 'SequenceAt',
    since: [11],
    inputs: ['input_sequence: any', 'position: I'],
    outputs: ['tensor: any'],
    types: { I: INDEX },
    attrs: {},
    dynamic: true,
    reference: (call) => [itemsOf(call)[positionOf(call, 1, itemsOf(call).length)]!],
  }),
  defineOp({
    op: 'SequenceLength',
    since: [11],
    inputs: ['input_sequence: any'],
    outputs: ['length: int64'],
    types: {},
    attrs: {},
    dynamic: true,
    reference: (call) => [tensor('int64', [], [itemsOf(call).length])],
  }),
  defineOp({
    op: 'SplitToSequence',
    since: [11, 24],
    inputs: ['input: T', 'split: I?'],
    outputs: ['output_sequence: any'],
    types: { T: ALL, I: INDEX },
    attrs: { axis: int(0), keepdims: int(1) },
    dynamic: true,
    reference: splitToSequence,
  }),
  defineOp({
    op: 'ConcatFromSequence',
    since: [11],
    inputs: ['input_sequence: any'],
    outputs: ['concat_result: T'],
    types: { T: ALL },
    attrs: { axis: required(int()), new_axis: int(0) },
    dynamic: true,
    reference: (call) => {
      const tensors = tensorsOf(call);
      if (tensors.length === 0) fail('value_invalid', 'an empty sequence cannot be concatenated');
      return [call.attrs.new_axis ? stack(tensors, call.attrs.axis) : concatenate(tensors, call.attrs.axis)];
    },
  }),
  defineOp({
    op: 'SequenceMap',
    since: [17],
    inputs: ['input_sequence: any', 'additional_inputs: any*'],
    outputs: ['out_sequence: any*'],
    types: {},
    attrs: { body: required(graphAttr()) },
    dynamic: true,
    reference: sequenceMap,
  }),
  defineOp({
    op: 'Optional',
    since: [15],
    inputs: ['input: any?'],
    outputs: ['output: any'],
    types: {},
    attrs: { type: string() },
    dynamic: true,
    reference: (call) => [{ kind: 'optional', value: call.inputs[0] ?? null }],
  }),
  defineOp({
    op: 'OptionalHasElement',
    since: [15, 18],
    inputs: ['input: any?'],
    outputs: ['output: bool'],
    types: {},
    attrs: {},
    dynamic: true,
    reference: (call) => [tensor('bool', [], [held(call.inputs[0]) !== null])],
  }),
  defineOp({
    op: 'OptionalGetElement',
    since: [15, 18],
    inputs: ['input: any'],
    outputs: ['output: any'],
    types: {},
    attrs: {},
    dynamic: true,
    reference: (call) => [held(call.inputs[0]) ?? fail('value_invalid', 'the optional holds nothing')],
  }),
];
