import { beforeAll, describe, expect, test } from 'vitest';
import { type Gpu, requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import type { GpuCaps } from '../src/core/plan.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { type GpuKernel, parseAttrs, refCall } from '../kernels/define.ts';
import { constant, input, x } from '../kernels/expr.ts';
import { ops } from '../kernels/index.ts';
import { packed } from '../kernels/packers.ts';
import { type Case, compare, describeCase, validate } from './gpu-case.ts';
import { FORCED, HEAVY, rough } from './gpu-cases-heavy.ts';
import { openNullDevice, callWith, type Packer, runGpuKernel, shadersOf } from './gpu-harness.ts';

let gpu: Gpu;
beforeAll(async () => {
  gpu = await requestGpuDevice({ allowSoftware: true });
});

const pack: Packer = (made, t) => packed(t, made);

/** Runs a case by kernels that a software adapter would take, and by `forced` ones whatever they accept by size. */
async function run(
  c: Case,
  kernels: (all: readonly GpuKernel[]) => readonly GpuKernel[],
  software: boolean,
  tuned: Readonly<Record<string, number>> = {},
): Promise<number> {
  const op = ops.get(c.op)!;
  const attrs = parseAttrs(op.attrs, c.attrs ?? {});
  const expected = (await op.reference(refCall(c.inputs, attrs, c.outputs ?? 1))) as readonly (Tensor | null)[];
  if (expected.every((e) => e === null || sizeOf(e.shape) === 0)) return 1;
  const call = callWith(c.inputs, expected, attrs, c.known ?? []);
  const caps = { ...gpu.caps, software };
  let ran = 0;
  const seen = new Set<string>();
  for (const kernel of kernels(op.webgpu ?? [])) {
    if (kernel.accepts && !kernel.accepts(call, caps)) continue;
    const key = JSON.stringify(
      shadersOf(kernel, call, caps, tuned).map(({ shader, launch }) => [shader.code, launch.uniforms]),
    );
    if (seen.has(key)) continue;
    seen.add(key);
    const got = await runGpuKernel(gpu.device, caps, kernel, call, c.inputs, [], tuned, pack);
    expected.forEach((e, n) => {
      if (e !== null) compare(got[n]!, e, c.rtol ?? 1e-6, c.atol ?? 0, `${kernel.name} output ${n}`);
    });
    ran++;
  }
  return ran;
}
const told = async (
  c: Case,
  kernels: (all: readonly GpuKernel[]) => readonly GpuKernel[],
  software: boolean,
  tuned: Readonly<Record<string, number>> = {},
): Promise<void> => {
  const ran = await run(c, kernels, software, tuned).catch((e: Error) => {
    throw new Error(`${describeCase(c)}\n${e.message}`);
  });
  if (ran === 0) throw new Error(`no kernel runs ${describeCase(c)}`);
};

describe('on software adapters', () => {
  for (const [name, cases] of Object.entries(HEAVY))
    test(name, async () => {
      for (const c of cases) await told(c, (all) => all, true);
    });
});

/** Variants for hardware, also where they would pay too little to be accepted. */
describe('variants for hardware', () => {
  const only =
    (name: string) =>
    (all: readonly GpuKernel[]): readonly GpuKernel[] =>
      all.filter((k) => k.name === name).map(({ accepts: _, ...k }) => k);
  for (const [name, { tuned, cases }] of Object.entries(FORCED))
    test(`${name} ${JSON.stringify(tuned)}`, async () => {
      for (const c of cases) await told(c, only(name.split(' ')[0]!), false, tuned);
    });

  test.each([
    ['MatMul', [64, 128], [128, 64], true, 'matmul.tile'],
    ['MatMul', [64, 128], [128, 64], false, 'matmul.tile'],
    ['MatMul', [32, 128], [128, 64], false, 'matmul.direct'],
    ['MatMul', [1, 128], [128, 64], true, 'matmul.direct'],
    ['MatMul', [512, 512], [512, 512], false, 'matmul.tile'],
    ['MatMul', [1, 512], [512, 512], false, 'matmul.small'],
    ['MatMul', [64, 4096], [4096, 64], false, 'matmul.splitk'],
  ] as const)('%s %s %s', (op, a, b, software, name) => {
    const call = callWith([rough('float32', a), rough('float32', b)], [{ dtype: 'float32', shape: [a[0], b[1]] }]);
    const caps = { ...gpu.caps, software };
    expect(ops.get(op)!.webgpu!.find((k) => !k.accepts || k.accepts(call, caps))!.name).toBe(
      software ? 'matmul.direct' : name,
    );
  });
});

/**
 * Elementwise work and operands at the store: max(v + operand, 0) * 0.5, with operands of the output's shape, one per
 * channel, and a scalar.
 */
describe('epilogues', () => {
  const half = {
    expr: x.mul(
      x.max(
        x.add(x.add(input(0, 'f32'), input(1, 'f32')), x.mul(input(2, 'f32'), input(3, 'f32'))),
        constant(0, 'f32'),
      ),
      constant(0.5, 'f32'),
    ),
  };
  test.each<[string, Case, readonly number[], boolean, string]>([
    ['matmul', { op: 'MatMul', inputs: [rough('float32', [2, 5, 8]), rough('float32', [8, 12], 2)] }, [12], true, ''],
    [
      'gemm with C',
      {
        op: 'Gemm',
        inputs: [rough('float32', [5, 8]), rough('float32', [8, 7], 2), rough('float32', [5, 1], 3)],
        attrs: { beta: 2 },
      },
      [5, 1],
      true,
      '',
    ],
    [
      'conv',
      {
        op: 'Conv',
        inputs: [rough('float32', [2, 3, 5, 6]), rough('float32', [4, 3, 3, 3], 2), rough('float32', [4], 3)],
        known: [1, 2],
      },
      [4, 1, 1],
      true,
      '',
    ],
    [
      'depthwise',
      {
        op: 'Conv',
        inputs: [rough('float32', [1, 4, 5, 8]), rough('float32', [4, 1, 3, 3], 2), null],
        attrs: { group: 4 },
      },
      [4, 1, 1],
      true,
      '',
    ],
    [
      'pointwise',
      {
        op: 'Conv',
        inputs: [rough('float32', [2, 3, 5, 5]), rough('float32', [4, 3, 1, 1], 2), rough('float32', [4], 3)],
      },
      [4, 1, 1],
      true,
      '',
    ],
    [
      'transposed',
      {
        op: 'ConvTranspose',
        inputs: [rough('float32', [1, 3, 4, 4]), rough('float32', [3, 2, 2, 2], 2), rough('float32', [2], 3)],
        attrs: { strides: [2, 2] },
      },
      [2, 1, 1],
      true,
      '',
    ],
    [
      'split depth',
      { op: 'MatMul', inputs: [rough('float32', [17, 520]), rough('float32', [520, 33], 2)], rtol: 1e-4, atol: 1e-3 },
      [33],
      false,
      'matmul.splitk',
    ],
    [
      'small',
      { op: 'MatMul', inputs: [rough('float32', [2, 40]), rough('float32', [40, 20], 2)] },
      [20],
      false,
      'matmul.small',
    ],
  ])('%s', async (_, c, channel, software, name) => {
    const op = ops.get(c.op)!;
    const attrs = parseAttrs(op.attrs, c.attrs ?? {});
    const [plain] = (await op.reference(refCall(c.inputs, attrs, 1))) as readonly Tensor[];
    const operands = [rough('float32', plain!.shape, 5), rough('float32', channel, 6), rough('float32', [], 7)];
    const call = { ...callWith(c.inputs, [plain!], attrs, c.known ?? []), epilogue: { ...half, operands } };
    const per = operands[1]!.data as Float32Array;
    const scale = (operands[2]!.data as Float32Array)[0]!;
    const after = plain!.shape
      .slice(channel.length > 1 ? plain!.shape.length - channel.length + 1 : plain!.shape.length)
      .reduce((a, b) => a * b, 1);
    const expected = {
      ...plain!,
      data: (plain!.data as Float32Array).map(
        (v, i) =>
          Math.max(v + (operands[0]!.data as Float32Array)[i]! + per[Math.floor(i / after) % per.length]! * scale, 0) *
          0.5,
      ),
    } as Tensor;
    const caps = { ...gpu.caps, software };
    const kernels = op.webgpu!.filter((k) => (name === '' ? k.accepts!(call, caps) : k.name === name));
    expect(kernels.length).toBeGreaterThan(0);
    for (const { accepts: _accepts, ...k } of kernels)
      compare(
        (
          await runGpuKernel(
            gpu.device,
            caps,
            k,
            call,
            c.inputs,
            operands,
            { TX: 8, TY: 8, BM: 32, BN: 32, BK: 16, PARTS: 4 },
            pack,
          )
        )[0]!,
        expected,
        c.rtol ?? 2e-5,
        c.atol ?? 2e-5,
        k.name,
      );
  });
});

/** Dawn's null backend compiles for features that no software adapter has, and runs nothing. */
describe('shaders for adapters with f16', () => {
  let device: GPUDevice;
  let caps: GpuCaps;
  beforeAll(async () => {
    ({ device, caps } = await openNullDevice(['shader-f16', 'subgroups']));
  });
  const all = { ...HEAVY, ...Object.fromEntries(Object.entries(FORCED).map(([name, { cases }]) => [name, cases])) };
  const isHalf = (c: Case): boolean => c.inputs.some((t) => t?.dtype === 'float16');
  for (const [name, cases] of Object.entries(all).filter(([, list]) => list.some(isHalf)))
    test(name, async () => {
      expect(caps.f16).toBe(true);
      for (const c of cases)
        if (isHalf(c) && !c.inputs.every((t) => t === null || sizeOf(t.shape) === 0))
          await validate(device, caps, c).catch((e: Error) => {
            throw new Error(`${describeCase(c)}\n${e.message}`);
          });
    });
});
