/** What heavy kernels do with a value before they store it, and how they store four neighbours. */
import { type Fact, sameNumbers } from '../../src/core/graph.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import { type Elem, VALUE_TYPE } from '../../wgsl/assemble.ts';
import type { Call, Launch } from '../define.ts';
import { constant, type Ex, input, kindOf, substitute, x } from '../expr.ts';
import { elemOf, isPacked } from './elem.ts';
import { remembered } from '../remembered.ts';
import { epilogueFits, epilogueOf, plain } from './epilogue.ts';
import type { Member } from './operands.ts';

/**
 * An input, `times` a number, that is added to what a kernel computed before the call's epilogue. `shape` broadcasts to
 * the output's.
 */
export interface Addend {
  readonly input: number;
  readonly shape: readonly number[];
  readonly times: number;
}

/** Parts of a launch. */
export interface Parts {
  readonly types: Readonly<Record<string, Elem>>;
  readonly text: string;
  readonly extra: NonNullable<Launch['extra']>;
  readonly extraUniforms: readonly Member[];
}

/** `fn epilogue(v, i)`: alpha v + the addends, then the call's own epilogue. */
export function finishOf(
  call: Call,
  addends: readonly Addend[] = [],
  alpha = 1,
  kind: 'f32' | 'i32' | 'u32' = 'f32',
): Parts {
  const parts = epilogueOf(joined(call, addends, alpha, kind), kind);
  const own = call.epilogue?.operands.length ?? 0;
  const extra = parts.extra.map((e) => {
    const addend = addends[(e.bind as { operand: number }).operand - own];
    return addend ? { name: e.name, bind: { input: addend.input } } : e;
  });
  return { types: parts.types, text: parts.slots.epilogue, extra, extraUniforms: parts.extraUniforms };
}

/** Can `finishOf` write it, in a shader with `own` storage bindings itself? */
export const finishFits = (
  call: Call,
  caps: GpuCaps,
  own: number,
  addends: readonly Addend[] = [],
  kind: 'f32' | 'i32' | 'u32' = 'f32',
): boolean =>
  addends.every((a) => kindOf(call.inputs[a.input]!.dtype) !== undefined) &&
  epilogueFits(joined(call, addends, 1, kind), caps, own);

/** The call with what joins its epilogue, for all kernels that ask about it one after another. */
let last:
  | {
      readonly call: Call;
      readonly addends: readonly Addend[];
      readonly alpha: number;
      readonly kind: string;
      readonly result: Call;
    }
  | undefined;
function joined(call: Call, addends: readonly Addend[], alpha: number, kind: 'f32' | 'i32' | 'u32'): Call {
  if (addends.length === 0 && alpha === 1) return call;
  if (last?.call !== call || last.alpha !== alpha || last.kind !== kind || !sameAddends(last.addends, addends))
    last = { call, addends, alpha, kind, result: joinedAnew(call, addends, alpha, kind) };
  return last.result;
}
const sameAddends = (a: readonly Addend[], b: readonly Addend[]): boolean =>
  a.length === b.length &&
  a.every((x, i) => x.input === b[i]!.input && x.times === b[i]!.times && sameNumbers(x.shape, b[i]!.shape));
function joinedAnew(call: Call, addends: readonly Addend[], alpha: number, kind: 'f32' | 'i32' | 'u32'): Call {
  const own = call.epilogue ?? { expr: plain(kind, call.outputs[0]!), operands: [] };
  const facts = addends.map((a): Fact => ({ ...call.inputs[a.input]!, shape: a.shape }));
  let texts = JOINED.get(own.expr);
  if (texts === undefined) JOINED.set(own.expr, (texts = new Map()));
  const key = `${alpha} ${kind} ${own.operands.length} ${addends.map((a) => `${call.inputs[a.input]!.dtype} ${a.times}`)}`;
  let expr = texts.get(key);
  if (expr === undefined) {
    const product = input(0, kind);
    let v = alpha === 1 ? product : x.mul(product, constant(alpha, kind));
    addends.forEach((a, n) => {
      const operand = x.cast(input(1 + own.operands.length + n, kindOf(call.inputs[a.input]!.dtype)!), kind);
      v = x.add(v, a.times === 1 ? operand : x.mul(operand, constant(a.times, kind)));
    });
    texts.set(key, (expr = substitute(own.expr, [v])));
  }
  return { ...call, epilogue: { expr, operands: [...own.operands, ...facts] } };
}
/** Of an epilogue, what it is behind addends: equal ones are one expression. */
const JOINED = new WeakMap<Ex, Map<string, Ex>>();

/** Can four neighbours be stored one by one, or only from an index that four divides? */
export const storesOne = (call: Call, caps: GpuCaps): boolean => !isPacked(elemOf(call.outputs[0]!.dtype)!, caps);

/**
 * `fn put(i: u32, v: vec4<kind>, left: u32)`: finishes and stores elements i .. i+3 of output 0 in binding `y`. `whole`: four divides i, and
 * what lies behind `left` may be overwritten; else only the first `left` are stored, which needs `storesOne`.
 */
export function putOf(
  call: Call,
  caps: GpuCaps,
  whole: boolean,
  finish: Parts,
  kind: 'f32' | 'i32' | 'u32' = 'f32',
): Parts {
  const elem = elemOf(call.outputs[0]!.dtype)!;
  const half = elem === 'f16' && caps.f16;
  const quads = whole && (half || elem === 'f32' || elem === 'i32' || elem === 'u32');
  // Under a name that no binding has, a type only says which features the shader needs.
  const types: Parts['types'] = quads
    ? half
      ? { ...finish.types, half: 'f16' }
      : finish.types
    : { ...finish.types, y: elem };
  return { ...finish, types, text: putText(finish.text, kind, quads ? elem : '', whole) };
}
const putText = remembered((finish: string, kind: string, quads: Elem | '', whole: boolean): string => {
  const head = `fn put(i: u32, v: vec4<${kind}>, left: u32) {`;
  const four = ['v.x, i', 'v.y, i + 1u', 'v.z, i + 2u', 'v.w, i + 3u'].map((a) => `epilogue(${a})`);
  if (quads !== '')
    return `alias YStore = vec4<${quads}>;\n${finish}\n${head} y[i >> 2u] = vec4<${quads}>(${quads === 'f16' ? `vec4f(${four.join(', ')})` : four.join(', ')}); }`;
  const text = whole
    ? `store4_y(i >> 2u, ${four.join(', ')});`
    : `store_y(i, ${four[0]}); if (left > 1u) { store_y(i + 1u, ${four[1]}); } if (left > 2u) { store_y(i + 2u, ${four[2]}); } if (left > 3u) { store_y(i + 3u, ${four[3]}); }`;
  return `${finish}\n${head} ${text} }`;
});

/** The type that a binding's elements have in arithmetic, as an alias. */
export const valueAlias = (e: Elem): string => `alias Value = ${VALUE_TYPE[e]};`;
