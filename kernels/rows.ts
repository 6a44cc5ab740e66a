/** Row operators on both devices from one description. */
import type { Call } from './define.ts';
import { normKernels as wasmNorms, softmaxKernels as wasmSoftmax } from './wasm/rows.ts';
import { type NormForm, normKernels as gpuNorms, softmaxKernels as gpuSoftmax } from './webgpu/rows.ts';

/** Kernels of an operator that normalises rows. */
export const normKernels = (name: string, formOf: (call: Call) => NormForm) => ({ webgpu: gpuNorms(name, formOf), wasm: wasmNorms(name, formOf) });
/** Kernels of softmax, or of its logarithm. */
export const softmaxKernels = (log: boolean, rowsOf: (call: Call) => { readonly outer: number; readonly n: number; readonly inner: number }) => ({ webgpu: gpuSoftmax(log, rowsOf), wasm: wasmSoftmax(log, rowsOf) });
