/** Which kernel runs a call: what measurement found, else the first that takes it. */
import type { Call, GpuKernel, Launch, Op, WasmKernel, WasmLaunch } from '../../kernels/define.ts';
import type { GpuCaps, WasmCaps } from '../core/plan.ts';

/**
 * The kernel and parameters that measurement found best for a call on a GPU; null where there is none, and the kernels'
 * order and defaults decide. A kernel that cannot run the call is passed over, so is a parameter that the kernel does
 * not offer.
 */
export type Tuning = (op: string, call: Call, caps: GpuCaps) => KernelChoice | null;
export interface KernelChoice {
  readonly kernel: string;
  readonly params?: Readonly<Record<string, number>>;
}

/** A kernel with what it does for one call. */
export interface Chosen<K, L> {
  readonly kernel: K;
  readonly scratch: readonly number[];
  readonly launches: readonly L[];
}

/**
 * Kernels that can run a call on this device, be it one that they were not made for: their preferences look at the
 * vendor, and at whether it is software.
 */
export const ableKernels = (kernels: readonly GpuKernel[], call: Call, caps: GpuCaps): readonly GpuKernel[] => {
  const takes = (k: GpuKernel, c: GpuCaps): boolean => k.accepts?.(call, c) ?? true;
  return kernels.filter((k) => takes(k, caps) || takes(k, { ...caps, vendor: '', software: false }));
};

/** Undefined where no kernel takes the call. */
export function chosenForGpu(
  { webgpu: kernels = [] }: Op,
  call: Call,
  caps: GpuCaps,
  choice: KernelChoice | null,
): Chosen<GpuKernel, Launch> | undefined {
  const named =
    choice &&
    ableKernels(
      kernels.filter((k) => k.name === choice.kernel),
      call,
      caps,
    )[0];
  const kernel = named ?? kernels.find((k) => k.accepts?.(call, caps) ?? true);
  if (kernel === undefined) return undefined;
  const tuned = kernel.name === choice?.kernel ? offered(kernel, choice, caps) : {};
  return {
    kernel,
    scratch: kernel.scratch?.(call, caps, tuned) ?? [],
    launches: ([] as Launch[]).concat(kernel.launch(call, caps, tuned)),
  };
}
/** Undefined where no kernel takes the call. */
export function chosenForWasm(
  { wasm: kernels = [] }: Op,
  call: Call,
  caps: WasmCaps,
): Chosen<WasmKernel, WasmLaunch> | undefined {
  const kernel = kernels.find((k) => k.accepts?.(call, caps) ?? true);
  return (
    kernel && {
      kernel,
      scratch: kernel.scratch?.(call, caps) ?? [],
      launches: ([] as WasmLaunch[]).concat(kernel.launch(call, caps)),
    }
  );
}

/** The parameters that the kernel offers and the device has room for. */
const offered = (kernel: GpuKernel, { params = {} }: KernelChoice, caps: GpuCaps): Readonly<Record<string, number>> =>
  Object.fromEntries(
    Object.entries(params).filter(
      ([name, value]) =>
        kernel.tunables?.[name]?.includes(value) &&
        (name !== 'WG' || value <= caps.limits.maxComputeInvocationsPerWorkgroup),
    ),
  );
