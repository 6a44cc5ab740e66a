/** NumPy's .npy files. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
import type { DType } from '../core/dtype.ts';
import { fail } from '../core/errors.ts';
import { bytesOfTensor, type Tensor, tensorOver } from '../core/tensor.ts';

const DTYPES: Readonly<Record<string, DType>> = {
  '<f4': 'float32',
  '<f8': 'float64',
  '<f2': 'float16',
  '|b1': 'bool',
  '|i1': 'int8',
  '|u1': 'uint8',
  '<i2': 'int16',
  '<u2': 'uint16',
  '<i4': 'int32',
  '<u4': 'uint32',
  '<i8': 'int64',
  '<u8': 'uint64',
  '<c8': 'complex64',
  '<c16': 'complex128',
};

/** @throws input_dtype, input_shape for what is no little-endian, row-major array of a dtype that ONNX has */
export function parseNpy(bytes: Uint8Array): Tensor {
  if (bytes.length < 12 || String.fromCharCode(...bytes.subarray(1, 6)) !== 'NUMPY')
    fail('input_dtype', 'this is no .npy file');
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const wide = bytes[6]! >= 2;
  const start = (wide ? 12 : 10) + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder().decode(bytes.subarray(wide ? 12 : 10, start));
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1] ?? '';
  const dtype = Object.hasOwn(DTYPES, descr)
    ? DTYPES[descr]!
    : fail(
        'input_dtype',
        `a .npy file of type ${JSON.stringify(descr)} is not read; known: ${Object.keys(DTYPES).join(' ')}`,
      );
  const shape = (/'shape':\s*\(([^)]*)\)/.exec(header)?.[1] ?? fail('input_shape', 'the .npy file has no shape'))
    .split(',')
    .map((s) => s.trim())
    .filter(Boolean)
    .map(Number);
  if (/'fortran_order':\s*True/.test(header) && shape.filter((d) => d > 1).length > 1)
    fail('input_shape', 'the .npy file is in Fortran order; save it with numpy.ascontiguousarray');
  if (shape.some((d) => !Number.isSafeInteger(d) || d < 0))
    fail('input_shape', `the .npy file has the shape [${shape}]`);
  return tensorOver(dtype, shape, bytes.subarray(start));
}

/** @throws input_dtype for a dtype that NumPy does not have */
export function encodeNpy(t: Tensor): Uint8Array {
  const descr =
    Object.entries(DTYPES).find(([, dtype]) => dtype === t.dtype)?.[0] ??
    fail('input_dtype', `NumPy has no ${t.dtype}`);
  const shape = t.shape.length === 1 ? `${t.shape[0]},` : t.shape.join(', ');
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape}), }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64;
  const head = new TextEncoder().encode(`\u0000NUMPY\u0001\u0000\u0000\u0000${text.padEnd(length - 11)}\n`);
  head[0] = 0x93;
  new DataView(head.buffer).setUint16(8, length - 10, true);
  const body = bytesOfTensor(t);
  const out = new Uint8Array(length + body.length);
  out.set(head);
  out.set(body, length);
  return out;
}
