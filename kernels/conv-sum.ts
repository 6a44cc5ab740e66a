/** The sum of two pointwise convolutions as one: what the optimizer makes of a residual block's projection. */
import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { defineOp, FLOAT, type Op, ints, required } from './define.ts';

export interface ConvSumShape {
  readonly images: number;
  readonly filters: number;
  readonly channels: readonly [number, number];
  readonly out: readonly [number, number];
  readonly size: readonly [number, number];
}
/**
 * Images [n, c, h, w] of the first kind, of which every position is taken, and of the second, taken at `strides`.
 * @throws shape_mismatch
 */
export function convSumShape(
  x: readonly number[],
  z: readonly number[],
  w: readonly number[],
  strides: readonly number[],
): ConvSumShape {
  const [images, c0, h, wide] = x as [number, number, number, number];
  const [, c1, h1, w1] = z as [number, number, number, number];
  if (
    x.length !== 4 ||
    z.length !== 4 ||
    z[0] !== images ||
    w.length !== 2 ||
    w[1] !== c0 + c1 ||
    Math.ceil(h1 / strides[0]!) !== h ||
    Math.ceil(w1 / strides[1]!) !== wide
  )
    fail('shape_mismatch', `images [${x}] and [${z}] at strides ${strides} do not meet under weights [${w}]`);
  return { images, filters: w[0]!, channels: [c0, c1], out: [h, wide], size: [h1, w1] };
}

/** y = W [x; z at strides] + b, channels of x before those of z. Not an operator of ONNX: a rewrite makes it. */
export const convSum: Op = defineOp({
  op: 'sardonyx.ConvSum',
  since: [1],
  inputs: ['X: T', 'Z: T', 'W: T', 'B: T?'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: { strides: required(ints()) },
  epilogue: true,
  infer: (call) => {
    const s = convSumShape(call.fact(0).shape, call.fact(1).shape, call.fact(2).shape, call.attrs.strides);
    return [{ dtype: call.fact(0).dtype, shape: [s.images, s.filters, ...s.out] }];
  },
  reference: (call) => {
    const [x, z, w, b] = [call.tensor(0), call.tensor(1), call.tensor(2), call.optional(3)];
    const {
      images,
      filters,
      channels: [c0, c1],
      out: [h, wide],
      size: [h1, w1],
    } = convSumShape(x.shape, z.shape, w.shape, call.attrs.strides);
    const [xs, zs, ws, bs] = [numbers(x), numbers(z), numbers(w), b && numbers(b)];
    const [sy, sx] = call.attrs.strides as [number, number];
    const y = new Float64Array(images * filters * h * wide);
    let at = 0;
    for (let n = 0; n < images; n++)
      for (let m = 0; m < filters; m++)
        for (let i = 0; i < h; i++)
          for (let j = 0; j < wide; j++) {
            let sum = bs ? bs[m]! : 0;
            for (let c = 0; c < c0; c++) sum += ws[m * (c0 + c1) + c]! * xs[((n * c0 + c) * h + i) * wide + j]!;
            for (let c = 0; c < c1; c++)
              sum += ws[m * (c0 + c1) + c0 + c]! * zs[((n * c1 + c) * h1 + i * sy) * w1 + j * sx]!;
            y[at++] = sum;
          }
    return [fromNumbers(x.dtype, [images, filters, h, wide], y)];
  },
});
