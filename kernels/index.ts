/** Every operator with all its kernels, for tools and tests. A page's build takes one backend's: src/devices. */
import type { Op } from './define.ts';
import { equip } from './operators.ts';
import { wasmKernels } from './wasm/index.ts';
import { gpuKernels } from './webgpu/index.ts';

export const ops: ReadonlyMap<string, Op> = equip(gpuKernels, wasmKernels);
