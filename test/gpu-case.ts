/** Cases of operators as data, run by every GPU kernel that accepts them and compared with the operator's reference. */
import { expect } from 'vitest';
import { type DType, isFloat } from '../src/core/dtype.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import type { GpuCaps } from '../src/core/plan.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import type { Gpu } from '../src/4-run/webgpu/device.ts';
import { type Call, type GpuKernel, parseAttrs, refCall } from '../kernels/define.ts';
import { ops } from '../kernels/index.ts';
import { packed } from '../kernels/packers.ts';
import { callWith, pipelineOf, runGpuKernel, shadersOf } from './gpu-harness.ts';

export interface Case {
  readonly op: string;
  readonly inputs: readonly (Tensor | null)[];
  readonly attrs?: Readonly<Record<string, number | string | readonly number[]>>;
  /** Inputs whose values are known while planning. */
  readonly known?: readonly number[];
  readonly outputs?: number;
  readonly rtol?: number;
  readonly atol?: number;
  /** Run only under these changes to the adapter's caps; default: as it is, and as if it were hardware. */
  readonly caps?: readonly Partial<GpuCaps>[];
}

/** Numbers that repeat late and are exact in every type: -30 .. 30, or 0 .. 60 for unsigned types, 0 and 1 for bool. */
export function counted(dtype: DType, shape: readonly number[], scale = 1): Tensor {
  const low = dtype.startsWith('u') || dtype === 'bool' ? 0 : -30;
  return fromNumbers(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) =>
      dtype === 'bool' ? ((i * 7) % 3) % 2 : (((i * 37) % 61) + low) * scale,
    ),
  );
}
export const int64 = (shape: readonly number[], values: readonly number[]): Tensor =>
  fromNumbers('int64', shape, values);
/** A list of int64. */
export const list = (...values: number[]): Tensor => int64([values.length], values);

const VARIANTS: readonly Partial<GpuCaps>[] = [{}, { software: false }];

interface Ready {
  readonly call: Call;
  readonly expected: readonly (Tensor | null)[];
  readonly kernels: readonly GpuKernel[];
}
async function ready(c: Case): Promise<Ready> {
  const op = ops.get(c.op);
  if (op === undefined) throw new Error(`${c.op} is not registered`);
  const attrs = parseAttrs(op.attrs, c.attrs ?? {});
  const expected = (await op.reference(refCall(c.inputs, attrs, c.outputs ?? 1))) as readonly (Tensor | null)[];
  return { call: callWith(c.inputs, expected, attrs, c.known ?? []), expected, kernels: op.webgpu ?? [] };
}

/**
 * Every kernel of the operator that accepts the case under some caps, once for each text that it has. At least one
 * must.
 */
export async function check(gpu: Gpu, c: Case): Promise<void> {
  const { call, expected, kernels } = await ready(c);
  const seen = new Set<string>();
  for (const kernel of kernels)
    for (const change of c.caps ?? VARIANTS) {
      const caps = { ...gpu.caps, ...change };
      if (kernel.accepts && !kernel.accepts(call, caps)) continue;
      const key = JSON.stringify(
        shadersOf(kernel, call, caps).map(({ shader, launch }) => [shader.code, launch.uniforms, launch.workgroups]),
      );
      if (seen.has(key)) continue;
      seen.add(key);
      const got = await runGpuKernel(gpu.device, caps, kernel, call, c.inputs, [], {}, (made, t) => packed(t, made));
      expected.forEach((e, n) => {
        if (e !== null) compare(got[n]!, e, c.rtol ?? 1e-6, c.atol ?? 0, `${kernel.name} output ${n}`);
      });
    }
  if (seen.size === 0) throw new Error(`no kernel of ${c.op} accepts ${describeCase(c)}`);
}

/** The kernel that a plan would take, by name; null when none accepts. */
export async function chosen(c: Case, caps: GpuCaps): Promise<string | null> {
  const { call, kernels } = await ready(c);
  return kernels.find((k) => !k.accepts || k.accepts(call, caps))?.name ?? null;
}

/** Compiles the shaders of the case as a device of `caps` would get them, without running them. */
export async function validate(device: GPUDevice, caps: GpuCaps, c: Case): Promise<void> {
  const { call, kernels } = await ready(c);
  for (const kernel of kernels)
    if (!kernel.accepts || kernel.accepts(call, caps))
      for (const { shader } of shadersOf(kernel, call, caps)) await pipelineOf(device, shader);
}

export function compare(got: Tensor, expected: Tensor, rtol: number, atol: number, what: string): void {
  expect([got.dtype, got.shape], what).toEqual([expected.dtype, expected.shape]);
  if (!isFloat(got.dtype)) {
    const [a, b] = [got.data as Int32Array, expected.data as Int32Array];
    const bad = a.findIndex((v, i) => v !== b[i]);
    if (bad >= 0) expect(`${what}[${bad}] = ${a[bad]}`).toBe(`${what}[${bad}] = ${b[bad]}`);
    return;
  }
  const [a, b] = [numbers(got), numbers(expected)];
  const unit = got.dtype === 'float16' ? 2 ** -10 : got.dtype === 'bfloat16' ? 2 ** -7 : 0;
  for (let i = 0; i < b.length; i++) {
    if (Object.is(a[i], b[i]) || a[i] === b[i]) continue;
    if (!(Math.abs(a[i]! - b[i]!) <= atol + Math.max(rtol, unit) * Math.abs(b[i]!)))
      expect.fail(`${what}[${i}] = ${a[i]}, not ${b[i]}`);
  }
}

export const describeCase = (c: Case): string =>
  `${c.op} ${c.inputs.map((t) => (t === null ? '-' : `${t.dtype}[${t.shape}]`)).join(' ')} ${JSON.stringify(c.attrs ?? {})}`;
