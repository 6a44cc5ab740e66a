/**
 * Bytes behind a URL: by ranges where the server gives them, with broken connections taken up again where they broke.
 */
import { type ErrorCode, fail, SardonyxError } from '../core/errors.ts';
import { type Bytes, chunksOf, goOn, type Reading } from './bytes.ts';
import { rangesOf } from './cursor.ts';

/**
 * Failures in a row before a download is given up, and milliseconds before the first new try; each further one waits
 * twice as long.
 */
const TRIES = 4;
const PAUSE = 250;
/** What to read past rather than to ask again for. */
const NEAR = 256 << 10;

/** A file on a server. `validator` is its ETag or, without one, its date: what changes when the file does. */
export interface Remote extends Bytes {
  readonly validator: string | null;
}

/** `code`: what a file that cannot be had is. */
interface Place {
  readonly url: URL;
  readonly reading: Reading;
  readonly code: ErrorCode;
}

const said = (url: URL): string => (url.protocol === 'data:' ? 'a data: URL' : url.href);
const isHttp = (url: URL): boolean => /^https?:$/.test(url.protocol);
const validatorOf = ({ headers }: Response): string | null => headers.get('etag') ?? headers.get('last-modified');
/** Bytes of the whole file, from the answer to a range. Pages of another origin may not see it. */
const totalOf = (response: Response): number | null =>
  Number(/\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1] ?? Number.NaN) || null;
/** Across origins a page sees few headers: no Content-Encoding, say. */
const seesAll = (url: URL): boolean => typeof location === 'undefined' || location.origin === url.origin;
const isEncoded = ({ headers }: Response): boolean => !['', 'identity'].includes(headers.get('content-encoding') ?? '');

const pause = (milliseconds: number, signal: AbortSignal | undefined): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });

/**
 * Asks, again if the server is busy or not to be reached. With `yielding`, the second time without a range: browsers
 * refuse answers to a range that are compressed after all. `fresh`: not from the browser's cache, which cuts ranges out
 * of a compressed copy.
 * @throws place.code, with URL and status; aborted
 */
async function ask(
  { url, reading, code }: Place,
  wanted: Record<string, string>,
  { method = 'GET', tries = TRIES, yielding = false, fresh = false } = {},
): Promise<Response> {
  let headers = wanted;
  for (let attempt = 1; ; attempt++) {
    goOn(reading);
    let why: string;
    try {
      const response = await reading.fetch(url, {
        method,
        headers,
        ...(fresh ? { cache: 'no-store' } : {}),
        ...(reading.signal ? { signal: reading.signal } : {}),
      });
      if (response.ok || response.status === 416) return response;
      why = `answered ${response.status} ${response.statusText}`.trim();
      await response.body?.cancel();
      if (![408, 429, 500, 502, 503, 504].includes(response.status)) fail(code, `${said(url)} ${why}`);
    } catch (e) {
      goOn(reading);
      if (e instanceof SardonyxError) throw e;
      why = `cannot be reached (${reasonOf(e)})`;
      if (yielding) headers = headers === wanted ? {} : wanted;
    }
    if (attempt >= tries) fail(code, `${said(url)} ${why}${tries > 1 ? `, ${tries} times` : ''}`);
    await pause(PAUSE * 2 ** (attempt - 1), reading.signal);
  }
}
const reasonOf = (e: unknown): string => {
  const { message, cause } = e as {
    readonly message?: string;
    readonly cause?: { readonly message?: string; readonly code?: string };
  };
  return [message, cause?.code ?? cause?.message].filter(Boolean).join(': ');
};

/**
 * Looks at a file on a server by its first `first` bytes, which `stream` then begins with.
 * @throws code, aborted
 */
export async function openUrl(
  url: URL,
  reading: Reading,
  first: number,
  code: ErrorCode = 'source_failed',
): Promise<Remote> {
  const place: Place = { url, reading, code };
  const name = decodeURIComponent(url.pathname.split('/').pop() ?? '') || url.host || 'model';
  let start: Response | null = await ask(place, isHttp(url) ? { range: `bytes=0-${first - 1}` } : {}, {
    yielding: true,
  });
  const validator = validatorOf(start);
  const encoded = isEncoded(start);
  const byRanges = start.status === 206 && !encoded;
  let total =
    encoded || (!byRanges && !seesAll(url))
      ? null
      : byRanges
        ? totalOf(start)
        : Number(start.headers.get('content-length') ?? Number.NaN) || null;
  if (byRanges && total === null) {
    // Another origin's Content-Range is hidden; its Content-Length is not.
    const head = await ask(place, { range: 'bytes=0-' }, { method: 'HEAD', tries: 1 }).catch(() => null);
    total = head?.ok ? Number(head.headers.get('content-length') ?? Number.NaN) || null : null;
  }
  if (start.status === 416) total = 0;
  const direct = byRanges && total !== null;
  if (start.status === 206 && !direct) {
    await start.body?.cancel();
    start = await ask(place, {});
  }

  reading.expect(total);

  const download = (from: number, to: number | null): AsyncGenerator<Uint8Array, void, undefined> => {
    const given = from === 0 ? start : null;
    if (from === 0) start = null;
    return body(place, { from, to, total, validator, direct, given });
  };
  const ranges = direct ? rangesOf((from) => download(from, null), NEAR) : null;
  return {
    name,
    size: total,
    validator,
    read: ranges && ((offset, length) => ranges.read(offset, length)),
    ...(direct
      ? { peek: async (offset: number, length: number) => gather(download(offset, offset + length), length) }
      : {}),
    stream: () => download(0, null),
    idle: () => {
      ranges?.close();
      start?.body?.cancel().catch(() => undefined);
      start = null;
    },
  };
}

async function gather(chunks: AsyncIterable<Uint8Array>, length: number): Promise<Uint8Array> {
  const out = new Uint8Array(length);
  let at = 0;
  for await (const chunk of chunks) {
    out.set(chunk.subarray(0, length - at), at);
    if ((at += chunk.length) >= length) break;
  }
  return at >= length ? out : out.subarray(0, at);
}

interface Part {
  readonly from: number;
  readonly to: number | null;
  readonly total: number | null;
  readonly validator: string | null;
  readonly direct: boolean;
  readonly given: Response | null;
}

/** Chunks of a file from `from` to `to`. A connection that breaks is taken up again, if the file is still the same. */
async function* body(
  place: Place,
  { from, to, total, validator, direct, given }: Part,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { url, reading, code } = place;
  const end = to ?? total;
  let pos = from;
  let failed = 0;
  let response = given;
  while (end === null || pos < end) {
    goOn(reading);
    let ahead = 0;
    if (response === null) {
      response = await ask(
        place,
        direct ? { range: `bytes=${pos}-${to === null ? '' : to - 1}`, ...conditionOf(url, validator) } : {},
        { fresh: failed > 0 },
      );
      if (validator !== null && (validatorOf(response) ?? validator) !== validator)
        fail(code, `${said(url)} was changed while it was read`);
      if (response.status === 416)
        fail(code, `${said(url)} ends before byte ${pos}, though it said that it has ${total} bytes`);
      if (response.status !== 206) {
        if (pos > 0 && validator === null)
          fail(
            code,
            `${said(url)} broke off after ${pos} bytes; the server names no version (ETag) by which the rest could be told to belong to them`,
          );
        ahead = pos;
      }
    }
    try {
      if (response.body === null) return;
      for await (const chunk of chunksOf(response.body as ReadableStream<Uint8Array>)) {
        goOn(reading);
        const part = ahead > 0 ? chunk.subarray(ahead) : chunk;
        ahead = Math.max(0, ahead - chunk.length);
        if (part.length === 0) continue;
        failed = 0;
        pos += part.length;
        reading.onDownload(part.length);
        yield part;
        if (end !== null && pos >= end) return;
      }
      if (end === null) return;
      // The first range of many is followed by the rest; less than that is a connection that was cut.
      if (response !== given || response.status !== 206) failed++;
    } catch (e) {
      goOn(reading);
      if (e instanceof SardonyxError) throw e;
      if (++failed >= TRIES || (end === null && validator === null))
        fail(code, `${said(url)} broke off after ${pos} of ${end ?? 'an unknown number of'} bytes (${reasonOf(e)})`);
    }
    if (failed >= TRIES) fail(code, `${said(url)} broke off after ${pos} of ${end} bytes, ${TRIES} times`);
    if (failed > 0) await pause(PAUSE * 2 ** (failed - 1), reading.signal);
    response = null;
  }
}

/**
 * Asks for the rest only of the same version. Across origins the header would need the server's leave; there the
 * answer's version is compared.
 */
const conditionOf = (url: URL, validator: string | null): Record<string, string> =>
  validator !== null && !validator.startsWith('W/') && seesAll(url) ? { 'if-range': validator } : {};
