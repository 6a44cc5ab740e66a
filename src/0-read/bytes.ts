/** Bytes that lie somewhere: in memory, in a file, behind an address. */
import { fail } from '../core/errors.ts';

/**
 * Bytes that a program reads as it likes: decrypted, authorized, from a store of its own. Ranges asked for lie inside
 * of `size`.
 */
export interface ByteSource {
  readonly size: number;
  read(offset: number, length: number): Uint8Array | Promise<Uint8Array>;
}

/** Bytes as the rest of loading sees them. */
export interface Bytes {
  readonly name: string;
  /** Null: not known before all of them are read. */
  readonly size: number | null;
  /** Any range, at best in the order of the file; null where the bytes come once, from the front. */
  readonly read: ((offset: number, length: number) => Uint8Array | Promise<Uint8Array>) | null;
  /** A short range of which the neighbours are not wanted. Default: `read`. */
  readonly peek?: (offset: number, length: number) => Uint8Array | Promise<Uint8Array>;
  /** All of them, from the front. */
  stream(): AsyncIterable<Uint8Array>;
  /** Lets go of connections; reading goes on with new ones. */
  idle?(): void;
}

/** What loading asks for and tells, whatever the source. */
export interface Reading {
  /** Stops reads while it is set; loading takes it back once it is done. */
  signal: AbortSignal | undefined;
  readonly fetch: typeof fetch;
  /** A file of so many bytes is about to be downloaded, at least in part; null: no one knows how many. */
  readonly expect: (total: number | null) => void;
  /** Bytes that came from the network. */
  readonly onDownload: (bytes: number) => void;
  /** Called with what went wrong without stopping anything. */
  readonly onWarning: (text: string) => void;
}

/** @throws aborted */
export function goOn({ signal }: { readonly signal?: AbortSignal | undefined }): void {
  if (signal?.aborted) fail('aborted', 'loading was aborted');
}

const STEP = 4 << 20;

/** Bytes of a known size that are read by ranges. */
export function ranged(
  name: string,
  size: number,
  read: (offset: number, length: number) => Uint8Array | Promise<Uint8Array>,
): Bytes {
  if (!Number.isSafeInteger(size) || size < 0) fail('option_invalid', `${name} says that it has ${size} bytes`);
  const exact = async (offset: number, length: number): Promise<Uint8Array> => {
    const bytes = await read(offset, length);
    return bytes instanceof Uint8Array && bytes.byteLength === length
      ? bytes
      : fail('source_failed', `${name} gave ${bytes?.byteLength ?? 'no'} bytes of ${length} at ${offset}`);
  };
  return {
    name,
    size,
    read: exact,
    async *stream() {
      for (let at = 0; at < size; at += STEP) yield await exact(at, Math.min(STEP, size - at));
    },
  };
}

export const inMemory = (name: string, bytes: Uint8Array): Bytes =>
  ranged(name, bytes.byteLength, (offset, length) => bytes.subarray(offset, offset + length));

export const ofBlob = (name: string, blob: Blob): Bytes =>
  ranged(
    name,
    blob.size,
    async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
  );

/** Chunks of a stream; a reader that stops early cancels it. */
export async function* chunksOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      if (!(value instanceof Uint8Array)) fail('option_invalid', 'a stream of a model must be one of Uint8Arrays');
      yield value;
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/** Bytes that come once. */
export const once = (name: string, chunks: () => AsyncIterable<Uint8Array>): Bytes => ({
  name,
  size: null,
  read: null,
  stream: chunks,
});
