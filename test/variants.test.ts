/**
 * Every tuned variant against the reference, on shapes of primes, ones and tails, under WebGPU's default limits,
 * without f16 and subgroups; those that want subgroups on a device of the same adapter that has them. A sample by seed;
 * all of them with VARIANTS=all, other samples with VARIANTS=<seed>.
 */
import { describe, expect, test } from 'vitest';
import { seeded } from '../src/cli/inputs.ts';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { keyOf, type Problem } from '../src/tune/problem.ts';
import { awkwardProblems } from '../src/tune/problems.ts';
import { checkVariant, type Variant, variantsOf } from '../src/tune/search.ts';
import { ops } from '../kernels/index.ts';
import type { GpuCaps } from '../src/core/plan.ts';

const asked = process.env['VARIANTS'];
/** Variants of each kernel and operator in a sample. */
const EACH = 2;

interface Trial extends Variant {
  readonly problem: Problem;
  readonly caps: GpuCaps;
  readonly device: GPUDevice;
}
/** Kernels of the features that a device with nothing but the defaults has not. */
const FEATURED = /\.(lanes|matrix)$/;

describe('variants', async () => {
  const base = await requestGpuDevice({ allowSoftware: true, base: true });
  const featured = await requestGpuDevice({ allowSoftware: true });
  test('the device has the default limits and no feature', () => {
    expect([base.caps.f16, base.caps.subgroups, base.caps.limits.maxComputeInvocationsPerWorkgroup]).toEqual([
      false,
      false,
      256,
    ]);
  });
  const byKernel = new Map<string, Trial[]>();
  for (const { device, caps } of [base, featured])
    for (const problem of awkwardProblems())
      for (const software of [caps.software, !caps.software]) {
        const own = { ...caps, software };
        for (const v of variantsOf(problem, own, asked === 'all' ? 18_000 : 9000)) {
          if (device !== base.device && !FEATURED.test(v.kernel.name)) continue;
          const name = `${problem.op} by ${v.kernel.name}`;
          byKernel.set(name, [...(byKernel.get(name) ?? []), { ...v, problem, caps: own, device }]);
        }
      }
  const random = seeded(Number(asked) || 20261122);
  for (const [name, trials] of byKernel) {
    const shuffled = trials
      .map((t) => ({ t, at: random() }))
      .sort((a, b) => a.at - b.at)
      .map(({ t }) => t);
    const chosen = asked === 'all' ? shuffled : shuffled.slice(0, EACH);
    test(
      `${name}: ${chosen.length} of ${trials.length}`,
      async () => {
        for (const { problem, caps: c, device, ...v } of chosen)
          expect(await checkVariant(device, c, problem, v), `${keyOf(problem)} ${JSON.stringify(v.params)}`).toBeNull();
      },
      asked === 'all' ? 3_600_000 : 120_000,
    );
  }
  test('every kernel with parameters is tried', () => {
    const tried = new Set([...byKernel.keys()].map((n) => n.split(' by ')[1]));
    const missing = [...ops.values()].flatMap((op) =>
      (op.webgpu ?? [])
        .filter(
          (k) =>
            k.tunables &&
            !tried.has(k.name) &&
            (featured.caps.subgroups || !FEATURED.test(k.name)) &&
            (featured.caps.matrices || !/\.matrix$/.test(k.name)),
        )
        .map((k) => `${op.op} by ${k.name}`),
    );
    expect(missing).toEqual([]);
  });
});
