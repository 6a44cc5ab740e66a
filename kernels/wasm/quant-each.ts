/** Quantised operators element by element, for the types and granularities that no fast kernel takes. */
import { type DType, isSubByte } from '../../src/core/dtype.ts';
import { MINIFLOAT } from '../../src/core/floats.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, WasmKernel } from '../define.ts';
import { granularity, type Granularity } from '../quantize.ts';
import { RANGE } from '../quantize-round.ts';
import { type F64, f64, i32, type I32, type Local } from './asm.ts';
import { at, loopEmitter, type Loops } from './loops.ts';
import { bitsOfNumber, elementAt, isNumber, loadNumber, storeNumber, storePacked } from './number.ts';

interface EachSpec {
  readonly x: DType;
  readonly scale: DType;
  readonly zero: DType | null;
  readonly y: DType;
  readonly per: Granularity['per'];
  readonly quantize: boolean;
  /** The type that quotients are rounded to. */
  readonly divided: DType;
  readonly saturate: boolean;
}
const NAMES = ['x', 'scale', 'zero', 'y', 'count', 'n', 'inner', 'size', 'blocks', 'held'] as const;
/** run(…NAMES): `held` is scratch for one number. */
const eachEmitter = loopEmitter(
  'quantize each',
  () => NAMES,
  (k: Loops<(typeof NAMES)[number]>, s: EachSpec) => {
    const { c, p } = k;
    const scaleOf = (e: I32): I32 => {
      if (s.per === 'tensor') return i32.const(0);
      const row = k.int(i32.divu(e, p.inner));
      const i = k.int(i32.remu(row, p.n));
      return s.per === 'axis'
        ? i
        : i32.add(i32.mul(at(i32.divu(row, p.n), p.blocks, i32.divu(i, p.size)), p.inner), i32.remu(e, p.inner));
    };
    const rounded = (v: F64): F64 => {
      if (s.divided === 'float64' || s.divided === 'float8e8m0') return v;
      if (s.divided === 'int32') return f64.trunc(v);
      storeNumber(c, s.divided, p.held, v);
      return loadNumber(c, s.divided, p.held);
    };
    const valueOf = (e: Local<'i32'>): Local<'f64'> => {
      const i = k.int(scaleOf(e));
      const scale = k.take(s.scale, p.scale, i);
      const zero = s.zero ? k.take(s.zero, p.zero, i) : null;
      const x = k.take(s.x, p.x, e);
      if (!s.quantize) return k.real(f64.mul(zero ? f64.sub(x, zero) : x, scale));
      const v = k.real(rounded(f64.div(x, scale)));
      const range = RANGE[s.y];
      const moved = (u: F64): F64 => (zero ? f64.add(u, zero) : u);
      return k.real(range ? f64.min(f64.max(moved(f64.nearest(v)), range[0]), range[1]) : moved(v));
    };
    const how = { saturate: s.saturate, round: 'up', clamp: MINIFLOAT[s.y] !== undefined };
    if (isSubByte(s.y)) storePacked(c, s.y, p.y, p.count, (e) => bitsOfNumber(c, s.y, valueOf(e), how, true));
    else k.each(p.count, (e) => storeNumber(c, s.y, elementAt(s.y, p.y, e), valueOf(e), how));
  },
);
const each = (name: string, quantize: boolean, dividedIn: (call: Call) => DType): WasmKernel<any> => ({
  name,
  accepts: (call) => [...call.inputs, call.outputs[0]!].every((t) => t == null || isNumber(t.dtype)),
  scratch: () => [16],
  launch: (call) => {
    const [x, scale, zero] = [call.inputs[0]!, call.inputs[1]!, call.inputs[2] ?? null];
    const y = call.outputs[0]!;
    const g = granularity(x.shape, scale.shape, zero?.shape ?? null, call.attrs);
    return {
      emit: eachEmitter,
      spec: {
        x: x.dtype,
        scale: scale.dtype,
        zero: zero?.dtype ?? null,
        y: y.dtype,
        per: g.per,
        quantize,
        divided: dividedIn(call),
        saturate: !quantize || call.attrs.saturate !== 0,
      },
      args: [
        { input: 0 },
        { input: 1 },
        zero ? { input: 2 } : 0,
        { output: 0 },
        sizeOf(x.shape),
        g.n,
        g.inner,
        g.size,
        g.blocks,
        { scratch: 0 },
      ],
    };
  },
});
/** `dividedIn`: the type in which x / scale is computed. */
export const quantizeEach = (dividedIn: (call: Call) => DType): WasmKernel<any> =>
  each('quantize.each', true, dividedIn);
export const dequantizeEach: WasmKernel<any> = each('dequantize.each', false, () => 'float64');
