import { fail } from '../src/core/errors.ts';
import { bigints, fromNumbers, integers, numbers } from '../src/core/numbers.ts';
import { sizeOf, stridesOf, type Tensor, zeros } from '../src/core/tensor.ts';
import { defineOp, FLOAT, type InferCall, int, ints, type Op, type OutFact, required, string } from './define.ts';
import { tapTable, type Window, type WindowAttrs, windowOf } from './conv-window.ts';
import { RANGE } from './quantize-round.ts';
import { eachOffset } from './shapes.ts';

const common = {
  auto_pad: string('NOTSET'),
  ceil_mode: int(0),
  dilations: ints(),
  kernel_shape: required(ints()),
  pads: ints(),
  strides: ints(),
};
type PoolAttrs = WindowAttrs & { readonly kernel_shape: readonly number[] };

/** Window and output shape of a pooling of x [N, C, ...]. @throws attribute_invalid, shape_mismatch */
export function poolShape(x: readonly number[], attrs: PoolAttrs): { window: Window; shape: readonly number[] } {
  if (attrs.kernel_shape.length !== x.length - 2)
    fail('attribute_invalid', `kernel_shape [${attrs.kernel_shape}] does not fit an input of shape [${x}]`);
  const window = windowOf(attrs, x, attrs.kernel_shape);
  return { window, shape: [x[0]!, x[1]!, ...window.output] };
}
const inferPool = (call: InferCall): OutFact[] => [
  { dtype: call.fact(0).dtype, shape: poolShape(call.fact(0).shape, call.attrs).shape },
];

/**
 * How many taps of each window, in the order of output positions, an average divides by: those inside the image or, if
 * `padded`, inside the image and its padding. Taps beyond both (of the last window under ceil_mode) never count.
 */
export function averageCounts(w: Window, spatial: readonly number[], padded: boolean): Float64Array {
  let counts = new Float64Array([1]);
  spatial.forEach((size, d) => {
    const low = padded ? -w.pads[d]! : 0;
    const high = padded ? size + w.pads[d + spatial.length]! : size;
    const line = Array.from({ length: w.output[d]! }, (_, o) => {
      let count = 0;
      for (let k = 0; k < w.kernel[d]!; k++) {
        const i = o * w.strides[d]! - w.pads[d]! + k * w.dilations[d]!;
        if (i >= low && i < high) count++;
      }
      return count;
    });
    const next = new Float64Array(counts.length * line.length);
    for (let i = 0; i < next.length; i++) next[i] = counts[Math.floor(i / line.length)]! * line[i % line.length]!;
    counts = next;
  });
  return counts;
}

/** Calls `plane(image offset, output offset)` for every channel of every image. */
function eachPlane(x: readonly number[], size: number, out: number, plane: (from: number, to: number) => void): void {
  for (let i = 0, n = x[0]! * x[1]!; i < n; i++) plane(i * size, i * out);
}

// ── max ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
const maxPool = defineOp({
  op: 'MaxPool',
  since: [1, 8, 10, 11, 12, 22],
  inputs: ['X: T'],
  outputs: ['Y: T', 'Indices: int64?'],
  types: { T: [...FLOAT, 'int8', 'uint8'] },
  attrs: { ...common, storage_order: int(0) },
  infer: (call) => {
    const out = inferPool(call);
    return [...out, { dtype: 'int64', shape: out[0]!.shape }];
  },
  reference: (call) => {
    const t = call.tensor(0);
    const { window, shape } = poolShape(t.shape, call.attrs);
    const x = numbers(t);
    const spatial = t.shape.slice(2);
    const size = sizeOf(spatial);
    const out = sizeOf(window.output);
    const table = tapTable(window, spatial, window.output);
    const y = new Float64Array(sizeOf(shape)).fill(RANGE[t.dtype]?.[0] ?? -Infinity);
    const chosen = new Int32Array(y.length).fill(-1);
    eachPlane(t.shape, size, out, (from, to) => {
      for (let i = 0; i < table.length; i++) {
        const at = table[i]!;
        if (at < 0) continue;
        const o = to + (i % out);
        const v = x[from + at]!;
        if (chosen[o]! < 0 || v > y[o]! || (v !== v && y[o] === y[o])) {
          y[o] = v;
          chosen[o] = at;
        }
      }
    });
    const indices = call.outputs > 1 ? indicesOf(chosen, shape, spatial, call.attrs.storage_order !== 0) : null;
    return [fromNumbers(t.dtype, shape, y), indices];
  },
});

/** Offsets into the whole input; with `columns` the spatial dims are counted with the first one fastest. */
function indicesOf(chosen: Int32Array, shape: readonly number[], spatial: readonly number[], columns: boolean): Tensor {
  const t = zeros('int64', shape);
  const size = sizeOf(spatial);
  const out = sizeOf(shape.slice(2));
  for (let i = 0; i < chosen.length; i++) {
    let at = chosen[i]!;
    if (columns && at >= 0) {
      let turned = 0;
      let rest = at;
      let stride = size;
      for (let d = spatial.length - 1; d >= 0; d--) {
        stride /= spatial[d]!;
        turned += (rest % spatial[d]!) * stride;
        rest = Math.floor(rest / spatial[d]!);
      }
      at = turned;
    }
    t.data[i] = BigInt(at < 0 ? -1 : Math.floor(i / out) * size + at);
  }
  return t;
}

// ── average and Lp ──────────────────────────────────────────────────────────────────────────────────────────────────
const averagePool = defineOp({
  op: 'AveragePool',
  since: [1, 7, 10, 11, 19, 22],
  inputs: ['X: T'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: { ...common, count_include_pad: int(0) },
  infer: inferPool,
  reference: (call) => {
    const t = call.tensor(0);
    const { window, shape } = poolShape(t.shape, call.attrs);
    const y = averaged(numbers(t), t.shape, window, call.attrs.count_include_pad !== 0);
    return [fromNumbers(t.dtype, shape, y)];
  },
});

/** x [n, c, ...] to the mean of each window. */
export function averaged(
  x: ArrayLike<number>,
  xShape: readonly number[],
  window: Window,
  padded: boolean,
): Float64Array {
  const spatial = xShape.slice(2);
  const size = sizeOf(spatial);
  const out = sizeOf(window.output);
  const table = tapTable(window, spatial, window.output);
  const counts = averageCounts(window, spatial, padded);
  const y = new Float64Array(xShape[0]! * xShape[1]! * out);
  eachPlane(xShape, size, out, (from, to) => {
    for (let i = 0, p = 0; i < table.length; i++, p = p + 1 === out ? 0 : p + 1) {
      const at = table[i]!;
      if (at >= 0) y[to + p]! += x[from + at]!;
    }
    for (let p = 0; p < out; p++) y[to + p]! /= counts[p]!;
  });
  return y;
}

const lpPool = defineOp({
  op: 'LpPool',
  since: [1, 2, 11, 18, 22],
  inputs: ['X: T'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: { ...common, p: int(2) },
  infer: (call) => {
    checkOrder(call.attrs.p);
    return inferPool(call);
  },
  reference: (call) => {
    const t = call.tensor(0);
    const { p: order } = call.attrs;
    const { window, shape } = poolShape(t.shape, call.attrs);
    const x = numbers(t);
    const spatial = t.shape.slice(2);
    const size = sizeOf(spatial);
    const out = sizeOf(window.output);
    const table = tapTable(window, spatial, window.output);
    const y = new Float64Array(sizeOf(shape));
    eachPlane(t.shape, size, out, (from, to) => {
      for (let i = 0; i < table.length; i++) {
        const at = table[i]!;
        if (at >= 0) y[to + (i % out)]! += Math.abs(x[from + at]!) ** order;
      }
    });
    return [
      fromNumbers(
        t.dtype,
        shape,
        y.map((v) => v ** (1 / order)),
      ),
    ];
  },
});
const checkOrder = (p: number): void => {
  if (!(p > 0)) fail('attribute_invalid', `p ${p} must be positive`);
};

// ── global ──────────────────────────────────────────────────────────────────────────────────────────────────────────
const globalPool = (
  op: string,
  since: readonly number[],
  lp: boolean,
  value: (row: Float64Array, p: number) => number,
): Op =>
  defineOp({
    op,
    since,
    inputs: ['X: T'],
    outputs: ['Y: T'],
    types: { T: FLOAT },
    attrs: lp ? { p: int(2) } : {},
    infer: (call) => {
      const { dtype, shape } = call.fact(0);
      if (shape.length < 3)
        fail('shape_mismatch', `the input has shape [${shape}]; it must be [N, C, ...] with at least one spatial dim`);
      if (lp) checkOrder((call.attrs as { p: number }).p);
      return [{ dtype, shape: [shape[0]!, shape[1]!, ...shape.slice(2).map(() => 1)] }];
    },
    reference: (call) => {
      const t = call.tensor(0);
      const x = new Float64Array(numbers(t));
      const size = sizeOf(t.shape.slice(2));
      const y = new Float64Array(t.shape[0]! * t.shape[1]!);
      for (let i = 0; i < y.length; i++)
        y[i] = value(x.subarray(i * size, (i + 1) * size), (call.attrs as { p?: number }).p ?? 2);
      return [fromNumbers(t.dtype, [t.shape[0]!, t.shape[1]!, ...t.shape.slice(2).map(() => 1)], y)];
    },
  });
function mean(row: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += row[i]!;
  return sum / row.length;
}
function top(row: Float64Array): number {
  let best = -Infinity;
  for (let i = 0; i < row.length; i++) best = Math.max(best, row[i]!);
  return best;
}
function norm(row: Float64Array, p: number): number {
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += Math.abs(row[i]!) ** p;
  return sum ** (1 / p);
}

// ── unpooling ───────────────────────────────────────────────────────────────────────────────────────────────────────
interface UnpoolAttrs {
  readonly kernel_shape: readonly number[];
  readonly pads: readonly number[] | undefined;
  readonly strides: readonly number[] | undefined;
}

/**
 * The shape that the window implies, into which indices point, and the output's, in whose first corner it lies. @throws
 * attribute_invalid, shape_mismatch
 */
export function unpoolShape(
  x: readonly number[],
  indices: readonly number[],
  attrs: UnpoolAttrs,
  wanted: readonly number[] | null,
): { natural: readonly number[]; shape: readonly number[] } {
  const rank = x.length - 2;
  const { kernel_shape: kernel } = attrs;
  if (rank < 1 || kernel.length !== rank)
    fail('attribute_invalid', `kernel_shape [${kernel}] does not fit an input of shape [${x}]`);
  if (String(indices) !== String(x))
    fail('shape_mismatch', `indices of shape [${indices}] do not fit an input of shape [${x}]`);
  const strides = attrs.strides ?? kernel.map(() => 1);
  const pads = attrs.pads ?? [...kernel, ...kernel].map(() => 0);
  if (strides.length !== rank || pads.length !== 2 * rank)
    fail('attribute_invalid', `strides [${strides}] and pads [${pads}] must have ${rank} and ${2 * rank} entries`);
  const natural = [
    x[0]!,
    x[1]!,
    ...kernel.map((k, i) => (x[i + 2]! - 1) * strides[i]! + k - pads[i]! - pads[i + rank]!),
  ];
  if (natural.some((d) => d < 0)) fail('shape_mismatch', `pads [${pads}] leave nothing of the output`);
  if (wanted !== null && (wanted.length !== x.length || wanted.some((d, i) => d < natural[i]!)))
    fail('shape_mismatch', `output_shape [${wanted}] cannot hold the unpooled [${natural}]`);
  return { natural, shape: wanted ?? natural };
}

const maxUnpool = defineOp({
  op: 'MaxUnpool',
  since: [9, 11, 22],
  inputs: ['X: T1', 'I: int64', 'output_shape: int64?'],
  outputs: ['output: T1'],
  types: { T1: FLOAT },
  attrs: { kernel_shape: required(ints()), pads: ints(), strides: ints() },
  infer: (call) => [
    {
      dtype: call.fact(0).dtype,
      shape: unpoolShape(
        call.fact(0).shape,
        call.fact(1).shape,
        call.attrs,
        call.inputs[2] ? integers(call.value(2)) : null,
      ).shape,
    },
  ],
  reference: (call) => {
    const t = call.tensor(0);
    const wanted = call.optional(2);
    const { natural, shape } = unpoolShape(
      t.shape,
      call.tensor(1).shape,
      call.attrs,
      wanted === null ? null : integers(wanted),
    );
    const x = numbers(t);
    const at = bigints(call.tensor(1));
    const y = new Float64Array(sizeOf(natural));
    for (let i = 0; i < x.length; i++) {
      const to = Number(at[i]!);
      if (to < 0 || to >= y.length) fail('value_invalid', `index ${to} is outside an output of ${y.length} elements`);
      y[to] = x[i]!;
    }
    if (String(natural) === String(shape)) return [fromNumbers(t.dtype, shape, y)];
    const grown = new Float64Array(sizeOf(shape));
    eachOffset(natural, stridesOf(shape), (i, offset) => {
      grown[offset] = y[i]!;
    });
    return [fromNumbers(t.dtype, shape, grown)];
  },
});

/** https://onnx.ai/onnx/operators/onnx__MaxPool.html and its siblings */
export const pool: readonly Op[] = [
  maxPool,
  averagePool,
  lpPool,
  maxUnpool,
  globalPool('GlobalAveragePool', [1, 22], false, mean),
  globalPool('GlobalMaxPool', [1, 22], false, top),
  globalPool('GlobalLpPool', [1, 2, 22], true, norm),
];
