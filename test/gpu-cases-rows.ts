/** Cases of the operators that look at whole rows. */
import type { DType } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import type { Case } from './gpu-case.ts';

const REALS: readonly DType[] = ['float32', 'float16', 'bfloat16'];
const over = (make: (dtype: DType) => readonly Case[], dtypes: readonly DType[]): Case[] => dtypes.flatMap(make);
/** Rows that differ from one another. */
const wavy = (dtype: DType, shape: readonly number[], scale = 1): Tensor => fromNumbers(dtype, shape, Array.from({ length: sizeOf(shape) }, (_, i) => Math.round(Math.sin(i * 1.7 + 0.01 * i * i) * 64) / 16 * scale));
const close = { rtol: 2e-5, atol: 2e-6 };
const coarse = (d: DType): { rtol: number; atol: number } => (d === 'float32' ? close : d === 'float16' ? { rtol: 2e-3, atol: 1e-3 } : { rtol: 2e-2, atol: 1e-2 });

const SHAPES: readonly (readonly [readonly number[], number])[] = [[[4], -1], [[1], 0], [[3, 5], -1], [[3, 5], 0], [[2, 3, 8], 1], [[7, 64], -1], [[2, 131], 1], [[2, 300, 3], 1], [[1, 10007], -1]];
const softmaxes = over((d) => SHAPES.filter(([s]) => d !== 'bfloat16' || s.length === 2).map(([shape, axis]): Case => ({ op: 'Softmax', inputs: [wavy(d, shape, 3)], attrs: { axis }, ...coarse(d) })), REALS).concat(
  ...SHAPES.slice(2).map(([shape, axis]): Case => ({ op: 'LogSoftmax', inputs: [wavy('float32', shape, 3)], attrs: { axis }, ...close })),
  { op: 'Softmax', inputs: [fromNumbers('float32', [2, 4], [-Infinity, 1, 2, -Infinity, 1000, 1000, -1000, 0])], ...close },
  { op: 'Softmax', inputs: [wavy('float32', [2, 3, 4])], attrs: { axis: 1, flatten: 1 }, ...close },
);

const norms = over((d): Case[] => [
  ...[[2, 7], [3, 64], [2, 5, 33], [1, 9001], [5, 1]].flatMap((shape): Case[] => {
    const n = shape.at(-1)!;
    const [scale, bias] = [wavy(d, [n], 0.5), wavy(d, [n])];
    return [
      { op: 'LayerNormalization', inputs: [wavy(d, shape), scale, bias], ...coarse(d) }, { op: 'LayerNormalization', inputs: [wavy(d, shape), scale], outputs: 3, ...coarse(d) },
      { op: 'RMSNormalization', inputs: [wavy(d, shape), scale], attrs: { epsilon: 1e-3 }, ...coarse(d) },
    ];
  }),
  { op: 'LayerNormalization', inputs: [wavy(d, [2, 3, 4]), wavy(d, [3, 4]), wavy(d, [3, 4])], attrs: { axis: 1 }, ...coarse(d) }, { op: 'LayerNormalization', inputs: [wavy(d, [2, 3, 4]), wavy(d, [3, 1]), wavy(d, [4])], attrs: { axis: 1 }, ...coarse(d) },
  { op: 'LayerNormalization', inputs: [wavy(d, [4, 4]), wavy(d, [4, 1]), wavy(d, [])], ...coarse(d) }, { op: 'LayerNormalization', inputs: [wavy(d, [2, 5]), wavy('float32', [5])], outputs: 2, ...coarse(d) },
  { op: 'com.microsoft.SkipLayerNormalization', inputs: [wavy(d, [2, 3, 8]), wavy(d, [2, 3, 8], 0.5), wavy(d, [8]), wavy(d, [8]), wavy(d, [8])], outputs: 4, ...coarse(d) },
  { op: 'com.microsoft.SkipLayerNormalization', inputs: [wavy(d, [2, 3, 72]), wavy(d, [3, 72], 0.5), wavy(d, [72]), null, null], attrs: { epsilon: 1e-5 }, ...coarse(d) },
  { op: 'com.microsoft.SkipSimplifiedLayerNormalization', inputs: [wavy(d, [6, 36]), wavy(d, [1, 36], 0.5), wavy(d, [36]), wavy(d, [36])], outputs: 4, ...coarse(d) },
  { op: 'InstanceNormalization', inputs: [wavy(d, [2, 3, 5, 5]), wavy(d, [3]), wavy(d, [3])], ...coarse(d) }, { op: 'InstanceNormalization', inputs: [wavy(d, [2, 4, 4, 40]), wavy(d, [4]), wavy(d, [4])], ...coarse(d) },
  { op: 'GroupNormalization', inputs: [wavy(d, [2, 6, 4, 3]), wavy(d, [6]), wavy(d, [6])], attrs: { num_groups: 3 }, ...coarse(d) },
  { op: 'GroupNormalization', inputs: [wavy(d, [2, 6, 5]), wavy(d, [2]), wavy(d, [2])], attrs: { num_groups: 2, scale_per_group: 1 }, ...coarse(d) },
], ['float32', 'float16'])
  .concat({ op: 'com.microsoft.SkipLayerNormalization', inputs: [wavy('float32', [2, 7]), wavy('float32', [2, 7], 0.5), wavy('float32', [7]), wavy('float32', [7])], outputs: 4, ...close });

export const ROWS: Readonly<Record<string, readonly Case[]>> = { softmaxes, norms };
