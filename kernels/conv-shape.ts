import { fail } from '../src/core/errors.ts';
import { type Window, type WindowAttrs, windowOf } from './conv-window.ts';

/**
 * Window and output shape of a convolution of x [N, C, ...] with w [M, C / group, ...kernel]. @throws
 * attribute_invalid, shape_mismatch
 */
export function convShape(
  x: readonly number[],
  w: readonly number[],
  bias: readonly number[] | null,
  attrs: WindowAttrs,
): { window: Window; shape: readonly number[] } {
  if (w.length !== x.length)
    fail('shape_mismatch', `weights of shape [${w}] do not fit an input of shape [${x}]: the ranks differ`);
  const window = windowOf(attrs, x, w.slice(2));
  const m = w[0]!;
  if (w[1]! * window.group !== x[1]! || m % window.group !== 0)
    fail('shape_mismatch', `weights of shape [${w}] in ${window.group} groups do not fit an input of ${x[1]} channels`);
  if (bias !== null && (bias.length !== 1 || bias[0] !== m))
    fail('shape_mismatch', `the bias has shape [${bias}], not [${m}]`);
  return { window, shape: [x[0]!, m, ...window.output] };
}
