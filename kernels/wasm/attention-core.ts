/**
 * Scaled dot-product attention over heads that lie anywhere: for some queries of a head at a time their scores, a
 * softmax over the keys each may see, and the sum of values. Keys are packed once per head of keys; one query takes
 * plain dot products instead.
 */
import type { WasmCaps } from '../../src/core/plan.ts';
import type { Ref, WasmEmitter, WasmLaunch } from '../define.ts';
import { type Fn, f32, f32x4, type F32, i32, type Local, memory, type Mod, type V, v128 } from './asm.ts';
import { context, expNegative, tanh } from './float.ts';
import {
  anyWidth,
  gemm2d,
  type GemmSpec,
  gemmSpec,
  i32s,
  locals,
  mac,
  packPanels,
  panelFloats,
  params,
} from './gemm-core.ts';
import { MACS } from './gemm.ts';
import { kernelModule } from './module.ts';

interface Spec {
  readonly size: number;
  readonly valueSize: number;
  readonly scores: GemmSpec | null;
  readonly values: GemmSpec;
  readonly packsValues: boolean;
  readonly scale: number;
  readonly softcap: number;
  readonly mask: '' | 'float32' | 'bool';
  readonly causal: boolean;
  /** Keys behind a query that it sees, itself not counted; -1: all. And keys before it. */
  readonly left: number;
  readonly right: number;
  /** Where entries' own lengths come from, and whether position 0 is `length − queries`. */
  readonly lengths: '' | 'int32' | 'int64';
  readonly lengthPlus: number;
  readonly fromLengths: boolean;
}
/** Queries worked on together: a multiple of the rows of every tile. */
const BLOCK = 48;

/** (q, k, kRow, to, keys): the scores of one query. */
function dots(m: Mod, caps: WasmCaps, s: Spec): Fn {
  return m.fn('dots', i32s(5), [], false, (f) => {
    const { q, k, kRow, to, keys } = params(f, 'q', 'k', 'kRow', 'to', 'keys');
    const acc = locals(f, 'v128', 2);
    const a = f.local('i32');
    const b = f.local('i32');
    const one = f.local('f32');
    f.times(keys, () => {
      f.set(a, q);
      f.set(b, k);
      for (const x of acc) f.set(x, v128.zero());
      f.set(one, f32.const(0));
      f.times(s.size >> 3, () => {
        acc.forEach((x, j) => f.set(x, mac(caps.fma, v128.load(a, 16 * j), v128.load(b, 16 * j), x)));
        f.inc(a, 32);
        f.inc(b, 32);
      });
      f.times(s.size & 7, () => {
        f.set(one, f32.add(one, f32.mul(f32.load(a), f32.load(b))));
        f.inc(a, 4);
        f.inc(b, 4);
      });
      f.set(acc[0]!, f32x4.add(acc[0]!, acc[1]!));
      const lane = (l: number): F32 => f32x4.lane(acc[0]!, l);
      f.emit(f32.store(to, f32.add(one, f32.add(f32.add(lane(0), lane(1)), f32.add(lane(2), lane(3))))));
      f.inc(k, kRow);
      f.inc(to, 4);
    });
  });
}
/** (row, mask, from, until, keys): scores to probabilities; keys outside [from, until) get 0. */
function softmax(m: Mod, caps: WasmCaps, s: Spec): Fn {
  return m.fn('softmax', i32s(5), [], false, (f) => {
    const { row, mask, from, until, keys } = params(f, 'row', 'mask', 'from', 'until', 'keys');
    const c = context(f, m, caps.fma);
    const n = f.local('i32');
    const at = f.local('i32');
    const by = f.local('i32');
    const top = f.local('v128');
    const sum = f.local('v128');
    const one = f.local('v128');
    const v = f.local('v128');
    const width = s.mask === 'bool' ? 1 : 4;
    f.emit(
      memory.fill(row, 0, i32.shl(from, 2)),
      memory.fill(i32.add(row, i32.shl(until, 2)), 0, i32.shl(i32.sub(keys, until), 2)),
    );
    f.set(n, i32.sub(until, from));
    const start = (): void => f.set(at, i32.add(row, i32.shl(from, 2)));
    const each = (vector: () => void, single: () => void): void => {
      f.times(i32.shru(n, 2), vector);
      f.times(i32.and(n, 3), single);
    };
    const scored = (x: V, load: () => V): V => {
      let y: V = f32x4.mul(x, s.scale);
      if (s.softcap) y = f32x4.mul(tanh(c, f.let(f32x4.mul(y, 1 / s.softcap))), s.softcap);
      return s.mask ? f32x4.add(y, load()) : y;
    };
    const ofBool = (bits: V): V => v128.andnot(f32x4.const(-Infinity), f32x4.ne(f32x4.convU(bits), 0));
    start();
    f.set(by, i32.add(mask, i32.mul(from, width)));
    f.set(top, f32x4.const(-Infinity));
    each(
      () => {
        f.set(
          v,
          scored(v128.load(at), () => (s.mask === 'bool' ? ofBool(bytes4(by)) : v128.load(by))),
        );
        f.emit(v128.store(at, v));
        f.set(top, f32x4.pmax(top, v));
        f.inc(at, 16);
        f.inc(by, 4 * width);
      },
      () => {
        f.set(
          v,
          scored(v128.load32splat(at), () => (s.mask === 'bool' ? ofBool(bytes1(by)) : v128.load32splat(by))),
        );
        f.emit(v128.store32lane(at, v, 0));
        f.set(top, f32x4.pmax(top, v));
        f.inc(at, 4);
        f.inc(by, width);
      },
    );
    const turned = (x: V, l: number[]): V => v128.shuf32(x, x, l);
    for (const l of [
      [2, 3, 0, 1],
      [1, 0, 3, 2],
    ])
      f.set(top, f32x4.pmax(top, turned(top, l)));
    f.set(top, v128.bitselect(v128.zero(), top, f32x4.eq(top, -Infinity)));
    start();
    each(
      () => {
        f.set(v, expNegative(c, f32x4.sub(v128.load(at), top)));
        f.emit(v128.store(at, v));
        f.set(sum, f32x4.add(sum, v));
        f.inc(at, 16);
      },
      () => {
        f.set(v, expNegative(c, f32x4.sub(v128.load32splat(at), top)));
        f.emit(v128.store32lane(at, v, 0));
        f.set(one, f32x4.add(one, v));
        f.inc(at, 4);
      },
    );
    f.set(sum, f32x4.add(sum, turned(sum, [2, 3, 0, 1])));
    f.set(sum, f32x4.add(f32x4.add(sum, turned(sum, [1, 0, 3, 2])), one));
    f.set(sum, v128.bitselect(v128.zero(), f32x4.div(1, sum), f32x4.eq(sum, 0)));
    start();
    each(
      () => {
        f.emit(v128.store(at, f32x4.mul(v128.load(at), sum)));
        f.inc(at, 16);
      },
      () => {
        f.emit(v128.store32lane(at, f.let(f32x4.mul(v128.load32splat(at), sum)), 0));
        f.inc(at, 4);
      },
    );
  });
}
const bytes4 = (p: Local<'i32'>): V => extend(v128.load32zero(p));
const bytes1 = (p: Local<'i32'>): V => extend(v128.load8splat(p));
/** The first four bytes, one a lane. */
const extend = (x: V): V => v128.shuffle(x, v128.zero(), [0, 16, 16, 16, 1, 16, 16, 16, 2, 16, 16, 16, 3, 16, 16, 16]);

const NAMES = [
  'q',
  'k',
  'v',
  'y',
  'mask',
  'lengths',
  'scores',
  'packedK',
  'packedV',
  'batch',
  'heads',
  'per',
  'past',
  'qBatch',
  'qHead',
  'qRow',
  'kBatch',
  'kHead',
  'kRow',
  'vBatch',
  'vHead',
  'vRow',
  'yBatch',
  'yHead',
  'yRow',
  'mBatch',
  'mHead',
  'mRow',
  'qAt',
  'kAt',
  'vAt',
  'yAt',
  'queries',
  'keys',
  'scoresRow',
  'first',
] as const;
/**
 * run(…NAMES): strides, and where in their tensors the heads begin, in bytes; `scoresRow`: bytes of a row of scores;
 * `first`: number of the first head; `per`: query heads to a head of keys; `past`: position of the first query.
 */
export const attentionModule: WasmEmitter<Spec> = {
  name: 'attention',
  build: (s, caps) =>
    kernelModule('attention', i32s(NAMES.length), caps, (f, m) => {
      const a = params(f, ...NAMES);
      const score = s.scores ? gemm2d(m, caps, s.scores) : null;
      const packK = s.scores ? packPanels(m, s.scores, true) : null;
      const dot = score ? null : dots(m, caps, s);
      const sumUp = gemm2d(m, caps, s.values);
      const packV = s.packsValues ? packPanels(m, s.values, false) : null;
      const soften = softmax(m, caps, s);
      const [b, h, kv, k, v, q, y, i, rows, row, position, until, from, length, mask] = locals(
        f,
        'i32',
        15,
      ) as Local<'i32'>[] & Record<number, Local<'i32'>>;
      const here = f.local('i32');
      const each = (l: Local<'i32'>, n: Local<'i32'>, body: () => void): void => {
        f.set(l, i32.const(0));
        f.whileLoop(
          () => i32.ltu(l, n),
          () => {
            body();
            f.inc(l, 1);
          },
        );
      };
      for (const [p, at] of [
        [a.q, a.qAt],
        [a.k, a.kAt],
        [a.v, a.vAt],
        [a.y, a.yAt],
      ] as const)
        f.inc(p, at);
      each(b!, a.batch, () => {
        f.set(length!, a.keys);
        if (s.lengths) {
          f.set(
            length!,
            i32.add(i32.load(i32.add(a.lengths, i32.shl(b!, s.lengths === 'int64' ? 3 : 2))), s.lengthPlus),
          );
          f.iff(i32.gtu(length!, a.keys), () => f.set(length!, a.keys));
        }
        const start = s.fromLengths ? i32.sub(length!, a.queries) : a.past;
        each(here, a.heads, () => {
          f.set(h!, i32.add(here, a.first));
          f.set(kv!, i32.divu(h!, a.per));
          f.set(k!, i32.add(a.k, i32.add(i32.mul(b!, a.kBatch), i32.mul(kv!, a.kHead))));
          f.set(v!, i32.add(a.v, i32.add(i32.mul(b!, a.vBatch), i32.mul(kv!, a.vHead))));
          if (packK || packV)
            f.iff(i32.eqz(i32.remu(h!, a.per)), () => {
              if (packK) f.call(packK, k!, i32.const(4), a.kRow, a.packedK, a.keys, i32.const(s.size));
              if (packV) f.call(packV, v!, a.vRow, i32.const(4), a.packedV, i32.const(s.valueSize), a.keys);
            });
          f.set(q!, i32.add(a.q, i32.add(i32.mul(b!, a.qBatch), i32.mul(h!, a.qHead))));
          f.set(y!, i32.add(a.y, i32.add(i32.mul(b!, a.yBatch), i32.mul(h!, a.yHead))));
          f.set(mask!, i32.add(a.mask, i32.add(i32.mul(b!, a.mBatch), i32.mul(h!, a.mHead))));
          f.set(position!, start);
          f.set(i!, i32.const(0));
          f.whileLoop(
            () => i32.ltu(i!, a.queries),
            () => {
              f.set(rows!, i32.sub(a.queries, i!));
              f.iff(i32.gtu(rows!, BLOCK), () => f.set(rows!, i32.const(BLOCK)));
              if (score)
                f.call(
                  score,
                  q!,
                  a.qRow,
                  i32.const(4),
                  a.packedK,
                  i32.const(0),
                  a.scores,
                  a.scoresRow,
                  rows!,
                  a.keys,
                  i32.const(s.size),
                );
              f.set(row!, a.scores);
              const at = f.let(q!);
              f.times(rows!, () => {
                if (dot) {
                  f.call(dot, at, k!, a.kRow, row!, a.keys);
                  f.inc(at, a.qRow);
                }
                f.set(until!, length!);
                const least = (x: ReturnType<typeof i32.add>): void => {
                  const t = f.let(x);
                  f.iff(i32.lts(t, until!), () => f.set(until!, t));
                };
                if (s.causal) least(i32.add(position!, 1));
                if (s.right >= 0) least(i32.add(position!, s.right + 1));
                f.iff(i32.lts(until!, 0), () => f.set(until!, i32.const(0)));
                f.set(from!, s.left < 0 ? i32.const(0) : i32.sub(position!, s.left));
                f.iff(i32.lts(from!, 0), () => f.set(from!, i32.const(0)));
                f.iff(i32.gts(from!, until!), () => f.set(from!, until!));
                f.call(soften, row!, mask!, from!, until!, a.keys);
                f.inc(row!, a.scoresRow);
                f.inc(position!, 1);
                f.inc(mask!, a.mRow);
              });
              f.call(
                sumUp,
                a.scores,
                a.scoresRow,
                i32.const(4),
                packV ? a.packedV : v!,
                a.vRow,
                y!,
                a.yRow,
                rows!,
                i32.const(s.valueSize),
                a.keys,
              );
              f.inc(q!, i32.mul(rows!, a.qRow));
              f.inc(y!, i32.mul(rows!, a.yRow));
              f.inc(i!, rows!);
            },
          );
        });
      });
    }),
};

/** Where a stack of heads lies: its first element, and strides of batch, head and row, in elements. */
export interface Lies {
  readonly ref: Ref;
  readonly at?: number;
  readonly batch: number;
  readonly head: number;
  readonly row: number;
}
export interface AttentionCall {
  readonly batch: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly queries: number;
  readonly keys: number;
  readonly size: number;
  readonly valueSize: number;
  readonly q: Lies;
  readonly k: Lies;
  readonly v: Lies;
  readonly y: Lies;
  /** Added to the scores, or false where a key is masked. */
  readonly mask: (Lies & { readonly dtype: 'float32' | 'bool' }) | null;
  readonly scale: number;
  readonly softcap: number;
  readonly causal: boolean;
  readonly left: number;
  readonly right: number;
  /** Position of the first query; `lengths`: how many keys each entry of the batch has, less `plus`. */
  readonly past: number;
  readonly lengths: {
    readonly ref: Ref;
    readonly dtype: 'int32' | 'int64';
    readonly plus: number;
    /** The last query is at the last key. */
    readonly ends: boolean;
  } | null;
}
type Sizes = Pick<AttentionCall, 'queries' | 'keys' | 'size' | 'valueSize'>;
const specs = (c: Sizes, caps: WasmCaps): { scores: GemmSpec | null; values: GemmSpec; packsValues: boolean } => {
  const few = c.queries <= 4;
  return {
    scores: few ? null : anyWidth(caps),
    values: gemmSpec(caps, c.queries, c.valueSize, few),
    packsValues: !few,
  };
};
/** Elements of a row of scores: whole panels of keys. */
const scoresRow = (c: Sizes, scores: GemmSpec | null): number =>
  scores ? Math.ceil(c.keys / scores.tile[1]) * scores.tile[1] : c.keys;
/** Bytes of three scratch areas: scores, packed keys, packed values. */
export const attentionScratch = (c: Sizes, caps: WasmCaps): number[] => scratchOf(c, caps).map((n) => caps.threads * n);
function scratchOf(c: Sizes, caps: WasmCaps): number[] {
  const { scores, values } = specs(c, caps);
  return [
    Math.min(c.queries, BLOCK) * scoresRow(c, scores),
    scores ? c.size * scoresRow(c, scores) : 0,
    scores ? panelFloats(values.tile[1], c.keys, c.valueSize) : 0,
  ].map((n) => 16 * Math.ceil(n / 4 + 1));
}
/** The launch; `scratch`: number of the first of its three areas. */
export function attentionLaunch(c: AttentionCall, caps: WasmCaps, scratch: number): WasmLaunch<Spec> {
  const { size, valueSize, queries, keys, scale, softcap, causal, left, right, lengths } = c;
  const spec = specs(c, caps);
  const lies = (l: Lies, bytes = 4): number[] => [l.batch * bytes, l.head * bytes, l.row * bytes];
  const maskWidth = c.mask?.dtype === 'bool' ? 1 : 4;
  const cost = queries * keys * (1 + (size + valueSize) / MACS);
  const own = scratchOf(c, caps).map((n, i) => [6 + i, n] as const);
  return {
    emit: attentionModule,
    spec: {
      size,
      valueSize,
      ...spec,
      scale,
      softcap,
      mask: c.mask?.dtype ?? '',
      causal,
      left,
      right,
      lengths: lengths?.dtype ?? '',
      lengthPlus: lengths?.plus ?? 0,
      fromLengths: lengths?.ends ?? false,
    },
    args: [
      c.q.ref,
      c.k.ref,
      c.v.ref,
      c.y.ref,
      c.mask?.ref ?? 0,
      lengths?.ref ?? 0,
      { scratch },
      { scratch: scratch + 1 },
      { scratch: scratch + 2 },
      c.batch,
      c.heads,
      c.heads / c.kvHeads,
      c.past,
      ...lies(c.q),
      ...lies(c.k),
      ...lies(c.v),
      ...lies(c.y),
      ...(c.mask ? lies(c.mask, maskWidth) : [0, 0, 0]),
      ...[c.q, c.k, c.v, c.y].map((l) => 4 * (l.at ?? 0)),
      queries,
      keys,
      4 * scoresRow(c, spec.scores),
      0,
    ],
    split:
      c.kvHeads >= c.batch
        ? { items: 10, grain: c.heads / c.kvHeads, moves: [[35, 1]], own, cost }
        : {
            items: 9,
            grain: 1,
            own,
            cost: c.heads * cost,
            moves: [
              ...[c.q, c.k, c.v, c.y].map((l, i) => [28 + i, 4 * l.batch] as const),
              ...(c.mask ? [[4, lies(c.mask, maskWidth)[0]!] as const] : []),
              ...(lengths ? [[5, lengths.dtype === 'int64' ? 8 : 4] as const] : []),
            ],
          },
  };
}
