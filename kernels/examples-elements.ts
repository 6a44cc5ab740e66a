/** Examples of operators that work on elements or reduce them. */
import { ONNX_OF_DTYPE } from '../src/core/dtype.ts';
import type { Example } from './examples.ts';

const each = (ops: string, make: (op: string) => Example): readonly Example[] => ops.split(' ').map(make);

const unary: readonly Example[] = [
  ...each(
    'Abs Neg Sign Ceil Floor Round Exp Sin Cos Tan Atan Sinh Cosh Tanh Asinh Erf Not BitwiseNot IsNaN IsInf Relu Sigmoid Softplus Softsign HardSigmoid HardSwish Elu Selu Celu LeakyRelu ThresholdedRelu Gelu Mish Swish Shrink',
    (op) => ({ op, inputs: ['T 3x5'] }),
  ),
  ...each('com.microsoft.Gelu com.microsoft.QuickGelu com.microsoft.FastGelu', (op) => ({ op, inputs: ['T 3x5'] })),
  ...each('Asin Acos Atanh', (op) => ({ op, inputs: ['T 3x5'], range: [-0.9, 0.9] })),
  ...each('Sqrt Log Reciprocal', (op) => ({ op, inputs: ['T 3x5'], range: [0.5, 4] })),
  { op: 'Acosh', inputs: ['T 3x5'], range: [1.5, 4] },
  { op: 'Clip', inputs: ['T 3x5', 'T = 1', 'T = 3'] },
  { op: 'com.microsoft.FastGelu', inputs: ['T 2x5', 'T 5 ='] },
  { op: 'com.microsoft.BiasGelu', inputs: ['T 2x5', 'T 5 ='] },
  { op: 'com.microsoft.BiasSplitGelu', inputs: ['T 2x3x8', 'T 8 ='] },
  { op: 'Identity', inputs: ['T 2x3'] },
  { op: 'Dropout', inputs: ['T 2x3'] },
  { op: 'Cast', inputs: ['T 2x6 ~ 0 1'], attrs: (d) => ({ to: d === 'float32' ? 10 : 1 }) },
  { op: 'CastLike', inputs: ['T 2x6 ~ 0 1', 'float32 = 1'] },
  {
    op: 'BitCast',
    inputs: ['T 2x6'],
    attrs: (d) => ({
      to: ONNX_OF_DTYPE[
        ({ float32: 'int32', float16: 'int16', float64: 'int64', int32: 'float32' } as const)[d as 'float32'] ?? d
      ],
    }),
  },
];

const binary: readonly Example[] = [
  ...each(
    'Add Sub Mul PRelu And Or Xor BitwiseAnd BitwiseOr BitwiseXor Equal Less Greater LessOrEqual GreaterOrEqual SwiGLU',
    (op) => ({ op, inputs: ['T 3x5', 'T 5'] }),
  ),
  { op: 'Div', inputs: ['T 3x5', 'T 5'], range: [1, 6] },
  { op: 'Mod', inputs: ['T 3x5', 'T 5'], attrs: (d) => ({ fmod: /float/.test(d) ? 1 : 0 }), range: [1, 6] },
  { op: 'Pow', inputs: ['T 3x5', 'T 5'], range: [1, 3] },
  { op: 'BitShift', inputs: ['T 3x5', 'T 5'], attrs: { direction: 'LEFT' }, range: [0, 4] },
  ...each('Max Min Sum Mean', (op) => ({ op, inputs: ['T 3x5', 'T 5', 'T 3x1'] })),
  { op: 'Where', inputs: ['bool 3x1', 'T 3x5', 'T 5'], main: 'T' },
];

const reductions: readonly Example[] = [
  ...each('ReduceSum ReduceMean ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp ReduceMax ReduceMin', (op) => ({
    op,
    inputs: ['T 2x5x3', 'int64 1 = 1'],
  })),
  ...each('ReduceProd ReduceLogSum', (op) => ({ op, inputs: ['T 2x5x3', 'int64 1 = 1'], range: [1, 3] })),
  ...each('ReduceSum ReduceMax', (op) => ({ op, inputs: ['T 2x5x3'], attrs: { keepdims: 0 } })),
  ...each('ArgMax ArgMin', (op) => ({ op, inputs: ['T 2x5x3'], attrs: { axis: 1 } })),
  ...each('CumSum CumProd', (op) => ({ op, inputs: ['T 2x5', 'int64 = 1'], range: [1, 3] })),
  ...each('Softmax LogSoftmax Hardmax', (op) => ({ op, inputs: ['T 2x3x5'], attrs: { axis: -1 } })),
];

const random: readonly Example[] = [
  ...each('RandomNormal RandomUniform', (op) => ({
    op,
    inputs: [],
    attrs: (d) => ({ shape: [2, 3], dtype: ONNX_OF_DTYPE[d] }),
    main: ['float32', 'float16', 'float64', 'bfloat16'],
    loose: true,
  })),
  ...each('RandomNormalLike RandomUniformLike', (op) => ({
    op,
    inputs: ['T 2x3'],
    main: ['float32', 'float16', 'float64', 'bfloat16'],
    loose: true,
  })),
  { op: 'Bernoulli', inputs: ['T 2x3'], range: [0, 1], loose: true },
  { op: 'Multinomial', inputs: ['T 2x3'], attrs: { sample_size: 4 }, loose: true },
];

const signal: readonly Example[] = [
  { op: 'DFT', inputs: ['T 1x8x1', '', 'int64 = 1'] },
  { op: 'STFT', inputs: ['T 1x16x1', 'int64 = 4', 'T 8 ='] },
  ...each('HannWindow HammingWindow BlackmanWindow', (op) => ({ op, inputs: ['T = 6'] })),
  { op: 'MelWeightMatrix', inputs: ['T = 4', 'T = 16', 'T = 8000', 'float32 = 0', 'float32 = 4000'] },
  { op: 'Det', inputs: ['T 2x3x3'] },
];

const losses: readonly Example[] = [
  { op: 'NegativeLogLikelihoodLoss', inputs: ['T 3x4', 'int64 3 < 4', 'T 4 ='], range: [0.5, 1] },
  { op: 'SoftmaxCrossEntropyLoss', inputs: ['T 3x4', 'int64 3 < 4'], outputs: 2 },
  {
    op: 'ai.onnx.preview.training.Adagrad',
    inputs: ['T = 0.1', 'int64 = 2', 'float32 4', 'float32 4', 'float32 4'],
    attrs: { norm_coefficient: 0.1, decay_factor: 0.1, epsilon: 1e-3 },
    outputs: 2,
    range: [0.5, 1],
  },
  {
    op: 'ai.onnx.preview.training.Adam',
    inputs: ['T = 0.1', 'int64 = 2', 'float32 4', 'float32 4', 'float32 4', 'float32 4'],
    outputs: 3,
    range: [0.5, 1],
  },
  {
    op: 'ai.onnx.preview.training.Momentum',
    inputs: ['T = 0.1', 'int64 = 2', 'float32 4', 'float32 4', 'float32 4'],
    attrs: { alpha: 0.9, beta: 0.9, mode: 'standard', norm_coefficient: 0.1 },
    outputs: 2,
  },
  {
    op: 'ai.onnx.preview.training.Gradient',
    inputs: ['T 2x3'],
    before: [{ op: 'Exp', inputs: ['x0'], outputs: ['z'] }],
    attrs: { xs: ['x0'], y: 'z' },
    main: 'T',
  },
];

export const elementExamples: readonly Example[] = [
  ...unary,
  ...binary,
  ...reductions,
  ...random,
  ...signal,
  ...losses,
];
