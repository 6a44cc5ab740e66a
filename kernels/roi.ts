import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import {
  defineOp,
  FLOAT,
  float,
  type InferCall,
  int,
  ints,
  type Op,
  type OutFact,
  type RefCall,
  required,
  string,
} from './define.ts';
import { sized } from './elements.ts';
import { rankOf } from './shapes.ts';

interface AlignAttrs {
  readonly mode: string;
  readonly coordinate_transformation_mode: string;
  readonly output_height: number;
  readonly output_width: number;
  readonly sampling_ratio: number;
  readonly spatial_scale: number;
}
/** Most sampling points in one bin: an adaptive count comes from the data. */
const MAX_POINTS = 2 ** 20;

function alignShape({ attrs, fact }: InferCall<AlignAttrs>): OutFact[] {
  const [x, rois, batch] = [fact(0), fact(1), fact(2)];
  rankOf(x, 'X', 4);
  if (rois.shape.length !== 2 || rois.shape[1] !== 4 || String(batch.shape) !== String([rois.shape[0]])) {
    fail('shape_mismatch', `rois [${rois.shape}] must be [n, 4] and batch_indices [${batch.shape}] [n]`);
  }
  if (attrs.mode !== 'avg' && attrs.mode !== 'max')
    fail('attribute_invalid', `mode ${JSON.stringify(attrs.mode)} must be avg or max`);
  if (!['half_pixel', 'output_half_pixel'].includes(attrs.coordinate_transformation_mode)) {
    fail(
      'attribute_invalid',
      `coordinate_transformation_mode ${JSON.stringify(attrs.coordinate_transformation_mode)} must be half_pixel or output_half_pixel`,
    );
  }
  if (!(attrs.output_height > 0 && attrs.output_width > 0))
    fail('attribute_invalid', `the output is ${attrs.output_height} by ${attrs.output_width}`);
  if (!(attrs.sampling_ratio >= 0 && attrs.sampling_ratio ** 2 <= MAX_POINTS))
    fail('attribute_invalid', `sampling_ratio is ${attrs.sampling_ratio}`);
  return [sized(x.dtype, [rois.shape[0]!, x.shape[1]!, attrs.output_height, attrs.output_width])];
}

/** The corner and weight of a bilinear sample along one axis; null outside the tensor. */
function sample(x: number, n: number): { low: number; high: number; rest: number } | null {
  if (!(x >= -1 && x <= n)) return null;
  const low = Math.min(n - 1, Math.floor(Math.max(0, x)));
  return low === n - 1 ? { low, high: low, rest: 0 } : { low, high: low + 1, rest: Math.max(0, x) - low };
}

function roiAlign(call: RefCall<AlignAttrs>): Tensor[] {
  const { attrs } = call;
  const t = call.tensor(0);
  const [batch = 0, channels = 0, height = 0, width = 0] = t.shape;
  const values = numbers(t);
  const rois = numbers(call.tensor(1));
  const images = numbers(call.tensor(2));
  const half = attrs.coordinate_transformation_mode === 'half_pixel';
  const [rows, columns] = [attrs.output_height, attrs.output_width];
  const shape = [images.length, channels, rows, columns];
  const out = new Float64Array(sizeOf(shape));
  for (let r = 0; r < (out.length > 0 ? images.length : 0); r++) {
    const image = images[r]!;
    if (!(image >= 0 && image < batch))
      fail('value_invalid', `batch_indices[${r}] is ${image}; the batch has ${batch}`);
    const [x0, y0, x1, y1] = [0, 1, 2, 3].map((i) => rois[r * 4 + i]! * attrs.spatial_scale - (half ? 0.5 : 0)) as [
      number,
      number,
      number,
      number,
    ];
    const long = (from: number, to: number): number => (half ? to - from : Math.max(1, to - from));
    const [stepY, stepX] = [long(y0, y1) / rows, long(x0, x1) / columns];
    const countY = attrs.sampling_ratio || Math.ceil(stepY);
    const countX = attrs.sampling_ratio || Math.ceil(stepX);
    if (
      !(
        Math.max(countY, 0) * Math.max(countX, 0) <= MAX_POINTS &&
        Math.max(countY * rows, countX * columns) <= 16 * MAX_POINTS
      )
    ) {
      fail('value_invalid', `region ${r} of ${long(x0, x1)} by ${long(y0, y1)} needs too many sampling points`);
    }
    const along = (
      start: number,
      step: number,
      count: number,
      bins: number,
      n: number,
    ): ReturnType<typeof sample>[][] =>
      Array.from({ length: bins }, (_, p) =>
        Array.from({ length: Math.max(0, count) }, (_, i) => sample(start + p * step + ((i + 0.5) * step) / count, n)),
      );
    const ys = along(y0, stepY, countY, rows, height);
    const xs = along(x0, stepX, countX, columns, width);
    for (let c = 0; c < channels; c++) {
      const plane = (image * channels + c) * height * width;
      const at = (y: number, x: number): number => values[plane + y * width + x]!;
      for (let p = 0; p < rows; p++)
        for (let q = 0; q < columns; q++) {
          let sum = 0;
          let top = -Infinity;
          for (const y of ys[p]!)
            for (const x of xs[q]!) {
              if (!y || !x) {
                top = Math.max(top, 0);
                continue;
              }
              const parts = [
                (1 - y.rest) * (1 - x.rest) * at(y.low, x.low),
                (1 - y.rest) * x.rest * at(y.low, x.high),
                y.rest * (1 - x.rest) * at(y.high, x.low),
                y.rest * x.rest * at(y.high, x.high),
              ] as const;
              sum += parts[0] + parts[1] + parts[2] + parts[3];
              top = Math.max(top, ...parts);
            }
          const points = Math.max(1, countY * countX);
          out[((r * channels + c) * rows + p) * columns + q] =
            attrs.mode === 'avg' ? sum / points : top === -Infinity ? 0 : top;
        }
    }
  }
  return [fromNumbers(t.dtype, shape, out)];
}

function maxRoiPool(
  call: RefCall<{ readonly pooled_shape: readonly number[]; readonly spatial_scale: number }>,
): Tensor[] {
  const t = call.tensor(0);
  const [batch = 0, channels = 0, height = 0, width = 0] = t.shape;
  const values = numbers(t);
  const rois = numbers(call.tensor(1));
  const [rows, columns] = call.attrs.pooled_shape as [number, number];
  const count = rois.length / 5;
  const shape = [count, channels, rows, columns];
  const out = new Float64Array(sizeOf(shape));
  for (let r = 0; r < (out.length > 0 ? count : 0); r++) {
    const image = rois[r * 5]!;
    if (!(Number.isInteger(image) && image >= 0 && image < batch))
      fail('value_invalid', `region ${r} is of image ${image}; the batch has ${batch}`);
    const [x0, y0, x1, y1] = [1, 2, 3, 4].map((i) => Math.round(rois[r * 5 + i]! * call.attrs.spatial_scale)) as [
      number,
      number,
      number,
      number,
    ];
    const range = (from: number, to: number, bins: number, p: number, n: number): [number, number] => {
      const size = Math.max(1, to - from + 1) / bins;
      const clamp = (v: number): number => Math.min(n, Math.max(0, v + from));
      return [clamp(Math.floor(p * size)), clamp(Math.ceil((p + 1) * size))];
    };
    for (let p = 0; p < rows; p++)
      for (let q = 0; q < columns; q++) {
        const [top, bottom] = range(y0, y1, rows, p, height);
        const [left, right] = range(x0, x1, columns, q, width);
        for (let c = 0; c < channels; c++) {
          let best = -Infinity;
          for (let y = top; y < bottom; y++)
            for (let x = left; x < right; x++)
              best = Math.max(best, values[((image * channels + c) * height + y) * width + x]!);
          out[((r * channels + c) * rows + p) * columns + q] = best === -Infinity ? 0 : best;
        }
      }
  }
  return [fromNumbers(t.dtype, shape, out)];
}

/** https://onnx.ai/onnx/operators/onnx__RoiAlign.html, https://onnx.ai/onnx/operators/onnx__MaxRoiPool.html */
export const roi: readonly Op[] = [
  defineOp({
    op: 'RoiAlign',
    since: [10, 16, 22],
    inputs: ['X: T', 'rois: T', 'batch_indices: int64'],
    outputs: ['Y: T'],
    types: { T: FLOAT },
    attrs: {
      mode: string('avg'),
      coordinate_transformation_mode: string('half_pixel'),
      output_height: int(1),
      output_width: int(1),
      sampling_ratio: int(0),
      spatial_scale: float(1),
    },
    normalize: ({ attrs, opset }) =>
      opset < 16 ? { attrs: { ...attrs, coordinate_transformation_mode: 'output_half_pixel' } } : {},
    infer: alignShape,
    reference: roiAlign,
  }),
  defineOp({
    op: 'MaxRoiPool',
    since: [1, 22],
    inputs: ['X: T', 'rois: T'],
    outputs: ['Y: T'],
    types: { T: FLOAT },
    attrs: { pooled_shape: required(ints()), spatial_scale: float(1) },
    infer: ({ attrs, fact }) => {
      rankOf(fact(0), 'X', 4);
      if (fact(1).shape.length !== 2 || fact(1).shape[1] !== 5)
        fail('shape_mismatch', `rois has shape [${fact(1).shape}]; it must be [n, 5]`);
      if (attrs.pooled_shape.length !== 2 || attrs.pooled_shape.some((n) => n <= 0))
        fail('attribute_invalid', `pooled_shape [${attrs.pooled_shape}] must be a height and a width`);
      return [sized(fact(0).dtype, [fact(1).shape[0]!, fact(0).shape[1]!, ...attrs.pooled_shape])];
    },
    reference: maxRoiPool,
  }),
];
