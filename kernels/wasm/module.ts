import type { WasmCaps } from '../../src/core/plan.ts';
import { type Fn, Mod, type VT } from './asm.ts';

/**
 * The bytes of a kernel's module: imports `env.memory` (shared if `caps.shared`), exports `run` with these parameters.
 * `checked`: `run` gives an i32 status, 0 when all is well, 1 when an index of the data lies out of range; `build` must leave it.
 */
export function kernelModule(
  name: string,
  params: VT[],
  caps: WasmCaps,
  build: (f: Fn, m: Mod) => void,
  checked = false,
): Uint8Array<ArrayBuffer> {
  const m = new Mod({ memory: { import: true, pages: 1, ...(caps.shared ? { max: 65536, shared: true } : {}) } });
  const run = m.fn(name, params, checked ? ['i32'] : [], false, (f) => build(f, m));
  m.exports.push(['run', run.idx]);
  return m.bytes();
}
