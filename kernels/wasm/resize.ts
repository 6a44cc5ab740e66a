/**
 * Resize, an axis after the other, by tables of taps made of the constant input that gives the sizes (pack
 * "resize.taps").
 */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { kindOf } from '../expr.ts';
import { type Given, givenCall } from '../given.ts';
import { axisTaps, type Interpolation, type ResizedAxis } from '../taps.ts';
import { type F32, f32x4, type Fn, i32, i32x4, type I32, type Local, type V, v128 } from './asm.ts';
import { load4, loadSplat, store1, store4, widthOf } from './elem.ts';
import { type Ctx, context, madd } from './float.ts';
import { kernelModule } from './module.ts';
import { copyBytes, copyLaunch, copyOne, isWhole, knows } from './move.ts';
import { span } from './rows.ts';

const i32s = (n: number): 'i32'[] => new Array<'i32'>(n).fill('i32');

/** Ranges to which results of narrow types are rounded and clamped. */
const RANGE: Readonly<Partial<Record<DType, readonly [number, number] | null>>> = {
  float32: null,
  float16: null,
  bfloat16: null,
  uint8: [0, 255],
  int8: [-128, 127],
  uint16: [0, 65535],
  int16: [-32768, 32767],
};
/** Four numbers of a narrow type as floats. */
const widened = (d: DType, v: V): V =>
  kindOf(d) === 'f32' ? v : kindOf(d) === 'u32' ? f32x4.convU(v) : f32x4.convS(v);
function narrowed(d: DType, v: V): V {
  const range = RANGE[d];
  if (!range) return v;
  const r = f32x4.pmin(f32x4.pmax(f32x4.nearest(v), range[0]), range[1]);
  return kindOf(d) === 'u32' ? i32x4.truncSatU(r) : i32x4.truncSatS(r);
}

/** `move`: each element is another, of this many bytes. */
interface PassSpec {
  readonly from: DType;
  readonly to: DType;
  readonly move: number | null;
}
/**
 * `run(dst, src, table, outer, input, output, inner, taps, table offset, value)`: [outer, input, inner] becomes [outer,
 * output, inner].
 */
const passEmitter: WasmEmitter<PassSpec> = {
  name: 'resize',
  build: (spec, caps) =>
    kernelModule('resize', [...i32s(9), 'f32'], caps, (f, m) => {
      const line = m.fn('resize line', [...i32s(6), 'f32'], [], false, (g) =>
        spec.move === null ? weighLine(context(g, m, caps.fma), spec) : moveLine(g, spec.move, copyBytes(m)),
      );
      const [dst, src, table, outer, input, output, inner, taps, offset] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) =>
        f.arg('i32', i),
      ) as Local<'i32'>[];
      f.inc(table!, offset!);
      const [from, to] = spec.move === null ? [widthOf(spec.from), widthOf(spec.to)] : [spec.move, spec.move];
      f.times(outer!, () => {
        f.call(line, dst!, src!, table!, output!, inner!, taps!, f.arg('f32', 9));
        f.inc(dst!, i32.mul(i32.mul(output!, inner!), to));
        f.inc(src!, i32.mul(i32.mul(input!, inner!), from));
      });
    }),
};
/** (dst, src, table, output, inner, taps, value) */
function moveLine(f: Fn, width: number, copy: Fn): void {
  const [dst, src, table, output, inner] = [0, 1, 2, 3, 4].map((i) => f.arg('i32', i)) as [
    Local<'i32'>,
    Local<'i32'>,
    Local<'i32'>,
    Local<'i32'>,
    Local<'i32'>,
  ];
  const bytes = f.let(i32.mul(inner, width));
  const each = (move: (from: I32) => void): void =>
    f.times(output, () => {
      move(i32.add(src, i32.mul(i32.load(table), bytes)));
      f.inc(dst, bytes);
      f.inc(table, 8);
    });
  const single = width <= 8 && (width & (width - 1)) === 0;
  f.iff(
    single ? i32.eq(inner, 1) : i32.const(0),
    () => {
      if (single) each((from) => f.emit(copyOne(width, dst, from)));
    },
    () => each((from) => f.call(copy, dst, from, bytes)),
  );
}
function weighLine(c: Ctx, { from, to }: PassSpec): void {
  const { f } = c;
  const [dst, src, table, output, inner, taps] = [0, 1, 2, 3, 4, 5].map((i) => f.arg('i32', i)) as [
    Local<'i32'>,
    Local<'i32'>,
    Local<'i32'>,
    Local<'i32'>,
    Local<'i32'>,
    Local<'i32'>,
  ];
  const value: F32 = f.arg('f32', 6);
  const rowBytes = f.let(i32.mul(inner, widthOf(from)));
  const column = f.local('i32');
  const t = f.local('i32');
  const total = f.local('v128');
  const sum = (load: typeof load4): V => {
    f.set(total, v128.zero());
    f.set(t, table);
    f.times(taps, () => {
      f.set(
        total,
        madd(
          c,
          widened(from, load(c, from, i32.add(column, i32.mul(i32.load(t), rowBytes)))),
          v128.load32splat(t, 4),
          total,
        ),
      );
      f.inc(t, 8);
    });
    return total;
  };
  const store = (four: boolean, v: V): void => f.emit((four ? store4 : store1)(c, to, dst, narrowed(to, v)));
  f.times(output, () => {
    f.set(column, src);
    const step = (k: number): void => {
      f.inc(column, k * widthOf(from));
      f.inc(dst, k * widthOf(to));
    };
    f.iff(
      i32.eq(i32.load(table), -1),
      () =>
        span(
          f,
          inner,
          () => {
            store(true, f32x4.splat(value));
            step(4);
          },
          () => {
            store(false, f32x4.splat(value));
            step(1);
          },
        ),
      () =>
        span(
          f,
          inner,
          () => {
            store(true, sum(load4));
            step(4);
          },
          () => {
            store(false, sum(loadSplat));
            step(1);
          },
        ),
    );
    f.inc(table, i32.shl(taps, 3));
  });
}

type ResizeCall = Call<Interpolation & { readonly extrapolation_value: number }>;
/** `axesOf` says what happens to each axis: null, nothing. */
export const resizeKernel = (
  axesOf: (given: Given) => readonly (ResizedAxis | null)[],
): WasmKernel<Interpolation & { readonly extrapolation_value: number }> => {
  const moves = (call: ResizeCall): boolean =>
    call.attrs.mode === 'nearest' && call.attrs.coordinate_transformation_mode !== 'tf_crop_and_resize';
  const source = (call: ResizeCall): number => (call.inputs[3] && sizeOf(call.inputs[3].shape) > 0 ? 3 : 2);
  /** From the last axis to the first: [outer, input, inner] of each pass, and elements after it. */
  const passes = (call: ResizeCall) => {
    const dims = [...call.inputs[0]!.shape];
    const axes = axesOf(givenCall(call));
    return axes
      .map((axis, d) => ({ axis, d }))
      .filter((p): p is { axis: ResizedAxis; d: number } => p.axis !== null)
      .reverse()
      .map(({ axis, d }) => {
        const outer = sizeOf(dims.slice(0, d));
        dims[d] = axis.output;
        return { axis, outer, inner: sizeOf(dims.slice(d + 1)), size: sizeOf(dims) };
      });
  };
  const stageWidth = (call: ResizeCall): number => (moves(call) ? widthOf(call.inputs[0]!.dtype) : 4);
  return {
    name: 'resize.axes',
    accepts: (call) => {
      const { dtype } = call.inputs[0]!;
      return (
        knows(call, [1, 2, 3]) &&
        call.inputs[source(call)]?.constant !== undefined &&
        (moves(call) ? isWhole(widthOf(dtype)) : dtype in RANGE)
      );
    },
    scratch: (call) =>
      sizeOf(call.outputs[0]!.shape) === 0
        ? []
        : passes(call)
            .slice(0, -1)
            .map((p) => p.size * stageWidth(call)),
    launch: (call) => {
      if (sizeOf(call.outputs[0]!.shape) === 0) return [];
      const { dtype, shape } = call.inputs[0]!;
      const all = passes(call);
      const width = widthOf(dtype);
      if (all.length === 0)
        return copyLaunch(
          { dims: shape, from: stridesOf(shape), to: stridesOf(shape) },
          width,
          { input: 0 },
          { output: 0 },
        );
      const {
        mode,
        nearest_mode,
        coordinate_transformation_mode,
        cubic_coeff_a,
        antialias,
        exclude_outside,
        extrapolation_value,
      } = call.attrs;
      const attrs: Interpolation = {
        mode,
        nearest_mode,
        coordinate_transformation_mode,
        cubic_coeff_a,
        antialias,
        exclude_outside,
      };
      const axes = all.map((p) => p.axis);
      const taps = axes.map((axis) => axisTaps(attrs, { ...axis, output: Math.min(1, axis.output) }).taps);
      const bytes = axes.map((axis, i) => axis.output * taps[i]! * 8);
      const table: Ref = {
        input: source(call),
        pack: { name: 'resize.taps', args: [JSON.stringify({ attrs, axes })], bytes: bytes.reduce((a, b) => a + b, 0) },
      };
      return all.map((p, i): WasmLaunch => {
        const [first, last] = [i === 0, i === all.length - 1];
        return {
          emit: passEmitter,
          spec: { from: first ? dtype : 'float32', to: last ? dtype : 'float32', move: moves(call) ? width : null },
          args: [
            last ? { output: 0 } : { scratch: i },
            first ? { input: 0 } : { scratch: i - 1 },
            table,
            p.outer,
            p.axis.input,
            p.axis.output,
            p.inner,
            taps[i]!,
            bytes.slice(0, i).reduce((a, b) => a + b, 0),
            { f32: extrapolation_value },
          ],
          split: {
            items: 3,
            grain: 1,
            cost: p.axis.output * p.inner * (moves(call) ? 0.5 : 0.4 * (taps[i]! + 1)),
            moves: [
              [0, p.axis.output * p.inner * (moves(call) || last ? width : 4)],
              [1, p.axis.input * p.inner * (moves(call) || first ? width : 4)],
            ],
          },
        };
      });
    },
  };
};
