/** Det: determinants by elimination with pivots, in double. */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { WasmKernel } from '../define.ts';
import { type F64, f64, i32, type I32 } from './asm.ts';
import { at, loopEmitter, type Loops } from './loops.ts';
import { isStored } from './number.ts';

/** run(x, y, held, matrices, n): Gaussian elimination with row pivots in `held`. */
const detEmitter = loopEmitter(
  'det',
  () => ['x', 'y', 'held', 'matrices', 'n'] as const,
  (k: Loops<'x' | 'y' | 'held' | 'matrices' | 'n'>, { dtype }: { readonly dtype: DType }) => {
    const { f, p } = k;
    const cells = k.int(i32.mul(p.n, p.n));
    const det = f.local('f64');
    const pivot = f.local('i32');
    const cell = (r: I32, c: I32): I32 => at(r, p.n, c);
    const get = (r: I32, c: I32): F64 => k.get('float64', p.held, cell(r, c));
    k.each(p.matrices, (m) => {
      k.each(cells, (e) => k.put('float64', p.held, e, k.get(dtype, p.x, at(m, cells, e))));
      f.set(det, f64.const(1));
      f.block((done) =>
        k.each(p.n, (c) => {
          f.set(pivot, c);
          k.each(
            p.n,
            (r) => f.iff(f64.gt(f64.abs(get(r, c)), f64.abs(get(pivot, c))), () => f.set(pivot, r)),
            i32.add(c, 1),
          );
          const top = k.real(get(pivot, c));
          f.iff(f64.eq(top, 0), () => {
            f.set(det, f64.const(0));
            f.br(done);
          });
          f.iff(i32.ne(pivot, c), () => {
            f.set(det, f64.neg(det));
            k.each(p.n, (j) => {
              const v = k.real(get(c, j));
              k.put('float64', p.held, cell(c, j), get(pivot, j));
              k.put('float64', p.held, cell(pivot, j), v);
            });
          });
          f.set(det, f64.mul(det, top));
          k.each(
            p.n,
            (r) => {
              const factor = k.real(f64.div(get(r, c), top));
              k.each(
                p.n,
                (j) => k.put('float64', p.held, cell(r, j), f64.sub(get(r, j), f64.mul(factor, get(c, j)))),
                i32.add(c, 1),
              );
            },
            i32.add(c, 1),
          );
        }),
      );
      k.put(dtype, p.y, m, det);
    });
  },
);
export const detWasm: WasmKernel = {
  name: 'det.elimination',
  accepts: (call) => isStored(call.inputs[0]!.dtype),
  scratch: (call) => [8 * call.inputs[0]!.shape.at(-1)! ** 2 + 16],
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    return {
      emit: detEmitter,
      spec: { dtype },
      args: [{ input: 0 }, { output: 0 }, { scratch: 0 }, sizeOf(shape.slice(0, -2)), shape.at(-1)!],
    };
  },
};
