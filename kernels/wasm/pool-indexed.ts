/** MaxPool one element at a time: for 8-bit types, and where the place of each maximum is wanted. */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { windowOf } from '../conv-window.ts';
import type { WasmEmitter, WasmKernel } from '../define.ts';
import { f32, i32, type I32, i64, type Local } from './asm.ts';
import { loadScalar, storeScalar, widthOf } from './elem.ts';
import { context } from './float.ts';
import { i32s, locals } from './gemm-core.ts';
import { kernelModule } from './module.ts';

interface Spec {
  readonly dtype: DType;
  readonly rank: number;
  readonly indices: boolean;
  /** Indices count the first spatial dim fastest. */
  readonly columns: boolean;
}

/**
 * run(x, y, indices, planes, size, then per dim: input, output, kernel, stride, dilation, pad, index stride): strides
 * of an index within a plane.
 */
const module: WasmEmitter<Spec> = {
  name: 'pool_indexed',
  build: (s, caps) =>
    kernelModule('pool_indexed', i32s(5 + 7 * s.rank), caps, (f, m) => {
      const c = context(f, m, caps.fma);
      const bytes = widthOf(s.dtype);
      const float = s.dtype === 'float32' || s.dtype === 'float16' || s.dtype === 'bfloat16';
      const [x, y, indices, planes, size] = [0, 1, 2, 3, 4].map((i) => f.arg('i32', i)) as [
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
      ];
      const dim = (d: number): Local<'i32'>[] => Array.from({ length: 7 }, (_, i) => f.arg('i32', 5 + 7 * d + i));
      const out = locals(f, 'i32', s.rank);
      const at = locals(f, 'i32', s.rank);
      const flat = locals(f, 'i32', s.rank + 1);
      const index = locals(f, 'i32', s.rank + 1);
      const tap = locals(f, 'i32', s.rank);
      const found = f.local('i32');
      const plane = f.local('i32');
      const type = float ? 'f32' : 'i32';
      const best = f.local(type);
      const value = f.local(type);
      const taps = (d: number): void => {
        if (d === s.rank) {
          f.set(value, loadScalar(c, s.dtype, i32.add(x, i32.mul(flat[d]!, bytes))) as typeof value);
          const isNaN = (v: typeof value): I32 => f32.ne(v as Local<'f32'>, v as Local<'f32'>);
          const better: I32 = float
            ? i32.or(f32.gt(value as Local<'f32'>, best as Local<'f32'>), i32.and(isNaN(value), i32.eqz(isNaN(best))))
            : i32.gts(value as Local<'i32'>, best as Local<'i32'>);
          f.iff(i32.or(i32.lts(found, 0), better), () => {
            f.set(best, value);
            f.set(found, index[d]!);
          });
          return;
        }
        const [input, , kernel, stride, dilation, pad, step] = dim(d) as Local<'i32'>[];
        f.set(at[d]!, i32.sub(i32.mul(out[d]!, stride!), pad!));
        f.set(tap[d]!, kernel!);
        f.whileLoop(
          () => tap[d]!,
          () => {
            f.iff(i32.ltu(at[d]!, input!), () => {
              // negative positions are large unsigned ones
              f.set(flat[d + 1]!, i32.add(i32.mul(flat[d]!, input!), at[d]!));
              f.set(index[d + 1]!, i32.add(index[d]!, i32.mul(at[d]!, step!)));
              taps(d + 1);
            });
            f.inc(at[d]!, dilation!);
            f.inc(tap[d]!, -1);
          },
        );
      };
      const outputs = (d: number): void => {
        if (d < s.rank) {
          f.set(out[d]!, i32.const(0));
          f.whileLoop(
            () => i32.ltu(out[d]!, dim(d)[1]!),
            () => {
              outputs(d + 1);
              f.inc(out[d]!, 1);
            },
          );
          return;
        }
        f.set(found, i32.const(-1));
        if (float) f.set(best as Local<'f32'>, f32.const(-Infinity));
        else f.set(best as Local<'i32'>, i32.const(s.dtype === 'int8' ? -128 : 0));
        taps(0);
        f.emit(storeScalar(c, s.dtype, y, best));
        f.inc(y, bytes);
        if (s.indices) {
          f.emit(i64.store(indices, i64.select(i32.lts(found, 0), -1, i64.extendU(i32.add(plane, found)))));
          f.inc(indices, 8);
        }
      };
      f.times(planes, () => {
        outputs(0);
        f.inc(x, i32.mul(size, bytes));
        f.inc(plane, size);
      });
    }),
};

export const poolIndexed: WasmKernel = {
  name: 'pool.max_indexed',
  launch: (call) => {
    const { shape, dtype } = call.inputs[0]!;
    const spatial = shape.slice(2);
    const rank = spatial.length;
    const w = windowOf(call.attrs, shape, call.attrs.kernel_shape);
    const columns = !!call.attrs.storage_order;
    const step = (d: number): number => sizeOf(columns ? spatial.slice(0, d) : spatial.slice(d + 1));
    return {
      emit: module,
      spec: { dtype, rank, indices: !!call.outputs[1] },
      args: [
        { input: 0 },
        { output: 0 },
        call.outputs[1] ? { output: 1 } : 0,
        shape[0]! * shape[1]!,
        sizeOf(spatial),
        ...spatial.flatMap((n, d) => [
          n,
          w.output[d]!,
          w.kernel[d]!,
          w.strides[d]!,
          w.dilations[d]!,
          w.pads[d]!,
          step(d),
        ]),
      ],
    };
  },
  accepts: (call) => ['float32', 'float16', 'bfloat16', 'int8', 'uint8'].includes(call.inputs[0]!.dtype),
};
