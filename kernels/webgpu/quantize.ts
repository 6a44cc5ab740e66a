/** Quantising and widening by scales, and products of quantised integers. */
import { BITS, type DType } from '../../src/core/dtype.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { quantizeBack, quantizeExtent, quantizeLinear, quantizeRange } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import type { MatMulShape } from '../matmul-shape.ts';
import { RANGE } from '../quantize-round.ts';
import { elemOf } from './elem.ts';
import { finishFits, finishOf, putOf } from './finish.ts';
import { grid } from './grid.ts';
import { numberText, type Product, type Source } from './product.ts';
import { productKernels } from './product-kernels.ts';
import { productOf } from './matmul.ts';

/** Which scale belongs to which element, as `granularity` in kernels/quantize.ts says. */
interface Spread { readonly per: 'tensor' | 'axis' | 'block'; readonly n: number; readonly inner: number; readonly size: number; readonly blocks: number }
type SpreadOf = (call: Call) => Spread;

const WG = 64;
const AT = {
  tensor: '0u', axis: '(i / u.inner) % u.n', block: '((i / (u.inner * u.n)) * u.blocks + ((i / u.inner) % u.n) / u.size) * u.inner + i % u.inner',
} as const;
const scaleAt = (s: Spread): string => `fn scale_at(i: u32) -> u32 { return ${AT[s.per]}; }`;
const small = (d: DType): boolean => /^u?int(8|16)$/.test(d);
const real = (d: DType): boolean => d === 'float32' || d === 'float16' || d === 'bfloat16';

function linearLaunch(call: Call, caps: GpuCaps, spread: Spread, scale: Ref, zero: { ref: Ref; dtype: DType } | null): Launch {
  const { dtype, shape } = call.outputs[0]!;
  const kind = dtype.startsWith('u') ? 'u32' : 'i32';
  const put = putOf(call, caps, true, finishOf(call, [], 1, kind), kind);
  const [LOW, HIGH] = RANGE[dtype]!;
  const count = sizeOf(shape);
  return {
    module: quantizeLinear, params: { WG, LOW, HIGH }, workgroups: grid(Math.ceil(count / 4), WG), uniforms: { count, inner: spread.inner, n: spread.n, size: spread.size, blocks: spread.blocks },
    types: { x: elemOf(call.inputs[0]!.dtype)!, scale: 'f32', ...(zero ? { zeros: elemOf(zero.dtype)! } : {}), ...put.types },
    slots: { put: `alias Quantised = ${kind};\n${put.text}`, scale_at: scaleAt(spread), zero: `fn zero(j: u32) -> f32 { return ${zero ? 'f32(load_zeros(j))' : '0.0'}; }` },
    bind: [{ input: 0 }, scale, { output: 0 }], extra: [...put.extra, ...(zero ? [{ name: 'zeros', bind: zero.ref }] : [])], extraUniforms: put.extraUniforms,
  };
}

/** QuantizeLinear to integers of a byte or two. The division is that of float32. */
export const quantizeKernels = (spread: SpreadOf): readonly GpuKernel[] => [{
  name: 'quantize.linear',
  accepts: (call) => (real(call.inputs[0]!.dtype) || call.inputs[0]!.dtype === 'int32') && call.inputs[1]!.dtype === 'float32' && small(call.outputs[0]!.dtype) && (call.attrs.precision === 0 || call.attrs.precision === 1),
  launch: (call, caps) => linearLaunch(call, caps, spread(call), { input: 1 }, call.inputs[2] ? { ref: { input: 2 }, dtype: call.inputs[2].dtype } : null),
}];

/** DequantizeLinear of integers. */
export const dequantizeKernels = (spread: SpreadOf): readonly GpuKernel[] => [{
  name: 'quantize.back',
  accepts: (call, caps) => /^(u?int(4|8|16)|int32)$/.test(call.inputs[0]!.dtype) && real(call.inputs[1]!.dtype) && finishFits(call, caps, 4),
  launch: (call, caps) => {
    const s = spread(call), zero = call.inputs[2] ?? null, count = sizeOf(call.outputs[0]!.shape);
    const put = putOf(call, caps, true, finishOf(call));
    return {
      module: quantizeBack, params: { WG }, workgroups: grid(Math.ceil(count / 4), WG), uniforms: { count, inner: s.inner, n: s.n, size: s.size, blocks: s.blocks },
      types: { x: elemOf(call.inputs[0]!.dtype)!, scale: elemOf(call.inputs[1]!.dtype)!, ...(zero ? { zeros: elemOf(zero.dtype)! } : {}), ...put.types },
      slots: { put: put.text, scale_at: scaleAt(s), zero: `fn zero(j: u32) -> i32 { return ${zero ? 'i32(load_zeros(j))' : '0'}; }` },
      bind: [{ input: 0 }, { input: 1 }, { output: 0 }], extra: [...put.extra, ...(zero ? [{ name: 'zeros', bind: { input: 2 } }] : [])], extraUniforms: put.extraUniforms,
    };
  },
}];

/** DynamicQuantizeLinear: the extent by many invocations, the range by one, then the elements. */
export const dynamicQuantizeKernels: readonly GpuKernel[] = [{
  name: 'quantize.dynamic',
  accepts: (call) => call.outputs.every((o) => o !== null) && sizeOf(call.inputs[0]!.shape) > 0,
  scratch: (call) => [lanes(call) * 8],
  launch: (call, caps) => {
    const count = sizeOf(call.inputs[0]!.shape), LANES = lanes(call);
    return [
      { module: quantizeExtent, types: { x: 'f32' }, params: { WG, LANES }, uniforms: { count }, workgroups: [Math.ceil(LANES / WG), 1, 1], bind: [{ input: 0 }, { scratch: 0 }] },
      { module: quantizeRange, types: { scale: 'f32', zero: 'u8' }, params: { LANES }, workgroups: [1, 1, 1], bind: [{ scratch: 0 }, { output: 1 }, { output: 2 }] },
      linearLaunch(call, caps, { per: 'tensor', n: 1, inner: 1, size: 1, blocks: 1 }, { output: 1 }, { ref: { output: 2 }, dtype: 'uint8' }),
    ];
  },
}];
/** Invocations that look for the extent: as many as leave each some work, in steps so that few shaders are made. */
const lanes = (call: Call): number => Math.min(1024, Math.max(64, 2 ** Math.ceil(Math.log2(sizeOf(call.inputs[0]!.shape) / 64))));

// ── MatMulInteger ───────────────────────────────────────────────────────────────────────────────────────────────────
/** Is the zero point one number, or one per row of a (per column of b)? */
const spreads = (call: Call, input: number, count: number): boolean => {
  const zero = call.inputs[input];
  return !zero || sizeOf(zero.shape) === 1 || (zero.shape.length === 1 && zero.shape[0] === count);
};

function integerProduct(call: Call, s: MatMulShape): Product | null {
  const [a, b] = [call.inputs[0]!, call.inputs[1]!];
  if (BITS[a.dtype] !== 8 || BITS[b.dtype] !== 8 || !spreads(call, 2, s.m) || !spreads(call, 3, s.n)) return null;
  const shifted = (input: number, name: string): { types: Source['types']; extra: NonNullable<Source['extra']>; one: boolean } | null => {
    const zero = call.inputs[input];
    return zero ? { types: { [name]: elemOf(zero.dtype)! }, extra: [{ name, bind: { input } }], one: sizeOf(zero.shape) === 1 } : null;
  };
  const za = shifted(2, 'za'), zb = shifted(3, 'zb');
  const base = productOf({ ...call, inputs: [{ dtype: 'int32', shape: a.shape }, { dtype: 'int32', shape: b.shape }] }, s, 1, [])!;
  const readA = (p: Product): Source => {
    const zero = za === null ? '' : ` - i32(load_za(${za.one ? '0u' : 'row % extra.a_rows'}))`;
    const whole = p.a.col === 1 && p.a.row % 4 === 0 && p.a.batch.every((v) => v % 4 === 0);
    const four = whole ? 'vec4i(load4_a((o + k) >> 2u))' : 'vec4i(i32(load_a(o + k * u.a_col)), i32(load_a(o + (k + 1u) * u.a_col)), i32(load_a(o + (k + 2u) * u.a_col)), i32(load_a(o + (k + 3u) * u.a_col)))';
    return {
      ref: { input: 0 }, types: { a: elemOf(a.dtype)!, ...za?.types }, extra: za?.extra ?? [], extraUniforms: za === null || za.one ? [] : [{ name: 'a_rows', type: 'u32', value: s.m }],
      text: `fn take_a(o: u32, k: u32, row: u32) -> vec4i { return ${four}${zero}; }\nfn one_a(o: u32, k: u32, row: u32) -> i32 { return i32(load_a(o + k * u.a_col))${zero}; }`,
    };
  };
  const readB = (p: Product): Source => {
    const last = numberText(p.n - 1, false, '(u.n - 1u)');
    const columns = [0, 1, 2, 3].map((j) => (j === 0 ? 'n' : `min(n + ${j}u, ${last})`));
    const whole = p.b.col === 1 && p.n % 4 === 0 && p.b.row % 4 === 0 && p.b.batch.every((v) => v % 4 === 0);
    const four = whole ? 'vec4i(load4_b((o + k * u.b_row + n) >> 2u))' : `vec4i(${columns.map((c) => `i32(load_b(o + k * u.b_row + ${c} * u.b_col))`).join(', ')})`;
    const zero = zb === null ? '' : zb.one ? ' - i32(load_zb(0u))' : ` - vec4i(${columns.map((c) => `i32(load_zb(${c}))`).join(', ')})`;
    return { ref: { input: 1 }, types: { b: elemOf(b.dtype)!, ...zb?.types }, extra: zb?.extra ?? [], text: `fn take_b(o: u32, k: u32, n: u32) -> vec4i { return ${four}${zero}; }` };
  };
  return { ...base, call, readA, readB };
}

/** MatMulInteger: whole-number products in 32 bits, with zero points for all, or for each row of a and each column of b. */
export const integerProductKernels = (shape: (call: Call) => MatMulShape): readonly GpuKernel[] =>
  productKernels('matmul-integer', (call) => integerProduct(call, shape(call))).filter((k) => k.name === 'matmul-integer.direct');
