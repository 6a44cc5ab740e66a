/** Every WGSL kernel, by operator; a node takes the first of its list that accepts it. */
import { linearShape } from '../attention-linear.ts';
import { projectedOf } from '../attention-microsoft-shape.ts';
import { convTransposeShape } from '../conv.ts';
import { deformShape } from '../conv-deform.ts';
import { convShape } from '../conv-shape.ts';
import { ZERO } from '../create.ts';
import type { Call, GpuKernel, KernelTable } from '../define.ts';
import { blocksOf } from '../det.ts';
import { fusedMatmulShape, gemmShape, matmulShape } from '../matmul-shape.ts';
import { normForms } from '../norm.ts';
import { groupNormForm, instanceNormForm } from '../norm-channel.ts';
import { cropGeometry, expandViews, padGeometry, tileViews } from '../pad.ts';
import { poolShape } from '../pool.ts';
import { granularity } from '../quantize.ts';
import { knownAxes, knownAxis, ownAxis } from '../reduce.ts';
import { changedAxes } from '../resize.ts';
import { GATES } from '../rnn.ts';
import { axesOf, axisOf } from '../shapes.ts';
import { dftOf, stftOf } from '../signal.ts';
import { sliceViews, splitViews } from '../slice.ts';
import { linesOf } from '../softmax.ts';
import { blockViews, transposeViews } from '../transpose.ts';
import { attentionKernels, flexKernels, groupedKernels, multiHeadKernels, projectedKernels } from './attention-calls.ts';
import { headAttentionKernels } from './attention-heads.ts';
import { castKernel, copyKernel } from './cast.ts';
import { convKernels, convTransposeKernels } from './conv.ts';
import { convSumKernels } from './conv-sum.ts';
import { dropoutKernel } from './dropout.ts';
import { einsumKernels } from './einsum.ts';
import { gatherElementsKernel, gatherKernel, gatherNDKernel, scatterElementsKernel, scatterNDKernel } from './gather.ts';
import { affineKernel, col2ImKernel, deformKernel, detKernel, lrnKernel } from './image.ts';
import { causalKernel, linearKernel } from './linear-attention.ts';
import { lineKernel, linesAlong, topKernel } from './lines.ts';
import { lossKernel } from './loss.ts';
import { eyeKernel, fillKernel, oneHotKernel, rangeKernel, reverseKernel, triluKernel } from './make.ts';
import { mapKernel } from './map.ts';
import { gemmKernels, matmulKernels } from './matmul.ts';
import { gatedKernels } from './matmul-gated.ts';
import { nbitsKernels } from './matmul-nbits.ts';
import { concatKernel, padKernel, stridedKernels } from './move.ts';
import { globalPoolKernels, maxPoolKernels, meanPoolKernels } from './pool.ts';
import { dequantizeKernels, dynamicQuantizeKernels, integerProductKernels, quantizeKernels } from './quantize.ts';
import { positionKernel, reduceKernel, type Reduction, scanKernel } from './reduce.ts';
import { resizeKernel } from './resize.ts';
import { rnnKernels } from './rnn.ts';
import { rotaryKernel } from './rotary.ts';
import { normKernels, softmaxKernels } from './rows.ts';
import { roiAlignKernel, tensorScatterKernel } from './scatter.ts';
import { dftKernel, stftKernel } from './signal.ts';
import { givenCall } from './unit.ts';

const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;
const shapeIf = (call: Call, i: number): readonly number[] | null => call.inputs[i]?.shape ?? null;

const casts = [castKernel];
const products = matmulKernels((call) => matmulShape(shapeOf(call, 0), shapeOf(call, 1)));
const fusedProducts = matmulKernels((call) => fusedMatmulShape(shapeOf(call, 0), shapeOf(call, 1), call.attrs), (call) => call.attrs.alpha);
const layerNorms = normKernels('layernorm', normForms.layer);
const rmsNorms = normKernels('rmsnorm', normForms.rms);
const poolWindow = (call: Call) => poolShape(shapeOf(call, 0), call.attrs).window;
const granularityOf = (call: Call) => granularity(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs);
const quantizes = quantizeKernels(granularityOf);
const dequantizes = dequantizeKernels(granularityOf);
const resizes = [resizeKernel(changedAxes)];
const scatters = [scatterElementsKernel];
const causal = [causalKernel];
const trilus = [triluKernel];
const linear = (inverse: boolean) => [linearKernel((call) => linearShape(call.inputs, call.attrs, inverse))];
const reductions: readonly Reduction[] = ['Sum', 'Mean', 'Max', 'Min', 'Prod', 'L1', 'L2', 'SumSquare', 'LogSum', 'LogSumExp'];

export const gpuKernels: KernelTable<GpuKernel> = {
  'sardonyx.Map': [mapKernel],
  // products
  MatMul: products, 'sardonyx.GatedMatMul': gatedKernels,
  'com.microsoft.FusedMatMul': fusedProducts, 'com.microsoft.TransposeMatMul': fusedProducts,
  Gemm: gemmKernels((call) => gemmShape(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs)),
  MatMulInteger: integerProductKernels((call) => matmulShape(shapeOf(call, 0), shapeOf(call, 1))),
  'com.microsoft.MatMulNBits': nbitsKernels,
  Det: [detKernel],
  Einsum: einsumKernels,
  // convolution and pooling
  Conv: convKernels((call) => ({ window: convShape(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs).window, transposed: false })),
  'sardonyx.ConvSum': convSumKernels,
  ConvTranspose: convTransposeKernels((call) => ({ window: convTransposeShape(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs).window, transposed: true })),
  DeformConv: [deformKernel((call) => deformShape(shapeOf(call, 0), shapeOf(call, 1), shapeOf(call, 2), shapeIf(call, 3), shapeIf(call, 4), call.attrs).window)],
  CausalConvWithState: causal, 'com.microsoft.CausalConvWithState': causal,
  MaxPool: maxPoolKernels(poolWindow),
  AveragePool: meanPoolKernels(poolWindow),
  LpPool: meanPoolKernels(poolWindow, (call) => call.attrs.p),
  GlobalMaxPool: globalPoolKernels('max'), GlobalAveragePool: globalPoolKernels('mean'), GlobalLpPool: globalPoolKernels('norm'),
  RoiAlign: [roiAlignKernel],
  Resize: resizes, Upsample: resizes,
  AffineGrid: [affineKernel],
  Col2Im: [col2ImKernel((call) => { const { blocks, begins, dilations, strides } = blocksOf(givenCall(call)); return { output: blocks, pads: begins, dilations, strides }; })],
  // rows
  Softmax: softmaxKernels(false, linesOf), LogSoftmax: softmaxKernels(true, linesOf), Hardmax: [lineKernel(() => 'hardmax', linesOf)],
  LpNormalization: [lineKernel((call) => (call.attrs.p === 1 ? 'l1' : 'l2'), linesAlong)],
  TopK: [topKernel],
  LRN: [lrnKernel],
  LayerNormalization: layerNorms, 'com.microsoft.LayerNormalization': layerNorms,
  RMSNormalization: rmsNorms, SimplifiedLayerNormalization: rmsNorms, 'com.microsoft.SimplifiedLayerNormalization': rmsNorms,
  'com.microsoft.SkipLayerNormalization': normKernels('skip-layernorm', normForms.skipLayer),
  'com.microsoft.SkipSimplifiedLayerNormalization': normKernels('skip-rmsnorm', normForms.skipRms),
  InstanceNormalization: normKernels('instancenorm', instanceNormForm), GroupNormalization: normKernels('groupnorm', groupNormForm),
  ...Object.fromEntries(reductions.map((how) => [`Reduce${how}`, [reduceKernel(how, knownAxes)]])),
  ArgMax: [positionKernel(true, ownAxis)], ArgMin: [positionKernel(false, ownAxis)],
  CumSum: [scanKernel(false, knownAxis)], CumProd: [scanKernel(true, knownAxis)],
  NegativeLogLikelihoodLoss: [lossKernel(false)], SoftmaxCrossEntropyLoss: [lossKernel(true)],
  // attention and recurrence
  Attention: attentionKernels, 'sardonyx.HeadAttention': headAttentionKernels, 'ai.onnx.preview.FlexAttention': flexKernels,
  'com.microsoft.Attention': projectedKernels(projectedOf),
  'com.microsoft.MultiHeadAttention': multiHeadKernels, 'com.microsoft.GroupQueryAttention': groupedKernels,
  LinearAttention: linear(false), 'com.microsoft.LinearAttention': linear(true),
  RotaryEmbedding: [rotaryKernel],
  LSTM: rnnKernels({ op: 'LSTM', ...GATES.LSTM }), GRU: rnnKernels({ op: 'GRU', ...GATES.GRU }), RNN: rnnKernels({ op: 'RNN', ...GATES.RNN }),
  // moves
  Slice: stridedKernels('slice', sliceViews, [1, 2, 3, 4]), DynamicSlice: stridedKernels('slice', sliceViews, [1, 2, 3, 4]),
  Split: stridedKernels('split', splitViews, [1]),
  Transpose: stridedKernels('transpose', transposeViews),
  DepthToSpace: stridedKernels('blocks', blockViews('DepthToSpace')), SpaceToDepth: stridedKernels('blocks', blockViews('SpaceToDepth')),
  Tile: stridedKernels('tile', tileViews, [1, 2]), Expand: stridedKernels('expand', expandViews, [1]),
  Concat: [concatKernel((call) => axisOf(call.attrs.axis, call.outputs[0]!.shape.length))],
  Pad: [padKernel('pad', padGeometry, [1, 3], 2)], CenterCropPad: [padKernel('crop', cropGeometry, [1])],
  ReverseSequence: [reverseKernel((call) => axesOf([call.attrs.batch_axis], shapeOf(call, 0).length)[0]!)],
  Trilu: trilus, 'com.microsoft.Trilu': trilus,
  Gather: [gatherKernel], GatherElements: [gatherElementsKernel], GatherND: [gatherNDKernel],
  ScatterElements: scatters, Scatter: scatters, ScatterND: [scatterNDKernel], TensorScatter: [tensorScatterKernel],
  // types and values
  Cast: casts, CastLike: casts, BitCast: [copyKernel],
  QuantizeLinear: quantizes, 'com.microsoft.QuantizeLinear': quantizes,
  DequantizeLinear: dequantizes, 'com.microsoft.DequantizeLinear': dequantizes,
  DynamicQuantizeLinear: dynamicQuantizeKernels,
  ConstantOfShape: [fillKernel((call) => call.attrs.value ?? ZERO)], EyeLike: [eyeKernel], Range: [rangeKernel],
  OneHot: [oneHotKernel((call) => axisOf(call.attrs.axis, call.outputs[0]!.shape.length))],
  Dropout: [dropoutKernel],
  // signals
  DFT: [dftKernel(dftOf)], STFT: [stftKernel(stftOf)],
};
