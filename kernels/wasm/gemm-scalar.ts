/** MatMul of float64 and of integers: one element at a time, in the type itself (integers wrap). */
import type { DType } from '../../src/core/dtype.ts';
import type { WasmEmitter, WasmKernel } from '../define.ts';
import { matmulShape } from '../matmul-shape.ts';
import { type Expr, f64, i32, i64, type Local } from './asm.ts';
import { loadScalar, storeScalar, widthOf } from './elem.ts';
import { context } from './float.ts';
import { productOf } from './gemm.ts';
import { i32s, locals, params } from './gemm-core.ts';
import { kernelModule } from './module.ts';

const TYPES: Readonly<Partial<Record<DType, 'f64' | 'i32' | 'i64'>>> = {
  float64: 'f64',
  int32: 'i32',
  uint32: 'i32',
  int64: 'i64',
  uint64: 'i64',
};
interface Spec {
  readonly dtype: DType;
  readonly levels: number;
}

/** run(a, aRow, aStep, b, bRow, bCol, c, M, N, K, then per level: n, a, b): strides in bytes. */
const module: WasmEmitter<Spec> = {
  name: 'gemm_scalar',
  build: (s, caps) =>
    kernelModule('gemm_scalar', i32s(10 + 3 * s.levels), caps, (f, m) => {
      const p = params(f, 'a', 'aRow', 'aStep', 'b', 'bRow', 'bCol', 'c', 'M', 'N', 'K');
      const c = context(f, m, caps.fma);
      const type = TYPES[s.dtype]!;
      const [row, col, x, y] = locals(f, 'i32', 4) as [Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>];
      const sum = f.local(type);
      const fused = (u: Expr, v: Expr): Expr =>
        type === 'f64'
          ? f64.add(sum as Expr<'f64'>, f64.mul(u as Expr<'f64'>, v as Expr<'f64'>))
          : type === 'i64'
            ? i64.add(sum as Expr<'i64'>, i64.mul(u as Expr<'i64'>, v as Expr<'i64'>))
            : i32.add(sum as Expr<'i32'>, i32.mul(u as Expr<'i32'>, v as Expr<'i32'>));
      const zero = type === 'f64' ? f64.const(0) : type === 'i64' ? i64.const(0) : i32.const(0);
      const level = (l: number): void => {
        if (l < s.levels) {
          const [n, a, b] = [0, 1, 2].map((i) => f.arg('i32', 10 + 3 * l + i)) as [
            Local<'i32'>,
            Local<'i32'>,
            Local<'i32'>,
          ];
          f.times(n, () => {
            level(l + 1);
            f.inc(p.a, a);
            f.inc(p.b, b);
          });
          f.inc(p.a, i32.sub(0, i32.mul(n, a)));
          f.inc(p.b, i32.sub(0, i32.mul(n, b)));
          return;
        }
        f.set(row, p.a);
        f.times(p.M, () => {
          f.set(col, p.b);
          f.times(p.N, () => {
            f.set(sum, zero as typeof sum);
            f.set(x, row);
            f.set(y, col);
            f.times(p.K, () => {
              f.set(sum, fused(loadScalar(c, s.dtype, x), loadScalar(c, s.dtype, y)) as typeof sum);
              f.inc(x, p.aStep);
              f.inc(y, p.bRow);
            });
            f.emit(storeScalar(c, s.dtype, p.c, sum));
            f.inc(p.c, widthOf(s.dtype));
            f.inc(col, p.bCol);
          });
          f.inc(row, p.aRow);
        });
      };
      level(0);
    }),
};
export const matmulScalar: WasmKernel = {
  name: 'matmul.scalar',
  accepts: (call) => TYPES[call.inputs[0]!.dtype] !== undefined && !call.epilogue,
  launch: (call) => {
    const { dtype } = call.inputs[0]!;
    const p = productOf(matmulShape(call.inputs[0]!.shape, call.inputs[1]!.shape));
    const w = widthOf(dtype);
    return {
      emit: module,
      spec: { dtype, levels: p.levels.length },
      args: [
        { input: 0 },
        w * p.aRow,
        w * p.aStep,
        { input: 1 },
        w * p.bRow,
        w * p.bCol,
        { output: 0 },
        p.M,
        p.N,
        p.K,
        ...p.levels.flatMap((l) => [l.n, w * l.a, w * l.b]),
      ],
    };
  },
};
