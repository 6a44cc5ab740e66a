/** Shape arithmetic that operators share. Everything here refuses bad input with a typed error. */
import { fail } from '../src/core/errors.ts';
import type { DType } from '../src/core/dtype.ts';
import type { Fact } from '../src/core/graph.ts';
import { sizeOf } from '../src/core/tensor.ts';
import type { InferCall, OutFact } from './define.ts';

/** An axis in [0, rank); negative counts from the end. */
export function axisOf(axis: number, rank: number, what = 'axis'): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank)
    fail('attribute_invalid', `${what} ${axis} is outside a tensor of rank ${rank}`);
  return axis < 0 ? axis + rank : axis;
}
/** Distinct axes in [0, rank), in the order given. */
export function axesOf(axes: readonly number[], rank: number): number[] {
  const out = axes.map((a) => axisOf(a, rank));
  if (new Set(out).size !== out.length) fail('attribute_invalid', `axes [${axes}] name an axis twice`);
  return out;
}

/** NumPy broadcasting. https://github.com/onnx/onnx/blob/main/docs/Broadcasting.md */
export function broadcast(...shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(0, ...shapes.map((s) => s.length));
  const out = new Array<number>(rank).fill(1);
  for (const s of shapes) {
    for (let i = 0; i < s.length; i++) {
      const at = rank - s.length + i;
      const d = s[i]!;
      if (d === 1) continue;
      if (out[at] !== 1 && out[at] !== d)
        fail('shape_mismatch', `shapes ${shapes.map((t) => `[${t}]`).join(' and ')} do not broadcast`);
      out[at] = d;
    }
  }
  return out;
}

/** Strides with which a tensor of `shape` is read as if it had the shape `to`: 0 where it repeats. */
export function broadcastStrides(shape: readonly number[], to: readonly number[]): number[] {
  const out = new Array<number>(to.length).fill(0);
  for (let i = shape.length - 1, n = 1; i >= 0; i--) {
    if (shape[i] !== 1) out[to.length - shape.length + i] = n;
    n *= shape[i]!;
  }
  return out;
}

/**
 * Calls `visit(outputIndex, sourceOffset)` for each element of `shape` in row-major order, the offset moving by
 * `strides`.
 */
export function eachOffset(
  shape: readonly number[],
  strides: readonly number[],
  visit: (i: number, offset: number) => void,
  start = 0,
): void {
  const rank = shape.length;
  const index = new Array<number>(rank).fill(0);
  let offset = start;
  for (let i = 0, n = sizeOf(shape); i < n; i++) {
    visit(i, offset);
    for (let d = rank - 1; d >= 0; d--) {
      offset += strides[d]!;
      if (++index[d]! < shape[d]!) break;
      offset -= strides[d]! * shape[d]!;
      index[d] = 0;
    }
  }
}

/** The rank must be one of these. */
export function rankOf(fact: Fact, what: string, ...ranks: number[]): void {
  if (!ranks.includes(fact.shape.length))
    fail('shape_mismatch', `${what} has shape [${fact.shape}]; its rank must be ${ranks.join(' or ')}`);
}

/** `infer` of an operator whose output is like input `i`. */
export const sameAs =
  (i = 0, dtype?: DType) =>
  (call: InferCall): OutFact[] => [{ dtype: dtype ?? call.fact(i).dtype, shape: call.fact(i).shape }];

/** `infer` of a broadcasting operator. */
export const broadcasting =
  (dtype?: DType) =>
  (call: InferCall): OutFact[] => {
    const facts = call.inputs.filter((f): f is Fact => f !== null);
    return [{ dtype: dtype ?? facts[0]!.dtype, shape: broadcast(...facts.map((f) => f.shape)) }];
  };

/** [batch, channels, inner]: a tensor of images or signals, channels first. */
export function planes(shape: readonly number[], least = 2): { batch: number; channels: number; inner: number } {
  if (shape.length < least) fail('shape_mismatch', `X has shape [${shape}]; its rank must be at least ${least}`);
  return { batch: shape[0]!, channels: shape[1] ?? 1, inner: sizeOf(shape.slice(2)) };
}
/** @throws shape_mismatch if a fact, where there is one, has another shape */
export function expectShape(fact: Fact | null | undefined, shape: readonly number[], what: string): void {
  if (fact && String(fact.shape) !== String(shape))
    fail('shape_mismatch', `${what} has shape [${fact.shape}]; it must be [${shape}]`);
}
