/** What a call computes, as arithmetic: how much, and which calls are alike. */
import type { Fact } from '../src/core/graph.ts';
import { sizeOf } from '../src/core/tensor.ts';
import type { Call } from './define.ts';
import { contractionOf } from './einsum-contraction.ts';
import type { Ex } from './expr.ts';

export interface Work {
  /**
   * Calls of one group differ in nothing but `sizes`: operator, types, which operands are weights, the window of a
   * convolution.
   */
  readonly group: string;
  /**
   * Of a product [batch, m, n, k]; of a convolution [pixels, filters and channels of a group, groups]; of others
   * [elements out, elements in, last dim in].
   */
  readonly sizes: readonly number[];
  /** Arithmetic operations, a multiplication and an addition being two; transcendental functions count as one. */
  readonly flops: number;
}

/** Operations of an expression, an element. */
const operations = (e: Ex): number => ('a' in e ? e.a.reduce((n, x) => n + operations(x), 1) : 0);
const at = (f: Fact | null | undefined, axis: number): number => f?.shape.at(axis) ?? 1;
const elements = (f: Fact | null | undefined): number => (f ? sizeOf(f.shape) : 0);

/** The work of a call of `op`: exact for products, convolutions and maps, an estimate for the rest. */
export function workOf(op: string, call: Call): Work {
  const {
    attrs,
    inputs: [a, second, c, fourth],
  } = call;
  const b = op.includes('QLinear') && fourth ? fourth : second;
  const out = Math.max(1, ...call.outputs.map(elements));
  const y = call.outputs.find((f) => f !== null);
  const rest = call.epilogue ? operations(call.epilogue.expr) * elements(y) : 0;
  const group = [
    op,
    a?.dtype,
    ...call.inputs.slice(1, 2).map((f) => f && `${f.dtype === a?.dtype ? '' : f.dtype}${f.constant ? '=' : ''}`),
    attrs.bits,
  ]
    .filter(Boolean)
    .join(' ');
  if (/MatMul|Gemm/.test(op)) {
    const k = attrs.K ?? at(a, attrs.transA ? -2 : -1);
    const n = at(y, -1);
    const batch = b && b.shape.length > 2 ? sizeOf(y!.shape.slice(0, -2)) : 1;
    return {
      group: group + (attrs.transA ? ' ta' : '') + (attrs.transB ? ' tb' : ''),
      sizes: [batch, out / n / batch, n, k],
      flops: 2 * out * k + rest,
    };
  }
  if (op === 'Einsum') {
    const c = contractionOf(
      attrs.equation,
      call.inputs.map((f) => f!.shape),
    );
    return {
      group: `${group} ${attrs.equation}`,
      sizes: [out, elements(a), elements(b)],
      flops: 2 * sizeOf(Object.values(c.dims)),
    };
  }
  if (op === 'sardonyx.ConvSum') {
    const [filters, channels] = c!.shape as [number, number];
    return {
      group: `${group} ${attrs.strides}`,
      sizes: [out / filters, filters, channels, 1],
      flops: 2 * out * channels + rest,
    };
  }
  if (/Conv/.test(op) && b) {
    const { strides = [1], dilations = [1], group: groups = 1 } = attrs;
    const taps = b.shape.slice(2);
    const turned = op.endsWith('Transpose');
    const channels = turned ? b.shape[0]! / groups : at(b, 1);
    const filters = turned ? at(b, 1) : b.shape[0]! / groups;
    return {
      group: `${group} ${taps.join('x')}/${strides}/${dilations}`,
      sizes: [out / (filters * groups), filters, channels, groups],
      flops: (2 * out * channels * sizeOf(taps)) / (turned ? sizeOf(strides) : 1) + rest,
    };
  }
  const sizes = [out, elements(a), at(a, -1)];
  if (/Attention$/.test(op)) {
    const keys = Math.max(
      at(b ?? a, -2),
      ...call.outputs.slice(1).map((f) => at(f, -2)),
      op.includes('Grouped') || op.includes('GroupQuery') ? at(call.inputs[3], -2) : 1,
    );
    const projected = b?.constant ? 2 * elements(a) * at(b, -1) : 0;
    return { group, sizes: [...sizes, keys], flops: 4 * elements(y) * keys + projected };
  }
  if (/(LSTM|GRU|RNN)$/.test(op) && b && c)
    return { group, sizes, flops: 2 * (elements(a) / at(a, -1)) * (elements(b) + elements(c)) };
  if (typeof attrs.expr === 'string')
    return { group: `${group} ${call.inputs.length}`, sizes, flops: out * operations(JSON.parse(attrs.expr) as Ex) };
  const each = /[Nn]ormalization|Softmax/.test(op)
    ? 6
    : /Pool/.test(op)
      ? 1
      : /^(Gather|Transpose|Concat|Slice|Pad|Expand|Tile|Reshape|Cast|Split|Where)/.test(op)
        ? 0
        : 1;
  return {
    group: /Pool/.test(op) ? `${group} ${attrs.kernel_shape ?? ''}` : group,
    sizes,
    flops: each * Math.max(out, elements(a)) + rest,
  };
}
