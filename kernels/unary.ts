import type { DType } from '../src/core/dtype.ts';
import { FLOAT, int, NUMERIC, type Op, SIGNED } from './define.ts';
import { type Ex, x } from './expr.ts';
import { INTEGERS, narrow, unary } from './elementwise.ts';
import { erf, roundEven } from './special.ts';

const float = (op: string, since: readonly number[], f: (v: number) => number, map: (v: Ex) => Ex): Op =>
  unary({ op, since, types: FLOAT, scalar: () => ({ float: f }), map: (v) => map(v) });

const EIGHT_BIT: readonly DType[] = ['float8e4m3fn', 'float8e4m3fnuz', 'float8e5m2', 'float8e5m2fnuz'];
const signed = (v: Ex): boolean => v.k !== 'u32' && v.k !== 'u64';

/** Mathematics of one number: https://onnx.ai/onnx/operators/ */
export const unaries: readonly Op[] = [
  unary({
    op: 'Abs',
    since: [1, 6, 13],
    types: NUMERIC,
    scalar: () => ({ float: Math.abs, big: (v) => (v < 0n ? -v : v) }),
    map: (v, _, output) => (signed(v) ? narrow(x.abs(v), output) : v),
  }),
  unary({
    op: 'Neg',
    since: [1, 6, 13],
    types: [...FLOAT, ...SIGNED],
    scalar: () => ({ float: (v) => -v, big: (v) => -v }),
    map: (v, _, output) => narrow(x.neg(v), output),
  }),
  unary({
    op: 'Sign',
    since: [9, 13],
    types: NUMERIC,
    scalar: () => ({ float: Math.sign, big: (v) => (v > 0n ? 1n : v < 0n ? -1n : 0n) }),
    map: (v) => (signed(v) ? x.sign(v) : x.min(v, x.like(1, v))),
  }),
  float('Ceil', [1, 6, 13], Math.ceil, x.ceil),
  float('Floor', [1, 6, 13], Math.floor, x.floor),
  float('Round', [11, 22], roundEven, x.round),
  float('Sqrt', [1, 6, 13], Math.sqrt, x.sqrt),
  float('Exp', [1, 6, 13], Math.exp, x.exp),
  float('Log', [1, 6, 13], Math.log, x.log),
  float(
    'Reciprocal',
    [1, 6, 13],
    (v) => 1 / v,
    (v) => x.div(x.like(1, v), v),
  ),
  float('Sin', [7, 22], Math.sin, x.sin),
  float('Cos', [7, 22], Math.cos, x.cos),
  float('Tan', [7, 22], Math.tan, x.tan),
  float('Asin', [7, 22], Math.asin, x.asin),
  float('Acos', [7, 22], Math.acos, x.acos),
  float('Atan', [7, 22], Math.atan, x.atan),
  float('Sinh', [9, 22], Math.sinh, x.sinh),
  float('Cosh', [9, 22], Math.cosh, x.cosh),
  float('Tanh', [1, 6, 13], Math.tanh, x.tanh),
  float('Asinh', [9, 22], Math.asinh, x.asinh),
  float('Acosh', [9, 22], Math.acosh, x.acosh),
  float('Atanh', [9, 22], Math.atanh, x.atanh),
  unary({
    op: 'Erf',
    since: [9, 13],
    types: NUMERIC, // of integers, cut to an integer
    scalar: () => ({ float: erf, big: (v) => (v > 0n ? (v > 5n ? 1n : 0n) : v < -5n ? -1n : 0n) }),
    map: (v) => (v.k === 'f32' || v.k === 'f64' ? x.erf(v) : null),
  }),
  unary({ op: 'Not', since: [1], types: ['bool'], scalar: () => ({ float: (v) => !v }), map: (v) => x.not(v) }),
  unary({
    op: 'BitwiseNot',
    since: [18],
    types: INTEGERS,
    scalar: () => ({ float: (v) => ~v, big: (v) => ~v }),
    map: (v, _, output) => narrow(x.not(v), output),
  }),
  unary({
    op: 'IsNaN',
    since: [9, 13, 20],
    types: [...FLOAT, ...EIGHT_BIT],
    to: 'bool',
    scalar: () => ({ float: Number.isNaN }),
    map: (v) => x.isnan(v),
  }),
  unary({
    op: 'IsInf',
    since: [10, 20],
    types: [...FLOAT, ...EIGHT_BIT],
    to: 'bool',
    attrs: { detect_negative: int(1), detect_positive: int(1) },
    scalar: ({ detect_negative, detect_positive }) => ({
      float: (v) => (v === Infinity && detect_positive !== 0) || (v === -Infinity && detect_negative !== 0),
    }),
    map: (v, { detect_negative, detect_positive }) => {
      if (detect_negative && detect_positive) return x.isinf(v);
      if (detect_positive) return x.eq(v, x.like(Infinity, v));
      return detect_negative ? x.eq(v, x.like(-Infinity, v)) : x.lt(v, v);
    },
  }),
];
