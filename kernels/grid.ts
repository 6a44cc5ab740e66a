import { isFloat } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, stridesOf, type Tensor } from '../src/core/tensor.ts';
import {
  defineOp,
  FLOAT,
  int,
  type InferCall,
  NUMERIC,
  type Op,
  type OutFact,
  type RefCall,
  string,
} from './define.ts';
import { sized } from './elements.ts';
import { type Given, givenRun, infers, listOf } from './given.ts';
import { saturated } from './resize.ts';
import { cubicWeight } from './taps.ts';

/** GridSample's cubic kernel has a fixed coefficient: PyTorch's. */
export const GRID_CUBIC_A = -0.75;

interface GridAttrs {
  readonly mode: string;
  readonly padding_mode: string;
  readonly align_corners: number;
}

const NAMED: Readonly<Record<string, string>> = { bilinear: 'linear', bicubic: 'cubic' };

function gridShape({ attrs, fact }: InferCall<GridAttrs>): OutFact[] {
  const [{ dtype, shape }, grid] = [fact(0), fact(1)];
  const rank = shape.length - 2;
  if (rank < 1 || grid.shape.length !== shape.length || grid.shape.at(-1) !== rank || grid.shape[0] !== shape[0]) {
    fail(
      'shape_mismatch',
      `grid [${grid.shape}] must be [${shape[0]}, …, ${rank}] with ${shape.length} dims to sample [${shape}]`,
    );
  }
  if (!['linear', 'nearest', 'cubic'].includes(attrs.mode))
    fail('attribute_invalid', `mode ${JSON.stringify(attrs.mode)} must be linear, nearest or cubic`);
  if (!['zeros', 'border', 'reflection'].includes(attrs.padding_mode)) {
    fail('attribute_invalid', `padding_mode ${JSON.stringify(attrs.padding_mode)} must be zeros, border or reflection`);
  }
  return [sized(dtype, [shape[0]!, shape[1]!, ...grid.shape.slice(1, -1)])];
}

/** Mirrors x into [low, high], as often as it takes. */
function mirrored(x: number, low: number, high: number): number {
  const range = high - low;
  if (range <= 0) return low;
  const far = Math.abs(x - low) % (2 * range);
  return low + (far > range ? 2 * range - far : far);
}

/**
 * Taps of one coordinate `g` in [-1, 1] along an axis of `n`: calls `tap(index, weight)` for those inside the tensor.
 */
function tapsOf(attrs: GridAttrs, g: number, n: number, tap: (index: number, weight: number) => void): void {
  const [low, high] = attrs.align_corners ? [0, n - 1] : [-0.5, n - 0.5];
  const raw = attrs.align_corners ? ((g + 1) / 2) * (n - 1) : ((g + 1) * n - 1) / 2;
  const pad = (x: number): number => {
    if (attrs.padding_mode === 'border') return Math.min(n - 1, Math.max(0, x));
    return attrs.padding_mode === 'reflection' ? Math.min(n - 1, Math.max(0, mirrored(x, low, high))) : x;
  };
  // Far away is far away; NaN is outside.
  const x = raw !== raw ? -2 : Math.min(2 ** 31, Math.max(-(2 ** 31), raw));
  const emit = (i: number, w: number): void => {
    if (i >= 0 && i < n && w !== 0) tap(i, w);
  };
  if (attrs.mode === 'nearest') {
    const down = Math.floor(x);
    emit(Math.round(pad(x - down > 0.5 || (x - down === 0.5 && down % 2 !== 0) ? down + 1 : down)), 1);
  } else if (attrs.mode === 'linear') {
    const at = pad(x);
    const first = Math.floor(at);
    emit(first, 1 - (at - first));
    emit(first + 1, at - first);
  } else {
    const first = Math.floor(x) - 1;
    for (let i = first; i < first + 4; i++) emit(Math.round(pad(i)), cubicWeight(i - x, GRID_CUBIC_A));
  }
}

function gridSample(call: RefCall<GridAttrs>): Tensor[] {
  const [t, gridTensor] = [call.tensor(0), call.tensor(1)];
  const [batch = 0, channels = 0, ...dims] = t.shape;
  const outDims = gridTensor.shape.slice(1, -1);
  const rank = dims.length;
  const strides = stridesOf(dims);
  const [plane, points] = [sizeOf(dims), sizeOf(outDims)];
  const values = numbers(t);
  const grid = numbers(gridTensor);
  const shape = [batch, channels, ...outDims];
  const out = new Float64Array(sizeOf(shape));
  if (out.length > 0)
    for (let p = 0; p < batch * points; p++) {
      const b = Math.floor(p / points);
      const to = b * channels * points + (p % points);
      // Coordinates are listed from the innermost dim outwards.
      const visit = (d: number, offset: number, w: number): void => {
        if (d === rank)
          for (let c = 0; c < channels; c++) out[to + c * points]! += w * values[(b * channels + c) * plane + offset]!;
        else
          tapsOf(call.attrs, grid[p * rank + rank - 1 - d]!, dims[d]!, (i, weight) =>
            visit(d + 1, offset + i * strides[d]!, w * weight),
          );
      };
      visit(0, 0, 1);
    }
  return [fromNumbers(t.dtype, shape, isFloat(t.dtype) ? out : saturated(t.dtype, out))];
}

function affineShape(g: Given): OutFact[] {
  const theta = g.shape(0);
  const size = listOf(g, 1, 'size')!;
  const rank = size.length - 2;
  if ((rank !== 2 && rank !== 3) || String(theta) !== String([size[0], rank, rank + 1])) {
    fail(
      'shape_mismatch',
      `theta [${theta}] must be [N, 2, 3] or [N, 3, 4], for a size (here [${size}]) of 4 or 5 numbers`,
    );
  }
  return [sized(g.dtype(0), [size[0]!, ...size.slice(2), rank])];
}

function affineGrid(call: RefCall<{ readonly align_corners: number }>): Tensor[] {
  const { dtype, shape } = affineShape(givenRun(call))[0]!;
  const theta = numbers(call.tensor(0));
  const dims = shape.slice(1, -1);
  const rank = dims.length;
  const points = sizeOf(dims);
  const strides = stridesOf(dims);
  const out = new Float64Array(sizeOf(shape));
  for (let p = 0, n = out.length / rank; p < n; p++) {
    const b = Math.floor(p / points);
    const at = dims
      .map((d, i) => {
        const k = Math.floor(p / strides[i]!) % d;
        return call.attrs.align_corners ? (d > 1 ? (2 * k) / (d - 1) - 1 : -1) : (2 * k + 1) / d - 1;
      })
      .reverse();
    for (let r = 0; r < rank; r++) {
      const row = (b * rank + r) * (rank + 1);
      out[p * rank + r] = at.reduce((sum, x, i) => sum + theta[row + i]! * x, theta[row + rank]!);
    }
  }
  return [fromNumbers(dtype, shape, out)];
}

/** https://onnx.ai/onnx/operators/onnx__GridSample.html, https://onnx.ai/onnx/operators/onnx__AffineGrid.html */
export const grid: readonly Op[] = [
  defineOp({
    op: 'GridSample',
    since: [16, 20, 22],
    inputs: ['X: T', 'grid: G'],
    outputs: ['Y: T'],
    types: { T: [...NUMERIC, 'bool'], G: FLOAT },
    attrs: { mode: string('linear'), padding_mode: string('zeros'), align_corners: int(0) },
    normalize: ({ attrs }) =>
      typeof attrs.mode === 'string' && Object.hasOwn(NAMED, attrs.mode)
        ? { attrs: { ...attrs, mode: NAMED[attrs.mode]! } }
        : {},
    infer: gridShape,
    reference: gridSample,
  }),
  defineOp({
    op: 'AffineGrid',
    since: [20],
    inputs: ['theta: T', 'size: int64'],
    outputs: ['grid: T'],
    types: { T: FLOAT },
    attrs: { align_corners: int(0) },
    infer: infers(affineShape),
    reference: affineGrid,
  }),
];
