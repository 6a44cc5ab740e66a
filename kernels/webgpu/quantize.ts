/** Quantising and widening by scales. */
import { BITS, type DType } from '../../src/core/dtype.ts';
import { numbers } from '../../src/core/numbers.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { quantizeBack, quantizeExtent, quantizeLinear, quantizeRange } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import { RANGE } from '../quantize-round.ts';
import { castKernel, takenText } from './cast.ts';
import { elemOf } from './elem.ts';
import { finishFits, finishOf, putOf } from './finish.ts';
import { grid } from './grid.ts';
import { knows } from './unit.ts';

/** Which scale belongs to which element, as `granularity` in kernels/quantize.ts says. */
interface Spread {
  readonly per: 'tensor' | 'axis' | 'block';
  readonly n: number;
  readonly inner: number;
  readonly size: number;
  readonly blocks: number;
}
type SpreadOf = (call: Call) => Spread;

const WG = 64;
const AT = {
  tensor: '0u',
  axis: '(i / u.inner) % u.n',
  block: '((i / (u.inner * u.n)) * u.blocks + ((i / u.inner) % u.n) / u.size) * u.inner + i % u.inner',
} as const;
const scaleAt = (s: Spread): string => `fn scale_at(i: u32) -> u32 { return ${AT[s.per]}; }`;
const small = (d: DType): boolean => /^u?int(8|16)$/.test(d);
const real = (d: DType): boolean => d === 'float32' || d === 'float16' || d === 'bfloat16';

function linearLaunch(
  call: Call,
  caps: GpuCaps,
  spread: Spread,
  scale: Ref,
  zero: { ref: Ref; dtype: DType } | null,
): Launch {
  const { dtype, shape } = call.outputs[0]!;
  const kind = dtype.startsWith('u') ? 'u32' : 'i32';
  const put = putOf(call, caps, true, finishOf(call, [], 1, kind), kind);
  const [LOW, HIGH] = RANGE[dtype]!;
  const count = sizeOf(shape);
  return {
    module: quantizeLinear,
    params: { WG, LOW, HIGH },
    workgroups: grid(Math.ceil(count / 4), WG),
    uniforms: { count, inner: spread.inner, n: spread.n, size: spread.size, blocks: spread.blocks },
    types: {
      x: elemOf(call.inputs[0]!.dtype)!,
      scale: 'f32',
      ...(zero ? { zeros: elemOf(zero.dtype)! } : {}),
      ...put.types,
    },
    slots: {
      put: `alias Quantised = ${kind};\n${put.text}`,
      scale_at: scaleAt(spread),
      zero: `fn zero(j: u32) -> f32 { return ${zero ? 'f32(load_zeros(j))' : '0.0'}; }`,
    },
    bind: [{ input: 0 }, scale, { output: 0 }],
    extra: [...put.extra, ...(zero ? [{ name: 'zeros', bind: zero.ref }] : [])],
    extraUniforms: put.extraUniforms,
  };
}

/** QuantizeLinear to integers of a byte or two. The division is that of float32. */
export const quantizeKernels = (spread: SpreadOf): readonly GpuKernel[] => [
  {
    name: 'quantize.linear',
    accepts: (call) =>
      (real(call.inputs[0]!.dtype) || call.inputs[0]!.dtype === 'int32') &&
      call.inputs[1]!.dtype === 'float32' &&
      small(call.outputs[0]!.dtype) &&
      (call.attrs.precision === 0 || call.attrs.precision === 1),
    launch: (call, caps) =>
      linearLaunch(
        call,
        caps,
        spread(call),
        { input: 1 },
        call.inputs[2] ? { ref: { input: 2 }, dtype: call.inputs[2].dtype } : null,
      ),
  },
];

/**
 * To integers below a byte and floats of 8 and 4 bits: the quotient, then its conversion. Zero points of floats must be
 * known to be 0.
 */
export const smallQuantizeKernels = (spread: SpreadOf): readonly GpuKernel[] => [
  {
    name: 'quantize.small',
    accepts: (call) =>
      real(call.inputs[0]!.dtype) &&
      call.inputs[1]!.dtype === 'float32' &&
      isSmall(call.outputs[0]!.dtype) &&
      (call.attrs.precision === 0 || call.attrs.precision === 1) &&
      (RANGE[call.outputs[0]!.dtype] !== undefined || withoutZero(call)),
    scratch: (call) => [sizeOf(call.inputs[0]!.shape) * 4],
    launch: (call, caps) => {
      const { dtype, shape } = call.outputs[0]!;
      const s = spread(call);
      const zero = call.inputs[2] ?? null;
      const count = sizeOf(shape);
      const range = RANGE[dtype];
      const middle = { dtype: 'float32', shape } as const;
      const given = zero && range ? takenText(zero.dtype, 'zeros', 'taken_zeros') : null;
      const [LOW, HIGH] = range ?? [0, 0];
      return [
        {
          module: quantizeLinear,
          params: { WG, LOW, HIGH, WHOLE: range ? 1 : 0 },
          workgroups: grid(Math.ceil(count / 4), WG),
          uniforms: { count, inner: s.inner, n: s.n, size: s.size, blocks: s.blocks },
          types: { x: elemOf(call.inputs[0]!.dtype)!, scale: 'f32', y: 'f32', ...given?.types },
          bind: [{ input: 0 }, { input: 1 }, { scratch: 0 }],
          extra: given ? [{ name: 'zeros', bind: { input: 2 } }] : [],
          slots: {
            put: 'alias Quantised = f32;\nfn put(i: u32, v: vec4f, left: u32) { store4_y(i >> 2u, v.x, v.y, v.z, v.w); }',
            scale_at: scaleAt(s),
            zero: given
              ? `${given.text}\nfn zero(j: u32) -> f32 { return f32(taken_zeros(j)); }`
              : 'fn zero(j: u32) -> f32 { return 0.0; }',
          },
        },
        {
          ...(castKernel.launch(
            {
              inputs: [middle],
              outputs: [call.outputs[0]!],
              attrs: { saturate: call.attrs.saturate, round_mode: 'up', clamp_nibbles: 1 },
            },
            caps,
            {},
          ) as Launch),
          bind: [{ scratch: 0 }, { output: 0 }],
        },
      ];
    },
  },
];
/** No zero point, or one that is known to be all 0. */
const withoutZero = (call: Call): boolean =>
  !call.inputs[2] || (knows(call, 2) && Array.from(numbers(call.inputs[2].constant!.peek()!)).every((v) => v === 0));
const isSmall = (d: DType): boolean => BITS[d] < 8 || /^float[48]e\dm\d/.test(d);

/** DequantizeLinear. */
export const dequantizeKernels = (spread: SpreadOf): readonly GpuKernel[] => [
  {
    name: 'quantize.back',
    accepts: (call, caps) =>
      /^(u?int(2|4|8|16)|int32|float(8e\dm\d(fn|fnuz)?|4e2m1))$/.test(call.inputs[0]!.dtype) &&
      real(call.inputs[1]!.dtype) &&
      finishFits(call, caps, 4),
    launch: (call, caps) => {
      const s = spread(call);
      const zero = call.inputs[2] ?? null;
      const count = sizeOf(call.outputs[0]!.shape);
      const put = putOf(call, caps, true, finishOf(call));
      const { dtype } = call.inputs[0]!;
      const from = takenText(dtype);
      const less = zero && takenText(dtype, 'zeros', 'taken_zeros');
      const type = dtype.startsWith('f') ? 'f32' : 'i32';
      return {
        module: quantizeBack,
        params: { WG },
        workgroups: grid(Math.ceil(count / 4), WG),
        uniforms: { count, inner: s.inner, n: s.n, size: s.size, blocks: s.blocks },
        types: { ...from.types, scale: elemOf(call.inputs[1]!.dtype)!, ...less?.types, ...put.types },
        slots: {
          put: put.text,
          scale_at: scaleAt(s),
          beyond_zero: `${from.text}\n${less ? `${less.text}\n` : ''}fn beyond_zero(i: u32, j: u32) -> f32 { return f32(${type}(taken(i))${less ? ` - ${type}(taken_zeros(j))` : ''}); }`,
        },
        bind: [{ input: 0 }, { input: 1 }, { output: 0 }],
        extra: [...put.extra, ...(zero ? [{ name: 'zeros', bind: { input: 2 } }] : [])],
        extraUniforms: put.extraUniforms,
      };
    },
  },
];

/** DynamicQuantizeLinear: the extent by many invocations, the range by one, then the elements. */
export const dynamicQuantizeKernels: readonly GpuKernel[] = [
  {
    name: 'quantize.dynamic',
    accepts: (call) => call.outputs.every((o) => o !== null) && sizeOf(call.inputs[0]!.shape) > 0,
    scratch: (call) => [lanesOf(call) * 8],
    launch: (call, caps) => {
      const count = sizeOf(call.inputs[0]!.shape);
      const lanes = lanesOf(call);
      return [
        {
          module: quantizeExtent,
          types: { x: 'f32' },
          params: { WG },
          uniforms: { count, lanes },
          workgroups: [Math.ceil(lanes / WG), 1, 1],
          bind: [{ input: 0 }, { scratch: 0 }],
        },
        {
          module: quantizeRange,
          types: { scale: 'f32', zero: 'u8' },
          uniforms: { lanes },
          workgroups: [1, 1, 1],
          bind: [{ scratch: 0 }, { output: 1 }, { output: 2 }],
        },
        linearLaunch(
          call,
          caps,
          { per: 'tensor', n: 1, inner: 1, size: 1, blocks: 1 },
          { output: 1 },
          { ref: { output: 2 }, dtype: 'uint8' },
        ),
      ];
    },
  },
];
/** Invocations that look for the extent: as many as leave each some work. */
const lanesOf = (call: Call): number =>
  Math.min(1024, Math.max(64, 2 ** Math.ceil(Math.log2(sizeOf(call.inputs[0]!.shape) / 64))));
