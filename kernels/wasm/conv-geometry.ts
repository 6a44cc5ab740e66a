/**
 * Where a convolution's image lies in memory: its dims, the copy of it in padded rows, and the table of where the
 * inputs of an output lie.
 */
import type { Window } from '../conv-window.ts';
import { type Fn, i32, type I32, type Local, memory, type Mod, v128 } from './asm.ts';
import { i32s, locals, loop } from './gemm-core.ts';

type Three = readonly [number, number, number];
const three = (a: readonly number[], fill: number): Three =>
  [...new Array<number>(3 - a.length).fill(fill), ...a] as unknown as Three;

/** A convolution over [depth, height, width], missing dims 1, and how its padded image lies in memory (bytes). */
export interface Geometry {
  readonly batch: number;
  readonly groups: number;
  readonly channels: number;
  readonly filters: number; // channels and filters of one group
  readonly input: Three;
  readonly output: Three;
  readonly kernel: Three;
  readonly strides: Three;
  readonly dilations: Three;
  readonly pads: Three;
  /** The image is read where it lies. */
  readonly direct: boolean;
  readonly phase: number;
  readonly row: number;
  readonly slice: number;
  readonly plane: number;
}
/** Of x [N, C, ...] and w [M, C / group, ...], up to three spatial dims. */
export function geometryOf(x: readonly number[], filters: number, w: Window): Geometry {
  const begin = w.pads.slice(0, w.kernel.length);
  const end = w.pads.slice(w.kernel.length);
  const plain = w.pads.every((p) => p === 0) && w.strides.at(-1) === 1;
  const point = plain && w.kernel.every((k) => k === 1) && w.strides.every((s) => s === 1);
  const flat = (a: readonly number[]): Three => (point ? [1, 1, a.reduce((p, q) => p * q, 1)] : three(a, 1));
  const input = flat(x.slice(2));
  const after = three(end, 0);
  const pads = three(begin, 0);
  const strides = three(w.strides, 1);
  const padded = input.map((n, i) => n + pads[i]! + after[i]!);
  const phase = 4 * Math.ceil(padded[2]! / strides[2]);
  const row = phase * strides[2];
  const slice = row * padded[1]!;
  return {
    batch: x[0]!,
    groups: w.group,
    channels: x[1]! / w.group,
    filters: filters / w.group,
    input,
    output: flat(w.output),
    kernel: three(w.kernel, 1),
    strides,
    dilations: three(w.dilations, 1),
    pads,
    direct: plain,
    phase,
    row,
    slice,
    plane: slice * padded[0]!,
  };
}
export const tapsOf = (g: Geometry): number => g.kernel[0] * g.kernel[1] * g.kernel[2];
/** Bytes of `channels` padded planes, with room for the vector that reads past the last row. */
export const paddedBytes = (g: Geometry, channels: number): number => g.plane * channels + 64;

// ── copying an image into padded rows ───────────────────────────────────────────────────────────────────────────────
/** How elements come in: float32, or 8-bit integers to be widened to i32 less a zero point. */
export type Source = 'float32' | 'uint8' | 'int8';
/**
 * Per phase of a row: where its first element comes from and goes to, in elements of the source and bytes, and how many
 * there are.
 */
export function phasesOf(g: Geometry): number[] {
  const s = g.strides[2];
  const W = g.input[2];
  const left = g.pads[2];
  return Array.from({ length: s }, (_, p) => {
    const first = (((p - left) % s) + s) % s;
    return [first, p * g.phase + 4 * ((first + left - p) / s), first < W ? Math.ceil((W - first) / s) : 0];
  }).flat();
}
/** What `padCopy` needs to know of the geometry, in the order of its parameters behind (src, dst, planes, zero). */
export const padArgs = (g: Geometry): number[] => [
  g.input[0],
  g.input[1],
  g.input[2],
  g.row,
  g.slice,
  g.plane,
  g.pads[0] * g.slice + g.pads[1] * g.row,
  ...phasesOf(g),
];
/** Each phase of the stride is three parameters, of which a function has at most 1000. */
export const strideFits = (attrs: { readonly strides?: readonly number[] }): boolean =>
  (attrs.strides ?? []).every((s) => s <= 256);
export const padArgCount = (stride: number): number => 7 + 3 * stride;

/** (src, dst, planes, zero, …padArgs): copies planes of dense rows into padded ones. The padding is not touched. */
export function padCopy(m: Mod, stride: number, source: Source): Fn {
  return m.fn('pad', i32s(4 + padArgCount(stride)), [], false, (f) => {
    const arg = (i: number): Local<'i32'> => f.arg('i32', i);
    const [src, dst, planes, zero, D, H, W, row, slice, plane, first] = Array.from({ length: 11 }, (_, i) =>
      arg(i),
    ) as Local<'i32'>[] & { length: 11 };
    const [at, to, end, z, y] = locals(f, 'i32', 5) as [
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
    ];
    const bytes = source === 'float32' ? 4 : 1;
    f.set(dst!, i32.add(dst!, first!));
    f.times(planes!, () => {
      f.set(z, dst!);
      f.times(D!, () => {
        f.set(y, z);
        f.times(H!, () => {
          for (let p = 0; p < stride; p++) {
            const [from, offset, count] = [arg(11 + 3 * p), arg(12 + 3 * p), arg(13 + 3 * p)];
            f.set(at, i32.add(src!, i32.mul(from, bytes)));
            f.set(to, i32.add(y, offset));
            f.set(end, i32.add(to, i32.shl(count, 2)));
            if (bytes === 4 && stride <= 2)
              f.whileLoop(
                () => i32.leu(i32.add(to, stride === 1 ? 16 : 20), end),
                () => {
                  f.emit(
                    v128.store(
                      to,
                      stride === 1 ? v128.load(at) : v128.shuf32(v128.load(at), v128.load(at, 16), [0, 2, 4, 6]),
                    ),
                  );
                  f.inc(at, 16 * stride);
                  f.inc(to, 16);
                },
              );
            f.whileLoop(
              () => i32.ltu(to, end),
              () => {
                f.emit(
                  i32.store(
                    to,
                    bytes === 4 ? i32.load(at) : i32.sub(source === 'uint8' ? i32.load8u(at) : i32.load8s(at), zero!),
                  ),
                );
                f.inc(at, bytes * stride);
                f.inc(to, 4);
              },
            );
          }
          f.inc(src!, bytes === 4 ? i32.shl(W!, 2) : W!);
          f.inc(y, row!);
        });
        f.inc(z, slice!);
      });
      f.inc(dst!, plane!);
    });
  });
}

/** Parameters behind (table), in order. */
export const TABLE_ARGS = 9;
export const tableArgs = (g: Geometry): number[] => [
  g.channels,
  ...g.kernel,
  g.plane,
  g.dilations[0] * g.slice,
  g.dilations[1] * g.row,
  g.dilations[2],
  g.phase,
];
/** Of the image as it lies, when nothing is padded: rows of the input. */
export const asItLies = (g: Geometry): Geometry => {
  const row = 4 * g.input[2];
  const slice = row * g.input[1];
  return { ...g, phase: row, row, slice, plane: slice * g.input[0] };
};
/**
 * (table, channels, KD, KH, KW, plane, tapZ, tapY, dilation, phase): writes the offset of each input of an output,
 * [channel][tap].
 */
export function tapOffsets(m: Mod, stride: number): Fn {
  return m.fn('taps', i32s(1 + TABLE_ARGS), [], false, (f) => {
    const [table, channels, KD, KH, KW, plane, tapZ, tapY, dilation, phase] = Array.from({ length: 10 }, (_, i) =>
      f.arg('i32', i),
    ) as Local<'i32'>[];
    const [c, z, y, i, at] = locals(f, 'i32', 5) as [
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
    ];
    f.times(channels!, () => {
      f.set(z, c);
      f.times(KD!, () => {
        f.set(y, z);
        f.times(KH!, () => {
          loop(f, i, 0, KW!, 1, () => {
            f.set(at, i32.mul(i, dilation!));
            const inRow: I32 =
              stride === 1
                ? i32.shl(at, 2)
                : i32.add(i32.mul(i32.remu(at, stride), phase!), i32.shl(i32.divu(at, stride), 2));
            f.emit(i32.store(table!, i32.add(y, inRow)));
            f.inc(table!, 4);
          });
          f.inc(y, tapY!);
        });
        f.inc(z, tapZ!);
      });
      f.inc(c, plane!);
    });
  });
}
/** Fills `bytes` at `dst` with zeros. */
export const clear = (f: Fn, dst: I32, bytes: I32): void => f.emit(memory.fill(dst, 0, bytes));
