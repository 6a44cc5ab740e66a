/** Examples of operators that take or give quantised values. */
import type { Example } from './examples.ts';

const each = (ops: string, make: (op: string) => Example): readonly Example[] => ops.split(' ').map(make);
/** A scale and a zero point. */
const SCALE = 'float32 = 0.1';
const ZERO = 'T = 3';
const one = (op: string, shape: string, attrs: Example['attrs'] = {}): Example => ({
  op: `com.microsoft.${op}`,
  inputs: [`T ${shape}`, SCALE, ZERO, 'float32 = 0.05', ZERO],
  attrs,
});

export const quantizedExamples: readonly Example[] = [
  ...each('QuantizeLinear com.microsoft.QuantizeLinear', (op) => ({
    op,
    inputs: ['T 2x6', 'float32 = 0.1', 'uint8 = 3'],
  })),
  ...each('DequantizeLinear com.microsoft.DequantizeLinear', (op) => ({ op, inputs: ['T 2x6', SCALE, 'T = 1'] })),
  { op: 'DynamicQuantizeLinear', inputs: ['float32 2x6'], outputs: 3 },
  { op: 'MatMulInteger', inputs: ['T 3x8', 'int8 8x5 =', 'T = 2', 'int8 = 1'] },
  { op: 'QLinearMatMul', inputs: ['T 3x8', SCALE, 'T = 2', 'int8 8x5 =', SCALE, 'int8 = 1', SCALE, 'uint8 = 3'] },
  { op: 'com.microsoft.DynamicQuantizeMatMul', inputs: ['float32 3x8', 'int8 8x5 =', 'float32 = 0.1', 'int8 = 1'] },
  {
    op: 'com.microsoft.MatMulIntegerToFloat',
    inputs: ['T 3x8', 'int8 8x5 =', 'float32 = 0.1', 'float32 = 0.1', 'T = 2', 'int8 = 1'],
  },
  {
    op: 'com.microsoft.QGemm',
    inputs: ['T 3x8', SCALE, 'T = 2', 'int8 8x5 =', SCALE, 'int8 = 1', 'int32 5 =', SCALE, 'uint8 = 3'],
    main: 'TA',
  },
  {
    op: 'com.microsoft.MatMulNBits',
    inputs: ['T 3x32', 'uint8 8x2x8 =', 'T 16 ='],
    attrs: { K: 32, N: 8, bits: 4, block_size: 16 },
  },
  {
    op: 'com.microsoft.MatMulBnb4',
    inputs: ['T 3x32', 'uint8 128 =', 'T 16 ='],
    attrs: { K: 32, N: 8, block_size: 16, quant_type: 1 },
  },
  {
    op: 'com.microsoft.GatherBlockQuantized',
    inputs: ['T 6x32 =', 'int64 3 < 6', 'float32 6x2 ='],
    attrs: { block_size: 16, quantize_axis: 1 },
    main: ['int4', 'uint4', 'float8e4m3fn', 'float8e4m3fnuz', 'float8e5m2', 'float8e5m2fnuz', 'float4e2m1'],
  },
  {
    op: 'com.microsoft.GatherBlockQuantized',
    inputs: ['T 6x16 =', 'int64 3 < 6', 'float32 6x2 ='],
    attrs: { block_size: 16, quantize_axis: 1, bits: 4 },
    main: ['uint8'],
  },
  ...each('QLinearAdd QLinearMul', (op) => ({
    op: `com.microsoft.${op}`,
    inputs: ['T 3x5', SCALE, ZERO, 'T 5', SCALE, ZERO, SCALE, ZERO],
  })),
  one('QLinearSigmoid', '2x6'),
  one('QLinearLeakyRelu', '2x6', { alpha: 0.1 }),
  one('QLinearSoftmax', '2x6', { axis: -1, opset: 13 }),
  {
    op: 'com.microsoft.QLinearConcat',
    inputs: [SCALE, ZERO, 'T 2x2', SCALE, ZERO, 'T 2x3', SCALE, ZERO],
    attrs: { axis: 1 },
    main: 'T',
  },
  {
    op: 'com.microsoft.QLinearWhere',
    inputs: ['bool 3x1', 'T 3x5', SCALE, ZERO, 'T 5', SCALE, ZERO, SCALE, ZERO],
    main: 'T',
  },
  one('QLinearReduceMean', '2x6', { axes: [1] }),
  one('QLinearAveragePool', '1x3x6x6', { kernel_shape: [2, 2] }),
  one('QLinearGlobalAveragePool', '1x3x4x4'),
  {
    op: 'com.microsoft.DynamicQuantizeLSTM',
    inputs: [
      'float32 3x2x4',
      'T 1x4x20 =',
      'T 1x5x20 =',
      '',
      '',
      '',
      '',
      '',
      'float32 1 = 0.1',
      'T 1 = 1',
      'float32 1 = 0.1',
      'T 1 = 1',
    ],
    attrs: { hidden_size: 5 },
    outputs: 3,
    main: 'T2',
  },
  { op: 'ConvInteger', inputs: ['T 1x2x5x5', 'int8 3x2x3x3 =', 'T = 2'] },
  ...each('QLinearConv com.microsoft.QLinearConv', (op) => ({
    op,
    inputs: ['T 1x2x5x5', SCALE, ZERO, 'int8 3x2x3x3 =', 'float32 3 =', 'int8 = 0', SCALE, 'uint8 = 3', 'int32 3 ='],
    range: [1, 6],
  })),
];
