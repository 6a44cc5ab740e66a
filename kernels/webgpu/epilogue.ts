/**
 * Elementwise work fused to a kernel's store: what a kernel whose operator says `epilogue: true` puts into its launch.
 */
import type { Fact } from '../../src/core/graph.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import { type Elem, VALUE_TYPE } from '../../wgsl/assemble.ts';
import type { Call, Launch } from '../define.ts';
import { hasWgsl, WGSL_TYPE, wgslBody } from '../expr-to-wgsl.ts';
import { type Ex, input, type Kind, kindOf, x } from '../expr.ts';
import { remembered } from '../remembered.ts';
import { elemOf } from './elem.ts';
import { accessOf, isNumber, type Member, numberOf } from './operands.ts';

/** Parts of a launch; spread `types` into its types, `slots` into its slots. */
export interface EpilogueParts {
  readonly slots: { readonly epilogue: string };
  readonly types: Readonly<Record<string, Elem>>;
  readonly extra: NonNullable<Launch['extra']>;
  readonly extraUniforms: readonly Member[];
}

/** What is stored where there is no epilogue: the value, cast. */
const PLAIN = remembered((kind: 'f32' | 'i32' | 'u32', to: Kind) => x.cast(input(0, kind), to));
export const plain = (kind: 'f32' | 'i32' | 'u32', out: Fact): Ex => PLAIN(kind, kindOf(out.dtype)!);

/** Bodies of epilogues, whose input 0 is `v` and input n is `a{n-1}`; "" where WGSL has no words for it. */
const BODIES = new WeakMap<Ex, string>();
function bodyOf(expr: Ex): string {
  let body = BODIES.get(expr);
  if (body === undefined)
    BODIES.set(expr, (body = hasWgsl(expr) ? wgslBody(expr, (i) => (i === 0 ? 'v' : `a${i - 1}`)) : ''));
  return body;
}

/**
 * Fills a module's slot `epilogue(v: f32, i: u32) -> Y`: v is the value that the kernel computed in kind `kind`, i the
 * linear index of its element in output 0, and the result is what is stored there. Without an epilogue v is cast to the
 * output's type as it is. Operands become read-only bindings e0, e1, …; their strides become uniforms, and so do
 * numbers.
 */
export function epilogueOf(call: Call, kind: 'f32' | 'i32' | 'u32' = 'f32'): EpilogueParts {
  const out = call.outputs[0]!;
  const { expr, operands } = call.epilogue ?? { expr: plain(kind, out), operands: [] };
  const reads: string[] = [];
  const fns: string[] = [];
  const types: Record<string, Elem> = {};
  const extra: NonNullable<Launch['extra']>[number][] = [];
  const extraUniforms: Member[] = [];
  for (let n = 0; n < operands.length; n++) {
    const name = `e${n}`;
    if (isNumber(operands[n]!)) {
      reads.push(`  let a${n} = extra.${name};`);
      extraUniforms.push(numberOf(name, operands[n]!));
      continue;
    }
    const { at, fn, uniforms } = accessOf(name, operands[n]!, out.shape);
    reads.push(`  let a${n} = load_${name}(${at('i')});`);
    if (fn !== '') fns.push(fn);
    types[name] = elemOf(operands[n]!.dtype)!;
    extra.push({ name, bind: { operand: n } });
    extraUniforms.push(...uniforms);
  }
  return {
    slots: {
      epilogue: textOf(
        expr,
        `fn epilogue(v: ${WGSL_TYPE[kind]}, i: u32) -> ${VALUE_TYPE[elemOf(out.dtype)!]} {`,
        reads.join('\n'),
        fns.join('\n'),
      ),
    },
    types,
    extra,
    extraUniforms,
  };
}

/** Texts of epilogues, so that equal ones are one string: planners compare them. */
const TEXTS = new WeakMap<Ex, (head: string, reads: string, fns: string) => string>();
function textOf(expr: Ex, head: string, reads: string, fns: string): string {
  let text = TEXTS.get(expr);
  if (text === undefined)
    TEXTS.set(
      expr,
      (text = remembered(
        (head, reads, fns) =>
          `${head}\n${reads === '' ? '' : `${reads}\n`}${bodyOf(expr)}\n}${fns === '' ? '' : `\n${fns}`}`,
      )),
    );
  return text(head, reads, fns);
}

/** Can `epilogueOf` write this call's epilogue, in a shader that has `own` storage bindings itself? */
export function epilogueFits(call: Call, caps: GpuCaps, own: number): boolean {
  const out = call.outputs[0];
  if (!out || elemOf(out.dtype) === undefined) return false;
  if (call.epilogue === undefined) return true;
  const { expr, operands } = call.epilogue;
  return (
    own + operands.filter((o) => !isNumber(o)).length <= caps.limits.maxStorageBuffersPerShaderStage &&
    bodyOf(expr) !== '' &&
    operands.every((o) => elemOf(o.dtype) !== undefined)
  );
}
