/** The discrete Fourier transform of any length, in double precision: Cooley-Tukey over the length's prime factors. */

/** exp(sign * 2 pi i k / n) for k in [0, n). */
export interface Roots {
  readonly n: number;
  readonly re: Float64Array;
  readonly im: Float64Array;
}
export function rootsOf(n: number, sign: 1 | -1): Roots {
  const re = new Float64Array(n);
  const im = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    re[k] = Math.cos((2 * Math.PI * k) / n);
    im[k] = sign * Math.sin((2 * Math.PI * k) / n);
  }
  return { n, re, im };
}

const leastFactor = (n: number): number => {
  for (let p = 2; p * p <= n; p++) if (n % p === 0) return p;
  return n;
};

/** Transforms the `roots.n` elements of `re`, `im` into `outRe`, `outIm`, which must be other arrays. Not scaled. */
export function transform(
  re: Float64Array,
  im: Float64Array,
  outRe: Float64Array,
  outIm: Float64Array,
  roots: Roots,
): void {
  const held = new Float64Array(2 * roots.n);
  const step = (from: number, stride: number, to: number, n: number): void => {
    if (n === 1) {
      outRe[to] = re[from]!;
      outIm[to] = im[from]!;
      return;
    }
    const p = leastFactor(n);
    const m = n / p;
    for (let r = 0; r < p; r++) step(from + r * stride, stride * p, to + r * m, m);
    for (let k = 0; k < m; k++) {
      for (let r = 0; r < p; r++) {
        const w = (r * k * stride) % roots.n;
        const x = outRe[to + r * m + k]!;
        const y = outIm[to + r * m + k]!;
        held[2 * r] = x * roots.re[w]! - y * roots.im[w]!;
        held[2 * r + 1] = x * roots.im[w]! + y * roots.re[w]!;
      }
      for (let q = 0; q < p; q++) {
        let x = 0;
        let y = 0;
        for (let r = 0; r < p; r++) {
          const w = (r * q * m * stride) % roots.n;
          x += held[2 * r]! * roots.re[w]! - held[2 * r + 1]! * roots.im[w]!;
          y += held[2 * r]! * roots.im[w]! + held[2 * r + 1]! * roots.re[w]!;
        }
        outRe[to + q * m + k] = x;
        outIm[to + q * m + k] = y;
      }
    }
  };
  if (roots.n > 0) step(0, 1, 0, roots.n);
}
