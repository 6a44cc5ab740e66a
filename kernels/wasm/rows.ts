/**
 * Kernels of rows: softmax, and what it shares with the normalisations. Rows of float16 and bfloat16 are computed in
 * float32.
 */
import type { DType } from '../../src/core/dtype.ts';
import type { Fact } from '../../src/core/graph.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, WasmEmitter, WasmKernel } from '../define.ts';
import { f32x4, type Fn, i32, type I32, type Local, type V, v128 } from './asm.ts';
import { load4, loadSplat, store1, store4, widthOf } from './elem.ts';
import { type Ctx, context, expDecay, log } from './float.ts';
import { kernelModule } from './module.ts';

const FLOATS: readonly DType[] = ['float32', 'float16', 'bfloat16'];
export const isF32Like = (f: Fact | null | undefined): boolean => !!f && FLOATS.includes(f.dtype);
/** So many arguments of 32 bits. */
export const i32s = (n: number): 'i32'[] => new Array<'i32'>(n).fill('i32');

/** `four` for each four of `n` elements, then `one` for each of the rest. */
export function span(f: Fn, n: I32, four: () => void, one: () => void): void {
  const left = f.let(n);
  f.whileLoop(
    () => i32.geu(left, 4),
    () => {
      four();
      f.inc(left, -4);
    },
  );
  f.whileLoop(
    () => left,
    () => {
      one();
      f.inc(left, -1);
    },
  );
}
/**
 * `four(part)` for each four of `n` elements, parts taking turns so that each can have a sum of its own; then `one` for
 * each of the rest.
 */
export function parted(f: Fn, n: I32, four: (part: number) => void, one: () => void): void {
  const left = f.let(n);
  f.whileLoop(
    () => i32.geu(left, 4 * PARTS),
    () => {
      for (let u = 0; u < PARTS; u++) four(u);
      f.inc(left, -4 * PARTS);
    },
  );
  span(f, left, () => four(0), one);
}
const PARTS = 4;
/** A sum for each part. */
export const partsOf = (f: Fn, v: V): Local<'v128'>[] => Array.from({ length: PARTS }, () => f.let(v));
/** The parts as one. */
export const merged = (f: Fn, parts: readonly Local<'v128'>[], merge: (a: V, b: V) => V): V =>
  parts.slice(1).reduce<V>((a, b) => f.let(merge(a, b)), parts[0]!);

/** Sum of the four lanes, in all lanes. */
export function sumLanes(f: Fn, v: V): V {
  const a = f.let(v);
  const b = f.let(f32x4.add(a, v128.shuf32(a, a, [2, 3, 0, 1])));
  return f32x4.add(b, v128.shuf32(b, b, [1, 0, 3, 2]));
}
const maxLanes = (f: Fn, v: V): V => {
  const a = f.let(v);
  const b = f.let(f32x4.pmax(a, v128.shuf32(a, a, [2, 3, 0, 1])));
  return f32x4.pmax(b, v128.shuf32(b, b, [1, 0, 3, 2]));
};
/** Lane 0 alone, the others 0. */
export const first = (v: V): V => v128.and(v, v128.const32(-1, 0, 0, 0));

// ── softmax ─────────────────────────────────────────────────────────────────────────────────────────────────────────
interface SoftmaxSpec {
  readonly log: boolean;
  readonly from: DType;
  readonly to: DType;
  readonly columns: boolean;
}

/** `run(x, y, outer, n, inner)`; `columns`: inner is not 1, and lanes are neighbouring columns. */
const softmaxEmitter: WasmEmitter<SoftmaxSpec> = {
  name: 'softmax',
  build: (spec, caps) =>
    kernelModule('softmax', i32s(5), caps, (f, m) => {
      const [x, y, outer, n, inner] = [0, 1, 2, 3, 4].map((i) => f.arg('i32', i)) as [
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
      ];
      const [from, to] = [widthOf(spec.from), widthOf(spec.to)];
      const advance = (by: I32): void => {
        f.inc(x, i32.mul(by, from));
        f.inc(y, i32.mul(by, to));
      };
      if (!spec.columns) {
        const row = m.fn('softmax row', i32s(3), [], false, (g) => softmaxRow(context(g, m, caps.fma), spec));
        f.times(outer, () => {
          f.call(row, x, y, n);
          advance(n);
        });
        return;
      }
      const column = (lanes: 4 | 1) =>
        m.fn(`softmax columns ${lanes}`, i32s(4), [], false, (g) =>
          softmaxColumns(context(g, m, caps.fma), spec, lanes),
        );
      const [four, one] = [column(4), column(1)];
      f.times(outer, () => {
        span(
          f,
          inner,
          () => {
            f.call(four, x, y, n, inner);
            f.inc(x, 4 * from);
            f.inc(y, 4 * to);
          },
          () => {
            f.call(one, x, y, n, inner);
            f.inc(x, from);
            f.inc(y, to);
          },
        );
        advance(i32.mul(i32.sub(n, 1), inner));
      });
    }),
};
/** (x, y, n): one row of neighbours. */
function softmaxRow(c: Ctx, { from, to, log: isLog }: SoftmaxSpec): void {
  const { f } = c;
  const [x, y, n] = [f.arg('i32', 0), f.arg('i32', 1), f.arg('i32', 2)];
  const p = f.local('i32');
  const q = f.local('i32');
  const step = (k: number): void => {
    f.inc(p, k * widthOf(from));
    f.inc(q, k * widthOf(to));
  };
  const left = f.local('i32');
  /** `four(k)` for the four elements from k on, in turns of eight and then of four; `one` for each of the rest. */
  const over = (four: (k: 0 | 4) => void, one: () => void): void => {
    f.set(p, x);
    f.set(q, y);
    f.set(left, n);
    f.whileLoop(
      () => i32.geu(left, 8),
      () => {
        four(0);
        four(4);
        step(8);
        f.inc(left, -8);
      },
    );
    span(
      f,
      left,
      () => {
        four(0);
        step(4);
      },
      () => {
        one();
        step(1);
      },
    );
  };
  const tops = partsOf(f, f32x4.const(-Infinity));
  const higher = (part: number, v: V): void => f.set(tops[part]!, f32x4.pmax(v, tops[part]!));
  f.set(p, x);
  parted(
    f,
    n,
    (part) => {
      higher(part, load4(c, from, p));
      f.inc(p, 4 * widthOf(from));
    },
    () => {
      higher(0, loadSplat(c, from, p));
      f.inc(p, widthOf(from));
    },
  );
  const top = f.let(maxLanes(f, merged(f, tops, f32x4.pmax)));
  const power = (v: V): V => f.let(expDecay(c, f32x4.sub(v, top)));
  const [sum, other] = [f.let(v128.zero()), f.let(v128.zero())];
  const keep = !isLog && to === 'float32';
  over(
    (k) => {
      const s = k ? other : sum;
      const e = power(load4(c, from, p, k * widthOf(from)));
      f.set(s, f32x4.add(s, e));
      if (keep) f.emit(store4(c, to, q, e, k * widthOf(to)));
    },
    () => {
      const e = power(loadSplat(c, from, p));
      f.set(sum, f32x4.add(sum, first(e)));
      if (keep) f.emit(store1(c, to, q, e));
    },
  );
  f.set(sum, sumLanes(f, f32x4.add(sum, other)));
  f.set(sum, isLog ? log(c, sum) : f32x4.div(1, sum));
  const result = (v: V): V =>
    isLog ? f32x4.sub(f32x4.sub(v, top), sum) : keep ? f32x4.mul(v, sum) : f32x4.mul(power(v), sum);
  over(
    (k) =>
      f.emit(
        store4(
          c,
          to,
          q,
          result(keep ? load4(c, to, q, k * widthOf(to)) : load4(c, from, p, k * widthOf(from))),
          k * widthOf(to),
        ),
      ),
    () => f.emit(store1(c, to, q, result(keep ? loadSplat(c, to, q) : loadSplat(c, from, p)))),
  );
}
/** (x, y, n, inner): a group of neighbouring columns, each a row of its own. */
function softmaxColumns(c: Ctx, { from, to, log: isLog }: SoftmaxSpec, lanes: 4 | 1): void {
  const { f } = c;
  const [x, y, n, inner] = [f.arg('i32', 0), f.arg('i32', 1), f.arg('i32', 2), f.arg('i32', 3)];
  const [stepX, stepY] = [f.let(i32.mul(inner, widthOf(from))), f.let(i32.mul(inner, widthOf(to)))];
  const p = f.local('i32');
  const q = f.local('i32');
  const over = (body: () => void): void => {
    f.set(p, x);
    f.set(q, y);
    f.times(n, () => {
      body();
      f.inc(p, stepX);
      f.inc(q, stepY);
    });
  };
  const load = (d: DType, at: I32): V => (lanes === 4 ? load4 : loadSplat)(c, d, at);
  const store = (v: V): void => f.emit((lanes === 4 ? store4 : store1)(c, to, q, v));
  const top = f.let(f32x4.const(-Infinity));
  over(() => f.set(top, f32x4.pmax(load(from, p), top)));
  const power = (v: V): V => f.let(expDecay(c, f32x4.sub(v, top)));
  const sum = f.let(v128.zero());
  const keep = !isLog && to === 'float32';
  over(() => {
    const e = power(load(from, p));
    f.set(sum, f32x4.add(sum, e));
    if (keep) store(e);
  });
  f.set(sum, isLog ? log(c, sum) : f32x4.div(1, sum));
  over(() =>
    store(
      isLog
        ? f32x4.sub(f32x4.sub(load(from, p), top), sum)
        : keep
          ? f32x4.mul(load(to, q), sum)
          : f32x4.mul(power(load(from, p)), sum),
    ),
  );
}

/** Softmax, or its logarithm, of `n` elements that lie `inner` apart. */
export const softmaxKernels = (
  isLog: boolean,
  rowsOf: (call: Call) => { readonly outer: number; readonly n: number; readonly inner: number },
): readonly WasmKernel[] => [
  {
    name: 'softmax',
    accepts: (call) => isF32Like(call.inputs[0]) && isF32Like(call.outputs[0]),
    inPlace: (call) => (widthOf(call.inputs[0]!.dtype) === widthOf(call.outputs[0]!.dtype) ? [[0, 0]] : []),
    launch: (call) => {
      if (sizeOf(call.outputs[0]!.shape) === 0) return [];
      const { outer, n, inner } = rowsOf(call);
      return {
        emit: softmaxEmitter,
        spec: { log: isLog, from: call.inputs[0]!.dtype, to: call.outputs[0]!.dtype, columns: inner !== 1 },
        args: [{ input: 0 }, { output: 0 }, outer, n, inner],
        split: {
          items: 2,
          grain: 1,
          moves: call.inputs
            .slice(0, 1)
            .concat(call.outputs[0]!)
            .map((t, i) => [i, n * inner * widthOf(t!.dtype)] as const),
          cost: n * inner,
        },
      };
    },
  },
];
