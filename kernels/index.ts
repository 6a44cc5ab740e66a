/** Every operator with all its kernels, for tools and tests. A page's build takes one backend's: src/devices. */
import type { Op } from './define.ts';
import { equip, families as common } from './operators.ts';
import { rareFamilies } from './rare.ts';
import { wasmKernels } from './wasm/index.ts';
import { gpuKernels } from './webgpu/index.ts';

export const families: readonly (readonly Op[])[] = [...common, ...rareFamilies];
export const ops: ReadonlyMap<string, Op> = equip(new Map(families.flat().map((o) => [o.op, o])), { webgpu: gpuKernels, wasm: wasmKernels });
