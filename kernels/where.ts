import { isInt64 } from '../src/core/dtype.ts';
import type { Fact } from '../src/core/graph.ts';
import { fail } from '../src/core/errors.ts';
import { bigints, numbers, writer } from '../src/core/numbers.ts';
import { sizeOf, type Tensor, zeros } from '../src/core/tensor.ts';
import { ALL, defineOp, float, NUMERIC, type Op } from './define.ts';
import { x } from './expr.ts';
import { noHints, spread } from './elementwise.ts';
import { broadcast, broadcastStrides, eachOffset } from './shapes.ts';

const isWhole = (d: string): boolean => !/^(u?int[24]|float4e2m1)$/.test(d);

/** https://onnx.ai/onnx/operators/onnx__Where.html */
const where: Op = defineOp({
  op: 'Where',
  since: [9, 16],
  inputs: ['condition: B', 'X: T', 'Y: T'],
  outputs: ['output: T'],
  types: { B: ['bool'], T: ALL.filter(isWhole) },
  attrs: {},
  infer: (call) => [{ dtype: call.fact(1).dtype, shape: broadcast(...[0, 1, 2].map((i) => call.fact(i).shape)) }],
  map: ([c, a, b]) => x.select(c!, a!, b!),
  reference: (call) => {
    const [c, a, b] = [call.tensor(0), call.tensor(1), call.tensor(2)];
    const shape = broadcast(c.shape, a.shape, b.shape);
    const out = zeros(a.dtype, shape);
    const to = out.data as unknown[];
    const parts = a.dtype.startsWith('complex') ? 2 : 1;
    const given = spread(c.data as Uint8Array, c.shape, shape);
    const copy = (t: Tensor, when: boolean): void =>
      eachOffset(shape, broadcastStrides(t.shape, shape), (i, o) => {
        if ((given[i] !== 0) === when) for (let p = 0; p < parts; p++) to[i * parts + p] = t.data[o * parts + p];
      });
    copy(a, true);
    copy(b, false);
    return [out];
  },
});

const scalar = (fact: Fact | null, what: string): void => {
  if (fact && sizeOf(fact.shape) !== 1)
    fail('shape_mismatch', `${what} must be one number, not of shape [${fact.shape}]`);
};

/** https://onnx.ai/onnx/operators/onnx__Clip.html. The attributes are how opsets below 11 give the bounds. */
const clip: Op = defineOp({
  op: 'Clip',
  since: [1, 6, 11, 12, 13],
  inputs: ['input: T', 'min: T?', 'max: T?'],
  outputs: ['output: T'],
  types: { T: NUMERIC },
  attrs: { min: float(), max: float() },
  normalize: noHints,
  infer: (call) => {
    scalar(call.inputs[1] ?? null, 'min');
    scalar(call.inputs[2] ?? null, 'max');
    return [{ dtype: call.fact(0).dtype, shape: call.fact(0).shape }];
  },
  map: ([v, low, high], attrs) => {
    const min = low ?? (attrs.min === undefined ? null : x.like(attrs.min, v!));
    const max = high ?? (attrs.max === undefined ? null : x.like(attrs.max, v!));
    const above = min ? x.max(v!, min) : v!;
    return max ? x.min(above, max) : above;
  },
  reference: (call) => {
    const t = call.tensor(0);
    const [low, high] = [call.optional(1), call.optional(2)];
    const out = zeros(t.dtype, t.shape);
    if (isInt64(t.dtype)) {
      const [from, min, max] = [bigints(t), low && bigints(low)[0]!, high && bigints(high)[0]!];
      for (let i = 0; i < from.length; i++) {
        const above = min !== null && from[i]! < min ? min : from[i]!;
        (out.data as BigInt64Array)[i] = max !== null && above > max ? max : above;
      }
      return [out];
    }
    const [from, min, max] = [
      numbers(t),
      low ? numbers(low)[0]! : (call.attrs.min ?? -Infinity),
      high ? numbers(high)[0]! : (call.attrs.max ?? Infinity),
    ];
    const write = writer(out);
    for (let i = 0; i < from.length; i++) write(i, Math.min(Math.max(from[i]!, min), max));
    return [out];
  },
});

/** Choosing elements and bounding them. */
export const choices: readonly Op[] = [where, clip];
