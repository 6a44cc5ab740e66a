/** Problems that every tuning measures, and small ones of awkward shapes on which every variant must be right. */
import { input as ex, x } from '../../kernels/expr.ts';
import type { GpuCaps } from '../core/plan.ts';
import { floats, type Input, makeProblem, type Problem, weight } from './problem.ts';

const bytes = (...shape: number[]): Input => ({ dtype: 'uint8', shape, weight: true });
const bound = (v: number, dtype: 'float32' | 'int8' | 'uint8' = 'float32'): Input => ({
  dtype,
  shape: [],
  data: [v],
  weight: true,
});
const nbits = (m: number, n: number, k: number): Problem =>
  makeProblem(
    'com.microsoft.MatMulNBits',
    [floats(m, k), bytes(n, Math.ceil(k / 32), 16), weight(n * Math.ceil(k / 32))],
    { K: k, N: n, bits: 4, block_size: 32 },
  );
/** The same, rounding what it multiplies to bytes. */
const bytewise = (m: number, n: number, k: number, bits = 4): Problem =>
  makeProblem('com.microsoft.MatMulNBits', [floats(m, k), bytes(n, k / 32, 4 * bits), weight((n * k) / 32)], {
    K: k,
    N: n,
    bits,
    block_size: 32,
    accuracy_level: 4,
  });
const ints = (...data: number[]): Input => ({ dtype: 'int64', shape: [data.length], data, weight: true });
const reduced = (op: string, shape: readonly number[], ...axes: number[]): Problem =>
  makeProblem(`Reduce${op}`, [floats(...shape), ints(...axes)]);
/** With every input that is a float: biases, initial states, and peepholes for an LSTM. */
const recurrent = (
  op: 'LSTM' | 'GRU' | 'RNN',
  [steps, batch, input, hidden]: readonly [number, number, number, number],
  attrs: Readonly<Record<string, string | number>> = {},
): Problem => {
  const gates = { LSTM: 4, GRU: 3, RNN: 1 }[op];
  const both = attrs['direction'] === 'bidirectional' ? 2 : 1;
  const state = floats(both, batch, hidden);
  const rows = gates * hidden;
  return makeProblem(
    op,
    [
      floats(steps, batch, input),
      weight(both, rows, input),
      weight(both, rows, hidden),
      weight(both, 2 * rows),
      null,
      state,
      ...(op === 'LSTM' ? [state, weight(both, 3 * hidden)] : []),
    ],
    attrs,
    op === 'LSTM' ? 3 : 2,
  );
};
const attention = (
  q: readonly number[],
  k: readonly number[],
  width: number,
  mask: Input | null = null,
  attrs: Readonly<Record<string, number>> = {},
): Problem => makeProblem('Attention', [floats(...q), floats(...k), floats(...k.slice(0, -1), width), mask], attrs);
/** One step or more of decoding behind `past` keys, over `total`. */
const grouped = (steps: number, past: number, size: number, attrs: Readonly<Record<string, number>> = {}): Problem =>
  makeProblem(
    'com.microsoft.GroupQueryAttention',
    [
      floats(1, steps, 4 * size),
      floats(1, steps, 2 * size),
      floats(1, steps, 2 * size),
      ...(past > 0 ? [floats(1, 2, past, size), floats(1, 2, past, size)] : [null, null]),
      { dtype: 'int32', shape: [1], data: [past + steps - 1], weight: true },
      { dtype: 'int32', shape: [], data: [past + steps], weight: true },
    ],
    { num_heads: 4, kv_num_heads: 2, ...attrs },
    3,
  );
const resized = (
  shape: readonly number[],
  to: readonly number[],
  attrs: Readonly<Record<string, string | number>>,
): Problem => makeProblem('Resize', [floats(...shape), null, null, ints(...to)], attrs);
const conv = (c: number, h: number, f: number, k: number, stride = 1, group = 1, n = 1): Problem =>
  makeProblem('Conv', [floats(n, c, h, h), weight(f, c / group, k, k), weight(f)], {
    kernel_shape: [k, k],
    pads: [k >> 1, k >> 1, k >> 1, k >> 1],
    strides: [stride, stride],
    group,
  });
const map = (...shape: number[]): Problem =>
  makeProblem('sardonyx.Map', [floats(...shape), floats(...shape)], {
    expr: JSON.stringify(x.mul(x.sigmoid(x.add(ex(0, 'f32'), ex(1, 'f32'))), ex(0, 'f32'))),
    dtype: 'float32',
    shape,
  });
const product = (m: number, k: number, n: number, constant = true): Problem =>
  makeProblem('MatMul', [floats(m, k), constant ? weight(k, n) : floats(k, n)]);
const gated = (m: number, k: number, n: number): Problem =>
  makeProblem('sardonyx.GatedMatMul', [floats(m, k), weight(k, 2 * n)], {
    expr: JSON.stringify(x.mul(x.mul(ex(0, 'f32'), x.sigmoid(ex(0, 'f32'))), ex(1, 'f32'))),
  });
const einsum = (m: number, k: number, n: number): Problem =>
  makeProblem('Einsum', [floats(m, k), floats(k, n)], { equation: 'ij,jk->ik' });
const convSum = (c: number, z: number, size: number, f: number, stride = 1, n = 1): Problem =>
  makeProblem(
    'sardonyx.ConvSum',
    [floats(n, c, size, size), floats(n, z, size * stride, size * stride), weight(f, c + z), weight(f)],
    { strides: [stride, stride] },
  );
const layerNorm = (rows: number, n: number): Problem =>
  makeProblem('LayerNormalization', [floats(rows, n), weight(n), weight(n)]);

/**
 * Convolutions of 3 x 3, as channels, size and filters: an octave round each covers those of ResNet, VGG, Inception,
 * DenseNet and SqueezeNet.
 */
const SQUARES = [
  [32, 80, 32],
  [64, 40, 64],
  [128, 80, 128],
  [256, 40, 256],
  [512, 20, 512],
  [512, 8, 512],
  [64, 158, 64],
  [16, 55, 64],
  [32, 27, 128],
  [64, 13, 256],
  [128, 40, 32],
  [128, 20, 32],
  [128, 10, 32],
] as const;

/**
 * The standard set: shapes of common models, in sizes that a software adapter does in milliseconds and hardware in
 * microseconds.
 */
export function standardProblems(caps: Pick<GpuCaps, 'software'>): Problem[] {
  const common = [
    product(1, 768, 768),
    product(1, 768, 3072),
    product(2, 768, 768),
    product(4, 768, 768),
    product(8, 768, 768),
    product(16, 256, 256),
    product(32, 384, 384),
    product(64, 256, 256),
    product(128, 384, 384),
    product(128, 768, 768),
    product(256, 256, 256),
    product(128, 128, 1000),
    product(128, 64, 128, false),
    makeProblem('MatMul', [floats(12, 128, 64), floats(12, 64, 128)]),
    makeProblem('MatMul', [floats(12, 128, 128), floats(12, 128, 64)]),
    makeProblem('MatMul', [floats(4, 197, 64), floats(4, 64, 197)]),
    makeProblem('Gemm', [floats(1, 512), weight(1000, 512), weight(1000)], { transB: 1 }),
    makeProblem('Gemm', [floats(1, 1280), weight(1000, 1280), weight(1000)], { transB: 1 }),
    makeProblem('Gemm', [floats(64, 784), weight(784, 128), weight(128)]),
    conv(3, 112, 32, 3, 2),
    conv(3, 64, 64, 7, 2),
    conv(64, 28, 64, 3),
    conv(128, 14, 128, 3),
    conv(256, 7, 256, 3),
    ...SQUARES.map(([c, size, f]) => conv(c, size, f, 3)),
    conv(64, 56, 64, 1),
    conv(256, 28, 64, 1),
    conv(128, 28, 256, 1),
    conv(512, 7, 512, 1),
    conv(32, 56, 32, 3, 1, 32),
    conv(96, 56, 96, 3, 2, 96),
    conv(192, 28, 192, 3, 1, 192),
    conv(480, 14, 480, 5, 1, 480),
    nbits(1, 768, 768),
    nbits(1, 2048, 768),
    nbits(16, 768, 768),
    bytewise(16, 768, 768),
    reduced('Mean', [128, 768], 1),
    makeProblem('ArgMax', [floats(1, 32000)], { axis: 1 }),
    makeProblem('ConvTranspose', [floats(1, 32, 16, 16), weight(32, 16, 2, 2)], { strides: [2, 2] }),
    makeProblem('Softmax', [floats(1, 1000)]),
    makeProblem('Softmax', [floats(12, 128, 128)]),
    makeProblem('Softmax', [floats(512, 64)]),
    layerNorm(1, 768),
    layerNorm(16, 768),
    layerNorm(128, 768),
    layerNorm(197, 384),
    map(1, 768),
    map(128, 768),
    map(64, 56, 56),
    map(512, 3072),
    makeProblem('GlobalAveragePool', [floats(1, 512, 7, 7)]),
    makeProblem('GlobalAveragePool', [floats(1, 96, 56, 56)]),
  ];
  if (caps.software) return common;
  return [
    ...common,
    ...[512, 1024, 2048, 4096].map((n) => product(n, n, n)),
    product(512, 768, 3072),
    product(512, 3072, 768),
    product(2048, 4096, 4096),
    product(1, 4096, 4096),
    product(1, 4096, 14336),
    product(1, 14336, 4096),
    product(64, 8192, 64),
    makeProblem('MatMul', [floats(64, 512, 512), floats(64, 512, 512)]),
    nbits(1, 4096, 4096),
    nbits(1, 14336, 4096),
    nbits(128, 4096, 4096),
    nbits(8, 4096, 4096),
    conv(64, 56, 64, 3, 1, 1, 8),
    conv(256, 56, 256, 3, 1, 1, 8),
    conv(512, 28, 512, 3, 1, 1, 8),
    conv(64, 224, 64, 3),
    conv(256, 56, 1024, 1, 1, 1, 8),
    conv(576, 56, 576, 3, 1, 576, 8),
    makeProblem('Softmax', [floats(8192, 4096)]),
    makeProblem('Softmax', [floats(32, 1024, 1024)]),
    layerNorm(8192, 4096),
    layerNorm(512, 1024),
    map(4096, 4096),
    map(8192, 4096),
    makeProblem('GlobalAveragePool', [floats(32, 2048, 7, 7)]),
  ];
}

/**
 * Primes, ones, tails behind every vector and tile: small enough for the reference, and between them for every variant
 * to find some that it runs.
 */
export const awkwardProblems = (): Problem[] => [
  product(1, 7, 5),
  product(3, 67, 17),
  product(7, 65, 16),
  product(8, 129, 68),
  product(37, 19, 41),
  product(65, 33, 67),
  product(131, 17, 129),
  product(29, 64, 64),
  product(17, 2003, 29),
  product(1, 83, 130),
  product(5, 1, 3),
  product(67, 35, 31, false),
  product(2, 71, 19, false),
  product(16, 2001, 24, false),
  makeProblem('MatMul', [floats(3, 25, 29), floats(3, 29, 27)]),
  makeProblem('MatMul', [floats(2, 1, 31, 17), floats(3, 17, 26)]),
  makeProblem('MatMul', [floats(13), floats(13, 7)]),
  makeProblem('MatMul', [
    { dtype: 'float16', shape: [33, 37] },
    { dtype: 'float16', shape: [37, 44], weight: true },
  ]),
  makeProblem('Gemm', [floats(17, 2003), weight(2003, 29), null]),
  makeProblem('Gemm', [floats(131, 33), weight(133, 33), weight(133)], { transB: 1 }),
  gated(1, 67, 18),
  gated(7, 65, 16),
  gated(37, 19, 42),
  gated(131, 33, 130),
  gated(3, 128, 34),
  einsum(3, 5, 7),
  einsum(5, 67, 20),
  einsum(65, 33, 67),
  einsum(17, 2003, 29),
  makeProblem('Einsum', [floats(2, 5, 3), floats(2, 3, 7)], { equation: 'bij,bjk->bki' }),
  convSum(3, 5, 7, 4),
  convSum(31, 40, 6, 7, 2),
  convSum(17, 24, 8, 67, 2),
  convSum(13, 5, 9, 33, 1, 3),
  convSum(1003, 1000, 4, 29),
  convSum(1001, 1002, 6, 17, 2),
  ...[
    [1, 8, 5],
    [13, 36, 20],
    [37, 64, 31],
  ].map(([m, k, n]) =>
    makeProblem('MatMulInteger', [
      { dtype: 'uint8', shape: [m!, k!] },
      { dtype: 'int8', shape: [k!, n!], weight: true },
    ]),
  ),
  makeProblem('com.microsoft.QGemm', [
    { dtype: 'int8', shape: [17, 20] },
    bound(0.03),
    bound(3, 'int8'),
    bytes(20, 29),
    bound(0.011),
    bound(7, 'uint8'),
    null,
    null,
    null,
  ]),
  makeProblem('QLinearMatMul', [
    { dtype: 'uint8', shape: [13, 36] },
    bound(0.0313),
    bound(3, 'uint8'),
    bytes(36, 20),
    bound(0.0137),
    bound(7, 'uint8'),
    bound(0.7),
    bound(9, 'uint8'),
  ]),
  makeProblem(
    'ConvInteger',
    [{ dtype: 'uint8', shape: [2, 5, 9, 7] }, { dtype: 'int8', shape: [13, 5, 3, 3], weight: true }, bound(3, 'uint8')],
    { pads: [1, 1, 1, 1], strides: [2, 1] },
  ),
  ...['QLinearConv', 'com.microsoft.QLinearConv'].map((op) =>
    makeProblem(
      op,
      [
        { dtype: 'uint8', shape: [1, 7, 11, 5] },
        bound(0.0313),
        bound(3, 'uint8'),
        bytes(17, 7, 3, 3),
        bound(0.0137),
        bound(7, 'uint8'),
        bound(0.7),
        bound(9, 'uint8'),
      ],
      { pads: [1, 0, 1, 2] },
    ),
  ),
  makeProblem('MatMulInteger', [
    { dtype: 'uint8', shape: [13, 35] },
    { dtype: 'int8', shape: [35, 20], weight: true },
  ]),
  makeProblem('Gemm', [floats(7, 13), weight(11, 13), weight(11)], { transB: 1 }),
  makeProblem('Gemm', [floats(37, 33), weight(37, 29), weight(33, 1)], { transA: 1, alpha: 0.5, beta: 2 }),
  makeProblem('Gemm', [floats(1, 67), weight(67, 34), weight(34)]),
  makeProblem('Gemm', [floats(31, 65), weight(43, 65), null], { transB: 1 }),
  conv(3, 7, 5, 3),
  conv(1, 5, 1, 1),
  conv(13, 11, 17, 1),
  conv(7, 9, 11, 3, 2),
  conv(5, 13, 5, 3, 1, 5),
  conv(6, 8, 6, 5, 2, 6),
  conv(4, 7, 8, 3, 1, 2),
  conv(2, 6, 3, 7),
  conv(16, 11, 33, 1, 1, 1, 3),
  conv(29, 10, 31, 3, 1, 1, 2),
  conv(1, 17, 3, 9),
  conv(223, 5, 29, 3),
  conv(8, 12, 12, 3),
  conv(67, 6, 5, 1),
  conv(2003, 5, 17, 1),
  conv(67, 4, 7, 1),
  makeProblem('Conv', [floats(1, 5, 19), weight(7, 5, 3)], { kernel_shape: [3], dilations: [2] }),
  makeProblem('Conv', [floats(2, 3, 5, 4, 6), weight(4, 3, 2, 3, 2)], {}),
  makeProblem('Conv', [floats(1, 3, 9, 7), floats(5, 3, 3, 2)], { strides: [2, 3], dilations: [1, 2] }),
  makeProblem('ConvTranspose', [floats(1, 3, 5, 4), weight(3, 5, 3, 2)], { strides: [2, 3], pads: [1, 0, 0, 1] }),
  makeProblem('ConvTranspose', [floats(2, 5, 7, 3), weight(5, 3, 2, 2), weight(3)], { strides: [2, 2] }),
  nbits(1, 5, 32),
  nbits(3, 37, 96),
  nbits(7, 68, 64),
  nbits(29, 31, 160),
  nbits(65, 33, 64),
  nbits(1, 67, 2080),
  nbits(131, 133, 64),
  bytewise(1, 7, 64),
  bytewise(37, 36, 96),
  bytewise(9, 67, 160),
  bytewise(5, 20, 128, 8),
  ...['Sum', 'Mean', 'Max', 'Min', 'LogSumExp', 'L1', 'L2', 'SumSquare'].flatMap((op) => [
    reduced(op, [3, 1031], 1),
    reduced(op, [67, 130], 1),
    reduced(op, [523, 5], 0),
    reduced(op, [3, 67, 7], 0, 2),
    reduced(op, [5, 3], 1),
  ]),
  makeProblem('ReduceLogSum', [
    { dtype: 'float32', shape: [3, 67], data: Array.from({ length: 201 }, (_, i) => 0.5 + (i % 7)), weight: true },
    ints(1),
  ]),
  makeProblem('ReduceMax', [{ dtype: 'uint8', shape: [5, 333] }, ints(1)]),
  makeProblem('ReduceProd', [{ dtype: 'int32', shape: [3, 201] }, ints(1)]),
  makeProblem('ReduceMin', [{ dtype: 'int64', shape: [5, 333] }, ints(1)]),
  makeProblem('ArgMax', [floats(7, 517)], { axis: 1 }),
  makeProblem('ArgMin', [{ dtype: 'int32', shape: [3, 301] }], { axis: 1, select_last_index: 1 }),
  makeProblem('Softmax', [floats(1, 1)]),
  makeProblem('Softmax', [floats(5, 17)]),
  makeProblem('Softmax', [floats(3, 1031)]),
  makeProblem('Softmax', [floats(67, 4)]),
  makeProblem('Softmax', [floats(3, 37, 5)], { axis: 1 }),
  makeProblem('LogSoftmax', [floats(7, 131)]),
  makeProblem('Softmax', [{ dtype: 'float16', shape: [5, 37] }]),
  layerNorm(1, 1),
  layerNorm(3, 67),
  layerNorm(29, 128),
  layerNorm(7, 1030),
  layerNorm(65, 3),
  makeProblem('RMSNormalization', [floats(5, 97), weight(97)]),
  makeProblem('InstanceNormalization', [floats(2, 3, 7, 5), weight(3), weight(3)]),
  makeProblem('GroupNormalization', [floats(2, 6, 5, 3), weight(6), weight(6)], { num_groups: 3 }),
  makeProblem('GroupNormalization', [floats(2, 6, 23, 19), weight(6), weight(6)], { num_groups: 2 }),
  makeProblem('sardonyx.ChannelNormalization', [floats(2, 67, 5, 3), weight(67), weight(67)]),
  makeProblem('sardonyx.ChannelNormalization', [floats(1, 1031, 7), weight(1031)], { centred: 0 }),
  makeProblem('com.microsoft.SkipLayerNormalization', [floats(2, 5, 131), floats(2, 5, 131), weight(131), weight(131)]),
  makeProblem('com.microsoft.SkipLayerNormalization', [floats(1, 67, 4), floats(1, 67, 4), weight(4)]),
  makeProblem('com.microsoft.SkipSimplifiedLayerNormalization', [floats(1, 5, 132), floats(1, 5, 132), weight(132)]),
  map(1),
  map(3, 5),
  map(257),
  map(31, 33),
  map(4, 8, 64),
  makeProblem('GlobalAveragePool', [floats(1, 3, 1, 1)]),
  makeProblem('GlobalAveragePool', [floats(2, 5, 7, 7)]),
  makeProblem('GlobalMaxPool', [floats(3, 2, 37, 31)]),
  makeProblem('GlobalLpPool', [floats(1, 3, 11, 13)]),
  makeProblem('MaxPool', [floats(2, 3, 7, 11)], { kernel_shape: [3, 2], strides: [2, 1], pads: [1, 0, 1, 1] }),
  makeProblem('AveragePool', [floats(1, 5, 13)], { kernel_shape: [3], ceil_mode: 1, strides: [2] }),
  makeProblem('LpPool', [floats(1, 2, 3, 5, 7)], { kernel_shape: [2, 3, 2] }),
  recurrent('LSTM', [5, 1, 7, 19]),
  recurrent('LSTM', [3, 2, 4, 37], { direction: 'bidirectional' }),
  recurrent('GRU', [5, 1, 7, 19], { direction: 'reverse' }),
  recurrent('GRU', [3, 2, 5, 34], { linear_before_reset: 1 }),
  recurrent('GRU', [2, 3, 1, 67]),
  recurrent('RNN', [7, 1, 3, 5]),
  recurrent('RNN', [2, 3, 4, 41], { direction: 'bidirectional' }),
  attention([1, 4, 37, 20], [1, 2, 41, 20], 20, null, { is_causal: 1 }),
  attention([2, 2, 17, 72], [2, 2, 41, 72], 20, { dtype: 'bool', shape: [2, 1, 17, 41] }, { softcap: 3 }),
  attention([1, 3, 19, 4], [1, 3, 67, 4], 4, floats(19, 67)),
  attention([1, 8, 2, 16], [1, 2, 301, 16], 16, floats(2, 301)),
  attention([1, 2, 3, 5], [1, 2, 7, 5], 3),
  attention([1, 1, 1, 132], [1, 1, 131, 132], 132),
  makeProblem('Attention', [floats(1, 23, 64), floats(1, 31, 64), floats(1, 31, 64)], {
    q_num_heads: 2,
    kv_num_heads: 2,
    left_window_size: 6,
    right_window_size: 3,
  }),
  makeProblem('ai.onnx.preview.FlexAttention', [floats(1, 2, 11, 8), floats(1, 2, 13, 8), floats(1, 2, 13, 12)]),
  makeProblem(
    'com.microsoft.MultiHeadAttention',
    [floats(2, 13, 24), floats(2, 29, 24), floats(2, 29, 24), weight(72)],
    { num_heads: 3 },
  ),
  makeProblem('com.microsoft.Attention', [floats(1, 17, 20), weight(20, 48), weight(48)], {
    num_heads: 2,
    unidirectional: 1,
  }),
  grouped(1, 131, 16),
  grouped(13, 0, 8, { softcap: 5 }),
  grouped(9, 5, 12, { local_window_size: 3 }),
  makeProblem('sardonyx.HeadAttention', [floats(1, 17, 96), null, null], {
    heads: 4,
    kv_heads: 2,
    size: 12,
    value_size: 12,
    at: [0, 48, 72],
    scale: 0.3,
    is_causal: 1,
  }),
  makeProblem(
    'sardonyx.HeadAttention',
    [floats(1, 2, 64), null, null, null, floats(1, 2, 131, 8), floats(1, 2, 131, 8)],
    { heads: 4, kv_heads: 2, size: 8, value_size: 8, at: [0, 32, 48], scale: 0.5 },
    3,
  ),
  resized([1, 3, 7, 5], [1, 3, 13, 11], { mode: 'linear' }),
  resized([2, 2, 9, 8], [2, 2, 5, 17], { mode: 'cubic' }),
  resized([1, 2, 11, 7], [1, 2, 5, 3], { mode: 'linear', antialias: 1 }),
  resized([1, 3, 5, 4], [1, 3, 15, 8], { mode: 'nearest' }),
  makeProblem('Transpose', [floats(37, 67)], { perm: [1, 0] }),
  makeProblem('Transpose', [floats(3, 5, 31, 7)], { perm: [0, 3, 1, 2] }),
  makeProblem('Transpose', [{ dtype: 'float16', shape: [5, 33, 35] }], { perm: [0, 2, 1] }),
  makeProblem('TopK', [floats(3, 131), ints(17)], {}, 2),
  makeProblem('TopK', [floats(7, 29, 3), ints(5)], { axis: 1, largest: 0 }, 2),
  makeProblem('CumSum', [floats(3, 1031), ints(1)]),
  makeProblem('CumSum', [floats(5, 67, 3), ints(1)], { exclusive: 1, reverse: 1 }),
  makeProblem('CumSum', [floats(1, 521, 2), ints(1)], { reverse: 1 }),
  makeProblem('Gather', [floats(13, 7), { dtype: 'int64', shape: [3, 5] }]),
  makeProblem('GatherElements', [floats(7, 5), { dtype: 'int64', shape: [3, 5] }], { axis: 0 }),
  makeProblem('ScatterND', [floats(11, 3), { ...ints(1, 7, 4), shape: [3, 1] }, floats(3, 3)]),
  makeProblem(
    'ScatterElements',
    [
      floats(5, 7),
      { dtype: 'int64', shape: [2, 7], data: Array.from({ length: 14 }, (_, i) => (i * 3) % 5), weight: true },
      floats(2, 7),
    ],
    { reduction: 'add' },
  ),
];
