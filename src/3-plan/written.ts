/** Shaders and modules as text and bytes, each written once in a process. */
import type { Launch, WasmLaunch } from '../../kernels/define.ts';
import { assemble, type Specialization, type WgslModule } from '../../wgsl/assemble.ts';
import { library } from '../../wgsl/index.gen.ts';
import type { PlannedShader, WasmCaps } from '../core/plan.ts';

/** Assembled shaders of this process, by all that `assemble` is given. */
const SHADERS = new Map<WgslModule, Map<string, PlannedShader>>();
/** Kept of each module: far more than the models of a page need. */
const MOST_SHADERS = 500;
/** The shader of a launch. */
export function assembled({ module, types, params, slots, extra, extraUniforms }: Launch, nativeF16: boolean): PlannedShader {
  const spec: Specialization = {
    types, ...(params ? { params } : {}), ...(slots ? { slots } : {}), extra: (extra ?? []).map((e) => e.name), extraUniforms: (extraUniforms ?? []).map(({ name, type }) => ({ name, type })),
  };
  let known = SHADERS.get(module);
  if (known === undefined) SHADERS.set(module, (known = new Map()));
  const key = `${nativeF16} ${JSON.stringify(spec)}`;
  let shader = known.get(key);
  if (shader === undefined) {
    if (known.size >= MOST_SHADERS) known.clear();
    known.set(key, (shader = assemble(module, spec, library, nativeF16)));
  }
  return shader;
}

/** Emitted modules of this process: an emitter is pure, and its spec and the features are all that it sees. */
const MODULES = new Map<string, Uint8Array<ArrayBuffer>>();
/** The module of a launch; `key` is its emitter and spec as text. */
export function emitted(key: string, launch: WasmLaunch, caps: WasmCaps): Uint8Array<ArrayBuffer> {
  const full = `${caps.fma} ${caps.shared} ${key}`;
  let bytes = MODULES.get(full);
  if (bytes === undefined) MODULES.set(full, (bytes = launch.emit.build(launch.spec, caps)));
  return bytes;
}
