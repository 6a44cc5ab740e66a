import { fail } from '../src/core/errors.ts';

type Curve = (x: number) => number;
const sigmoid: Curve = (x) => 1 / (1 + Math.exp(-x));

/**
 * Name in lower case -> [default alpha, default beta, the function]. Defaults are those of the stand-alone ONNX
 * operators.
 */
const CURVES: Readonly<Record<string, readonly [number, number, (alpha: number, beta: number) => Curve]>> = {
  relu: [0, 0, () => (x) => (x < 0 ? 0 : x)],
  tanh: [0, 0, () => Math.tanh],
  sigmoid: [0, 0, () => sigmoid],
  affine: [1, 0, (a, b) => (x) => a * x + b],
  leakyrelu: [0.01, 0, (a) => (x) => (x < 0 ? a * x : x)],
  thresholdedrelu: [1, 0, (a) => (x) => (x >= a ? x : x === x ? 0 : x)],
  scaledtanh: [1, 1, (a, b) => (x) => a * Math.tanh(b * x)],
  hardsigmoid: [0.2, 0.5, (a, b) => (x) => Math.min(1, Math.max(0, a * x + b))],
  elu: [1, 0, (a) => (x) => (x < 0 ? a * Math.expm1(x) : x)],
  softsign: [0, 0, () => (x) => x / (1 + Math.abs(x))],
  softplus: [0, 0, () => (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))],
  clip: [-Infinity, Infinity, (a, b) => (x) => Math.min(b, Math.max(a, x))],
  silu: [0, 0, () => (x) => x * sigmoid(x)],
  swish: [0, 0, () => (x) => x * sigmoid(x)],
};

/** Does the function of this name use alpha, beta? Attribute lists hold values only for functions that do. */
export function activationUses(name: string): readonly [alpha: boolean, beta: boolean] {
  const n = name.toLowerCase();
  return [
    ['affine', 'leakyrelu', 'thresholdedrelu', 'scaledtanh', 'hardsigmoid', 'elu'].includes(n),
    ['affine', 'scaledtanh', 'hardsigmoid'].includes(n),
  ];
}

/**
 * An activation by ONNX's name, in any case: those of LSTM, GRU and RNN, and those that fused operators name; `Clip`
 * takes its bounds as alpha and beta. @throws attribute_invalid
 */
export function activation(name: string, alpha?: number, beta?: number): Curve {
  const found = Object.hasOwn(CURVES, name.toLowerCase())
    ? CURVES[name.toLowerCase()]!
    : fail('attribute_invalid', `unknown activation ${JSON.stringify(name)}`);
  return found[2](alpha ?? found[0], beta ?? found[1]);
}
