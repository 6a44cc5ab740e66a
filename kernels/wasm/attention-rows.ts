/**
 * Attention in every form of its attributes and any float types, a row of scores at a time in doubles: behind the
 * kernels that are fast.
 */
import type { DType } from '../../src/core/dtype.ts';
import type { AttentionShape } from '../attention-shape.ts';
import type { Call, Ref, WasmKernel } from '../define.ts';
import { broadcastStrides } from '../shapes.ts';
import { f64, i32, type I32, i64, type Local } from './asm.ts';
import { at, expOf, loopEmitter, type Loops, sum, tanhOf } from './loops.ts';
import { elementAt, isStored } from './number.ts';
import { doubleBits, realOf } from './recurrent.ts';

interface Spec {
  readonly q: DType;
  readonly k: DType;
  readonly v: DType;
  readonly y: DType;
  readonly mask: DType | null;
  readonly past: boolean;
  readonly lengths: boolean;
  readonly presentKey: boolean;
  readonly presentValue: boolean;
  /** Stage of the scores that output 3 shows: 0 scaled, 1 capped, 2 masked, 3 probabilities. */
  readonly seen: 0 | 1 | 2 | 3 | null;
  readonly softcap: boolean;
  readonly causal: boolean;
  readonly left: boolean;
  readonly right: boolean;
  /** Values of probability 0 are not looked at. */
  readonly skips: boolean;
}
const NAMES = [
  'q',
  'k',
  'v',
  'mask',
  'pastKey',
  'pastValue',
  'lengths',
  'y',
  'presentKey',
  'presentValue',
  'seen',
  'scores',
  'sums',
  'batch',
  'heads',
  'kvHeads',
  'queries',
  'keys',
  'past',
  'size',
  'width',
  'qBatch',
  'qHead',
  'qStep',
  'kBatch',
  'kHead',
  'kStep',
  'vBatch',
  'vHead',
  'vStep',
  'yBatch',
  'yHead',
  'yStep',
  'mBatch',
  'mHead',
  'mRow',
  'mColumn',
  'columns',
  'left',
  'right',
  'scaleLow',
  'scaleHigh',
  'capLow',
  'capHigh',
] as const;
const D = 'float64';
/** run(…NAMES): strides in elements; `scores` and `sums` are scratch for a row of keys and a value. */
const emitter = loopEmitter(
  'attention rows',
  () => NAMES,
  (k: Loops<(typeof NAMES)[number]>, s: Spec) => {
    const { f, c, p } = k;
    const exp = expOf(c);
    const tanh = s.softcap ? tanhOf(c) : null;
    const scale = k.real(realOf(p.scaleLow, p.scaleHigh));
    const cap = k.real(realOf(p.capLow, p.capHigh));
    const [total, top] = [f.local('f64'), f.local('f64')];
    /** Address of the first element of key or value j. */
    const row = (which: 'k' | 'v', b: I32, h: I32, j: I32): Local<'i32'> => {
      const key = which === 'k';
      const dtype = key ? s.k : s.v;
      const width = key ? p.size : p.width;
      const now = (step: I32): I32 =>
        elementAt(
          dtype,
          key ? p.k : p.v,
          sum(
            i32.mul(b, key ? p.kBatch : p.vBatch),
            i32.mul(h, key ? p.kHead : p.vHead),
            i32.mul(step, key ? p.kStep : p.vStep),
          ),
        );
      if (!s.past) return k.int(now(j));
      const cached = elementAt(
        dtype,
        key ? p.pastKey : p.pastValue,
        i32.mul(at(at(b, p.kvHeads, h), p.past, j), width),
      );
      return k.int(i32.select(i32.ltu(j, p.past), cached, now(i32.sub(j, p.past))));
    };
    for (const which of ['k', 'v'] as const) {
      if (!(which === 'k' ? s.presentKey : s.presentValue)) continue;
      const e = k.int(0);
      const dtype = which === 'k' ? s.k : s.v;
      k.each(p.batch, (b) =>
        k.each(p.kvHeads, (h) =>
          k.each(p.keys, (j) => {
            const from = row(which, b, h, j);
            k.each(which === 'k' ? p.size : p.width, (d) => {
              k.put(dtype, which === 'k' ? p.presentKey : p.presentValue, e, k.get(dtype, from, d));
              f.inc(e, 1);
            });
          }),
        ),
      );
    }
    const per = k.int(i32.divu(p.heads, p.kvHeads));
    const show = k.int(0);
    const observe = (stage: number): void => {
      if (s.seen === stage) k.each(p.keys, (j) => k.put(s.q, p.seen, i32.add(show, j), k.get(D, p.scores, j)));
    };
    const update = (body: (j: Local<'i32'>, v: Local<'f64'>) => ReturnType<typeof f64.add>): void =>
      k.each(p.keys, (j) => {
        const v = k.take(D, p.scores, j);
        k.put(D, p.scores, j, body(j, v));
      });
    k.each(p.batch, (b) => {
      const end = k.int(p.keys);
      const offset = k.int(s.past ? p.past : 0);
      if (s.lengths) {
        const n = f.let(i64.load(elementAt('int64', p.lengths, b)));
        const far = 1n << 29n;
        f.set(end, i32.wrap(i64.select(i64.gts(n, far), far, i64.select(i64.lts(n, -far), -far, n))));
        if (!s.past) f.set(offset, i32.sub(end, p.queries));
      }
      k.each(p.heads, (h) => {
        const kv = k.int(i32.divu(h, per));
        k.each(p.queries, (i) => {
          const q = k.int(sum(i32.mul(b, p.qBatch), i32.mul(h, p.qHead), i32.mul(i, p.qStep)));
          k.each(p.keys, (j) => {
            const key = row('k', b, kv, j);
            f.set(total, f64.const(0));
            k.each(p.size, (d) =>
              f.set(total, f64.add(total, f64.mul(k.get(s.q, p.q, i32.add(q, d)), k.get(s.k, key, d)))),
            );
            k.put(D, p.scores, j, f64.mul(total, scale));
          });
          observe(0);
          if (tanh) update((_, v) => f64.mul(cap, tanh(f64.div(v, cap))));
          observe(1);
          if (s.mask) {
            const m = k.int(sum(i32.mul(b, p.mBatch), i32.mul(h, p.mHead), i32.mul(i, p.mRow)));
            update((j, v) => {
              const beyond = k.int(i32.geu(j, p.columns));
              const x = k.take(s.mask!, p.mask, i32.add(m, i32.mul(i32.select(beyond, 0, j), p.mColumn)));
              const off = s.mask === 'bool' ? f64.eq(x, 0) : f64.eq(x, -Infinity);
              return f64.select(i32.or(beyond, off), -Infinity, s.mask === 'bool' ? v : f64.add(v, x));
            });
          }
          const position = k.int(i32.add(offset, i));
          const from = k.int(s.left ? i32.sub(position, p.left) : 0);
          const until = k.int(end);
          const atMost = (v: I32): void => {
            const w = k.int(v);
            f.set(until, i32.select(i32.lts(w, until), w, until));
          };
          if (s.causal) atMost(i32.add(position, 1));
          if (s.right) atMost(sum(position, p.right, 1));
          if (s.lengths || s.causal || s.left || s.right)
            update((j, v) => f64.select(i32.or(i32.lts(j, from), i32.ges(j, until)), -Infinity, v));
          observe(2);
          f.set(top, f64.const(-Infinity));
          k.each(p.keys, (j) => f.set(top, f64.max(top, k.get(D, p.scores, j))));
          f.iff(
            f64.eq(top, -Infinity),
            () => update(() => f64.const(0)),
            () => {
              f.set(total, f64.const(0));
              update((_, v) => {
                const e = k.real(exp(f64.sub(v, top)));
                f.set(total, f64.add(total, e));
                return e;
              });
              update((_, v) => f64.div(v, total));
            },
          );
          observe(3);
          k.each(p.width, (d) => k.put(D, p.sums, d, f64.const(0)));
          k.each(p.keys, (j) => {
            const x = k.take(D, p.scores, j);
            const add = (): void => {
              const value = row('v', b, kv, j);
              k.each(p.width, (d) =>
                k.put(D, p.sums, d, f64.add(k.get(D, p.sums, d), f64.mul(x, k.get(s.v, value, d)))),
              );
            };
            if (s.skips) f.iff(f64.ne(x, 0), add);
            else add();
          });
          const y = k.int(sum(i32.mul(b, p.yBatch), i32.mul(h, p.yHead), i32.mul(i, p.yStep)));
          k.each(p.width, (d) => k.put(s.y, p.y, i32.add(y, d), k.get(D, p.sums, d)));
          f.inc(show, p.keys);
        });
      });
    });
  },
);

/** `skips`: as Attention does; FlexAttention without bodies multiplies by every probability. */
export const attentionRows = (shapeOf: (call: Call) => AttentionShape, skips: boolean): WasmKernel<any> => ({
  name: 'attention.rows',
  accepts: (call) => call.outputs[0] != null && call.inputs.every((t) => t == null || isStored(t.dtype)),
  scratch: (call) => {
    const s = shapeOf(call);
    return [8 * s.keys + 16, 8 * s.valueSize + 16];
  },
  launch: (call) => {
    const s = shapeOf(call);
    const a = call.attrs;
    const { batch, heads, kvHeads, queries, keys, size, valueSize, packed, past, incoming } = s;
    const lies = (steps: number, n: number, width: number): number[] =>
      packed ? [steps * n * width, width, n * width] : [n * steps * width, steps * width, width];
    const mask = skips ? (call.inputs[3] ?? null) : null;
    const last = mask?.shape.at(-1) ?? 0;
    const columns = last === 1 && keys !== 1 ? keys : last;
    const strides = mask
      ? broadcastStrides(mask.shape, [batch, heads, queries, Math.max(columns, last)])
      : [0, 0, 0, 0];
    const input = (i: number): Ref | number => (call.inputs[i] ? { input: i } : 0);
    const output = (i: number): Ref | number => (call.outputs[i] ? { output: i } : 0);
    const softcap: number = a.softcap ?? 0;
    const left: number = a.left_window_size ?? -1;
    const right: number = a.right_window_size ?? -1;
    return {
      emit: emitter,
      spec: {
        q: call.inputs[0]!.dtype,
        k: call.inputs[1]!.dtype,
        v: call.inputs[2]!.dtype,
        y: call.outputs[0]!.dtype,
        mask: mask?.dtype ?? null,
        past: past > 0,
        lengths: !!call.inputs[6],
        presentKey: !!call.outputs[1],
        presentValue: !!call.outputs[2],
        seen: call.outputs[3] ? a.qk_matmul_output_mode : null,
        softcap: softcap !== 0,
        causal: !!a.is_causal,
        left: left >= 0,
        right: right >= 0,
        skips,
      },
      args: [
        { input: 0 },
        { input: 1 },
        { input: 2 },
        mask ? { input: 3 } : 0,
        past > 0 ? input(4) : 0,
        past > 0 ? input(5) : 0,
        input(6),
        { output: 0 },
        output(1),
        output(2),
        output(3),
        { scratch: 0 },
        { scratch: 1 },
        batch,
        heads,
        kvHeads,
        queries,
        keys,
        past,
        size,
        valueSize,
        ...lies(queries, heads, size),
        ...lies(incoming, kvHeads, size),
        ...lies(incoming, kvHeads, valueSize),
        ...lies(queries, heads, valueSize),
        ...strides,
        columns,
        left,
        right,
        ...doubleBits(a.scale ?? 1 / Math.sqrt(size)),
        ...doubleBits(softcap),
      ],
    };
  },
});
