/** A folder served to a page, and the Chromium that shows it. */
import { spawnSync } from 'node:child_process';
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, extname, join, normalize } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import type { Browser, Page } from 'puppeteer-core';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

export interface Site {
  readonly address: string;
  close(): Promise<void>;
}

/**
 * Serves files below folders, by the first part of the path, and bytes by their whole path. A page chooses its own
 * headers: `?isolated` adds COOP and COEP, `?csp=…` a Content-Security-Policy.
 */
export async function serve(
  folders: Readonly<Record<string, string>>,
  bytes: ReadonlyMap<string, Uint8Array | string>,
): Promise<Site> {
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const path = normalize(decodeURIComponent(url.pathname));
    const csp = url.searchParams.get('csp');
    const headers = {
      'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
      'cache-control': 'no-store',
      ...(url.searchParams.has('isolated')
        ? { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' }
        : {}),
      ...(csp === null ? {} : { 'content-security-policy': csp }),
    };
    const made = bytes.get(path);
    if (made !== undefined) return void response.writeHead(200, headers).end(made);
    const [, first, ...rest] = path.split('/');
    const file = folders[first!] === undefined ? undefined : join(folders[first!]!, ...rest);
    if (file === undefined || !existsSync(file) || !statSync(file).isFile())
      return void response.writeHead(404).end(`there is no ${path}`);
    createReadStream(file).pipe(response.writeHead(200, headers));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}

/** WebGPU by SwiftShader, whatever the machine has; nothing that calls home. */
const FLAGS = [
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--enable-features=Vulkan',
  '--use-vulkan=swiftshader',
  '--use-angle=swiftshader',
  '--disable-background-networking',
  '--no-first-run',
  '--disable-sync',
  '--disable-component-update',
  '--disable-dev-shm-usage',
];

/** What goes wrong in a page from now on: errors that nobody catches or that it logs, and requests that fail. */
export function watch(page: Page): string[] {
  const errors: string[] = [];
  page.on('pageerror', (e) => errors.push(String(e)));
  page.on('console', (m) => {
    if (m.type() === 'error') errors.push(m.text());
  });
  // What a page breaks off itself, as one that has read all it needs, has not failed.
  page.on('requestfailed', (r) => {
    if (r.failure()?.errorText !== 'net::ERR_ABORTED') errors.push(`${r.url()}: ${r.failure()?.errorText}`);
  });
  page.on('response', (r) => {
    if (r.status() >= 400) errors.push(`${r.url()}: ${r.status()}`);
  });
  return errors;
}

/**
 * Chromium from CHROME_PATH, from `@sparticuz/chromium` on 64-bit Linux, else the Chrome that is installed. What a page
 * is asked may take `patience` ms;
 * `flags` are further ones.
 * @throws with what to do, if none starts
 */
export async function launch(patience = 120_000, flags: readonly string[] = []): Promise<Browser> {
  const { launch: start } = await import('puppeteer-core');
  const own = process.env['CHROME_PATH'];
  const packaged = own === undefined && process.platform === 'linux' && process.arch === 'x64';
  let executablePath = own;
  let libraries: string | null = null;
  try {
    if (packaged) {
      executablePath = await (await import('@sparticuz/chromium')).default.executablePath();
      libraries = unpackLibraries(executablePath);
    }
    const env =
      libraries === null
        ? process.env
        : {
            ...process.env,
            LD_LIBRARY_PATH: [join(libraries, 'lib'), process.env['LD_LIBRARY_PATH']].filter(Boolean).join(delimiter),
          };
    const browser = await start({
      ...(executablePath === undefined ? { channel: 'chrome' as const } : { executablePath }),
      env,
      headless: 'shell',
      args: [...FLAGS, ...flags],
      timeout: 60_000,
      protocolTimeout: patience,
    });
    browser.once('disconnected', () => {
      if (libraries !== null) rmSync(libraries, { recursive: true, force: true });
    });
    return browser;
  } catch (cause) {
    if (libraries !== null) rmSync(libraries, { recursive: true, force: true });
    const advice = packaged ? ' If it was cut short while it was unpacked, delete that file.' : '';
    throw new Error(
      `Chromium does not start (${executablePath ?? 'the Chrome that is installed'}); set CHROME_PATH to one that does.${advice} ${(cause as Error).message}`,
      { cause },
    );
  }
}

/**
 * A folder with nss, nspr and expat, which the package brings for machines that lack them; null where they are there.
 */
function unpackLibraries(executable: string): string | null {
  if (!spawnSync('ldd', [executable], { encoding: 'utf8' }).stdout?.includes('not found')) return null;
  const folder = mkdtempSync(join(tmpdir(), 'sardonyx-libraries-'));
  const archive = join(
    dirname(createRequire(import.meta.url).resolve('@sparticuz/chromium')),
    '..',
    '..',
    'bin',
    'al2023.tar.br',
  );
  const { status, stderr, error } = spawnSync('tar', ['-x', '-C', folder], {
    input: brotliDecompressSync(readFileSync(archive)),
  });
  if (status !== 0) throw new Error(`cannot unpack ${archive}: ${error?.message ?? String(stderr)}`);
  return folder;
}

/** The text of a file that the build makes. @throws with the command that makes it */
export function built(file: string): string {
  if (!existsSync(file)) throw new Error(`${file} is not built: run \`npm run build\``);
  return readFileSync(file, 'utf8');
}
