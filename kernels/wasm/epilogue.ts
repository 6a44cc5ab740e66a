/**
 * Elementwise work on what a heavy kernel has just stored: an expression of the stored value and of operands, row by
 * row while the rows are still in the cache. A row is the last dims of the output, taken together; an operand follows
 * the rows as `(row / every) % count`.
 */
import type { DType } from '../../src/core/dtype.ts';
import type { Fact } from '../../src/core/graph.ts';
import type { Split, WasmCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, Ref, WasmEmitter, WasmLaunch } from '../define.ts';
import type { Ex } from '../expr.ts';
import { broadcastStrides } from '../shapes.ts';
import { type Fn, i32, type Local, type Mod, type V } from './asm.ts';
import { load4, loadSplat, store1, store4, widthOf } from './elem.ts';
import { kept } from './expr-kept.ts';
import { isVector, vectorCode } from './expr-vector.ts';
import { context } from './float.ts';
import { i32s, locals } from './gemm-core.ts';
import { kernelModule } from './module.ts';

/** Work to do on an output: `input 0` of the expression is what is stored, `input 1 …` the operands. */
export interface Finish {
  readonly expr: Ex;
  readonly operands: readonly { readonly fact: Fact; readonly ref: Ref }[];
}
/** What of it is code: the expression, the dtypes, and which operands move along a row. */
export interface FinishSpec {
  readonly expr: Ex;
  readonly dtype: DType;
  readonly operands: readonly { readonly dtype: DType; readonly along: boolean }[];
}

/** The epilogue of a call, if it has one. */
export const finishOf = (call: Call): Finish | null =>
  call.epilogue
    ? { expr: call.epilogue.expr, operands: call.epilogue.operands.map((fact, i) => ({ fact, ref: { operand: i } })) }
    : null;

/** A finish and its arguments behind (at, row, rows, n). */
export interface FinishPlan {
  readonly spec: FinishSpec;
  readonly args: readonly (Ref | number)[];
}
/**
 * How operands follow the rows of an output whose first `split` dims count its rows; null where one does it in another
 * way.
 */
export function finishPlan(finish: Finish, { dtype, shape }: Fact, split: number): FinishPlan | null {
  const n = sizeOf(shape.slice(split));
  const plan = finish.operands.map(({ fact, ref }) => {
    if (sizeOf(fact.shape) === 0) return null;
    const strides = broadcastStrides(fact.shape, shape);
    const bytes = widthOf(fact.dtype);
    const cols = shape
      .map((d, i) => ({ d, s: strides[i]! }))
      .slice(split)
      .filter((x) => x.d !== 1);
    const along = cols.some((x) => x.s !== 0);
    if (along && cols.some((x) => x.s === 0)) return null;
    const rows = shape
      .map((d, i) => ({ d, s: strides[i]! }))
      .slice(0, split)
      .filter((x) => x.d !== 1);
    let every = 1;
    let count = 1;
    let i = rows.length - 1;
    for (; i >= 0 && rows[i]!.s === 0; i--) every *= rows[i]!.d;
    for (; i >= 0 && rows[i]!.s !== 0; i--) count *= rows[i]!.d;
    if (rows.slice(0, i + 1).some((x) => x.s !== 0)) return null;
    return {
      along,
      dtype: fact.dtype,
      args: [ref, every, count, (along ? n : 1) * (count > 1 ? bytes : 0)] as (Ref | number)[],
    };
  });
  if (!isVector(finish.expr) || plan.some((p) => p === null)) return null;
  return {
    spec: { expr: finish.expr, dtype, operands: plan.map((p) => ({ dtype: p!.dtype, along: p!.along })) },
    args: plan.flatMap((p) => p!.args),
  };
}

/** Parameters of `finishRows` behind (at, row, rows, n, gap). */
const FINISH_HEAD = 5;
export const finishArgCount = (s: FinishSpec): number => 4 * s.operands.length;

/**
 * (at, row, rows, n, gap, then per operand: address, every, count, step): finishes rows `row` … of `n` elements `gap`
 * bytes apart, the first of them at `at`.
 */
export function finishRows(m: Mod, caps: WasmCaps, s: FinishSpec): Fn {
  return m.fn('finish', i32s(FINISH_HEAD + finishArgCount(s)), [], false, (f) => {
    const [at, row, rows, n, gap] = [0, 1, 2, 3, 4].map((i) => f.arg('i32', i)) as [
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
    ];
    const c = context(f, m, caps.fma);
    const pointers = locals(f, 'i32', s.operands.length);
    const splats = locals(f, 'v128', s.operands.length);
    const width = widthOf(s.dtype);
    f.times(rows, () => {
      s.operands.forEach((o, i) => {
        const [base, every, count, step] = [0, 1, 2, 3].map((k) => f.arg('i32', FINISH_HEAD + 4 * i + k)) as [
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
        ];
        f.set(pointers[i]!, i32.add(base, i32.mul(i32.remu(i32.divu(row, every), count), step)));
        if (!o.along) f.set(splats[i]!, loadSplat(c, o.dtype, pointers[i]!));
      });
      const move = (lanes: number): void => {
        f.inc(at, lanes * width);
        s.operands.forEach((o, i) => {
          if (o.along) f.inc(pointers[i]!, lanes * widthOf(o.dtype));
        });
      };
      const value = (read: (dtype: DType, p: Local<'i32'>) => V): V =>
        vectorCode(
          c,
          s.expr,
          (i) =>
            i === 0
              ? read(s.dtype, at)
              : s.operands[i - 1]!.along
                ? read(s.operands[i - 1]!.dtype, pointers[i - 1]!)
                : splats[i - 1]!,
          kept(),
        );
      f.times(i32.shru(n, 2), () => {
        f.emit(
          store4(
            c,
            s.dtype,
            at,
            value((d, p) => load4(c, d, p)),
          ),
        );
        move(4);
      });
      f.times(i32.and(n, 3), () => {
        f.emit(
          store1(
            c,
            s.dtype,
            at,
            value((d, p) => loadSplat(c, d, p)),
          ),
        );
        move(1);
      });
      f.inc(row, 1);
      f.inc(at, gap);
    });
  });
}

/** run(at, row, rows, n, gap, …operands): a finish of its own, behind kernels that do not do it on the way. */
export const finishModule: WasmEmitter<FinishSpec> = {
  name: 'finish',
  build: (s, caps) =>
    kernelModule('finish', i32s(FINISH_HEAD + finishArgCount(s)), caps, (f, m) => {
      f.call(
        finishRows(m, caps, s),
        ...Array.from({ length: FINISH_HEAD + finishArgCount(s) }, (_, i) => f.arg('i32', i)),
      );
    }),
};
/** Can it be done row by row, for some length of row? */
export const finishes = (finish: Finish | null, out: Fact): boolean =>
  finish === null || sizeOf(out.shape) === 0 || rowsFor(finish, out) !== null;
/** The longest rows that all operands can follow. */
function rowsFor(finish: Finish, out: Fact): { n: number; plan: FinishPlan } | null {
  for (let i = 0; i <= out.shape.length; i++) {
    const plan = finishPlan(finish, out, i);
    if (plan) return { n: sizeOf(out.shape.slice(i)), plan };
  }
  return null;
}
/**
 * The launch that finishes output 0 in place; none where nothing is to do. `on`: where the output lies, if not in the
 * output itself.
 */
export function finishLaunch(finish: Finish | null, out: Fact, on: Ref = { output: 0 }): WasmLaunch[] {
  if (!finish || sizeOf(out.shape) === 0) return [];
  const { n, plan } = rowsFor(finish, out)!;
  const width = widthOf(plan.spec.dtype);
  const rows = sizeOf(out.shape) / n;
  const split: Split = {
    items: 2,
    grain: 1,
    moves: [
      [0, n * width],
      [1, 1],
    ],
    cost: n * 0.4,
  };
  return [{ emit: finishModule, spec: plan.spec, args: [on, 0, rows, n, 0, ...plan.args], split }];
}
