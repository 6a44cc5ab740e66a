/** Operators that only move elements, on both devices from one description. */
import type { Call } from './define.ts';
import type { Given } from './given.ts';
import * as wasm from './wasm/move.ts';
import * as gpu from './webgpu/move.ts';

export type { StridedView } from './webgpu/move.ts';

/** Kernels of an operator whose outputs are strided views of input 0. */
export const stridedKernels = (name: string, views: (given: Given) => readonly gpu.StridedView[], needs: readonly number[] = []) =>
  ({ webgpu: gpu.stridedKernels(name, views, needs), wasm: wasm.stridedKernels(name, views, needs) });
/** Kernels of Concat. */
export const concatKernels = (axisOf: (call: Call) => number) => ({ webgpu: [gpu.concatKernel(axisOf)], wasm: [wasm.concatKernel(axisOf)] });
/** Kernels of an operator that pads input 0. */
export const padKernels = (name: string, geometry: (given: Given) => gpu.PadGeometry, needs: readonly number[], fill?: number) =>
  ({ webgpu: [gpu.padKernel(name, geometry, needs, fill)], wasm: [wasm.padKernel(name, geometry, needs, fill)] });
