/** The GPU and the kernels it runs. */
import { equip } from '../../kernels/operators.ts';
import { gpuKernels } from '../../kernels/webgpu/index.ts';

export { webgpuBackend } from '../4-run/webgpu/backend.ts';
export const gpuOps = equip(gpuKernels, {});
