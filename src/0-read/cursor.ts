/** Moving forward through bytes: what `scan` walks along, and what reads ranges out of a stream. */
import type { Cursor } from '../1-parse/scan.ts';
import type { Bytes } from './bytes.ts';

const join = (a: Uint8Array, b: Uint8Array): Uint8Array => {
  if (a.length === 0) return b;
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
};
const NOTHING = new Uint8Array(0);

/** Chunks in order, each byte once. `trusted`: as many bytes as may be allocated before they are here. */
export function streamCursor(chunks: AsyncIterable<Uint8Array>, trusted: number): Cursor & { close(): void } {
  const iterator = chunks[Symbol.asyncIterator]();
  let rest: Uint8Array = NOTHING;
  const more = async (): Promise<boolean> => {
    const next = await iterator.next();
    if (!next.done) rest = join(rest, next.value);
    return !next.done;
  };
  const fill = async (count: number): Promise<Uint8Array> => {
    while (rest.length < count && (await more()));
    return rest;
  };
  const skipOn = async (count: number): Promise<void> => {
    for (let left = count; ; ) {
      if (left <= rest.length) {
        rest = rest.subarray(left);
        return;
      }
      left -= rest.length;
      rest = NOTHING;
      if (!(await more())) return;
    }
  };
  return {
    size: null,
    have: (count) => (rest.length >= count ? rest : fill(count)),
    skip: (count) => {
      if (count <= rest.length) {
        rest = rest.subarray(count);
        return;
      }
      return skipOn(count);
    },
    async collect(count) {
      // A length may lie: memory grows as bytes come, at most to twice what is there.
      let out = new Uint8Array(Math.min(count, Math.max(rest.length, trusted)));
      let filled = 0;
      while (filled < count && (rest.length > 0 || (await more()))) {
        const part = rest.subarray(0, count - filled);
        if (filled + part.length > out.length) {
          const larger = new Uint8Array(Math.min(count, Math.max(filled + part.length, out.length * 2)));
          larger.set(out.subarray(0, filled));
          out = larger;
        }
        out.set(part, filled);
        filled += part.length;
        rest = rest.subarray(part.length);
      }
      return out.length === filled ? out : out.slice(0, filled);
    },
    close: () => {
      iterator.return?.()?.catch(() => undefined);
    },
  };
}

/** Jumps over what is skipped. Reads are short behind a jump and grow while the walk is steady. */
export function rangeCursor(bytes: Bytes & { readonly size: number }): Cursor {
  const { size } = bytes;
  const read = bytes.peek ?? bytes.read!;
  let pos = 0;
  let step = 65536;
  let rest: Uint8Array = NOTHING;
  return {
    size,
    have(count) {
      const wanted = Math.min(count, size - pos);
      if (rest.length >= wanted) return rest;
      const length = Math.min(size - pos - rest.length, Math.max(wanted - rest.length, step));
      step = Math.min(step * 2, 1 << 20);
      const before = rest;
      const got = read(pos + rest.length, length);
      return got instanceof Uint8Array ? (rest = join(before, got)) : got.then((part) => (rest = join(before, part)));
    },
    skip(count) {
      if (count > rest.length) step = 4096;
      rest = count < rest.length ? rest.subarray(count) : NOTHING;
      pos += count;
    },
    collect: async (count) => read(pos, Math.min(count, size - pos)),
  };
}

/**
 * Ranges out of a stream: it is read on where the next range begins close behind the last one, and opened anew
 * elsewhere.
 */
export function rangesOf(
  open: (from: number) => AsyncIterable<Uint8Array>,
  near: number,
): { read(offset: number, length: number): Promise<Uint8Array>; close(): void } {
  let at = 0;
  let cursor: ReturnType<typeof streamCursor> | null = null;
  let turn: Promise<unknown> = Promise.resolve();
  const close = (): void => {
    cursor?.close();
    cursor = null;
  };
  const readNow = async (offset: number, length: number): Promise<Uint8Array> => {
    if (cursor === null || offset < at || offset > at + near) {
      close();
      cursor = streamCursor(open(offset), 1 << 24);
      at = offset;
    }
    try {
      await cursor.skip(offset - at);
      const bytes = await cursor.collect(length);
      at = offset + length;
      return bytes;
    } catch (e) {
      cursor = null;
      throw e;
    }
  };
  return {
    read(offset, length) {
      const mine = turn.then(
        () => readNow(offset, length),
        () => readNow(offset, length),
      );
      turn = mine.catch(() => undefined);
      return mine;
    },
    close,
  };
}
