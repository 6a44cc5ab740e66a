/** A server of models that can be as unkind as servers are. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly status: number;
}
export interface ModelServer {
  readonly address: string;
  /** What was asked for since `forget`. */
  readonly asked: readonly Asked[];
  forget(): void;
  close(): Promise<void>;
}

/**
 * Serves `/MODE,MODE/FILE`, to pages of any origin. Modes: plain (no ranges), gzip, cut (breaks off every 100 kB; with
 * plain, once), stuck (cuts after 50 kB, and from then on at once), lies (a length that is too long), noetag, busy (503
 * twice), slow, hides (Content-Range), open (pages of other origins see the ETag), shows (they see all headers), zips
 * (gzip, but for ranges), kept (browsers may cache it).
 */
export async function serveModels(files: ReadonlyMap<string, Uint8Array>): Promise<ModelServer> {
  const asked: Asked[] = [];
  const turnsOf = new Map<string, number>();
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const [, modes = '', ...rest] = decodeURIComponent(new URL(request.url!, 'http://x').pathname).split('/');
    const has = (mode: string): boolean => modes.split(',').includes(mode);
    const file = files.get(rest.join('/'));
    const end = (
      status: number,
      headers: Record<string, string | number> = {},
      body?: Uint8Array | string,
      stop = Infinity,
    ): void => {
      asked.push({ method: request.method!, path: rest.join('/'), range: request.headers.range, status });
      response.writeHead(status, {
        'access-control-allow-origin': '*',
        'cache-control': has('kept') ? 'max-age=600' : 'no-store',
        ...(has('open') || has('shows') ? { 'access-control-expose-headers': has('shows') ? '*' : 'etag' } : {}),
        ...headers,
      });
      if (request.method === 'HEAD' || body === undefined) return void response.end();
      if (stop >= body.length)
        return void (has('slow') ? setTimeout(() => response.end(body), 300) : response.end(body));
      response.write(body.slice(0, stop), () => setTimeout(() => request.socket.destroy(), 5));
    };
    const turns = turnsOf.get(request.url!) ?? 0;
    turnsOf.set(request.url!, turns + 1);
    if (has('busy') && turns < 2) return end(503, {}, 'wait');
    if (file === undefined) return end(404, { 'content-type': 'text/html' }, '<html>no such page</html>');
    const etag: Record<string, string> = has('noetag')
      ? {}
      : { etag: `"${createHash('md5').update(file).digest('hex')}"` };
    if (has('gzip') || (has('zips') && request.headers.range === undefined)) {
      const packed = gzipSync(file);
      return end(200, { ...etag, 'content-encoding': 'gzip', 'content-length': packed.length }, packed);
    }
    const stop = has('stuck')
      ? turns > 0
        ? 0
        : 50_000
      : has('cut') && (turns === 0 || !has('plain'))
        ? 100_000
        : Infinity;
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    if (has('plain') || range === null)
      return end(
        200,
        { ...etag, 'content-length': file.length + (has('lies') ? 5000 : 0) },
        file,
        has('lies') ? file.length - 1 : stop,
      );
    const [from, to] = [Number(range[1]), Math.min(file.length - 1, range[2] === '' ? Infinity : Number(range[2]))];
    if (from >= file.length) return end(416, { 'content-range': `bytes */${file.length}` });
    end(
      206,
      {
        ...etag,
        'accept-ranges': 'bytes',
        ...(has('hides') ? {} : { 'content-range': `bytes ${from}-${to}/${file.length}` }),
        'content-length': to + 1 - from,
      },
      file.subarray(from, to + 1),
      stop,
    );
  };
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    forget: () => {
      asked.length = 0;
      turnsOf.clear();
    },
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
