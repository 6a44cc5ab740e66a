import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf } from '../src/core/tensor.ts';
import { defineOp, int, required } from './define.ts';
import { product, reals } from './matmul-product.ts';

const HALF = [0, 5.208333333e-3, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25];
/**
 * What the 16 codes of bitsandbytes stand for: FP4 (a sign bit and three more), and NF4 (quantiles of the normal
 * distribution).
 */
export const BNB4: readonly (readonly number[])[] = [
  [...HALF, ...HALF.map((v) => -v)],
  [
    -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
  ],
];

/**
 * B is [N, K] in one run of codes, two a byte with the first in the high half; every `block_size` of them share an
 * absmax. With transB the product is A B^T, else A B. https://arxiv.org/abs/2305.14314
 */
export const matMulBnb4 = defineOp({
  op: 'com.microsoft.MatMulBnb4',
  since: [1],
  inputs: ['A: T1', 'B: uint8', 'absmax: T1'],
  outputs: ['Y: T1'],
  types: { T1: ['float32', 'float16', 'bfloat16'] },
  attrs: {
    K: required(int()),
    N: required(int()),
    block_size: required(int()),
    quant_type: required(int()),
    training_mode: int(0),
    transB: int(1),
  },
  infer: (call) => {
    const { K, N, block_size, quant_type, transB } = call.attrs;
    const a = call.fact(0);
    const inner = transB ? K : N;
    if (quant_type !== 0 && quant_type !== 1)
      fail('attribute_invalid', `quant_type ${quant_type} must be 0 (FP4) or 1 (NF4)`);
    if (block_size < 16 || (block_size & (block_size - 1)) !== 0)
      fail('attribute_invalid', `block_size ${block_size} must be a power of two of at least 16`);
    if (K < 1 || N < 1) fail('attribute_invalid', `K ${K} and N ${N} must be positive`);
    if (a.shape.length < 1 || a.shape[a.shape.length - 1] !== inner)
      fail('shape_mismatch', `A has shape [${a.shape}]; its last dim must be ${inner}`);
    if (sizeOf(call.fact(1).shape) !== Math.ceil((N * K) / 2))
      fail('shape_mismatch', `B has shape [${call.fact(1).shape}], not [${Math.ceil((N * K) / 2)}]`);
    if (sizeOf(call.fact(2).shape) !== Math.ceil((N * K) / block_size))
      fail('shape_mismatch', `absmax has shape [${call.fact(2).shape}], not [${Math.ceil((N * K) / block_size)}]`);
    return [{ dtype: a.dtype, shape: [...a.shape.slice(0, -1), transB ? N : K] }];
  },
  reference: (call) => {
    const { K, N, block_size, quant_type, transB } = call.attrs;
    const t = call.tensor(0);
    const x = reals(t);
    const codes = numbers(call.tensor(1));
    const top = numbers(call.tensor(2));
    const value = BNB4[quant_type]!;
    const w = new Float64Array(N * K);
    for (let i = 0; i < w.length; i++)
      w[i] = value[i % 2 === 0 ? codes[i >> 1]! >> 4 : codes[i >> 1]! & 15]! * top[Math.floor(i / block_size)]!;
    const [k, n] = transB ? [K, N] : [N, K];
    const rows = x.length / k;
    const y = new Float64Array(rows * n);
    product(
      { data: y, at: 0, row: n, col: 1 },
      { data: x, at: 0, row: k, col: 1 },
      { data: w, at: 0, row: transB ? 1 : K, col: transB ? K : 1 },
      rows,
      n,
      k,
    );
    return [fromNumbers(t.dtype, [...t.shape.slice(0, -1), n], y)];
  },
});
