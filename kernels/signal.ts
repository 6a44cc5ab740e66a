import { type DType, DTYPE_OF_ONNX } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { fromNumbers, integers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor, tensor } from '../src/core/tensor.ts';
import {
  type Call,
  defineOp,
  FLOAT,
  INDEX,
  type InferCall,
  int,
  type NormalizeCall,
  type Normalized,
  NUMERIC,
  type Op,
  type RefCall,
} from './define.ts';
import { rootsOf, transform } from './signal-fft.ts';
import { axisOf } from './shapes.ts';

type Shape = readonly number[];

/** The single integer of an input. @throws shape_mismatch */
function whole(t: Tensor, what: string, least: number): number {
  const v = integers(t);
  if (v.length !== 1) fail('shape_mismatch', `${what} has shape [${t.shape}]; it must be a single number`);
  return v[0]! >= least ? v[0]! : fail('value_invalid', `${what} ${v[0]} must be at least ${least}`);
}

// ── DFT ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
/** A transform at known shapes. */
export interface Dft {
  readonly axis: number;
  readonly length: number;
  readonly complex: boolean;
  readonly real: boolean;
  readonly bins: number;
  readonly shape: Shape;
}
function dftShape(
  x: Shape,
  length: Tensor | null,
  axisValue: Tensor | null,
  a: { readonly inverse: number; readonly onesided: number },
): Dft {
  const rank = x.length;
  const parts = x[rank - 1];
  if (rank < 2 || (parts !== 1 && parts !== 2))
    fail('shape_mismatch', `the input has shape [${x}]; its last dim must be 1 (real) or 2 (complex)`);
  const axis = axisOf(axisValue === null ? -2 : integers(axisValue)[0]!, rank);
  if (axis === rank - 1) fail('attribute_invalid', `axis ${axis} of [${x}] holds the parts of complex numbers`);
  const complex = parts === 2;
  const real = a.onesided !== 0 && a.inverse !== 0;
  if (a.onesided && !a.inverse && complex) fail('shape_mismatch', 'a one-sided spectrum needs a real input');
  const n = length === null ? (real ? 2 * (x[axis]! - 1) : x[axis]!) : whole(length, 'dft_length', 1);
  if (n < 1) fail('shape_mismatch', `an axis of ${x[axis]} gives a transform of length ${n}`);
  const bins = a.onesided && !real ? Math.floor(n / 2) + 1 : n;
  return {
    axis,
    length: n,
    complex,
    real,
    bins,
    shape: x.map((d, i) => (i === axis ? bins : i === rank - 1 ? (real ? 1 : 2) : d)),
  };
}

const known = (call: Call, i: number): Tensor | null => call.inputs[i]?.constant?.peek() ?? null;
/** The transform of a call whose length and axis are constants. */
export const dftOf = (call: Call): Dft => dftShape(call.inputs[0]!.shape, known(call, 1), known(call, 2), call.attrs);
const dft = defineOp({
  op: 'DFT',
  since: [17, 20],
  inputs: ['input: T1', 'dft_length: T2?', 'axis: int64?'],
  outputs: ['output: T1'],
  types: { T1: FLOAT, T2: INDEX },
  attrs: { inverse: int(0), onesided: int(0) },
  // Below opset 20 the axis is an attribute, 1 by default.
  normalize: ({ attrs: { axis, ...attrs }, inputs, opset, constant }: NormalizeCall): Normalized =>
    opset >= 20
      ? { attrs: axis === undefined ? attrs : { axis, ...attrs } }
      : {
          attrs,
          inputs: [
            inputs[0] ?? null,
            inputs[1] ?? null,
            constant(tensor('int64', [], [typeof axis === 'number' ? axis : 1])),
          ],
        },
  infer: (call) => [
    {
      dtype: call.fact(0).dtype,
      shape: dftShape(
        call.fact(0).shape,
        call.inputs[1] ? call.value(1) : null,
        call.inputs[2] ? call.value(2) : null,
        call.attrs,
      ).shape,
    },
  ],
  reference: (call) => {
    const t = call.tensor(0);
    const x = numbers(t);
    const d = dftShape(t.shape, call.optional(1), call.optional(2), call.attrs);
    const n = d.length;
    const outer = sizeOf(t.shape.slice(0, d.axis));
    const inner = sizeOf(t.shape.slice(d.axis + 1, -1));
    const steps = t.shape[d.axis]!;
    const parts = d.complex ? 2 : 1;
    const outParts = d.real ? 1 : 2;
    const roots = rootsOf(n, call.attrs.inverse ? 1 : -1);
    const scale = call.attrs.inverse ? 1 / n : 1;
    const re = new Float64Array(n);
    const im = new Float64Array(n);
    const outRe = new Float64Array(n);
    const outIm = new Float64Array(n);
    const y = new Float64Array(sizeOf(d.shape));
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < inner; i++) {
        for (let k = 0; k < n; k++) {
          // The half of a real signal's spectrum that is not given mirrors the other.
          const mirrored = d.real && k > n / 2;
          const from = mirrored ? n - k : k;
          const at = ((o * steps + from) * inner + i) * parts;
          const there = from < steps;
          re[k] = there ? x[at]! : 0;
          im[k] = there && d.complex ? (mirrored ? -x[at + 1]! : x[at + 1]!) : 0;
        }
        transform(re, im, outRe, outIm, roots);
        for (let k = 0; k < d.bins; k++) {
          const at = ((o * d.bins + k) * inner + i) * outParts;
          y[at] = outRe[k]! * scale;
          if (!d.real) y[at + 1] = outIm[k]! * scale;
        }
      }
    return [fromNumbers(t.dtype, d.shape, y)];
  },
});

// ── STFT ────────────────────────────────────────────────────────────────────────────────────────────────────────────
/** Transforms of frames at known shapes. */
export interface Stft {
  readonly step: number;
  readonly length: number;
  readonly frames: number;
  readonly bins: number;
  readonly complex: boolean;
  readonly shape: Shape;
}
function stftShape(x: Shape, step: Tensor, window: Shape | null, length: Tensor | null, onesided: number): Stft {
  if (x.length !== 2 && (x.length !== 3 || (x[2] !== 1 && x[2] !== 2)))
    fail('shape_mismatch', `the signal has shape [${x}]; it must be [batch, length, 1 or 2]`);
  const complex = x[2] === 2;
  if (complex && onesided) fail('attribute_invalid', 'a one-sided spectrum needs a real signal');
  if (window !== null && window.length !== 1)
    fail('shape_mismatch', `the window has shape [${window}]; it must be of rank 1`);
  const n =
    length !== null
      ? whole(length, 'frame_length', 1)
      : (window?.[0] ?? fail('input_missing', 'STFT needs a window or a frame_length'));
  if (window !== null && window[0] !== n)
    fail('shape_mismatch', `the window has ${window[0]} elements and a frame ${n}`);
  if (n < 1 || n > x[1]!) fail('shape_mismatch', `a frame of ${n} does not fit a signal of ${x[1]}`);
  const hop = whole(step, 'frame_step', 1);
  const frames = Math.floor((x[1]! - n) / hop) + 1;
  const bins = onesided ? Math.floor(n / 2) + 1 : n;
  return { step: hop, length: n, frames, bins, complex, shape: [x[0]!, frames, bins, 2] };
}

/** The transforms of a call whose step and length are constants. */
export const stftOf = (call: Call): Stft =>
  stftShape(call.inputs[0]!.shape, known(call, 1)!, call.inputs[2]?.shape ?? null, known(call, 3), call.attrs.onesided);
const stft = defineOp({
  op: 'STFT',
  since: [17],
  inputs: ['signal: T1', 'frame_step: T2', 'window: T1?', 'frame_length: T2?'],
  outputs: ['output: T1'],
  types: { T1: FLOAT, T2: INDEX },
  attrs: { onesided: int(1) },
  infer: (call) => [
    {
      dtype: call.fact(0).dtype,
      shape: stftShape(
        call.fact(0).shape,
        call.value(1),
        call.inputs[2]?.shape ?? null,
        call.inputs[3] ? call.value(3) : null,
        call.attrs.onesided,
      ).shape,
    },
  ],
  reference: (call) => {
    const t = call.tensor(0);
    const x = numbers(t);
    const wt = call.optional(2);
    const window = wt === null ? null : numbers(wt);
    const s = stftShape(t.shape, call.tensor(1), wt?.shape ?? null, call.optional(3), call.attrs.onesided);
    const n = s.length;
    const parts = s.complex ? 2 : 1;
    const signal = t.shape[1]!;
    const roots = rootsOf(n, -1);
    const re = new Float64Array(n);
    const im = new Float64Array(n);
    const outRe = new Float64Array(n);
    const outIm = new Float64Array(n);
    const y = new Float64Array(sizeOf(s.shape));
    for (let b = 0; b < t.shape[0]!; b++)
      for (let f = 0; f < s.frames; f++) {
        for (let k = 0; k < n; k++) {
          const at = (b * signal + f * s.step + k) * parts;
          const w = window === null ? 1 : window[k]!;
          re[k] = x[at]! * w;
          im[k] = s.complex ? x[at + 1]! * w : 0;
        }
        transform(re, im, outRe, outIm, roots);
        for (let k = 0, at = (b * s.frames + f) * s.bins * 2; k < s.bins; k++) {
          y[at + 2 * k] = outRe[k]!;
          y[at + 2 * k + 1] = outIm[k]!;
        }
      }
    return [fromNumbers(t.dtype, s.shape, y)];
  },
});

// ── windows and mel bands ───────────────────────────────────────────────────────────────────────────────────────────
function outputType(code: number): DType {
  const dtype = DTYPE_OF_ONNX[code];
  return dtype !== undefined && NUMERIC.includes(dtype)
    ? dtype
    : fail('attribute_invalid', `output_datatype ${code} is no numeric type`);
}

/** A window that is a sum of cosines: value(angle), the angle running over one turn. */
const windowOp = (op: string, value: (angle: number) => number): Op =>
  defineOp({
    op,
    since: [17],
    inputs: ['size: T1'],
    outputs: ['output: T2'],
    types: { T1: INDEX, T2: NUMERIC },
    attrs: { output_datatype: int(1), periodic: int(1) },
    infer: (call: InferCall) => [
      { dtype: outputType(call.attrs.output_datatype), shape: [whole(call.value(0), 'size', 0)] },
    ],
    reference: (call: RefCall) => {
      const n = whole(call.tensor(0), 'size', 0);
      const turn = call.attrs.periodic ? n : n - 1;
      const y = Float64Array.from({ length: n }, (_, i) => (turn === 0 ? 1 : value((2 * Math.PI * i) / turn)));
      return [fromNumbers(outputType(call.attrs.output_datatype), [n], y)];
    },
  });
const hann = windowOp('HannWindow', (a) => 0.5 - 0.5 * Math.cos(a));
const hamming = windowOp('HammingWindow', (a) => 25 / 46 - (21 / 46) * Math.cos(a));
const blackman = windowOp('BlackmanWindow', (a) => 0.42 - 0.5 * Math.cos(a) + 0.08 * Math.cos(2 * a));

const melWeightMatrix = defineOp({
  op: 'MelWeightMatrix',
  since: [17],
  inputs: ['num_mel_bins: T1', 'dft_length: T1', 'sample_rate: T1', 'lower_edge_hertz: T2', 'upper_edge_hertz: T2'],
  outputs: ['output: T3'],
  types: { T1: INDEX, T2: FLOAT, T3: NUMERIC },
  attrs: { output_datatype: int(1) },
  infer: (call) => [
    {
      dtype: outputType(call.attrs.output_datatype),
      shape: [Math.floor(whole(call.value(1), 'dft_length', 1) / 2) + 1, whole(call.value(0), 'num_mel_bins', 0)],
    },
  ],
  reference: (call) => {
    const bands = whole(call.tensor(0), 'num_mel_bins', 0);
    const length = whole(call.tensor(1), 'dft_length', 1);
    const rate = whole(call.tensor(2), 'sample_rate', 1);
    const bins = Math.floor(length / 2) + 1;
    const mel = (i: number): number => 2595 * Math.log10(1 + numbers(call.tensor(i))[0]! / 700);
    const low = mel(3);
    const step = (mel(4) - low) / (bands + 2);
    const edges = Array.from({ length: bands + 2 }, (_, i) =>
      Math.floor((700 * (10 ** ((i * step + low) / 2595) - 1) * (length + 1)) / rate),
    );
    const y = new Float64Array(bins * bands);
    const put = (bin: number, band: number, v: number): void => {
      if (bin >= 0 && bin < bins) y[bin * bands + band] = v;
    };
    for (let band = 0; band < bands; band++) {
      const [from, centre, to] = [edges[band]!, edges[band + 1]!, edges[band + 2]!];
      if (centre === from) put(centre, band, 1);
      else
        for (let j = Math.max(0, from); j <= Math.min(centre, bins - 1); j++)
          put(j, band, (j - from) / (centre - from));
      for (let j = Math.max(0, centre); j < Math.min(to, bins); j++) put(j, band, (to - j) / (to - centre));
    }
    return [fromNumbers(outputType(call.attrs.output_datatype), [bins, bands], y)];
  },
});

/** https://onnx.ai/onnx/operators/onnx__DFT.html and its siblings */
export const signal: readonly Op[] = [dft, stft, hann, hamming, blackman, melWeightMatrix];
