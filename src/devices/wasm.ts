/** The CPU path and the kernels it runs. */
import { equip } from '../../kernels/operators.ts';
import { wasmKernels } from '../../kernels/wasm/index.ts';

export { wasmBackend } from '../4-run/wasm/backend.ts';
export { wasmCaps } from '../4-run/wasm/features.ts';
export const wasmOps = equip({}, wasmKernels);
