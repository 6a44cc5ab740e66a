/** Modules as bytes, each written once in a process. */
import type { WasmLaunch } from '../../kernels/define.ts';
import type { WasmCaps } from '../core/plan.ts';

/** Emitted modules of this process: an emitter is pure, and its spec and the features are all that it sees. */
const MODULES = new Map<number, Map<string, Uint8Array<ArrayBuffer>>>();
/** The module of a launch; `key` is its emitter and spec as text. */
export function emitted(key: string, launch: WasmLaunch, caps: WasmCaps): Uint8Array<ArrayBuffer> {
  const features = (caps.fma ? 2 : 0) + (caps.shared ? 1 : 0);
  let known = MODULES.get(features);
  if (known === undefined) MODULES.set(features, (known = new Map()));
  let bytes = known.get(key);
  if (bytes === undefined) known.set(key, (bytes = launch.emit.build(launch.spec, caps)));
  return bytes;
}
