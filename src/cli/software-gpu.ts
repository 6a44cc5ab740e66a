/**
 * A Vulkan driver in software for machines without a GPU: SwiftShader, from the optional package `@sparticuz/chromium`.
 *
 * Vulkan's loader looks for drivers where environment variables say, and the dynamic linker reads its own when a
 * process starts: so the driver is chosen for a child process, never for this one.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { homedir, tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { brotliDecompress } from 'node:zlib';

/** Set in processes that already have the driver. */
const GUARD = 'SARDONYX_SOFTWARE_GPU';
const ICD = 'vk_swiftshader_icd.json';
const FILES: readonly string[] = ['libvk_swiftshader.so', 'libvulkan.so.1', ICD];

/**
 * What to add to a child's environment so that WebGPU there finds SwiftShader and nothing else; null where the package
 * is not installed or has no driver for this platform.
 */
export async function softwareGpuEnv(): Promise<Record<string, string> | null> {
  const archive = findArchive();
  if (archive === null) return null;
  const folder = await unpacked(archive);
  const icd = join(folder, ICD);
  return {
    [GUARD]: '1',
    VK_ICD_FILENAMES: icd,
    VK_DRIVER_FILES: icd,
    LD_LIBRARY_PATH: [folder, process.env['LD_LIBRARY_PATH']].filter(Boolean).join(delimiter),
    XDG_RUNTIME_DIR: process.env['XDG_RUNTIME_DIR'] ?? tmpdir(), // the loader complains without one
  };
}

/**
 * Runs this same command again, with SwiftShader, and ends with its exit status. False if that cannot help: this is
 * already such a process, or there is no driver to be had.
 */
export async function respawnWithSoftwareGpu(): Promise<false> {
  if (process.env[GUARD] !== undefined) return false;
  const env = await softwareGpuEnv();
  if (env === null) return false;
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
  return new Promise((_, reject) => {
    child.once('error', reject);
    child.once('exit', (status, signal) => process.exit(status ?? (signal === 'SIGINT' ? 130 : 143)));
  });
}

/**
 * The package is looked for beside this file, then from the working directory (for a command that is installed
 * globally).
 */
function findArchive(): string | null {
  if (process.platform !== 'linux' || process.arch !== 'x64') return null;
  for (const from of [import.meta.url, join(process.cwd(), 'package.json')]) {
    try {
      let folder = dirname(createRequire(from).resolve('@sparticuz/chromium'));
      while (!existsSync(join(folder, 'package.json')) || !existsSync(join(folder, 'bin'))) {
        if (folder === dirname(folder)) break;
        folder = dirname(folder);
      }
      const archive = join(folder, 'bin', 'swiftshader.tar.br');
      if (existsSync(archive)) return archive;
    } catch {
      // Not installed as seen from there.
    }
  }
  return null;
}

/** The folder with the driver, unpacked once for each version of the archive. */
async function unpacked(archive: string): Promise<string> {
  const { size, mtimeMs } = await stat(archive);
  const name = `swiftshader-${size}-${Math.round(mtimeMs)}`;
  const modules = archive.slice(0, archive.lastIndexOf('node_modules') + 'node_modules'.length);
  const places = [
    join(modules, '.cache', 'sardonyx'),
    join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'sardonyx'),
  ];
  for (const place of places) if (existsSync(join(place, name))) return join(place, name);
  const files = tarEntries(await promisify(brotliDecompress)(await readFile(archive)));
  let failure: unknown;
  for (const place of places) {
    try {
      await mkdir(place, { recursive: true });
      // Renamed when complete: a process that runs beside this one never sees half of it.
      const draft = await mkdtemp(join(place, 'draft-'));
      for (const file of FILES) await writeFile(join(draft, file), files.get(file) ?? missing(file, archive));
      await rename(draft, join(place, name)).catch(async (e: unknown) => {
        await rm(draft, { recursive: true, force: true });
        if (!existsSync(join(place, name))) throw e;
      });
      return join(place, name);
    } catch (e) {
      failure = e;
    }
  }
  throw failure;
}

function missing(file: string, archive: string): never {
  throw new Error(`${file} is not in ${archive}`);
}

/** The plain files of a tar archive, by name (POSIX ustar: 512-byte headers with octal sizes). */
function tarEntries(tar: Uint8Array): Map<string, Uint8Array> {
  const text = (from: number, length: number): string =>
    new TextDecoder().decode(tar.subarray(from, from + length)).replace(/\0.*/s, '');
  const files = new Map<string, Uint8Array>();
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    const kind = text(at + 156, 1);
    if (kind === '0' || kind === '') files.set(text(at, 100), tar.subarray(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}
