/** Quantising and back: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear. */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { granularity, type Granularity } from '../quantize.ts';
import { f32, f32x4, i32, i32x4, type Local, type V, v128 } from './asm.ts';
import { load4, loadSplat, store1, store4, widthOf } from './elem.ts';
import { context } from './float.ts';
import { i32s, params } from './gemm-core.ts';
import { kernelModule } from './module.ts';

const RANGE: Readonly<Partial<Record<DType, readonly [number, number]>>> = {
  uint8: [0, 255],
  int8: [-128, 127],
  uint16: [0, 65535],
  int16: [-32768, 32767],
};
interface Spec {
  readonly from: DType;
  readonly to: DType;
  readonly zero: DType | null;
  /** Scales move along a row. */
  readonly along: boolean;
  readonly quantize: boolean;
}

/** Rows of `count` elements; row r starts with scale ((r / a)·b + (r mod a) / c)·d. */
interface Rows {
  readonly rows: number;
  readonly count: number;
  readonly along: boolean;
  readonly scale: readonly [a: number, b: number, c: number, d: number];
}
function rowsOf(g: Granularity): Rows | null {
  const { outer, n, inner, size, blocks } = g;
  if (g.per === 'tensor') return { rows: 1, count: n, along: false, scale: [1, 0, 1, 0] };
  if (g.per === 'axis')
    return inner > 1
      ? { rows: outer * n, count: inner, along: false, scale: [n, 0, 1, 1] }
      : { rows: outer, count: n, along: true, scale: [1, 0, 1, 0] };
  if (inner > 1) return { rows: outer * n, count: inner, along: true, scale: [n, blocks, size, inner] };
  return n % size === 0 ? { rows: outer * blocks, count: size, along: false, scale: [1, 1, 1, 1] } : null;
}

/** run(x, scale, zero, y, rows, count, a, b, c, d, row): `row`: the number of the first. */
const linearModule: WasmEmitter<Spec> = {
  name: 'linear',
  build: (s, caps) =>
    kernelModule('linear', i32s(11), caps, (f, m) => {
      const p = params(f, 'x', 'scale', 'zero', 'y', 'rows', 'count', 'a', 'b', 'c', 'd', 'row');
      const c = context(f, m, caps.fma);
      const { row } = p;
      const at = f.local('i32');
      const sp = f.local('i32');
      const zp = f.local('i32');
      const sv = f.local('v128');
      const zv = f.local('v128');
      const scales = (read: (p: Local<'i32'>, d: DType) => V): void => {
        f.set(sv, read(sp, 'float32'));
        if (s.zero) f.set(zv, read(zp, s.zero));
      };
      const value = (x: V): V => {
        if (!s.quantize) return f32x4.mul(f32x4.convS(s.zero ? i32x4.sub(x, zv) : x), sv);
        const [least, most] = RANGE[s.to]!;
        const bound = 131072;
        const r = i32x4.truncSatS(f32x4.pmin(f32x4.pmax(f32x4.nearest(f32x4.div(x, sv)), -bound), bound));
        return i32x4.mins(i32x4.maxs(s.zero ? i32x4.add(r, zv) : r, v128.const32(least)), v128.const32(most));
      };
      const move = (n: number): void => {
        f.inc(p.x, n * widthOf(s.from));
        f.inc(p.y, n * widthOf(s.to));
        if (s.along) {
          f.inc(sp, 4 * n);
          if (s.zero) f.inc(zp, n * widthOf(s.zero));
        }
      };
      f.times(p.rows, () => {
        f.set(at, i32.mul(i32.add(i32.mul(i32.divu(row, p.a), p.b), i32.divu(i32.remu(row, p.a), p.c)), p.d));
        f.set(sp, i32.add(p.scale, i32.shl(at, 2)));
        if (s.zero) f.set(zp, i32.add(p.zero, i32.mul(at, widthOf(s.zero))));
        const one = (q: Local<'i32'>, d: DType): V => loadSplat(c, d, q);
        const four = (q: Local<'i32'>, d: DType): V => load4(c, d, q);
        if (!s.along) scales(one);
        f.times(i32.shru(p.count, 2), () => {
          if (s.along) scales(four);
          f.emit(store4(c, s.to, p.y, value(load4(c, s.from, p.x))));
          move(4);
        });
        f.times(i32.and(p.count, 3), () => {
          if (s.along) scales(one);
          f.emit(store1(c, s.to, p.y, value(loadSplat(c, s.from, p.x))));
          move(1);
        });
        f.inc(row, 1);
      });
    }),
};
const rowsOfCall = (call: Call): Rows | null => {
  const [x, scale, zero] = call.inputs;
  return rowsOf(granularity(x!.shape, scale!.shape, zero?.shape ?? null, call.attrs));
};
const linear = (name: string, quantize: boolean, suits: (call: Call) => boolean): WasmKernel => ({
  name,
  accepts: (call) => suits(call) && call.inputs[1]!.dtype === 'float32' && rowsOfCall(call) !== null,
  launch: (call): WasmLaunch<Spec> => {
    const r = rowsOfCall(call)!;
    const zero = call.inputs[2] ?? null;
    const ref: Ref | 0 = zero ? { input: 2 } : 0;
    const from = widthOf(call.inputs[0]!.dtype);
    const to = widthOf(call.outputs[0]!.dtype);
    return {
      emit: linearModule,
      spec: {
        from: call.inputs[0]!.dtype,
        to: call.outputs[0]!.dtype,
        zero: zero?.dtype ?? null,
        along: r.along,
        quantize,
      },
      args: [
        { input: 0 },
        { input: 1 },
        ref,
        { output: 0 },
        sizeOf(call.inputs[0]!.shape) ? r.rows : 0,
        r.count,
        ...r.scale,
        0,
      ],
      split:
        r.rows > 1
          ? {
              items: 4,
              grain: 1,
              moves: [
                [0, r.count * from],
                [3, r.count * to],
                [10, 1],
              ],
              cost: r.count,
            }
          : r.along
            ? null
            : {
                items: 5,
                grain: 16,
                moves: [
                  [0, from],
                  [3, to],
                ],
                cost: 1,
              },
    };
  },
});
export const quantizeLinear = linear(
  'quantize.linear',
  true,
  (call) => call.inputs[0]!.dtype === 'float32' && !call.attrs.precision && RANGE[call.outputs[0]!.dtype] !== undefined,
);
export const dequantizeLinear = linear(
  'dequantize.linear',
  false,
  (call) =>
    [...Object.keys(RANGE), 'int32'].includes(call.inputs[0]!.dtype) &&
    ['float32', 'float16', 'bfloat16'].includes(call.outputs[0]!.dtype),
);

/** run(x, y, scale, zero, n): scale and zero point with which uint8 covers the values and zero, then the values. */
const dynamicModule: WasmEmitter<null> = {
  name: 'dynamic_quantize',
  build: (_, caps) =>
    kernelModule('dynamic_quantize', i32s(5), caps, (f, m) => {
      const { x, y, scale, zero, n } = params(f, 'x', 'y', 'scale', 'zero', 'n');
      const c = context(f, m, caps.fma);
      const low = f.local('v128');
      const high = f.local('v128');
      const at = f.let(x);
      const v = f.local('v128');
      const take = (): void => {
        f.set(low, f32x4.pmin(low, v));
        f.set(high, f32x4.pmax(high, v));
      };
      f.times(i32.shru(n, 2), () => {
        f.set(v, v128.load(at));
        take();
        f.inc(at, 16);
      });
      f.times(i32.and(n, 3), () => {
        f.set(v, v128.load32splat(at));
        take();
        f.inc(at, 4);
      });
      const turned = (a: V, by: readonly number[]): V => v128.shuf32(a, a, [...by]);
      for (const by of [
        [2, 3, 0, 1],
        [1, 0, 3, 2],
      ]) {
        f.set(low, f32x4.pmin(low, turned(low, by)));
        f.set(high, f32x4.pmax(high, turned(high, by)));
      }
      const step = f.let(f32.div(f32.sub(f32x4.lane(high, 0), f32x4.lane(low, 0)), 255));
      f.iff(f32.eq(step, 0), () => f.set(step, f32.const(1)));
      const point = f.let(
        i32.truncSatS(f32.nearest(f32.min(255, f32.max(0, f32.div(f32.neg(f32x4.lane(low, 0)), step))))),
      );
      f.emit(f32.store(scale, step), i32.store8(zero, point));
      const s = f.let(f32x4.splat(step));
      const z = f.let(i32x4.splat(point));
      const value = (a: V): V =>
        i32x4.mins(
          i32x4.maxs(i32x4.add(i32x4.truncSatS(f32x4.nearest(f32x4.div(a, s))), z), v128.zero()),
          v128.const32(255),
        );
      f.times(i32.shru(n, 2), () => {
        f.emit(store4(c, 'uint8', y, value(v128.load(x))));
        f.inc(x, 16);
        f.inc(y, 4);
      });
      f.times(i32.and(n, 3), () => {
        f.emit(store1(c, 'uint8', y, value(v128.load32splat(x))));
        f.inc(x, 4);
        f.inc(y, 1);
      });
    }),
};
export const dynamicQuantizeLinear: WasmKernel = {
  name: 'quantize.dynamic',
  accepts: (call) => call.outputs[1] != null && call.outputs[2] != null,
  launch: (call) => ({
    emit: dynamicModule,
    spec: null,
    args: [{ input: 0 }, { output: 0 }, { output: 1 }, { output: 2 }, sizeOf(call.inputs[0]!.shape)],
  }),
};
