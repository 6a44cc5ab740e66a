import type { Fact } from '../../src/core/graph.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { type Elem, VALUE_TYPE } from '../../wgsl/assemble.ts';
import { map as mapModule } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import { hasWgsl, wgslBody } from '../expr-to-wgsl.ts';
import { type Ex, kindOf, parsed } from '../expr.ts';
import { elemOf, perWord } from './elem.ts';
import { grid } from './grid.ts';
import { type Access, accessOf, isNumber, numberOf } from './operands.ts';

export interface MapAttrs {
  readonly expr: string;
  readonly dtype: string;
}

const exprOf = (call: Call<MapAttrs>): Ex => parsed(call.attrs.expr);

/** Word-sized elements, which may be bound four at a time. */
const isWord = (e: Elem): boolean => e === 'f32' || e === 'i32' || e === 'u32';

/** `number`: a uniform of that name. */
interface Operand {
  readonly name: string;
  readonly elem: Elem;
  readonly access: Access;
  readonly bind: Ref;
  readonly number: boolean;
}

/** `sardonyx.Map`: one expression of any number of broadcast inputs, four output elements an invocation. */
export const mapKernel: GpuKernel<MapAttrs> = {
  name: 'map.quad',
  accepts: (call, caps) => {
    const out = call.outputs[0];
    if (!out || elemOf(out.dtype) === undefined || perWord(elemOf(out.dtype)!) > 4) return false;
    const expr = exprOf(call);
    return (
      call.inputs.filter((f) => !f || !isNumber(f)).length + 1 <= caps.limits.maxStorageBuffersPerShaderStage &&
      hasWgsl(expr) &&
      expr.k === kindOf(out.dtype) &&
      call.inputs.every((f) => f !== null && elemOf(f.dtype) !== undefined)
    );
  },
  tunables: { WG: [32, 64, 128, 256] },
  launch: (call, _caps, tuned) =>
    mapLaunch(
      exprOf(call),
      call.outputs[0]!,
      { output: 0 },
      call.inputs.map((f, n) => ({ fact: f!, bind: { input: n } })),
      tuned.WG,
    ),
};

/**
 * Elements up to which maps that spread smaller inputs, and masks that are constants, are read alike for all batches
 * and lengths: made once a run, they are worth a few loads less than a pipeline.
 */
const ALIKE = 1 << 20;

/**
 * One dispatch that computes `expr`, whose input n is `operands[n]`, broadcast to `out`. For kernels that need
 * elementwise work around their own.
 */
export function mapLaunch(
  expr: Ex,
  out: Fact,
  to: Ref,
  from: readonly { readonly fact: Fact; readonly bind: Ref }[],
  WG = 64,
): Launch {
  const y = elemOf(out.dtype)!;
  const count = sizeOf(out.shape);
  const accesses = from.map(({ fact }, n) => accessOf(`in${n}`, fact, out.shape));
  const given = accesses.filter((_, n) => from[n]!.fact.constant === undefined);
  const spread = given.every((a) => a.kind !== 'full') && given.some((a) => a.kind === 'some');
  const operands = from.map(({ fact, bind }, n): Operand => {
    const name = `in${n}`;
    const alike = count <= ALIKE && (spread || (fact.constant !== undefined && /bool|int64/.test(fact.dtype)));
    return {
      name,
      elem: elemOf(fact.dtype)!,
      access: alike ? accessOf(name, fact, out.shape, true) : accesses[n]!,
      bind,
      number: isNumber(fact),
    };
  });
  const bound = operands.filter((o) => !o.number);
  return {
    module: mapModule,
    types: Object.fromEntries([
      ...(isWord(y) ? [] : [['y', y] as const]),
      ...bound.filter((o) => !inFours(o)).map((o) => [o.name, o.elem] as const),
    ]),
    params: { WG },
    uniforms: { count },
    workgroups: grid(Math.ceil(count / 4), WG),
    slots: { quad: quadText(expr, y, operands) },
    bind: [to],
    extra: bound.map((o) => ({ name: o.name, bind: o.bind })),
    extraUniforms: operands.flatMap((o, n) => (o.number ? [numberOf(o.name, from[n]!.fact)] : o.access.uniforms)),
  };
}

const inFours = (o: Operand): boolean => isWord(o.elem) && o.access.four;

/** Slot `quad`: loads what the four elements need, evaluates each, stores them as whole words. */
function quadText(expr: Ex, y: Elem, operands: readonly Operand[]): string {
  const loads: string[] = [];
  const element: string[][] = [[], [], [], []];
  for (const { name, elem, access, number } of operands) {
    if (number) {
      element.forEach((e) => {
        e.push(`extra.${name}`);
      });
      continue;
    }
    const word = isWord(elem);
    const four = access.four && (word || (perWord(elem) > 1 && perWord(elem) < 8));
    const quad = access.kind === 'full' ? 'q' : `${access.at('i0')} >> 2u`;
    if (four) loads.push(`  let ${name}_v = ${word ? `${name}[${quad}]` : `load4_${name}(${quad})`};`);
    else if (access.one) loads.push(`  let ${name}_v = load_${name}(${access.at('i0')});`);
    element.forEach((e, k) => {
      e.push(four ? `${name}_v.${'xyzw'[k]}` : access.one ? `${name}_v` : `load_${name}(${access.at(`i${k}`)})`);
    });
  }
  const type = VALUE_TYPE[y];
  const four = element.map((e) => `expression(${e.join(', ')})`);
  return [
    ...(isWord(y) ? [`alias YStore = vec4<${y}>;`] : []),
    ...operands.filter(inFours).map((o) => `alias ${o.name.replace('i', 'I')}Store = vec4<${o.elem}>;`),
    `fn expression(${operands.map((o, n) => `a${n}: ${VALUE_TYPE[o.elem]}`).join(', ')}) -> ${type} {\n${wgslBody(expr, (i) => `a${i}`)}\n}`,
    ...operands.map((o) => o.access.fn).filter((f) => f !== ''),
    'fn quad(q: u32, last: u32) {',
    '  let i0 = q * 4u;',
    ...[1, 2, 3].map((k) => `  let i${k} = min(i0 + ${k}u, last);`),
    ...loads,
    isWord(y) ? `  y[q] = vec4<${y}>(${four.join(', ')});` : `  store4_y(q, ${four.join(', ')});`,
    '}',
  ].join('\n');
}
