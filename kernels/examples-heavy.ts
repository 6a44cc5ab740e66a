/**
 * Examples of products, convolutions, pooling, normalisation, recurrence and attention. Weights are constants, as in
 * models.
 */
import type { Example } from './examples.ts';

const each = (ops: string, make: (op: string) => Example): readonly Example[] => ops.split(' ').map(make);
const window = { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] };

const products: readonly Example[] = [
  { op: 'MatMul', inputs: ['T 2x3x8', 'T 8x5 ='] },
  { op: 'MatMul', inputs: ['T 3x8', 'T 8x5'] },
  { op: 'Gemm', inputs: ['T 3x8', 'T 5x8 =', 'T 5 ='], attrs: { transB: 1 } },
  { op: 'Einsum', inputs: ['T 2x3x4', 'T 2x4x5'], attrs: { equation: 'bij,bjk->bik' } },
  ...each('com.microsoft.FusedMatMul com.microsoft.TransposeMatMul', (op) => ({
    op,
    inputs: ['T 3x8', 'T 5x8'],
    attrs: { transB: 1, alpha: 0.5 },
  })),
  { op: 'com.microsoft.FusedGemm', inputs: ['T 3x8', 'T 8x5 =', 'T 5 ='], attrs: { activation: 'Relu' } },
];

const convolutions: readonly Example[] = [
  { op: 'Conv', inputs: ['T 1x4x8x8', 'T 6x4x3x3 =', 'T 6 ='], attrs: { pads: [1, 1, 1, 1], strides: [2, 2] } },
  { op: 'Conv', inputs: ['T 1x4x6x6', 'T 4x1x3x3 =', 'T 4 ='], attrs: { group: 4 } },
  { op: 'ConvTranspose', inputs: ['T 1x4x5x5', 'T 4x3x3x3 =', 'T 3 ='], attrs: { strides: [2, 2] } },
  { op: 'com.microsoft.FusedConv', inputs: ['T 1x4x6x6', 'T 6x4x3x3 =', 'T 6 ='], attrs: { activation: 'Relu' } },
  { op: 'com.microsoft.NhwcConv', inputs: ['T 1x6x6x4', 'T 6x3x3x4 =', 'T 6 ='] },
  { op: 'com.microsoft.NhwcFusedConv', inputs: ['T 1x6x6x4', 'T 6x4x3x3 =', 'T 6 ='], attrs: { activation: 'Relu' } },
  { op: 'DeformConv', inputs: ['T 1x2x4x4', 'T 3x2x2x2 =', 'T 1x8x3x3'], attrs: { kernel_shape: [2, 2] } },
  ...each('CausalConvWithState com.microsoft.CausalConvWithState', (op) => ({
    op,
    inputs: ['T 1x4x6', 'T 4x1x3 =', 'T 4 =', 'T 1x4x2'],
    outputs: 2,
  })),
];

const pooling: readonly Example[] = [
  ...each('MaxPool AveragePool LpPool', (op) => ({ op, inputs: ['T 1x3x8x8'], attrs: window })),
  { op: 'MaxPool', inputs: ['T 1x3x8x8'], attrs: window, outputs: 2 },
  ...each('GlobalAveragePool GlobalMaxPool GlobalLpPool', (op) => ({ op, inputs: ['T 2x3x5x5'] })),
  {
    op: 'MaxUnpool',
    inputs: ['T 1x1x2x2', 'int64 1x1x2x2 ~ 5 7 13 15'],
    attrs: { kernel_shape: [2, 2], strides: [2, 2] },
  },
];

const norms: readonly Example[] = [
  ...each('LayerNormalization com.microsoft.LayerNormalization', (op) => ({
    op,
    inputs: ['T 2x3x8', 'T 8 =', 'T 8 ='],
  })),
  ...each('RMSNormalization SimplifiedLayerNormalization com.microsoft.SimplifiedLayerNormalization', (op) => ({
    op,
    inputs: ['T 2x3x8', 'T 8 ='],
  })),
  { op: 'com.microsoft.SkipLayerNormalization', inputs: ['T 2x3x8', 'T 2x3x8', 'T 8 =', 'T 8 =', 'T 8 ='] },
  { op: 'com.microsoft.SkipSimplifiedLayerNormalization', inputs: ['T 2x3x8', 'T 2x3x8', 'T 8 ='] },
  {
    op: 'com.microsoft.EmbedLayerNormalization',
    inputs: ['int32 2x4 < 10', 'int32 2x4 < 2', 'T 10x8 =', 'T 6x8 =', 'T 2x8 =', 'T 8 =', 'T 8 ='],
    main: 'T',
    outputs: 2,
  },
  { op: 'BatchNormalization', inputs: ['T 2x3x4x4', 'T 3 =', 'T 3 =', 'T 3 =', 'T 3 ='], range: [0.5, 1.5] },
  { op: 'BatchNormalization', inputs: ['T 2x3x4x4', 'T 3', 'T 3', 'T 3', 'T 3'], range: [0.5, 1.5] },
  { op: 'InstanceNormalization', inputs: ['T 2x3x4x4', 'T 3 =', 'T 3 ='] },
  { op: 'GroupNormalization', inputs: ['T 2x4x3x3', 'T 4 =', 'T 4 ='], attrs: { num_groups: 2 } },
  { op: 'com.microsoft.GroupNorm', inputs: ['T 1x3x3x4', 'T 4 =', 'T 4 ='], attrs: { groups: 2, activation: 1 } },
  {
    op: 'com.microsoft.SkipGroupNorm',
    inputs: ['T 1x3x3x4', 'T 4 =', 'T 4 =', 'T 1x3x3x4', 'T 4 ='],
    attrs: { groups: 2, activation: 1 },
    outputs: 2,
  },
  { op: 'LpNormalization', inputs: ['T 3x5'] },
  { op: 'MeanVarianceNormalization', inputs: ['T 2x3x4x4'] },
  { op: 'LRN', inputs: ['T 1x6x3x3'], attrs: { size: 3 } },
  { op: 'ImageScaler', inputs: ['T 1x3x4x4'], attrs: { scale: 2, bias: [0.5, 1, 2] } },
];

const recurrent: readonly Example[] = [
  { op: 'LSTM', inputs: ['T 3x2x4', 'T 1x20x4 =', 'T 1x20x5 =', 'T 1x40 ='], attrs: { hidden_size: 5 }, outputs: 3 },
  { op: 'GRU', inputs: ['T 3x2x4', 'T 1x15x4 =', 'T 1x15x5 =', 'T 1x30 ='], attrs: { hidden_size: 5 }, outputs: 2 },
  { op: 'RNN', inputs: ['T 3x2x4', 'T 1x5x4 =', 'T 1x5x5 =', 'T 1x10 ='], attrs: { hidden_size: 5 }, outputs: 2 },
];

const linear = { q_num_heads: 2, kv_num_heads: 2, update_rule: 'linear' };
const attentions: readonly Example[] = [
  { op: 'RotaryEmbedding', inputs: ['T 1x2x3x8', 'T 6x4 =', 'T 6x4 =', 'int64 1x3 ~ 0 1 2'] },
  { op: 'com.microsoft.RotaryEmbedding', inputs: ['T 1x2x3x8', 'int64 1x3 ~ 0 1 2', 'T 6x4 =', 'T 6x4 ='] },
  { op: 'Attention', inputs: ['T 1x2x4x8', 'T 1x2x6x8', 'T 1x2x6x8'] },
  {
    op: 'Attention',
    inputs: ['T 1x4x16', 'T 1x4x16', 'T 1x4x16', 'T 4x4'],
    attrs: { q_num_heads: 2, kv_num_heads: 2 },
  },
  { op: 'ai.onnx.preview.FlexAttention', inputs: ['T 1x2x4x8', 'T 1x2x6x8', 'T 1x2x6x8'] },
  ...each('LinearAttention com.microsoft.LinearAttention', (op) => ({
    op,
    inputs: ['T 1x3x8', 'T 1x3x8', 'T 1x3x8'],
    attrs: linear,
    outputs: 2,
  })),
  { op: 'com.microsoft.Attention', inputs: ['T 1x4x8', 'T 8x24 =', 'T 24 ='], attrs: { num_heads: 2 } },
  {
    op: 'com.microsoft.QAttention',
    inputs: ['T 1x4x8', 'int8 8x24 =', 'float32 24 =', 'float32 = 0.1', 'float32 = 0.1'],
    attrs: { num_heads: 2 },
  },
  { op: 'com.microsoft.MultiHeadAttention', inputs: ['T 1x4x16', 'T 1x6x16', 'T 1x6x16'], attrs: { num_heads: 2 } },
  {
    op: 'com.microsoft.GroupQueryAttention',
    inputs: ['T 1x3x16', 'T 1x3x8', 'T 1x3x8', 'T 1x1x4x8', 'T 1x1x4x8', 'int32 1 ~ 4', 'int32 = 5'],
    attrs: { num_heads: 2, kv_num_heads: 1 },
    outputs: 3,
  },
];

const mixtures: readonly Example[] = [
  {
    op: 'com.microsoft.MoE',
    inputs: ['T 3x8', 'T 3x4', 'T 4x16x8 =', 'T 4x16 =', 'T 4x8x8 ='],
    attrs: { k: 2, activation_type: 'swiglu', swiglu_fusion: 1 },
  },
  {
    op: 'com.microsoft.QMoE',
    inputs: ['T 3x32', 'T 3x4', 'uint8 4x16x16 =', 'T 4x16x2 =', '', 'uint8 4x32x8 =', 'T 4x32x1 ='],
    attrs: { k: 2, activation_type: 'silu', block_size: 16 },
  },
];

export const heavyExamples: readonly Example[] = [
  ...products,
  ...convolutions,
  ...pooling,
  ...norms,
  ...recurrent,
  ...attentions,
  ...mixtures,
];
