import type { Fact } from '../../src/core/graph.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { type Elem, VALUE_TYPE } from '../../wgsl/assemble.ts';
import { map as mapModule } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import { hasWgsl, wgslBody } from '../expr-to-wgsl.ts';
import { type Ex, kindOf, parsed } from '../expr.ts';
import { elemOf, perWord } from './elem.ts';
import { grid } from './grid.ts';
import { type Access, accessOf } from './operands.ts';

export interface MapAttrs { readonly expr: string; readonly dtype: string }

const exprOf = (call: Call<MapAttrs>): Ex => parsed(call.attrs.expr);

/** Word-sized elements, which may be bound four at a time. */
const isWord = (e: Elem): boolean => e === 'f32' || e === 'i32' || e === 'u32';

interface Operand { readonly name: string; readonly elem: Elem; readonly access: Access; readonly bind: Ref }

/** `sardonyx.Map`: one expression of any number of broadcast inputs, four output elements an invocation. */
export const mapKernel: GpuKernel<MapAttrs> = {
  name: 'map.quad',
  accepts: (call, caps) => {
    const out = call.outputs[0];
    if (!out || elemOf(out.dtype) === undefined || perWord(elemOf(out.dtype)!) > 4) return false;
    const expr = exprOf(call);
    return call.inputs.length + 1 <= caps.limits.maxStorageBuffersPerShaderStage && hasWgsl(expr) && expr.k === kindOf(out.dtype)
      && call.inputs.every((f) => f !== null && elemOf(f.dtype) !== undefined);
  },
  tunables: { WG: [32, 64, 128, 256] },
  launch: (call, _caps, tuned) => mapLaunch(exprOf(call), call.outputs[0]!, { output: 0 }, call.inputs.map((f, n) => ({ fact: f!, bind: { input: n } })), tuned.WG),
};

/** One dispatch that computes `expr`, whose input n is `operands[n]`, broadcast to `out`. For kernels that need elementwise work around their own. */
export function mapLaunch(expr: Ex, out: Fact, to: Ref, from: readonly { readonly fact: Fact; readonly bind: Ref }[], WG = 64): Launch {
  const y = elemOf(out.dtype)!;
  const count = sizeOf(out.shape);
  const operands = from.map(({ fact, bind }, n): Operand => ({ name: `in${n}`, elem: elemOf(fact.dtype)!, access: accessOf(`in${n}`, fact, out.shape), bind }));
  return {
    module: mapModule,
    types: Object.fromEntries([...(isWord(y) ? [] : [['y', y] as const]), ...operands.filter((o) => !inFours(o)).map((o) => [o.name, o.elem] as const)]),
    params: { WG }, uniforms: { count }, workgroups: grid(Math.ceil(count / 4), WG),
    slots: { quad: quadText(expr, y, operands) },
    bind: [to],
    extra: operands.map((o) => ({ name: o.name, bind: o.bind })),
    extraUniforms: operands.flatMap((o) => o.access.uniforms),
  };
}

const inFours = (o: Operand): boolean => isWord(o.elem) && o.access.four !== null;

/** Slot `quad`: loads what the four elements need, evaluates each, stores them as whole words. */
function quadText(expr: Ex, y: Elem, operands: readonly Operand[]): string {
  const loads: string[] = [];
  const element: string[][] = [[], [], [], []];
  for (const { name, elem, access } of operands) {
    if (access.four !== null && isWord(elem)) loads.push(`let ${name}_v = ${name}[${access.four('q')}];`);
    else if (access.four !== null && perWord(elem) > 1 && perWord(elem) < 8) loads.push(`let ${name}_v = load4_${name}(${access.four('q')});`);
    else if (access.one !== null) {
      loads.push(`let ${name}_v = load_${name}(${access.one('q')});`);
      element.forEach((e) => { e.push(`${name}_v`); });
      continue;
    } else {
      element.forEach((e, k) => { e.push(`load_${name}(${access.at(`i${k}`)})`); });
      continue;
    }
    element.forEach((e, k) => { e.push(`${name}_v.${'xyzw'[k]}`); });
  }
  const type = VALUE_TYPE[y];
  const four = element.map((e) => `expression(${e.join(', ')})`);
  return [
    ...(isWord(y) ? [`alias YStore = vec4<${y}>;`] : []),
    ...operands.filter((o) => isWord(o.elem) && o.access.four !== null).map((o) => `alias ${o.name.replace('i', 'I')}Store = vec4<${o.elem}>;`),
    `fn expression(${operands.map((o, n) => `a${n}: ${VALUE_TYPE[o.elem]}`).join(', ')}) -> ${type} {\n${wgslBody(expr, (i) => `a${i}`)}\n}`,
    ...operands.map((o) => o.access.fn).filter((f) => f !== ''),
    'fn quad(q: u32, last: u32) {',
    '  let i0 = q * 4u;',
    '  let i1 = min(i0 + 1u, last);',
    '  let i2 = min(i0 + 2u, last);',
    '  let i3 = min(i0 + 3u, last);',
    ...loads.map((l) => `  ${l}`),
    isWord(y) ? `  y[q] = vec4<${y}>(${four.join(', ')});` : `  store4_y(q, ${four.join(', ')});`,
    '}',
  ].join('\n');
}
