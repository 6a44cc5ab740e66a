import { describe, test } from 'vitest';
import { BITS, bytesOf, type DType, isFloat, ONNX_OF_DTYPE } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { type Tensor, tensorOver } from '../src/core/tensor.ts';
import { casts } from '../kernels/cast.ts';
import { castKernel } from '../kernels/wasm/cast.ts';
import { ALL } from '../kernels/define.ts';
import { agree, CAPS, SHARED, source } from './wasm-device.ts';

const caps = (n: number) => (n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!);
const EXACT = { atol: 0, rtol: 0 };

describe('casts', () => {
  const types = ALL.filter((d): d is DType => d !== 'string' && !d.startsWith('complex'));
  const odd = [0, -0, NaN, Infinity, -Infinity, 0.5, 1.5, -0.5, 2 ** -127, 2 ** -126, 2 ** -10, 1.75, 2.5, 3.5, 5, 6.1, 239, 240, 247, 248, 249, 447, 448, 464, 465, 480, 57344, 61439, 61440, 65504, 1e9, -1e9, 2 ** 31, 2 ** 32 + 5, 2 ** 40 + 3, -(2 ** 53), 2 ** 63, 1e19, 1e20, 1e30, -1e30, 1e38, 1e-40];
  const some = (s: ReturnType<typeof source>, d: DType, n: number): Tensor => {
    if (BITS[d] <= 8 && d !== 'bool') return tensorOver(d, [n], Uint8Array.from({ length: bytesOf(d, n) }, (_, i) => (2 * i + 1 < 2 ** 8 && BITS[d] < 8 && (i + 1) * 8 > n * BITS[d] ? s.int(0, 255) & ((1 << ((n * BITS[d]) % 8 || 8)) - 1) : s.int(0, 255))));
    const value = (): number => (s.int(0, 2) === 0 ? s.pick(odd) : (s.next() - 0.5) * 2 ** s.int(-20, 70));
    return fromNumbers(d, [n], Array.from({ length: n }, () => { const v = value(); return isFloat(d) ? v : v !== v || Math.abs(v) === Infinity ? 1 : Math.trunc(v); }));
  };
  test('from every type to every type', async () => {
    const s = source();
    let n = 0;
    for (const from of types) for (const to of types) {
      const small = [from, to].some((d) => BITS[d] < 8 || /^float8/.test(d));
      if (!small) continue;
      for (const attrs of [{ saturate: 1 }, { saturate: 0, clamp_nibbles: 1, round_mode: 'nearest' }, { round_mode: 'down' }]) {
        n++;
        await agree(casts[0]!, { attrs: { to: ONNX_OF_DTYPE[to], ...attrs }, inputs: [some(s, from, s.pick([1, 2, 3, 5, 7, 64, 131]))], kernel: castKernel, caps: caps(n), ...EXACT }, `${from} to ${to}`);
      }
    }
  });
  test('every 8-bit pattern', async () => {
    for (const from of types.filter((d) => BITS[d] === 8 && d !== 'bool')) {
      const all = tensorOver(from, [256], Uint8Array.from({ length: 256 }, (_, i) => i));
      for (const to of ['float32', 'float16', 'int8', 'float8e5m2', 'float4e2m1', 'bool', 'int64'] as const) await agree(casts[0]!, { attrs: { to: ONNX_OF_DTYPE[to] }, inputs: [all], kernel: castKernel, ...EXACT }, `${from} to ${to}`);
    }
  });
  test('bits under another name', async () => {
    const s = source();
    for (const [a, b] of [['float32', 'int32'], ['int4', 'uint4'], ['bool', 'uint8'], ['float16', 'bfloat16'], ['float64', 'uint64']] as const) for (const n of [1, 2, 5, 33]) {
      await agree(casts[2]!, { attrs: { to: ONNX_OF_DTYPE[b] }, inputs: [s.tensor(a, [n])], ...EXACT });
    }
  });
});
