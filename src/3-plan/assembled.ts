/**
 * Shaders as text and their uniforms as words: what only a GPU's plan has. `sardonyx/wasm` is built with
 * `no-shaders.ts` in place of this file.
 */
import type { Launch } from '../../kernels/define.ts';
import { assemble, type Specialization, type WgslModule } from '../../wgsl/assemble.ts';
import { library } from '../../wgsl/index.gen.ts';
import { fail } from '../core/errors.ts';
import type { Binding, PlannedShader } from '../core/plan.ts';
import { packUniforms, packWords } from './uniforms.ts';

/** Assembled shaders of this process, by all that `assemble` is given. */
const SHADERS = new Map<WgslModule, Map<string, PlannedShader>>();
/** Kept of each module: far more than the models of a page need. */
const MOST_SHADERS = 500;
/** The shader of a launch. */
export function assembled(
  { module, types, params, slots, extra, extraUniforms }: Launch,
  nativeF16: boolean,
): PlannedShader {
  const spec: Specialization = {
    types,
    ...(params ? { params } : {}),
    ...(slots ? { slots } : {}),
    extra: (extra ?? []).map((e) => e.name),
    extraUniforms: (extraUniforms ?? []).map(({ name, type }) => ({ name, type })),
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

/** What a shader binds: a value of the plan, a weight or a fault word. */
export type Place = { value: number } | { weight: number } | { fault: number };

/** Bindings in the order of the shader's layout: module bindings, its uniforms, extra bindings, extra uniforms. */
export function arrange(
  layout: readonly string[],
  places: readonly Place[],
  launch: Launch,
): { bind: Binding[]; uniforms: number[][] } {
  const uniforms: number[][] = [];
  const blocks = [
    ...(launch.module.uniformBytes > 0 ? [packUniforms(launch.module, launch.uniforms ?? {})] : []),
    ...((launch.extraUniforms ?? []).length > 0 ? [packWords(launch.extraUniforms!)] : []),
  ];
  let next = 0;
  const bind = layout.map(
    (access): Binding =>
      access === 'uniform' ? { uniform: uniforms.push(blocks[uniforms.length]!) - 1 } : places[next++]!,
  );
  if (next !== places.length)
    fail('internal', `${launch.module.name} has ${next} bindings and is given ${places.length}`);
  return { bind, uniforms };
}
