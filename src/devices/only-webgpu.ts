/** In place of `index.ts` in `sardonyx/webgpu`: the GPU alone. */
import type { Kernels } from '../../kernels/define.ts';
import type { SetName } from '../../kernels/sets.ts';
import { fail } from '../core/errors.ts';
import type { Caps } from '../core/plan.ts';
import type { Device, OpenDevice } from './index.ts';
import { gpuKernels, openGpu } from './webgpu.ts';

export async function openDevice(device: Device): Promise<OpenDevice> {
  if (typeof device !== 'object' && device !== 'auto' && device !== 'webgpu')
    fail(
      'option_invalid',
      `sardonyx/webgpu runs on 'webgpu' or a GPUDevice, not ${JSON.stringify(device)}; import from 'sardonyx' for every device`,
    );
  return typeof device === 'object' ? openGpu(device) : openGpu(undefined, { allowSoftware: device === 'webgpu' });
}

export async function kernelsFor(kind: Caps['kind'], sets: readonly SetName[]): Promise<Kernels> {
  return kind === 'webgpu'
    ? { webgpu: await gpuKernels(sets) }
    : fail(
        'option_invalid',
        `sardonyx/webgpu plans for 'webgpu', not '${kind}'; import from 'sardonyx' for every device`,
      );
}

export const shards = async () => import('../3-plan/shards.ts');
