/** Products and convolutions of quantised integers: exact sums in 32 bits, and what scales them back to bytes. */
import { BITS } from '../../src/core/dtype.ts';
import type { Fact } from '../../src/core/graph.ts';
import type { GpuCaps, Pack } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { matmulDirect } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import { constant, type Ex, input, kindOf, x } from '../expr.ts';
import type { MatMulShape } from '../matmul-shape.ts';
import { RANGE } from '../quantize-round.ts';
import { type ConvCall, sizesOf, unfold } from './conv.ts';
import { elemOf } from './elem.ts';
import { mapLaunch } from './map.ts';
import { productOf } from './matmul.ts';
import { numberText, type Product, productLaunch, putRows, type Source, storable } from './product.ts';
import { batches, directGroups, MAX_GROUPS, product, productKernels, rowsAtOnce } from './product-kernels.ts';
import { storeRows } from './product-tiles.ts';

/** Which inputs of a call are the operands and their zero points. */
interface Inputs {
  readonly a: number;
  readonly b: number;
  readonly zeroA: number;
  readonly zeroB: number;
}
const INTEGER: Inputs = { a: 0, b: 1, zeroA: 2, zeroB: 3 };
/** Of operators that bring scales. */
const LINEAR: Inputs = { a: 0, b: 3, zeroA: 2, zeroB: 5 };

const sums = (call: Call, shape: readonly number[]): Call => ({
  inputs: call.inputs,
  outputs: [{ dtype: 'int32', shape }],
  attrs: call.attrs,
});
const bytes = (...facts: readonly (Fact | null | undefined)[]): boolean =>
  facts.every((f) => f && BITS[f.dtype] === 8 && elemOf(f.dtype) !== undefined);
/** Is there none, or one number, or one of each of `count`? */
const spreads = (fact: Fact | null | undefined, count: number): boolean =>
  !fact || sizeOf(fact.shape) === 1 || (fact.shape.length === 1 && fact.shape[0] === count);

/** A zero point in text: nothing, one for all, or that at `at`; and its binding. */
function zeroOf(
  call: Call,
  n: number,
  name: string,
  at: string,
): { types: Source['types']; extra: NonNullable<Source['extra']>; one: boolean; text: (at?: string) => string } {
  const fact = call.inputs[n];
  if (!fact) return { types: {}, extra: [], one: true, text: () => '' };
  const one = sizeOf(fact.shape) === 1;
  return {
    types: { [name]: elemOf(fact.dtype)! },
    extra: [{ name, bind: { input: n } }],
    one,
    text: (own = at) => ` - i32(load_${name}(${one ? '0u' : own}))`,
  };
}

function integerProduct(call: Call, s: MatMulShape, i: Inputs): Product | null {
  const a = call.inputs[i.a]!;
  const b = call.inputs[i.b]!;
  if (!bytes(a, b) || !spreads(call.inputs[i.zeroA], s.m) || !spreads(call.inputs[i.zeroB], s.n)) return null;
  const za = zeroOf(call, i.zeroA, 'za', 'row % extra.a_rows');
  const zb = zeroOf(call, i.zeroB, 'zb', '');
  const base = productOf(
    {
      ...call,
      inputs: [
        { dtype: 'int32', shape: a.shape },
        { dtype: 'int32', shape: b.shape },
      ],
    },
    s,
    1,
    [],
  )!;
  const readA = (p: Product): Source => {
    const whole = p.a.col === 1 && p.a.row % 4 === 0 && p.a.batch.every((v) => v % 4 === 0);
    const four = whole
      ? 'vec4i(load4_a((o + k) >> 2u))'
      : 'vec4i(i32(load_a(o + k * u.a_col)), i32(load_a(o + (k + 1u) * u.a_col)), i32(load_a(o + (k + 2u) * u.a_col)), i32(load_a(o + (k + 3u) * u.a_col)))';
    return {
      ref: { input: i.a },
      types: { a: elemOf(a.dtype)!, ...za.types },
      extra: za.extra,
      extraUniforms: za.one ? [] : [{ name: 'a_rows', type: 'u32', value: s.m }],
      text: `fn take_a(o: u32, k: u32, row: u32) -> vec4i { return ${four}${za.text()}; }\nfn one_a(o: u32, k: u32, row: u32) -> i32 { return i32(load_a(o + k * u.a_col))${za.text()}; }`,
    };
  };
  const readB = (p: Product): Source => {
    const last = numberText(p.n - 1, false, '(u.n - 1u)');
    const columns = [0, 1, 2, 3].map((j) => (j === 0 ? 'n' : `min(n + ${j}u, ${last})`));
    const whole = p.b.col === 1 && p.n % 4 === 0 && p.b.row % 4 === 0 && p.b.batch.every((v) => v % 4 === 0);
    const four = whole
      ? 'vec4i(load4_b((o + k * u.b_row + n) >> 2u))'
      : `vec4i(${columns.map((c) => `i32(load_b(o + k * u.b_row + ${c} * u.b_col))`).join(', ')})`;
    const zero = zb.one ? zb.text() : ` + vec4i(${columns.map((c) => zb.text(c)).join(', ')})`;
    return {
      ref: { input: i.b },
      types: { b: elemOf(b.dtype)!, ...zb.types },
      extra: zb.extra,
      text: `fn take_b(o: u32, k: u32, n: u32) -> vec4i { return ${four}${zero}; }`,
    };
  };
  return { ...base, call: sums(call, s.shape), readA, readB };
}

/** The filters times the unfolded image; what is outside of it counts as the zero point. */
function integerConv(call: Call, conv: ConvCall, i: Inputs): Product | null {
  const image = call.inputs[i.a]!;
  const weights = call.inputs[i.b]!;
  const s = sizesOf({ ...call, inputs: [image, weights] }, conv);
  if (!bytes(image, weights) || call.attrs.channels_last || !spreads(call.inputs[i.zeroB], s.filters * s.groups))
    return null;
  const zx = zeroOf(call, i.zeroA, 'zx', '');
  const zw = zeroOf(call, i.zeroB, 'zw', 'o / u.a_row');
  const k = s.channels * sizeOf(conv.window.kernel);
  const area = sizeOf(s.size);
  const from = unfold(conv.window, s.size, s.out, zx.text());
  return {
    call: sums(call, call.outputs[0]!.shape),
    batch: [s.images, s.groups],
    m: s.filters,
    n: sizeOf(s.out),
    k,
    kind: 'i32',
    alpha: 1,
    addends: [],
    fixedDepth: s.fixed,
    a: { ref: { input: i.b }, elem: 'i32', row: k, col: 1, batch: [0, s.filters * k] },
    b: {
      ref: { input: i.a },
      elem: 'i32',
      row: area,
      col: 1,
      batch: [s.groups * s.channels * area, s.channels * area],
    },
    readA: () => ({
      ref: { input: i.b },
      types: { a: elemOf(weights.dtype)!, ...zw.types },
      extra: zw.extra,
      text: `fn one_a(o: u32, k: u32, row: u32) -> i32 { return i32(load_a(o + k))${zw.text()}; }\nfn take_a(o: u32, k: u32, row: u32) -> vec4i { return vec4i(one_a(o, k, row), one_a(o, k + 1u, row), one_a(o, k + 2u, row), one_a(o, k + 3u, row)); }`,
    }),
    readB: (p) => {
      const source = from(p);
      return { ...source, ref: { input: i.a }, types: { b: elemOf(image.dtype)!, ...zx.types }, extra: zx.extra };
    },
  };
}

/** Has b's values while planning, and rows of a that are whole words: four products an instruction. */
const dots = (family: string, of: (call: Call) => Product | null, i: Inputs): GpuKernel => {
  const formed = (call: Call, caps: GpuCaps): Product => product(of, call, caps)!;
  return {
    name: `${family}.dot`,
    accepts: (call, caps) => {
      const p = product(of, call, caps);
      const b = call.inputs[i.b]!;
      return (
        p !== null &&
        caps.dot4 === true &&
        b.constant !== undefined &&
        p.k > 0 &&
        p.a.col === 1 &&
        [p.k, p.a.row, ...p.a.batch].every((v) => v % 4 === 0) &&
        p.b.batch.every((v) => v % (p.k * p.n) === 0) &&
        storable(p, caps) &&
        batches(p) <= MAX_GROUPS &&
        p.m <= 4 * MAX_GROUPS &&
        p.n <= 16 * MAX_GROUPS
      );
    },
    tunables: { TM: [1, 2, 4, 8] },
    launch: (call, caps, tuned) => {
      const p = formed(call, caps);
      const [a, b] = [i.a, i.b].map((n) => call.inputs[n]!) as [Fact, Fact];
      const count = sizeOf(b.shape) / (p.k * p.n);
      const wide = Math.ceil(p.n / 4);
      const TM = tuned.TM ?? rowsAtOnce(p.m);
      const flip = (f: Fact): number => (f.dtype === 'uint8' ? 128 : 0);
      const packed = { ...p, b: { ...p.b, batch: p.b.batch.map((s) => (s / (p.k * p.n)) * (p.k / 4) * wide) } };
      const groups = directGroups(p, TM);
      const za = zeroOf(call, i.zeroA, 'za', `row % ${sizeOf(call.inputs[i.zeroA]?.shape ?? [1])}u`);
      const zb = zeroOf(call, i.zeroB, 'zb', '');
      const source = (input: number, name: string, store: string, zero: typeof za, pack?: Pack): Source => ({
        ref: { input, ...(pack ? { pack } : {}) },
        types: zero.types,
        extra: zero.extra,
        text: `alias ${name}Store = ${store};`,
      });
      return productLaunch(
        packed,
        matmulDirect,
        { TM },
        groups.workgroups,
        source(i.a, 'A', 'u32', za),
        source(i.b, 'B', 'vec4u', zb, {
          name: 'bytes.quads',
          args: [p.k, p.n, p.b.row, p.b.col, count, flip(b)],
          bytes: count * p.k * wide * 4,
        }),
        dotTile(
          TM,
          flip(a),
          flip(a) > 0 || za.extra.length > 0,
          flip(b) > 0 || zb.extra.length > 0,
          `-${flip(a)}${za.text().replace(' - ', ' + ')}`,
          `vec4i(-${flip(b)})${zb.one ? zb.text().replace(' - ', ' + ') : ` + vec4i(${[0, 1, 2, 3].map((j) => zb.text(`min(n + ${j}u, u.n - 1u)`).slice(3)).join(', ')})`}`,
        ),
        putRows(p)(caps),
        { output: 0 },
        groups.wide,
      );
    },
  };
};
/**
 * `movedA`: a has a zero point, so that b is added up, too; `movedB`: the other way round. `zeroA` of `row` and `zeroB`
 * of `n`: the zero points of signed bytes, which unsigned ones become by 128 less.
 */
const dotTile = (TM: number, flip: number, movedA: boolean, movedB: boolean, zeroA: string, zeroB: string): string => {
  const rows = (f: (r: number) => string): string => Array.from({ length: TM }, (_, r) => f(r)).join('\n');
  return `fn zero_a(row: u32) -> i32 { return ${zeroA}; }
fn zero_b(n: u32) -> vec4i { return ${zeroB}; }
const ONES = 0x01010101u;
fn dots(v: u32, w: vec4u) -> vec4i { return vec4i(dot4I8Packed(v, w.x), dot4I8Packed(v, w.y), dot4I8Packed(v, w.z), dot4I8Packed(v, w.w)); }
fn tile(a0: u32, b0: u32, y0: u32, row: u32, n: u32) {
  let wide = (u.n + 3u) >> 2u;
${rows((r) => `  let m${r} = min(row + ${r}u, u.m - 1u); let o${r} = (a0 + m${r} * u.a_row) >> 2u; var c${r} = vec4i(0); var s${r} = 0;`)}
  var t = vec4i(0);
  for (var q = 0u; q < (u.k >> 2u); q++) {
    let w = b[b0 + q * wide + (n >> 2u)];
${movedA ? '    t += dots(ONES, w);\n' : ''}${rows((r) => `    { let v = a[o${r} + q]${flip > 0 ? ' ^ 0x80808080u' : ''}; c${r} += dots(v, w);${movedB ? ` s${r} += dot4I8Packed(v, ONES);` : ''} }`)}
  }
  let zb = zero_b(n);
${movedA || movedB ? rows((r) => `  c${r} += (i32(u.k) * zb - t) * zero_a(m${r}) - zb * s${r};`) : ''}
${storeRows(
  TM,
  'row',
  'u.m',
  (r) => `c${r}`,
  (r) => `put(y0 + (row + ${r}) * u.n + n, v, u.n - n);`,
)}
}`;
};

const direct = (family: string, of: (call: Call) => Product | null): GpuKernel =>
  productKernels(family, of).find((k) => k.name === `${family}.direct`)!;

/** An input of a call under a shape in which it broadcasts to the output. */
type Operand = readonly [input: number, shape: readonly number[]];
/** How sums become output 0: of its inputs' values, the sums being the last. */
interface Scaling {
  readonly operands: readonly Operand[];
  readonly expr: (values: readonly Ex[], sum: Ex) => Ex;
}

/** Sums in a first dispatch, left as int32; scaled in a second. */
const scaled = (kernel: GpuKernel, scaling: (call: Call) => Scaling | null): GpuKernel => {
  return {
    ...kernel,
    name: `${kernel.name}-scaled`,
    accepts: (call, caps) =>
      scaling(call)?.operands.every(([i]) => elemOf(call.inputs[i]!.dtype) !== undefined) === true &&
      kernel.accepts!(call, caps),
    scratch: (call) => [sizeOf(call.outputs[0]!.shape) * 4],
    launch: (call, caps, tuned) => {
      const { operands, expr } = scaling(call)!;
      const out = call.outputs[0]!;
      const facts = operands.map(([i, shape]) => ({
        fact: { dtype: call.inputs[i]!.dtype, shape },
        bind: { input: i },
      }));
      const values = facts.map(({ fact }, n) => input(n, kindOf(fact.dtype)!));
      const first = kernel.launch(call, caps, tuned) as Launch;
      return [
        { ...first, bind: first.bind.map((ref) => ('output' in ref ? { scratch: 0 } : ref)) },
        mapLaunch(expr(values, input(values.length, 'i32')), out, { output: 0 }, [
          ...facts,
          { fact: { dtype: 'int32', shape: out.shape }, bind: { scratch: 0 } },
        ]),
      ];
    },
  };
};
const real = (v: Ex): Ex => x.cast(v, 'f32');
/** Rounded to even, moved by the zero point and saturated. */
const rounded = (call: Call, v: Ex, zero: Ex): Ex => {
  const { dtype } = call.outputs[0]!;
  const [least, most] = RANGE[dtype]!;
  return x.cast(
    x.min(x.max(x.add(x.round(v), real(zero)), constant(least, 'f32')), constant(most, 'f32')),
    kindOf(dtype)!,
  );
};

/** Both ways to a product; the dots first. */
const both = (family: string, of: (call: Call) => Product | null, i: Inputs): readonly GpuKernel[] => [
  dots(family, of, i),
  direct(family, of),
];
/** MatMulInteger: zero points for all, or for each row of a and each column of b. */
export const integerProductKernels = (shape: (call: Call) => MatMulShape): readonly GpuKernel[] =>
  both('matmul-integer', (call) => integerProduct(call, shape(call), INTEGER), INTEGER);

/** QLinearMatMul: scales for all, or for each row of a and each column of b. */
export const linearProductKernels = (shape: (call: Call) => MatMulShape): readonly GpuKernel[] =>
  both('qlinear-matmul', (call) => integerProduct(call, shape(call), LINEAR), LINEAR).map((k) =>
    scaled(k, (call) => {
      const { m, n } = shape(call);
      const at = (i: number): readonly number[] => call.inputs[i]!.shape;
      const rows = sizeOf(at(1)) !== 1;
      if (
        !bytes(call.outputs[0]) ||
        !spreads(call.inputs[1], m) ||
        !spreads(call.inputs[4], n) ||
        [6, 7].some((i) => sizeOf(at(i)) !== 1) ||
        (rows && at(0).length < 2)
      )
        return null;
      return {
        operands: [
          [1, rows ? [m, 1] : []],
          [4, sizeOf(at(4)) === 1 ? [] : [n]],
          [6, []],
          [7, []],
        ],
        expr: ([a, b, y, zero], sum) => rounded(call, x.mul(real(sum), x.div(x.mul(a!, b!), y!)), zero!),
      };
    }),
  );

/** QGemm: to bytes, or to real numbers where there is no zero point for them. */
export const quantizedGemmKernels = (shape: (call: Call) => MatMulShape): readonly GpuKernel[] =>
  both('qgemm', (call) => integerProduct(call, shape(call), LINEAR), LINEAR).map((k) =>
    scaled(k, (call) => {
      const [bias, scale, zero] = [6, 7, 8].map((i) => call.inputs[i] ?? null);
      const { n } = shape(call);
      const operands: Operand[] = [
        [1, []],
        [4, sizeOf(call.inputs[4]!.shape) === 1 ? [] : [n]],
        ...(zero
          ? ([
              [7, []],
              [8, []],
            ] as Operand[])
          : []),
        ...(bias ? ([[6, bias.shape]] as Operand[]) : []),
      ];
      return {
        operands,
        expr: (values, sum) => {
          const whole = bias ? x.add(sum, values.at(-1)!) : sum;
          const by = x.mul(x.mul(constant(call.attrs.alpha, 'f32'), values[0]!), values[1]!);
          return zero && scale
            ? rounded(call, x.mul(real(whole), x.div(by, values[2]!)), values[3]!)
            : x.mul(real(whole), by);
        },
      };
    }),
  );

export const convIntegerKernels = (of: (call: Call) => ConvCall): readonly GpuKernel[] => [
  direct('conv-integer', (call) => integerConv(call, of(call), INTEGER)),
];

/** QLinearConv with its channels first: a scale for all, or for each filter. */
export const linearConvKernels = (of: (call: Call) => ConvCall): readonly GpuKernel[] => [
  scaled(
    direct('qlinear-conv', (call) => (call.attrs.channels_last ? null : integerConv(call, of(call), LINEAR))),
    (call) => {
      const bias = call.inputs[8];
      const filter = (i: number): Operand => [
        i,
        sizeOf(call.inputs[i]!.shape) === 1 && i !== 8
          ? []
          : [sizeOf(call.inputs[i]!.shape), ...call.inputs[0]!.shape.slice(2).map(() => 1)],
      ];
      return {
        operands: [[1, []], filter(4), [6, []], [7, []], ...(bias ? [filter(8)] : [])],
        expr: ([xs, ws, ys, zero, b], sum) =>
          rounded(call, x.mul(real(b ? x.add(sum, b) : sum), x.div(x.mul(xs!, ws!), ys!)), zero!),
      };
    },
  ),
];
