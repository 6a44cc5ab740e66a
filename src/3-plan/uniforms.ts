import { fail } from '../core/errors.ts';

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);
/** The 32 bits of a number as WGSL type `type` stores it. */
function word(type: string, value: number): number {
  if (/f32|vec\df/.test(type)) {
    f32[0] = value;
    return u32[0]!;
  }
  return value >>> 0;
}

interface UniformLayout { readonly name: string; readonly uniforms: readonly { readonly name: string; readonly type: string; readonly offset: number; readonly size: number }[]; readonly uniformBytes: number }

/** A uniform block as 32-bit words, laid out as the reflected struct says. Arrays are given flat, without padding. */
export function packUniforms(layout: UniformLayout, values: Readonly<Record<string, number | readonly number[]>>): number[] {
  const words = new Array<number>(layout.uniformBytes / 4).fill(0);
  for (const member of layout.uniforms) {
    const value = values[member.name];
    if (value === undefined) fail('internal', `${layout.name}: uniform ${member.name} is not given`);
    const at = member.offset / 4;
    if (typeof value === 'number') words[at] = word(member.type, value);
    else {
      if (value.length * 4 > member.size) fail('internal', `${layout.name}: uniform ${member.name} holds ${member.size / 4} words, not ${value.length}`);
      value.forEach((v, i) => { words[at + i] = word(member.type, v); });
    }
  }
  return words;
}
