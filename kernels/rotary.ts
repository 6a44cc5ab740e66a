import type { Fact } from '../src/core/graph.ts';
import { fromNumbers, integers, numbers } from '../src/core/numbers.ts';
import {
  defineOp,
  FLOAT,
  float,
  INDEX,
  type InferCall,
  int,
  type NormalizeCall,
  type Normalized,
  type Op,
  type RefCall,
} from './define.ts';
import { positionIn, rotaryShape, rotate } from './rotary-shape.ts';
const attrs = {
  interleaved: int(0),
  num_heads: int(0),
  rotary_embedding_dim: int(0),
  scale: float(1),
  is_packed_batching: int(0),
};
const infer = (call: InferCall): [{ dtype: Fact['dtype']; shape: readonly number[] }] => {
  rotaryShape([call.fact(0), call.fact(1), call.fact(2), call.inputs[3]], call.attrs);
  return [{ dtype: call.fact(0).dtype, shape: call.fact(0).shape }];
};
const reference = (call: RefCall) => {
  const t = call.tensor(0);
  const s = rotaryShape(
    [0, 1, 2, 3].map((i) => call.optional(i)),
    call.attrs,
  );
  const cos = numbers(call.tensor(1));
  const sin = numbers(call.tensor(2));
  const ids = call.optional(3) === null ? null : integers(call.tensor(3));
  const x = new Float64Array(numbers(t));
  const rows = call.tensor(1).shape[0]!;
  const half = s.turned / 2;
  for (let b = 0; b < s.batch; b++)
    for (let i = 0; i < s.steps; i++) {
      const angle =
        (ids === null ? b * s.steps + i : positionIn(s.perPosition ? ids[b * s.steps + i]! : ids[0]! + i, rows)) * half;
      for (let h = 0; h < s.heads; h++)
        rotate(
          x,
          (s.headsFirst ? (b * s.heads + h) * s.steps + i : (b * s.steps + i) * s.heads + h) * s.size,
          s.turned,
          cos,
          sin,
          angle,
          call.attrs.interleaved !== 0,
        );
    }
  const scale = call.attrs.scale;
  return [fromNumbers(t.dtype, t.shape, scale === 1 ? x : x.map((v) => v * scale))];
};

/**
 * com.microsoft's order of inputs is X, position_ids, cos_cache, sin_cache; a single position id is that of the first
 * step.
 */
const reorder = ({ attrs: a, inputs: [x, ids, cos, sin] }: NormalizeCall): Normalized => ({
  op: 'RotaryEmbedding',
  attrs: a,
  inputs: [x ?? null, cos ?? null, sin ?? null, ids ?? null],
});

/**
 * https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html, and com.microsoft's form of it, which becomes the same.
 */
export const rotary: readonly Op[] = [
  defineOp({
    op: 'RotaryEmbedding',
    since: [23],
    inputs: ['X: T', 'cos_cache: T', 'sin_cache: T', 'position_ids: M?'],
    outputs: ['Y: T'],
    types: { T: FLOAT, M: INDEX },
    attrs,
    infer,
    reference,
  }),
  defineOp({
    op: 'com.microsoft.RotaryEmbedding',
    since: [1],
    inputs: ['X: T', 'cos_cache: T', 'sin_cache: T', 'position_ids: M?'],
    outputs: ['Y: T'],
    types: { T: FLOAT, M: INDEX },
    attrs,
    normalize: reorder,
    infer,
    reference,
  }),
];
