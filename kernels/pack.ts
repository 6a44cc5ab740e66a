/**
 * Rearrangements of constants, made once when a model is loaded; a plan names them (`Pack` in src/core/plan.ts).
 * Each is a pure function of the tensor and of numbers.
 */
import { numbers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';

export type Packer = (t: Tensor, args: readonly (number | string)[]) => Uint8Array<ArrayBuffer>;
const bytes = (a: Float32Array<ArrayBuffer> | Int16Array<ArrayBuffer>): Uint8Array<ArrayBuffer> => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);
const up = (n: number, to: number): number => Math.ceil(n / to) * to;
const ints = (args: readonly (number | string)[]): number[] => args as number[];

/**
 * "gemm.panels" [nr, K, N, row, col, matrices, matrix]: float32 panels of `nr` columns, [panel][k][column], the last panel as wide as its columns
 * rounded up to 4. Element (k, n) of matrix i is at i·matrix + k·row + n·col of the source.
 */
const gemmPanels: Packer = (t, args) => {
  const [nr, K, N, row, col, matrices, matrix] = ints(args) as [number, number, number, number, number, number, number];
  const from = numbers(t);
  const out = new Float32Array(matrices * K * (Math.floor(N / nr) * nr + up(N % nr, 4)));
  let to = 0;
  for (let i = 0; i < matrices; i++) for (let n0 = 0; n0 < N; n0 += nr) {
    const cols = Math.min(nr, N - n0);
    const width = up(cols, 4);
    for (let k = 0; k < K; k++, to += width) for (let n = 0, at = i * matrix + k * row + n0 * col; n < cols; n++, at += col) out[to + n] = from[at]!;
  }
  return bytes(out);
};

/** "conv.tiles" [mr, groups, filters, K]: float32 weights [groups, filters, K] as [group][tile of mr filters][k][filter]; the last tile of a group is as tall as it is. */
const convTiles: Packer = (t, args) => {
  const [mr, groups, filters, K] = ints(args) as [number, number, number, number];
  const from = numbers(t);
  const out = new Float32Array(groups * filters * K);
  let to = 0;
  for (let g = 0; g < groups; g++) for (let m0 = 0; m0 < filters; m0 += mr) {
    const rows = Math.min(mr, filters - m0);
    for (let k = 0; k < K; k++) for (let i = 0; i < rows; i++) out[to++] = from[(g * filters + m0 + i) * K + k]!;
  }
  return bytes(out);
};

/** Every packer by its name. */
export const packers: ReadonlyMap<string, Packer> = new Map([
  ['gemm.panels', gemmPanels], ['conv.tiles', convTiles],
]);
