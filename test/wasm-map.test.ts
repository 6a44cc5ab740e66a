import { describe, expect, test } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import type { WasmCaps } from '../src/core/plan.ts';
import { tensor } from '../src/core/tensor.ts';
import { wasmKernels } from '../kernels/index.ts';
import { compile } from '../kernels/expr-eval.ts';
import { constant, type Ex, type Fn, input, kindOf, x } from '../kernels/expr.ts';
import { maps } from '../kernels/map.ts';
import { mapEmitter } from '../kernels/wasm/map.ts';
import { agree, CAPS, DIMS, runOp, SHARED, source } from './wasm-device.ts';

const map = maps[0]!;
const attrsOf = (expr: Ex, dtype: DType) => ({ expr: JSON.stringify(expr), dtype });
const f = input(0, 'f32');
const g = input(1, 'f32');

/** Errors in units of 2^-24 of the result; below 2^-126 absolute. */
const unary: readonly [Fn, units: number, low: number, high: number][] = [
  ['exp', 2, -104, 89],
  ['log', 2.5, 1e-38, 3e38],
  ['log', 2.5, 0.4, 2.5],
  ['sin', 2.5, -10, 10],
  ['cos', 2.5, -10, 10],
  ['tan', 5, -10, 10],
  ['sin', 2.5, -1e9, 1e9],
  ['cos', 2.5, -3e38, 3e38],
  ['tan', 5, -1e6, 1e6],
  ['asin', 5, -1, 1],
  ['acos', 5, -1, 1],
  ['atan', 4, -20, 20],
  ['sinh', 4.5, -89, 89],
  ['sinh', 4.5, -2, 2],
  ['cosh', 4, -89, 89],
  ['tanh', 5, -10, 10],
  ['tanh', 5, -0.1, 0.1],
  ['asinh', 5, -3e38, 3e38],
  ['asinh', 5, -4, 4],
  ['acosh', 5, 1, 1e10],
  ['acosh', 5, 1, 2],
  ['atanh', 5, -1, 1],
  ['erf', 6, -5, 5],
  ['erf', 5, -0.01, 0.01],
  ['sigmoid', 4, -87, 100],
  ['softplus', 4, -87, 200],
  ['sqrt', 1, 0, 100],
  ['rsqrt', 2, 0, 100],
  ['abs', 0, -5, 5],
  ['neg', 0, -5, 5],
  ['sign', 0, -1, 1],
  ['floor', 0, -9, 9],
  ['ceil', 0, -9, 9],
  ['round', 0, -9, 9],
  ['trunc', 0, -9, 9],
];
const SPECIAL = [
  0,
  -0,
  1,
  -1,
  0.5,
  -0.5,
  1.5,
  2.5,
  -2.5,
  Infinity,
  -Infinity,
  NaN,
  1e-40,
  -1e-40,
  2 ** -149,
  -(2 ** -149),
  2 ** -126,
  -(2 ** -126),
  1.17e-38,
  3.4e38,
  -3.4e38,
  88.8,
  -88.8,
  103,
  -104,
  1e10,
  2 ** 26,
  2 ** 30,
  1e30,
];

/** Every exponent, every sign: NaN and infinities among them. */
const ANY = (s: ReturnType<typeof source>): Float32Array =>
  new Float32Array(Uint32Array.from({ length: 4000 }, () => s.next() * 2 ** 32).buffer);

/** The largest error of `fn` on `values` in units, and where. */
function largest(fn: Fn, caps: WasmCaps, values: ArrayLike<number>): { worst: number; at: string } {
  const t = fromNumbers('float32', [values.length], values);
  const got = numbers(
    runOp(map, { attrs: attrsOf({ k: 'f32', f: fn, a: [f] }, 'float32'), inputs: [t], caps }).outputs[0]!,
  );
  const of = compile({ k: 'f64', f: fn, a: [input(0, 'f64')] });
  let worst = 0;
  let at = '';
  for (let i = 0; i < values.length; i++) {
    const v = numbers(t)[i]!;
    const want = of([v]) as number;
    const rounded = Math.fround(want);
    if (Object.is(got[i], rounded) || (got[i] !== got[i] && want !== want)) continue;
    if (
      (fn === 'sigmoid' || fn === 'softplus') &&
      v < -87.3 &&
      (v < -88.4 ? got[i] === 0 : got[i]! >= 0 && got[i]! < 2 ** -125)
    )
      continue;
    if (!Number.isFinite(rounded) || got[i] !== got[i]) {
      expect(got[i], `${fn}(${v})`).toBe(rounded);
      continue;
    }
    const absolute = fn === 'log' || fn === 'acos' ? 1 : 0; // next to their zero
    const e = (Math.abs(got[i]! - want) / Math.max(Math.abs(want), 2 ** -126 * 4, absolute * 2 ** -2)) * 2 ** 24;
    if (e > worst) {
      worst = e;
      at = `${fn}(${v}) = ${got[i]}, not ${want}`;
    }
  }
  if (process.env.SARDONYX_WORST) console.log(worst.toFixed(2), at);
  return { worst, at };
}

describe('functions of f32 agree with float64', () => {
  for (const caps of CAPS)
    for (const [fn, units, low, high] of unary)
      test(`${fn} on [${low}, ${high}]${caps.fma ? ' fma' : ''}`, () => {
        const s = source(7);
        const wide = high / Math.max(low, 1e-9) > 1e6 && low > 0;
        const { worst, at } = largest(fn, caps, [
          ...SPECIAL,
          ...Array.from({ length: 4000 }, () =>
            wide ? low * (high / low) ** s.next() : low + (high - low) * s.next(),
          ),
        ]);
        expect(worst, at).toBeLessThanOrEqual(units);
      });
  for (const caps of CAPS)
    for (const fn of new Set(unary.map(([name]) => name)))
      test(`${fn} of any float${caps.fma ? ' fma' : ''}`, () => {
        const { worst, at } = largest(fn, caps, ANY(source(9)));
        expect(worst, at).toBeLessThanOrEqual(
          Math.max(...unary.filter(([name]) => name === fn).map(([, units]) => units)),
        );
      });
  test('x · sigmoid(x) vanishes far below 0', () => {
    for (const caps of CAPS) {
      const got = runOp(map, {
        attrs: attrsOf(x.mul(f, x.sigmoid(f)), 'float32'),
        inputs: [fromNumbers('float32', [4], [-100, -88250, -1e30, -3.4e38])],
        caps,
      }).outputs[0]!;
      expect(Array.from(numbers(got), Math.abs)).toEqual([0, 0, 0, 0]);
    }
  });
  test('pow, rem, mod', async () => {
    const s = source(8);
    const a = [
      ...SPECIAL.flatMap((v) => SPECIAL.map(() => v)),
      ...Array.from({ length: 2000 }, () => s.next() * 20 - 5),
    ];
    const b = [
      ...SPECIAL.flatMap(() => SPECIAL),
      ...Array.from({ length: 2000 }, () => (s.next() < 0.3 ? s.int(-9, 9) : s.next() * 20 - 10)),
    ];
    const [p, q] = [fromNumbers('float32', [a.length], a), fromNumbers('float32', [b.length], b)];
    for (const expr of [x.pow(f, g), x.rem(f, g), x.mod(f, g)])
      await agree(map, { attrs: attrsOf(expr, 'float32'), inputs: [p, q], atol: 1e-45, rtol: 1.3e-7 });
    for (const y of [0, 1, 2, 3, 4, -1, -2, 0.5, -0.5, 1.7])
      await agree(map, {
        attrs: attrsOf(x.pow(f, constant(y, 'f32')), 'float32'),
        inputs: [p],
        atol: 3e-45,
        rtol: 2e-7,
      });
  });
});

/** Quiet and signalling NaNs of both signs, with all low bits that an exponent could be made of. */
const NANS = tensor(
  'float32',
  [2046],
  new Float32Array(
    Uint32Array.from(
      { length: 2046 },
      (_, i) => [0x7fc00000, 0xffc00000, 0x7f800000, 0xff800000][i & 3]! + (i >> 2) + (i & 2 ? 1 : 0),
    ).buffer,
  ),
);

describe('any NaN stays one', () => {
  const survives = (expr: Ex, caps: WasmCaps, ...rest: number[][]): void => {
    const got = runOp(map, {
      attrs: attrsOf(expr, 'float32'),
      inputs: [NANS, ...rest.map((r) => tensor('float32', [r.length], Float32Array.from(r)))],
      caps,
    }).outputs[0]!.data as Float32Array;
    const lost = got.findIndex((v) => !Number.isNaN(v));
    if (lost >= 0)
      throw new Error(
        `${JSON.stringify(expr)} of NaN ${(new Uint32Array((NANS.data as Float32Array).buffer)[lost]! >>> 0).toString(16)} is ${got[lost]}`,
      );
  };
  const functions = new Set(unary.map(([fn]) => fn));
  for (const caps of CAPS)
    test(caps.fma ? 'fma' : 'mul and add', () => {
      for (const fn of functions) survives({ k: 'f32', f: fn, a: [f] }, caps);
      for (const e of [
        x.add(f, g),
        x.sub(g, f),
        x.mul(f, g),
        x.div(g, f),
        x.min(f, g),
        x.max(g, f),
        x.min(g, f),
        x.max(f, g),
        x.rem(f, g),
        x.mod(g, f),
        x.pow(f, g),
        x.pow(g, f),
      ])
        for (const other of [2.5, -0.5, Infinity]) survives(e, caps, [other]);
      for (const y of [1, 2, 3, 4, -1, -2, 0.5, 1.7]) survives(x.pow(f, constant(y, 'f32')), caps);
      survives(x.min(x.max(f, constant(0, 'f32')), constant(6, 'f32')), caps);
    });
});

test('sums, differences, products and quotients of special values', async () => {
  const [p, q] = [
    fromNumbers('float32', [SPECIAL.length, 1], SPECIAL),
    fromNumbers('float32', [SPECIAL.length], SPECIAL),
  ];
  for (const e of [x.add(f, g), x.sub(f, g), x.mul(f, g), x.div(f, g)])
    for (const caps of CAPS) await agree(map, { attrs: attrsOf(e, 'float32'), inputs: [p, q], atol: 0, rtol: 0, caps });
});

test('min and max propagate NaN; constants too', async () => {
  const s = source(3);
  const v = [...SPECIAL, ...Array.from({ length: 40 }, () => s.next() - 0.5)];
  const p = fromNumbers('float32', [v.length, 1], v);
  const q = fromNumbers('float32', [v.length], v);
  for (const e of [x.min(f, g), x.max(f, g)])
    await agree(map, { attrs: attrsOf(e, 'float32'), inputs: [p, q], atol: 0, rtol: 0 });
  for (const e of [x.min(f, constant(6, 'f32')), x.max(constant(0, 'f32'), f), x.max(f, constant(NaN, 'f32'))])
    await agree(map, { attrs: attrsOf(e, 'float32'), inputs: [q], atol: 0, rtol: 0 });
});

const TYPES: readonly DType[] = [
  'float32',
  'float16',
  'bfloat16',
  'float64',
  'int8',
  'int16',
  'int32',
  'int64',
  'uint8',
  'uint16',
  'uint32',
  'uint64',
  'bool',
];
const INTS: readonly DType[] = TYPES.filter((d) => d.includes('int'));

test('integers: every function, division by zero and overflow included', async () => {
  const edges: Readonly<Record<string, readonly (bigint | number)[]>> = {
    int32: [0, 1, -1, 2, -2, 7, -7, 31, 32, 33, 2147483647, -2147483648],
    uint32: [0, 1, 2, 7, 31, 32, 33, 4294967295, 2147483648],
    int64: [0n, 1n, -1n, 2n, -2n, 7n, -7n, 63n, 64n, 9223372036854775807n, -9223372036854775808n],
    uint64: [0n, 1n, 2n, 7n, 63n, 64n, 18446744073709551615n],
    int8: [0, 1, -1, 127, -128, 5],
    uint8: [0, 1, 255, 7],
    int16: [0, 1, -1, 32767, -32768],
    uint16: [0, 1, 65535, 9],
  };
  for (const d of INTS) {
    const k = kindOf(d)!;
    const [a, b] = [input(0, k), input(1, k)];
    const v = edges[d]!;
    const p = tensor(d, [v.length, 1], v as number[]);
    const q = tensor(d, [v.length], v as number[]);
    for (const e of [
      x.add(a, b),
      x.sub(a, b),
      x.mul(a, b),
      x.div(a, b),
      x.rem(a, b),
      x.mod(a, b),
      x.pow(a, b),
      x.min(a, b),
      x.max(a, b),
      x.and(a, b),
      x.or(a, b),
      x.xor(a, b),
      x.shl(a, b),
      x.shr(a, b),
      x.neg(a),
      x.abs(a),
      x.sign(a),
      x.not(a),
      x.wrap(a, 8),
      x.wrap(a, 4),
    ])
      await agree(map, { attrs: attrsOf(e, d), inputs: [p, q], atol: 0, rtol: 0 }, e.f);
    for (const e of [x.eq(a, b), x.lt(a, b), x.le(a, b), x.cast(a, 'bool')])
      await agree(map, { attrs: attrsOf(e, 'bool'), inputs: [p, q] }, e.f);
  }
});

test('bools are ordered, and may be chosen between', async () => {
  const [a, b] = [input(0, 'bool'), input(1, 'bool')];
  const [p, q] = [tensor('bool', [2, 1], [0, 1]), tensor('bool', [2], [0, 1])];
  for (const e of [
    x.lt(a, b),
    x.le(a, b),
    x.eq(a, b),
    x.and(a, b),
    x.or(a, b),
    x.xor(a, b),
    x.not(a),
    x.max(a, b),
    x.min(a, b),
    x.select(a, x.not(b), b),
  ])
    await agree(map, { attrs: attrsOf(e, 'bool'), inputs: [p, q] }, e.f);
});

test('casts between all dtypes', async () => {
  const s = source(4);
  for (const from of TYPES)
    for (const dtype of TYPES) {
      const t =
        from.startsWith('float') || from === 'bfloat16'
          ? fromNumbers(
              from,
              [37],
              [
                NaN,
                Infinity,
                -Infinity,
                0,
                -0,
                3e9,
                -3e9,
                65519,
                65520,
                1e-7,
                6e-8,
                3e-8,
                ...Array.from({ length: 25 }, () => (s.next() - 0.5) * 10 ** s.int(-6, 4)),
              ],
            )
          : s.tensor(from, [37]);
      await agree(map, {
        attrs: attrsOf(x.cast(input(0, kindOf(from)!), kindOf(dtype)!), dtype),
        inputs: [t],
        atol: 0,
        rtol: 0,
      });
    }
});

test('every half survives, and every rounding to half is right', async () => {
  const all = { dtype: 'float16' as const, shape: [65536], data: Uint16Array.from({ length: 65536 }, (_, i) => i) };
  await agree(map, { attrs: attrsOf(f, 'float32'), inputs: [all], atol: 0, rtol: 0 });
  const s = source(5);
  const t = fromNumbers(
    'float32',
    [20000],
    Array.from({ length: 20000 }, () => (s.next() - 0.5) * 2 ** s.int(-27, 18)),
  );
  for (const d of ['float16', 'bfloat16'] as const)
    await agree(map, { attrs: attrsOf(f, d), inputs: [t], atol: 0, rtol: 0 });
});

test('random expressions over random broadcasts', async () => {
  const s = source();
  for (let n = 0; n < 250; n++) {
    const shape = Array.from({ length: s.int(0, 4) }, (_, d) =>
      s.pick(n % 40 === 0 ? [0, 1, 3] : d === 0 ? DIMS : DIMS.slice(0, 7)),
    );
    const out = s.pick(TYPES);
    const types = Array.from({ length: s.int(1, 4) }, () => s.pick(TYPES));
    const inputs = types.map((d) =>
      s.tensor(d, shape.map((k) => (s.next() < 0.3 ? 1 : k)).slice(s.next() < 0.3 ? s.int(0, shape.length) : 0)),
    );
    const leaf = (k: Ex['k']): Ex =>
      s.next() < 0.15
        ? constant(s.int(0, 3), k)
        : x.cast(((i) => input(i, kindOf(types[i]!)!))(s.int(0, types.length - 1)), k);
    const tree = (k: Ex['k'], depth: number): Ex => {
      if (depth === 0) return leaf(k);
      const [a, b] = [() => tree(k, depth - 1), () => tree(k, depth - 1)];
      if (s.next() < 0.15) return x.select(x.lt(a(), b()), a(), b());
      if (s.next() < 0.1) return x.cast(tree(s.pick(['f32', 'i32', 'i64', 'u32', 'bool']), depth - 1), k);
      if (k === 'bool') return s.pick([x.and, x.or, x.xor])(a(), b());
      return s.pick(
        k === 'f32' || k === 'f64' ? [x.add, x.sub, x.mul, x.max, x.min] : [x.add, x.sub, x.mul, x.and, x.max, x.div],
      )(a(), b());
    };
    await agree(
      map,
      {
        attrs: attrsOf(tree(kindOf(out)!, s.int(0, 3)), out),
        inputs,
        caps: n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!,
        atol: 0,
        rtol: 0,
      },
      `trial ${n}`,
    );
  }
});

test('the same value may be read and overwritten where the kernel says so', () => {
  const kernel = wasmKernels[map.op]![0]!;
  const call = (a: number[], b: number[], y: number[]) =>
    kernel.inPlace!({
      inputs: [
        { dtype: 'float32', shape: a },
        { dtype: 'float16', shape: b },
      ],
      outputs: [{ dtype: 'float32', shape: y }],
      attrs: attrsOf(x.add(f, g), 'float32'),
    });
  expect(call([2, 3], [2, 3], [2, 3])).toEqual([[0, 0]]);
  expect(call([3], [2, 3], [2, 3])).toEqual([]);
  expect(call([1, 3], [3], [3].length === 1 ? [1, 3] : [])).toEqual([[0, 0]]);
});

test('a long chain is emitted quickly', () => {
  let e: Ex = f;
  for (let i = 0; i < 60; i++)
    e = i % 9 === 8 ? { k: 'f32', f: 'tanh', a: [e] } : x.add(x.mul(e, f), constant(i, 'f32'));
  const spec = {
    expr: e,
    out: 'float32' as const,
    operands: [{ dtype: 'float32' as const, inner: 'each' as const, flat: true }],
    outer: 0,
  };
  const t = performance.now();
  const bytes = mapEmitter.build(spec, CAPS[0]!);
  expect(WebAssembly.validate(bytes)).toBe(true);
  expect(bytes.length).toBeLessThan(20000);
  expect(performance.now() - t).toBeLessThan(200);
});
