/**
 * Products by subgroup matrices, which no software adapter has: their shaders compile on Dawn's null backend, and give
 * what the reference gives where each matrix is written out as what its lanes hold of it.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { expectedOf, makeProblem, type Problem, tensorsOf, floats, weight } from '../src/tune/problem.ts';
import { type Gpu, requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { pack, variantsOf } from '../src/tune/search.ts';
import type { GpuKernel, Launch } from '../kernels/define.ts';
import type { GpuCaps } from '../src/core/plan.ts';
import { ops } from '../kernels/index.ts';
import { compare } from './gpu-case.ts';
import { openNullDevice, pipelineOf, runGpuKernel, shadersOf } from './gpu-harness.ts';

const F16 = { of: 'f16', m: 16, n: 16, k: 16 } as const;
const INTEL = { of: 'f16', m: 8, n: 16, k: 16 } as const;
const APPLE = { of: 'f32', m: 8, n: 8, k: 8 } as const;
const half = (...shape: number[]) => ({ dtype: 'float16' as const, shape });
const problems = (f16: boolean): Problem[] => {
  const [a, b] = f16 ? [half, (...shape: number[]) => ({ ...half(...shape), weight: true })] : [floats, weight];
  return [
    makeProblem('MatMul', [a(37, 19), b(19, 44)]),
    makeProblem('MatMul', [a(3, 33, 20), a(3, 20, 28)]),
    makeProblem('MatMul', [a(1, 67), b(67, 36)]),
    makeProblem('MatMul', [a(131, 17), b(17, 132)]),
    makeProblem('Gemm', [a(65, 33), b(36, 33), b(36)], { transB: 1, alpha: 0.5 }),
    ...(f16
      ? []
      : [
          makeProblem('MatMul', [a(7, 13), b(13, 11)]),
          makeProblem('Gemm', [a(20, 13), b(20, 9), null], { transA: 1 }),
        ]),
  ];
};
const kernelOf = (op: string): GpuKernel => ops.get(op)!.webgpu!.find((k) => k.name.endsWith('.matrix'))!;

/**
 * The slot `tile` with each matrix as an array: lane l of S has the elements l, l + S, … of a sum, and operands are
 * where they begin in workgroup memory.
 */
function writtenOut(text: string): string {
  const [, n, m] = /result<f32, (\d+), (\d+)>/.exec(text)!.map(Number) as [number, number, number];
  const k = Number(/left<Cell, (\d+)/.exec(text)![1]);
  return text
    .replace(/alias Left = .*/, 'struct Left { at: u32, row: u32 }')
    .replace(/alias Right = .*/, 'struct Right { at: u32, row: u32 }')
    .replace(
      /alias Sum = .*/,
      `struct Sum { v: array<f32, ${n * m}> }
fn multiplied(l: Left, r: Right, c: Sum, lane: u32, lanes: u32) -> Sum {
  var s = c;
  for (var e = lane; e < ${n * m}u; e += lanes) { for (var d = 0u; d < ${k}u; d++) { s.v[e / lanes] += f32(as_[l.at + e / ${n}u * l.row + d]) * f32(bs[r.at + d * r.row + e % ${n}u]); } }
  return s;
}
fn stored(at: u32, c: Sum, row: u32, lane: u32, lanes: u32) { for (var e = lane; e < ${n * m}u; e += lanes) { sums[at + e / ${n}u * row + e % ${n}u] = c.v[e / lanes]; } }`,
    )
    .replace(/subgroupMatrixLoad<(\w+), row_major>\(&\w+, (.*), (\d+u)\);/g, '$1($2, $3);')
    .replace(/subgroupMatrixMultiplyAccumulate\((.*)\);/g, 'multiplied($1, lane, lanes);')
    .replace(/subgroupMatrixStore<row_major>\(&sums, (.*)\);/g, 'stored($1, lane, lanes);');
}
const emulated = (kernel: GpuKernel): GpuKernel => ({
  ...kernel,
  launch: (...given) => {
    const l = kernel.launch(...given) as Launch;
    return { ...l, slots: { tile: writtenOut(l.slots!.tile!) } };
  },
});

describe('products by subgroup matrices', () => {
  let gpu: Gpu;
  beforeAll(async () => {
    gpu = await requestGpuDevice({ allowSoftware: true });
  });
  const sized = (matrices: GpuCaps['matrices']): GpuCaps => ({
    ...gpu.caps,
    subgroupSizes: [gpu.caps.subgroupSizes![0], gpu.caps.subgroupSizes![0]],
    ...(matrices ? { matrices } : {}),
  });

  it.each([
    ['f32 of 8', APPLE],
    ['f16 of 16', F16],
    ['f16 of 8 and 16', INTEL],
  ] as const)('give what the reference gives: %s', { timeout: 180_000 }, async (_, config) => {
    if (!gpu.caps.subgroups || (config.of === 'f16' && !gpu.caps.f16)) return;
    let tried = 0;
    // Large matrices, written out, take compilers long.
    for (const [i, problem] of problems(config.of === 'f16')
      .slice(0, config.m * config.n > 64 ? 2 : undefined)
      .entries()) {
      const { inputs, operands } = await tensorsOf(problem.call);
      const expected = await expectedOf(problem, inputs, operands);
      const kernel = emulated(kernelOf(problem.op));
      for (const tuned of config.m * config.n > 64
        ? [{ STRIPS: 2, ACROSS: 2 }]
        : i === 0
          ? [{}, { STRIPS: 2, DOWN: 2, ACROSS: 2, BK: 32 }]
          : [{}]) {
        const got = await runGpuKernel(
          gpu.device,
          sized([config]),
          kernel,
          problem.call,
          inputs,
          operands,
          tuned,
          pack,
        );
        compare(
          got[0]!,
          expected[0]!,
          config.of === 'f16' ? 4e-3 : 1e-4,
          config.of === 'f16' ? 4e-3 : 1e-5,
          `${problem.op} ${JSON.stringify(tuned)}`,
        );
        tried++;
      }
    }
    expect(tried).toBeGreaterThan(1);
  });

  it('compile for adapters that have them, at all parameters', async () => {
    const { device, caps } = await openNullDevice(
      ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix' as GPUFeatureName],
      true,
    );
    const names = new Set<string>();
    for (const config of [APPLE, F16, INTEL])
      for (const problem of problems(config.of === 'f16').slice(0, 2)) {
        for (const { kernel, params } of variantsOf(problem, {
          ...caps,
          subgroupSizes: [128, 128],
          matrices: [config],
        })) {
          if (!kernel.name.endsWith('.matrix')) continue;
          for (const { shader } of shadersOf(
            kernel,
            problem.call,
            { ...caps, subgroupSizes: [128, 128], matrices: [config] },
            params,
          )) {
            expect(shader.requires).toContain('chromium-experimental-subgroup-matrix');
            await pipelineOf(device, shader);
            names.add(`${config.of} ${config.m} ${JSON.stringify(params)}`);
          }
        }
      }
    expect(names.size).toBeGreaterThan(12);
  });

  it('are none where an adapter has no matrices, or subgroups of several sizes', () => {
    const { call } = problems(false)[0]!;
    const kernel = kernelOf('MatMul');
    const hardware = { ...gpu.caps, software: false };
    expect(kernel.accepts!(call, hardware)).toBe(false);
    expect(kernel.accepts!(call, { ...hardware, subgroupSizes: [8, 32], matrices: [APPLE] })).toBe(false);
    expect(kernel.accepts!(call, { ...hardware, subgroupSizes: [32, 32], matrices: [F16] })).toBe(false);
    expect(kernel.accepts!(call, { ...hardware, subgroupSizes: [32, 32], matrices: [APPLE] })).toBe(true);
  });
});
