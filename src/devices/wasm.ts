/** The CPU path and the kernels it runs. */
import type { Backend } from '../4-run/executable.ts';
import { wasmBackend } from '../4-run/wasm/backend.ts';
import { type EngineOptions, openEngine } from '../4-run/wasm/engine.ts';

export { wasmKernels } from '../../kernels/wasm/index.ts';
export type { EngineOptions };
/** @throws option_invalid */
export const openWasmBackend = async (options: EngineOptions): Promise<Backend> => wasmBackend(await openEngine(options));
