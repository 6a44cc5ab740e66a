import { type DType, DTYPE_OF_ONNX, isInt64 } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { bigints, fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor, zeros } from '../src/core/tensor.ts';
import { ALL, defineOp, FIXED, int, NUMERIC, type Op, type OutFact, tensorAttr } from './define.ts';
import { cellsOf, fillRun, copyRun, fromCells, newCells, sized } from './elements.ts';
import { type Given, givenRun, infers, listOf, scalarOf } from './given.ts';
import { axisOf, rankOf } from './shapes.ts';

/** A dtype attribute, by its TensorProto number. @throws attribute_invalid */
export const dtypeOf = (n: number): DType =>
  DTYPE_OF_ONNX[n] ?? fail('attribute_invalid', `${n} is no element type of ONNX`);

/** What ConstantOfShape fills with by default. */
export const ZERO: Tensor = zeros('float32', [1]);
function filledShape(g: Given<{ readonly value: Tensor | undefined }>): OutFact[] {
  const value = g.attrs.value ?? ZERO;
  if (sizeOf(value.shape) !== 1)
    fail('attribute_invalid', `attribute value has shape [${value.shape}]; it must have one element`);
  return [sized(value.dtype, listOf(g, 0, 'the shape')!)];
}

function rangeShape(g: Given): OutFact[] {
  for (let i = 0; i < 3; i++)
    if (sizeOf(g.shape(i)) !== 1)
      fail('shape_mismatch', `${['start', 'limit', 'delta'][i]} has shape [${g.shape(i)}]; it must be one number`);
  return [sized(g.dtype(0), [steps(g.value(0), g.value(1), g.value(2))])];
}
/** ceil((limit - start) / delta), at least 0; integers exactly. */
function steps(start: Tensor, limit: Tensor, delta: Tensor): number {
  if (isInt64(start.dtype)) {
    const [a, b, d] = [bigints(start)[0]!, bigints(limit)[0]!, bigints(delta)[0]!];
    if (d === 0n) fail('value_invalid', 'delta of Range is 0');
    const n = d > 0n ? (b - a + d - 1n) / d : (a - b - d - 1n) / -d;
    return n > 0n ? Number(n) : 0;
  }
  const [a, b, d] = [numbers(start)[0]!, numbers(limit)[0]!, numbers(delta)[0]!];
  const n = Math.ceil((b - a) / d);
  if (d === 0 || n !== n) fail('value_invalid', `Range from ${a} to ${b} by ${d} has no number of steps`);
  return Math.max(0, n);
}

function oneHotShape(g: Given<{ readonly axis: number }>): OutFact[] {
  const from = g.shape(0);
  const depth = scalarOf(g, 1, 'depth');
  if (!(depth >= 0)) fail('value_invalid', `depth of OneHot is ${depth}`);
  if (sizeOf(g.shape(2)) !== 2) fail('shape_mismatch', `values has shape [${g.shape(2)}]; it must be [2]: off and on`);
  const axis = axisOf(g.attrs.axis, from.length + 1);
  return [sized(g.dtype(2), [...from.slice(0, axis), Math.trunc(depth), ...from.slice(axis)])];
}

/** Tensors from almost nothing: https://onnx.ai/onnx/operators/onnx__ConstantOfShape.html, EyeLike, Range, OneHot. */
export const create: readonly Op[] = [
  defineOp({
    op: 'ConstantOfShape',
    since: [9, 20, 21, 23, 24, 25],
    inputs: ['input: int64'],
    outputs: ['output: T'],
    types: { T: FIXED },
    attrs: { value: tensorAttr() },
    infer: infers(filledShape),
    reference: (call) => {
      const { dtype, shape } = filledShape(givenRun(call))[0]!;
      const count = sizeOf(shape);
      const to = newCells(dtype, count);
      fillRun(cellsOf(call.attrs.value ?? ZERO), to, 0, count);
      return [fromCells(dtype, shape, to)];
    },
  }),
  defineOp({
    op: 'EyeLike',
    since: [9, 22],
    inputs: ['input: T1'],
    outputs: ['output: T2'],
    types: { T1: ALL, T2: [...NUMERIC, 'bool'] },
    attrs: { dtype: int(), k: int(0) },
    infer: (call) => {
      const { dtype, shape } = call.fact(0);
      rankOf(call.fact(0), 'input', 2);
      const made = call.attrs.dtype === undefined ? dtype : dtypeOf(call.attrs.dtype);
      if (made === 'string' || made.startsWith('complex')) fail('type_mismatch', `EyeLike makes no ${made}`);
      return [{ dtype: made, shape }];
    },
    reference: (call) => {
      const t = call.tensor(0);
      const [rows = 0, columns = 0] = t.shape;
      const ones = new Uint8Array(rows * columns);
      for (let r = Math.max(0, -call.attrs.k); r < rows && r + call.attrs.k < columns; r++)
        ones[r * columns + r + call.attrs.k] = 1;
      return [fromNumbers(call.attrs.dtype === undefined ? t.dtype : dtypeOf(call.attrs.dtype), t.shape, ones)];
    },
  }),
  defineOp({
    op: 'Range',
    since: [11, 27],
    inputs: ['start: T', 'limit: T', 'delta: T'],
    outputs: ['output: T'],
    types: { T: ['float32', 'float64', 'float16', 'bfloat16', 'int16', 'int32', 'int64'] },
    attrs: { stash_type: int(1) },
    infer: infers(rangeShape),
    reference: (call) => {
      const { dtype, shape } = rangeShape(givenRun(call))[0]!;
      const count = shape[0]!;
      if (dtype === 'int64') {
        const start = bigints(call.tensor(0))[0]!;
        const delta = bigints(call.tensor(2))[0]!;
        const data = new BigInt64Array(count);
        for (let i = 0; i < count; i++) data[i] = start + BigInt(i) * delta;
        return [{ dtype, shape, data }];
      }
      const start = numbers(call.tensor(0))[0]!;
      const delta = numbers(call.tensor(2))[0]!;
      return [
        fromNumbers(
          dtype,
          shape,
          Float64Array.from({ length: count }, (_, i) => start + i * delta),
        ),
      ];
    },
  }),
  defineOp({
    op: 'OneHot',
    since: [9, 11],
    inputs: ['indices: T1', 'depth: T2', 'values: T3'],
    outputs: ['output: T3'],
    types: { T1: NUMERIC, T2: NUMERIC, T3: ALL },
    attrs: { axis: int(-1) },
    infer: infers(oneHotShape),
    reference: (call) => {
      const indices = call.tensor(0);
      const { dtype, shape } = oneHotShape(givenRun(call))[0]!;
      const axis = axisOf(call.attrs.axis, shape.length);
      const depth = shape[axis]!;
      const inner = sizeOf(shape.slice(axis + 1));
      const values = cellsOf(call.tensor(2));
      const count = sizeOf(shape);
      const to = newCells(dtype, count);
      if (count === 0) return [fromCells(dtype, shape, to)];
      fillRun(values, to, 0, count);
      const at = numbers(indices);
      for (let i = 0; i < at.length; i++) {
        const k = Math.trunc(at[i]!);
        if (!(k >= -depth && k < depth)) continue;
        copyRun(values, 1, to, (Math.floor(i / inner) * depth + (k < 0 ? k + depth : k)) * inner + (i % inner), 1);
      }
      return [fromCells(dtype, shape, to)];
    },
  }),
];
