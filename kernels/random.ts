import { DTYPE_OF_ONNX, type DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf } from '../src/core/tensor.ts';
import { type AttrSchema, defineOp, FLOAT, float, int, ints, NUMERIC, type Op, required } from './define.ts';
import { sized } from './elements.ts';
import { generator } from './generator.ts';
import { rankOf } from './shapes.ts';

/** A standard normal number, by Box and Muller's transform. */
const normal = (random: () => number): number =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** A dtype given as ONNX's number, which must be one of `allowed`. */
function dtypeOf(n: number, allowed: readonly DType[]): DType {
  const d = DTYPE_OF_ONNX[n];
  if (d === undefined || !allowed.includes(d))
    fail('attribute_invalid', `dtype ${d ?? n} must be one of ${allowed.join(', ')}`);
  return d;
}

type Draw = (random: () => number, a: number, b: number) => number;
/** The two parameters of a distribution are attributes, by name and default. */
function distribution(
  name: string,
  first: readonly [string, number],
  second: readonly [string, number],
  draw: Draw,
): readonly Op[] {
  const attrs: AttrSchema = { [first[0]]: float(first[1]), [second[0]]: float(second[1]), seed: float() };
  const fill = (
    shape: readonly number[],
    dtype: DType,
    given: Readonly<Record<string, number | undefined>>,
    session: () => number,
  ) => {
    const random = given.seed === undefined ? session : generator(given.seed);
    return [
      fromNumbers(
        dtype,
        shape,
        Float64Array.from({ length: sizeOf(shape) }, () => draw(random, given[first[0]]!, given[second[0]]!)),
      ),
    ];
  };
  return [
    defineOp<AttrSchema>({
      op: name,
      since: [1, 22],
      random: true,
      inputs: [],
      outputs: ['output: any'],
      types: {},
      attrs: { ...attrs, dtype: int(1), shape: required(ints()) },
      infer: (call) => [sized(dtypeOf(call.attrs.dtype, FLOAT), call.attrs.shape)],
      reference: (call) => fill(call.attrs.shape, dtypeOf(call.attrs.dtype, FLOAT), call.attrs, call.random),
    }),
    defineOp<AttrSchema>({
      op: `${name}Like`,
      since: [1, 22],
      random: true,
      inputs: ['input: any'],
      outputs: ['output: any'],
      types: {},
      attrs: { ...attrs, dtype: int() },
      infer: (call) => [
        {
          dtype: call.attrs.dtype === undefined ? floating(call.fact(0).dtype) : dtypeOf(call.attrs.dtype, FLOAT),
          shape: call.fact(0).shape,
        },
      ],
      reference: (call) => {
        const t = call.tensor(0);
        return fill(
          t.shape,
          call.attrs.dtype === undefined ? floating(t.dtype) : dtypeOf(call.attrs.dtype, FLOAT),
          call.attrs,
          call.random,
        );
      },
    }),
  ];
}
const floating = (d: DType): DType =>
  FLOAT.includes(d) ? d : fail('type_mismatch', `a tensor like one of ${d} needs attribute dtype`);

/** https://onnx.ai/onnx/operators/onnx__Bernoulli.html */
const bernoulli: Op = defineOp({
  op: 'Bernoulli',
  since: [15, 22],
  random: true,
  inputs: ['input: T1'],
  outputs: ['output: any'],
  types: { T1: FLOAT },
  attrs: { dtype: int(), seed: float() },
  infer: (call) => [
    {
      dtype: call.attrs.dtype === undefined ? call.fact(0).dtype : dtypeOf(call.attrs.dtype, [...NUMERIC, 'bool']),
      shape: call.fact(0).shape,
    },
  ],
  reference: (call) => {
    const t = call.tensor(0);
    const random = call.attrs.seed === undefined ? call.random : generator(call.attrs.seed);
    return [
      fromNumbers(
        call.attrs.dtype === undefined ? t.dtype : dtypeOf(call.attrs.dtype, [...NUMERIC, 'bool']),
        t.shape,
        Float64Array.from(numbers(t), (p) => Number(random() < p)),
      ),
    ];
  },
});

/** https://onnx.ai/onnx/operators/onnx__Multinomial.html: the input is of unnormalised log-probabilities. */
const multinomial: Op = defineOp({
  op: 'Multinomial',
  since: [7, 22],
  random: true,
  inputs: ['input: T1'],
  outputs: ['output: any'],
  types: { T1: FLOAT },
  attrs: { dtype: int(6), sample_size: int(1), seed: float() },
  infer: (call) => {
    const { attrs } = call;
    const fact = call.fact(0);
    rankOf(fact, 'input', 2);
    if (!Number.isInteger(attrs.sample_size) || attrs.sample_size < 0)
      fail('attribute_invalid', `sample_size is ${attrs.sample_size}`);
    if (fact.shape[1] === 0) fail('shape_mismatch', `input has shape [${fact.shape}]: no class to draw from`);
    return [sized(dtypeOf(attrs.dtype, ['int32', 'int64']), [fact.shape[0]!, attrs.sample_size])];
  },
  reference: (call) => {
    const t = call.tensor(0);
    const random = call.attrs.seed === undefined ? call.random : generator(call.attrs.seed);
    const [batch, classes] = t.shape as [number, number];
    const count = call.attrs.sample_size;
    const from = Float64Array.from(numbers(t));
    const out = new Float64Array(batch * count);
    for (let b = 0; b < batch; b++) {
      const row = from.subarray(b * classes, (b + 1) * classes);
      const top = row.reduce((a, v) => Math.max(a, v), -Infinity);
      const weights = row.map((v) => Math.exp(v - top));
      const total = weights.reduce((a, v) => a + v, 0);
      for (let k = 0; k < count; k++) {
        let left = random() * total;
        let chosen = 0;
        while (chosen < classes - 1 && (left -= weights[chosen]!) >= 0) chosen++;
        out[b * count + k] = chosen;
      }
    }
    return [fromNumbers(dtypeOf(call.attrs.dtype, ['int32', 'int64']), [batch, count], out)];
  },
});

/** Two words that a device counts random numbers from, from the session's seed. Put in by `draw-on-device`. */
const randomKey: Op = defineOp({
  op: 'sardonyx.RandomKey',
  since: [1],
  random: true,
  inputs: ['words: int64'],
  outputs: ['key: uint32'],
  types: {},
  attrs: {},
  infer: () => [sized('uint32', [2])],
  reference: (call) => [
    fromNumbers(
      'uint32',
      [2],
      [0, 1].map(() => Math.floor(call.random() * 2 ** 32)),
    ),
  ],
});

/** Numbers at random: from `seed` if given, and then alike in every run, else from the session's. */
export const randoms: readonly Op[] = [
  ...distribution('RandomNormal', ['mean', 0], ['scale', 1], (random, mean, scale) => mean + scale * normal(random)),
  ...distribution('RandomUniform', ['low', 0], ['high', 1], (random, low, high) => low + (high - low) * random()),
  bernoulli,
  multinomial,
  randomKey,
];
