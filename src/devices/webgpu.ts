/** The GPU and the kernels it runs. */
import { gpuKernels } from '../../kernels/webgpu/index.ts';
import { tuningFor } from '../3-plan/tuning.ts';
import { webgpuBackend } from '../4-run/webgpu/backend.ts';
import type { GpuCaps } from '../core/plan.ts';
import type { OpenDevice } from './index.ts';

export { gpuKernels };
/** @throws device_unavailable */
export async function openGpu(device?: GPUDevice, options?: { readonly allowSoftware?: boolean }): Promise<OpenDevice> {
  const backend = await webgpuBackend(device, options);
  return { backend, kernels: async (sets) => ({ webgpu: await gpuKernels(sets) }), tuningFor: (tables) => tuningFor(backend.caps as GpuCaps, tables) };
}
