import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, tensor, type Tensor } from '../src/core/tensor.ts';
import { defineOp, FLOAT, int, type NormalizeCall, type Normalized, type Op, type OutFact } from './define.ts';
import { without } from './elementwise.ts';
import { generator } from './generator.ts';
import { sameAs } from './shapes.ts';

/** https://onnx.ai/onnx/operators/onnx__Identity.html */
const identity: Op = defineOp({
  op: 'Identity',
  since: [1, 13, 14, 16, 19, 21, 23, 24, 25],
  inputs: ['input: any'],
  outputs: ['output: any'],
  types: {},
  attrs: {},
  infer: sameAs(),
  view: true,
  reference: (call) => [call.inputs[0] ?? fail('input_missing', 'input 0 is required')],
});

/**
 * A Dropout that cannot be training, and whose mask nobody reads, is an Identity. Opsets below 12 have the ratio as an
 * attribute; below 7 they train unless `is_test`.
 */
function normalize({ attrs, inputs, outputs, opset, constant }: NormalizeCall): Normalized {
  const training = opset < 7 ? !attrs.is_test : opset >= 12 && (inputs[2] ?? null) !== null;
  if (!training && (outputs[1] ?? null) === null)
    return { op: 'Identity', attrs: {}, inputs: [inputs[0]!], outputs: [outputs[0]!] };
  if (opset >= 12) return { attrs };
  const ratio = typeof attrs.ratio === 'number' ? attrs.ratio : 0.5;
  return {
    attrs: { ...without(attrs, 'ratio', 'is_test', 'consumed_inputs'), mask_like_data: opset < 10 ? 1 : 0 },
    inputs: [
      inputs[0]!,
      constant(tensor('float32', [], [ratio])),
      training ? constant(tensor('bool', [], [true])) : null,
    ],
  };
}

/** https://onnx.ai/onnx/operators/onnx__Dropout.html */
const dropout: Op = defineOp({
  op: 'Dropout',
  since: [1, 6, 7, 10, 12, 13, 22],
  random: true,
  inputs: ['data: T', 'ratio: T1?', 'training_mode: T2?'],
  outputs: ['output: T', 'mask: any?'],
  types: { T: FLOAT, T1: FLOAT, T2: ['bool'] },
  /** mask_like_data: the mask has the data's dtype, as before opset 10. */
  attrs: { seed: int(), mask_like_data: int(0) },
  normalize,
  infer: (call) => {
    const { dtype, shape } = call.fact(0);
    for (const i of [1, 2])
      if (call.inputs[i] && sizeOf(call.inputs[i].shape) !== 1)
        fail(
          'shape_mismatch',
          `${i === 1 ? 'ratio' : 'training_mode'} must be one value, not of shape [${call.inputs[i].shape}]`,
        );
    const out: OutFact[] = [
      { dtype, shape },
      { dtype: call.attrs.mask_like_data ? dtype : 'bool', shape },
    ];
    return out.slice(0, call.outputs);
  },
  map: ([v, , training]) => (training === undefined || (training.f === 'const' && !training.v) ? v! : null),
  reference: (call) => {
    const t = call.tensor(0);
    const training = call.optional(2) !== null && numbers(call.tensor(2))[0] !== 0;
    const given = call.optional(1);
    const ratio = given ? numbers(given)[0]! : 0.5;
    if (!(ratio >= 0 && ratio < 1)) fail('value_invalid', `ratio ${ratio} is outside [0, 1)`);
    const maskType: DType = call.attrs.mask_like_data ? t.dtype : 'bool';
    if (!training || ratio === 0) return [t, ones(maskType, t.shape)].slice(0, call.outputs);
    const random = call.attrs.seed === undefined ? call.random : generator(call.attrs.seed);
    const keep = Array.from({ length: sizeOf(t.shape) }, () => Number(random() >= ratio));
    const from = numbers(t);
    return [
      fromNumbers(
        t.dtype,
        t.shape,
        keep.map((k, i) => (k ? from[i]! / (1 - ratio) : 0)),
      ),
      fromNumbers(maskType, t.shape, keep),
    ].slice(0, call.outputs);
  },
});
const ones = (dtype: DType, shape: readonly number[]): Tensor =>
  fromNumbers(dtype, shape, new Uint8Array(sizeOf(shape)).fill(1));

/** Operators that give back what they get; Dropout does so unless it trains. */
export const identities: readonly Op[] = [identity, dropout];
