import { beforeAll, describe, test } from 'vitest';
import { type Gpu, requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import type { GpuCaps } from '../src/core/plan.ts';
import { openNullDevice } from './gpu-harness.ts';
import { check, describeCase, validate } from './gpu-case.ts';
import { MORE } from './gpu-cases-more.ts';

let gpu: Gpu;
beforeAll(async () => {
  gpu = await requestGpuDevice({ allowSoftware: true });
});

for (const [name, cases] of Object.entries(MORE))
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

/** Dawn's null backend compiles for features that no software adapter has, and runs nothing. */
describe('shaders for other adapters', () => {
  let device: GPUDevice;
  let caps: GpuCaps;
  beforeAll(async () => {
    ({ device, caps } = await openNullDevice(['shader-f16']));
  });
  for (const [name, cases] of Object.entries(MORE))
    test(name, async () => {
      for (const c of cases) await validate(device, caps, c);
    });
});
