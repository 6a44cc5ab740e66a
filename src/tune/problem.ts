/** What is tuned: calls of operators, with values to try them on and what must come out. */
import { type Call, type InferCall, parseAttrs, refCall } from '../../kernels/define.ts';
import { ops } from '../../kernels/index.ts';
import { type Work, workOf } from '../../kernels/work.ts';
import { bytesOf, type DType, isFloat } from '../core/dtype.ts';
import { fail } from '../core/errors.ts';
import type { AttrValue, Constant, Fact } from '../core/graph.ts';
import { fromNumbers, numbers } from '../core/numbers.ts';
import { isTensor, sizeOf, type Tensor } from '../core/tensor.ts';

/** A call that kernels compete for. */
export interface Problem {
  readonly op: string;
  readonly call: Call;
  readonly work: Work;
  /** Bytes that must at least be read and written. */
  readonly bytes: number;
  /** How often the model does it; 1 for problems by themselves. */
  readonly count: number;
}

const byteSize = (f: Fact | null): number => (f ? bytesOf(f.dtype, sizeOf(f.shape)) : 0);

export function problemOf(op: string, call: Call, count = 1): Problem {
  const sum = (facts: readonly (Fact | null)[]): number => facts.reduce((n, f) => n + byteSize(f), 0);
  const written = sum(call.outputs);
  // What picks elements need not read the others.
  const read = call.inputs.map((f) =>
    /^(Gather|Slice|Split)/.test(op) ? Math.min(byteSize(f), written) : byteSize(f),
  );
  return {
    op,
    call,
    count,
    work: workOf(op, call),
    bytes: written + read.reduce((n, b) => n + b, 0) + sum(call.epilogue?.operands ?? []),
  };
}
/** Problems with one key are one: one measurement answers for all. */
export const keyOf = ({ work }: Pick<Problem, 'work'>): string => `${work.group} ${work.sizes.join('x')}`;

/** An input by dtype and shape; `weight`: its values are known while planning. */
export interface Input {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly weight?: boolean;
  readonly data?: readonly number[];
}
export const floats = (...shape: number[]): Input => ({ dtype: 'float32', shape });
export const weight = (...shape: number[]): Input => ({ dtype: 'float32', shape, weight: true });

/**
 * A problem by its operator and inputs; the first `outputs` of its results are wanted. @throws option_invalid for
 * operators that are not known, shape_mismatch and the like
 */
export function makeProblem(
  name: string,
  inputs: readonly (Input | null)[],
  attrs: Readonly<Record<string, AttrValue>> = {},
  outputs = 1,
): Problem {
  const op = ops.get(name) ?? fail('option_invalid', `no operator ${name}`);
  const facts = inputs.map(
    (i, n): Fact | null => i && { dtype: i.dtype, shape: i.shape, ...(i.weight ? { constant: lazily(i, n) } : {}) },
  );
  const parsed = parseAttrs(op.attrs, attrs);
  const call: InferCall = {
    inputs: facts,
    attrs: parsed,
    outputs,
    value: (i) => facts[i]?.constant?.peek() ?? fail('option_invalid', `input ${i} of ${name} must be a weight`),
    fact: (i) => facts[i] ?? fail('option_invalid', `input ${i} of ${name} is missing`),
  };
  return problemOf(name, { inputs: facts, outputs: op.infer!(call).slice(0, outputs), attrs: parsed });
}

function lazily({ dtype, shape, data }: Input, n: number): Constant {
  let made: Tensor | undefined;
  const tensor = (): Tensor => (made ??= data ? fromNumbers(dtype, shape, data) : awkward(dtype, shape, n + 101));
  return { dtype, shape, peek: tensor, load: tensor };
}

/**
 * Values from a seed that wrong kernels stumble over: no two neighbours alike, both signs, exact zeros and ones, some a
 * thousand times as large as others; none that makes sums of products depend on their order more than rounding does.
 */
export function awkward(dtype: DType, shape: readonly number[], seed: number): Tensor {
  let s = Math.imul(seed, 0x9e3779b9) | 1;
  const next = (): number => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    return (s >>> 0) / 2 ** 32;
  };
  const real = (): number => {
    const kind = next();
    const v = 2 * next() - 1;
    return kind < 0.05 ? 0 : kind < 0.1 ? Math.sign(v) : kind < 0.2 ? v * 2 ** -8 : kind < 0.22 ? v * 4 : v;
  };
  const range = dtype === 'bool' ? 2 : /^u?int8$/.test(dtype) ? 128 : 2;
  return fromNumbers(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, () => (isFloat(dtype) ? real() : Math.floor(next() * range))),
  );
}

/** Tensors for the inputs and the epilogue's operands of a call: constants as they are, the rest awkward. */
export async function tensorsOf(call: Call, seed = 1): Promise<{ inputs: (Tensor | null)[]; operands: Tensor[] }> {
  const of = async (f: Fact, n: number): Promise<Tensor> =>
    f.constant ? f.constant.load() : awkward(f.dtype, f.shape, seed * 31 + n);
  return {
    inputs: await Promise.all(call.inputs.map((f, n) => f && of(f, n))),
    operands: await Promise.all((call.epilogue?.operands ?? []).map((f, n) => of(f, 17 + n))),
  };
}

/** What the reference makes of a call, its epilogue included. */
export async function expectedOf(
  { op, call }: Pick<Problem, 'op' | 'call'>,
  inputs: readonly (Tensor | null)[],
  operands: readonly Tensor[],
): Promise<readonly (Tensor | null)[]> {
  const results = (await ops
    .get(op)!
    .reference(refCall(inputs, call.attrs, call.outputs.length))) as readonly (Tensor | null)[];
  const [first, ...others] = results;
  if (call.epilogue === undefined || !first) return results;
  const { dtype, shape } = call.outputs[0]!;
  const finished = (await ops
    .get('sardonyx.Map')!
    .reference(
      refCall([first, ...operands], { expr: JSON.stringify(call.epilogue.expr), dtype, shape }, 1),
    )) as readonly Tensor[];
  return [finished[0]!, ...others];
}

/**
 * Where `got` is not what is wanted; null: nowhere. Floats may differ by `rtol` and by as much of the largest
 * magnitude, integers not at all.
 */
export function disagreement(
  got: readonly (Tensor | null)[],
  want: readonly (Tensor | null)[],
  rtol = 1e-4,
): string | null {
  for (const [n, w] of want.entries()) {
    const g = got[n];
    if (!w || !g) continue;
    if (g.dtype !== w.dtype || g.data.length !== w.data.length)
      return `output ${n} is ${g.dtype}[${g.shape}], not ${w.dtype}[${w.shape}]`;
    const a = isTensor(g) && isFloat(g.dtype) ? numbers(g) : (g.data as ArrayLike<number>);
    const b = isFloat(w.dtype) ? numbers(w) : (w.data as ArrayLike<number>);
    const unit = w.dtype === 'float16' ? 2 ** -9 : w.dtype === 'bfloat16' ? 2 ** -6 : rtol;
    let most = 0;
    if (isFloat(w.dtype))
      for (let i = 0; i < b.length; i++) if (Number.isFinite(b[i]!)) most = Math.max(most, Math.abs(b[i]!));
    for (let i = 0; i < b.length; i++) {
      const [x, y] = [a[i]!, b[i]!];
      if (Object.is(x, y) || x === y) continue;
      if (!isFloat(w.dtype) || !(Math.abs(x - y) <= unit * (Math.abs(y) + most)))
        return `element ${i} of output ${n} is ${x}, not ${y}`;
    }
  }
  return null;
}
