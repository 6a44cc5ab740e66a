import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { fromNumbers, integers, numbers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';
import {
  defineOp,
  FLOAT,
  type InferCall,
  int,
  type NormalizeCall,
  type Normalized,
  type Op,
  type OutFact,
  type RefCall,
} from './define.ts';
import { product, type Reals, reals } from './matmul-product.ts';
import { activation } from './rnn-activation.ts';
import { rnnAttrs, type RnnAttrs, type RnnShape, rnnShape } from './rnn-shape.ts';

type Curve = (x: number) => number;
/** What one direction's steps work with. Rows of `h`, `c` and `sums` are batch entries. */
interface Cell {
  readonly batch: number;
  readonly hidden: number;
  /** X W^T + biases, [steps * batch, gates * hidden]. */
  readonly fromInput: Float64Array;
  readonly h: Float64Array;
  readonly c: Float64Array;
  /** Adds h R^T to `to`, of the gates [from, until). */
  readonly recur: (h: Float64Array, to: Float64Array, from: number, until: number) => void;
  readonly curves: readonly Curve[];
  readonly clip: Curve;
  /** Bias of R by gate, where it is not in `fromInput`. */
  readonly rBias: Float64Array;
  readonly peephole: ArrayLike<number> | null;
  readonly attrs: RnnAttrs & { readonly input_forget?: number; readonly linear_before_reset?: number };
}
/** Advances h (and c). `rows[b]` is the row of `fromInput` that entry b consumes, -1 when its sequence is over. */
type Step = (cell: Cell, rows: Int32Array, sums: Float64Array) => void;

const stepLstm: Step = ({ batch, hidden: n, fromInput, h, c, recur, curves, clip, peephole: p, attrs }, rows, sums) => {
  const [f, g, out] = curves as [Curve, Curve, Curve];
  recur(h, sums, 0, 4);
  for (let b = 0; b < batch; b++) {
    const row = rows[b]! * 4 * n;
    const s = b * 4 * n;
    if (row < 0) continue;
    for (let j = 0; j < n; j++) {
      const at = b * n + j;
      const before = c[at]!;
      const i = f(clip(fromInput[row + j]! + sums[s + j]! + (p === null ? 0 : p[j]! * before)));
      const forget = attrs.input_forget
        ? 1 - i
        : f(clip(fromInput[row + 2 * n + j]! + sums[s + 2 * n + j]! + (p === null ? 0 : p[2 * n + j]! * before)));
      const now = forget * before + i * g(clip(fromInput[row + 3 * n + j]! + sums[s + 3 * n + j]!));
      const o = f(clip(fromInput[row + n + j]! + sums[s + n + j]! + (p === null ? 0 : p[n + j]! * now)));
      c[at] = now;
      h[at] = o * out(now);
    }
  }
};

const stepGru: Step = ({ batch, hidden: n, fromInput, h, recur, curves, clip, rBias, attrs }, rows, sums) => {
  const [f, g] = curves as [Curve, Curve];
  const before = attrs.linear_before_reset !== 0;
  recur(h, sums, 0, before ? 3 : 2);
  const gated = before ? h : new Float64Array(h.length);
  for (let b = 0; b < batch; b++) {
    const row = rows[b]! * 3 * n;
    const s = b * 3 * n;
    if (row < 0) continue;
    for (let j = 0; j < 2 * n; j++) sums[s + j] = f(clip(fromInput[row + j]! + sums[s + j]!));
    if (!before) for (let j = 0; j < n; j++) gated[b * n + j] = sums[s + n + j]! * h[b * n + j]!;
  }
  if (!before) recur(gated, sums, 2, 3);
  for (let b = 0; b < batch; b++) {
    const row = rows[b]! * 3 * n;
    const s = b * 3 * n;
    if (row < 0) continue;
    for (let j = 0; j < n; j++) {
      const z = sums[s + j]!;
      const r = before ? sums[s + n + j]! : 1;
      const now = g(clip(fromInput[row + 2 * n + j]! + r * (sums[s + 2 * n + j]! + rBias[2 * n + j]!)));
      h[b * n + j] = (1 - z) * now + z * h[b * n + j]!;
    }
  }
};

const stepRnn: Step = ({ batch, hidden: n, fromInput, h, recur, curves, clip }, rows, sums) => {
  recur(h, sums, 0, 1);
  for (let b = 0; b < batch; b++) {
    if (rows[b]! < 0) continue;
    for (let j = 0; j < n; j++) h[b * n + j] = curves[0]!(clip(fromInput[rows[b]! * n + j]! + sums[b * n + j]!));
  }
};

/** The weights of one direction as [gates * hidden, in], at `at`. */
export interface Weights {
  readonly data: Reals;
  readonly at: number;
  readonly row: number;
  readonly col: number;
}
interface Run {
  readonly shape: RnnShape;
  readonly gates: number;
  readonly step: Step;
  readonly attrs: Cell['attrs'];
  readonly w: (direction: number) => Weights;
  readonly r: (direction: number) => Weights;
  /** What is done to X and H before they are multiplied. */
  readonly prepare: (values: Float64Array) => Float64Array;
}

/** Y, Y_h, Y_c in the order of ONNX's inputs X, …, P. */
function recurrent(call: RefCall, { shape: s, gates, step, attrs, w, r, prepare }: Run): Tensor[] {
  const { steps, batch, input, hidden: n } = s;
  const width = gates * n;
  const directions = s.reversed.length;
  const first = attrs.layout === 0;
  const xt = call.tensor(0);
  const bias = call.optional(3);
  const p = call.optional(7);
  const x = prepare(batchSecond(numbers(xt), steps, batch, input, first));
  const lengths = call.optional(4) === null ? null : integers(call.tensor(4));
  if (lengths?.some((l) => l < 0 || l > steps))
    fail('value_invalid', `sequence_lens [${lengths}] must lie between 0 and ${steps}`);
  const y = new Float64Array(steps * directions * batch * n);
  const lastH = new Float64Array(directions * batch * n);
  const lastC = new Float64Array(directions * batch * n);
  const stateAt = (d: number, b: number): number => (first ? d * batch + b : b * directions + d) * n;
  const initial = (i: number, d: number): Float64Array => {
    const t = call.optional(i);
    const out = new Float64Array(batch * n);
    if (t !== null)
      for (let b = 0, v = numbers(t); b < batch; b++)
        for (let j = 0; j < n; j++) out[b * n + j] = v[stateAt(d, b) + j]!;
    return out;
  };
  s.reversed.forEach((reversed, d) => {
    const fromInput = new Float64Array(steps * batch * width);
    const rBias = new Float64Array(width);
    if (bias !== null) {
      // The last gate of a GRU multiplies R's bias by the reset gate, so it is kept apart; elsewhere both biases are
      // summed.
      const b = numbers(bias);
      const apart = gates === 3 ? 2 * n : width;
      for (let j = apart; j < width; j++) rBias[j] = b[d * 2 * width + width + j]!;
      for (let i = 0; i < fromInput.length; i++)
        fromInput[i] =
          b[d * 2 * width + (i % width)]! + (i % width < apart ? b[d * 2 * width + width + (i % width)]! : 0);
    }
    const wd = w(d);
    const rd = r(d);
    product(
      { data: fromInput, at: 0, row: width, col: 1 },
      { data: x, at: 0, row: input, col: 1 },
      { data: wd.data, at: wd.at, row: wd.col, col: wd.row },
      steps * batch,
      width,
      input,
    );
    const recur: Cell['recur'] = (state, to, from, until) =>
      product(
        { data: to, at: from * n, row: width, col: 1 },
        { data: prepare(state), at: 0, row: n, col: 1 },
        { data: rd.data, at: rd.at + from * n * rd.row, row: rd.col, col: rd.row },
        batch,
        (until - from) * n,
        n,
      );
    const bound = attrs.clip;
    const h = initial(5, d);
    const c = initial(6, d);
    const cell: Cell = {
      batch,
      hidden: n,
      fromInput,
      h,
      c,
      recur,
      rBias,
      attrs,
      curves: s.activations[d]!.map((a) => activation(a.name, a.alpha, a.beta)),
      clip: bound === undefined || bound === 0 ? (v) => v : (v) => Math.min(bound, Math.max(-bound, v)),
      peephole: p === null ? null : new Float64Array(numbers(p)).subarray(d * 3 * n, (d + 1) * 3 * n),
    };
    const rows = new Int32Array(batch);
    const sums = new Float64Array(batch * width);
    for (let t = 0; t < steps; t++) {
      for (let b = 0; b < batch; b++) {
        const length = lengths?.[b] ?? steps;
        rows[b] = t >= length ? -1 : (reversed ? length - 1 - t : t) * batch + b;
      }
      step(cell, rows, sums.fill(0));
      for (let b = 0; b < batch; b++) {
        if (rows[b]! < 0) continue;
        const time = (rows[b]! - b) / batch;
        y.set(
          h.subarray(b * n, (b + 1) * n),
          first ? ((time * directions + d) * batch + b) * n : ((b * steps + time) * directions + d) * n,
        );
      }
    }
    for (let b = 0; b < batch; b++) {
      lastH.set(h.subarray(b * n, (b + 1) * n), stateAt(d, b));
      lastC.set(c.subarray(b * n, (b + 1) * n), stateAt(d, b));
    }
  });
  return [fromNumbers(xt.dtype, s.y, y), fromNumbers(xt.dtype, s.state, lastH), fromNumbers(xt.dtype, s.state, lastC)];
}

/** [steps, batch, input] of either layout. */
function batchSecond(
  x: ArrayLike<number>,
  steps: number,
  batch: number,
  input: number,
  already: boolean,
): Float64Array {
  const out = new Float64Array(steps * batch * input);
  for (let t = 0, o = 0; t < steps; t++)
    for (let b = 0; b < batch; b++)
      for (let i = 0, at = (already ? t * batch + b : b * steps + t) * input; i < input; i++) out[o++] = x[at + i]!;
  return out;
}

/** Below opset 7 `output_sequence` says whether Y is wanted; the node's outputs say so as well. */
const normalize = ({ attrs: { output_sequence: _, ...attrs } }: NormalizeCall): Normalized => ({ attrs });
const same = (values: Float64Array): Float64Array => values;
const facts = (dtype: DType, s: RnnShape, count: number): OutFact[] =>
  [s.y, s.state, s.state].slice(0, count).map((shape) => ({ dtype, shape }));

/** How many gates an operator has and its default activations. */
export const GATES = {
  LSTM: { gates: 4, defaults: ['Sigmoid', 'Tanh', 'Tanh'] },
  GRU: { gates: 3, defaults: ['Sigmoid', 'Tanh'] },
  RNN: { gates: 1, defaults: ['Tanh'] },
} as const;

const family = (
  op: keyof typeof GATES,
  since: readonly number[],
  step: Step,
  more: Record<string, ReturnType<typeof int>>,
): Op => {
  const { gates, defaults } = GATES[op];
  const lstm = op === 'LSTM';
  return defineOp({
    op,
    since,
    types: { T: FLOAT },
    attrs: { ...rnnAttrs, ...more },
    normalize,
    inputs: [
      'X: T',
      'W: T',
      'R: T',
      'B: T?',
      'sequence_lens: int32?',
      'initial_h: T?',
      ...(lstm ? ['initial_c: T?', 'P: T?'] : []),
    ],
    outputs: ['Y: T?', 'Y_h: T?', ...(lstm ? ['Y_c: T?'] : [])],
    infer: (call: InferCall) =>
      facts(
        call.fact(0).dtype,
        rnnShape([call.fact(0), call.fact(1), call.fact(2), ...call.inputs.slice(3)], call.attrs, gates, defaults),
        lstm ? 3 : 2,
      ),
    reference: (call: RefCall) => {
      const shape = rnnShape(
        [0, 1, 2, 3, 4, 5, 6, 7].map((i) => call.optional(i)),
        call.attrs,
        gates,
        defaults,
      );
      const w = reals(call.tensor(1));
      const r = reals(call.tensor(2));
      const wide = gates * shape.hidden;
      return recurrent(call, {
        shape,
        gates,
        step,
        attrs: call.attrs,
        prepare: same,
        w: (d) => ({ data: w, at: d * wide * shape.input, row: shape.input, col: 1 }),
        r: (d) => ({ data: r, at: d * wide * shape.hidden, row: shape.hidden, col: 1 }),
      }).slice(0, lstm ? 3 : 2);
    },
  });
};

// ── com.microsoft.DynamicQuantizeLSTM ───────────────────────────────────────────────────────────────────────────────
/** The values as uint8 quantisation over their own range would keep them (see DynamicQuantizeLinear). */
function throughBytes(values: Float64Array): Float64Array {
  let low = 0;
  let high = 0;
  for (let i = 0; i < values.length; i++) {
    low = Math.min(low, values[i]!);
    high = Math.max(high, values[i]!);
  }
  const scale = (high - low) / 255;
  if (scale === 0) return new Float64Array(values);
  const zero = Math.min(255, Math.max(0, Math.round(-low / scale)));
  return values.map((v) => (Math.min(255, Math.max(0, Math.round(v / scale) + zero)) - zero) * scale);
}

/** Weights [directions, in, gates * hidden] as real numbers; scale and zero point are per direction or per column. */
function dequantised(w: Tensor, scale: Tensor, zero: Tensor | null): Float64Array {
  const v = numbers(w);
  const s = numbers(scale);
  const z = zero === null ? null : numbers(zero);
  const [, rows, columns] = w.shape as [number, number, number];
  const out = new Float64Array(v.length);
  const of = (list: ArrayLike<number>, i: number): number =>
    list[
      list.length === w.shape[0]! * columns
        ? Math.floor(i / (rows * columns)) * columns + (i % columns)
        : Math.floor(i / (rows * columns))
    ]!;
  for (let i = 0; i < out.length; i++) out[i] = (v[i]! - (z === null ? 0 : of(z, i))) * of(s, i);
  return out;
}

const quantizedLstm = defineOp({
  op: 'com.microsoft.DynamicQuantizeLSTM',
  since: [1],
  types: { T: ['float32'], T2: ['int8', 'uint8'] },
  attrs: { ...rnnAttrs, input_forget: int(0) },
  inputs: [
    'X: T',
    'W: T2',
    'R: T2',
    'B: T?',
    'sequence_lens: int32?',
    'initial_h: T?',
    'initial_c: T?',
    'P: T?',
    'W_scale: T',
    'W_zero_point: T2',
    'R_scale: T',
    'R_zero_point: T2',
  ],
  outputs: ['Y: T?', 'Y_h: T?', 'Y_c: T?'],
  infer: (call) => {
    const s = rnnShape(
      [call.fact(0), call.fact(1), call.fact(2), ...call.inputs.slice(3, 8)],
      call.attrs,
      4,
      GATES.LSTM.defaults,
      true,
    );
    for (const [i, what] of [
      [8, 'W_scale'],
      [9, 'W_zero_point'],
      [10, 'R_scale'],
      [11, 'R_zero_point'],
    ] as const) {
      const got = call.fact(i).shape;
      const n = s.reversed.length;
      if (String(got) !== String([n]) && String(got) !== String([n, 4 * s.hidden]))
        fail('shape_mismatch', `${what} has shape [${got}], not [${n}] or [${[n, 4 * s.hidden]}]`);
    }
    return facts(call.fact(0).dtype, s, 3);
  },
  reference: (call) => {
    const shape = rnnShape(
      [0, 1, 2, 3, 4, 5, 6, 7].map((i) => call.optional(i)),
      call.attrs,
      4,
      GATES.LSTM.defaults,
      true,
    );
    const wide = 4 * shape.hidden;
    const w = dequantised(call.tensor(1), call.tensor(8), call.tensor(9));
    const r = dequantised(call.tensor(2), call.tensor(10), call.tensor(11));
    return recurrent(call, {
      shape,
      gates: 4,
      step: stepLstm,
      attrs: call.attrs,
      prepare: throughBytes,
      w: (d) => ({ data: w, at: d * wide * shape.input, row: 1, col: wide }),
      r: (d) => ({ data: r, at: d * wide * shape.hidden, row: 1, col: wide }),
    });
  },
});

/**
 * https://onnx.ai/onnx/operators/onnx__LSTM.html and its siblings; com.microsoft's: ContribOperators.md of onnxruntime.
 */
export const rnn: readonly Op[] = [
  family('LSTM', [1, 7, 14, 22], stepLstm, { input_forget: int(0) }),
  family('GRU', [1, 3, 7, 14, 22], stepGru, { linear_before_reset: int(0) }),
  family('RNN', [1, 7, 14, 22], stepRnn, {}),
  quantizedLstm,
];
