/** What a file is that is no ONNX model, told by its first bytes. */
import { fail } from '../core/errors.ts';

/** Bytes that `checkStart` looks at. */
export const START = 64;

/**
 * Refuses a file that begins as others do. With `sure`, only where no ONNX model could begin so; without, also where
 * none is likely to.
 * @throws model_not_onnx
 */
export function checkStart(bytes: Uint8Array, sure: boolean): void {
  if (bytes.length === 0) fail('model_not_onnx', 'the file is empty');
  const known = signatureOf(bytes, sure);
  if (known) fail('model_not_onnx', `this looks like ${known}, not an ONNX model; it starts with ${startOf(bytes)}`);
}

function signatureOf(bytes: Uint8Array, sure: boolean): string | null {
  const text = String.fromCharCode(...bytes.subarray(0, START)).replace(/^\u00ef\u00bb\u00bf/, '');
  if (/^\s*</.test(text)) return 'an HTML or XML page (was the address right, and did the server find the file?)';
  if (text.startsWith('version https://git-lfs')) return 'a Git LFS pointer (the file itself was not fetched)';
  if (/^\s*[{[]/.test(text)) return 'JSON';
  if (text.startsWith('PK\u0003\u0004')) return 'a ZIP archive (a PyTorch file, or a zipped model)';
  if (text.startsWith('\u001f\u008b')) return 'a gzip file: serve it with content-encoding: gzip, or unpack it';
  if (text.startsWith('GGUF')) return 'a GGUF model';
  if (text.startsWith('\u0089HDF')) return 'an HDF5 (Keras) file';
  if (text.slice(4, 9) === '\0\0\0\0{') return 'a safetensors file';
  if (sure) return null;
  if (bytes[0] === 0x80 && bytes[1]! > 1 && bytes[1]! < 6) return 'a Python pickle';
  if (text.slice(4, 8) === 'ORTM') return "a model in ONNX Runtime's own format (.ort)";
  if (text.slice(4, 8) === 'TFL3') return 'a TensorFlow Lite model';
  if (/^[\t\r\n -~]+$/.test(text)) return 'text';
  return null;
}

/** The first bytes, as they may stand in a message. */
export function startOf(bytes: Uint8Array): string {
  const start = bytes.subarray(0, 16);
  return start.every((b) => b >= 32 && b < 127)
    ? JSON.stringify(String.fromCharCode(...start))
    : Array.from(start, (b) => b.toString(16).padStart(2, '0')).join(' ');
}
