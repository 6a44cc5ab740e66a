/** The GPU and the kernels it runs. */
import { gpuKernels, isVariant } from '../../kernels/webgpu/index.ts';
import { packers } from '../../kernels/webgpu/pack.ts';
import { shipped } from '../3-plan/shipped-tuning.ts';
import { webgpuBackend } from '../4-run/webgpu/backend.ts';
import type { GpuCaps } from '../core/plan.ts';
import type { OpenDevice } from './index.ts';

export { gpuKernels };
/** @throws device_unavailable */
export async function openGpu(device?: GPUDevice, options?: { readonly allowSoftware?: boolean }): Promise<OpenDevice> {
  const backend = await webgpuBackend(device, options);
  const caps = backend.caps as GpuCaps;
  let variants = false;
  return {
    backend,
    kernels: async (sets) => ({ webgpu: await gpuKernels(sets, { variants, software: caps.software }) }),
    packers,
    tuningFor: async (tables) => {
      if (tables.length + shipped.length === 0) return undefined;
      const { tuningFor } = await import('../3-plan/tuning.ts');
      const tuning = tuningFor(caps, tables);
      variants = [...tables, ...shipped].some(({ entries }) => entries.some(({ kernel }) => isVariant(kernel)));
      return tuning;
    },
  };
}
