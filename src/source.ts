import { safePath } from './1-parse/external.ts';
import { fail } from './core/errors.ts';

/** Where a model comes from. */
export type ModelSource = string | URL | Uint8Array | ArrayBuffer | Blob;

/** Reads `length` bytes at `offset` of an external data file. */
export type ReadExternal = (file: string, offset: number, length: number) => Uint8Array | Promise<Uint8Array>;

export interface OpenModel { readonly bytes: Uint8Array; readonly name: string; readonly external: ReadExternal }

/** Reads a model's graph; external data stays where it is until a weight is wanted. @throws external_data_missing, model_not_onnx */
export async function openModel(source: ModelSource, given: Readonly<Record<string, Uint8Array>>): Promise<OpenModel> {
  const fromGiven = (file: string, offset: number, length: number): Uint8Array | undefined => {
    if (!Object.hasOwn(given, file)) return undefined;
    const bytes = given[file]!;
    if (offset + length > bytes.byteLength) fail('external_data_missing', `external data ${file} has ${bytes.byteLength} bytes; the model wants ${length} at ${offset}`);
    return bytes.subarray(offset, offset + length);
  };
  const missing = (file: string): never => fail('external_data_missing', `the model keeps weights in ${JSON.stringify(file)}; pass its bytes as externalData: { ${JSON.stringify(file)}: … }`);
  const onlyGiven: ReadExternal = (file, offset, length) => fromGiven(file, offset, length) ?? missing(file);

  if (source instanceof Uint8Array) return { bytes: source, name: 'model', external: onlyGiven };
  if (source instanceof ArrayBuffer) return { bytes: new Uint8Array(source), name: 'model', external: onlyGiven };
  if (typeof Blob !== 'undefined' && source instanceof Blob) return { bytes: new Uint8Array(await source.arrayBuffer()), name: 'name' in source ? String(source.name) : 'model', external: onlyGiven };
  const text = String(source);
  if (isPath(text)) {
    const { openFile } = await import('./source-node.ts');
    return openFile(text, fromGiven, missing);
  }
  const url = new URL(text, typeof location === 'undefined' ? undefined : location.href);
  const bytes = await fetchBytes(url);
  return {
    bytes, name: url.pathname.split('/').pop() || text,
    external: async (file, offset, length) => fromGiven(file, offset, length) ?? fetchRange(new URL(safePath(file), url), offset, length),
  };
}

/** In Node, what is no http(s), data or blob URL is a path. */
const isPath = (text: string): boolean => typeof process !== 'undefined' && process.versions?.node !== undefined && !/^(https?|data|blob):/.test(text);

async function fetchBytes(url: URL): Promise<Uint8Array> {
  const response = await fetch(url);
  if (!response.ok) fail('model_not_onnx', `${url} answered ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function fetchRange(url: URL, offset: number, length: number): Promise<Uint8Array> {
  const response = await fetch(url, { headers: { range: `bytes=${offset}-${offset + length - 1}` } });
  if (!response.ok) fail('external_data_missing', `${url} answered ${response.status} ${response.statusText}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  const part = response.status === 206 ? bytes : bytes.subarray(offset, offset + length);
  if (part.byteLength !== length) fail('external_data_missing', `${url} gave ${part.byteLength} bytes of ${length} at ${offset}`);
  return part;
}
