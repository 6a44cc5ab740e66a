/** Operators that load together, with their kernels, when a model has one of them. */

/** By name, without the domain. What is in no list and no definition at hand is `rare`, or unknown. */
export const MEMBERS = {
  spatial:
    'Conv ConvSum ConvTranspose FusedConv NhwcConv NhwcFusedConv MaxPool AveragePool LpPool MaxUnpool GlobalAveragePool GlobalMaxPool GlobalLpPool Resize Upsample BatchNormalization',
  norms:
    'LayerNormalization RMSNormalization SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization InstanceNormalization GroupNormalization ChannelNormalization Gelu QuickGelu FastGelu BiasGelu BiasSplitGelu SwiGLU',
  transformers:
    'Attention HeadAttention FlexAttention LinearAttention QAttention MultiHeadAttention GroupQueryAttention CausalConvWithState Einsum EmbedLayerNormalization RotaryEmbedding',
  quantized:
    'QuantizeLinear DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearMatMul DynamicQuantizeMatMul MatMulIntegerToFloat QGemm MatMulNBits MatMulBnb4 GatherBlockQuantized QLinearAdd QLinearMul QLinearSigmoid QLinearLeakyRelu QLinearSoftmax QLinearConcat QLinearWhere QLinearReduceMean QLinearAveragePool QLinearGlobalAveragePool ConvInteger QLinearConv',
  recurrent: 'If Loop Scan BatchedScan LSTM GRU RNN DynamicQuantizeLSTM',
  indexed:
    'GatherElements GatherND ScatterElements Scatter ScatterND TensorScatter NonZero Compress Unique TopK NonMaxSuppression ArgMax ArgMin CumSum CumProd OneHot EyeLike Trilu ReverseSequence',
  uncommon:
    'DeformConv Det Col2Im GridSample AffineGrid RoiAlign MaxRoiPool DFT STFT HannWindow HammingWindow BlackmanWindow MelWeightMatrix Hardmax LpNormalization LRN MeanVarianceNormalization ImageScaler GroupNorm SkipGroupNorm MoE QMoE ExpertMatMul',
} as const;
export type SetName = keyof typeof MEMBERS | 'rare';

const setOf = new Map(
  Object.entries(MEMBERS).flatMap(([set, names]) => names.split(' ').map((name) => [name, set as SetName] as const)),
);

/**
 * The sets that a graph with these operators needs. Some are expanded into those of another set. Products around a
 * softmax may become attention; means before a root, or embeddings, a norm; a maximum and powers of e, a softmax.
 */
export function setsFor(names: Iterable<string>, atHand: { has(name: string): boolean }): readonly SetName[] {
  const all = new Set(names);
  const sets = new Set<SetName>();
  for (const name of all) {
    const set = setOf.get(name.slice(name.lastIndexOf('.') + 1)) ?? (atHand.has(name) ? null : 'rare');
    if (set) sets.add(set);
  }
  for (const name of all)
    if (/GroupNorm$|^com.microsoft.Q.*Pool$/.test(name)) sets.add(/Pool/.test(name) ? 'spatial' : 'norms');
  if (all.has('MatMul') && (all.has('Softmax') || all.has('Exp'))) sets.add('transformers');
  if (
    all.has('com.microsoft.EmbedLayerNormalization') ||
    (all.has('ReduceMean') && (all.has('Sqrt') || all.has('Pow'))) ||
    (all.has('ReduceMax') && all.has('Exp'))
  )
    sets.add('norms');
  if (all.has('com.microsoft.MoE') || all.has('com.microsoft.QMoE')) sets.add('indexed').add('norms');
  return [...sets].sort();
}
