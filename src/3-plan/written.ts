/** Modules as bytes, each written once in a process. */
import type { WasmLaunch } from '../../kernels/define.ts';
import type { WasmCaps } from '../core/plan.ts';

/** Modules kept, of each set of features; the least recently used goes first. Sizes of images are in some. */
const MOST = 2048;
/** Emitted modules of this process: an emitter is pure, and its spec and the features are all that it sees. */
const MODULES = new Map<number, Map<string, Uint8Array<ArrayBuffer>>>();
/** The module of a launch; `key` is its emitter and spec as text. */
export function emitted(key: string, launch: WasmLaunch, caps: WasmCaps): Uint8Array<ArrayBuffer> {
  const features = (caps.fma ? 2 : 0) + (caps.shared ? 1 : 0);
  let known = MODULES.get(features);
  if (known === undefined) MODULES.set(features, (known = new Map()));
  const bytes = known.get(key) ?? launch.emit.build(launch.spec, caps);
  known.delete(key);
  known.set(key, bytes);
  if (known.size > MOST) known.delete(known.keys().next().value!);
  return bytes;
}
