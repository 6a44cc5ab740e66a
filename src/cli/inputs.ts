/** What a command feeds to a model: files, numbers, or noise. */
import { readFile } from 'node:fs/promises';
import { parseValue } from '../1-parse/values.ts';
import type { ValueType } from '../1-parse/proto.ts';
import { type DType, isFloat } from '../core/dtype.ts';
import { fail } from '../core/errors.ts';
import { fromNumbers } from '../core/numbers.ts';
import { sizeOf, tensor, type Tensor, type Value } from '../core/tensor.ts';
import type { Port } from '../index.ts';
import { parseNpy } from './npy.ts';

export type Dims = Readonly<Record<string, number>>;

/** The shape of an input; a free dim has the given size under its name, or under "input.axis" when it has none. */
export function boundShape(port: Port, dims: Dims, otherwise?: number): number[] {
  if (port.shape === null)
    return fail('dimension_unbound', `input ${port.name} declares no rank; give it with --input ${port.name}=FILE`);
  return port.shape.map((d, i) => {
    if (typeof d === 'number') return d;
    const name = d ?? `${port.name}.${i}`;
    return (
      (Object.hasOwn(dims, name) ? dims[name] : otherwise) ??
      fail('dimension_unbound', `dim ${i} of input ${port.name} is free; give it with --dims ${name}=N`)
    );
  });
}

/** The value after `--input NAME=`: a .pb or .npy file, or numbers: one for every element, or as many as there are. */
export async function readInput(port: Port, text: string, type: ValueType | null, dims: Dims): Promise<Value> {
  if (/\.(pb|npy)$/.test(text)) {
    const bytes = await readFile(text).catch((e: Error) =>
      fail('option_invalid', `cannot read input ${port.name}: ${e.message}`),
    );
    return text.endsWith('.npy') ? parseNpy(new Uint8Array(bytes)) : parseValue(bytes, type);
  }
  const dtype = port.dtype ?? fail('option_invalid', `input ${port.name} is no tensor; give it as a .pb file`);
  const parts = text.split(',');
  const shape = boundShape(port, dims, parts.length === 1 ? 1 : undefined);
  const count = sizeOf(shape);
  if (parts.length !== 1 && parts.length !== count)
    fail('option_invalid', `input ${port.name} has ${count} elements, not ${parts.length}`);
  if (dtype === 'string')
    return tensor(
      'string',
      shape,
      Array.from({ length: count }, (_, i) => parts[i % parts.length]!),
    );
  if (parts.some((p) => p.trim() === '' || Number.isNaN(Number(p))))
    fail('option_invalid', `--input ${port.name}=${text} is neither a .pb or .npy file nor numbers`);
  return fromNumbers(
    dtype,
    shape,
    Array.from({ length: count }, (_, i) => Number(parts[i % parts.length]!)),
  );
}

/** Noise from a seed: floats even in [-1, 1), small non-negative integers, masks and bools true. */
export function randomInput(port: Port, dtype: DType, shape: readonly number[], random: () => number): Tensor {
  const count = sizeOf(shape);
  if (dtype === 'string')
    return tensor(
      'string',
      shape,
      Array.from({ length: count }, () => 'a'),
    );
  const one = dtype === 'bool' || (!isFloat(dtype) && /mask/i.test(port.name));
  return fromNumbers(
    dtype,
    shape,
    Array.from({ length: count }, () => (one ? 1 : isFloat(dtype) ? 2 * random() - 1 : Math.floor(random() * 8))),
  );
}

/** A small seeded generator (Marsaglia's xorshift32), uniform in [0, 1). */
export function seeded(seed: number): () => number {
  let s = seed | 0 || 0x9e3779b9;
  return () => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    return (s >>> 0) / 2 ** 32;
  };
}
