import type { Caps, Plan } from '../core/plan.ts';

/** Whether a machine has room for a plan; `why` says what is too large for it. */
export interface Fit {
  readonly fits: boolean;
  readonly why: readonly string[];
}

const GIB_4 = 2 ** 32;

/** Holds a plan against the limits of a machine and, if given, against the bytes of memory that it may take. */
export function fitOf(plan: Plan, caps: Caps, memory?: number): Fit {
  const weights = plan.weights.reduce((n, w) => n + w.bytes, 0);
  const why: string[] = [];
  const most = (what: string, bytes: number, limit: number, of: string): void => {
    if (bytes > limit) why.push(`${what} of ${bytes} bytes; ${of} is ${limit}`);
  };
  if (caps.kind === 'webgpu') {
    const { maxBufferSize, maxStorageBufferBindingSize } = caps.limits;
    most(
      'a weight',
      plan.weights.reduce((n, w) => Math.max(n, w.bytes), 0),
      Math.min(maxBufferSize, maxStorageBufferBindingSize),
      'the most that can be bound',
    );
    most('a slab of activations', Math.max(0, ...plan.slabs), maxBufferSize, 'the largest buffer');
  }
  if (caps.kind === 'wasm') most('weights and activations', weights + plan.peakBytes, GIB_4, 'the largest WASM memory');
  if (memory !== undefined) most('weights and activations', weights + plan.peakBytes, memory, 'the memory given');
  return { fits: why.length === 0, why };
}
