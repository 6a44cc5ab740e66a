/** A folder served to a page, and the Chromium that shows it. */
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import type { Browser } from 'puppeteer-core';

const TYPES: Readonly<Record<string, string>> = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.json': 'application/json', '.wasm': 'application/wasm' };

export interface Site { readonly address: string; close(): Promise<void> }

/**
 * Serves files below folders, by the first part of the path, and bytes by their whole path. A page chooses its own headers: `?isolated`
 * adds COOP and COEP, `?csp=…` a Content-Security-Policy.
 */
export async function serve(folders: Readonly<Record<string, string>>, bytes: ReadonlyMap<string, Uint8Array | string>): Promise<Site> {
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const path = normalize(decodeURIComponent(url.pathname));
    const csp = url.searchParams.get('csp');
    const headers = {
      'content-type': TYPES[extname(path)] ?? 'application/octet-stream', 'cache-control': 'no-store',
      ...(url.searchParams.has('isolated') ? { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' } : {}),
      ...(csp === null ? {} : { 'content-security-policy': csp }),
    };
    const made = bytes.get(path);
    if (made !== undefined) return void response.writeHead(200, headers).end(made);
    const [, first, ...rest] = path.split('/');
    const file = folders[first!] === undefined ? undefined : join(folders[first!]!, ...rest);
    if (file === undefined || !existsSync(file) || !statSync(file).isFile()) return void response.writeHead(404).end(`there is no ${path}`);
    createReadStream(file).pipe(response.writeHead(200, headers));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => new Promise((resolve) => {
      server.closeAllConnections();
      server.close(() => resolve());
    }),
  };
}

/** WebGPU by SwiftShader, whatever the machine has; nothing that calls home. */
const FLAGS = [
  '--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan', '--use-vulkan=swiftshader', '--use-angle=swiftshader',
  '--disable-background-networking', '--no-first-run', '--disable-sync', '--disable-component-update', '--disable-dev-shm-usage',
];

/** Chromium from CHROME_PATH, from `@sparticuz/chromium` on 64-bit Linux, else the Chrome that is installed. @throws with what to do, if none starts */
export async function launch(): Promise<Browser> {
  const { launch: start } = await import('puppeteer-core');
  const own = process.env['CHROME_PATH'];
  try {
    const bundled = process.platform === 'linux' && process.arch === 'x64';
    const executablePath = own ?? (bundled ? await (await import('@sparticuz/chromium')).default.executablePath() : undefined);
    return await start({ ...(executablePath === undefined ? { channel: 'chrome' as const } : { executablePath }), headless: 'shell', args: FLAGS, timeout: 60_000, protocolTimeout: 120_000 });
  } catch (cause) {
    throw new Error(`Chromium does not start (${own ?? 'from the package @sparticuz/chromium, or the installed Chrome'}): set CHROME_PATH to one that does. ${(cause as Error).message}`, { cause });
  }
}

/** The text of a file that the build makes. @throws with the command that makes it */
export function built(file: string): string {
  if (!existsSync(file)) throw new Error(`${file} is not built: run \`npm run build\``);
  return readFileSync(file, 'utf8');
}
