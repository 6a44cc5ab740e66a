/** Loading from everywhere: files, Blobs, streams, byte sources, and servers of every temper. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { inMemory } from '../src/0-read/bytes.ts';
import { rangeCursor, streamCursor } from '../src/0-read/cursor.ts';
import { expectedDigests, sha256 } from '../src/0-read/integrity.ts';
import { parseModel } from '../src/1-parse/model.ts';
import { scan } from '../src/1-parse/scan.ts';
import {
  type ModelCache,
  type ModelSource,
  planModel,
  type Progress,
  type Results,
  Session,
  type SessionOptions,
  SardonyxError,
  type Tensor,
  tensor,
} from '../src/index.ts';
import { loadGraph } from '../src/load.ts';
import { type ModelServer, serveModels } from './model-server.ts';
import { encode, initializer, node, port } from './onnx-model.ts';

/** y = (x + big[…]) * small, with a constant in a node: 64 is enough of a weight to be left in the file. */
const COUNT = 40_000;
const big = Float32Array.from({ length: COUNT }, (_, i) => Math.fround(Math.sin(i)));
const external = (name: string, file: string, offset: number, count: number, type = 1): object => ({
  name,
  dataType: type,
  dims: [count],
  dataLocation: 1,
  externalData: Object.entries({
    location: file,
    offset: String(offset),
    length: String(count * (type === 10 ? 2 : 4)),
  }).map(([key, value]) => ({ key, value })),
});
const model = encode({
  input: [port('x', [COUNT])],
  output: [port('y', [COUNT])],
  initializer: [
    initializer('big', tensor('float32', [COUNT], big)),
    initializer('two', tensor('float32', [], [2])),
    { name: 'typed', dataType: 1, dims: [COUNT], floatData: [...big] },
  ],
  node: [
    node('Constant', [], ['c'], {
      value: {
        tensor: tensor(
          'float32',
          [COUNT],
          big.map((v) => v * 3),
        ),
      },
    }),
    node('Add', ['x', 'big'], ['a']),
    node('Add', ['a', 'typed'], ['b']),
    node('Add', ['b', 'c'], ['d']),
    node('Mul', ['d', 'two'], ['y']),
  ],
});
const x = tensor(
  'float32',
  [COUNT],
  Float32Array.from({ length: COUNT }, (_, i) => i % 7),
);
const want = Float32Array.from({ length: COUNT }, (_, i) =>
  Math.fround(Math.fround(Math.fround(Math.fround((i % 7) + big[i]!) + big[i]!) + Math.fround(big[i]! * 3)) * 2),
);
const split = encode({
  input: [port('x', [COUNT])],
  output: [port('y', [COUNT])],
  initializer: [
    external('b', 'sub/weights.bin', 400, COUNT),
    external('a', 'sub/weights.bin', 400 + 4 * COUNT, COUNT),
    external('h', 'other.bin', 6, COUNT, 10),
  ],
  node: [
    node('Add', ['x', 'a'], ['1']),
    node('Add', ['1', 'b'], ['2']),
    node('Cast', ['h'], ['f'], { to: 1 }),
    node('Add', ['2', 'f'], ['y']),
  ],
});
const weights = new Uint8Array(400 + 8 * COUNT);
new Float32Array(weights.buffer, 400).set([...big, ...big.map((v) => v * 4)]);
const halves = new Uint8Array(6 + 2 * COUNT);
for (let i = 0; i < COUNT; i++) halves[6 + 2 * i + 1] = 0x3c; // 1.0
const wantSplit = Float32Array.from({ length: COUNT }, (_, i) =>
  Math.fround(Math.fround(Math.fround((i % 7) + Math.fround(big[i]! * 4)) + big[i]!) + 1),
);

async function run(source: ModelSource, options: SessionOptions = {}): Promise<Float32Array> {
  await using session = await Session.load(source, { device: 'wasm', ...options });
  return outputOf(await session.run({ x }));
}
const outputOf = ({ y }: Results): Float32Array => (y as Tensor).data as Float32Array;
const refusal = async (promise: Promise<unknown>): Promise<SardonyxError> => {
  const e = await promise.then(
    () => null,
    (error: unknown) => error,
  );
  expect(e).toBeInstanceOf(SardonyxError);
  return e as SardonyxError;
};
const digest = (bytes: Uint8Array): string => `sha256-${createHash('sha256').update(bytes).digest('base64')}`;
async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.slice(at, at + size);
}
const streamOf = (bytes: Uint8Array, size = 1000): ReadableStream<Uint8Array> => {
  const pieces = inPieces(bytes, size);
  return new ReadableStream({
    async pull(to) {
      const next = await pieces.next();
      if (next.done) to.close();
      else to.enqueue(next.value);
    },
  });
};

const files = new Map<string, Uint8Array>([
  ['model.onnx', model],
  ['split.onnx', split],
  ['sub/weights.bin', weights],
  ['other.bin', halves],
]);
let server: ModelServer;
let base: string;
beforeAll(async () => {
  base = (server = await serveModels(files)).address;
});
afterAll(() => server.close());
beforeEach(() => server.forget());

/** A model larger than what is read whole, made of one small one: the rest is an unused weight. */
const LARGE = 72 << 20;
function large(): { size: number; read(offset: number, length: number): Uint8Array; reads: [number, number][] } {
  const small = encode({
    input: [port('x', [COUNT])],
    output: [port('y', [COUNT])],
    initializer: [initializer('big', tensor('float32', [COUNT], big)), initializer('two', tensor('float32', [], [2]))],
    node: [node('Add', ['x', 'big'], ['a']), node('Mul', ['a', 'two'], ['y'])],
  });
  // The graph is a message: the tensor `pad` is merged into it by writing its length anew.
  const varint = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...varint(Math.floor(n / 128))]);
  const at = small.indexOf(0x3a);
  const head = small.subarray(0, at);
  let start = at + 1;
  let length = 0;
  for (let shift = 1; ; shift *= 128) {
    const b = small[start++]!;
    length += (b & 127) * shift;
    if (b < 128) break;
  }
  const graph = small.subarray(start);
  const pad = [...[0x08, ...varint(LARGE)], 0x10, 2, 0x42, 3, 0x70, 0x61, 0x64, 0x4a, ...varint(LARGE)];
  const tensorHead = [0x2a, ...varint(pad.length + LARGE), ...pad];
  const before = Uint8Array.from([...head, 0x3a, ...varint(length + tensorHead.length + LARGE), ...tensorHead]);
  const size = before.length + LARGE + graph.length;
  const reads: [number, number][] = [];
  return {
    size,
    reads,
    read(offset, length) {
      reads.push([offset, length]);
      const out = new Uint8Array(length);
      for (const [start, part] of [
        [0, before],
        [before.length + LARGE, graph],
      ] as const) {
        const from = Math.max(offset, start);
        const to = Math.min(offset + length, start + part.length);
        if (from < to) out.set(part.subarray(from - start, to - start), from - offset);
      }
      return out;
    },
  };
}
const wantLarge = Float32Array.from({ length: COUNT }, (_, i) => Math.fround(Math.fround((i % 7) + big[i]!) * 2));

describe('a model given as', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'sardonyx-loading-'));
    writeFileSync(join(folder, 'model.onnx'), model);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each([
    ['bytes', () => model],
    ['an ArrayBuffer', () => model.slice().buffer],
    ['a Blob', () => new Blob([model as Uint8Array<ArrayBuffer>])],
    ['a File', () => new File([model as Uint8Array<ArrayBuffer>], 'm.onnx')],
    ['a Response', () => new Response(model as Uint8Array<ArrayBuffer>)],
    ['a stream of crumbs', () => streamOf(model, 777)],
    ['a stream of one chunk', () => streamOf(model, 1 << 30)],
    ['a byte source', () => ({ size: model.length, read: async (o: number, n: number) => model.slice(o, o + n) })],
    ['a path', () => join(folder, 'model.onnx')],
    ['a file: URL', () => new URL(`file://${folder}/model.onnx`)],
    ['a data: URL', () => `data:application/octet-stream;base64,${Buffer.from(model).toString('base64')}`],
  ] as [string, () => ModelSource][])('%s runs', async (_, source) =>
    expect(await run(source(), { integrity: digest(model) })).toEqual(want),
  );

  it.each([
    ['a byte source', () => large()],
    [
      'a stream',
      () => {
        const m = large();
        return streamOf(m.read(0, m.size), 1 << 20);
      },
    ],
  ] as [string, () => ModelSource][])('more than is read whole, %s runs', async (_, source) =>
    expect(await run(source())).toEqual(wantLarge),
  );

  it.each(['wasm', 'webgpu'] as const)(
    'a large byte source is read by ranges: the graph, then the weights used, on %s',
    async (device) => {
      const source = large();
      expect(await run(source, { device })).toEqual(wantLarge);
      expect(source.reads.reduce((n, [, length]) => n + length, 0)).toBeLessThan(1 << 20);
      await refusal(Session.load({ ...source, read: () => new Uint8Array(3) }));
    },
  );

  it('bytes that come slowly has its operators fetched before the last of them', async () => {
    const bytes = encode({
      input: [port('x', [1, 1, 4, 4])],
      output: [port('y', [1, 1, 4, 4])],
      initializer: [
        initializer('w', tensor('float32', [1, 1, 1, 1], [3])),
        initializer('more', tensor('float32', [2 ** 21], new Float32Array(2 ** 21))),
      ],
      node: [node('Conv', ['x', 'w'], ['y'])],
    });
    const asked: string[] = [];
    let told = (): void => undefined;
    const ahead = new Promise<void>((resolve) => {
      told = resolve;
    });
    const { sets } = await loadGraph(
      {
        size: bytes.length,
        read: async (offset, length) => {
          if (offset > 0) await ahead;
          return bytes.slice(offset, offset + length);
        },
      },
      {},
      false,
      undefined,
      (names) => {
        asked.push(...names);
        told();
      },
    );
    expect(asked.length).toBeGreaterThan(0);
    expect(sets).toEqual(expect.arrayContaining(asked));
  });

  it('a large byte source with a digest is read to its end', async () => {
    const source = large();
    const sum = digest(source.read(0, source.size));
    expect(await run(source, { integrity: sum })).toEqual(wantLarge);
  });

  it.each([
    ['no source', 5, 'option_invalid', /a path, a URL/],
    ['null', null as never, 'option_invalid', /a path, a URL/],
    ['a message', new TextEncoder().encode('Not Found'), 'model_not_onnx', /like text/],
    [
      'a stream that is being read',
      () => {
        const s = streamOf(model);
        s.getReader();
        return s;
      },
      'option_invalid',
      /being read/,
    ],
    ['a path to nothing', '/no/such/model.onnx', 'source_failed', /\/no\/such\/model\.onnx/],
    ['a folder', tmpdir(), 'source_failed', /no file/],
    ['an empty stream', () => streamOf(new Uint8Array(0)), 'model_not_onnx', /empty/],
    ['half a model', () => streamOf(model.subarray(0, 100_000)), 'model_malformed', /claims/],
    [
      'a response that failed',
      () => new Response('no', { status: 403, statusText: 'Forbidden' }),
      'source_failed',
      /403/,
    ],
    ['bytes of another digest', () => model.map((b, i) => (i === 9000 ? b ^ 1 : b)), 'integrity_mismatch', /SHA-256/],
  ] as [string, ModelSource | (() => ModelSource), string, RegExp][])(
    '%s is refused',
    async (_, source, code, message) => {
      const e = await refusal(
        run(
          typeof source === 'function' ? source() : source,
          code === 'integrity_mismatch' ? { integrity: digest(model) } : {},
        ),
      );
      expect([e.code, e.message]).toEqual([code, expect.stringMatching(message)]);
    },
  );

  it.each([
    ['a web page', '<!DOCTYPE html><p>Sign in', /HTML/],
    ['gzip', gzipSync(model), /gzip/],
    ['an LFS pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:0', /Git LFS/],
    ['safetensors', `\u0040\0\0\0\0\0\0\0{"a":{}}`, /safetensors/],
    ['GGUF', 'GGUF\u0003\0\0\0', /GGUF/],
    ['a PyTorch file', 'PK\u0003\u0004\u0014', /PyTorch/],
  ])('a stream that turns out to be %s is refused at its first bytes', async (_, start, message) => {
    const first = typeof start === 'string' ? Uint8Array.from(start, (c) => c.charCodeAt(0)) : start;
    let pulled = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(to) {
        to.enqueue(pulled++ === 0 ? first : new Uint8Array(65536).fill(32));
      },
    });
    const e = await refusal(run(endless));
    expect([e.code, e.message]).toEqual(['model_not_onnx', expect.stringMatching(message)]);
    expect(pulled).toBeLessThan(10);
  });
});

describe('a model on a server', () => {
  it.each(['r', 'plain', 'gzip', 'cut', 'plain,cut', 'busy', 'hides', 'noetag', 'slow', 'noetag,cut'])(
    'of mode "%s" runs',
    async (mode) => {
      expect(await run(`${base}/${mode}/model.onnx`, { integrity: digest(model) })).toEqual(want);
      if (mode.includes('cut')) expect(server.asked.length).toBeGreaterThan(mode.includes('plain') ? 1 : 3);
      if (mode === 'cut')
        expect(server.asked.slice(1).every(({ status, range }) => status === 206 && range !== 'bytes=0-')).toBe(true);
    },
    30_000,
  );

  it.each([
    ['stuck', 'source_failed', /broke off after 50000 of \d+ bytes/],
    ['plain,noetag,cut', 'source_failed', /ETag/],
    ['lies,plain', 'source_failed', /broke off after/],
  ])(
    'of mode "%s" is given up',
    async (mode, code, message) => {
      const e = await refusal(run(`${base}/${mode}/model.onnx`));
      expect([e.code, e.message]).toEqual([code, expect.stringMatching(message)]);
    },
    30_000,
  );

  it('that is not there says so, with address and status, at once', async () => {
    const e = await refusal(run(`${base}/x/none.onnx`));
    expect([e.code, e.message]).toEqual(['source_failed', expect.stringMatching(/http:.*none\.onnx answered 404/)]);
    expect(server.asked).toHaveLength(1);
  });

  it('that changes under way is not mixed', async () => {
    const other = model.slice();
    other[20_000]! ^= 1;
    const load = run(`${base}/cut/moving.onnx`, {
      onProgress: ({ loaded }) => {
        if (loaded > 150_000) files.set('moving.onnx', other);
      },
    });
    files.set('moving.onnx', model);
    expect((await refusal(load)).message).toMatch(/was changed while it was read/);
  });

  it('keeps weights beside it, read in order', async () => {
    expect(await run(`${base}/r/split.onnx`)).toEqual(wantSplit);
    const ranges = server.asked.filter(({ path }) => path === 'sub/weights.bin');
    expect(ranges.length).toBeLessThanOrEqual(3);
    expect(await run(`${base}/plain/split.onnx`)).toEqual(wantSplit);
  });

  it('tells how far it is, phase by phase', async () => {
    const seen: Progress[] = [];
    await run(`${base}/r/model.onnx`, { onProgress: (p) => seen.push(p) });
    const last = (phase: string): Progress => seen.filter((p) => p.phase === phase).at(-1)!;
    expect([...new Set(seen.map((p) => p.phase))]).toEqual(['download', 'parse', 'plan', 'compile', 'upload']);
    expect(last('download')).toEqual({ phase: 'download', loaded: model.length, total: model.length });
    for (const phase of ['parse', 'plan', 'compile', 'upload']) expect(last(phase).loaded).toBe(last(phase).total);
  });

  it('is not waited for once loading is aborted', async () => {
    for (const milliseconds of [0, 20, 60]) {
      const stop = new AbortController();
      setTimeout(() => stop.abort(), milliseconds);
      const started = performance.now();
      expect((await refusal(run(`${base}/slow/model.onnx`, { signal: stop.signal }))).code).toBe('aborted');
      expect(performance.now() - started).toBeLessThan(milliseconds + 200);
    }
    expect((await refusal(run(model, { signal: AbortSignal.abort() }))).code).toBe('aborted');
  });

  it('outlives the signal it was loaded with', async () => {
    const stop = new AbortController();
    await using session = await Session.load(`${base}/r/split.onnx`, { device: 'wasm', signal: stop.signal });
    stop.abort();
    expect(outputOf(await session.run({ x }))).toEqual(wantSplit);
  });

  it('is asked for with headers of the caller', async () => {
    const seen: (string | null)[] = [];
    const own: typeof fetch = (input, init) => {
      const headers = new Headers(init?.headers);
      headers.set('authorization', 'yes');
      seen.push(headers.get('range'));
      return fetch(input, { ...init, headers });
    };
    expect(await run(`${base}/r/model.onnx`, { fetch: own })).toEqual(want);
    expect(seen[0]).toBe('bytes=0-1048575');
  });
});

describe('external data', () => {
  it.each([
    ['bytes', (b: Uint8Array) => b],
    ['a Blob', (b: Uint8Array) => new Blob([b as Uint8Array<ArrayBuffer>])],
    ['a byte source', (b: Uint8Array) => ({ size: b.length, read: (o: number, n: number) => b.slice(o, o + n) })],
  ])('is taken as %s', async (_, as) =>
    expect(await run(split, { externalData: { 'sub/weights.bin': as(weights), 'other.bin': as(halves) } })).toEqual(
      wantSplit,
    ),
  );
  it('is taken as a URL', async () =>
    expect(
      await run(split, {
        externalData: {
          'sub/weights.bin': new URL(`${base}/r/sub/weights.bin`),
          'other.bin': new URL(`${base}/plain/other.bin`),
        },
      }),
    ).toEqual(wantSplit));
  it('that is missing or too short is named', async () => {
    for (const given of [{}, { 'sub/weights.bin': weights.subarray(0, 1000), 'other.bin': halves }]) {
      const e = await refusal(run(split, { externalData: given }));
      expect([e.code, e.message]).toEqual([
        'external_data_missing',
        expect.stringMatching(/sub\/weights\.bin|other\.bin/),
      ]);
    }
    expect((await refusal(run(`${base}/r/model.onnx`.replace('model', 'split').replace('/r/', '/r/deep/')))).code).toBe(
      'source_failed',
    );
  });
});

describe('a plan before the download', () => {
  it('reads a few bytes of a large model', async () => {
    const source = large();
    const preview = await planModel(source, { device: 'webgpu' });
    expect(preview.plan.steps.length).toBeGreaterThan(0);
    expect([preview.fits, preview.complete, preview.left]).toEqual([true, true, []]);
    expect(preview.bytesRead).toBeLessThan(1 << 20);
    expect(preview.bytesRead).toBe(source.reads.reduce((n, [, length]) => n + length, 0));
    expect(await planModel(source, { memory: 1000 })).toMatchObject({
      fits: false,
      why: [expect.stringMatching(/the memory given is 1000/)],
    });
  });

  it.each([
    ['r', 200_000],
    ['plain', model.length],
  ])('of a URL in mode "%s" reads at most %i bytes', async (mode, most) => {
    const preview = await planModel(`${base}/${mode}/model.onnx`, { device: 'wasm' });
    expect(preview.plan.steps.length).toBeGreaterThan(0);
    expect(preview.bytesRead).toBeLessThanOrEqual(most);
    expect(preview.bytesRead).toBeGreaterThan(100);
  });
});

describe('a cache of models', () => {
  const memory = (): ModelCache & { kept: Map<string, { version: string; blob: Blob }>; gets: number } => ({
    kept: new Map(),
    gets: 0,
    async get(url, version) {
      this.gets++;
      const found = this.kept.get(url);
      return found && (version === null || version === found.version) ? found.blob : null;
    },
    async put(url, version, stream) {
      this.kept.set(url, { version, blob: await new Response(stream).blob() });
    },
    async delete(url) {
      this.kept.delete(url);
    },
  });

  it('serves the second load, until the file changes', async () => {
    const cache = memory();
    const url = `${base}/r/changing.onnx`;
    files.set('changing.onnx', model);
    expect(await run(url, { cache })).toEqual(want);
    expect(cache.kept.get(url)!.blob.size).toBe(model.length);
    server.forget();
    expect(await run(url, { cache })).toEqual(want);
    expect(server.asked).toHaveLength(1); // which version is it?
    server.forget();
    const older = files.get('changing.onnx')!;
    files.set(
      'changing.onnx',
      encode({ input: [port('x', [COUNT])], output: [port('y', [COUNT])], node: [node('Neg', ['x'], ['y'])] }),
    );
    expect((await run(url, { cache }))[1]).toBe(-1);
    expect(cache.kept.get(url)!.blob.size).toBeLessThan(older.length);
  });

  it('needs no network where the digest is given, nor where there is none', async () => {
    const cache = memory();
    expect(await run(`${base}/r/model.onnx`, { cache, integrity: digest(model) })).toEqual(want);
    server.forget();
    expect(await run(`${base}/r/model.onnx`, { cache, integrity: digest(model) })).toEqual(want);
    expect(server.asked).toEqual([]);
    const warnings: string[] = [];
    const offline: typeof fetch = () => Promise.reject(new TypeError('fetch failed'));
    expect(await run(`${base}/r/model.onnx`, { cache, fetch: offline, onWarning: (w) => warnings.push(w) })).toEqual(
      want,
    );
    expect(warnings).toEqual([expect.stringMatching(/cannot be reached; the copy in the cache/)]);
  }, 30_000);

  it('that is full or missing is told of, and done without', async () => {
    const warnings: string[] = [];
    const onWarning = (w: string): void => {
      warnings.push(w);
    };
    const full: ModelCache = {
      ...memory(),
      put: async (_, __, stream) => {
        await stream.getReader().read();
        throw new DOMException('no room', 'QuotaExceededError');
      },
    };
    expect(await run(`${base}/r/model.onnx`, { cache: full, onWarning })).toEqual(want);
    expect(await run(`${base}/r/model.onnx`, { cache: 'cache-api', onWarning })).toEqual(want);
    expect(await run(`${base}/noetag/model.onnx`, { cache: memory(), onWarning })).toEqual(want);
    expect(warnings).toEqual([
      expect.stringMatching(/QuotaExceededError/),
      expect.stringMatching(/looked up/),
      expect.stringMatching(/cannot be kept/),
      expect.stringMatching(/names no version/),
    ]);
  });

  it('keeps nothing of another digest, or of half a file', async () => {
    const cache = memory();
    expect((await refusal(run(`${base}/r/model.onnx`, { cache, integrity: digest(weights) }))).code).toBe(
      'integrity_mismatch',
    );
    expect((await refusal(run(`${base}/stuck/model.onnx`, { cache }))).code).toBe('source_failed');
    expect(cache.kept.size).toBe(0);
  }, 30_000);
});

describe('a file without its weights', () => {
  const attempt = async (from: () => Promise<unknown>): Promise<string> => {
    try {
      await from();
      return 'fine';
    } catch (e) {
      if (e instanceof SardonyxError) return e.code;
      throw e;
    }
  };
  const viaScan = (bytes: Uint8Array, keep: boolean, size: number): Promise<string> =>
    attempt(async () => {
      const cursor = keep
        ? streamCursor(inPieces(bytes, size), 1 << 24)
        : rangeCursor({ ...inMemory('model', bytes), size: bytes.length });
      parseModel(await scan(cursor, keep), () => new Uint8Array(0)).graph.values.forEach((v) => v.constant?.peek());
    });

  it('is the same graph, with its big weights where they lie', async () => {
    const sparse = await scan(rangeCursor({ ...inMemory('model', model), size: model.length }), false);
    expect(sparse.bytes.length).toBeLessThan(2000);
    expect(sparse.holes.map(({ length, bytes }) => [length, bytes])).toEqual(Array(3).fill([4 * COUNT, null]));
    const shape = ({ graph }: ReturnType<typeof parseModel>): unknown => ({
      nodes: graph.nodes,
      values: graph.values.map(({ name, constant }) => [name, constant?.dtype, constant?.shape]),
    });
    const read = (_: string | null, offset: number, length: number): Uint8Array =>
      model.subarray(offset, offset + length);
    const parsed = parseModel(sparse, read);
    expect(shape(parsed)).toEqual(shape(parseModel(model)));
    for (const { constant, name } of parsed.graph.values)
      if (constant?.stored)
        expect([name, (await constant.load()).data]).toEqual([name, name === 'c' ? big.map((v) => v * 3) : big]);
  });

  it('is refused as the whole file is when it is cut or changed, in bounded time', async () => {
    let state = 7;
    const random = (n: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * n);
    };
    const heads = [0, 1, 2, 3].map((k) => model.indexOf(0x2a, k * 4 * COUNT)).filter((at) => at >= 0);
    const started = performance.now();
    for (let i = 0; i < 150; i++) {
      const bytes = model.slice(0, i % 3 === 0 ? random(model.length) : model.length);
      for (let k = 0; k < i % 4; k++) {
        const at =
          i % 2 === 0 ? random(bytes.length) : (heads[random(heads.length)]! + random(60)) % Math.max(1, bytes.length);
        if (at < bytes.length) bytes[at] = random(256);
      }
      const [whole, ranged, streamed] = [
        await attempt(async () => parseModel(bytes).graph.values.forEach((v) => v.constant?.peek())),
        await viaScan(bytes, false, 0),
        await viaScan(bytes, true, 1 + random(200_000)),
      ];
      expect([ranged === 'fine', streamed === 'fine'], `${i}: ${ranged}, ${streamed}`).toEqual([
        whole === 'fine',
        whole === 'fine',
      ]);
    }
    expect(performance.now() - started).toBeLessThan(30_000);
  }, 40_000);
});

describe('SHA-256', () => {
  it.each([0, 1, 3, 55, 56, 63, 64, 65, 119, 120, 128, 1000, 100_003])(
    'of %i bytes is what Node says, whatever the pieces',
    (length) => {
      const bytes = Uint8Array.from({ length }, (_, i) => (i * 31) & 255);
      for (const piece of [1 << 20, 64, 37]) {
        const hash = sha256();
        for (let at = 0; at < length; at += piece) hash.update(bytes.subarray(at, at + piece));
        expect(Buffer.from(hash.digest()).toString('hex')).toBe(createHash('sha256').update(bytes).digest('hex'));
      }
    },
  );
  it('is asked for in one form', () => {
    expect(expectedDigests(`${digest(model)} ${digest(split)}?x`)).toHaveLength(2);
    for (const bad of ['', 'sha384-abc', 'sha256-abc', digest(model).slice(7)])
      expect(() => expectedDigests(bad)).toThrow(/integrity/);
  });
});
