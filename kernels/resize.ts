import { type DType, isFloat } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor, tensor } from '../src/core/tensor.ts';
import {
  ALL,
  defineOp,
  FLOAT,
  float,
  int,
  ints,
  type NormalizeCall,
  type Normalized,
  type Op,
  type OutFact,
  type RefCall,
  string,
} from './define.ts';
import { indexed, sized } from './elements.ts';
import { type Given, givenRun, infers, listOf, without } from './given.ts';
import { axesOf } from './shapes.ts';
import { axisTaps, COORDINATE_MODES, type Interpolation, NEAREST_MODES, type ResizedAxis } from './taps.ts';

interface ResizeAttrs extends Interpolation {
  readonly axes: readonly number[] | undefined;
  readonly extrapolation_value: number;
  readonly keep_aspect_ratio_policy: string;
}

const oneOf = (name: string, value: string, of: readonly string[]): void => {
  if (!of.includes(value))
    fail('attribute_invalid', `${name} ${JSON.stringify(value)} must be one of ${of.join(', ')}`);
};

/** What a Resize does to each axis of its input. Reads `roi`, `scales` and `sizes` as far as they count. */
export function resizedAxes(g: Given<ResizeAttrs>): ResizedAxis[] {
  const { attrs } = g;
  oneOf('mode', attrs.mode, ['nearest', 'linear', 'cubic']);
  oneOf('coordinate_transformation_mode', attrs.coordinate_transformation_mode, COORDINATE_MODES);
  oneOf('nearest_mode', attrs.nearest_mode, NEAREST_MODES);
  oneOf('keep_aspect_ratio_policy', attrs.keep_aspect_ratio_policy, ['stretch', 'not_larger', 'not_smaller']);
  if (attrs.antialias && attrs.mode === 'nearest') fail('attribute_invalid', 'antialias needs mode linear or cubic');
  const from = g.shape(0);
  const named = attrs.axes ? axesOf(attrs.axes, from.length) : from.map((_, i) => i);
  const given = (i: number): boolean => g.has(i) && sizeOf(g.shape(i)) > 0;
  if (given(2) === given(3))
    fail('input_missing', `Resize needs one of scales and sizes, not ${given(2) ? 'both' : 'none'}`);
  const list = Array.from(given(3) ? listOf(g, 3, 'sizes')! : scalesOf(g, 2));
  if (list.length !== named.length)
    fail(
      'shape_mismatch',
      `${given(3) ? 'sizes' : 'scales'} has ${list.length} elements for ${named.length} axes of [${from}]`,
    );
  const crops =
    attrs.coordinate_transformation_mode === 'tf_crop_and_resize' && given(1) ? Array.from(numbers(g.value(1))) : null;
  if (crops && crops.length !== 2 * named.length)
    fail('shape_mismatch', `roi has ${crops.length} elements for ${named.length} axes`);
  const roiOf = (i: number): [number, number] => (crops ? [crops[i]!, crops[i + named.length]!] : [0, 1]);
  const axes = from.map((d): ResizedAxis => ({ input: d, output: d, scale: 1, roi: [0, 1] }));
  if (given(3)) {
    const ratios = list.map((n, i) => n / from[named[i]!]!);
    const kept =
      attrs.keep_aspect_ratio_policy === 'stretch'
        ? null
        : attrs.keep_aspect_ratio_policy === 'not_larger'
          ? Math.min(...ratios)
          : Math.max(...ratios);
    named.forEach((axis, i) => {
      const input = from[axis]!;
      axes[axis] = {
        input,
        output: kept === null ? list[i]! : Math.floor(kept * input + 0.5),
        scale: kept ?? ratios[i]!,
        roi: roiOf(i),
      };
    });
  } else {
    named.forEach((axis, i) => {
      const input = from[axis]!;
      const scale = list[i]!;
      if (!(scale > 0)) fail('value_invalid', `scale ${scale} of axis ${axis} must be above 0`);
      const roi = roiOf(i);
      axes[axis] = {
        input,
        output: Math.floor(Math.fround(input * (crops ? roi[1] - roi[0] : 1) * scale)),
        scale,
        roi,
      };
    });
  }
  for (const [i, { input, output }] of axes.entries())
    if (input === 0 && output > 0)
      fail('shape_mismatch', `axis ${i} of [${from}] is empty and cannot grow to ${output}`);
  return axes;
}
function scalesOf(g: Given, i: number): number[] {
  if (g.shape(i).length !== 1) fail('shape_mismatch', `scales has shape [${g.shape(i)}]; it must be a list`);
  return Array.from(numbers(g.value(i)));
}
const resizedShape = (g: Given<ResizeAttrs>): OutFact[] => {
  if (g.attrs.mode !== 'nearest' && (g.dtype(0) === 'string' || g.dtype(0).startsWith('complex')))
    fail('type_mismatch', `${g.dtype(0)} has no ${g.attrs.mode} interpolation`);
  return [
    sized(
      g.dtype(0),
      resizedAxes(g).map((a) => a.output),
    ),
  ];
};

/** Does nothing to its axis. */
export const keeps = (attrs: Interpolation, { input, output, scale, roi }: ResizedAxis): boolean =>
  input === output &&
  scale === 1 &&
  (attrs.coordinate_transformation_mode !== 'tf_crop_and_resize' || (roi[0] === 0 && roi[1] === 1));

function resizeReference(call: RefCall<ResizeAttrs>): Tensor[] {
  const t = call.tensor(0);
  const { attrs } = call;
  const axes = resizedAxes(givenRun(call));
  const { dtype, shape } = resizedShape(givenRun(call))[0]!;
  if (shape.includes(0)) return [indexed(t, shape, [])];
  if (attrs.mode === 'nearest' && attrs.coordinate_transformation_mode !== 'tf_crop_and_resize') {
    return [
      indexed(
        t,
        shape,
        axes.map((a) => (keeps(attrs, a) ? Array.from({ length: a.input }, (_, i) => i) : axisTaps(attrs, a).index)),
      ),
    ];
  }
  let values = numbers(t);
  const dims = [...t.shape];
  axes.forEach((axis, d) => {
    if (keeps(attrs, axis)) return;
    const { taps, index, weight, outside } = axisTaps(attrs, axis);
    const outer = sizeOf(dims.slice(0, d));
    const inner = sizeOf(dims.slice(d + 1));
    const next = new Float64Array(outer * axis.output * inner);
    for (let o = 0; o < outer; o++)
      for (let k = 0; k < axis.output; k++) {
        const to = (o * axis.output + k) * inner;
        if (outside?.[k]) {
          next.fill(attrs.extrapolation_value, to, to + inner);
          continue;
        }
        for (let tap = k * taps; tap < (k + 1) * taps; tap++) {
          const w = weight[tap]!;
          if (w === 0) continue;
          const from = (o * axis.input + index[tap]!) * inner;
          for (let i = 0; i < inner; i++) next[to + i]! += w * values[from + i]!;
        }
      }
    values = next;
    dims[d] = axis.output;
  });
  return [fromNumbers(dtype, shape, isFloat(dtype) ? values : saturated(dtype, values))];
}

/** Rounded to nearest even and clamped to the range of an integer type. */
export function saturated(dtype: DType, values: ArrayLike<number>): Float64Array {
  const bits = dtype === 'bool' ? 1 : Number(/\d+$/.exec(dtype)?.[0] ?? 64);
  const unsigned = dtype.startsWith('u') || dtype === 'bool';
  const [low, high] = unsigned ? [0, 2 ** bits - 1] : [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1];
  return Float64Array.from(values, (v) => {
    const down = Math.floor(v);
    const near = v - down > 0.5 || (v - down === 0.5 && down % 2 !== 0) ? down + 1 : down;
    return Math.min(high, Math.max(low, near));
  });
}

const OLD = { coordinate_transformation_mode: 'asymmetric', nearest_mode: 'simple' };

/** Upsample, and Resize of opset 10, as a Resize: the scales are input 2, and corners are not aligned. */
function upsampled({ attrs, inputs, constant }: NormalizeCall): Normalized {
  const { height_scale: height, width_scale: width } = attrs;
  const listed = Array.isArray(attrs.scales)
    ? (attrs.scales as number[])
    : typeof height === 'number' && typeof width === 'number'
      ? [1, 1, height, width]
      : null;
  const scales = listed ? constant(tensor('float32', [listed.length], Float32Array.from(listed))) : (inputs[1] ?? null);
  const mode = attrs.mode === 'bilinear' ? 'linear' : (attrs.mode ?? 'nearest');
  return {
    op: 'Resize',
    attrs: { ...without(attrs, 'scales', 'height_scale', 'width_scale'), ...OLD, mode },
    inputs: [inputs[0] ?? null, null, scales],
  };
}

/** The axes that a Resize changes; null for the others. */
export const changedAxes = (g: Given): (ResizedAxis | null)[] =>
  resizedAxes(g).map((axis) => (keeps(g.attrs, axis) ? null : axis));

const resize11 = defineOp({
  op: 'Resize',
  since: [10, 11, 13, 18, 19],
  inputs: ['X: T', 'roi: R?', 'scales: float32?', 'sizes: int64?'],
  outputs: ['Y: T'],
  types: { T: ALL, R: FLOAT },
  attrs: {
    mode: string('nearest'),
    nearest_mode: string('round_prefer_floor'),
    coordinate_transformation_mode: string('half_pixel'),
    cubic_coeff_a: float(-0.75),
    antialias: int(0),
    exclude_outside: int(0),
    extrapolation_value: float(0),
    keep_aspect_ratio_policy: string('stretch'),
    axes: ints(),
  },
  normalize: (node) => (node.opset < 11 ? upsampled(node) : {}),
  infer: infers(resizedShape),
  reference: resizeReference,
});

/** https://onnx.ai/onnx/operators/onnx__Resize.html, https://onnx.ai/onnx/operators/onnx__Upsample.html */
export const resize: readonly Op[] = [
  resize11,
  { ...resize11, op: 'Upsample', since: [1, 7, 9, 10], normalize: upsampled },
];
