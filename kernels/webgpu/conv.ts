/** Convolutions of images that keep their channels first: as products, or in registers. */
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { convAny, convDirect } from '../../wgsl/index.gen.ts';
import type { Window } from '../conv-window.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import { depthwiseTile, filtersTile, type Plane, transposedTile } from './conv-tiles.ts';
import { elemOf } from './elem.ts';
import { type Addend, finishFits, finishOf, type Parts, putOf, storesOne } from './finish.ts';
import { grid } from './grid.ts';
import { matrixOf, numberText, type Product, productKind, type Source } from './product.ts';
import { productKernels } from './product-kernels.ts';
import { inRow, ofLast, remembered } from '../remembered.ts';

/**
 * What an operator says of a call: its window, and whether it spreads inputs (a transposed convolution) rather than
 * gathers them.
 */
export interface ConvCall {
  readonly window: Window;
  readonly transposed: boolean;
}
export type ConvOf = (call: Call) => ConvCall;

const BINDINGS = 3;
const MAX_GROUPS = 65535;
export const biasOf = (call: Call): Addend[] =>
  call.inputs[2]
    ? [{ input: 2, shape: [sizeOf(call.inputs[2].shape), ...call.inputs[0]!.shape.slice(2).map(() => 1)], times: 1 }]
    : [];
const computes = (call: Call, caps: GpuCaps): boolean =>
  productKind(elemOf(call.inputs[0]!.dtype)) === 'f32' &&
  productKind(elemOf(call.inputs[1]!.dtype)) === 'f32' &&
  finishFits(call, caps, BINDINGS, biasOf(call));

export interface Sizes {
  readonly images: number;
  readonly groups: number;
  readonly channels: number;
  readonly filters: number;
  readonly size: readonly number[];
  readonly out: readonly number[];
  readonly fixed: boolean;
}
/** `channels` and `filters` are a group's. */
export function sizesOf(call: Call, { window }: ConvCall): Sizes {
  const x = call.inputs[0]!.shape;
  const y = call.outputs[0]!.shape;
  return {
    images: x[0]!,
    groups: window.group,
    channels: x[1]! / window.group,
    filters: y[1]! / window.group,
    size: x.slice(2),
    out: y.slice(2),
    fixed: call.inputs[1]!.constant !== undefined,
  };
}

// ── as a product: filters times unfolded image ──────────────────────────────────────────────────────────────────────
const isPointwise = ({ window: w, transposed }: ConvCall): boolean =>
  !transposed && w.kernel.every((k) => k === 1) && w.strides.every((s) => s === 1) && w.pads.every((p) => p === 0);

/** The filters times the image as it stands (`unfolded` false: a pointwise convolution) or unfolded as it is read. */
function productOf(call: Call, caps: GpuCaps, conv: ConvCall, unfolded: boolean): Product | null {
  if (conv.transposed || isPointwise(conv) === unfolded || !computes(call, caps)) return null;
  const { images, groups, channels, filters, size, out, fixed } = sizesOf(call, conv);
  const k = channels * sizeOf(conv.window.kernel);
  const area = sizeOf(size);
  return {
    call,
    batch: [images, groups],
    m: filters,
    n: sizeOf(out),
    k,
    a: matrixOf(call, 1, filters, k, k, 1, [0, filters * k], false),
    b: {
      ref: { input: 0 },
      elem: elemOf(call.inputs[0]!.dtype)!,
      row: area,
      col: 1,
      batch: [groups * channels * area, channels * area],
    },
    fixedDepth: fixed,
    kind: 'f32',
    alpha: 1,
    addends: biasOf(call),
    ...(unfolded ? { readB: unfold(conv.window, size, out) } : {}),
  };
}

/**
 * `take_b(o, k, n)`: entry k = (channel, tap) of the windows at output positions n .. n+3, 0 in the padding; `minus` is
 * taken from the others.
 */
export const unfold =
  (w: Window, size: readonly number[], out: readonly number[], minus = '') =>
  (p: Product): Source => ({
    ref: p.b.ref,
    types: { b: p.b.elem },
    text: unfoldText(JSON.stringify([w.kernel, w.strides, w.dilations, w.pads.slice(0, size.length)]), p.kind, minus),
    extraUniforms: size.flatMap((s, d) => [
      { name: `size${d}`, type: 'u32' as const, value: s },
      { name: `out${d}`, type: 'u32' as const, value: out[d]! },
    ]),
  });
const unfoldText = remembered((window: string, kind: string, minus: string): string => {
  const [kernel, strides, dilations, pads] = JSON.parse(window) as [number[], number[], number[], number[]];
  const rank = kernel.length;
  const taps = sizeOf(kernel);
  const dims = kernel.map((_, d) => d).reverse();
  const lines = dims.map((d, n) => {
    const position = n === rank - 1 ? 'p' : `p % extra.out${d}`;
    return `let i${d} = i32((${position}) * ${strides[d]}u + k${d} * ${dilations[d]}u) - ${pads[d]}; ${n < rank - 1 ? `p = p / extra.out${d};` : ''}`;
  });
  const inside = kernel.map((_, d) => `bitcast<u32>(i${d}) < extra.size${d}`).join(' && ');
  const at = kernel
    .slice(1)
    .reduce((text, _, n) => `(${text}) * extra.size${n + 1} + bitcast<u32>(i${n + 1})`, 'bitcast<u32>(i0)');
  const taken = dims
    .map(
      (d, n) =>
        `let k${d} = ${n === rank - 1 ? 't' : `t % ${kernel[d]}u`};${n < rank - 1 ? ` t = t / ${kernel[d]}u;` : ''}`,
    )
    .join(' ');
  const params = kernel.map((_, d) => `k${d}: u32`).join(', ');
  const args = kernel.map((_, d) => `k${d}`).join(', ');
  return `fn unfolded(base: u32, ${params}, position: u32) -> ${kind} { var p = position; ${lines.join(' ')} let inside = ${inside}; return select(${kind}(0), ${kind}(load_b(base + select(0u, ${at}, inside)))${minus}, inside); }
fn take_b(o: u32, k: u32, n: u32) -> vec4<${kind}> { let ch = k / ${taps}u; var t = k - ch * ${taps}u; ${taken} let base = o + ch * u.b_row; let last = u.n - 1u; return vec4<${kind}>(${[0, 1, 2, 3].map((j) => `unfolded(base, ${args}, ${j === 0 ? 'n' : `min(n + ${j}u, last)`})`).join(', ')}); }`;
});

// ── in registers ────────────────────────────────────────────────────────────────────────────────────────────────────
/** The window as rows and columns: one spatial dim is a row of pixels. Null for more than two. */
function planeOf(w: Window): Plane | null {
  const two = (list: readonly number[], fill: number): [number, number] | null =>
    list.length === 1 ? [fill, list[0]!] : list.length === 2 ? [list[0]!, list[1]!] : null;
  const rank = w.kernel.length;
  const kernel = two(w.kernel, 1);
  return kernel === null
    ? null
    : { kernel, strides: two(w.strides, 1)!, dilations: two(w.dilations, 1)!, pads: two(w.pads.slice(0, rank), 0)! };
}

function planeLaunch(
  call: Call,
  caps: GpuCaps,
  s: Sizes,
  FILTERS: number,
  weights: { ref: Ref; types: Parts['types']; text: string },
  tile: string,
  depthwise = false,
): Launch {
  const [h, oh] = s.size.length === 1 ? [1, 1] : [s.size[0]!, s.out[0]!];
  const w = s.size.at(-1)!;
  const ow = s.out.at(-1)!;
  // Software adapters store one by one as fast as by fours: there, rows of all lengths share a shader.
  const put = putOf(
    call,
    caps,
    ow % 4 === 0 && !(caps.software && storesOne(call, caps)),
    finishOf(call, biasOf(call)),
  );
  const across = Math.ceil(ow / 4) * oh;
  const up = depthwise ? s.groups * s.filters : Math.ceil(s.filters / FILTERS);
  const power = (n: number): number => 2 ** Math.ceil(Math.log2(n));
  const wide = Math.min(64, power(across));
  return {
    module: convDirect,
    types: { x: elemOf(call.inputs[0]!.dtype)!, ...weights.types, ...put.types },
    params: { FILTERS, DEPTHWISE: depthwise ? 1 : 0 },
    workgroups: [Math.ceil(across / wide), Math.ceil((up * wide) / 64), depthwise ? s.images : s.images * s.groups],
    uniforms: { channels: s.channels, filters: s.filters, groups: s.groups, h, w, oh, ow, wide },
    slots: { tile: inRow(weights.text, put.text, tile, '') },
    bind: [{ input: 0 }, weights.ref, { output: 0 }],
    extra: put.extra,
    extraUniforms: put.extraUniforms,
  };
}
const fitsPlane = (call: Call, caps: GpuCaps, conv: ConvCall, s: Sizes): boolean =>
  computes(call, caps) &&
  planeOf(conv.window) !== null &&
  (s.out.at(-1)! % 4 === 0 || storesOne(call, caps)) &&
  s.images * s.groups <= MAX_GROUPS &&
  Math.ceil(s.out.at(-1)! / 4) * sizeOf(s.out.slice(0, -1)) <= 16 * MAX_GROUPS &&
  s.filters <= MAX_GROUPS;

/**
 * `take_filters(g, filter)`: where the weights of four filters of group g start; `take_w(f, k)`: those of entry k = (channel, tap). Constants
 * are packed so that the four are neighbours.
 */
function filterWeights(
  call: Call,
  s: Sizes,
  taps: number,
  transposed: boolean,
): { ref: Ref; types: Parts['types']; text: string } {
  const { filters, channels, groups } = s;
  const elem = elemOf(call.inputs[1]!.dtype)!;
  const K = channels * taps;
  if (s.fixed) {
    const quads = Math.ceil(filters / 4);
    // Quads beyond the last of a tile read the last: it is there, and they are not stored.
    const pack = {
      name: 'conv.quads',
      args: [groups, filters, channels, taps, transposed ? 1 : 0],
      bytes: groups * quads * K * 4 * (elem === 'f32' ? 4 : 2),
    };
    const start = `fn take_filters(g: u32, first: u32) -> u32 { let quads = (u.filters + 3u) >> 2u; return (g * quads + min(first >> 2u, quads - 1u)) * u.channels * ${taps}u; }`;
    if (elem === 'f32')
      return {
        ref: { input: 1, pack },
        types: {},
        text: `alias WeightsStore = vec4f;\n${start}\nfn take_w(f: u32, k: u32) -> vec4f { return weights[f + k]; }`,
      };
    return {
      ref: { input: 1, pack },
      types: { weights: elem },
      text: `${start}\nfn take_w(f: u32, k: u32) -> vec4f { return load4_weights(f + k); }`,
    };
  }
  const start = `fn take_filters(g: u32, first: u32) -> vec4u { let f = min(vec4u(first) + vec4u(0u, 1u, 2u, 3u), vec4u(u.filters - 1u)); return ${transposed ? `(g * u.channels * u.filters + f) * ${taps}u` : `(g * u.filters + f) * u.channels * ${taps}u`}; }`;
  const at = transposed
    ? `let ch = k / ${taps}u; let at = f + ch * u.filters * ${taps}u + (k - ch * ${taps}u);`
    : 'let at = f + k;';
  return {
    ref: { input: 1 },
    types: { weights: elem },
    text: `${start}\nfn take_w(f: vec4u, k: u32) -> vec4f { ${at} return vec4f(load_weights(at.x), load_weights(at.y), load_weights(at.z), load_weights(at.w)); }`,
  };
}

const anyKernel = (family: string, of: ConvOf): GpuKernel => ({
  name: `${family}.any`,
  accepts: (call, caps) => computes(call, caps) && of(call).window.kernel.length <= 3,
  launch: (call, caps) => {
    const conv = of(call);
    const s = sizesOf(call, conv);
    const w = conv.window;
    const three = (list: readonly number[], fill: number): number[] => [
      ...new Array<number>(3 - list.length).fill(fill),
      ...list,
    ];
    const count = sizeOf(call.outputs[0]!.shape);
    const put = putOf(call, caps, true, finishOf(call, biasOf(call)));
    return {
      module: convAny,
      types: { x: elemOf(call.inputs[0]!.dtype)!, weights: elemOf(call.inputs[1]!.dtype)!, ...put.types },
      params: { TRANSPOSED: conv.transposed ? 1 : 0 },
      slots: { put: put.text },
      uniforms: {
        count,
        channels: s.channels,
        filters: s.filters,
        groups: s.groups,
        size: three(s.size, 1),
        out: three(s.out, 1),
        kernel: three(w.kernel, 1),
        strides: three(w.strides, 1),
        dilations: three(w.dilations, 1),
        pads: three(w.pads.slice(0, s.size.length), 0),
      },
      workgroups: grid(Math.ceil(count / 4), 64),
      bind: [{ input: 0 }, { input: 1 }, { output: 0 }],
      extra: put.extra,
      extraUniforms: put.extraUniforms,
    };
  },
});

/** Four pixels by one, two or four quads of filters an invocation. */
const directKernel = (family: string, of: ConvOf): GpuKernel => ({
  name: `${family}.direct`,
  accepts: (call, caps) => {
    const conv = of(call);
    return fitsPlane(call, caps, conv, sizesOf(call, conv));
  },
  tunables: { FQ: [1, 2, 4] },
  launch: (call, caps, tuned) => {
    const conv = of(call);
    const s = sizesOf(call, conv);
    const plane = planeOf(conv.window)!;
    const FQ = tuned.FQ ?? (s.filters > 4 && !caps.software ? 2 : 1);
    const channels = numberText(s.channels, s.fixed && !caps.software, 'u.channels');
    return planeLaunch(
      call,
      caps,
      s,
      FQ * 4,
      filterWeights(call, s, sizeOf(conv.window.kernel), conv.transposed),
      conv.transposed ? transposedTile(plane, FQ, channels) : filtersTile(plane, FQ, channels),
    );
  },
});

/** Kernels of a convolution. */
export function convKernels(windowOf: ConvOf): readonly GpuKernel[] {
  const once = ofLast(windowOf);
  const of: ConvOf = (c) => once(c, null);
  const unfolded = productKernels('conv', (call, caps) => productOf(call, caps, of(call), true)).filter(
    (k) => k.name !== 'conv.any',
  );
  const depthwise: GpuKernel = {
    name: 'conv.depthwise',
    accepts: (call, caps) => {
      const conv = of(call);
      const s = sizesOf(call, conv);
      return s.channels === 1 && s.groups > 1 && s.groups * s.filters <= MAX_GROUPS && fitsPlane(call, caps, conv, s);
    },
    launch: (call, caps) => {
      const conv = of(call);
      const s = sizesOf(call, conv);
      return planeLaunch(
        call,
        caps,
        s,
        1,
        { ref: { input: 1 }, types: { weights: elemOf(call.inputs[1]!.dtype)! }, text: '' },
        depthwiseTile(planeOf(conv.window)!),
        true,
      );
    },
  };
  const gather = unfolded.find((k) => k.name === 'conv.direct')!;
  return [
    ...productKernels('conv.pointwise', (call, caps) => productOf(call, caps, of(call), false)),
    depthwise,
    ...unfolded.filter((k) => k !== gather && k.name !== 'conv.small'),
    directKernel('conv', of),
    { ...gather, name: 'conv.gather', accepts: (call, caps) => !caps.software && gather.accepts!(call, caps) },
    anyKernel('conv', of),
  ];
}

/** Kernels of a transposed convolution. */
export const convTransposeKernels = (of: ConvOf): readonly GpuKernel[] => [
  directKernel('conv-transpose', of),
  anyKernel('conv-transpose', of),
];
