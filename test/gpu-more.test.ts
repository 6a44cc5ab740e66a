import { beforeAll, describe, test } from 'vitest';
import { type Gpu, requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { check, describeCase } from './gpu-case.ts';
import { MORE } from './gpu-cases-more.ts';

let gpu: Gpu;
beforeAll(async () => { gpu = await requestGpuDevice({ allowSoftware: true }); });

for (const [name, cases] of Object.entries(MORE)) describe(name, () => {
  for (const dtype of new Set(cases.map((c) => c.inputs[0]!.dtype))) test(dtype, async () => {
    for (const c of cases) if (c.inputs[0]!.dtype === dtype) await check(gpu, c).catch((e: Error) => { throw new Error(`${describeCase(c)}\n${e.message}`); });
  });
});
