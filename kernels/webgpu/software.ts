/** Kernels that are known to win on software adapters. Loaded with those alone. */
import type { GpuKernel, KernelTable } from '../define.ts';
import { convWinograd } from './winograd.ts';

/**
 * Multiplications are what takes long there, and memory is a cache: fewer of them win as soon as there are some
 * channels to spread the transform over (bench/results/kernels-swiftshader.md).
 */
const winograd: GpuKernel = {
  ...convWinograd,
  accepts: (call, caps) =>
    caps.software &&
    Math.min(call.inputs[0]!.shape[1]!, call.outputs[0]!.shape[1]!) >= 16 &&
    convWinograd.accepts!(call, caps),
};

/** A table with these in front. */
export const withSoftware = (table: KernelTable<GpuKernel>): KernelTable<GpuKernel> => ({
  ...table,
  ...(table['Conv'] ? { Conv: [winograd, ...table['Conv']] } : {}),
});
