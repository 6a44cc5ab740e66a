import { SardonyxError } from '../../core/errors.ts';

/** Bytes of a page of WebAssembly memory. */
export const PAGE = 65536;
const ALIGNMENT = 64;
/** Addresses below hold nothing, so that 0 is no address of a value. */
const BASE = 1024;

/** The arithmetic of one WebAssembly memory handed out in pieces; freed pieces are merged and used again. */
export interface Heap {
  /** Bytes handed out now. */
  readonly used: number;
  /** Address of `size` new bytes, aligned to 64. @throws out_of_memory */
  take(size: number): number;
  give(address: number): void;
}

/** `limit` bytes at most; `grow` adds pages to a memory that starts with one, and throws if it cannot. */
export function makeHeap(grow: (pages: number) => void, limit: number): Heap {
  let pages = 1;
  const taken = new Map<number, number>();
  /** Free pieces by address; the rest of the memory is not in it. */
  let free: { at: number; size: number }[] = [];
  let end = BASE;
  let used = 0;

  return {
    get used() {
      return used;
    },
    take(wanted) {
      const size = Math.max(ALIGNMENT, Math.ceil(wanted / ALIGNMENT) * ALIGNMENT);
      let best = -1;
      free.forEach((f, i) => {
        if (f.size >= size && (best < 0 || f.size < free[best]!.size)) best = i;
      });
      let at: number;
      if (best >= 0) {
        const piece = free[best]!;
        at = piece.at;
        if (piece.size === size) free.splice(best, 1);
        else free[best] = { at: piece.at + size, size: piece.size - size };
      } else {
        at = end;
        if (at + size > limit)
          throw new SardonyxError(
            'out_of_memory',
            `${size} more bytes do not fit a WASM memory of ${limit} bytes, of which ${used} are used`,
          );
        const more = Math.ceil((at + size) / PAGE) - pages;
        if (more > 0) {
          try {
            grow(more);
          } catch (cause) {
            throw new SardonyxError(
              'out_of_memory',
              `the engine refuses to grow a WASM memory of ${pages * PAGE} bytes by ${more * PAGE}`,
              [],
              { cause },
            );
          }
          pages += more;
        }
        end = at + size;
      }
      taken.set(at, size);
      used += size;
      return at;
    },
    give(address) {
      const size = taken.get(address);
      if (size === undefined) return;
      taken.delete(address);
      used -= size;
      free.push({ at: address, size });
      free.sort((a, b) => a.at - b.at);
      const merged: typeof free = [];
      for (const f of free) {
        const last = merged.at(-1);
        if (last !== undefined && last.at + last.size === f.at) last.size += f.size;
        else merged.push({ ...f });
      }
      const tail = merged.at(-1);
      if (tail !== undefined && tail.at + tail.size === end) {
        end = tail.at;
        merged.pop();
      }
      free = merged;
    },
  };
}
