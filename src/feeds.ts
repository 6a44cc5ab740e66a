/** What a run is given, checked before anything happens. */
import { fail } from './core/errors.ts';
import type { DType } from './core/dtype.ts';
import type { Dim } from './core/graph.ts';
import { entriesOf, sizeOf, type Tensor, zeros } from './core/tensor.ts';

/** An input or output as the model declares it; `shape` null when even the rank is unknown. */
export interface Port { readonly name: string; readonly dtype: DType | null; readonly shape: readonly Dim[] | null }

/** Has `value` the type and the shape that `port` declares? A scalar may come as one element of any shape. @throws input_dtype, input_shape */
export function checkShape(port: Port, value: { readonly dtype: DType; readonly shape: readonly number[] }): void {
  if (port.dtype !== null && value.dtype !== port.dtype) fail('input_dtype', `input ${port.name} is ${value.dtype}; the model takes ${port.dtype}`);
  if (port.shape === null) return;
  const wanted = `[${port.shape.map((d) => d ?? '?')}]`;
  if (port.shape.length === 0 && sizeOf(value.shape) === 1) return;
  if (value.shape.length !== port.shape.length) fail('input_shape', `input ${port.name} has shape [${value.shape}]; the model takes ${wanted}`);
  if (port.shape.some((d, i) => typeof d === 'number' && d !== value.shape[i])) fail('input_shape', `input ${port.name} has shape [${value.shape}]; the model takes ${wanted}`);
}

/** `checkShape`, and has it the storage that its type and shape need? @throws input_dtype, input_shape */
export function checkTensor(port: Port, value: Tensor): void {
  if (port.dtype !== null && value.dtype !== port.dtype) fail('input_dtype', `input ${port.name} is ${value.dtype}; the model takes ${port.dtype}`);
  const expected = (zeros(value.dtype, []).data as { constructor: unknown }).constructor;
  if ((value.data as { constructor: unknown } | null | undefined)?.constructor !== expected) fail('input_dtype', `input ${port.name} of type ${value.dtype} must hold a ${(expected as { name: string }).name}; tensor('${value.dtype}', shape, data) makes it`);
  if (!Array.isArray(value.shape) || value.shape.some((d) => !Number.isInteger(d) || d < 0)) fail('input_shape', `input ${port.name} has shape [${value.shape}], which is no shape`);
  const need = entriesOf(value.dtype, value.shape);
  if (value.data.length !== need) fail('input_shape', `input ${port.name} of shape [${value.shape}] needs ${need} entries and has ${value.data.length}`);
  checkShape(port, value);
}
