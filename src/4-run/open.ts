import { fail } from '../core/errors.ts';
import type { Backend } from './executable.ts';
import { referenceBackend } from './reference.ts';
import { wasmBackend } from './wasm/backend.ts';
import { wasmCaps } from './wasm/features.ts';

/**
 * The backend asked for. 'auto' takes a hardware GPU, else WASM; a software adapter is used only when 'webgpu' is asked for by name.
 * @throws device_unavailable
 */
export async function openBackend(device: 'auto' | 'webgpu' | 'wasm' | 'reference' | GPUDevice): Promise<Backend> {
  if (device === 'reference') return referenceBackend();
  if (device === 'wasm') return wasmBackend(wasmCaps());
  const { webgpuBackend } = await import('./webgpu/backend.ts');
  if (typeof device === 'object') return webgpuBackend(device);
  if (device === 'webgpu') return webgpuBackend();
  if (device !== 'auto') fail('option_invalid', `device must be 'auto', 'webgpu', 'wasm', 'reference' or a GPUDevice, not ${JSON.stringify(device)}`);
  try {
    return await webgpuBackend(undefined, { allowSoftware: false });
  } catch {
    return wasmBackend(wasmCaps());
  }
}
