import type { AttrValue, ValueId } from '../../core/graph.ts';
import type { Pass } from '../rewrite.ts';
import { type Expand, expanding, type Expansion } from './expansion.ts';

type Attrs = Readonly<Record<string, AttrValue>>;
const wide = (e: Expansion, v: ValueId, scale: ValueId, zero: ValueId | null): ValueId =>
  e.put('DequantizeLinear', [v, scale, zero], { axis: 1, block_size: 0, output_dtype: 0 });
const toFirst = (rank: number): number[] => [0, rank - 1, ...Array.from({ length: rank - 2 }, (_, i) => i + 1)];
const toLast = (rank: number): number[] => [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1];

/** An operator on the floats that bytes stand for, and the bytes of what it gives. */
const between =
  (inner: (e: Expansion, x: ValueId, shape: readonly number[], attrs: Attrs) => ValueId | null): Expand =>
  (e, node, graph) => {
    const [x, scale, zero, yScale, yZero = null] = node.inputs as [ValueId, ValueId, ValueId | null, ValueId, ValueId?];
    const { dtype, shape } = graph.fact(x)!;
    // Without a zero point QuantizeLinear would give uint8.
    const to = yZero ?? e.number(dtype, 0);
    const scalar = (v: ValueId): ValueId => (graph.fact(v)?.shape.length ? e.reshape(v, []) : v);
    const y = inner(e, wide(e, x, scalar(scale), zero === null ? null : scalar(zero)), shape, node.attrs as Attrs);
    if (y === null) return null;
    e.put('QuantizeLinear', [y, scalar(yScale), yZero === null ? to : scalar(yZero)], QUANTIZE, node.outputs[0]);
    return 'an operator between dequantisation and quantisation';
  };
const QUANTIZE = { axis: 1, block_size: 0, output_dtype: 0, precision: 0, saturate: 1 };
/** A pool of planes, whose channels may be last. */
const pooled = (e: Expansion, x: ValueId, rank: number, last: boolean, pool: (planes: ValueId) => ValueId): ValueId =>
  last ? e.transpose(pool(e.transpose(x, toFirst(rank))), toLast(rank)) : pool(x);

/** Operators of ONNX Runtime on bytes as the operators on floats that define them. */
export const expandQuantized: Pass = expanding('expand-quantized', {
  'com.microsoft.QLinearSoftmax': between((e, x, _, { axis, opset }) =>
    e.put('Softmax', [x], { axis: axis!, flatten: (opset as number) < 13 ? 1 : 0 }),
  ),
  'com.microsoft.QLinearReduceMean': between((e, x, shape, { axes, keepdims }) => {
    const given = axes as readonly number[] | undefined;
    const list = e.list(given?.length ? given : shape.map((_, i) => i));
    return shape.length === 0 ? null : e.put('ReduceMean', [x, list], { keepdims: keepdims!, noop_with_empty_axes: 0 });
  }),
  'com.microsoft.QLinearGlobalAveragePool': between((e, x, shape, { channels_last: last }) =>
    pooled(e, x, shape.length, last !== 0, (v) => e.put('GlobalAveragePool', [v])),
  ),
  'com.microsoft.QLinearAveragePool': between((e, x, shape, { channels_last: last, ...attrs }) =>
    pooled(e, x, shape.length, last !== 0, (v) => e.put('AveragePool', [v], attrs)),
  ),
  'com.microsoft.QLinearConcat': (e, node, graph) => {
    const [scale, zero, ...parts] = node.inputs as readonly ValueId[];
    const scalar = (v: ValueId): ValueId => (graph.fact(v)?.shape.length ? e.reshape(v, []) : v);
    const floats = Array.from({ length: parts.length / 3 }, (_, i) =>
      wide(e, parts[3 * i]!, scalar(parts[3 * i + 1]!), scalar(parts[3 * i + 2]!)),
    );
    e.put(
      'QuantizeLinear',
      [e.put('Concat', floats, { axis: node.attrs.axis! }), scalar(scale!), scalar(zero!)],
      QUANTIZE,
      node.outputs[0],
    );
    return 'a Concat between dequantisation and quantisation';
  },
});
