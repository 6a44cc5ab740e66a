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
import { type Fn, f32x4, i32, i32x4, type I32, type Local, type Mod, type V, v128 } from './asm.ts';
import { finisher, type StoreSpec } from './conv-finish.ts';
import { context } from './float.ts';
import { i32s, locals, mac, storeLanes, type Tile } from './gemm-core.ts';
import { type Geometry, type Source, tapsOf } from './conv-geometry.ts';

type L = Local<'i32'>;

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
