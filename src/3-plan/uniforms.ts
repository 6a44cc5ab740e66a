import { fail } from '../core/errors.ts';

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);
/** Of each WGSL type met so far, whether its words are floats. */
const FLOATS = new Map<string, boolean>();
function isFloat(type: string): boolean {
  let is = FLOATS.get(type);
  if (is === undefined) FLOATS.set(type, (is = /f32|vec\df/.test(type)));
  return is;
}
/** The 32 bits of a number as WGSL stores it. */
function word(float: boolean, value: number): number {
  if (!float) return value >>> 0;
  f32[0] = value;
  return u32[0]!;
}

interface UniformLayout {
  readonly name: string;
  readonly uniforms: readonly {
    readonly name: string;
    readonly type: string;
    readonly offset: number;
    readonly size: number;
  }[];
  readonly uniformBytes: number;
}

/** A uniform block as 32-bit words, laid out as the reflected struct says. Arrays are given flat, without padding. */
export function packUniforms(
  layout: UniformLayout,
  values: Readonly<Record<string, number | readonly number[]>>,
): number[] {
  const words = new Array<number>(layout.uniformBytes / 4).fill(0);
  for (const member of layout.uniforms) {
    const value = values[member.name];
    if (value === undefined) fail('internal', `${layout.name}: uniform ${member.name} is not given`);
    const at = member.offset / 4;
    const float = isFloat(member.type);
    if (typeof value === 'number') words[at] = word(float, value);
    else {
      if (value.length * 4 > member.size)
        fail('internal', `${layout.name}: uniform ${member.name} holds ${member.size / 4} words, not ${value.length}`);
      for (let i = 0; i < value.length; i++) words[at + i] = word(float, value[i]!);
    }
  }
  return words;
}

/** Uniforms of one word each, in this order: a block of whole sixteen bytes. */
export function packWords(members: readonly { readonly type: string; readonly value: number }[]): number[] {
  const words = new Array<number>(Math.ceil(members.length / 4) * 4).fill(0);
  for (let i = 0; i < members.length; i++) words[i] = word(isFloat(members[i]!.type), members[i]!.value);
  return words;
}
