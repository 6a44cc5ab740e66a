import type { WasmCaps } from '../../core/plan.ts';

/** (module (func (result v128) f32x4.relaxed_madd of three zeros)): the smallest module that needs relaxed SIMD. */
const ZERO = [0xfd, 0x0c, ...new Array<number>(16).fill(0)];
const BODY = [0x00, ...ZERO, ...ZERO, ...ZERO, 0xfd, 0x85, 0x02, 0x0b];
const RELAXED = new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7b, 3, 2, 1, 0, 10, BODY.length + 2, 1, BODY.length, ...BODY]);

/** What this engine offers. SIMD128 is required; relaxed SIMD is used where the engine has it. */
export function wasmCaps(): WasmCaps {
  return { kind: 'wasm', fma: WebAssembly.validate(RELAXED), shared: false, threads: 1 };
}
