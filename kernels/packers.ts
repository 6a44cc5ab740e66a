import type { Pack } from '../src/core/plan.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { packed as packedBy, type Packers } from './pack.ts';
import { packers as ofGpu } from './webgpu/pack.ts';
import { packers as ofWasm } from './wasm/pack.ts';

const all: Packers = new Map([...ofGpu, ...ofWasm]);

/** What a plan's `pack` makes of a constant, whatever device the plan is for. */
export const packed = (t: Tensor, pack: Pack, into?: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> =>
  packedBy(all, t, pack, into);
