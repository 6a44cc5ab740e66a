/**
 * Conversions that expressions do not know: to and from 8-bit floats, 4-bit floats and integers below a byte; and
 * changes of name.
 */
import { BITS, bytesOf, type DType, isFloat, isInt64, isSubByte } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { f64, type F64, i32, i64, type Local } from './asm.ts';
import { widthOf } from './elem.ts';
import { context } from './float.ts';
import { i32s, params } from './gemm-core.ts';
import { kernelModule } from './module.ts';
import { copyLaunch } from './move.ts';
import { bitsOfNumber, isNumber, loadAt, loadNumber, type Narrowing, storeNumber, storePacked } from './number.ts';

interface CastSpec {
  readonly from: DType;
  readonly to: DType;
  readonly how: Narrowing;
}
/** run(src, dst, n) */
const castEmitter: WasmEmitter<CastSpec> = {
  name: 'cast',
  build: ({ from, to, how }, caps) =>
    kernelModule('cast', i32s(3), caps, (f, m) => {
      const c = context(f, m, caps.fma);
      const { src, dst, n } = params(f, 'src', 'dst', 'n');
      /** Wide integers go to narrower ones by their low bits. */
      const low = (p: Local<'i32'>): F64 => f64.convS(i32.wrap(i64.load(p)));
      const wide = isInt64(from) && !isFloat(to) && to !== 'bool';
      if (isSubByte(to)) {
        storePacked(c, to, dst, n, (i) => {
          if (isSubByte(from)) return bitsOfNumber(c, to, loadAt(c, from, src, i), how, isFloat(from));
          const v = f.let(wide ? low(src) : loadNumber(c, from, src));
          f.inc(src, widthOf(from));
          return bitsOfNumber(c, to, v, how, isFloat(from));
        });
        return;
      }
      const i = f.let(i32.const(0));
      f.times(n, () => {
        storeNumber(
          c,
          to,
          dst,
          isSubByte(from) ? loadAt(c, from, src, i) : wide ? low(src) : loadNumber(c, from, src),
          how,
        );
        f.inc(dst, widthOf(to));
        if (isSubByte(from)) f.inc(i, 1);
        else f.inc(src, widthOf(from));
      });
    }),
};

/** The same bytes. */
const copyAll = (call: Call): WasmLaunch[] => {
  const { dtype, shape } = call.inputs[0]!;
  return copyLaunch({ dims: [bytesOf(dtype, sizeOf(shape))], from: [1], to: [1] }, 1, { input: 0 }, { output: 0 });
};
interface CastAttrs {
  readonly saturate: number;
  readonly round_mode: string;
  readonly clamp_nibbles: number;
}
/** Cast and CastLike of what no expression converts. */
export const castKernel: WasmKernel<CastAttrs> = {
  name: 'cast.each',
  accepts: (call) => isNumber(call.inputs[0]!.dtype) && isNumber(call.outputs[0]!.dtype),
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const to = call.outputs[0]!.dtype;
    const { saturate, round_mode, clamp_nibbles } = call.attrs;
    if (sizeOf(shape) === 0) return [];
    if (dtype === to) return copyAll(call);
    return {
      emit: castEmitter,
      spec: { from: dtype, to, how: { saturate: saturate !== 0, round: round_mode, clamp: clamp_nibbles !== 0 } },
      args: [{ input: 0 }, { output: 0 }, sizeOf(shape)],
      split:
        isSubByte(dtype) || isSubByte(to)
          ? null
          : {
              items: 2,
              grain: 16,
              moves: [
                [0, widthOf(dtype)],
                [1, widthOf(to)],
              ],
              cost: 3,
            },
    };
  },
};
/** Output 0 is input 0's bytes, of another type. */
export const copyKernel: WasmKernel = {
  name: 'copy.bytes',
  accepts: (call) => BITS[call.inputs[0]!.dtype] > 0,
  launch: copyAll,
};
