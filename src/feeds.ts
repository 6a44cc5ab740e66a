/** What a run is given, checked before anything happens, and what that says of a plan. */
import { fail } from './core/errors.ts';
import type { DType } from './core/dtype.ts';
import type { Dim, Fact, Graph, ValueId } from './core/graph.ts';
import { entriesOf, sizeOf, type Tensor, zeros } from './core/tensor.ts';

/** An input or output as the model declares it; `shape` null when even the rank is unknown. */
export interface Port {
  readonly name: string;
  readonly dtype: DType | null;
  readonly shape: readonly Dim[] | null;
}

/**
 * Has `value` the type and the shape that `port` declares? A scalar may come as one element of any shape. @throws
 * input_dtype, input_shape
 */
export function checkShape(port: Port, value: { readonly dtype: DType; readonly shape: readonly number[] }): void {
  checkType(port, value.dtype);
  const { shape } = port;
  if (shape === null || (shape.length === 0 && sizeOf(value.shape) === 1)) return;
  if (value.shape.length !== shape.length || shape.some((d, i) => typeof d === 'number' && d !== value.shape[i]))
    fail(
      'input_shape',
      `input ${port.name} has shape [${value.shape}]; the model takes [${shape.map((d) => d ?? '?')}]`,
    );
}

function checkType({ name, dtype }: Port, given: DType): void {
  if (dtype !== null && given !== dtype) fail('input_dtype', `input ${name} is ${given}; the model takes ${dtype}`);
}

/** `checkShape`, and has it the storage that its type and shape need? @throws input_dtype, input_shape */
export function checkTensor(port: Port, value: Tensor): void {
  checkType(port, value.dtype);
  const expected = (zeros(value.dtype, []).data as { constructor: unknown }).constructor;
  if ((value.data as { constructor: unknown } | null | undefined)?.constructor !== expected)
    fail(
      'input_dtype',
      `input ${port.name} of type ${value.dtype} must hold a ${(expected as { name: string }).name}; tensor('${value.dtype}', shape, data) makes it`,
    );
  if (!Array.isArray(value.shape) || value.shape.some((d) => !Number.isInteger(d) || d < 0))
    fail('input_shape', `input ${port.name} has shape [${value.shape}], which is no shape`);
  const need = entriesOf(value.dtype, value.shape);
  if (value.data.length !== need)
    fail(
      'input_shape',
      `input ${port.name} of shape [${value.shape}] needs ${need} entries and has ${value.data.length}`,
    );
  checkShape(port, value);
}

/** Whether the model says all dims of its inputs. */
export const isBound = (graph: Graph): boolean =>
  graph.inputs.every((v) => graph.values[v]!.declared?.shape?.every((d) => typeof d === 'number'));

/** The facts of the inputs at these dims. @throws dimension_unbound, option_invalid */
export const inputFacts = (graph: Graph, dims: Readonly<Record<string, number>>, free?: number): Map<ValueId, Fact> =>
  new Map(graph.inputs.map((v) => [v, bind(portOf(graph, v), dims, free)]));

function bind(port: Port, dims: Readonly<Record<string, number>>, free?: number): Fact {
  if (port.dtype === null || port.shape === null)
    fail(
      'dimension_unbound',
      `input ${port.name} declares no ${port.dtype === null ? 'tensor type' : 'rank'}; run the session with a value to plan it`,
    );
  const shape = port.shape.map((d, i) => {
    if (typeof d === 'number') return d;
    const name = d ?? `${port.name}.${i}`;
    const size =
      (Object.hasOwn(dims, name) ? dims[name] : undefined) ??
      free ??
      fail('dimension_unbound', `dim ${i} of input ${port.name} is free; pass dims: { ${JSON.stringify(name)}: … }`);
    return Number.isInteger(size) && size >= 0
      ? size
      : fail('option_invalid', `dims: ${name} must be a whole number, not ${JSON.stringify(size)}`);
  });
  return { dtype: port.dtype, shape };
}

/** An input or output, as the model declares it. */
export function portOf(graph: Graph, v: ValueId): Port {
  const { name, declared } = graph.values[v]!;
  return { name, dtype: declared?.dtype ?? null, shape: declared?.shape ?? null };
}
