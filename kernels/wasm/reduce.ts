/** Reductions over axes, positions of extremes, running sums. */
import { BITS, type DType } from '../../src/core/dtype.ts';
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Call, WasmEmitter, WasmKernel } from '../define.ts';
import { constant, type Ex, input, type Kind, kindOf, x } from '../expr.ts';
import type { Reduction } from '../webgpu/reduce.ts';
import { type Expr, f32, f32x4, f64, i32, type I32, type Local, type V, v128 } from './asm.ts';
import { load4, loadScalar, loadSplat, SCALAR, store1, store4, storeScalar, widthOf } from './elem.ts';
import { kept } from './expr-kept.ts';
import { scalarCode } from './expr-scalar.ts';
import { vectorCode, VECTOR_KINDS } from './expr-vector.ts';
import { type Ctx, context, exp, log } from './float.ts';
import { mergeLoops } from '../merge.ts';
import { kernelModule } from './module.ts';
import { span } from './rows.ts';

const i32s = (n: number): 'i32'[] => new Array<'i32'>(n).fill('i32');

/** A reduction: `pre` of each element, `merge` of two, `post` of the whole (input 1: how many there were). */
interface Steps {
  readonly first: Ex;
  readonly pre: Ex;
  readonly merge: Ex;
  readonly post: Ex;
}
function stepsOf(op: Exclude<Reduction, 'LogSumExp'>, dtype: DType): Steps {
  const k = kindOf(dtype)!;
  const [a, b] = [input(0, k), input(1, k)];
  const [zero, sum] = [constant(0, k), x.add(a, b)];
  switch (op) {
    case 'Sum':
      return { first: zero, pre: a, merge: sum, post: a };
    case 'Mean':
      return { first: zero, pre: a, merge: sum, post: x.div(a, b) };
    case 'Prod':
      return { first: constant(1, k), pre: a, merge: x.mul(a, b), post: a };
    case 'Max':
      return { first: bound(dtype, k, false), pre: a, merge: k === 'bool' ? x.or(a, b) : x.max(a, b), post: a };
    case 'Min':
      return { first: bound(dtype, k, true), pre: a, merge: k === 'bool' ? x.and(a, b) : x.min(a, b), post: a };
    case 'L1':
      return { first: zero, pre: x.abs(a), merge: sum, post: a };
    case 'L2':
      return { first: zero, pre: x.mul(a, a), merge: sum, post: x.sqrt(a) };
    case 'SumSquare':
      return { first: zero, pre: x.mul(a, a), merge: sum, post: a };
    default:
      return { first: zero, pre: a, merge: sum, post: x.log(a) };
  }
}
/** The greatest or the least value of a dtype. */
function bound(dtype: DType, k: Kind, greatest: boolean): Ex {
  if (k === 'f32' || k === 'f64') return constant(greatest ? Infinity : -Infinity, k);
  if (k === 'bool') return constant(greatest ? 1 : 0, k);
  const bits = BigInt(BITS[dtype]);
  const signed = k === 'i32' || k === 'i64';
  const value = signed ? (greatest ? 2n ** (bits - 1n) - 1n : -(2n ** (bits - 1n))) : greatest ? 2n ** bits - 1n : 0n;
  return k === 'i64' || k === 'u64' ? constant(value, k) : constant(Number(value), k);
}
const FLOAT_ONLY: ReadonlySet<Reduction> = new Set(['Mean', 'L2', 'LogSum', 'LogSumExp']);

/**
 * Loops over what goes (`gone`) and over what stays (`stays`, without the innermost if `columns`: then neighbours stay,
 * and lanes are outputs).
 */
interface ReduceSpec {
  readonly op: Reduction;
  readonly dtype: DType;
  readonly gone: number;
  readonly stays: number;
  readonly columns: boolean;
}

/**
 * `run(dst, src, n reduced, columns, then count and stride of each loop over what goes, then of each over what stays)`
 */
const reduceEmitter: WasmEmitter<ReduceSpec> = {
  name: 'reduce',
  build: (spec, caps) =>
    kernelModule('reduce', i32s(4 + 2 * (spec.gone + spec.stays)), caps, (f, m) => {
      const { dtype, gone, stays, columns } = spec;
      const width = widthOf(dtype);
      const vector = VECTOR_KINDS.includes(kindOf(dtype)!);
      const fold = (lanes: number) =>
        m.fn(`reduce ${lanes}`, i32s(3 + 2 * gone), [], false, (g) =>
          (vector ? foldVectors : foldScalars)(context(g, m, caps.fma), spec, lanes),
        );
      const [dst, src, n, width_] = [0, 1, 2, 3].map((i) => f.arg('i32', i)) as [
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
      ];
      const loops = Array.from({ length: 2 * gone }, (_, i) => f.arg('i32', 4 + i));
      const lanes = columns ? (vector ? [16, 4, 1] : [1]) : [0];
      const folds = lanes.map(fold);
      const left = f.local('i32');
      const level = (d: number): void => {
        if (d < stays) {
          const p = f.let(src);
          f.times(f.arg('i32', 4 + 2 * (gone + d)), () => {
            f.set(src, p);
            level(d + 1);
            f.inc(p, f.arg('i32', 5 + 2 * (gone + d)));
          });
          return;
        }
        if (!columns) {
          f.call(folds[0]!, dst, src, n, ...loops);
          f.inc(dst, width);
          return;
        }
        f.set(left, width_);
        lanes.forEach((count, i) =>
          f.whileLoop(
            () => i32.geu(left, count),
            () => {
              f.call(folds[i]!, dst, src, n, ...loops);
              f.inc(dst, count * width);
              f.inc(src, count * width);
              f.inc(left, -count);
            },
          ),
        );
      };
      level(0);
    }),
};
/** Visits what is reduced from `src` on: `body(p, count, stride)` for each innermost loop. */
function visit(c: Ctx, gone: number, src: I32, body: (p: Local<'i32'>, count: I32, stride: I32) => void): void {
  const { f } = c;
  const level = (d: number, p: Local<'i32'>): void => {
    const [count, stride] = [f.arg('i32', 3 + 2 * d), f.arg('i32', 4 + 2 * d)];
    const q = f.let(p);
    if (d === gone - 1) body(q, count, stride);
    else
      f.times(count, () => {
        level(d + 1, q);
        f.inc(q, stride);
      });
  };
  level(0, f.let(src));
}
/** (dst, src, n, loops…): `lanes` neighbouring outputs, or with 0 one output of runs of neighbours. */
function foldVectors(c: Ctx, { op, dtype, gone }: ReduceSpec, lanes: number): void {
  const { f } = c;
  const [dst, src, n] = [f.arg('i32', 0), f.arg('i32', 1), f.arg('i32', 2)];
  const width = widthOf(dtype);
  const vec = (e: Ex, ...inputs: V[]): V => vectorCode(c, e, (i) => inputs[i]!, kept());
  const parts = lanes === 0 ? 4 : Math.max(1, lanes / 4);
  /** Accumulates all elements; lanes are merged for one output. */
  const accumulate = (first: Ex, merge: Ex, pre: (v: V, part: number) => V): Local<'v128'>[] => {
    const acc = Array.from({ length: parts }, () => f.let(vec(first)));
    const add = (part: number, v: V): void => f.set(acc[part]!, vec(merge, acc[part]!, pre(v, part)));
    if (lanes > 0) {
      visit(c, gone, src, (p, count, stride) =>
        f.times(count, () => {
          for (let u = 0; u < parts; u++)
            add(u, lanes === 1 ? loadSplat(c, dtype, p) : load4(c, dtype, p, 4 * u * width));
          f.inc(p, stride);
        }),
      );
      return acc;
    }
    const tail = f.let(vec(first));
    visit(c, gone, src, (p, count) => {
      const left = f.let(count);
      f.whileLoop(
        () => i32.geu(left, 16),
        () => {
          for (let u = 0; u < 4; u++) add(u, load4(c, dtype, p, 4 * u * width));
          f.inc(p, 16 * width);
          f.inc(left, -16);
        },
      );
      span(
        f,
        left,
        () => {
          add(0, load4(c, dtype, p));
          f.inc(p, 4 * width);
        },
        () => {
          f.set(tail, vec(merge, tail, pre(loadSplat(c, dtype, p), 0)));
          f.inc(p, width);
        },
      );
    });
    const pair = (a: V, b: V): Local<'v128'> => f.let(vec(merge, a, b));
    const all = pair(pair(acc[0]!, acc[1]!), pair(acc[2]!, acc[3]!));
    const half = pair(all, v128.shuf32(all, all, [2, 3, 0, 1]));
    return [pair(pair(half, v128.shuf32(half, half, [1, 0, 3, 2])), tail)];
  };
  const store = (v: V, part: number): void =>
    f.emit(lanes > 1 ? store4(c, dtype, dst, v, 4 * part * width) : store1(c, dtype, dst, v));
  if (op !== 'LogSumExp') {
    const { first, pre, merge, post } = stepsOf(op, dtype);
    const acc = accumulate(first, merge, (v) => vec(pre, v));
    const count = f32x4.splat(f32.convU(n));
    acc.forEach((a, part) => store(vec(post, a, count), part));
    return;
  }
  const max = stepsOf('Max', 'float32');
  const tops = accumulate(max.first, max.merge, (v) => v);
  const sum = stepsOf('Sum', 'float32');
  const sums = accumulate(sum.first, sum.merge, (v, part) => exp(c, f32x4.sub(v, tops[lanes === 0 ? 0 : part]!)));
  sums.forEach((s, part) => {
    const top = tops[part]!;
    store(v128.bitselect(top, f32x4.add(top, log(c, s)), f32x4.eq(f32x4.abs(top), Infinity)), part);
  });
}
/** The same for types of 64 bits: one element at a time. */
function foldScalars(c: Ctx, { op, dtype, gone }: ReduceSpec, lanes: number): void {
  const { f } = c;
  const [dst, src, n] = [f.arg('i32', 0), f.arg('i32', 1), f.arg('i32', 2)];
  const k = kindOf(dtype)!;
  const code = (e: Ex, ...inputs: Expr[]): Expr => scalarCode(c, e, (i) => inputs[i]!, kept());
  const { first, pre, merge, post } = stepsOf(op as Exclude<Reduction, 'LogSumExp'>, dtype);
  const acc = f.local(SCALAR[k]);
  f.set(acc, code(first));
  visit(c, gone, src, (p, count, stride) =>
    f.times(count, () => {
      f.set(acc, code(merge, acc, code(pre, loadScalar(c, dtype, p))));
      f.inc(p, lanes === 0 ? widthOf(dtype) : stride);
    }),
  );
  f.emit(storeScalar(c, dtype, dst, code(post, acc, k === 'f64' ? f64.convU(n) : n)));
}

/** The dims over which a call loops, in bytes, merged: those that go, and those that stay. */
function spaceOf(shape: readonly number[], axes: readonly number[], width: number) {
  const strides = stridesOf(shape);
  const pick = (inside: boolean): { n: number; step: number }[] => {
    const dims = shape.map((_, i) => i).filter((i) => axes.includes(i) === inside);
    const {
      dims: counts,
      strides: [s],
    } = mergeLoops(
      dims.map((i) => shape[i]!),
      [dims.map((i) => strides[i]!)],
    );
    return counts.map((n, i) => ({ n, step: s![i]! * width }));
  };
  return { gone: pick(true), stays: pick(false), n: sizeOf(shape.filter((_, i) => axes.includes(i))) };
}

/** `axesOf(call)` gives the axes that are reduced, null if they are not known. */
export const reduceKernel = (op: Reduction, axesOf: (call: Call) => readonly number[] | null): WasmKernel => ({
  name: `reduce.${op.toLowerCase()}`,
  accepts: (call) => {
    const { dtype } = call.inputs[0]!;
    const k = kindOf(dtype);
    const real = k === 'f32' || (k === 'f64' && op !== 'LogSumExp');
    return (
      k !== undefined &&
      (real || !FLOAT_ONLY.has(op)) &&
      (k !== 'bool' || op === 'Max' || op === 'Min') &&
      axesOf(call) !== null
    );
  },
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    if (sizeOf(call.outputs[0]!.shape) === 0) return [];
    const width = widthOf(dtype);
    const axes = axesOf(call)!;
    const { gone, stays, n } = shape.includes(0)
      ? { gone: [{ n: 0, step: width }], stays: [{ n: sizeOf(call.outputs[0]!.shape), step: width }], n: 0 }
      : spaceOf(shape, axes, width);
    const last = gone.at(-1)!;
    const columns = n === 1 || (last.step !== width && stays.at(-1)!.step === width);
    const outer = columns ? stays.slice(0, -1) : stays;
    const rest = stays.slice(1).reduce((m, l) => m * l.n, 1);
    return {
      emit: reduceEmitter,
      spec: { op, dtype, gone: gone.length, stays: outer.length, columns },
      args: [
        { output: 0 },
        { input: 0 },
        n,
        columns ? stays.at(-1)!.n : 1,
        ...[...gone, ...outer].flatMap((l) => [l.n, l.step]),
      ],
      split:
        outer.length > 0
          ? {
              items: 4 + 2 * gone.length,
              grain: 1,
              moves: [
                [0, rest * width],
                [1, outer[0]!.step],
              ],
              cost: 0.3 * n * rest,
            }
          : columns
            ? {
                items: 3,
                grain: 16,
                moves: [
                  [0, width],
                  [1, width],
                ],
                cost: 0.3 * n,
              }
            : null,
    };
  },
});
