/**
 * What is done to each line of elements along an axis, in double precision: Hardmax, norms, softmax of doubles, and the
 * greatest k.
 */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, WasmKernel } from '../define.ts';
import { kindOf } from '../expr.ts';
import { axisOf } from '../shapes.ts';
import { type Expr, f64, type Fn, i32, type I32, type I64, i64, type Local } from './asm.ts';
import { loadScalar, widthOf } from './elem.ts';
import { context } from './float.ts';
import { at, expOf, logOf, loopEmitter, type Loops } from './loops.ts';
import { copyOne } from './move.ts';
import { elementAt, isStored, loadNumber } from './number.ts';

/** n elements, `inner` apart; `outer` · `inner` lines. */
interface Lines {
  readonly outer: number;
  readonly n: number;
  readonly inner: number;
}
type Work = 'hardmax' | 'softmax' | 'log_softmax' | 'l1' | 'l2';
interface LineSpec {
  readonly dtype: DType;
  readonly work: Work;
}
const NAMES = ['x', 'y', 'outer', 'n', 'inner'] as const;
/** run(…NAMES) */
const lineEmitter = loopEmitter(
  'lines',
  () => NAMES,
  (k: Loops<(typeof NAMES)[number]>, { dtype, work }: LineSpec) => {
    const { f, c, p } = k;
    const soft = work.endsWith('softmax') ? { exp: expOf(c), log: logOf(c) } : null;
    const [top, total, v] = [f.local('f64'), f.local('f64'), f.local('f64')];
    const best = f.local('i32');
    k.each(p.outer, (o) =>
      k.each(p.inner, (i) => {
        const start = k.int(at(i32.mul(o, p.n), p.inner, i));
        const along = (body: (e: Local<'i32'>) => void): void => {
          const e = k.int(start);
          k.each(p.n, () => {
            body(e);
            f.inc(e, p.inner);
          });
        };
        const read = (e: I32) => k.get(dtype, p.x, e);
        if (work === 'hardmax') {
          f.set(best, start);
          f.set(top, read(start));
          along((e) => {
            f.set(v, read(e));
            f.iff(f64.gt(v, top), () => {
              f.set(top, v);
              f.set(best, e);
            });
            k.put(dtype, p.y, e, f64.const(0));
          });
          k.put(dtype, p.y, best, f64.const(1));
          return;
        }
        f.set(total, f64.const(0));
        if (soft) {
          f.set(top, f64.const(-Infinity));
          along((e) => f.set(top, f64.max(top, read(e))));
          along((e) => f.set(total, f64.add(total, soft.exp(f64.sub(read(e), top)))));
          if (work === 'log_softmax') f.set(total, soft.log(total));
          along((e) =>
            k.put(
              dtype,
              p.y,
              e,
              work === 'softmax'
                ? f64.div(soft.exp(f64.sub(read(e), top)), total)
                : f64.sub(f64.sub(read(e), top), total),
            ),
          );
          return;
        }
        along((e) => {
          f.set(v, read(e));
          f.set(total, f64.add(total, work === 'l1' ? f64.abs(v) : f64.mul(v, v)));
        });
        if (work === 'l2') f.set(total, f64.sqrt(total));
        along((e) => k.put(dtype, p.y, e, f64.select(f64.eq(total, 0), 0, f64.div(read(e), total))));
      }),
    );
  },
);
/** One of these works; `linesOf` tells how the lines lie. */
export const lineKernel = (work: (call: Call) => Work, linesOf: (call: Call) => Lines): WasmKernel => ({
  name: 'lines.doubles',
  accepts: (call) => isStored(call.inputs[0]!.dtype),
  launch: (call) => {
    const { outer, n, inner } = linesOf(call);
    return n * outer * inner === 0
      ? []
      : {
          emit: lineEmitter,
          spec: { dtype: call.inputs[0]!.dtype, work: work(call) },
          args: [{ input: 0 }, { output: 0 }, outer, n, inner],
        };
  },
});
/** The lines along an axis. */
export const linesAlong = (shape: readonly number[], axis: number): Lines => {
  const a = axisOf(axis, shape.length);
  return { outer: sizeOf(shape.slice(0, a)), n: shape[a]!, inner: sizeOf(shape.slice(a + 1)) };
};

// ── TopK ────────────────────────────────────────────────────────────────────────────────────────────────────────────
interface TopSpec {
  readonly dtype: DType;
  readonly largest: boolean;
  readonly values: boolean;
  readonly indices: boolean;
}
const TOP = ['x', 'values', 'indices', 'heap', 'outer', 'n', 'inner', 'k'] as const;
/** run(…TOP): a heap of the k best so far, the worst of them on top; taken down it leaves them in order. */
const topEmitter = loopEmitter(
  'top k',
  () => TOP,
  (l: Loops<(typeof TOP)[number]>, s: TopSpec) => {
    const { f, m, p } = l;
    const wide = s.dtype === 'int64' || s.dtype === 'uint64';
    const unsigned = s.dtype === 'uint64';
    /** (line, a, b, bytes between neighbours): does element a come before element b? */
    const before = m.fn('before', ['i32', 'i32', 'i32', 'i32'], ['i32'], false, (g) => {
      const [line, a, b, step] = [0, 1, 2, 3].map((i) => g.arg('i32', i)) as [
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
      ];
      const c = context(g, m, false);
      const read = (e: I32): Expr => {
        const q = i32.add(line, i32.mul(e, step));
        return wide ? loadScalar(c, s.dtype, q) : loadNumber(c, s.dtype, q);
      };
      const [u, v] = [g.let(read(a)), g.let(read(b))] as [Local<'f64'>, Local<'f64'>];
      const [x, y] = s.largest ? [u, v] : [v, u];
      if (wide) {
        const [q, r] = [x, y] as unknown as [I64, I64];
        g.iff((unsigned ? i64.gtu : i64.gts)(q, r), () => g.returnNow(i32.const(1)));
        g.iff((unsigned ? i64.ltu : i64.lts)(q, r), () => g.returnNow(i32.const(0)));
      } else {
        g.iff(f64.gt(x, y), () => g.returnNow(i32.const(1)));
        g.iff(f64.lt(x, y), () => g.returnNow(i32.const(0)));
        const [p, q] = [g.let(f64.ne(x, x)), g.let(f64.ne(y, y))]; // NaN is above all
        g.iff(i32.ne(p, q), () => g.returnNow(p));
      }
      g.ret(i32.ltu(a, b));
    });
    const slot = (heap: I32, e: I32): I32 => i32.add(heap, i32.shl(e, 2));
    /** (line, step, heap, size, e): lets entry e sink. */
    const sink: Fn = m.fn('sink', ['i32', 'i32', 'i32', 'i32', 'i32'], [], false, (g) => {
      const [line, step, heap, size, e] = [0, 1, 2, 3, 4].map((i) => g.arg('i32', i)) as [
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
      ];
      const held = g.let(i32.load(slot(heap, e)));
      const child = g.local('i32');
      g.block((done) =>
        g.whileLoop(
          () => i32.ltu(g.tee(child, i32.add(i32.shl(e, 1), 1)), size),
          () => {
            g.iff(i32.ltu(i32.add(child, 1), size), () =>
              g.iff(
                g.value('i32', before, line, i32.load(slot(heap, child)), i32.load(slot(heap, child), 4), step),
                () => g.inc(child, 1),
              ),
            );
            g.brIf(g.value('i32', before, line, i32.load(slot(heap, child)), held, step), done);
            g.emit(i32.store(slot(heap, e), i32.load(slot(heap, child))));
            g.set(e, child);
          },
        ),
      );
      g.emit(i32.store(slot(heap, e), held));
    });
    const width = widthOf(s.dtype);
    const step = l.int(i32.mul(p.inner, width));
    l.each(p.outer, (o) =>
      l.each(p.inner, (i) => {
        const line = l.int(elementAt(s.dtype, p.x, at(i32.mul(o, p.n), p.inner, i)));
        l.each(p.k, (e) => f.emit(i32.store(slot(p.heap, e), e)));
        const left = l.int(i32.shru(p.k, 1));
        f.whileLoop(
          () => left,
          () => {
            f.inc(left, -1);
            f.call(sink, line, step, p.heap, p.k, left);
          },
        );
        l.each(
          p.n,
          (e) =>
            f.iff(f.value('i32', before, line, e, i32.load(p.heap), step), () => {
              f.emit(i32.store(p.heap, e));
              f.call(sink, line, step, p.heap, p.k, i32.const(0));
            }),
          p.k,
        );
        f.set(left, p.k);
        f.whileLoop(
          () => i32.gtu(left, 1),
          () => {
            f.inc(left, -1);
            const worst = l.int(i32.load(p.heap));
            f.emit(i32.store(p.heap, i32.load(slot(p.heap, left))), i32.store(slot(p.heap, left), worst));
            f.call(sink, line, step, p.heap, left, i32.const(0));
          },
        );
        const to = l.int(at(i32.mul(o, p.k), p.inner, i));
        l.each(p.k, (e) => {
          const from = l.int(i32.load(slot(p.heap, e)));
          if (s.values) f.emit(copyOne(width, elementAt(s.dtype, p.values, to), i32.add(line, i32.mul(from, step))));
          if (s.indices) f.emit(i64.store(elementAt('int64', p.indices, to), i64.extendU(from)));
          f.inc(to, p.inner);
        });
      }),
    );
  },
);
export const topWasm: WasmKernel<{ readonly axis: number; readonly largest: number }> = {
  name: 'top_k.heap',
  accepts: (call) => kindOf(call.inputs[0]!.dtype) !== undefined,
  scratch: (call) => [
    4 * (call.outputs[0] ?? call.outputs[1])!.shape[axisOf(call.attrs.axis, call.inputs[0]!.shape.length)]! + 8,
  ],
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const { outer, n, inner } = linesAlong(shape, call.attrs.axis);
    const out = (call.outputs[0] ?? call.outputs[1])!;
    if (sizeOf(out.shape) === 0) return [];
    return {
      emit: topEmitter,
      spec: { dtype, largest: call.attrs.largest !== 0, values: !!call.outputs[0], indices: !!call.outputs[1] },
      args: [
        { input: 0 },
        call.outputs[0] ? { output: 0 } : 0,
        call.outputs[1] ? { output: 1 } : 0,
        { scratch: 0 },
        outer,
        n,
        inner,
        out.shape[axisOf(call.attrs.axis, shape.length)]!,
      ],
    };
  },
};
