/**
 * Rearrangements of constants, made once when a model is loaded; a plan names them (`Pack` in src/core/plan.ts).
 * Each is a pure function of the tensor and of numbers. Those of a device lie beside its kernels, in `pack.ts`.
 */
import { fail } from '../src/core/errors.ts';
import type { Pack } from '../src/core/plan.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { packTaps } from './resize-pack.ts';

/**
 * Gives the bytes; they are written into `into` if it is given (aligned, exactly as long as the pack, of any content),
 * else into new memory.
 */
export type Packer = (
  t: Tensor,
  args: readonly (number | string)[],
  into?: Uint8Array<ArrayBuffer>,
) => Uint8Array<ArrayBuffer>;
type Cells = Float32Array<ArrayBuffer> | Int16Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;
export const bytes = (a: Cells): Uint8Array<ArrayBuffer> => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);
/** `n` elements to be written. `whole`: all of them will be; else they are zero. */
export function cells<T extends Cells>(
  Type: { new (n: number): T; new (b: ArrayBuffer, at: number, n: number): T },
  n: number,
  into: Uint8Array<ArrayBuffer> | undefined,
  whole = false,
): T {
  if (into === undefined) return new Type(n);
  const a = new Type(into.buffer, into.byteOffset, n);
  if (!whole) a.fill(0);
  return a;
}
export const up = (n: number, to: number): number => Math.ceil(n / to) * to;
export const ints = (args: readonly (number | string)[]): number[] => args as number[];

/** "resize.taps" [JSON of a Resize's axes]: which elements each result is made of, and their shares. */
export const resizeTaps: Packer = (_, args, into) => {
  const taps = packTaps(args[0] as string);
  into?.set(taps);
  return into ?? taps;
};

/** Every packer of a device by its name. */
export type Packers = ReadonlyMap<string, Packer>;

/**
 * What a plan's `pack` makes of a constant: in `into` if given, which is `pack.bytes` long. @throws internal if there
 * is no such packer, or it made something else, or elsewhere
 */
export function packed(
  packers: Packers,
  t: Tensor,
  { name, args, bytes: size }: Pack,
  into?: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  const made = (packers.get(name) ?? fail('internal', `no packer ${name}`))(t, args, into);
  if (made.byteLength !== size)
    fail('internal', `packer ${name} made ${made.byteLength} bytes of ${t.dtype}[${t.shape}], announced ${size}`);
  if (into && (made.buffer !== into.buffer || made.byteOffset !== into.byteOffset))
    fail('internal', `packer ${name} wrote ${t.dtype}[${t.shape}] to memory of its own`);
  return made;
}
