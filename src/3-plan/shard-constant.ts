/** Runs of a constant's elements as constants of their own, without a copy of the whole. */
import { BITS, bytesOf } from '../core/dtype.ts';
import type { Constant } from '../core/graph.ts';
import { bytesOfTensor, sizeOf, type Tensor, tensorOver } from '../core/tensor.ts';

const MADE = new WeakMap<Constant, Map<string, Constant>>();
/** What had to be loaded whole, while it is in memory: the next shard is wanted soon. */
const LOADED = new WeakMap<Constant, WeakRef<Tensor>>();

/**
 * The elements from number `from` on, as a constant of this shape; the same for the same run. Null where elements are
 * no whole bytes.
 */
export function shardOf(c: Constant, from: number, shape: readonly number[]): Constant | null {
  if (BITS[c.dtype] < 8) return null;
  const key = `${from} ${shape}`;
  const known = MADE.get(c) ?? new Map<string, Constant>();
  MADE.set(c, known);
  const shard = known.get(key) ?? made(c, bytesOf(c.dtype, from), shape);
  known.set(key, shard);
  return shard;
}

function made(c: Constant, at: number, shape: readonly number[]): Constant {
  const { dtype, stored } = c;
  const length = bytesOf(dtype, sizeOf(shape));
  const over = (bytes: Uint8Array): Tensor => tensorOver(dtype, shape, bytes);
  const of = (t: Tensor): Tensor => over(bytesOfTensor(t).subarray(at, at + length));
  const read = stored && ((offset: number, count: number) => stored.read(at + offset, count));
  return {
    dtype,
    shape,
    peek: () => {
      const t = c.peek();
      return t && of(t);
    },
    load: () => {
      const here = c.peek() ?? LOADED.get(c)?.deref();
      if (here) return of(here);
      const bytes = read?.(0, length);
      if (bytes) return bytes instanceof Uint8Array ? over(bytes) : bytes.then(over);
      const keep = (t: Tensor): Tensor => {
        LOADED.set(c, new WeakRef(t));
        return of(t);
      };
      const t = c.load();
      return t instanceof Promise ? t.then(keep) : keep(t);
    },
    ...(stored && read ? { stored: { order: stored.order + at, read } } : {}),
  };
}
