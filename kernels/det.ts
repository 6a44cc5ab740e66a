import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, stridesOf, type Tensor } from '../src/core/tensor.ts';
import { defineOp, FLOAT, ints, NUMERIC, type Op, type OutFact, type RefCall } from './define.ts';
import { sized } from './elements.ts';
import { type Given, givenRun, infers, listOf } from './given.ts';

/** Determinant of an n by n matrix, by Gaussian elimination with row pivots. Overwrites it. */
function determinant(m: Float64Array, n: number): number {
  let det = 1;
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let r = k + 1; r < n; r++) if (Math.abs(m[r * n + k]!) > Math.abs(m[pivot * n + k]!)) pivot = r;
    const top = m[pivot * n + k]!;
    if (top === 0) return 0;
    if (pivot !== k) {
      det = -det;
      for (let c = 0; c < n; c++) [m[k * n + c], m[pivot * n + c]] = [m[pivot * n + c]!, m[k * n + c]!];
    }
    det *= top;
    for (let r = k + 1; r < n; r++) {
      const factor = m[r * n + k]! / top;
      for (let c = k + 1; c < n; c++) m[r * n + c]! -= factor * m[k * n + c]!;
    }
  }
  return det;
}

/** How the blocks of a Col2Im lie in its image. */
export interface Blocks {
  readonly channels: number;
  readonly image: readonly number[];
  readonly block: readonly number[];
  /** How many there are along each axis. */
  readonly blocks: readonly number[];
  readonly dilations: readonly number[];
  readonly begins: readonly number[];
  readonly strides: readonly number[];
  readonly out: OutFact;
}

/** How the columns of a Col2Im lie in its image. @throws shape_mismatch, attribute_invalid */
export function blocksOf(g: Given): Blocks {
  const from = g.shape(0);
  const image = listOf(g, 1, 'image_shape')!;
  const block = listOf(g, 2, 'block_shape')!;
  const rank = image.length;
  if (from.length !== 3 || rank === 0 || block.length !== rank) {
    fail(
      'shape_mismatch',
      `input [${from}] must be [N, C * block, L]; image_shape [${image}] and block_shape [${block}] must have a number for each axis`,
    );
  }
  const given = g.attrs as {
    readonly dilations?: readonly number[];
    readonly strides?: readonly number[];
    readonly pads?: readonly number[];
  };
  const {
    dilations = block.map(() => 1),
    strides = block.map(() => 1),
    pads = [...block, ...block].map(() => 0),
  } = given;
  if (dilations.length !== rank || strides.length !== rank || pads.length !== 2 * rank) {
    fail(
      'attribute_invalid',
      `dilations [${dilations}], strides [${strides}] and pads [${pads}] do not fit ${rank} axes`,
    );
  }
  if ([...block, ...image, ...dilations, ...strides].some((n) => n <= 0)) {
    fail(
      'value_invalid',
      `image_shape [${image}], block_shape [${block}], dilations [${dilations}] and strides [${strides}] must be above 0`,
    );
  }
  const blocks = image.map(
    (n, i) => Math.floor((n + pads[i]! + pads[i + rank]! - dilations[i]! * (block[i]! - 1) - 1) / strides[i]!) + 1,
  );
  if (from[1]! % sizeOf(block) !== 0 || from[2] !== sizeOf(blocks) || blocks.some((n) => n < 0)) {
    fail(
      'shape_mismatch',
      `columns [${from}] are not those of image [${image}] in blocks [${block}]: there would be [${blocks}] of them`,
    );
  }
  const channels = from[1]! / sizeOf(block);
  return {
    channels,
    image,
    block,
    blocks,
    dilations,
    begins: pads.slice(0, rank),
    strides,
    out: sized(g.dtype(0), [from[0]!, channels, ...image]),
  };
}

function col2im(call: RefCall): Tensor[] {
  const {
    channels,
    image,
    block,
    blocks,
    dilations,
    begins,
    strides,
    out: { dtype, shape },
  } = blocksOf(givenRun(call));
  const values = numbers(call.tensor(0));
  const out = new Float64Array(sizeOf(shape));
  if (out.length === 0 || values.length === 0) return [fromNumbers(dtype, shape, out)];
  const [cells, columns, plane] = [sizeOf(block), sizeOf(blocks), sizeOf(image)];
  const [blockSteps, columnSteps, imageSteps] = [stridesOf(block), stridesOf(blocks), stridesOf(image)];
  for (let cell = 0; cell < cells; cell++)
    for (let column = 0; column < columns; column++) {
      let offset = 0;
      for (let d = 0; d < image.length && offset >= 0; d++) {
        const at =
          (Math.floor(column / columnSteps[d]!) % blocks[d]!) * strides[d]! +
          (Math.floor(cell / blockSteps[d]!) % block[d]!) * dilations[d]! -
          begins[d]!;
        offset = at >= 0 && at < image[d]! ? offset + at * imageSteps[d]! : -1;
      }
      if (offset >= 0)
        for (let n = 0; n < shape[0]! * channels; n++)
          out[n * plane + offset]! += values[(n * cells + cell) * columns + column]!;
    }
  return [fromNumbers(dtype, shape, out)];
}

/** https://onnx.ai/onnx/operators/onnx__Det.html, https://onnx.ai/onnx/operators/onnx__Col2Im.html */
export const det: readonly Op[] = [
  defineOp({
    op: 'Det',
    since: [11, 22],
    inputs: ['X: T'],
    outputs: ['Y: T'],
    types: { T: FLOAT },
    attrs: {},
    infer: (call) => {
      const { dtype, shape } = call.fact(0);
      if (shape.length < 2 || shape.at(-1) !== shape.at(-2))
        fail('shape_mismatch', `Det needs square matrices, not [${shape}]`);
      return [sized(dtype, shape.slice(0, -2))];
    },
    reference: (call) => {
      const t = call.tensor(0);
      const n = t.shape.at(-1)!;
      const values = Float64Array.from(numbers(t));
      const shape = t.shape.slice(0, -2);
      return [
        fromNumbers(
          t.dtype,
          shape,
          Float64Array.from({ length: sizeOf(shape) }, (_, i) =>
            determinant(values.subarray(i * n * n, (i + 1) * n * n), n),
          ),
        ),
      ];
    },
  }),
  defineOp({
    op: 'Col2Im',
    since: [18],
    inputs: ['input: T', 'image_shape: int64', 'block_shape: int64'],
    outputs: ['output: T'],
    types: { T: [...NUMERIC, 'bool'] },
    attrs: { dilations: ints(), pads: ints(), strides: ints() },
    infer: infers((g) => [blocksOf(g).out]),
    reference: col2im,
  }),
];
