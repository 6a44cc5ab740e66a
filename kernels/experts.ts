/** Mixtures of experts: each row goes through the products of the few experts that its router likes best. */
import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import { fromNumbers, integers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { type AttrSchema, defineOp, float, int, type InferCall, type Op, type RefCall, string } from './define.ts';
import { reals } from './matmul-product.ts';
import { geluTanh } from './special.ts';

const REAL: readonly DType[] = ['float32', 'float16', 'bfloat16'];

/** Weights of all experts, [experts, out, in]: floats, or `bits` an element with a scale for each `block` of a row. */
export interface ExpertShape {
  readonly experts: number;
  readonly out: number;
  readonly in: number;
  readonly bits: number;
  readonly block: number;
  readonly blocks: number;
}

/** @throws shape_mismatch, attribute_invalid */
export function expertShape(
  weights: { readonly shape: readonly number[] },
  scales: Fact | null,
  zeros: Fact | null,
  bias: Fact | null,
  bits: number,
  blockSize: number,
): ExpertShape {
  const [experts, out, columns] = weights.shape as [number, number, number];
  if (weights.shape.length !== 3)
    fail('shape_mismatch', `the experts' weights have shape [${weights.shape}]; they must be [experts, out, in]`);
  if (bits !== 0 && bits !== 4 && bits !== 8) fail('attribute_invalid', `expert_weight_bits ${bits} must be 4 or 8`);
  const width = bits === 0 ? columns : (columns * 8) / bits;
  const block = blockSize > 0 ? blockSize : width;
  const blocks = bits === 0 ? 0 : Math.ceil(width / block);
  if (bits !== 0 && blockSize > 0 && blockSize < 16)
    fail('attribute_invalid', `block_size ${blockSize} must be at least 16`);
  const expect = (what: string, fact: Fact | null, count: number): void => {
    if (fact && sizeOf(fact.shape) !== count)
      fail('shape_mismatch', `${what} have shape [${fact.shape}]; ${count} elements are needed`);
  };
  if (bits !== 0 && !scales) fail('input_missing', 'quantised experts need scales');
  expect('the scales', scales, experts * out * blocks);
  expect('the zero points', zeros, experts * out * Math.ceil((blocks * bits) / 8));
  expect('the biases', bias, experts * out);
  return { experts, out, in: width, bits, block, blocks };
}

/** One row of one expert's weights, as numbers. */
function weightRow(
  s: ExpertShape,
  weights: ArrayLike<number>,
  scales: ArrayLike<number> | null,
  zeros: ArrayLike<number> | null,
  row: number,
): (k: number) => number {
  if (s.bits === 0) return (k) => weights[row * s.in + k]!;
  const per = 8 / s.bits;
  const mask = (1 << s.bits) - 1;
  const bytes = s.in / per;
  const zeroBytes = Math.ceil(s.blocks / per);
  return (k) => {
    const block = Math.floor(k / s.block);
    const q = (weights[row * bytes + Math.floor(k / per)]! >> ((k % per) * s.bits)) & mask;
    const zero =
      zeros === null
        ? 1 << (s.bits - 1)
        : (zeros[row * zeroBytes + Math.floor(block / per)]! >> ((block % per) * s.bits)) & mask;
    return (q - zero) * scales![row * s.blocks + block]!;
  };
}

interface Weights {
  readonly weights: Tensor;
  readonly scales: Tensor | null;
  readonly zeros: Tensor | null;
  readonly bias: Tensor | null;
}
const shapeOfWeights = (w: Weights, bits: number, block: number): ExpertShape =>
  expertShape(w.weights, w.scales, w.zeros, w.bias, bits, block);

/** What `expert` makes of a row of `x` that begins at `at`. */
function applyExpert(s: ExpertShape, w: Weights, expert: number, x: ArrayLike<number>, at: number): Float64Array {
  const y = new Float64Array(s.out);
  const data = numbers(w.weights);
  const scales = w.scales && numbers(w.scales);
  const zeros = w.zeros && numbers(w.zeros);
  const bias = w.bias && numbers(w.bias);
  for (let n = 0; n < s.out; n++) {
    const row = expert * s.out + n;
    const of = weightRow(s, data, scales, zeros, row);
    let sum = bias ? bias[row]! : 0;
    for (let k = 0; k < s.in; k++) sum += x[at + k]! * of(k);
    y[n] = sum;
  }
  return y;
}

/**
 * Row (r, j) of X [rows, 1 or slots, in] times the weights of expert `experts[r, j]`, transposed, plus its bias: [rows,
 * slots, out]. Not an operator of ONNX: the expansion of mixtures of experts makes it.
 */
const expertMatMul = defineOp({
  op: 'sardonyx.ExpertMatMul',
  since: [1],
  inputs: ['X: T', 'experts: int64', 'W: any', 'scales: T?', 'zero_points: uint8?', 'bias: T?'],
  outputs: ['Y: T'],
  types: { T: REAL },
  attrs: { bits: int(0), block_size: int(-1) },
  infer: (call) => {
    const s = expertShape(
      call.fact(2),
      call.inputs[3] ?? null,
      call.inputs[4] ?? null,
      call.inputs[5] ?? null,
      call.attrs.bits,
      call.attrs.block_size,
    );
    const x = call.fact(0).shape;
    const [rows, slots] = call.fact(1).shape as [number, number];
    if (x.length !== 3 || x[0] !== rows || (x[1] !== 1 && x[1] !== slots) || x[2] !== s.in)
      fail('shape_mismatch', `X has shape [${x}]; it must be [${rows}, 1 or ${slots}, ${s.in}]`);
    return [{ dtype: call.fact(0).dtype, shape: [rows, slots, s.out] }];
  },
  reference: (call) => {
    const xt = call.tensor(0);
    const x = reals(xt);
    const chosen = integers(call.tensor(1));
    const [, slots] = call.tensor(1).shape as [number, number];
    const w: Weights = {
      weights: call.tensor(2),
      scales: call.optional(3),
      zeros: call.optional(4),
      bias: call.optional(5),
    };
    const s = shapeOfWeights(w, call.attrs.bits, call.attrs.block_size);
    const y = new Float64Array(chosen.length * s.out);
    chosen.forEach((expert, i) => {
      if (expert < 0 || expert >= s.experts) fail('value_invalid', `expert ${expert} of ${s.experts}`);
      y.set(applyExpert(s, w, expert, x, (xt.shape[1] === 1 ? Math.floor(i / slots) : i) * s.in), i * s.out);
    });
    return [fromNumbers(xt.dtype, [chosen.length / slots, slots, s.out], y)];
  },
});

// ── MoE and QMoE ────────────────────────────────────────────────────────────────────────────────────────────────────
const mixtureAttrs = {
  activation_alpha: float(1),
  activation_beta: float(0),
  activation_type: string('relu'),
  k: int(1),
  normalize_routing_weights: int(0),
  swiglu_fusion: int(0),
  swiglu_limit: float(Infinity),
  use_sparse_mixer: int(0),
};
/** Where inputs lie: fc1, fc2 and fc3 as [weights, scales, bias, zero points]. */
export const EXPERT_INPUTS = {
  MoE: [
    [2, null, 3, null],
    [4, null, 5, null],
    [6, null, 7, null],
  ],
  QMoE: [
    [2, 3, 4, 11],
    [5, 6, 7, 12],
    [8, 9, 10, 13],
  ],
} as const;
export type MixtureAttrs = { readonly [K in Exclude<keyof typeof mixtureAttrs, 'activation_type'>]: number } & {
  readonly activation_type: string;
  readonly expert_weight_bits?: number;
  readonly block_size?: number;
};

/** Does fc1 make gates and values, and how do they lie? null: it makes what the activation takes. */
export const gatesOf = (attrs: MixtureAttrs): 'pairs' | 'halves' | null =>
  attrs.activation_type !== 'swiglu' || attrs.swiglu_fusion === 0
    ? null
    : attrs.swiglu_fusion === 1
      ? 'pairs'
      : 'halves';

/** onnxruntime's QMoE makes the chosen probabilities sum to 1 whatever the attribute says. */
export const normalizes = (op: 'MoE' | 'QMoE', attrs: MixtureAttrs): boolean =>
  op === 'QMoE' || attrs.normalize_routing_weights !== 0;

function check(
  call: Pick<InferCall, 'inputs' | 'fact'>,
  op: 'MoE' | 'QMoE',
  attrs: MixtureAttrs,
): { rows: number; hidden: number } {
  const x = call.fact(0);
  const router = call.fact(1);
  const hidden = x.shape.at(-1)!;
  const rows = sizeOf(x.shape) / hidden;
  const bits = op === 'QMoE' ? attrs.expert_weight_bits! : 0;
  const block = attrs.block_size ?? -1;
  const [fc1, fc2, fc3] = EXPERT_INPUTS[op].map(([w, scale, bias, zero]) =>
    call.inputs[w]
      ? expertShape(
          call.inputs[w],
          scale === null ? null : (call.inputs[scale] ?? null),
          zero === null ? null : (call.inputs[zero] ?? null),
          call.inputs[bias] ?? null,
          bits,
          block,
        )
      : null,
  );
  if (attrs.use_sparse_mixer) fail('attribute_invalid', 'use_sparse_mixer is not supported');
  if (!['relu', 'gelu', 'silu', 'swiglu', 'identity'].includes(attrs.activation_type))
    fail(
      'attribute_invalid',
      `activation_type ${JSON.stringify(attrs.activation_type)} must be relu, gelu, silu, swiglu or identity`,
    );
  const inner = gatesOf(attrs) === null ? fc1!.out : fc1!.out / 2;
  if (
    fc1!.in !== hidden ||
    fc2!.out !== hidden ||
    fc2!.in !== inner ||
    (fc3 && (fc3.in !== hidden || fc3.out !== inner))
  )
    fail(
      'shape_mismatch',
      `experts of [${fc1!.out}, ${fc1!.in}], [${fc2!.out}, ${fc2!.in}]${fc3 ? ` and [${fc3.out}, ${fc3.in}]` : ''} do not fit rows of ${hidden}`,
    );
  if (
    router.shape.length !== 2 ||
    router.shape[0] !== rows ||
    router.shape[1] !== fc1!.experts ||
    attrs.k < 1 ||
    attrs.k > fc1!.experts
  )
    fail(
      'shape_mismatch',
      `the router has shape [${router.shape}]; it must be [${rows}, ${fc1!.experts}] and k ${attrs.k} at most that`,
    );
  return { rows, hidden };
}

const activate = (attrs: MixtureAttrs, v: number): number => {
  switch (attrs.activation_type) {
    case 'relu':
      return Math.max(v, 0);
    case 'gelu':
      return geluTanh(v);
    case 'silu':
    case 'swiglu':
      return v / (1 + Math.exp(-(attrs.activation_type === 'silu' ? 1 : attrs.activation_alpha) * v));
    default:
      return v;
  }
};

function mixture(call: RefCall<MixtureAttrs>, op: 'MoE' | 'QMoE'): readonly Tensor[] {
  const { attrs } = call;
  const xt = call.tensor(0);
  const x = reals(xt);
  const { rows, hidden } = check({ inputs: call.inputs as never, fact: (i) => call.tensor(i) }, op, attrs);
  const [fc1, fc2, fc3] = EXPERT_INPUTS[op].map(([w, scale, bias, zero]): Weights | null =>
    call.optional(w)
      ? {
          weights: call.tensor(w),
          scales: scale === null ? null : call.optional(scale),
          zeros: zero === null ? null : call.optional(zero),
          bias: call.optional(bias),
        }
      : null,
  );
  const bits = op === 'QMoE' ? attrs.expert_weight_bits! : 0;
  const block = attrs.block_size ?? -1;
  const [s1, s2, s3] = [fc1, fc2, fc3].map((w) => w && shapeOfWeights(w, bits, block));
  const router = numbers(call.tensor(1));
  const experts = s1!.experts;
  const gates = gatesOf(attrs);
  const limit = attrs.swiglu_limit;
  const y = new Float64Array(rows * hidden);
  for (let r = 0; r < rows; r++) {
    const logits = Array.from({ length: experts }, (_, e) => router[r * experts + e]!);
    const top = Math.max(...logits);
    const sum = logits.reduce((n, v) => n + Math.exp(v - top), 0);
    const chosen = logits
      .map((v, e) => [e, Math.exp(v - top) / sum] as const)
      .sort((a, b) => b[1] - a[1] || a[0] - b[0])
      .slice(0, attrs.k);
    const share = normalizes(op, attrs) ? chosen.reduce((n, [, p]) => n + p, 0) : 1;
    for (const [e, p] of chosen) {
      const h = applyExpert(s1!, fc1!, e, x, r * hidden);
      const other = fc3 ? applyExpert(s3!, fc3, e, x, r * hidden) : null;
      const inner = s2!.in;
      const inside = Float64Array.from({ length: inner }, (_, i) => {
        if (gates === null) return activate(attrs, h[i]!) * (other ? other[i]! : 1);
        const gate = Math.min(h[gates === 'pairs' ? 2 * i : i]!, limit);
        const value = Math.max(-limit, Math.min(h[gates === 'pairs' ? 2 * i + 1 : inner + i]!, limit));
        return activate(attrs, gate) * (value + attrs.activation_beta);
      });
      applyExpert(s2!, fc2!, e, inside, 0).forEach((v, i) => {
        y[r * hidden + i]! += (p / share) * v;
      });
    }
  }
  return [fromNumbers(xt.dtype, xt.shape, y)];
}

const mixtureOp = <A extends AttrSchema>(
  op: 'MoE' | 'QMoE',
  inputs: readonly string[],
  types: Op['types'],
  attrs: A,
): Op =>
  defineOp({
    op: `com.microsoft.${op}`,
    since: [1],
    inputs,
    outputs: ['output: T'],
    types: { T: REAL, ...types },
    attrs: { ...mixtureAttrs, ...attrs },
    infer: (call) => {
      check(call, op, call.attrs as MixtureAttrs);
      const { dtype, shape } = call.fact(0);
      return [{ dtype, shape }];
    },
    reference: (call) => mixture(call as unknown as RefCall<MixtureAttrs>, op),
  });

/**
 * ContribOperators.md of onnxruntime; quantised weights are those of its CPU and WebGPU kernels, in their plain order.
 */
export const experts: readonly Op[] = [
  expertMatMul,
  mixtureOp(
    'MoE',
    [
      'input: T',
      'router_probs: T',
      'fc1_experts_weights: T',
      'fc1_experts_bias: T?',
      'fc2_experts_weights: T',
      'fc2_experts_bias: T?',
      'fc3_experts_weights: T?',
      'fc3_experts_bias: T?',
    ],
    {},
    {},
  ),
  mixtureOp(
    'QMoE',
    [
      'input: T',
      'router_probs: T',
      'fc1_experts_weights: uint8',
      'fc1_scales: T2?',
      'fc1_experts_bias: T?',
      'fc2_experts_weights: uint8',
      'fc2_scales: T2?',
      'fc2_experts_bias: T?',
      'fc3_experts_weights: uint8?',
      'fc3_scales: T2?',
      'fc3_experts_bias: T?',
      'fc1_zero_points: uint8?',
      'fc2_zero_points: uint8?',
      'fc3_zero_points: uint8?',
    ],
    { T2: REAL },
    { block_size: int(-1), expert_weight_bits: int(4), quant_type: string('int') },
  ),
];
