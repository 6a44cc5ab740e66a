/** Opens a model, whatever it is given as: its graph is read, its weights stay where they are as long as they may. */
import { safePath, type ReadBytes } from '../1-parse/external.ts';
import { scan } from '../1-parse/scan.ts';
import { checkStart, START } from '../1-parse/signature.ts';
import type { Sparse } from '../1-parse/wire.ts';
import { fail } from '../core/errors.ts';
import { type Bytes, type ByteSource, chunksOf, goOn, inMemory, ofBlob, once, ranged, type Reading } from './bytes.ts';
import type { ModelCache } from './cache.ts';
import { rangeCursor, rangesOf, streamCursor } from './cursor.ts';
import { openUrl } from './http.ts';
import type { Expected } from './integrity.ts';

/**
 * Where a model comes from. In Node a string is a path unless it begins with http:, https:, data: or blob:. A Response
 * or a stream is read once.
 */
export type ModelSource =
  | string
  | URL
  | Uint8Array
  | ArrayBuffer
  | Blob
  | Response
  | ReadableStream<Uint8Array>
  | ByteSource;
/** A file of external data. */
export type DataSource = URL | Uint8Array | ArrayBuffer | Blob | ByteSource;

/**
 * Bytes done of bytes to do; `total` null where no one knows. Of 'parse' and 'plan', 0 or 1 of 1; of 'compile', shaders
 * or WASM modules.
 */
export interface Progress {
  readonly phase: 'download' | 'parse' | 'plan' | 'compile' | 'upload';
  readonly loaded: number;
  readonly total: number | null;
}

export interface ReadOptions {
  /** External data by the name that the model uses; default: files beside the model's path or URL. */
  readonly externalData?: Readonly<Record<string, DataSource>>;
  /**
   * The model's digest as "sha256-…" in base64 (Subresource Integrity), checked before anything runs. External data is
   * not covered.
   */
  readonly integrity?: string;
  /**
   * Keeps models that come from http(s) URLs: in the Cache API, in the origin private file system, or in a store of
   * your own. Default false.
   */
  readonly cache?: 'cache-api' | 'opfs' | ModelCache | false;
  /** Called as loading goes on. */
  readonly onProgress?: (p: Progress) => void;
  /** Called with what went wrong without stopping anything, such as a cache without room. Default: console.warn. */
  readonly onWarning?: (text: string) => void;
  /** Stops loading. */
  readonly signal?: AbortSignal;
  /** Fetches URLs: for headers of your own. Default: the global one. */
  readonly fetch?: typeof fetch;
}

/** A model of which the graph has been read. */
export interface OpenModel {
  readonly name: string;
  readonly from: Uint8Array | Sparse;
  readonly read: ReadBytes;
  /** Bytes read so far, of the model and its external data. */
  readonly bytesRead: () => number;
  /**
   * To be called when loading is over: waits for what still has to be checked, lets go of connections and of the
   * signal.
   */
  settle(): Promise<void>;
}

/** From so many bytes on, and at each doubling, others may look at a model that is read as a whole. */
const GLANCE = 1 << 16;
/**
 * A model up to this many bytes is read as a whole, so that all of its weights can take part in rewriting the graph.
 */
const WHOLE = 64 << 20;

/**
 * Opens a model and reads its graph. `graphOnly`: no more than that, even where reading more would be quicker, and no
 * digest is checked. `glance` is shown how far a model has come that is read as a whole: what is not here yet is a
 * hole.
 * @throws source_failed, integrity_mismatch, model_not_onnx, option_invalid, aborted
 */
export async function openModel(
  source: ModelSource,
  options: ReadOptions,
  graphOnly = false,
  glance: (from: Sparse) => void = () => undefined,
): Promise<OpenModel> {
  const expected =
    options.integrity === undefined || graphOnly
      ? null
      : (await import('./integrity.ts')).expectedOf(options.integrity);
  const progress = { loaded: 0, total: 0 as number | null };
  let bytesRead = 0;
  const reading: Reading = {
    signal: options.signal,
    fetch: options.fetch ?? ((...args) => fetch(...args)),
    onWarning: options.onWarning ?? ((text) => console.warn(text)),
    expect: (total) => {
      progress.total = total === null || progress.total === null ? null : progress.total + total;
    },
    onDownload: (bytes) => {
      progress.loaded += bytes;
      options.onProgress?.({
        phase: 'download',
        loaded: progress.total === null ? progress.loaded : Math.min(progress.loaded, progress.total),
        total: progress.total,
      });
    },
  };
  goOn(reading);
  const count = <T extends Uint8Array | Promise<Uint8Array>>(got: T): T => {
    if (got instanceof Uint8Array) bytesRead += got.byteLength;
    else
      (got as Promise<Uint8Array>).then(
        (b) => {
          bytesRead += b.byteLength;
        },
        () => undefined,
      );
    return got;
  };
  const counted = (bytes: Bytes): Bytes => ({
    ...bytes,
    read:
      bytes.read &&
      ((offset, length) => {
        goOn(reading);
        return count(bytes.read!(offset, length));
      }),
    ...(bytes.peek
      ? {
          peek: (offset: number, length: number) => {
            goOn(reading);
            return count(bytes.peek!(offset, length));
          },
        }
      : {}),
    async *stream() {
      for await (const chunk of bytes.stream()) {
        goOn(reading);
        bytesRead += chunk.byteLength;
        yield chunk;
      }
    },
  });

  const place = await find(source, options, reading, expected, graphOnly);
  const bytes = counted(place.bytes);
  const opened: Bytes[] = [bytes];
  const files = new Map<string, Promise<Bytes>>();
  const externalFile = (file: string): Promise<Bytes> => {
    const missing = (): never =>
      fail(
        'external_data_missing',
        `the model keeps weights in ${JSON.stringify(file)}; pass its bytes as externalData: { ${JSON.stringify(file)}: … }`,
      );
    const given = Object.hasOwn(options.externalData ?? {}, file) ? options.externalData![file]! : null;
    const open = async (): Promise<Bytes> => {
      const found = counted(
        readable(await (given === null ? place.beside(file, missing) : bytesOfGiven(file, given, reading))),
      );
      opened.push(found);
      return found;
    };
    const known = files.get(file) ?? open();
    files.set(file, known);
    known.catch(() => files.delete(file)); // it may be there the next time
    return known;
  };
  const sparse = await readGraph(bytes, place.inMemory, expected, graphOnly, glance);
  return {
    name: bytes.name,
    from: sparse,
    bytesRead: () => bytesRead,
    read: async (file, offset, length) => {
      const from = file === null ? bytes : await externalFile(file);
      if (from.read === null)
        return fail('source_failed', `${from.name} came as a stream, and its weights were passed over`);
      if (from.size !== null && offset + length > from.size)
        fail(
          'external_data_missing',
          `${file === null ? 'the model' : `external data ${file}`} has ${from.size} bytes; the model wants ${length} at ${offset}`,
        );
      return from.read(offset, length);
    },
    async settle() {
      await place.checked;
      reading.signal = undefined;
      for (const { idle } of opened) idle?.();
    },
  };
}

/** Where a model was found. */
export interface Place {
  readonly bytes: Bytes;
  readonly inMemory: Uint8Array | null;
  readonly beside: (file: string, missing: () => never) => Promise<Bytes> | Bytes;
  /** Ends when bytes that were not waited for have been checked. */
  readonly checked?: Promise<unknown>;
}

async function find(
  source: ModelSource,
  options: ReadOptions,
  reading: Reading,
  expected: Expected | null,
  graphOnly: boolean,
): Promise<Place> {
  if (typeof source !== 'string' && !(source instanceof URL)) return held(source);
  const text = String(source);
  if (isPath(text)) {
    const { openFile } = await import('./file-node.ts');
    const file = await openFile(text);
    return { bytes: file, inMemory: null, beside: file.beside };
  }
  const url = urlOf(text);
  const beside: Place['beside'] = (file) =>
    openUrl(
      new URL(safePath(file).split('/').map(encodeURIComponent).join('/'), url),
      reading,
      1,
      'external_data_missing',
    );
  const first = graphOnly ? 65536 : 1 << 20;
  if (!options.cache || graphOnly || !/^https?:$/.test(url.protocol))
    return { bytes: await openUrl(url, reading, first), inMemory: null, beside };
  const { throughCache } = await import('./through-cache.ts');
  return {
    ...(await throughCache(url, options.cache, options.integrity ?? null, expected, reading, first, WHOLE)),
    inMemory: null,
    beside,
  };
}

/** What is no name, but what one stands for. */
function held(source: Exclude<ModelSource, string | URL>): Place {
  const alone = (bytes: Bytes, memory: Uint8Array | null = null): Place => ({
    bytes,
    inMemory: memory,
    beside: (_, missing) => missing(),
  });
  if (source instanceof Uint8Array) return alone(inMemory('model', source), source);
  if (source instanceof ArrayBuffer) return alone(inMemory('model', new Uint8Array(source)), new Uint8Array(source));
  if (typeof source === 'object' && source !== null && 'read' in source)
    return alone(ranged('model', source.size, (offset, length) => source.read(offset, length)));
  if (source instanceof Blob) return alone(ofBlob('name' in source ? String(source.name) : 'model', source));
  if (source instanceof ReadableStream) return alone(once('model', () => unread(source, 'stream')));
  // Node loads its whole fetch when it is asked what a Response is, which takes as long as a small model does: last,
  // and not for paths.
  if (!(source instanceof Response))
    return fail(
      'option_invalid',
      'a model is a path, a URL, bytes, a Blob, a Response, a ReadableStream or { size, read(offset, length) }',
    );
  if (!source.ok)
    fail('source_failed', `${source.url || 'the response'} answered ${source.status} ${source.statusText}`);
  return alone(once(source.url.split(/[?#]/)[0]!.split('/').pop() || 'model', () => unread(source.body, 'response')));
}

/** In Node, what is no http(s), data or blob URL is a path. */
const isPath = (text: string): boolean =>
  typeof process !== 'undefined' && process.versions?.node !== undefined && !/^(https?|data|blob):/.test(text);

/** Whether it is what a URL names, behind a network or not. */
export const isRemote = (source: ModelSource): boolean =>
  (typeof source === 'string' || source instanceof URL) && !isPath(String(source));

function urlOf(text: string): URL {
  const base = typeof location === 'undefined' ? undefined : location.href;
  return URL.canParse(text, base)
    ? new URL(text, base)
    : fail('option_invalid', `${JSON.stringify(text.slice(0, 200))} is no URL`);
}

function unread(stream: ReadableStream<Uint8Array> | null, what: string): AsyncIterable<Uint8Array> {
  if (stream === null) fail('source_failed', `the ${what} has no body`);
  if (stream.locked) fail('option_invalid', `the ${what} has been read already, or is being read`);
  return chunksOf(stream);
}

function bytesOfGiven(file: string, given: DataSource, reading: Reading): Bytes | Promise<Bytes> {
  if (given instanceof Uint8Array) return inMemory(file, given);
  if (given instanceof ArrayBuffer) return inMemory(file, new Uint8Array(given));
  if (given instanceof Blob) return ofBlob(file, given);
  if (given instanceof URL)
    return isPath(String(given))
      ? import('./file-node.ts').then(({ openFile }) => openFile(String(given)))
      : openUrl(given, reading, 1, 'external_data_missing');
  if (given !== null && typeof given === 'object' && 'read' in given)
    return ranged(file, given.size, (offset, length) => given.read(offset, length));
  return fail(
    'option_invalid',
    `externalData ${JSON.stringify(file)} must be bytes, a Blob, a URL or { size, read(offset, length) }`,
  );
}

/** Bytes of a server without ranges: read on from where the last range ended, or from the front again. */
function readable(bytes: Bytes): Bytes {
  if (bytes.read !== null) return bytes;
  const ranges = rangesOf((from) => behind(bytes.stream(), from), Infinity);
  return {
    ...bytes,
    read: ranges.read,
    idle: () => {
      ranges.close();
      bytes.idle?.();
    },
  };
}
async function* behind(chunks: AsyncIterable<Uint8Array>, from: number): AsyncGenerator<Uint8Array> {
  let at = 0;
  for await (const chunk of chunks) {
    if (at + chunk.length > from) yield chunk.subarray(Math.max(0, from - at));
    at += chunk.length;
  }
}

async function readGraph(
  bytes: Bytes,
  memory: Uint8Array | null,
  expected: Expected | null,
  graphOnly: boolean,
  glance: (from: Sparse) => void,
): Promise<Uint8Array | Sparse> {
  const { name, size } = bytes;
  if (memory !== null) {
    await expected?.whole(name, memory);
    return memory;
  }
  if (size !== null && size <= WHOLE && !graphOnly) {
    const whole = new Uint8Array(size);
    let at = 0;
    let next = GLANCE;
    for await (const chunk of bytes.stream()) {
      if (at + chunk.length > size)
        fail('source_failed', `${name} has more bytes than the ${size} that were announced`);
      whole.set(chunk, at);
      at += chunk.length;
      if (at >= START && at - chunk.length < START) checkStart(whole, true);
      if (at < next || at === size) continue;
      glance({ bytes: whole.subarray(0, at), holes: [{ at, length: size - at, bytes: null }] });
      next = 2 * at;
    }
    if (at < size) fail('source_failed', `${name} ends after ${at} bytes of ${size}`);
    await expected?.whole(name, whole);
    return whole;
  }
  const byRanges = bytes.read !== null && size !== null;
  if (byRanges && (expected === null || bytes.peek === undefined)) {
    if (expected) for await (const _ of expected.stream(name, bytes.stream()));
    return scanFrom(rangeCursor({ ...bytes, size }), false);
  }
  const cursor = streamCursor(expected ? expected.stream(name, bytes.stream()) : bytes.stream(), size ?? 1 << 24);
  const sparse = await scanFrom(cursor, !graphOnly);
  await cursor.skip(Infinity); // to the end, for the digest
  return sparse;
}

async function scanFrom(cursor: Parameters<typeof scan>[0], keep: boolean): Promise<Sparse> {
  checkStart(await cursor.have(START), true);
  return scan(cursor, keep);
}
