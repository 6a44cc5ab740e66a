import type { DType } from '../src/core/dtype.ts';
import { bigints, fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, stridesOf, type Tensor, zeros } from '../src/core/tensor.ts';
import { defineOp, NUMERIC, type Op, required, string } from './define.ts';
import { product } from './matmul-product.ts';
import { type Contraction, contractionOf } from './einsum-contraction.ts';
import { eachOffset } from './shapes.ts';

/** An array with named dims. */
interface Labelled {
  readonly data: Float64Array;
  readonly labels: readonly string[];
  readonly shape: readonly number[];
}

/** Strides of the labels of an operand: repeated labels walk the diagonal, dims of 1 stand still. */
function labelStrides(labels: readonly string[], shape: readonly number[]): Record<string, number> {
  const out: Record<string, number> = {};
  const strides = stridesOf(shape);
  labels.forEach((l, i) => {
    out[l] = (out[l] ?? 0) + (shape[i] === 1 ? 0 : strides[i]!);
  });
  return out;
}

/** The operand with dims in the order `keep` at the sizes `dims`, all other labels summed away. */
function arrange(
  x: { readonly data: ArrayLike<number>; readonly labels: readonly string[]; readonly shape: readonly number[] },
  keep: readonly string[],
  dims: Readonly<Record<string, number>>,
): Labelled {
  const strides = labelStrides(x.labels, x.shape);
  const sum = Object.keys(strides).filter((l) => !keep.includes(l));
  const shape = keep.map((l) => dims[l]!);
  const inner = sum.map((l) => x.shape[x.labels.indexOf(l)]!);
  const starts: number[] = [];
  eachOffset(
    inner,
    sum.map((l) => strides[l]!),
    (_, at) => starts.push(at),
  );
  const data = new Float64Array(sizeOf(shape));
  eachOffset(
    shape,
    keep.map((l) => strides[l] ?? 0),
    (i, at) => {
      let total = 0;
      for (const s of starts) total += x.data[at + s]!;
      data[i] = total;
    },
  );
  return { data, labels: keep, shape };
}

/** Contracts two operands into one as a batched matrix product; `wanted` are the labels still needed afterwards. */
function contract(
  x: Labelled,
  y: Labelled,
  wanted: ReadonlySet<string>,
  dims: Readonly<Record<string, number>>,
): Labelled {
  // A label that only one side knows at its full size is that side's own: the other's dim of 1 is dropped.
  const has = (o: Labelled, l: string): boolean =>
    o.labels.includes(l) && (dims[l] === 1 || o.shape[o.labels.indexOf(l)] !== 1);
  const both = [...new Set([...x.labels, ...y.labels])];
  const shared = both.filter((l) => has(x, l) && has(y, l));
  const batch = shared.filter((l) => wanted.has(l));
  const inner = shared.filter((l) => !wanted.has(l));
  const left = both.filter((l) => has(x, l) && !has(y, l) && wanted.has(l));
  const right = both.filter((l) => has(y, l) && !has(x, l) && wanted.has(l));
  const a = arrange(x, [...batch, ...left, ...inner], dims);
  const b = arrange(y, [...batch, ...inner, ...right], dims);
  const count = (ls: readonly string[]): number => sizeOf(ls.map((l) => dims[l]!));
  const m = count(left);
  const n = count(right);
  const k = count(inner);
  const z = count(batch);
  const data = new Float64Array(z * m * n);
  for (let i = 0; i < z; i++)
    product(
      { data, at: i * m * n, row: n, col: 1 },
      { data: a.data, at: i * m * k, row: k, col: 1 },
      { data: b.data, at: i * k * n, row: n, col: 1 },
      m,
      n,
      k,
    );
  const labels = [...batch, ...left, ...right];
  return { data, labels, shape: labels.map((l) => dims[l]!) };
}

function inDoubles(c: Contraction, inputs: readonly Tensor[]): Float64Array {
  const rest = inputs.map((t, i): Labelled => {
    const labels = [...new Set(c.operands[i]!)];
    const own = Object.fromEntries(
      labels.map((l) => [l, t.shape.every((d, j) => c.operands[i]![j] !== l || d === 1) ? 1 : c.dims[l]!]),
    );
    return arrange({ data: numbers(t), labels: c.operands[i]!, shape: t.shape }, labels, own);
  });
  while (rest.length > 1) {
    const [x, y, ...more] = rest as [Labelled, Labelled, ...Labelled[]];
    rest.splice(0, 2, contract(x, y, new Set([...c.output, ...more.flatMap((o) => o.labels)]), c.dims));
  }
  return arrange(rest[0]!, c.output, c.dims).data;
}

/** 64-bit integers, exactly. */
function inBigints(c: Contraction, inputs: readonly Tensor[], dtype: DType): Tensor {
  const out = zeros(dtype, c.shape);
  const sum = Object.keys(c.dims).filter((l) => !c.output.includes(l));
  const values = inputs.map(bigints);
  const strides = inputs.map((t, i) => labelStrides(c.operands[i]!, t.shape));
  const at = (labels: readonly string[]): number[][] =>
    strides.map((s) => {
      const offsets: number[] = [];
      eachOffset(
        labels.map((l) => c.dims[l]!),
        labels.map((l) => s[l] ?? 0),
        (_, o) => offsets.push(o),
      );
      return offsets;
    });
  const outer = at(c.output);
  const inner = at(sum);
  for (let i = 0; i < sizeOf(c.shape); i++) {
    let total = 0n;
    for (let j = 0; j < inner[0]!.length; j++)
      total += values.reduce((p, v, o) => p * v[outer[o]![i]! + inner[o]![j]!]!, 1n);
    (out.data as BigInt64Array)[i] = total;
  }
  return out;
}

/** https://onnx.ai/onnx/operators/onnx__Einsum.html */
export const einsum: readonly Op[] = [
  defineOp({
    op: 'Einsum',
    since: [12],
    inputs: ['Inputs: T*'],
    outputs: ['Output: T'],
    types: { T: NUMERIC },
    attrs: { equation: required(string()) },
    infer: (call) => [
      {
        dtype: call.fact(0).dtype,
        shape: contractionOf(
          call.attrs.equation,
          call.inputs.map((_, i) => call.fact(i).shape),
        ).shape,
      },
    ],
    reference: (call) => {
      const inputs = call.inputs.map((_, i) => call.tensor(i));
      const c = contractionOf(
        call.attrs.equation,
        inputs.map((t) => t.shape),
      );
      const dtype = inputs[0]!.dtype;
      return [
        dtype === 'int64' || dtype === 'uint64'
          ? inBigints(c, inputs, dtype)
          : fromNumbers(dtype, c.shape, inDoubles(c, inputs)),
      ];
    },
  }),
];
