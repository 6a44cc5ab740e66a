import { beforeAll, describe, expect, test } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { bfloatBits, bfloatValue } from '../src/core/floats.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, tensor, type Tensor } from '../src/core/tensor.ts';
import { type Gpu, requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { constant, type Ex, type Fn, input, type Kind, x } from '../kernels/expr.ts';
import { broadcast, broadcastStrides, eachOffset } from '../kernels/shapes.ts';
import type { Epilogue, GpuKernel } from '../kernels/define.ts';
import { elemOf } from '../kernels/webgpu/elem.ts';
import { epilogueFits, epilogueOf } from '../kernels/webgpu/epilogue.ts';
import { mapKernel } from '../kernels/webgpu/map.ts';
import { callWith, runGpuKernel } from './gpu-harness.ts';
import { shader } from '../wgsl/shader.ts';

let gpu: Gpu;
beforeAll(async () => {
  gpu = await requestGpuDevice({ allowSoftware: true });
});

async function map(expr: Ex, dtype: DType, inputs: readonly Tensor[]): Promise<Tensor> {
  const out = { dtype, shape: broadcast(...inputs.map((t) => t.shape)) };
  const [y] = await runGpuKernel(
    gpu.device,
    gpu.caps,
    mapKernel,
    callWith(inputs, [out], { expr: JSON.stringify(expr), dtype }),
    inputs,
  );
  return y!;
}

/** |a - b| within atol + rtol |b|; NaN and infinities alike. */
function near(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  rtol: number,
  atol: number,
  what: (i: number) => string = String,
): void {
  expect(a.length).toBe(b.length);
  for (let i = 0; i < b.length; i++) {
    if (Object.is(a[i], b[i]) || a[i] === b[i]) continue;
    expect(Math.abs(a[i]! - b[i]!), `${what(i)}: ${a[i]} is not ${b[i]}`).toBeLessThanOrEqual(
      atol + rtol * Math.abs(b[i]!),
    );
  }
}

const erf = (v: number): number => {
  if (Math.abs(v) > 6) return Math.sign(v);
  let sum = 0;
  let term = v;
  for (let n = 0; n < 200; n++) {
    sum += term / (2 * n + 1);
    term *= (-v * v) / (n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
};
const evenRound = (v: number): number => (Math.abs(v % 1) === 0.5 ? 2 * Math.round(v / 2) : Math.round(v));
const WIDE = [
  0,
  -0,
  0.1,
  -0.1,
  0.3,
  -0.5,
  0.5,
  0.7,
  1,
  -1,
  1.5,
  -1.5,
  2.5,
  -2.5,
  3.3,
  -7.7,
  12.25,
  44.5,
  -44.5,
  87,
  -87,
  100,
  -120,
  1e4,
  -1e4,
  3e10,
  -3e10,
  NaN,
  Infinity,
  -Infinity,
];
const ANGLES = [
  0,
  0.5,
  -0.5,
  1,
  1.5707964,
  3.1415927,
  -3.1415927,
  6.2831855,
  10,
  -55.5,
  1000.25,
  8191,
  8193,
  -1e5,
  123456789,
  1e15,
  -3.4e38,
  2 ** 30,
  NaN,
  Infinity,
];
const UNIT = [0, 1e-4, 0.1, -0.1, 0.3, 0.49, 0.5, -0.51, 0.7, -0.9, 0.999, 1, -1, 1.5, -2, NaN];

const UNARY: readonly [Fn, (v: number) => number, readonly number[], number, number][] = [
  ['neg', (v) => -v, WIDE, 0, 0],
  ['abs', Math.abs, WIDE, 0, 0],
  ['sign', Math.sign, WIDE, 0, 0],
  ['sqrt', Math.sqrt, WIDE, 1e-6, 0],
  ['rsqrt', (v) => 1 / Math.sqrt(v), [0.1, 1, 4, 1e10], 1e-6, 0],
  ['exp', Math.exp, WIDE.filter((v) => Math.abs(v) < 90 || v !== v || v > 500), 2e-5, 1e-37],
  ['log', Math.log, [1e-10, 0.5, 0.99, 1, 1.01, 2, 1e10, 0, Infinity], 1e-6, 1e-6],
  ['floor', Math.floor, WIDE, 0, 0],
  ['ceil', Math.ceil, WIDE, 0, 0],
  ['trunc', Math.trunc, WIDE, 0, 0],
  ['round', evenRound, WIDE, 0, 0],
  ['sin', Math.sin, ANGLES, 0, 3e-7],
  ['cos', Math.cos, ANGLES, 0, 3e-7],
  ['tan', Math.tan, ANGLES.filter((v) => Math.abs(Math.cos(v)) > 1e-3), 2e-6, 1e-6],
  ['asin', Math.asin, UNIT, 1e-6, 0],
  ['acos', Math.acos, UNIT, 1e-6, 3e-7],
  ['atan', Math.atan, WIDE, 1e-6, 0],
  ['sinh', Math.sinh, WIDE.filter((v) => Math.abs(v) < 90 || v !== v), 1e-5, 0],
  ['cosh', Math.cosh, WIDE.filter((v) => Math.abs(v) < 90 || v !== v), 1e-5, 0],
  ['tanh', Math.tanh, WIDE, 1e-6, 0],
  ['asinh', Math.asinh, WIDE, 1e-6, 0],
  ['acosh', Math.acosh, [1, 1.001, 1.5, 10, 1e5, 1e30, 0.5, NaN], 2e-6, 1e-6],
  ['atanh', Math.atanh, UNIT, 1e-6, 0],
  ['erf', erf, WIDE, 1e-6, 0],
  ['sigmoid', (v) => 1 / (1 + Math.exp(-v)), WIDE, 2e-5, 1e-37],
  ['softplus', (v) => (v > 30 ? v : Math.log1p(Math.exp(v))), WIDE, 2e-5, 1e-37],
];
describe('functions of a float', () => {
  for (const [fn, of, points, rtol, atol] of UNARY)
    test(fn, async () => {
      const v = fromNumbers('float32', [points.length], points);
      const y = await map(x[fn as 'exp'](input(0, 'f32')), 'float32', [v]);
      near(
        numbers(y),
        Array.from(numbers(v), (p) => Math.fround(of(p))),
        rtol,
        atol,
        (i) => `${fn}(${points[i]})`,
      );
    });
});

const fmod = (a: number, b: number): number => a % b;
const pymod = (a: number, b: number): number => {
  const r = a % b;
  return r !== 0 && r < 0 !== b < 0 ? r + b : r;
};
const nanMin = (a: number, b: number): number => Math.min(a, b);
const nanMax = (a: number, b: number): number => Math.max(a, b);
const FLOATS = [1.5, -1.5, 0.25, 3, -3, 2, 7.3, -7.3, 1e-3, 5e6, 1e30];
const PAIRS: readonly [Fn, (a: number, b: number) => number, readonly number[], number][] = [
  ['add', (a, b) => a + b, FLOATS, 0],
  ['sub', (a, b) => a - b, FLOATS, 0],
  ['mul', (a, b) => a * b, FLOATS, 1e-7],
  ['div', (a, b) => a / b, FLOATS, 4e-7],
  ['min', nanMin, [...FLOATS, NaN, Infinity, -Infinity], 0],
  ['max', nanMax, [...FLOATS, NaN, Infinity, -Infinity], 0],
  ['rem', fmod, [...FLOATS, Infinity, NaN, 0], 0],
  ['mod', pymod, FLOATS, 1e-6],
  [
    'pow',
    (a, b) => (Math.abs(a) === 1 && Math.abs(b) === Infinity ? 1 : a ** b),
    [1.5, -1.5, 0.25, 3, -3, 2, 7.25, -2, 0, 1, -1, 0.5, Infinity],
    2e-5,
  ],
];
describe('functions of two floats', () => {
  for (const [fn, of, points, rtol] of PAIRS)
    test(fn, async () => {
      const a = fromNumbers('float32', [points.length, 1], points);
      const b = fromNumbers('float32', [points.length], points);
      const y = await map(x[fn as 'add'](input(0, 'f32'), input(1, 'f32')), 'float32', [a, b]);
      const fa = numbers(a);
      const pairs = Array.from(fa, (p) => Array.from(fa, (q) => [p, q] as const)).flat();
      near(
        numbers(y),
        pairs.map(([p, q]) => Math.fround(of(p, q))),
        rtol,
        1e-38,
        (i) => `${fn}(${pairs[i]})`,
      );
    });
  test('pow of constant exponents', async () => {
    for (const e of [1, 2, 3, 4, 0.5, -0.5, -1, 1.7]) {
      const y = await map(x.pow(input(0, 'f32'), constant(e, 'f32')), 'float32', [
        fromNumbers('float32', [3], [0.3, 2, 9.5]),
      ]);
      near(
        numbers(y),
        [0.3, 2, 9.5].map((v) => v ** e),
        1e-5,
        0,
      );
    }
  });
});

const LONGS = [
  0n,
  1n,
  -1n,
  2n,
  -2n,
  7n,
  -7n,
  63n,
  1n << 31n,
  -(1n << 31n),
  4294967295n,
  4294967296n,
  123456789012345n,
  -987654321098765n,
  (1n << 63n) - 1n,
  -(1n << 63n),
  (1n << 62n) + 12345n,
];
const SHORTS = [0, 1, -1, 2, -2, 7, -7, 31, 1000003, -65536, 2147483647, -2147483648];
const bdiv = (a: bigint, b: bigint): bigint => a / b;
const bmod = (a: bigint, b: bigint): bigint => {
  const r = a % b;
  return r !== 0n && r < 0n !== b < 0n ? r + b : r;
};
const bpow = (a: bigint, b: bigint): bigint =>
  b < 0n ? (a === 1n ? 1n : a === -1n ? (b & 1n ? -1n : 1n) : 0n) : a ** b;
const INTS: readonly [Fn, (a: bigint, b: bigint, bits: bigint) => bigint, ((b: bigint) => boolean)?][] = [
  ['add', (a, b) => a + b],
  ['sub', (a, b) => a - b],
  ['mul', (a, b) => a * b],
  ['div', bdiv, (b) => b !== 0n],
  ['rem', (a, b) => a % b, (b) => b !== 0n],
  ['mod', bmod, (b) => b !== 0n],
  ['min', (a, b) => (a < b ? a : b)],
  ['max', (a, b) => (a > b ? a : b)],
  ['and', (a, b) => a & b],
  ['or', (a, b) => a | b],
  ['xor', (a, b) => a ^ b],
  ['shl', (a, b, w) => (b >= w ? 0n : a << b), (b) => b >= 0n],
  ['shr', (a, b, w) => a >> (b >= w ? w : b), (b) => b >= 0n],
  ['pow', bpow, (b) => b < 64n && b > -64n],
  ['eq', (a, b) => BigInt(a === b)],
  ['lt', (a, b) => BigInt(a < b)],
  ['le', (a, b) => BigInt(a <= b)],
];
describe('functions of two integers, exactly', () => {
  const KINDS: readonly [Kind, DType, bigint, (v: bigint) => bigint, readonly bigint[]][] = [
    ['i32', 'int32', 32n, (v) => BigInt.asIntN(32, v), SHORTS.map(BigInt)],
    ['u32', 'uint32', 32n, (v) => BigInt.asUintN(32, v), SHORTS.map(BigInt)],
    ['i64', 'int64', 64n, (v) => BigInt.asIntN(64, v), LONGS],
    ['u64', 'uint64', 64n, (v) => BigInt.asUintN(64, v), LONGS],
  ];
  for (const [kind, dtype, bits, wrap, points] of KINDS)
    for (const [fn, of, fits] of INTS)
      test(`${fn} ${kind}`, async () => {
        const values = points.map(wrap);
        const pairs = values.flatMap((a) => values.filter(fits ?? (() => true)).map((b) => [a, b] as const));
        const make = (k: 0 | 1): Tensor =>
          tensor(dtype, [pairs.length], pairs.map((p) => (bits === 64n ? p[k] : Number(p[k]))) as bigint[]);
        const compares = fn === 'eq' || fn === 'lt' || fn === 'le';
        const y = await map(x[fn as 'add'](input(0, kind), input(1, kind)), compares ? 'bool' : dtype, [
          make(0),
          make(1),
        ]);
        const expected = pairs.map(([a, b]) => (compares ? of(a, b, bits) : wrap(of(a, b, bits))));
        const got = Array.from(y.data as Int32Array, BigInt);
        got.forEach((v, i) => {
          if (v !== expected[i]) expect(v, `${fn}(${pairs[i]})`).toBe(expected[i]);
        });
        expect(got.length).toBe(pairs.length);
      });
  for (const [kind, dtype, bits, wrap, points] of KINDS)
    test(`neg, abs, sign, not ${kind}`, async () => {
      const values = points.map(wrap);
      const t = tensor(dtype, [values.length], values.map((v) => (bits === 64n ? v : Number(v))) as bigint[]);
      const v = input(0, kind);
      for (const [e, of] of [
        [x.neg(v), (a: bigint) => -a],
        [x.abs(v), (a: bigint) => (a < 0n ? -a : a)],
        [x.sign(v), (a: bigint) => (a > 0n ? 1n : a < 0n ? -1n : 0n)],
        [x.not(v), (a: bigint) => ~a],
      ] as const) {
        const y = await map(e, dtype, [t]);
        expect(Array.from(y.data as Int32Array, BigInt)).toEqual(values.map((a) => wrap(of(a))));
      }
    });
});

describe('casts', () => {
  const cases: readonly [DType, Kind, readonly (number | bigint)[], DType, Kind, readonly (number | bigint)[]][] = [
    ['float32', 'f32', [1.9, -1.9, 300, NaN, 0, 2147483500], 'int32', 'i32', [1, -1, 300, 0, 0, 2147483520]],
    [
      'float32',
      'f32',
      [1.9, -1.9, 4e9, 9.5e15, -9.5e15],
      'int64',
      'i64',
      [1n, -1n, 4000000000n, BigInt(Math.fround(9.5e15)), BigInt(Math.fround(-9.5e15))],
    ],
    [
      'int64',
      'i64',
      [1n, -1n, 1n << 40n, -(1n << 62n), 16777217n, 9007199791611905n, 36028799166447617n],
      'float32',
      'f32',
      [1, -1, 2 ** 40, -(2 ** 62), 16777216, 2 ** 53 + 2 ** 30, 36028801313931264],
    ],
    ['uint64', 'u64', [0n, (1n << 64n) - 1n, 1n << 63n], 'float32', 'f32', [0, 2 ** 64, 2 ** 63]],
    ['int32', 'i32', [5, -5], 'int64', 'i64', [5n, -5n]],
    ['uint32', 'u32', [5, 4294967295], 'int64', 'i64', [5n, 4294967295n]],
    ['int64', 'i64', [5n, -5n, 1n << 32n], 'int32', 'i32', [5, -5, 0]],
    ['float32', 'f32', [0, -0, 0.5, NaN, -3], 'bool', 'bool', [0, 0, 1, 1, 1]],
    ['bool', 'bool', [0, 1, 1], 'float32', 'f32', [0, 1, 1]],
    ['bool', 'bool', [0, 1, 1], 'int64', 'i64', [0n, 1n, 1n]],
    ['int64', 'i64', [0n, 1n << 32n, -1n], 'bool', 'bool', [0, 1, 1]],
    ['float32', 'f32', [1.5, -1, 255.9, -128.5], 'int8', 'i32', [1, -1, -1, -128]],
    ['float32', 'f32', [1.5, -1, 255.9, 258], 'uint8', 'u32', [1, 255, 255, 2]],
    [
      'float32',
      'f32',
      [1.0009765625, 65504, 65519, 65520, -1e9, 6e-8, 2049],
      'float16',
      'f32',
      [1.0009765625, 65504, 65504, Infinity, -Infinity, 2 ** -24, 2048],
    ],
    [
      'float32',
      'f32',
      [1.00390625, 1.01171875, 3e38, NaN],
      'bfloat16',
      'f32',
      [1, 1.015625, bfloatValue(bfloatBits(3e38)), NaN],
    ],
    ['int8', 'i32', [-128, 127, -1], 'float32', 'f32', [-128, 127, -1]],
    ['uint16', 'u32', [65535, 1, 2, 3, 4], 'int16', 'i32', [-1, 1, 2, 3, 4]],
  ];
  for (const [from, kind, values, to, toKind, expected] of cases)
    test(`${from} to ${to}`, async () => {
      const t =
        typeof values[0] === 'bigint'
          ? tensor(from, [values.length], values as bigint[])
          : fromNumbers(from, [values.length], values as number[]);
      const y = await map(x.cast(input(0, kind), toKind), to, [t]);
      if (typeof expected[0] === 'bigint') expect(Array.from(y.data as BigInt64Array)).toEqual(expected);
      else near(numbers(y), expected as number[], 0, 0);
    });
});

describe('shapes', () => {
  const SHAPES: readonly (readonly number[])[][] = [
    [[], []],
    [[1], [1]],
    [[5], []],
    [[7], [1]],
    [[13], [13]],
    [[3, 5], [5]],
    [[3, 8], [8]],
    [
      [3, 5],
      [3, 1],
    ],
    [
      [3, 8],
      [3, 1],
    ],
    [
      [2, 3, 5],
      [3, 1],
    ],
    [
      [2, 3, 4],
      [3, 1],
    ],
    [
      [2, 3, 5],
      [2, 1, 5],
    ],
    [
      [4, 1],
      [1, 6],
    ],
    [
      [2, 3, 4, 5],
      [3, 1, 5],
    ],
    [
      [1, 2, 1, 3, 1, 2, 1, 3],
      [2, 1, 1, 1, 2, 1, 1],
    ],
    [[1009], [1009]],
    [
      [2, 1, 3, 1, 5, 1, 7],
      [1, 2, 1, 3, 1, 5, 1],
    ],
  ];
  for (const dtype of ['float32', 'float16', 'int64', 'uint8', 'int32'] as const)
    test(`broadcast ${dtype}`, async () => {
      const kind: Kind = dtype === 'int64' ? 'i64' : dtype === 'uint8' ? 'u32' : dtype === 'int32' ? 'i32' : 'f32';
      for (const [a, b] of SHAPES) {
        const out = broadcast(a!, b!);
        const ta = fromNumbers(
          dtype,
          a!,
          Array.from({ length: sizeOf(a!) }, (_, i) => i % 61),
        );
        const tb = fromNumbers(
          dtype,
          b!,
          Array.from({ length: sizeOf(b!) }, (_, i) => (i * 3) % 64),
        );
        const y = numbers(await map(x.add(input(0, kind), input(1, kind)), dtype, [ta, tb]));
        const expected = new Float64Array(sizeOf(out));
        for (const t of [ta, tb]) {
          const from = numbers(t);
          eachOffset(out, broadcastStrides(t.shape, out), (i, at) => {
            expected[i]! += from[at]!;
          });
        }
        expect(Array.from(y), `${JSON.stringify(a)} + ${JSON.stringify(b)}`).toEqual(Array.from(expected));
      }
    });
  test('one text for one pattern', () => {
    const text = (n: number): string => {
      const t = fromNumbers('float32', [n, 8], new Float32Array(n * 8));
      return JSON.stringify(
        (
          mapKernel.launch(
            callWith([t, fromNumbers('float32', [n, 1], new Float32Array(n))], [t], {
              expr: JSON.stringify(x.add(input(0, 'f32'), input(1, 'f32'))),
              dtype: 'float32',
            }),
            gpu.caps,
            {},
          ) as { slots: unknown }
        ).slots,
      );
    };
    expect(text(3)).toBe(text(50));
  });
  test('more workgroups than one dimension holds', async () => {
    const n = 4 * 64 * 65535 + 4 * 64 + 3;
    const t = fromNumbers(
      'uint8',
      [n],
      new Uint8Array(n).map((_, i) => i * 7),
    );
    const y = (await map(x.xor(input(0, 'u32'), constant(0x55, 'u32')), 'uint8', [t])).data as Uint8Array;
    expect(y.findIndex((v, i) => v !== (((i * 7) & 255) ^ 0x55))).toBe(-1);
  });
});

describe('epilogue', () => {
  const source = [
    '@group(0) @binding(0) var<storage, read> x: array<XStore>;',
    '@group(0) @binding(1) var<storage, read_write> y: array<YStore>;',
    '@compute @workgroup_size(1)',
    'fn main(@builtin(global_invocation_id) id: vec3u) { let q = id.x; let v = load4_x(q); let i = q * 4u; store4_y(q, epilogue(v.x, i), epilogue(v.y, i + 1u), epilogue(v.z, i + 2u), epilogue(v.w, i + 3u)); }',
  ].join('\n');
  const copy: GpuKernel = {
    name: 'test.copy',
    accepts: (call, caps) => epilogueFits(call, caps, 2),
    launch: (call) => {
      const e = epilogueOf(call);
      return {
        module: shader('test_copy', source, ['epilogue']),
        types: { x: 'f32', y: elemOf(call.outputs[0]!.dtype)!, ...e.types },
        slots: e.slots,
        bind: [{ input: 0 }, { output: 0 }],
        extra: e.extra,
        extraUniforms: e.extraUniforms,
        workgroups: [Math.ceil(sizeOf(call.outputs[0]!.shape) / 4), 1, 1],
      };
    },
  };
  const t = fromNumbers(
    'float32',
    [2, 3, 4],
    Array.from({ length: 24 }, (_, i) => i - 11.5),
  );
  const run = async (epilogue: Epilogue | null, dtype: DType, operands: readonly Tensor[]): Promise<number[]> => {
    const call = { ...callWith([t], [{ dtype, shape: t.shape }]), ...(epilogue ? { epilogue } : {}) };
    const [y] = await runGpuKernel(gpu.device, gpu.caps, copy, call, [t], operands);
    return Array.from(numbers(y!));
  };
  test('none: the value itself', async () => {
    expect(await run(null, 'float32', [])).toEqual(Array.from(numbers(t)));
  });
  test('operands of any broadcast, and a cast', async () => {
    const bias = fromNumbers('float32', [3, 1], [10, 20, 30]);
    const other = fromNumbers('float16', [2, 1, 4], [1, 2, 3, 4, 5, 6, 7, 8]);
    const expr = x.cast(
      x.max(x.add(x.add(input(0, 'f32'), input(1, 'f32')), input(2, 'f32')), constant(0, 'f32')),
      'i32',
    );
    const got = await run({ expr, operands: [bias, other] }, 'int8', [bias, other]);
    expect(got).toEqual(
      Array.from({ length: 24 }, (_, i) =>
        Math.max(0, Math.trunc(i - 11.5 + [10, 20, 30][(i >> 2) % 3]! + 1 + (i % 4) + 4 * Math.floor(i / 12))),
      ),
    );
  });
});
