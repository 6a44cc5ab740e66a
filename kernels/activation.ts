import { FLOAT, float, NUMERIC, type Op, SIGNED, string } from './define.ts';
import { fail } from '../src/core/errors.ts';
import { type Ex, x } from './expr.ts';
import { noHints, unary } from './elementwise.ts';
import { gelu, geluTanh, sigmoid, softplus } from './special.ts';

const c = x.like;
const clamp01 = (v: Ex): Ex => x.min(x.max(v, c(0, v)), c(1, v));
const unit = (v: number): number => Math.min(Math.max(v, 0), 1);
const isReal = (v: Ex): boolean => v.k === 'f32' || v.k === 'f64';

/** x Φ(x) as an expression. */
export const geluEx = (v: Ex): Ex => x.mul(x.mul(c(0.5, v), v), x.add(c(1, v), x.erf(x.mul(v, c(Math.SQRT1_2, v)))));
/** The tanh approximation of `geluEx`. */
export const geluTanhEx = (v: Ex): Ex => {
  const inner = x.mul(x.mul(v, c(Math.sqrt(2 / Math.PI), v)), x.add(c(1, v), x.mul(c(0.044715, v), x.mul(v, v))));
  return x.mul(x.mul(c(0.5, v), v), x.add(c(1, v), x.tanh(inner)));
};
/** x σ(αx) as an expression. */
export const swishEx = (v: Ex, alpha: number): Ex => x.mul(v, x.sigmoid(alpha === 1 ? v : x.mul(v, c(alpha, v))));

const approximation = (name: string): 'none' | 'tanh' =>
  name === 'none' || name === 'tanh'
    ? name
    : fail('attribute_invalid', `approximate must be none or tanh, not ${JSON.stringify(name)}`);

/** Activation functions: https://onnx.ai/onnx/operators/ */
export const activations: readonly Op[] = [
  unary({
    op: 'Relu',
    since: [1, 6, 13, 14],
    types: [...FLOAT, ...SIGNED],
    scalar: () => ({ float: (v) => Math.max(v, 0), big: (v) => (v > 0n ? v : 0n) }),
    map: (v) => x.max(v, c(0, v)),
  }),
  unary({
    op: 'Sigmoid',
    since: [1, 6, 13],
    types: FLOAT,
    scalar: () => ({ float: sigmoid }),
    map: (v) => x.sigmoid(v),
  }),
  unary({
    op: 'Softplus',
    since: [1, 22],
    types: FLOAT,
    scalar: () => ({ float: softplus }),
    map: (v) => x.softplus(v),
  }),
  unary({
    op: 'Softsign',
    since: [1, 22],
    types: FLOAT,
    scalar: () => ({ float: (v) => v / (1 + Math.abs(v)) }),
    map: (v) => x.div(v, x.add(c(1, v), x.abs(v))),
  }),
  unary({
    op: 'HardSigmoid',
    since: [1, 6, 22],
    types: FLOAT,
    attrs: { alpha: float(0.2), beta: float(0.5) },
    scalar: ({ alpha, beta }) => ({ float: (v) => unit(alpha * v + beta) }),
    map: (v, { alpha, beta }) => clamp01(x.add(x.mul(v, c(alpha, v)), c(beta, v))),
  }),
  unary({
    op: 'HardSwish',
    since: [14, 22],
    types: FLOAT,
    scalar: () => ({ float: (v) => v * unit(v / 6 + 0.5) }),
    map: (v) => x.mul(v, clamp01(x.add(x.mul(v, c(1 / 6, v)), c(0.5, v)))),
  }),
  unary({
    op: 'Elu',
    since: [1, 6, 22],
    types: FLOAT,
    attrs: { alpha: float(1) },
    scalar: ({ alpha }) => ({ float: (v) => (v < 0 ? alpha * Math.expm1(v) : v) }),
    map: (v, { alpha }) => x.select(x.lt(v, c(0, v)), x.mul(c(alpha, v), x.sub(x.exp(v), c(1, v))), v),
  }),
  unary({
    op: 'Selu',
    since: [1, 6, 22],
    types: FLOAT,
    attrs: { alpha: float(1.67326319217681884765625), gamma: float(1.05070102214813232421875) },
    normalize: (node) => ({
      attrs: { ...(node.opset < 6 ? { alpha: 1.6732, gamma: 1.0507 } : {}), ...noHints(node).attrs },
    }),
    scalar: ({ alpha, gamma }) => ({ float: (v) => gamma * (v < 0 ? alpha * Math.expm1(v) : v) }),
    map: (v, { alpha, gamma }) =>
      x.mul(c(gamma, v), x.select(x.lt(v, c(0, v)), x.mul(c(alpha, v), x.sub(x.exp(v), c(1, v))), v)),
  }),
  unary({
    op: 'Celu',
    since: [12, 28],
    types: FLOAT,
    attrs: { alpha: float(1) },
    scalar: ({ alpha }) => ({ float: (v) => Math.max(0, v) + Math.min(0, alpha * Math.expm1(v / alpha)) }),
    map: (v, { alpha }) =>
      x.add(x.max(c(0, v), v), x.min(c(0, v), x.mul(c(alpha, v), x.sub(x.exp(x.div(v, c(alpha, v))), c(1, v))))),
  }),
  unary({
    op: 'LeakyRelu',
    since: [1, 6, 16],
    types: FLOAT,
    attrs: { alpha: float(0.01) },
    scalar: ({ alpha }) => ({ float: (v) => (v < 0 ? alpha * v : v) }),
    map: (v, { alpha }) => x.select(x.lt(v, c(0, v)), x.mul(c(alpha, v), v), v),
  }),
  unary({
    op: 'ThresholdedRelu',
    since: [1, 10, 22],
    types: FLOAT,
    attrs: { alpha: float(1) },
    scalar: ({ alpha }) => ({ float: (v) => (v > alpha ? v : 0) }),
    map: (v, { alpha }) => x.select(x.lt(c(alpha, v), v), v, c(0, v)),
  }),
  unary({
    op: 'Gelu',
    since: [20],
    types: FLOAT,
    attrs: { approximate: string('none') },
    scalar: ({ approximate }) => ({ float: approximation(approximate) === 'tanh' ? geluTanh : gelu }),
    map: (v, { approximate }) => (approximation(approximate) === 'tanh' ? geluTanhEx(v) : geluEx(v)),
  }),
  unary({
    op: 'Mish',
    since: [18, 22],
    types: FLOAT,
    scalar: () => ({ float: (v) => v * Math.tanh(softplus(v)) }),
    map: (v) => x.mul(v, x.tanh(x.softplus(v))),
  }),
  unary({
    op: 'Swish',
    since: [24],
    types: FLOAT,
    attrs: { alpha: float(1) },
    scalar: ({ alpha }) => ({ float: (v) => v * sigmoid(alpha * v) }),
    map: (v, { alpha }) => swishEx(v, alpha),
  }),
  unary({
    op: 'Shrink',
    since: [9],
    types: NUMERIC,
    attrs: { lambd: float(0.5), bias: float(0) },
    scalar: ({ lambd, bias }) => ({ float: (v) => (v < -lambd ? v + bias : v > lambd ? v - bias : 0) }),
    map: (v, { lambd, bias }) =>
      !isReal(v)
        ? null
        : x.select(
            x.lt(v, c(-lambd, v)),
            x.add(v, c(bias, v)),
            x.select(x.lt(c(lambd, v), v), x.sub(v, c(bias, v)), c(0, v)),
          ),
  }),
];
