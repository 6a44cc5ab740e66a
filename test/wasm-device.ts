/** Runs operators through their WASM kernels, each alone, and holds them against their references. */
import { expect } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { isFloat, isInt64 } from '../src/core/dtype.ts';
import { constantOf, type Fact } from '../src/core/graph.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { BASE_WASM, type WasmCaps } from '../src/core/plan.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { type InferCall, type Op, parseAttrs, refCall, type WasmKernel } from '../kernels/define.ts';
import { wasmKernels } from '../kernels/index.ts';
import { kernelModule } from '../kernels/wasm/module.ts';
import { f32x4, v128 } from '../kernels/wasm/asm.ts';
import { generator, runKernel } from './wasm-harness.ts';

const relaxed = WebAssembly.validate(
  kernelModule('probe', [], BASE_WASM, (f) => f.drop(f32x4.rmadd(v128.zero(), v128.zero(), v128.zero()))),
);
/** What this engine can do: with and without relaxed multiply-add, and on shared memory. */
export const CAPS: readonly WasmCaps[] = [BASE_WASM, ...(relaxed ? [{ ...BASE_WASM, fma: true }] : [])];
export const SHARED: WasmCaps = { ...BASE_WASM, shared: true };

/** The seed of a test: fixed, or SARDONYX_SEED; it is part of every failure's message. */
export const SEED = Number(process.env.SARDONYX_SEED ?? 20);

export interface Source {
  readonly next: () => number;
  /** An integer in [low, high]. */
  readonly int: (low: number, high: number) => number;
  readonly pick: <T>(of: readonly T[]) => T;
  /** A tensor of values that suit the dtype: floats in (-scale, scale), small integers. */
  readonly tensor: (dtype: DType, shape: readonly number[], scale?: number) => Tensor;
}
export function source(seed = SEED): Source {
  const next = generator(seed);
  const int = (low: number, high: number): number => low + Math.floor(next() * (high - low + 1));
  return {
    next,
    int,
    pick: (of) => of[int(0, of.length - 1)]!,
    tensor: (dtype, shape, scale = 2) => {
      const one =
        dtype === 'bool'
          ? () => int(0, 1)
          : isFloat(dtype)
            ? () => (next() * 2 - 1) * scale
            : dtype.startsWith('u')
              ? () => int(0, 100)
              : () => int(-60, 60);
      return fromNumbers(dtype, shape, Array.from({ length: sizeOf(shape) }, one));
    },
  };
}
/** Dims that meet vector tails: 0 rarely, 1, primes, and around multiples of 4. */
export const DIMS: readonly number[] = [1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 31, 33];

export interface Trial {
  readonly attrs?: Readonly<Record<string, unknown>>;
  readonly inputs: readonly (Tensor | null)[];
  /** Inputs known when planning. */
  readonly constants?: readonly number[];
  readonly outputs?: number;
  readonly caps?: WasmCaps;
  /** Allowed difference: absolute, and relative to the reference. */
  readonly atol?: number;
  readonly rtol?: number;
  /** This kernel, whatever the operator lists. */
  readonly kernel?: WasmKernel;
}
export interface Ran {
  readonly kernel: string;
  readonly status: number;
  readonly outputs: readonly Tensor[];
}

/**
 * Infers, picks the first kernel that accepts, runs it. Refused by all: an error, so that nothing passes by not
 * running.
 */
export function runOp(op: Op, trial: Trial): Ran {
  const attrs = parseAttrs(op.attrs, (trial.attrs ?? {}) as never);
  const count = trial.outputs ?? 1;
  const facts = trial.inputs.map((t): Fact | null => t && { dtype: t.dtype, shape: t.shape, constant: constantOf(t) });
  const call: InferCall = {
    inputs: facts,
    attrs,
    outputs: count,
    value: (i) => trial.inputs[i]!,
    fact: (i) => facts[i]!,
  };
  const shapes = op.infer!(call);
  const caps = trial.caps ?? BASE_WASM;
  const planned = {
    inputs: facts.map((f, i) => (f && !trial.constants?.includes(i) ? { dtype: f.dtype, shape: f.shape } : f)),
    outputs: shapes.slice(0, count),
    attrs,
  };
  const kernel =
    trial.kernel ?? (op.wasm ?? wasmKernels[op.op] ?? []).find((k) => !k.accepts || k.accepts(planned as never, caps));
  if (!kernel)
    throw new Error(
      `no WASM kernel of ${op.op} takes [${facts.map((f) => f && `${f.dtype}[${f.shape}]`)}] ${JSON.stringify(trial.attrs ?? {})}`,
    );
  return {
    kernel: kernel.name,
    ...runKernel(kernel, caps, trial.inputs, shapes.slice(0, count), attrs, trial.constants ?? []),
  };
}

/** Runs kernel and reference; throws with all that is needed to run it again. */
export async function agree(op: Op, trial: Trial, note = ''): Promise<Ran> {
  const { atol = 1e-5, rtol = 1e-5 } = trial;
  const attrs = parseAttrs(op.attrs, (trial.attrs ?? {}) as never);
  const want = await op.reference(refCall(trial.inputs, attrs as never, trial.outputs ?? 1));
  const got = runOp(op, trial);
  const where = (): string =>
    `${op.op} by ${got.kernel} ${note} seed ${SEED} ${JSON.stringify(trial.attrs ?? {})} of ${trial.inputs.map((t) => (t ? `${t.dtype}[${t.shape}]` : 'none')).join(', ')}`;
  expect(got.status, where()).toBe(0);
  got.outputs.forEach((y, k) => {
    const w = want[k] as Tensor;
    expect([y.dtype, ...y.shape], where()).toEqual([w.dtype, ...w.shape]);
    if (isInt64(y.dtype)) {
      expect(y.data, where()).toEqual(w.data);
      return;
    }
    const [a, b] = [numbers(y), numbers(w)];
    for (let i = 0; i < b.length; i++) {
      const same =
        a[i] === b[i] || (a[i] !== a[i] && b[i] !== b[i]) || Math.abs(a[i]! - b[i]!) <= atol + rtol * Math.abs(b[i]!);
      if (!same) throw new Error(`output ${k}[${i}] is ${a[i]}, not ${b[i]}: ${where()}`);
    }
  });
  return got;
}
