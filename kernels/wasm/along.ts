/** Places of extremes, and running sums, along an axis. */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, WasmEmitter, WasmKernel } from '../define.ts';
import { constant, input, type Kind, kindOf, x } from '../expr.ts';
import { type Expr, f32, i32, type I32, i64, type Local } from './asm.ts';
import { loadScalar, SCALAR, storeScalar, widthOf } from './elem.ts';
import { kept } from './expr-kept.ts';
import { scalarCode } from './expr-scalar.ts';
import { context } from './float.ts';
import { kernelModule } from './module.ts';

const i32s = (n: number): 'i32'[] => new Array<'i32'>(n).fill('i32');
/** [outer, n, inner] around an axis. */
const around = (shape: readonly number[], axis: number): [number, number, number] => [
  sizeOf(shape.slice(0, axis)),
  shape[axis] ?? 1,
  sizeOf(shape.slice(axis + 1)),
];

interface PositionSpec {
  readonly max: boolean;
  readonly last: boolean;
  readonly dtype: DType;
}
/** `run(dst, src, outer, n, inner)` */
const positionEmitter: WasmEmitter<PositionSpec> = {
  name: 'position',
  build: ({ max, last, dtype }, caps) =>
    kernelModule('position', i32s(5), caps, (f, m) => {
      const k = kindOf(dtype)!;
      const width = widthOf(dtype);
      const line = m.fn('position line', i32s(4), [], false, (g) => {
        const c = context(g, m, caps.fma);
        const [dst, src, n, step] = [0, 1, 2, 3].map((i) => g.arg('i32', i)) as [
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
        ];
        const best = g.local(SCALAR[k]);
        const v = g.local(SCALAR[k]);
        const at = g.let(i32.const(0));
        const i = g.let(i32.const(0));
        g.set(best, loadScalar(c, dtype, src));
        const [a, b] = [input(0, k), input(1, k)];
        const better = max ? (last ? x.le(b, a) : x.lt(b, a)) : last ? x.le(a, b) : x.lt(a, b);
        g.times(n, () => {
          g.set(v, loadScalar(c, dtype, src));
          g.iff(scalarCode(c, better, (j) => (j === 0 ? v : best), kept()) as I32, () => {
            g.set(best, v);
            g.set(at, i);
          });
          g.inc(src, step);
          g.inc(i, 1);
        });
        g.emit(i64.store(dst, i64.extendU(at)));
      });
      const [dst, src, outer, n, inner] = [0, 1, 2, 3, 4].map((i) => f.arg('i32', i)) as [
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
      ];
      const step = f.let(i32.mul(inner, width));
      f.times(outer, () => {
        f.times(inner, () => {
          f.call(line, dst, src, n, step);
          f.inc(dst, 8);
          f.inc(src, width);
        });
        f.inc(src, i32.mul(i32.sub(n, 1), step));
      });
    }),
};
export const positionKernel = (
  max: boolean,
  axisOf: (call: Call) => number,
): WasmKernel<{ readonly select_last_index: number }> => ({
  name: max ? 'position.max' : 'position.min',
  accepts: (call) => {
    const k = kindOf(call.inputs[0]!.dtype);
    return k !== undefined && k !== 'bool';
  },
  launch: (call) => {
    if (sizeOf(call.outputs[0]!.shape) === 0) return [];
    const { dtype, shape } = call.inputs[0]!;
    return {
      emit: positionEmitter,
      spec: { max, last: call.attrs.select_last_index !== 0, dtype },
      args: [{ output: 0 }, { input: 0 }, ...around(shape, axisOf(call))],
    };
  },
});

interface ScanSpec {
  readonly product: boolean;
  readonly exclusive: boolean;
  readonly dtype: DType;
}
/**
 * `run(dst, src, outer, inner, n, first, step)`: `first` bytes from a line's start, then by `step`. Floats are summed
 * in float64.
 */
const scanEmitter: WasmEmitter<ScanSpec> = {
  name: 'scan',
  build: ({ product, exclusive, dtype }, caps) =>
    kernelModule('scan', i32s(7), caps, (f, m) => {
      const k = kindOf(dtype)!;
      const sumKind: Kind = k === 'f32' ? 'f64' : k;
      const width = widthOf(dtype);
      const line = m.fn('scan line', i32s(4), [], false, (g) => {
        const c = context(g, m, caps.fma);
        const [dst, src, n, step] = [0, 1, 2, 3].map((i) => g.arg('i32', i)) as [
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
        ];
        const acc = g.local(SCALAR[sumKind]);
        const next = g.local(SCALAR[sumKind]);
        g.set(
          acc,
          scalarCode(c, constant(product ? 1 : 0, sumKind), () => acc, kept()),
        );
        const [a, b] = [input(0, sumKind), x.cast(input(1, k), sumKind)];
        g.times(n, () => {
          g.set(
            next,
            scalarCode(
              c,
              product ? x.mul(a, b) : x.add(a, b),
              (i) => (i === 0 ? acc : loadScalar(c, dtype, src)),
              kept(),
            ),
          );
          const out = exclusive ? acc : next;
          g.emit(storeScalar(c, dtype, dst, k === 'f32' ? f32.demote(out as Expr<'f64'>) : out));
          g.set(acc, next);
          g.inc(dst, step);
          g.inc(src, step);
        });
      });
      const [dst, src, outer, inner, n, start, step] = [0, 1, 2, 3, 4, 5, 6].map((i) =>
        f.arg('i32', i),
      ) as Local<'i32'>[];
      f.inc(dst!, start!);
      f.inc(src!, start!);
      const skip = f.let(i32.mul(i32.mul(i32.sub(n!, 1), inner!), width));
      f.times(outer!, () => {
        f.times(inner!, () => {
          f.call(line, dst!, src!, n!, step!);
          f.inc(dst!, width);
          f.inc(src!, width);
        });
        f.inc(dst!, skip);
        f.inc(src!, skip);
      });
    }),
};
export const scanKernel = (
  product: boolean,
  axisOf: (call: Call) => number | null,
): WasmKernel<{ readonly exclusive: number; readonly reverse: number }> => ({
  name: product ? 'scan.product' : 'scan.sum',
  accepts: (call) => {
    const k = kindOf(call.inputs[0]!.dtype);
    return k !== undefined && k !== 'bool' && axisOf(call) !== null;
  },
  inPlace: () => [[0, 0]],
  launch: (call) => {
    if (sizeOf(call.outputs[0]!.shape) === 0) return [];
    const { dtype, shape } = call.inputs[0]!;
    const [outer, n, inner] = around(shape, axisOf(call)!);
    const step = inner * widthOf(dtype);
    const reverse = call.attrs.reverse !== 0;
    return {
      emit: scanEmitter,
      spec: { product, exclusive: call.attrs.exclusive !== 0, dtype },
      args: [{ output: 0 }, { input: 0 }, outer, inner, n, reverse ? (n - 1) * step : 0, reverse ? -step : step],
    };
  },
});
