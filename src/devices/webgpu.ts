/** The GPU and the kernels it runs. */
export { webgpuBackend } from '../4-run/webgpu/backend.ts';
export { gpuKernels } from '../../kernels/webgpu/index.ts';
