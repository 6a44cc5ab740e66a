import { safePath } from './1-parse/external.ts';
import { fail } from './core/errors.ts';
import type { OpenModel } from './source.ts';

/** A module of Node's. The name is an argument so that no bundler follows the import: bundles for browsers hold this file, and never run it. */
const builtin = <T>(name: string): Promise<T> => import(/* @vite-ignore */ /* webpackIgnore: true */ name) as Promise<T>;
const files = (): Promise<typeof import('node:fs/promises')> => builtin('node:fs/promises');
const paths = (): Promise<typeof import('node:path')> => builtin('node:path');

/** A model in a file; its external data is read by ranges from files beside it, and from nowhere else. */
export async function openFile(path: string, given: (file: string, offset: number, length: number) => Uint8Array | undefined, missing: (file: string) => never): Promise<OpenModel> {
  const [{ readFile, realpath }, { basename, dirname }, { fileURLToPath }] = await Promise.all([files(), paths(), builtin<typeof import('node:url')>('node:url')]);
  const file = path.startsWith('file:') ? fileURLToPath(path) : path;
  const bytes = await readFile(file).catch((e: Error) => fail('model_not_onnx', `cannot read ${file}: ${e.message}`));
  const folder = await realpath(dirname(file));
  return {
    bytes, name: basename(file),
    external: async (location, offset, length) => given(location, offset, length) ?? readRange(folder, location, offset, length, missing),
  };
}

async function readRange(folder: string, location: string, offset: number, length: number, missing: (file: string) => never): Promise<Uint8Array> {
  const [{ constants, open, realpath }, { join, sep }] = await Promise.all([files(), paths()]);
  const wanted = join(folder, safePath(location));
  const real = await realpath(wanted).catch(() => missing(location));
  if (!real.startsWith(folder.endsWith(sep) ? folder : folder + sep)) fail('external_data_unsafe', `external data ${JSON.stringify(location)} leads out of the model's folder`);
  const handle = await open(real, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0));
  try {
    const stat = await handle.stat();
    if (!stat.isFile() || stat.nlink > 1) fail('external_data_unsafe', `external data ${JSON.stringify(location)} is no plain file of its own`);
    if (offset + length > stat.size) fail('external_data_missing', `external data ${location} has ${stat.size} bytes; the model wants ${length} at ${offset}`);
    const bytes = new Uint8Array(length);
    await handle.read(bytes, 0, length, offset);
    return bytes;
  } finally {
    await handle.close();
  }
}
