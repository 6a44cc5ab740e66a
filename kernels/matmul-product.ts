/** The multiplication that reference operators share: plain loops over typed arrays, in double precision. */
import { numbers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';

export type Reals = Float32Array | Float64Array;

/** The elements as a float array: the tensor's own memory for float32 and float64, else widened. */
export function reals(t: Tensor): Reals {
  const v = numbers(t);
  return v instanceof Float32Array || v instanceof Float64Array ? v : new Float64Array(v);
}

/** A matrix inside an array: element (i, j) is at `at + i * row + j * col`. */
export interface Matrix<A = Reals> {
  readonly data: A;
  readonly at: number;
  readonly row: number;
  readonly col: number;
}

/** c[m, n] += a[m, k] b[k, n]; the columns of `c` are adjacent. */
export function product(c: Matrix<Float64Array>, a: Matrix, b: Matrix, m: number, n: number, k: number): void {
  if (b.col === 1 && n >= 4) byRows(c, a, b, m, n, k);
  else byDots(c, a, b, m, n, k);
}

function byRows(cm: Matrix<Float64Array>, am: Matrix, bm: Matrix, m: number, n: number, k: number): void {
  const c = cm.data;
  const a = am.data;
  const b = bm.data;
  const step = am.col;
  const row = bm.row;
  for (let i = 0; i < m; i += 2) {
    const two = i + 1 < m;
    const c0 = cm.at + i * cm.row;
    const c1 = two ? c0 + cm.row : c0;
    let p = am.at + i * am.row;
    let q = two ? p + am.row : p;
    let kk = 0;
    let b0 = bm.at;
    for (; kk + 4 <= k; kk += 4, p += 4 * step, q += 4 * step, b0 += 4 * row) {
      const b1 = b0 + row;
      const b2 = b1 + row;
      const b3 = b2 + row;
      const p0 = a[p]!;
      const p1 = a[p + step]!;
      const p2 = a[p + 2 * step]!;
      const p3 = a[p + 3 * step]!;
      if (!two) {
        for (let j = 0; j < n; j++) c[c0 + j]! += p0 * b[b0 + j]! + p1 * b[b1 + j]! + p2 * b[b2 + j]! + p3 * b[b3 + j]!;
        continue;
      }
      const q0 = a[q]!;
      const q1 = a[q + step]!;
      const q2 = a[q + 2 * step]!;
      const q3 = a[q + 3 * step]!;
      for (let j = 0; j < n; j++) {
        const x0 = b[b0 + j]!;
        const x1 = b[b1 + j]!;
        const x2 = b[b2 + j]!;
        const x3 = b[b3 + j]!;
        c[c0 + j]! += p0 * x0 + p1 * x1 + p2 * x2 + p3 * x3;
        c[c1 + j]! += q0 * x0 + q1 * x1 + q2 * x2 + q3 * x3;
      }
    }
    for (; kk < k; kk++, p += step, q += step, b0 += row) {
      const p0 = a[p]!;
      const q0 = a[q]!;
      for (let j = 0; j < n; j++) c[c0 + j]! += p0 * b[b0 + j]!;
      if (two) for (let j = 0; j < n; j++) c[c1 + j]! += q0 * b[b0 + j]!;
    }
  }
}

function byDots(cm: Matrix<Float64Array>, am: Matrix, bm: Matrix, m: number, n: number, k: number): void {
  const c = cm.data;
  const a = am.data;
  const b = bm.data;
  const step = am.col;
  const row = bm.row;
  const col = bm.col;
  for (let i = 0; i < m; i++) {
    const a0 = am.at + i * am.row;
    const c0 = cm.at + i * cm.row;
    let j = 0;
    for (; j + 4 <= n; j += 4) {
      let s0 = 0;
      let s1 = 0;
      let s2 = 0;
      let s3 = 0;
      for (let kk = 0, p = a0, q = bm.at + j * col; kk < k; kk++, p += step, q += row) {
        const v = a[p]!;
        s0 += v * b[q]!;
        s1 += v * b[q + col]!;
        s2 += v * b[q + 2 * col]!;
        s3 += v * b[q + 3 * col]!;
      }
      c[c0 + j]! += s0;
      c[c0 + j + 1]! += s1;
      c[c0 + j + 2]! += s2;
      c[c0 + j + 3]! += s3;
    }
    for (; j < n; j++) {
      let s = 0;
      for (let kk = 0, p = a0, q = bm.at + j * col; kk < k; kk++, p += step, q += row) s += a[p]! * b[q]!;
      c[c0 + j]! += s;
    }
  }
}

/** Would sums of `k` products of these stay exact in doubles? Decides for integers whether `product` may be used. */
export function exactInDoubles(a: ArrayLike<number>, b: ArrayLike<number>, k: number): boolean {
  return largest(a) * largest(b) * Math.max(1, k) < 2 ** 53;
}
function largest(v: ArrayLike<number>): number {
  let top = 0;
  for (let i = 0; i < v.length; i++) top = Math.max(top, Math.abs(v[i]!));
  return top;
}
