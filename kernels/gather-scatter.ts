import { BITS, type DType, isFloat } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { bigints, fromNumbers, integers, numbers } from '../src/core/numbers.ts';
import { sizeOf, stridesOf, type Tensor } from '../src/core/tensor.ts';
import { ALL, defineOp, INDEX, int, type InferCall, type Op, type OutFact, type RefCall, string } from './define.ts';
import { cellsOf, copyRun, fromCells, newCells, sized } from './elements.ts';
import { indicesOf, inRange } from './gather.ts';
import { type Given, givenRun, infers } from './given.ts';
import { axisOf, eachOffset } from './shapes.ts';

/**
 * Indices and data of an …Elements operator: of one rank, and the indices no longer than the data but along the axis.
 */
function elementwise(g: Given<{ readonly axis: number }>): number {
  const [from, at] = [g.shape(0), g.shape(1)];
  const axis = axisOf(g.attrs.axis, from.length);
  if (from.length !== at.length || at.some((d, i) => i !== axis && d > from[i]!))
    fail('shape_mismatch', `indices [${at}] do not fit into data [${from}] beside axis ${axis}`);
  return axis;
}

/**
 * How an ND operator divides its shapes: `batch` leading elements, tuples of `depth` indices, and the `run` elements
 * each tuple names.
 */
interface Tuples {
  readonly batch: number;
  readonly depth: number;
  readonly tuples: number;
  readonly run: number;
  readonly dims: readonly number[];
}
function tuplesOf(data: readonly number[], at: readonly number[], batchDims: number): Tuples {
  const depth = at.at(-1) ?? fail('shape_mismatch', 'indices is a scalar; its last dim must be the length of an index');
  if (!(batchDims >= 0 && batchDims < Math.min(data.length, at.length)))
    fail('attribute_invalid', `batch_dims ${batchDims} is too large for data [${data}] and indices [${at}]`);
  if (depth + batchDims > data.length)
    fail('shape_mismatch', `indices [${at}] name ${depth} axes of data [${data}] behind ${batchDims} batch dims`);
  for (let i = 0; i < batchDims; i++)
    if (data[i] !== at[i]) fail('shape_mismatch', `batch dim ${i} of data [${data}] and indices [${at}] differ`);
  return {
    batch: sizeOf(at.slice(0, batchDims)),
    depth,
    tuples: sizeOf(at.slice(batchDims, -1)),
    run: sizeOf(data.slice(batchDims + depth)),
    dims: data.slice(batchDims, batchDims + depth),
  };
}
/** The element of the data at which each tuple's run begins. */
function offsetsOf({ batch, depth, tuples, run, dims }: Tuples, indices: Tensor): Float64Array {
  const at = numbers(indices);
  const strides = stridesOf(dims);
  const whole = sizeOf(dims);
  return Float64Array.from({ length: batch * tuples }, (_, i) => {
    let offset = Math.floor(i / tuples) * whole;
    for (let k = 0; k < depth; k++) offset += inRange(at[i * depth + k]!, dims[k]!, i * depth + k) * strides[k]!;
    return offset * run;
  });
}
function gatheredND(g: Given<{ readonly batch_dims: number }>): OutFact[] {
  const [data, at] = [g.shape(0), g.shape(1)];
  const { depth } = tuplesOf(data, at, g.attrs.batch_dims);
  return [sized(g.dtype(0), [...at.slice(0, -1), ...data.slice(g.attrs.batch_dims + depth)])];
}

const REDUCTIONS = ['none', 'add', 'mul', 'max', 'min'];
const reductionOf = (name: string): string =>
  REDUCTIONS.includes(name)
    ? name
    : fail('attribute_invalid', `reduction ${JSON.stringify(name)} must be one of ${REDUCTIONS.join(', ')}`);

/**
 * `data` with element `place(i)` replaced by, or combined with, element i of `updates`, in the order of i. Integers are
 * exact and wrap.
 */
function scatter(data: Tensor, updates: Tensor, place: (i: number) => number, reduction: string): Tensor {
  const count = sizeOf(updates.shape);
  if (reduction === 'none') {
    const to = newCells(data.dtype, sizeOf(data.shape));
    copyRun(cellsOf(data), 0, to, 0, sizeOf(data.shape));
    const from = cellsOf(updates);
    for (let i = 0; i < count; i++) copyRun(from, i, to, place(i), 1);
    return fromCells(data.dtype, data.shape, to);
  }
  if (isFloat(data.dtype) || data.dtype === 'bool') {
    const to = Float64Array.from(numbers(data));
    const from = numbers(updates);
    const combine =
      reduction === 'add'
        ? (a: number, b: number) => a + b
        : reduction === 'mul'
          ? (a: number, b: number) => a * b
          : reduction === 'max'
            ? Math.max
            : Math.min;
    for (let i = 0; i < count; i++) to[place(i)] = combine(to[place(i)]!, from[i]!);
    return fromNumbers(data.dtype, data.shape, to);
  }
  const to = Array.from(bigints(data));
  const from = bigints(updates);
  const wrap = data.dtype.startsWith('u') ? BigInt.asUintN : BigInt.asIntN;
  for (let i = 0; i < count; i++) {
    const [a, b] = [to[place(i)]!, from[i]!];
    to[place(i)] = wrap(
      BITS[data.dtype],
      reduction === 'add' ? a + b : reduction === 'mul' ? a * b : (reduction === 'max') === a > b ? a : b,
    );
  }
  return fromBigints(data.dtype, data.shape, to);
}
const fromBigints = (dtype: DType, shape: readonly number[], values: readonly bigint[]): Tensor =>
  dtype === 'int64'
    ? { dtype, shape, data: BigInt64Array.from(values) }
    : dtype === 'uint64'
      ? { dtype, shape, data: BigUint64Array.from(values) }
      : fromNumbers(dtype, shape, values.map(Number));

const likeData =
  (check: (g: Given) => unknown) =>
  (g: Given): OutFact[] => {
    const [reduction, dtype] = [reductionOf(g.attrs.reduction), g.dtype(0)];
    if (reduction !== 'none' && (dtype === 'string' || dtype.startsWith('complex')))
      fail('type_mismatch', `${dtype} has no reduction ${reduction}`);
    check(g);
    return [{ dtype, shape: g.shape(0) }];
  };
const scatterElements = likeData((g) => {
  elementwise(g);
  if (String(g.shape(1)) !== String(g.shape(2)))
    fail('shape_mismatch', `updates [${g.shape(2)}] must have the shape of indices [${g.shape(1)}]`);
});
const scatterND = likeData((g) => {
  const [data, at] = [g.shape(0), g.shape(1)];
  const { depth } = tuplesOf(data, at, 0);
  const expected = [...at.slice(0, -1), ...data.slice(depth)];
  if (String(g.shape(2)) !== String(expected))
    fail(
      'shape_mismatch',
      `updates [${g.shape(2)}] of data [${data}] at indices [${at}] must have shape [${expected}]`,
    );
});

function checkCache(call: InferCall<{ readonly axis: number; readonly mode: string }>): OutFact[] {
  const [{ dtype, shape }, update] = [call.fact(0), call.fact(1)];
  const axis = axisOf(call.attrs.axis, shape.length);
  if (call.attrs.mode !== 'linear' && call.attrs.mode !== 'circular')
    fail('attribute_invalid', `mode ${JSON.stringify(call.attrs.mode)} must be linear or circular`);
  if (axis === 0) fail('attribute_invalid', 'axis of TensorScatter must not be the batch axis');
  if (
    update.shape.length !== shape.length ||
    update.shape.some((d, i) => (i === axis ? d > shape[i]! : d !== shape[i]))
  ) {
    fail('shape_mismatch', `update [${update.shape}] does not fit into the cache [${shape}] along axis ${axis}`);
  }
  const at = call.inputs[2];
  if (at && String(at.shape) !== String([shape[0]]))
    fail('shape_mismatch', `write_indices has shape [${at.shape}]; the batch is ${shape[0]}`);
  return [{ dtype, shape }];
}
function tensorScatter(call: RefCall<{ readonly axis: number; readonly mode: string }>): Tensor[] {
  const [cache, update, at] = [call.tensor(0), call.tensor(1), call.optional(2)];
  const axis = axisOf(call.attrs.axis, cache.shape.length);
  const starts = at ? integers(at) : [];
  const [long, short] = [cache.shape[axis]!, update.shape[axis]!];
  const run = sizeOf(cache.shape.slice(axis + 1));
  const perBatch = sizeOf(cache.shape.slice(1, axis));
  const to = newCells(cache.dtype, sizeOf(cache.shape));
  copyRun(cellsOf(cache), 0, to, 0, sizeOf(cache.shape));
  const from = cellsOf(update);
  const rows = sizeOf(update.shape) === 0 ? 0 : sizeOf(cache.shape.slice(0, axis));
  for (let r = 0; r < rows; r++) {
    const b = Math.floor(r / perBatch);
    const start = starts[b] ?? 0;
    if (start < 0 || (call.attrs.mode === 'linear' && start + short > long)) {
      fail(
        'value_invalid',
        `write_indices[${b}] is ${start}: ${short} entries from there on do not fit into a cache of ${long}`,
      );
    }
    for (let s = 0; s < short; s++)
      copyRun(from, (r * short + s) * run, to, (r * long + ((start + s) % long)) * run, run);
  }
  return [fromCells(cache.dtype, cache.shape, to)];
}

/**
 * https://onnx.ai/onnx/operators/onnx__GatherElements.html, GatherND, ScatterElements, ScatterND, TensorScatter. An
 * index out of range is an error.
 */
export const gatherScatter: readonly Op[] = [
  defineOp({
    op: 'GatherElements',
    since: [11, 13],
    inputs: ['data: T', 'indices: I'],
    outputs: ['output: T'],
    types: { T: ALL, I: INDEX },
    attrs: { axis: int(0) },
    infer: infers((g) => {
      elementwise(g);
      return [sized(g.dtype(0), g.shape(1))];
    }),
    reference: (call) => {
      const [t, indices] = [call.tensor(0), call.tensor(1)];
      const axis = elementwise(givenRun(call));
      const at = indicesOf(indices, t.shape[axis]!);
      const strides = stridesOf(t.shape);
      const along = strides[axis]!;
      const from = cellsOf(t);
      const to = newCells(t.dtype, at.length);
      eachOffset(
        indices.shape,
        strides.map((s, i) => (i === axis ? 0 : s)),
        (i, offset) => copyRun(from, offset + at[i]! * along, to, i, 1),
      );
      return [fromCells(t.dtype, indices.shape, to)];
    },
  }),
  defineOp({
    op: 'GatherND',
    since: [11, 12, 13],
    inputs: ['data: T', 'indices: I'],
    outputs: ['output: T'],
    types: { T: ALL, I: INDEX },
    attrs: { batch_dims: int(0) },
    infer: infers(gatheredND),
    reference: (call) => {
      const [t, indices] = [call.tensor(0), call.tensor(1)];
      const { dtype, shape } = gatheredND(givenRun(call))[0]!;
      const parts = tuplesOf(t.shape, indices.shape, call.attrs.batch_dims);
      const to = newCells(dtype, sizeOf(shape));
      if (sizeOf(shape) === 0) return [fromCells(dtype, shape, to)];
      const from = cellsOf(t);
      offsetsOf(parts, indices).forEach((offset, i) => copyRun(from, offset, to, i * parts.run, parts.run));
      return [fromCells(dtype, shape, to)];
    },
  }),
  ...(['ScatterElements', 'Scatter'] as const).map((op) =>
    defineOp({
      op,
      since: op === 'Scatter' ? [9, 11] : [11, 13, 16, 18],
      inputs: ['data: T', 'indices: I', 'updates: T'],
      outputs: ['output: T'],
      types: { T: ALL, I: INDEX },
      attrs: { axis: int(0), reduction: string('none') },
      normalize: () => ({ op: 'ScatterElements' }),
      infer: infers(scatterElements),
      reference: (call) => {
        const [t, indices, updates] = [call.tensor(0), call.tensor(1), call.tensor(2)];
        const axis = elementwise(givenRun(call));
        const at = indicesOf(indices, t.shape[axis]!);
        const strides = stridesOf(t.shape);
        const places = new Float64Array(at.length);
        eachOffset(
          indices.shape,
          strides.map((s, i) => (i === axis ? 0 : s)),
          (i, offset) => {
            places[i] = offset + at[i]! * strides[axis]!;
          },
        );
        return [scatter(t, updates, (i) => places[i]!, reductionOf(call.attrs.reduction))];
      },
    }),
  ),
  defineOp({
    op: 'ScatterND',
    since: [11, 13, 16, 18],
    inputs: ['data: T', 'indices: int64', 'updates: T'],
    outputs: ['output: T'],
    types: { T: ALL },
    attrs: { reduction: string('none') },
    infer: infers(scatterND),
    reference: (call) => {
      const [t, indices, updates] = [call.tensor(0), call.tensor(1), call.tensor(2)];
      const parts = tuplesOf(t.shape, indices.shape, 0);
      const { run } = parts;
      const places = sizeOf(updates.shape) === 0 ? [] : offsetsOf(parts, indices);
      return [scatter(t, updates, (i) => places[Math.floor(i / run)]! + (i % run), reductionOf(call.attrs.reduction))];
    },
  }),
  defineOp({
    op: 'TensorScatter',
    since: [24],
    inputs: ['past_cache: T', 'update: T', 'write_indices: int64?'],
    outputs: ['present_cache: T'],
    types: { T: ALL },
    attrs: { axis: int(-2), mode: string('linear') },
    infer: checkCache,
    reference: tensorScatter,
  }),
];
