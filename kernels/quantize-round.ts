/** Integers of limited range, scales and zero points: what all quantised operators share. */
import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';

/** Least and largest value of the integer types that hold quantised values. */
export const RANGE: Readonly<Partial<Record<DType, readonly [least: number, largest: number]>>> = {
  int2: [-2, 1],
  uint2: [0, 3],
  int4: [-8, 7],
  uint4: [0, 15],
  int8: [-128, 127],
  uint8: [0, 255],
  int16: [-32768, 32767],
  uint16: [0, 65535],
  int32: [-(2 ** 31), 2 ** 31 - 1],
};

/** Nearest integer, ties to even. */
export function roundEven(x: number): number {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

/** round(values) + zero, saturated to the range of `dtype`. Scaling has been done by the caller. */
export function saturated(dtype: DType, shape: readonly number[], values: Float64Array, zero: number): Tensor {
  const [least, largest] = RANGE[dtype]!;
  for (let i = 0; i < values.length; i++) values[i] = Math.min(largest, Math.max(least, roundEven(values[i]!) + zero));
  return fromNumbers(dtype, shape, values);
}

/** Refuses a scale or zero point that is not one number. */
export function single(shape: readonly number[], what: string): void {
  if (sizeOf(shape) !== 1) fail('shape_mismatch', `${what} has shape [${shape}]; it must be a single number`);
}
/** Refuses a scale or zero point that is neither one number nor one per channel. */
export function singleOrPer(shape: readonly number[], count: number, what: string): void {
  if (sizeOf(shape) !== 1 && String(shape) !== String([count]))
    fail('shape_mismatch', `${what} has shape [${shape}]; it must be a single number or have ${count} of them`);
}

/**
 * Scale and zero point with which uint8 covers the values and zero, computed in float32 as the operator's function body
 * does.
 */
export function dynamicRange(x: ArrayLike<number>): { scale: number; zero: number } {
  let low = 0;
  let high = 0;
  for (let i = 0; i < x.length; i++) {
    low = Math.min(low, x[i]!);
    high = Math.max(high, x[i]!);
  }
  const scale = Math.fround(Math.fround(high - low) / 255) || 1; // all zeros: any scale will do
  return { scale, zero: roundEven(Math.min(255, Math.max(0, Math.fround(-low / scale)))) };
}
