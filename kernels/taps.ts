/** Which input elements an interpolated output element is made of, one axis at a time: Resize is separable. */
import { fail } from '../src/core/errors.ts';

/** The attributes of Resize that its taps depend on. */
export interface Interpolation {
  readonly mode: string;
  readonly nearest_mode: string;
  readonly coordinate_transformation_mode: string;
  readonly cubic_coeff_a: number;
  readonly antialias: number;
  readonly exclude_outside: number;
}
/**
 * One axis of a Resize. `scale` is the ratio that was asked for, which `output / input` only rounds; `roi` is
 * normalised.
 */
export interface ResizedAxis {
  readonly input: number;
  readonly output: number;
  readonly scale: number;
  readonly roi: readonly [start: number, end: number];
}

/**
 * Output o is the sum over t of `weight[o * taps + t]` times input element `index[o * taps + t]`; every index is in [0,
 * input). Where `outside` is given and `outside[o]` is 1, it is the extrapolation value instead.
 */
export interface AxisTaps {
  readonly taps: number;
  readonly index: Int32Array;
  readonly weight: Float32Array;
  readonly outside: Uint8Array | null;
}

/**
 * Values of the attributes that `axisTaps` understands. `simple` is what opsets below 11 mean: up when shrinking, down
 * otherwise.
 */
export const NEAREST_MODES: readonly string[] = ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil', 'simple'];
export const COORDINATE_MODES: readonly string[] = [
  'half_pixel',
  'half_pixel_symmetric',
  'pytorch_half_pixel',
  'align_corners',
  'asymmetric',
  'tf_half_pixel_for_nn',
  'tf_crop_and_resize',
];

/**
 * The position in the input that output element `o` stands for, rounded to float32 so that ratios such as 1/3 meet
 * whole numbers.
 */
export function sourceOf(mode: string, { input, output, scale, roi }: ResizedAxis, o: number): number {
  const width = scale * input;
  const halfPixel = (): number => Math.fround((o + 0.5) / scale) - 0.5;
  switch (mode) {
    case 'half_pixel':
      return Math.fround(halfPixel());
    case 'half_pixel_symmetric':
      return Math.fround((input / 2) * (1 - output / width) + halfPixel());
    case 'pytorch_half_pixel':
      return output > 1 ? Math.fround(halfPixel()) : 0;
    case 'align_corners':
      return width === 1 ? 0 : Math.fround((o * (input - 1)) / (width - 1));
    case 'asymmetric':
      return Math.fround(o / scale);
    case 'tf_half_pixel_for_nn':
      return Math.fround((o + 0.5) / scale);
    case 'tf_crop_and_resize':
      return Math.fround(
        output > 1
          ? (input - 1) * (roi[0] + (o * (roi[1] - roi[0])) / (output - 1))
          : 0.5 * (roi[0] + roi[1]) * (input - 1),
      );
    default:
      return fail(
        'attribute_invalid',
        `coordinate_transformation_mode ${JSON.stringify(mode)} must be one of ${COORDINATE_MODES.join(', ')}`,
      );
  }
}

function nearest(mode: string, x: number, scale: number): number {
  switch (mode) {
    case 'round_prefer_floor':
      return Math.ceil(x - 0.5);
    case 'round_prefer_ceil':
      return Math.floor(x + 0.5);
    case 'floor':
      return Math.floor(x);
    case 'ceil':
      return Math.ceil(x);
    case 'simple':
      return scale < 1 ? Math.ceil(x) : Math.floor(x);
    default:
      return fail(
        'attribute_invalid',
        `nearest_mode ${JSON.stringify(mode)} must be one of ${NEAREST_MODES.join(', ')}`,
      );
  }
}

/** Keys' cubic convolution kernel: https://ieeexplore.ieee.org/document/1163711, equation 4. */
export function cubicWeight(distance: number, a: number): number {
  const d = Math.abs(distance);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((d - 5) * d + 8) * a * d - 4 * a : 0;
}

/** The taps of one axis. Pure. The edges repeat outwards; `input` must not be 0. @throws attribute_invalid */
export function axisTaps(attrs: Interpolation, axis: ResizedAxis): AxisTaps {
  const { input, output, scale } = axis;
  const stretch = attrs.antialias ? Math.min(1, scale) : 1;
  const support = attrs.mode === 'nearest' ? 0 : (attrs.mode === 'cubic' ? 2 : 1) / stretch;
  const filter =
    attrs.mode === 'cubic'
      ? (d: number) => cubicWeight(d, attrs.cubic_coeff_a)
      : (d: number) => Math.max(0, 1 - Math.abs(d));
  const taps = attrs.mode === 'nearest' ? 1 : Math.ceil(support) * 2;
  const index = new Int32Array(output * taps);
  const weight = new Float32Array(output * taps);
  const outside = attrs.coordinate_transformation_mode === 'tf_crop_and_resize' ? new Uint8Array(output) : null;
  for (let o = 0; o < output; o++) {
    const x = sourceOf(attrs.coordinate_transformation_mode, axis, o);
    if (outside && !(x >= 0 && x <= input - 1)) {
      outside[o] = 1;
      continue;
    }
    const first =
      attrs.mode === 'nearest' ? nearest(attrs.nearest_mode, x, scale) : Math.floor(x) - Math.ceil(support) + 1;
    let sum = 0;
    for (let t = 0; t < taps; t++) {
      const i = first + t;
      const lost = attrs.exclude_outside && taps > 1 && (i < 0 || i >= input);
      const w = taps === 1 ? 1 : lost ? 0 : filter((i - x) * stretch);
      index[o * taps + t] = Math.min(input - 1, Math.max(0, i));
      weight[o * taps + t] = w;
      sum += w;
    }
    if (sum !== 1 && sum !== 0) for (let t = 0; t < taps; t++) weight[o * taps + t]! /= sum;
  }
  return { taps, index, weight, outside };
}
