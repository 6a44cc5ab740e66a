/** Resize by tables of taps, which are made of the constant input that gives the sizes. */
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { resizeTaps as resizeModule } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel } from '../define.ts';
import { kindOf } from '../expr.ts';
import type { Given } from '../given.ts';
import { axisTaps, type Interpolation, type ResizedAxis } from '../taps.ts';
import { elemOf, perWord, widthOf } from './elem.ts';
import { grid } from './grid.ts';
import { givenCall, knows, unitOf, widest, writeSlot } from './unit.ts';

interface Dim {
  dim: number;
  stride: number;
  readonly axis: ResizedAxis | null;
}
/** The axes, neighbours that stay as they are merged. */
function dimsOf(shape: readonly number[], axes: readonly (ResizedAxis | null)[]): Dim[] {
  const strides = stridesOf(shape);
  const dims: Dim[] = [];
  axes.forEach((axis, k) => {
    const last = dims.at(-1);
    if (axis === null && last && last.axis === null) {
      last.dim *= shape[k]!;
      last.stride = strides[k]!;
    } else dims.push({ dim: axis?.output ?? shape[k]!, stride: strides[k]!, axis });
  });
  return dims;
}

/** Rounds to nearest even and clamps to a narrow integer type. */
const RESULT: Readonly<Partial<Record<Elem, string>>> = {
  f32: 'v',
  f16: 'v',
  bf16: 'v',
  u8: 'u32(clamp(round(v), 0.0, 255.0))',
  u16: 'u32(clamp(round(v), 0.0, 65535.0))',
  i8: 'i32(clamp(round(v), -128.0, 127.0))',
  i16: 'i32(clamp(round(v), -32768.0, 32767.0))',
};

/** `axesOf` says what happens to each axis: null, nothing. */
export const resizeKernel = (
  axesOf: (given: Given) => readonly (ResizedAxis | null)[],
): GpuKernel<Interpolation & { readonly extrapolation_value: number }> => {
  const moves = (call: Call<Interpolation>): boolean =>
    call.attrs.mode === 'nearest' && call.attrs.coordinate_transformation_mode !== 'tf_crop_and_resize';
  const source = (call: Call): number => (call.inputs[3] && sizeOf(call.inputs[3].shape) > 0 ? 3 : 2);
  return {
    name: 'resize.taps',
    accepts: (call) => {
      const { dtype, shape } = call.inputs[0]!;
      if (!knows(call, 1, 2, 3) || call.inputs[source(call)]?.constant === undefined) return false;
      if (moves(call) ? widthOf(dtype) === 0 : kindOf(dtype) === undefined || RESULT[elemOf(dtype)!] === undefined)
        return false;
      return dimsOf(shape, axesOf(givenCall(call))).length <= 8;
    },
    launch: (call) => {
      const { dtype, shape } = call.inputs[0]!;
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
      const dims = dimsOf(shape, axesOf(givenCall(call)));
      const axes = dims.flatMap((d) => (d.axis === null ? [] : [d.axis]));
      const sizes = axes.map((axis) => axisTaps(attrs, { ...axis, output: Math.min(axis.output, 1) }).taps);
      const nearest = moves(call);
      const inner = dims.at(-1)!;
      const { width, times } =
        nearest && inner.axis === null ? widest(widthOf(dtype), [inner.dim]) : { width: widthOf(dtype), times: 1 };
      if (times > 1)
        for (const d of dims)
          if (d === inner) d.dim /= times;
          else d.stride /= times;
      let table = 0;
      const rows = dims
        .map((d) => {
          const taps = d.axis === null ? 0 : sizes[axes.indexOf(d.axis)]!;
          const row = { dim: d.dim, stride: d.stride, taps, table };
          table += taps * (d.axis?.output ?? 0);
          return row;
        })
        .reverse();
      const elem = elemOf(dtype)!;
      const unit = nearest
        ? unitOf(width)
        : { types: { x: elem, y: elem }, text: '', PER: perWord(elem) > 1 ? (4 as const) : (1 as const) };
      const count = sizeOf(call.outputs[0]!.shape) / times;
      const slots = nearest
        ? {
            moved: `${unit.text === '' ? '' : 'alias X = vec4u;\n'}fn moved(v: X) -> Y { return v; }`,
            weighed: 'fn weighed(v: X, w: f32) -> f32 { return 0.0; }',
            result: 'fn result(v: f32) -> Y { return Y(); }',
          }
        : {
            moved: 'fn moved(v: X) -> Y { return Y(); }',
            weighed: 'fn weighed(v: X, w: f32) -> f32 { return f32(v) * w; }',
            result: `fn result(v: f32) -> Y { return ${RESULT[elem]}; }`,
          };
      return {
        module: resizeModule,
        types: unit.types,
        params: { WG: 64, PER: unit.PER, RANK: rows.length, NEAREST: nearest ? 1 : 0 },
        slots: { write: writeSlot(unit), ...slots },
        uniforms: {
          count,
          combinations: sizes.reduce((a, b) => a * b, 1),
          extrapolated: extrapolation_value,
          dims: rows.map((r) => r.dim),
          strides: rows.map((r) => r.stride),
          taps: rows.map((r) => r.taps),
          tables: rows.map((r) => r.table),
        },
        workgroups: grid(Math.ceil(count / unit.PER), 64),
        bind: [
          { input: 0 },
          {
            input: source(call),
            pack: { name: 'resize.taps', args: [JSON.stringify({ attrs, axes })], bytes: Math.max(8, table * 8) },
          },
          { output: 0 },
        ],
      };
    },
  };
};
