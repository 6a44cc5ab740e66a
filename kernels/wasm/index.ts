/** Every WASM kernel, by operator; a node takes the first of its list that accepts it. */
import { flexShape } from '../attention.ts';
import { projectedOf } from '../attention-microsoft-shape.ts';
import { attentionShape } from '../attention-shape.ts';
import { linearShape } from '../attention-linear.ts';
import { lastToFirst } from '../conv-quantized.ts';
import { convShape } from '../conv-shape.ts';
import type { Window } from '../conv-window.ts';
import type { Call, KernelTable, WasmKernel } from '../define.ts';
import { DTYPE_OF_ONNX } from '../../src/core/dtype.ts';
import { integers } from '../../src/core/numbers.ts';
import { blocksOf } from '../det.ts';
import { contractionOf } from '../einsum.ts';
import { givenCall } from '../given.ts';
import { normForms } from '../norm.ts';
import { groupNormForm, instanceNormForm } from '../norm-channel.ts';
import { cropGeometry, expandViews, padGeometry, tileViews } from '../pad.ts';
import { unpoolShape } from '../pool.ts';
import { knownAxes, knownAxis, ownAxis } from '../reduce.ts';
import { changedAxes } from '../resize.ts';
import { rotaryShape } from '../rotary-shape.ts';
import { axesOf, axisOf } from '../shapes.ts';
import { dftOf, stftOf } from '../signal.ts';
import { sliceViews, splitViews } from '../slice.ts';
import { linesOf } from '../softmax.ts';
import { blockViews, transposeViews } from '../transpose.ts';
import { attentionRows } from './attention-rows.ts';
import { multiHeadWasm, projectedWasm } from './attention-microsoft.ts';
import { attentionWasm, groupedWasm } from './attention.ts';
import { castKernel, copyKernel } from './cast.ts';
import { byteConvWasm, byteProductWasm, einsumWasm, logSumExpWasm, type Roles } from './contract.ts';
import { convTransposeWasm } from './conv-transpose.ts';
import { convWasm } from './conv.ts';
import { embedNormWasm } from './embed.ts';
import { gatherElementsKernel, gatherKernel, gatherNDKernel, scatterElementsKernel, scatterNDKernel } from './gather.ts';
import { matmulScalar } from './gemm-scalar.ts';
import { fusedMatmulWasm, gemmWasm, matmulWasm } from './gemm.ts';
import { affineGridWasm, gridSampleWasm } from './grid.ts';
import { withHalf } from './half.ts';
import { lineKernel, linesAlong, topWasm } from './lines.ts';
import { lossWasm } from './loss.ts';
import { lrnWasm } from './lrn.ts';
import { eyeWasm, oneHotWasm, triluWasm } from './make.ts';
import { mapKernel } from './map.ts';
import { concatKernel, padKernel, stridedKernels } from './move.ts';
import { batchNormWasm, meanVarianceWasm } from './norm-each.ts';
import { poolWasm } from './pool.ts';
import { pairConvWasm } from './quant-conv.ts';
import { depthwiseBytesWasm } from './quant-depthwise.ts';
import { dequantizeEach, quantizeEach } from './quant-each.ts';
import { matMulIntegerWasm, qlinearMatMulWasm } from './quant-gemm.ts';
import { matMulNBits } from './quant-nbits.ts';
import { dequantizeLinear, dynamicQuantizeLinear, quantizeLinear } from './quant.ts';
import { causalConvWasm, linearAttentionWasm, reverseSequenceWasm, rotaryWasm, tensorScatterWasm } from './recurrent.ts';
import { positionKernel, reduceKernel, scanKernel } from './reduce.ts';
import { resizeKernel } from './resize.ts';
import { rnnWasm } from './rnn.ts';
import { normKernels, softmaxKernels } from './rows.ts';
import { dftWasm, stftWasm } from './signal.ts';
import { col2ImWasm, deformWasm, detWasm, maxUnpoolWasm, roiAlignWasm } from './windows.ts';

const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;

const casts = [castKernel];
const layerNorms = normKernels('layernorm', normForms.layer);
const rmsNorms = normKernels('rmsnorm', normForms.rms);
const quantizes = [quantizeLinear, quantizeEach((call) => (call.attrs.precision === 0 ? call.inputs[1]!.dtype : DTYPE_OF_ONNX[call.attrs.precision]!))];
const dequantizes = [dequantizeLinear, dequantizeEach];
const resizes = [resizeKernel(changedAxes)];
const scatters = [scatterElementsKernel];
const causal = [causalConvWasm];
const trilus = [triluWasm];
const rotaries = [rotaryWasm((call) => rotaryShape(call.inputs, call.attrs))];
const linear = (inverse: boolean) => [linearAttentionWasm((call) => linearShape(call.inputs, call.attrs, inverse))];
const softmaxes = (log: boolean) => [...softmaxKernels(log, linesOf), lineKernel(() => (log ? 'log_softmax' : 'softmax'), linesOf)];
const LINEAR_CONV: Roles = { x: 0, w: 3, xZero: 2, wZero: 5, bias: 8, scales: [1, 4, 6], yZero: 7 }, INTEGER_CONV: Roles = { x: 0, w: 1, xZero: 2, wZero: 3, bias: null, scales: null, yZero: null };
const linearWindow = (call: Call): Window => convShape(shapeOf(call, 0), shapeOf(call, 3), null, call.attrs).window, integerWindow = (call: Call): Window => convShape(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs).window;
const byteConvs = [depthwiseBytesWasm(LINEAR_CONV, linearWindow), pairConvWasm('conv.quantized_pairs', LINEAR_CONV, linearWindow), byteConvWasm('conv.quantized', LINEAR_CONV, (call) => convShape(call.attrs.channels_last ? lastToFirst(shapeOf(call, 0)) : shapeOf(call, 0), shapeOf(call, 3), null, call.attrs).window, (call) => call.attrs.channels_last !== 0)];
const reductions = ['Sum', 'Mean', 'Max', 'Min', 'Prod', 'L1', 'L2', 'SumSquare', 'LogSum', 'LogSumExp'] as const;

export const wasmKernels: KernelTable<WasmKernel> = {
  'sardonyx.Map': [mapKernel],
  // products
  MatMul: [...matmulWasm, matmulScalar],
  'com.microsoft.FusedMatMul': fusedMatmulWasm, 'com.microsoft.TransposeMatMul': fusedMatmulWasm,
  Gemm: gemmWasm,
  Einsum: [einsumWasm((call) => contractionOf(call.attrs.equation, call.inputs.map((f) => f!.shape)))],
  MatMulInteger: [matMulIntegerWasm], QLinearMatMul: [qlinearMatMulWasm, byteProductWasm],
  'com.microsoft.MatMulNBits': withHalf([matMulNBits as WasmKernel]),
  Det: [detWasm],
  // convolution and pooling
  Conv: convWasm, ConvTranspose: withHalf([convTransposeWasm]),
  DeformConv: [deformWasm((call) => convShape(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs).window)],
  ConvInteger: [pairConvWasm('conv.integer_pairs', INTEGER_CONV, integerWindow), byteConvWasm('conv.integer', INTEGER_CONV, integerWindow, () => false)],
  QLinearConv: byteConvs, 'com.microsoft.QLinearConv': byteConvs,
  CausalConvWithState: causal, 'com.microsoft.CausalConvWithState': causal,
  ...poolWasm,
  MaxUnpool: [maxUnpoolWasm((call) => unpoolShape(shapeOf(call, 0), shapeOf(call, 1), call.attrs, call.inputs[2] ? integers(call.inputs[2].constant!.peek()!) : null))],
  RoiAlign: [roiAlignWasm],
  Resize: resizes, Upsample: resizes,
  GridSample: [gridSampleWasm], AffineGrid: [affineGridWasm],
  Col2Im: [col2ImWasm((call) => { const b = blocksOf(givenCall(call)); return { kernel: b.block, strides: b.strides, dilations: b.dilations, pads: b.begins, group: 1, output: b.blocks }; })],
  // rows
  Softmax: softmaxes(false), LogSoftmax: softmaxes(true), Hardmax: [lineKernel(() => 'hardmax', linesOf)],
  LpNormalization: [lineKernel((call) => (call.attrs.p === 1 ? 'l1' : 'l2'), (call) => linesAlong(shapeOf(call, 0), call.attrs.axis))],
  TopK: [topWasm],
  LRN: lrnWasm,
  LayerNormalization: layerNorms, 'com.microsoft.LayerNormalization': layerNorms,
  RMSNormalization: rmsNorms, SimplifiedLayerNormalization: rmsNorms, 'com.microsoft.SimplifiedLayerNormalization': rmsNorms,
  'com.microsoft.SkipLayerNormalization': normKernels('skip-layernorm', normForms.skipLayer),
  'com.microsoft.SkipSimplifiedLayerNormalization': normKernels('skip-rmsnorm', normForms.skipRms),
  'com.microsoft.EmbedLayerNormalization': [embedNormWasm],
  InstanceNormalization: normKernels('instancenorm', instanceNormForm), GroupNormalization: normKernels('groupnorm', groupNormForm),
  BatchNormalization: [batchNormWasm],
  MeanVarianceNormalization: [meanVarianceWasm((call) => axesOf(call.attrs.axes, shapeOf(call, 0).length))],
  ...Object.fromEntries(reductions.map((how) => [`Reduce${how}`, [reduceKernel(how, knownAxes), ...(how === 'LogSumExp' ? [logSumExpWasm(knownAxes)] : [])]])),
  ArgMax: [positionKernel(true, ownAxis)], ArgMin: [positionKernel(false, ownAxis)],
  CumSum: [scanKernel(false, knownAxis)], CumProd: [scanKernel(true, knownAxis)],
  NegativeLogLikelihoodLoss: [lossWasm(false)], SoftmaxCrossEntropyLoss: [lossWasm(true)],
  // attention and recurrence
  Attention: [...attentionWasm, attentionRows((call) => attentionShape(call.inputs, call.attrs), true)],
  'ai.onnx.preview.FlexAttention': [attentionRows((call) => flexShape(call.inputs), false)],
  'com.microsoft.Attention': projectedWasm(projectedOf), 'com.microsoft.MultiHeadAttention': multiHeadWasm, 'com.microsoft.GroupQueryAttention': groupedWasm,
  LinearAttention: linear(false), 'com.microsoft.LinearAttention': linear(true),
  RotaryEmbedding: rotaries, 'com.microsoft.RotaryEmbedding': rotaries,
  ...rnnWasm,
  // moves
  Slice: stridedKernels('slice', sliceViews, [1, 2, 3, 4]), DynamicSlice: stridedKernels('slice', sliceViews, [1, 2, 3, 4]),
  Split: stridedKernels('split', splitViews, [1]),
  Transpose: stridedKernels('transpose', transposeViews),
  DepthToSpace: stridedKernels('blocks', blockViews('DepthToSpace')), SpaceToDepth: stridedKernels('blocks', blockViews('SpaceToDepth')),
  Tile: stridedKernels('tile', tileViews, [1, 2]), Expand: stridedKernels('expand', expandViews, [1]),
  Concat: [concatKernel((call) => axisOf(call.attrs.axis, call.outputs[0]!.shape.length))],
  Pad: [padKernel('pad', padGeometry, [1, 3], 2)], CenterCropPad: [padKernel('crop', cropGeometry, [1])],
  ReverseSequence: [reverseSequenceWasm],
  Trilu: trilus, 'com.microsoft.Trilu': trilus,
  Gather: [gatherKernel], GatherElements: [gatherElementsKernel], GatherND: [gatherNDKernel],
  ScatterElements: scatters, Scatter: scatters, ScatterND: [scatterNDKernel], TensorScatter: [tensorScatterWasm],
  // types and values
  Cast: casts, CastLike: casts, BitCast: [copyKernel],
  QuantizeLinear: quantizes, 'com.microsoft.QuantizeLinear': quantizes,
  DequantizeLinear: dequantizes, 'com.microsoft.DequantizeLinear': dequantizes,
  DynamicQuantizeLinear: [dynamicQuantizeLinear],
  EyeLike: [eyeWasm], OneHot: [oneHotWasm((call) => axisOf(call.attrs.axis, call.outputs[0]!.shape.length))],
  // signals
  DFT: [dftWasm(dftOf)], STFT: [stftWasm(stftOf)],
};
