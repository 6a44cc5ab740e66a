import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, stridesOf } from '../src/core/tensor.ts';
import { defineOp, FLOAT, int, ints } from './define.ts';
import { addBias } from './conv-direct.ts';
import { convShape } from './conv-shape.ts';
import type { Window, WindowAttrs } from './conv-window.ts';
import { product, reals } from './matmul-product.ts';

type Shape = readonly number[];
/** Window and output shape of a DeformConv. @throws attribute_invalid, shape_mismatch */
export function deformShape(
  x: Shape,
  w: Shape,
  offset: Shape,
  bias: Shape | null,
  mask: Shape | null,
  attrs: WindowAttrs & { readonly offset_group: number },
): { window: Window; shape: Shape } {
  const { window, shape } = convShape(x, w, bias, attrs);
  const g = attrs.offset_group;
  const taps = sizeOf(window.kernel);
  const rank = window.kernel.length;
  if (g < 1 || x[1]! % g !== 0) fail('attribute_invalid', `offset_group ${g} does not divide ${x[1]} channels`);
  const check = (what: string, got: Shape, channels: number): void => {
    const need = [x[0]!, channels, ...window.output];
    if (String(got) !== String(need)) fail('shape_mismatch', `${what} has shape [${got}], not [${need}]`);
  };
  check('offset', offset, g * taps * rank);
  if (mask !== null) check('mask', mask, g * taps);
  return { window, shape };
}

/** The value at a fractional position by linear interpolation; outside is 0. */
function sample(x: ArrayLike<number>, at: number, dims: Shape, strides: Shape, where: Float64Array): number {
  let sum = 0;
  for (let corner = 0; corner < 1 << dims.length; corner++) {
    let weight = 1;
    let offset = at;
    for (let d = 0; d < dims.length && weight !== 0; d++) {
      const low = Math.floor(where[d]!);
      const high = (corner >> d) & 1;
      const i = low + high;
      const part = where[d]! - low;
      weight *= i < 0 || i >= dims[d]! ? 0 : high ? part : 1 - part;
      offset += i * strides[d]!;
    }
    if (weight !== 0) sum += weight * x[offset]!;
  }
  return sum;
}

/** https://onnx.ai/onnx/operators/onnx__DeformConv.html */
export const deformConv = defineOp({
  op: 'DeformConv',
  since: [19, 22],
  inputs: ['X: T', 'W: T', 'offset: T', 'B: T?', 'mask: T?'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: {
    dilations: ints(),
    group: int(1),
    kernel_shape: ints(),
    offset_group: int(1),
    pads: ints(),
    strides: ints(),
  },
  infer: (call) => [
    {
      dtype: call.fact(0).dtype,
      shape: deformShape(
        call.fact(0).shape,
        call.fact(1).shape,
        call.fact(2).shape,
        call.inputs[3]?.shape ?? null,
        call.inputs[4]?.shape ?? null,
        call.attrs,
      ).shape,
    },
  ],
  reference: (call) => {
    const xt = call.tensor(0);
    const wt = call.tensor(1);
    const bias = call.optional(3);
    const maskT = call.optional(4);
    const { window: w, shape } = deformShape(
      xt.shape,
      wt.shape,
      call.tensor(2).shape,
      bias?.shape ?? null,
      maskT?.shape ?? null,
      call.attrs,
    );
    const x = numbers(xt);
    const weights = reals(wt);
    const offset = numbers(call.tensor(2));
    const mask = maskT === null ? null : numbers(maskT);
    const [n, c] = [xt.shape[0]!, xt.shape[1]!];
    const m = shape[1]!;
    const dims = xt.shape.slice(2);
    const rank = dims.length;
    const image = sizeOf(dims);
    const out = sizeOf(w.output);
    const taps = sizeOf(w.kernel);
    const perOffset = c / call.attrs.offset_group;
    const channels = c / w.group;
    const filters = m / w.group;
    const depth = channels * taps;
    const strides = stridesOf(dims);
    const outStrides = stridesOf(w.output);
    const tapStrides = stridesOf(w.kernel);
    const y = new Float64Array(n * m * out);
    const columns = new Float64Array(c * taps * out);
    const where = new Float64Array(rank);
    for (let b = 0; b < n; b++) {
      for (let ch = 0; ch < c; ch++)
        for (let t = 0; t < taps; t++) {
          const group = (b * call.attrs.offset_group + Math.floor(ch / perOffset)) * taps + t;
          for (let p = 0; p < out; p++) {
            for (let d = 0; d < rank; d++) {
              const o = Math.floor(p / outStrides[d]!) % w.output[d]!;
              const k = Math.floor(t / tapStrides[d]!) % w.kernel[d]!;
              where[d] = o * w.strides[d]! - w.pads[d]! + k * w.dilations[d]! + offset[(group * rank + d) * out + p]!;
            }
            columns[(ch * taps + t) * out + p] =
              sample(x, (b * c + ch) * image, dims, strides, where) * (mask === null ? 1 : mask[group * out + p]!);
          }
        }
      for (let g = 0; g < w.group; g++) {
        product(
          { data: y, at: (b * m + g * filters) * out, row: out, col: 1 },
          { data: weights, at: g * filters * depth, row: depth, col: 1 },
          { data: columns, at: g * depth * out, row: out, col: 1 },
          filters,
          out,
          depth,
        );
      }
    }
    return [fromNumbers(xt.dtype, shape, bias === null ? y : addBias(y, numbers(bias), out))];
  },
});
