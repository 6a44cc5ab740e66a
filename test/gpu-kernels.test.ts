import { beforeAll, describe, expect, test } from 'vitest';
import { type Gpu, requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import type { GpuCaps } from '../src/core/plan.ts';
import { gatherKernel } from '../kernels/webgpu/gather.ts';
import { check, counted, describeCase, list, validate } from './gpu-case.ts';
import { openNullDevice, callWith, runGpuKernel } from './gpu-harness.ts';
import { MOVES } from './gpu-cases-move.ts';
import { ROWS } from './gpu-cases-rows.ts';

const FAMILIES = { ...MOVES, ...ROWS };

let gpu: Gpu;
beforeAll(async () => {
  gpu = await requestGpuDevice({ allowSoftware: true });
});

for (const [name, cases] of Object.entries(FAMILIES))
  describe(name, () => {
    for (const dtype of new Set(cases.map((c) => c.inputs[0]!.dtype)))
      test(dtype, async () => {
        for (const c of cases)
          if (c.inputs[0]!.dtype === dtype)
            await check(gpu, c).catch((e: Error) => {
              throw new Error(`${describeCase(c)}\n${e.message}`);
            });
      });
  });

test('an index out of range is a fault', async () => {
  for (const at of [5, -6, 2 ** 31, -(2 ** 40)]) {
    const inputs = [counted('float32', [5, 3]), list(0, at)];
    const call = callWith(inputs, [{ dtype: 'float32', shape: [2, 3] }], { axis: 0 });
    await expect(runGpuKernel(gpu.device, gpu.caps, gatherKernel, call, inputs), String(at)).rejects.toThrow('fault');
  }
});

/** Dawn's null backend compiles for features that no software adapter has, and runs nothing. */
describe('shaders for other adapters', () => {
  let device: GPUDevice;
  let caps: GpuCaps;
  beforeAll(async () => {
    ({ device, caps } = await openNullDevice(['shader-f16', 'subgroups']));
  });
  test('have f16 and subgroups', () => expect([caps.f16, caps.subgroups]).toEqual([true, true]));
  for (const [name, cases] of Object.entries(FAMILIES))
    test(name, async () => {
      for (const c of cases) await validate(device, caps, c);
    });
});
