/** The CPU path and the kernels it runs. */
export { wasmBackend } from '../4-run/wasm/backend.ts';
export { wasmCaps } from '../4-run/wasm/features.ts';
export { wasmKernels } from '../../kernels/wasm/index.ts';
