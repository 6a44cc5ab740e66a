/** In place of `index.ts` in `sardonyx/webgpu`: the GPU alone. */
import type { Kernels } from '../../kernels/define.ts';
import { fail } from '../core/errors.ts';
import type { Caps } from '../core/plan.ts';
import type { Device, OpenDevice } from './index.ts';
import { gpuKernels, openGpu } from './webgpu.ts';

export async function openDevice(device: Device): Promise<OpenDevice> {
  if (typeof device !== 'object' && device !== 'auto' && device !== 'webgpu') fail('option_invalid', `sardonyx/webgpu runs on 'webgpu' or a GPUDevice, not ${JSON.stringify(device)}; import from 'sardonyx' for every device`);
  return typeof device === 'object' ? openGpu(device) : openGpu(undefined, { allowSoftware: device === 'webgpu' });
}

export function kernelsFor(kind: Caps['kind']): Promise<Kernels> {
  return kind === 'webgpu' ? Promise.resolve({ webgpu: gpuKernels }) : fail('option_invalid', `sardonyx/webgpu plans for 'webgpu', not '${kind}'; import from 'sardonyx' for every device`);
}
