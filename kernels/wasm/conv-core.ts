/**
 * Direct convolution: the rows of a register tile are output channels, its columns neighbouring outputs of one image
 * row.
 *
 * The image is copied once into padded rows. With a stride along the row each row is stored as `stride` interleaved
 * sequences, so that the inputs of neighbouring outputs are neighbours whatever the stride, and every load is a plain
 * vector load. Where each of the K = channels × taps inputs of an output lies is a table of byte offsets. No image is
 * unfolded.
 */
import type { WasmCaps } from '../../src/core/plan.ts';
import type { Window } from '../conv-window.ts';
import { type Fn, f32x4, i32, i32x4, type I32, type Local, memory, type Mod, type V, v128 } from './asm.ts';
import { finisher, type StoreSpec } from './conv-finish.ts';
import { context } from './float.ts';
import { i32s, locals, loop, mac, storeLanes, type Tile } from './gemm-core.ts';

type L = Local<'i32'>;
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

// ── the tile ────────────────────────────────────────────────────────────────────────────────────────────────────────
/**
 * Rows and columns of a tile, what is left over of the rows, and what is computed in. The sizes of images are
 * arguments.
 */
export interface ConvSpec {
  readonly tile: Tile;
  readonly tall: boolean;
  readonly mTail: number;
  readonly direct: boolean;
  readonly stride: number;
  readonly source: Source;
  readonly store: StoreSpec | null;
}
/**
 * Outputs whose inputs a block keeps near, and k's of them, each block a sum of its own: half as many where a tap is a
 * channel, which rounds less and costs the same. The channels in it are so many that their pages fit the first TLB.
 */
const BLOCK_OUTPUTS = 64;
const BLOCK_K = 64;
const BLOCK_PAGES = 48;
export function convSpec(g: Geometry, source: Source = 'float32', store: StoreSpec | null = null): ConvSpec {
  const tile: Tile = g.filters === 1 && source === 'float32' ? [1, 32] : [4, 8];
  return {
    tile,
    tall: g.filters >= tile[0],
    mTail: g.filters % tile[0],
    direct: g.direct && source === 'float32',
    stride: g.strides[2],
    source,
    store,
  };
}
/** K's, and rows of the image, that are worked on at once. */
export function blockOf(g: Geometry): { k: number; rows: number } {
  const taps = tapsOf(g);
  const plane = 4 * g.input[0] * g.input[1] * g.input[2];
  const channels = Math.min(
    taps === 1 ? BLOCK_K / 2 : Math.ceil(BLOCK_K / taps),
    Math.ceil(BLOCK_PAGES * Math.max(1, 4096 / Math.max(1, plane))),
  );
  return { k: channels * taps, rows: Math.max(1, Math.floor(BLOCK_OUTPUTS / Math.max(1, g.output[2]))) };
}

/** How the pass over some k's of a tile begins and ends. */
const ADDS = 1; // to what the passes before it left
const ENDS = 2; // with the bias, the sum is complete

/**
 * (x, table, w, K, out, outPlane, bias, pass, lanes, …operands): K steps of a tile of outputs. `bias`: the address of
 * one value per row, or 0.
 * `part`: of the last vector of each row only `lanes` (1 to 4) are stored; what is read for the others is no one's.
 */
function convTile(m: Mod, caps: WasmCaps, rows: number, nv: number, part: boolean, { source, store }: ConvSpec): Fn {
  const ops = store?.operands.length ?? 0;
  return m.fn(`conv_${rows}x${4 * nv}${part ? '_part' : ''}`, i32s(9 + ops), [], false, (f) => {
    const [x, table, w, K, out, outPlane, bias, pass, lanes] = Array.from({ length: 9 }, (_, i) => f.arg('i32', i)) as [
      L,
      L,
      L,
      L,
      L,
      L,
      L,
      L,
      L,
    ];
    const acc = locals(f, 'v128', rows * nv);
    const b = locals(f, 'v128', nv);
    const a = f.local('v128');
    const at = f.local('i32');
    const end = f.local('i32');
    f.set(end, i32.add(table, i32.shl(K, 2)));
    f.whileLoop(
      () => i32.ne(table, end),
      () => {
        f.set(at, i32.add(x, i32.load(table)));
        for (let j = 0; j < nv; j++) f.set(b[j]!, v128.load(at, 16 * j));
        for (let i = 0; i < rows; i++) {
          f.set(a, v128.load32splat(w, 4 * i));
          for (let j = 0; j < nv; j++) {
            const c = acc[i * nv + j]!;
            f.set(c, source === 'float32' ? mac(caps.fma, a, b[j]!, c) : i32x4.add(c, i32x4.mul(a, b[j]!)));
          }
        }
        f.inc(w, 4 * rows);
        f.inc(table, 4);
      },
    );
    const plus = (v: V, w: V): V => (source === 'float32' ? f32x4.add(v, w) : i32x4.add(v, w));
    f.iff(i32.and(pass, ADDS), () => {
      f.set(at, out);
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < nv; j++) f.set(acc[i * nv + j]!, plus(acc[i * nv + j]!, v128.load(at, 16 * j)));
        if (i < rows - 1) f.inc(at, outPlane);
      }
    });
    f.iff(i32.and(pass, ENDS), () =>
      f.iff(bias, () => {
        for (let i = 0; i < rows; i++) {
          f.set(a, v128.load32splat(bias, 4 * i));
          for (let j = 0; j < nv; j++) f.set(acc[i * nv + j]!, plus(acc[i * nv + j]!, a));
        }
      }),
    );
    const put = (v: Local<'v128'>, j: number): void => {
      if (!part || j < nv - 1) return f.emit(v128.store(at, v, 16 * j));
      f.iff(
        i32.eq(lanes, 4),
        () => storeLanes(f, at, v, 4, 16 * j),
        () =>
          f.iff(
            i32.eq(lanes, 3),
            () => storeLanes(f, at, v, 3, 16 * j),
            () =>
              f.iff(
                i32.eq(lanes, 2),
                () => storeLanes(f, at, v, 2, 16 * j),
                () => storeLanes(f, at, v, 1, 16 * j),
              ),
          ),
      );
    };
    const leave = (finish: ReturnType<typeof finisher>): void => {
      f.set(at, out);
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < nv; j++) {
          const v = acc[i * nv + j]!;
          if (store) f.set(v, finish(v, i, at, 16 * j, 4));
          put(v, j);
        }
        if (i < rows - 1) f.inc(at, outPlane);
      }
    };
    if (store)
      f.iff(
        i32.and(pass, ENDS),
        () =>
          leave(
            finisher(
              context(f, m, caps.fma),
              store,
              Array.from({ length: ops }, (_, i) => f.arg('i32', 9 + i)),
            ),
          ),
        () => leave((v) => v),
      );
    else leave((v) => v);
  });
}

/**
 * Runs of the tile over one group of one image: parameters behind (x, w, out, table, bias), in order; see `imageArgs`.
 */
export const IMAGE_ARGS = 10;
export const imageArgs = (g: Geometry): number[] => [
  g.channels * tapsOf(g),
  g.filters,
  g.output[0],
  g.output[1],
  g.output[2],
  g.strides[0] * g.slice,
  g.strides[1] * g.row,
  4 * g.output[0] * g.output[1] * g.output[2],
  blockOf(g).k,
  blockOf(g).rows,
];

/**
 * (x, w, out, table, bias, K, filters, OD, OH, OW, stepZ, stepY, outPlane, blockK, blockRows, …operands): one group of
 * one image; w packed by "conv.tiles". Of a single slice it may also be some of the filters, of the rows, or of the
 * columns of a single row, from multiples of the tile on.
 */
export function convImage(m: Mod, caps: WasmCaps, s: ConvSpec): Fn {
  const [mr, nr] = s.tile;
  const most = nr / 4;
  const tilesAlong = Math.max(1, Math.floor(BLOCK_OUTPUTS / nr));
  const whole = new Map<number, Fn>();
  const parts = new Map<number, Fn[]>();
  for (const r of [s.tall ? mr : 0, s.mTail])
    if (r) {
      whole.set(r, convTile(m, caps, r, most, false, s));
      parts.set(
        r,
        Array.from({ length: most }, (_, v) => convTile(m, caps, r, v + 1, true, s)),
      );
    }
  const ops = s.store?.operands ?? [];
  return m.fn('image', i32s(5 + IMAGE_ARGS + ops.length), [], false, (f) => {
    const given = ops.map((_, i) => f.arg('i32', 15 + i));
    const at = locals(f, 'i32', ops.length);
    const [x, w, out, table, bias, K, filters, OD, OH, OW, stepZ, stepY, outPlane, blockK, blockRows] = Array.from(
      { length: 15 },
      (_, i) => f.arg('i32', i),
    ) as Local<'i32'>[];
    const [
      xz,
      xb,
      xc,
      xy,
      xs,
      oz,
      ob,
      oc,
      oy,
      os,
      ws,
      bs,
      ow,
      tables,
      k0,
      kc,
      pass,
      row,
      rows,
      column,
      tilesHere,
      vectors,
      lanes,
    ] = locals(f, 'i32', 23) as [L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L];
    const eachTile = (body: (rows: number) => void): void => {
      f.set(ws, w!);
      f.set(bs, bias!);
      f.set(ow, i32.const(0));
      at.forEach((a, i) => f.set(a, given[i]!));
      const step = (mr: number): void => {
        f.inc(ws, i32.mul(k0, 4 * mr));
        body(mr);
        f.inc(ws, i32.mul(i32.sub(K!, k0), 4 * mr));
        f.iff(bs, () => f.inc(bs, 4 * mr));
        f.inc(ow, i32.mul(outPlane!, mr));
        ops.forEach((o, i) => {
          if (o === 'channel' || o === 'plane') f.inc(at[i]!, 4 * mr);
        });
      };
      if (s.tall) f.times(i32.divu(filters!, mr), () => step(mr));
      if (s.mTail) f.iff(i32.remu(filters!, mr), () => step(s.mTail));
    };
    const smaller = (l: L, limit: I32, of: I32): void => {
      f.set(l, of);
      f.iff(i32.gtu(l, limit), () => f.set(l, limit));
    };
    const call = (tile: Fn): void =>
      f.call(tile, xs, tables, ws, kc, i32.add(os, ow), outPlane!, bs, pass, lanes, ...at);
    /** All k's and filters of `rows` rows by `tilesHere` tiles, and by what is left of a row if it ends here. */
    const block = (): void => {
      f.set(tables, table!);
      f.set(k0, i32.const(0));
      f.set(pass, i32.const(0));
      f.doWhile(
        () => {
          smaller(kc, blockK!, i32.sub(K!, k0));
          f.iff(i32.eq(i32.add(k0, kc), K!), () => f.set(pass, i32.or(pass, ENDS)));
          eachTile((mr) => {
            f.set(xy, xc);
            f.set(oy, oc);
            f.times(rows, () => {
              f.set(xs, xy);
              f.set(os, oy);
              f.times(tilesHere, () => {
                call(whole.get(mr)!);
                f.inc(xs, 4 * nr);
                f.inc(os, 4 * nr);
              });
              f.iff(i32.eq(tilesHere, column), () =>
                parts.get(mr)!.forEach((part, v) => f.iff(i32.eq(vectors, v + 1), () => call(part))),
              );
              f.inc(xy, stepY!);
              f.inc(oy, i32.shl(OW!, 2));
            });
          });
          f.inc(tables, i32.shl(kc, 2));
          f.inc(k0, kc);
          f.set(pass, i32.const(ADDS));
        },
        () => i32.ltu(k0, K!),
      );
    };
    f.set(vectors, i32.shru(i32.add(i32.remu(OW!, nr), 3), 2));
    f.set(lanes, i32.add(i32.and(i32.sub(OW!, 1), 3), 1));
    f.set(xz, x!);
    f.set(oz, out!);
    f.times(OD!, () => {
      f.set(xb, xz);
      f.set(ob, oz);
      f.set(row, OH!);
      f.whileLoop(
        () => row,
        () => {
          smaller(rows, blockRows!, row);
          f.set(xc, xb);
          f.set(oc, ob);
          f.set(column, i32.divu(OW!, nr));
          f.doWhile(
            () => {
              // once also where there is only what is left of a row
              smaller(tilesHere, i32.const(tilesAlong), column);
              block();
              f.inc(xc, i32.mul(tilesHere, 4 * nr));
              f.inc(oc, i32.mul(tilesHere, 4 * nr));
              f.inc(column, i32.sub(0, tilesHere));
            },
            () => column,
          );
          f.inc(row, i32.sub(0, rows));
          f.inc(xb, i32.mul(stepY!, rows));
          f.inc(ob, i32.mul(i32.shl(OW!, 2), rows));
        },
      );
      f.inc(xz, stepZ!);
      f.inc(oz, i32.mul(i32.shl(OW!, 2), OH!));
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
