import { BITS, DTYPE_OF_ONNX, type DType, isFloat, isInt64 } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import type { AttrValue } from '../src/core/graph.ts';
import { MINIFLOAT, minifloatBits } from '../src/core/floats.ts';
import { bigints, numbers, writer } from '../src/core/numbers.ts';
import { bytesOfTensor, sizeOf, type Tensor, tensorOver, zeros } from '../src/core/tensor.ts';
import { ALL, defineOp, int, type NormalizeCall, type Normalized, type Op, required, string } from './define.ts';
import { narrow } from './elementwise.ts';
import { type Ex, kindOf, x } from './expr.ts';

/** Types that a cast reads and makes: all but the complex ones. */
const CASTABLE: readonly DType[] = ALL.filter((d) => !d.startsWith('complex'));

/**
 * clamp_nibbles: floats are clamped to the range of a 4-bit type, NaN counting as large, as the cases of opsets below
 * 24 have it.
 */
interface How {
  readonly saturate: number;
  readonly round_mode: string;
  readonly clamp_nibbles: number;
}
const NIBBLES: Readonly<Partial<Record<DType, readonly [number, number]>>> = { int4: [-8, 7], uint4: [0, 15] };
const MODES = ['up', 'down', 'nearest'];
const HOW = { saturate: int(1), round_mode: string('up'), clamp_nibbles: int(0) };

/**
 * A power of two as float8e8m0 bits: the sign is dropped; infinity, NaN and (unless saturated) too large a number are
 * NaN.
 */
function e8m0Bits(v: number, { saturate, round_mode }: How): number {
  const a = Math.abs(v);
  if (!(a < Infinity)) return 255;
  if (a < 2 ** -127) return 0;
  let e = Math.floor(Math.log2(a));
  if (2 ** e > a) e--;
  if (2 ** (e + 1) <= a) e++;
  const rest = a / 2 ** e;
  const up = round_mode === 'up' ? rest > 1 : round_mode === 'nearest' && rest >= 1.5;
  return Math.min(e + (up ? 1 : 0), saturate ? 127 : 128) + 127;
}

/** A number in text: decimal, scientific, or a name of infinity or NaN. @throws value_invalid */
function numberOf(text: string): number {
  const t = text.trim();
  const special = /^([+-]?)(inf(?:inity)?|nan)$/i.exec(t);
  if (special) return /^n/i.test(special[2]!) ? NaN : special[1] === '-' ? -Infinity : Infinity;
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(t)) fail('value_invalid', `${JSON.stringify(text)} is no number`);
  return Number(t);
}
const bigOf = (text: string): bigint =>
  /^[+-]?\d+$/.test(text.trim()) ? BigInt(text.trim().replace(/^\+/, '')) : BigInt(Math.trunc(numberOf(text)) || 0);

/** The shortest text that reads back as the same number of the type that `round` rounds to. */
function textOf(v: number, round: (v: number) => number): string {
  if (!Number.isFinite(v)) return v !== v ? 'NaN' : v > 0 ? 'INF' : '-INF';
  if (Object.is(v, -0)) return '-0';
  for (let digits = 1; digits < 17; digits++) {
    const short = Number(v.toPrecision(digits));
    if (round(short) === v) return String(short);
  }
  return String(v);
}
/** Rounds to the nearest value of a float dtype. */
const rounder =
  (d: DType): ((v: number) => number) =>
  (v) => {
    const t = zeros(d, [1]);
    writer(t)(0, v);
    return numbers(t)[0]!;
  };

/**
 * `t` as `dtype`. Floats are cut to integers and integers wrapped; a float too large for an 8-bit one becomes its largest value
 * if `saturate`, else its infinity or NaN. https://onnx.ai/onnx/operators/onnx__Cast.html
 */
function castTensor(t: Tensor, dtype: DType, how: How = { saturate: 1, round_mode: 'up', clamp_nibbles: 0 }): Tensor {
  if (t.dtype === dtype) return t;
  const out = zeros(dtype, t.shape);
  const n = sizeOf(t.shape);
  const data = out.data as unknown[];
  if (dtype === 'string') {
    if (!isFloat(t.dtype)) {
      const from = bigints(t);
      for (let i = 0; i < n; i++) data[i] = String(from[i]);
      return out;
    }
    const [from, round] = [numbers(t), t.dtype === 'float64' ? Number : rounder(t.dtype)];
    for (let i = 0; i < n; i++) data[i] = textOf(from[i]!, round);
    return out;
  }
  if (isInt64(dtype) && !isFloat(t.dtype)) {
    const from = t.dtype === 'string' ? (t.data as string[]).map(bigOf) : bigints(t);
    for (let i = 0; i < n; i++) data[i] = from[i];
    return out;
  }
  const from =
    t.dtype === 'string'
      ? (t.data as string[]).map(numberOf)
      : isInt64(t.dtype) && !isFloat(dtype) && dtype !== 'bool'
        ? Array.from(bigints(t), (v) => Number(BigInt.asIntN(32, v)))
        : numbers(t);
  const mini = MINIFLOAT[dtype];
  const write = writer(out);
  if (mini && BITS[dtype] === 8)
    for (let i = 0; i < n; i++) data[i] = minifloatBits(mini, from[i]!, how.saturate !== 0);
  else if (dtype === 'float8e8m0') for (let i = 0; i < n; i++) data[i] = e8m0Bits(from[i]!, how);
  else if (mini && !how.clamp_nibbles)
    for (let i = 0; i < n; i++) write(i, from[i]! || 0); // float4e2m1 has no NaN: 0
  else if (how.clamp_nibbles && isFloat(t.dtype) && dtype in NIBBLES) {
    const [low, high] = NIBBLES[dtype]!;
    for (let i = 0; i < n; i++) write(i, Math.max(low, Math.min(high, from[i]!)));
  } else for (let i = 0; i < n; i++) write(i, from[i]!);
  return out;
}

/** A conversion as an expression; null for types that expressions do not know. */
function castEx(v: Ex | undefined, dtype: DType): Ex | null {
  const to = kindOf(dtype);
  if (v === undefined || to === undefined) return null;
  const real = v.k === 'f32' || v.k === 'f64';
  return narrow(real && to === 'u32' && BITS[dtype] < 32 ? x.cast(x.cast(v, 'i32'), 'u32') : x.cast(v, to), dtype);
}

const NAMES: Readonly<Record<string, number>> = {
  FLOAT: 1,
  UINT8: 2,
  INT8: 3,
  UINT16: 4,
  INT16: 5,
  INT32: 6,
  INT64: 7,
  STRING: 8,
  BOOL: 9,
  FLOAT16: 10,
  DOUBLE: 11,
  UINT32: 12,
  UINT64: 13,
};
const older = ({ attrs, opset }: NormalizeCall): Normalized => ({
  attrs: opset < 24 ? { ...attrs, clamp_nibbles: 1 } : attrs,
});
/** Opset 1 names the type in text. */
const normalize = (node: NormalizeCall): Normalized => {
  const attrs = older(node).attrs!;
  const to: AttrValue | undefined = attrs.to;
  return {
    attrs:
      typeof to === 'string'
        ? {
            ...attrs,
            to: NAMES[to.toUpperCase()] ?? fail('attribute_invalid', `to names no type: ${JSON.stringify(to)}`),
          }
        : attrs,
  };
};
const target = (to: number): DType => {
  const d = DTYPE_OF_ONNX[to];
  return d !== undefined && CASTABLE.includes(d) ? d : fail('attribute_invalid', `to = ${to} is no type to cast to`);
};
const checkMode = ({ round_mode }: How): void => {
  if (!MODES.includes(round_mode))
    fail('attribute_invalid', `round_mode must be one of ${MODES.join(', ')}, not ${JSON.stringify(round_mode)}`);
};

const cast: Op = defineOp({
  op: 'Cast',
  since: [1, 6, 9, 13, 19, 21, 23, 24, 25],
  inputs: ['input: T1'],
  outputs: ['output: any'],
  types: { T1: CASTABLE },
  attrs: { to: required(int()), ...HOW },
  normalize,
  infer: (call) => {
    checkMode(call.attrs);
    return [{ dtype: target(call.attrs.to!), shape: call.fact(0).shape }];
  },
  map: ([v], _, output) => castEx(v, output),
  reference: (call) => [castTensor(call.tensor(0), target(call.attrs.to!), call.attrs)],
});

const castLike: Op = defineOp({
  op: 'CastLike',
  since: [15, 19, 21, 23, 24, 25],
  inputs: ['input: T1', 'target_type: T2'],
  outputs: ['output: T2'],
  types: { T1: CASTABLE, T2: CASTABLE },
  attrs: HOW,
  normalize: older,
  infer: (call) => {
    checkMode(call.attrs);
    return [{ dtype: call.fact(1).dtype, shape: call.fact(0).shape }];
  },
  map: ([v], _, output) => castEx(v, output),
  reference: (call) => [castTensor(call.tensor(0), call.tensor(1).dtype, call.attrs)],
});

/** A dtype whose elements are as wide as those of `from`. */
function sameWidth(to: number, from: DType): DType {
  const d = target(to);
  if (d === 'string' || from === 'string' || BITS[d] !== BITS[from])
    fail('type_mismatch', `the bits of ${from} cannot be read as ${d}: not the same width`);
  return d;
}
/** https://onnx.ai/onnx/operators/onnx__BitCast.html */
const bitCast: Op = defineOp({
  op: 'BitCast',
  since: [26],
  inputs: ['input: T1'],
  outputs: ['output: any'],
  types: { T1: CASTABLE.filter((d) => d !== 'string') },
  attrs: { to: required(int()) },
  infer: (call) => [{ dtype: sameWidth(call.attrs.to!, call.fact(0).dtype), shape: call.fact(0).shape }],
  reference: (call) => {
    const t = call.tensor(0);
    return [tensorOver(sameWidth(call.attrs.to!, t.dtype), t.shape, bytesOfTensor(t))];
  },
});

/**
 * Changes of type: https://onnx.ai/onnx/operators/onnx__Cast.html, https://onnx.ai/onnx/operators/onnx__CastLike.html
 */
export const casts: readonly Op[] = [cast, castLike, bitCast];
