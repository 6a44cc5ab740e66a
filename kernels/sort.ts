import { isInt64 } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { bigints, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { defineOp, int, NUMERIC, type Op, type OutFact, type RefCall } from './define.ts';
import { cellsOf, copyRun, fromCells, newCells, sized } from './elements.ts';
import { type Given, givenRun, infers, int64s, scalarOf, without } from './given.ts';
import { axisOf } from './shapes.ts';

function topShapes(g: Given): OutFact[] {
  const from = g.shape(0);
  const axis = axisOf(g.attrs.axis, from.length);
  const k = scalarOf(g, 1, 'k');
  if (!(k >= 0 && k <= from[axis]!))
    fail('value_invalid', `k is ${k}; axis ${axis} of [${from}] has ${from[axis]} elements`);
  const shape = from.map((d, i) => (i === axis ? k : d));
  return [sized(g.dtype(0), shape), sized('int64', shape)];
}

/**
 * The k largest (or smallest) along an axis, in order; of equals the one with the lower index first. NaN counts as the
 * largest.
 */
function topK(call: RefCall<{ readonly axis: number; readonly largest: number; readonly sorted: number }>): Tensor[] {
  const t = call.tensor(0);
  const { dtype, shape } = topShapes(givenRun(call))[0]!;
  const axis = axisOf(call.attrs.axis, t.shape.length);
  const [n, k] = [t.shape[axis]!, shape[axis]!];
  const inner = sizeOf(t.shape.slice(axis + 1));
  const list: ArrayLike<number | bigint> = isInt64(dtype) ? bigints(t) : numbers(t);
  const rank = (v: number | bigint): number => (v !== v ? 1 : 0);
  const sign = call.attrs.largest ? -1 : 1;
  const from = cellsOf(t);
  const values = newCells(dtype, sizeOf(shape));
  const indices = new BigInt64Array(sizeOf(shape));
  const rows = sizeOf(shape) === 0 ? 0 : sizeOf(t.shape.slice(0, axis)) * inner;
  const order = new Uint32Array(rows > 0 ? n : 0);
  for (let r = 0; r < rows; r++) {
    const start = Math.floor(r / inner) * n * inner + (r % inner);
    const compare = (a: number, b: number): number => {
      const [x, y] = [list[start + a * inner]!, list[start + b * inner]!];
      return (x < y ? -sign : x > y ? sign : sign * (rank(x) - rank(y))) || a - b;
    };
    for (let i = 0; i < n; i++) order[i] = i;
    order.sort(compare);
    for (let i = 0; i < k; i++) {
      const to = (Math.floor(r / inner) * k + i) * inner + (r % inner);
      copyRun(from, start + order[i]! * inner, values, to, 1);
      indices[to] = BigInt(order[i]!);
    }
  }
  return [fromCells(dtype, shape, values), { dtype: 'int64', shape, data: indices }];
}

/** A box by its corners, the smaller first, and its area. */
interface Box {
  readonly y0: number;
  readonly x0: number;
  readonly y1: number;
  readonly x1: number;
  readonly area: number;
}
function boxAt(b: ArrayLike<number>, i: number, centre: boolean): Box {
  const [p, q, r, s] = [b[i]!, b[i + 1]!, b[i + 2]!, b[i + 3]!];
  const [y0, x0, y1, x1] = centre
    ? [q - s / 2, p - r / 2, q + s / 2, p + r / 2]
    : [Math.min(p, r), Math.min(q, s), Math.max(p, r), Math.max(q, s)];
  return { y0, x0, y1, x1, area: (y1 - y0) * (x1 - x0) };
}
function overlap(a: Box, b: Box): number {
  const h = Math.min(a.y1, b.y1) - Math.max(a.y0, b.y0);
  const w = Math.min(a.x1, b.x1) - Math.max(a.x0, b.x0);
  if (h <= 0 || w <= 0 || a.area <= 0 || b.area <= 0) return 0;
  return (h * w) / (a.area + b.area - h * w);
}

/**
 * Greedy suppression in every batch and class: the best box stays, the boxes that overlap it by more than the threshold
 * go.
 */
function suppress(call: RefCall<{ readonly center_point_box: number }>): Tensor[] {
  const [boxes, scores] = [call.tensor(0), call.tensor(1)];
  const [batch = 0, count = 0, four = 0] = boxes.shape;
  const classes = scores.shape[1] ?? 0;
  if (
    boxes.shape.length !== 3 ||
    four !== 4 ||
    scores.shape.length !== 3 ||
    scores.shape[0] !== batch ||
    scores.shape[2] !== count
  ) {
    fail(
      'shape_mismatch',
      `boxes [${boxes.shape}] must be [batches, boxes, 4] and scores [${scores.shape}] [batches, classes, boxes]`,
    );
  }
  const setting = (i: number, fallback: number): number => {
    const t = call.optional(i);
    return t && sizeOf(t.shape) > 0 ? numbers(t)[0]! : fallback;
  };
  const [most, limit, least] = [setting(2, 0), setting(3, 0), setting(4, -Infinity)];
  if (!(limit >= 0 && limit <= 1)) fail('value_invalid', `iou_threshold is ${limit}; it must be from 0 to 1`);
  const [b, s] = [numbers(boxes), numbers(scores)];
  const found: number[] = [];
  for (let n = 0; n < (most > 0 && count > 0 ? batch : 0); n++) {
    const all = Array.from({ length: count }, (_, i) =>
      boxAt(b, (n * count + i) * 4, call.attrs.center_point_box === 1),
    );
    for (let c = 0; c < classes; c++) {
      const score = (i: number): number => s[(n * classes + c) * count + i]!;
      const candidates = all
        .map((_, i) => i)
        .filter((i) => score(i) > least)
        .sort((i, j) => score(j) - score(i) || i - j);
      const kept: Box[] = [];
      for (const i of candidates) {
        if (kept.length >= most) break;
        if (kept.some((k) => overlap(k, all[i]!) > limit)) continue;
        kept.push(all[i]!);
        found.push(n, c, i);
      }
    }
  }
  return [{ ...int64s(found), shape: [found.length / 3, 3] } as Tensor];
}

/** https://onnx.ai/onnx/operators/onnx__TopK.html, https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html */
export const sort: readonly Op[] = [
  defineOp({
    op: 'TopK',
    since: [1, 10, 11, 24],
    inputs: ['X: T', 'K: int64'],
    outputs: ['Values: T', 'Indices: int64'],
    types: { T: NUMERIC },
    attrs: { axis: int(-1), largest: int(1), sorted: int(1) },
    normalize: ({ attrs, inputs, opset, constant }) =>
      opset < 10
        ? {
            attrs: without(attrs, 'k'),
            inputs: [
              inputs[0]!,
              constant(
                int64s([typeof attrs.k === 'number' ? attrs.k : fail('attribute_invalid', 'attribute k is required')]),
              ),
            ],
          }
        : {},
    infer: infers(topShapes),
    reference: topK,
  }),
  defineOp({
    op: 'NonMaxSuppression',
    since: [10, 11],
    outputs: ['selected_indices: int64'],
    types: {},
    attrs: { center_point_box: int(0) },
    dynamic: true,
    inputs: [
      'boxes: float32',
      'scores: float32',
      'max_output_boxes_per_class: int64?',
      'iou_threshold: float32?',
      'score_threshold: float32?',
    ],
    reference: suppress,
  }),
];
