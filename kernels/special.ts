/** Functions of one number that JavaScript's Math lacks, in double precision. */

/** The error function, by a series whose terms are all of one sign: https://dlmf.nist.gov/7.6.E2 */
export function erf(v: number): number {
  if (v !== v) return NaN;
  if (Math.abs(v) > 6) return Math.sign(v);
  let term = v;
  let sum = v;
  for (let n = 1; Math.abs(term) > Math.abs(sum) * 1e-17; n++) {
    term *= (2 * v * v) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-v * v) * sum;
}
/** 1 / (1 + exp(-v)), without overflow. */
export const sigmoid = (v: number): number => (v >= 0 ? 1 / (1 + Math.exp(-v)) : Math.exp(v) / (1 + Math.exp(v)));
/** log(1 + exp(v)), without overflow. */
export const softplus = (v: number): number => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
/** Half to even. */
export function roundEven(v: number): number {
  const low = Math.floor(v);
  const rest = v - low;
  if (rest < 0.5) return low;
  return rest > 0.5 || low % 2 !== 0 ? low + 1 : low;
}
/** x Φ(x), Φ the normal distribution's. */
export const gelu = (v: number): number => 0.5 * v * (1 + erf(v * Math.SQRT1_2));
/** The tanh approximation of `gelu`. */
export const geluTanh = (v: number): number =>
  0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));
