/** Every operator with all its kernels, for tools and tests. A page's build takes one backend's: src/devices. */
import type { GpuKernel, KernelTable, Op, WasmKernel } from './define.ts';
import { equip, families as common } from './operators.ts';
import type { SetName } from './sets.ts';
import * as indexed from './sets/indexed.ts';
import * as norms from './sets/norms.ts';
import * as quantized from './sets/quantized.ts';
import * as rare from './sets/rare.ts';
import * as recurrent from './sets/recurrent.ts';
import * as spatial from './sets/spatial.ts';
import * as transformers from './sets/transformers.ts';
import * as uncommon from './sets/uncommon.ts';
import * as wasm from './wasm/index.ts';
import * as wasmIndexed from './wasm/sets/indexed.ts';
import * as wasmNorms from './wasm/sets/norms.ts';
import * as wasmQuantized from './wasm/sets/quantized.ts';
import * as wasmRare from './wasm/sets/rare.ts';
import * as wasmRecurrent from './wasm/sets/recurrent.ts';
import * as wasmSpatial from './wasm/sets/spatial.ts';
import * as wasmTransformers from './wasm/sets/transformers.ts';
import * as wasmUncommon from './wasm/sets/uncommon.ts';
import * as gpu from './webgpu/index.ts';
import * as gpuIndexed from './webgpu/sets/indexed.ts';
import * as gpuNorms from './webgpu/sets/norms.ts';
import * as gpuQuantized from './webgpu/sets/quantized.ts';
import * as gpuRare from './webgpu/sets/rare.ts';
import * as gpuRecurrent from './webgpu/sets/recurrent.ts';
import * as gpuSpatial from './webgpu/sets/spatial.ts';
import * as gpuTransformers from './webgpu/sets/transformers.ts';
import * as gpuUncommon from './webgpu/sets/uncommon.ts';
import { withSoftware } from './webgpu/software.ts';
import { withVariants } from './webgpu/variants.ts';

/** What loads together: definitions, and the kernels of each device. */
export const sets: Readonly<
  Record<
    SetName,
    {
      readonly families: readonly (readonly Op[])[];
      readonly webgpu: KernelTable<GpuKernel>;
      readonly wasm: KernelTable<WasmKernel>;
    }
  >
> = {
  spatial: { ...spatial, webgpu: gpuSpatial.kernels, wasm: wasmSpatial.kernels },
  norms: { ...norms, webgpu: gpuNorms.kernels, wasm: wasmNorms.kernels },
  transformers: { ...transformers, webgpu: gpuTransformers.kernels, wasm: wasmTransformers.kernels },
  quantized: { ...quantized, webgpu: gpuQuantized.kernels, wasm: wasmQuantized.kernels },
  recurrent: { ...recurrent, webgpu: gpuRecurrent.kernels, wasm: wasmRecurrent.kernels },
  indexed: { ...indexed, webgpu: gpuIndexed.kernels, wasm: wasmIndexed.kernels },
  uncommon: { ...uncommon, webgpu: gpuUncommon.kernels, wasm: wasmUncommon.kernels },
  rare: { ...rare, webgpu: gpuRare.kernels, wasm: wasmRare.kernels },
};
const all = Object.values(sets);

export const families: readonly (readonly Op[])[] = [common, ...all.map((set) => set.families)].flat();
export const wasmKernels: KernelTable<WasmKernel> = Object.assign({}, wasm.common, ...all.map((set) => set.wasm));
export const ops: ReadonlyMap<string, Op> = equip(new Map(families.flat().map((o) => [o.op, o])), {
  webgpu: withSoftware(withVariants(Object.assign({}, gpu.common, ...all.map((set) => set.webgpu)))),
  wasm: wasmKernels,
});
