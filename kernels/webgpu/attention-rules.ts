/** Texts that say which keys a query sees and what is added to a score, and the bindings that they read. */
import type { Fact } from '../../src/core/graph.ts';
import { type Elem, VALUE_TYPE } from '../../wgsl/assemble.ts';
import type { Ref } from '../define.ts';
import { broadcastStrides } from '../shapes.ts';
import type { Riders } from './attention.ts';
import { elemOf } from './elem.ts';
import type { Member } from './operands.ts';

export const member = (name: string, value: number, type: Member['type'] = 'u32'): Member => ({ name, type, value });
export const rider = (name: string, elem: Elem, bind: Ref, ...extraUniforms: Member[]): Riders => ({
  types: { [name]: elem },
  extra: [{ name, bind }],
  extraUniforms,
});
/** A loaded number as f32, and whether a loaded flag is set. */
export const asF32 = (elem: Elem, load: string): string =>
  elem === 'i64'
    ? `f32_of_i64(${load})`
    : elem === 'u64'
      ? `f32_of_u64(${load})`
      : VALUE_TYPE[elem] === 'f32'
        ? load
        : `f32(${load})`;
export const asI32 = (elem: Elem, load: string): string => (elem === 'i64' ? `saturated_i32(${load})` : load);

/**
 * Rows of scores with a bias or mask tensor that broadcasts to [batch, heads, queries, keys]; a shorter one masks the
 * keys that it lacks.
 */
export function biasOf(name: string, fact: Fact, ref: Ref, to: readonly number[]): { text: string; riders: Riders } {
  const last = fact.shape.at(-1)!;
  const columns = last === 1 && to[3] !== 1 ? to[3]! : last;
  const strides = broadcastStrides(fact.shape, [to[0]!, to[1]!, to[2]!, Math.max(columns, last)]);
  const elem = elemOf(fact.dtype)!;
  const load = `load_${name}(b * extra.${name}_b + h * extra.${name}_h + i * extra.${name}_i + j * extra.${name}_j)`;
  const short = columns < to[3]! ? `if (j >= extra.${name}_columns) { return LOWEST_F32; }` : '';
  const add =
    elem === 'bool'
      ? `if (!${load}) { return LOWEST_F32; }`
      : `let m_${name} = ${asF32(elem, load)};\n  if (is_inf(m_${name}) && m_${name} < 0.0) { return LOWEST_F32; }\n  v = max(v + m_${name}, -3.0e38);`;
  return {
    text: `${short}\n  ${add}`,
    riders: rider(
      name,
      elem,
      ref,
      ...['b', 'h', 'i', 'j'].map((d, n) => member(`${name}_${d}`, strides[n]!)),
      ...(short ? [member(`${name}_columns`, columns)] : []),
    ),
  };
}
export const rulesText = (first: string, end: string, bias: string): string =>
  [
    `fn first_key(b: u32, i: u32) -> i32 { return ${first}; }`,
    `fn end_key(b: u32, i: u32) -> i32 { return ${end}; }`,
    `fn bias(s: f32, b: u32, h: u32, i: u32, j: u32) -> f32 {\n  var v = s;\n  ${bias}\n  return v;\n}`,
  ].join('\n');
