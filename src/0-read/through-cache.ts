import { SardonyxError } from '../core/errors.ts';
import { type Bytes, ofBlob, type Reading } from './bytes.ts';
import { type CacheChoice, cacheOf } from './cache.ts';
import { openUrl, type Remote } from './http.ts';
import type { Expected } from './integrity.ts';
import type { Place } from './open.ts';

/**
 * A model from the cache; or from the network and into the cache, from where its weights are read. One of more than
 * `most` bytes is read while it arrives.
 * @throws source_failed, integrity_mismatch, option_invalid
 */
export async function throughCache(
  url: URL,
  choice: CacheChoice,
  integrity: string | null,
  expected: Expected | null,
  reading: Reading,
  first: number,
  most: number,
): Promise<Pick<Place, 'bytes' | 'checked'>> {
  const cache = cacheOf(choice);
  const key = url.href.split('#')[0]!;
  const name = url.pathname.split('/').pop() || 'model';
  const warn = (what: string, e: unknown): null => {
    reading.onWarning(`${name} ${what} (${(e as Error).name}: ${(e as Error).message}); it is loaded without`);
    return null;
  };
  const kept = async (version: string | null): Promise<Bytes | null> => {
    const blob = await cache.get(key, version).catch((e: unknown) => warn('cannot be looked up in the cache', e));
    return blob && ofBlob(name, blob);
  };
  const verified = integrity === null ? null : await kept(integrity);
  if (verified) return { bytes: verified };
  let remote: Remote;
  try {
    remote = await openUrl(url, reading, first);
  } catch (e) {
    const old =
      integrity === null &&
      e instanceof SardonyxError &&
      e.code === 'source_failed' &&
      /cannot be reached/.test(e.message)
        ? await kept(null)
        : null;
    if (old === null) throw e;
    reading.onWarning(`${key} cannot be reached; the copy in the cache is used`);
    return { bytes: old };
  }
  const version = integrity ?? remote.validator;
  if (version === null) {
    reading.onWarning(
      `${key} is not cached: the server names no version of it (ETag, Last-Modified), and no integrity is given`,
    );
    return { bytes: remote };
  }
  const found = integrity === null ? await kept(version) : null;
  if (found) {
    remote.idle?.();
    return { bytes: found };
  }
  const store = async (): Promise<Bytes | null> => {
    let failure: unknown = null;
    const chunks = (expected?.stream(name, remote.stream()) ?? remote.stream())[Symbol.asyncIterator]();
    const stream = new ReadableStream<Uint8Array>(
      {
        async pull(to) {
          try {
            const next = await chunks.next();
            if (next.done) to.close();
            else to.enqueue(next.value);
          } catch (e) {
            to.error((failure = e));
          }
        },
        cancel: async () => {
          await chunks.return?.(undefined);
        },
      },
      { highWaterMark: 0 },
    );
    try {
      await cache.put(key, version, stream);
    } catch (e) {
      await cache.delete(key).catch(() => undefined);
      if (failure !== null) throw failure;
      return warn('cannot be kept in the cache', e);
    }
    if (failure !== null) throw failure;
    return kept(version);
  };
  const stored = store();
  stored.catch(() => undefined); // reported by whoever waits for it
  if (remote.size === null || remote.size <= most || remote.peek === undefined || expected !== null)
    return { bytes: (await stored) ?? remote };
  // The graph is read, and its plan made, while the weights arrive.
  return {
    bytes: { ...remote, read: async (offset, length) => ((await stored) ?? remote).read!(offset, length) },
    checked: stored,
  };
}
