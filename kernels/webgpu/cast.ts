/**
 * Conversions that expressions do not know: to and from floats of 8 and 4 bits and integers below a byte; and changes
 * of name.
 */
import { BITS, bytesOf, type DType, isFloat } from '../../src/core/dtype.ts';
import { MINIFLOAT, minifloatBits } from '../../src/core/floats.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { camel, type Elem, VALUE_TYPE } from '../../wgsl/assemble.ts';
import { castSmall } from '../../wgsl/index.gen.ts';
import type { GpuKernel, Launch } from '../define.ts';
import { narrow } from '../elementwise.ts';
import { WGSL_TYPE, wgslBody } from '../expr-to-wgsl.ts';
import { input, type Kind, kindOf, x } from '../expr.ts';
import { elemOf, perWord } from './elem.ts';
import { grid } from './grid.ts';
import { mapLaunch } from './map.ts';

const NIBBLES: Readonly<Partial<Record<DType, readonly [number, number]>>> = { int4: [-8, 7], uint4: [0, 15] };
const isSmallFloat = (d: DType): boolean => MINIFLOAT[d] !== undefined || d === 'float8e8m0';
const isSmallInt = (d: DType): boolean => BITS[d] < 8 && !isSmallFloat(d) && d !== 'string';
/** The kind in which elements are computed; undefined for strings, float64 and complex numbers. */
const kindFor = (d: DType): Exclude<Kind, 'f64'> | undefined => {
  const kind: Kind | undefined = isSmallFloat(d)
    ? 'f32'
    : isSmallInt(d)
      ? d.startsWith('u')
        ? 'u32'
        : 'i32'
      : kindOf(d);
  return kind === 'f64' ? undefined : kind;
};
const formatOf = (d: DType): string => {
  const f = MINIFLOAT[d]!;
  return `vec4u(${f.exp}u, ${f.man}u, ${f.bias}u, ${['ieee', 'fn', 'fnuz', 'none'].indexOf(f.special)}u)`;
};
const isSmall = (d: DType): boolean => isSmallFloat(d) || isSmallInt(d);

/**
 * `fn taken(i)`, element i of the binding x as f32, i32 or u32, and what it needs; also of another binding, under
 * another name.
 */
export function takenText(d: DType, x = 'x', fn = 'taken'): { types: Record<string, Elem>; text: string } {
  const bits = BITS[d];
  const type = WGSL_TYPE[kindFor(d)!];
  const head = `fn ${fn}(i: u32) -> ${type}`;
  if (!isSmall(d)) return { types: { [x]: elemOf(d)! }, text: `${head} { return load_${x}(i); }` };
  const [word, by] = [`${x}[i / ${32 / bits}u]`, `i % ${32 / bits}u * ${bits}u, ${bits}u`];
  const code = `extractBits(${type === 'i32' ? `bitcast<i32>(${word})` : word}, ${by})`;
  const value =
    d === 'float8e8m0' ? `e8m0_float(${code})` : isSmallFloat(d) ? `small_float(${code}, ${formatOf(d)})` : code;
  return { types: {}, text: `alias ${camel(x)}Store = u32;\n${head} { return ${value}; }` };
}

interface How {
  readonly saturate: number;
  readonly round_mode: string;
  readonly clamp_nibbles: number;
}
/** Slot `converted`: the value that is stored, or the bits of a small one. */
function convertedText(from: DType, to: DType, how: How): string {
  const v = input(0, kindFor(from)!);
  const via = (d: DType): string => {
    const kind = kindFor(d)!;
    return wgslBody(
      narrow(v.k === 'f32' && kind === 'u32' && BITS[d] < 32 ? x.cast(x.cast(v, 'i32'), 'u32') : x.cast(v, kind), d),
      () => 'v',
    ).replace(/^ {2}return (.*);$/m, '  let r = $1;');
  };
  const head = `alias To = ${isSmall(to) ? 'u32' : VALUE_TYPE[elemOf(to)!]};\nfn converted(${isFloat(from) && to in NIBBLES && how.clamp_nibbles ? 'given' : 'v'}: From) -> To {`;
  if (!isSmall(to)) return `${head}\n${via(to)}\n  return r;\n}`;
  if (isSmallInt(to)) {
    const bounds = NIBBLES[to];
    const clamped =
      bounds && how.clamp_nibbles && isFloat(from)
        ? `  let v = select(clamp(given, ${bounds[0]}.0, ${bounds[1]}.0), given, is_nan(given));\n`
        : '';
    return `${head}\n${clamped}${via('int32')}\n  return bitcast<u32>(r) & ${(1 << BITS[to]) - 1}u;\n}`;
  }
  const saturate = how.saturate ? 'true' : 'false';
  if (to === 'float8e8m0')
    return `${head}\n${via('float32')}\n  return e8m0_code(r, ${how.round_mode === 'up' ? 0 : how.round_mode === 'nearest' ? 1 : 2}u, ${saturate});\n}`;
  const f = MINIFLOAT[to]!;
  const zeroed = to === 'float4e2m1' && !how.clamp_nibbles ? '  if (is_nan(r)) { return 0u; }\n' : '';
  return `${head}\n${via('float32')}\n${zeroed}  return small_float_code(r, ${formatOf(to)}, ${f.max}.0, ${minifloatBits(f, f.max)}u, ${saturate});\n}`;
}

/** Slot `write`, and what it needs of the binding y. */
function writeText(d: DType): { types: Record<string, Elem>; text: string; PER: number } {
  if (isSmall(d)) {
    const PER = 32 / BITS[d];
    return {
      types: {},
      PER,
      text: `alias YStore = u32;\nfn write(q: u32, last: u32) {\n  var w = 0u;\n  for (var k = 0u; k < PER; k++) { if (q * PER + k <= last) { w |= element(q * PER + k) << (k * ${BITS[d]}u); } }\n  y[q] = w;\n}`,
    };
  }
  const elem = elemOf(d)!;
  const PER = perWord(elem) > 1 ? 4 : 1;
  const text =
    PER === 1
      ? 'store_y(q, element(q));'
      : 'let i = q * 4u; store4_y(q, element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last)));';
  return { types: { y: elem }, PER, text: `fn write(q: u32, last: u32) { ${text} }` };
}

const WG = 64;
/** Output 0 is input 0's bytes. */
export const copyKernel: GpuKernel = {
  name: 'copy.words',
  accepts: (call) => BITS[call.inputs[0]!.dtype] > 0,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const words = { dtype: 'uint32', shape: [Math.ceil(bytesOf(dtype, sizeOf(shape)) / 4)] } as const;
    return mapLaunch(input(0, 'u32'), words, { output: 0 }, [{ fact: words, bind: { input: 0 } }]);
  },
};

/** Cast and CastLike of what no expression converts. */
export const castKernel: GpuKernel<How> = {
  name: 'cast.small',
  accepts: (call) => [call.inputs[0]!, call.outputs[0]!].every((f) => kindFor(f.dtype) !== undefined),
  launch: (call, caps): Launch | readonly Launch[] => {
    const { dtype, shape } = call.inputs[0]!;
    const to = call.outputs[0]!.dtype;
    if (dtype === to) return copyKernel.launch(call, caps, {});
    const [get, write] = [takenText(dtype), writeText(to)];
    const count = sizeOf(shape);
    return {
      module: castSmall,
      types: { ...get.types, ...write.types },
      params: { WG, PER: write.PER },
      slots: {
        taken: `alias From = ${WGSL_TYPE[kindFor(dtype)!]};\n${get.text}`,
        write: write.text,
        converted: convertedText(dtype, to, call.attrs),
      },
      uniforms: { count },
      workgroups: grid(Math.ceil(count / write.PER), WG),
      bind: [{ input: 0 }, { output: 0 }],
    };
  },
};
