/** `sardonyx/plan`: plans without a device, to read, or to write into a file that `sardonyx/run` runs. */
import { packed } from '../kernels/packers.ts';
import { BASE_GPU, BASE_WASM } from './core/plan.ts';
import { writeCompiled } from './plan-file.ts';
import { planModel, type PlanOptions } from './preview.ts';
import type { ModelSource } from './0-read/open.ts';

export { summarize } from './3-plan/print.ts';
export type { Summary } from './3-plan/print.ts';
export { SardonyxError } from './core/errors.ts';
export type { ErrorCode } from './core/errors.ts';
export type { Caps, Plan, Step } from './core/plan.ts';
export { printPlan } from './3-plan/print.ts';
export { planModel } from './preview.ts';
export type { PlanOptions, Preview } from './preview.ts';
export type { ModelSource } from './0-read/open.ts';

/**
 * A model at fixed dims as one file for one kind of device: its plan, its shaders or WASM modules, and its weights as
 * kernels want them.
 * `sardonyx/run` runs it without parser, optimizer and operators. Made for what every such device offers unless `caps` says more.
 * @param options.device 'webgpu' (default) or 'wasm'
 * @throws what `planModel` throws; not_on_device, with the nodes, if one would run on the host
 */
export async function compile(
  model: ModelSource,
  options: PlanOptions & { readonly device?: 'webgpu' | 'wasm' } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const caps = options.caps ?? (options.device === 'wasm' ? BASE_WASM : BASE_GPU);
  const { plan, constants } = await planModel(model, { ...options, caps, graphOnly: false });
  return writeCompiled({ plan, constants, caps }, packed);
}
