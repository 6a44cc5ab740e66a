import { beforeAll, describe, expect, test } from 'vitest';
import { type Gpu, requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import type { GpuCaps } from '../src/core/plan.ts';
import { openNullDevice } from './gpu-harness.ts';
import { check, chosen, describeCase, validate } from './gpu-case.ts';
import { ATTENTION } from './gpu-cases-attention.ts';

let gpu: Gpu;
beforeAll(async () => {
  gpu = await requestGpuDevice({ allowSoftware: true });
});

for (const [name, cases] of Object.entries(ATTENTION))
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

test('tiles and splits are taken where they pay', async () => {
  const [causal, decode] = ATTENTION['attention in tiles']!;
  expect(await chosen(causal!, { ...gpu.caps, software: false })).toBe('attention.flash');
  expect(await chosen(decode!, { ...gpu.caps, software: false })).toBe('attention.split');
  expect(await chosen(decode!, { ...gpu.caps, software: true })).toBe('attention.lane');
  expect(await chosen(ATTENTION.attention![0]!, { ...gpu.caps, software: false })).toBe('attention.row');
});

/** Dawn's null backend compiles for features that no software adapter has, and runs nothing. */
describe('shaders for other adapters', () => {
  let device: GPUDevice;
  let caps: GpuCaps;
  beforeAll(async () => {
    ({ device, caps } = await openNullDevice(['shader-f16']));
  });
  for (const [name, cases] of Object.entries(ATTENTION))
    test(name, async () => {
      for (const c of cases) await validate(device, caps, c);
    });
});
