import { describe, expect, test } from 'vitest';
import { BITS, bytesOf, type DType, isFloat, ONNX_OF_DTYPE } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { type Tensor, tensorOver } from '../src/core/tensor.ts';
import { casts } from '../kernels/cast.ts';
import { create } from '../kernels/create.ts';
import { losses } from '../kernels/loss.ts';
import { otherNorms } from '../kernels/norm-other.ts';
import { slice } from '../kernels/slice.ts';
import { softmax } from '../kernels/softmax.ts';
import { sort } from '../kernels/sort.ts';
import { castKernel } from '../kernels/wasm/cast.ts';
import { ALL } from '../kernels/define.ts';
import { agree, CAPS, runOp, SHARED, source } from './wasm-device.ts';

const caps = (n: number) => (n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!);
const EXACT = { atol: 0, rtol: 0 };

describe('casts', () => {
  const types = ALL.filter((d): d is DType => d !== 'string' && !d.startsWith('complex'));
  const odd = [
    0,
    -0,
    NaN,
    Infinity,
    -Infinity,
    0.5,
    1.5,
    -0.5,
    2 ** -127,
    2 ** -126,
    2 ** -10,
    1.75,
    2.5,
    3.5,
    5,
    6.1,
    239,
    240,
    247,
    248,
    249,
    447,
    448,
    464,
    465,
    480,
    57344,
    61439,
    61440,
    65504,
    1e9,
    -1e9,
    2 ** 31,
    2 ** 32 + 5,
    2 ** 40 + 3,
    -(2 ** 53),
    2 ** 63,
    1e19,
    1e20,
    1e30,
    -1e30,
    1e38,
    1e-40,
  ];
  const some = (s: ReturnType<typeof source>, d: DType, n: number): Tensor => {
    if (BITS[d] <= 8 && d !== 'bool')
      return tensorOver(
        d,
        [n],
        Uint8Array.from({ length: bytesOf(d, n) }, (_, i) =>
          2 * i + 1 < 2 ** 8 && BITS[d] < 8 && (i + 1) * 8 > n * BITS[d]
            ? s.int(0, 255) & ((1 << ((n * BITS[d]) % 8 || 8)) - 1)
            : s.int(0, 255),
        ),
      );
    const value = (): number => (s.int(0, 2) === 0 ? s.pick(odd) : (s.next() - 0.5) * 2 ** s.int(-20, 70));
    return fromNumbers(
      d,
      [n],
      Array.from({ length: n }, () => {
        const v = value();
        return isFloat(d) ? v : v !== v || Math.abs(v) === Infinity ? 1 : Math.trunc(v);
      }),
    );
  };
  test('from every type to every type', async () => {
    const s = source();
    let n = 0;
    for (const from of types)
      for (const to of types) {
        const small = [from, to].some((d) => BITS[d] < 8 || /^float8/.test(d));
        if (!small) continue;
        for (const attrs of [
          { saturate: 1 },
          { saturate: 0, clamp_nibbles: 1, round_mode: 'nearest' },
          { round_mode: 'down' },
        ]) {
          n++;
          await agree(
            casts[0]!,
            {
              attrs: { to: ONNX_OF_DTYPE[to], ...attrs },
              inputs: [some(s, from, s.pick([1, 2, 3, 5, 7, 64, 131]))],
              kernel: castKernel,
              caps: caps(n),
              ...EXACT,
            },
            `${from} to ${to}`,
          );
        }
      }
  });
  test('every 8-bit pattern', async () => {
    for (const from of types.filter((d) => BITS[d] === 8 && d !== 'bool')) {
      const all = tensorOver(
        from,
        [256],
        Uint8Array.from({ length: 256 }, (_, i) => i),
      );
      for (const to of ['float32', 'float16', 'int8', 'float8e5m2', 'float4e2m1', 'bool', 'int64'] as const)
        await agree(
          casts[0]!,
          { attrs: { to: ONNX_OF_DTYPE[to] }, inputs: [all], kernel: castKernel, ...EXACT },
          `${from} to ${to}`,
        );
    }
  });
  test('bits under another name', async () => {
    const s = source();
    for (const [a, b] of [
      ['float32', 'int32'],
      ['int4', 'uint4'],
      ['bool', 'uint8'],
      ['float16', 'bfloat16'],
      ['float64', 'uint64'],
    ] as const)
      for (const n of [1, 2, 5, 33]) {
        await agree(casts[2]!, { attrs: { to: ONNX_OF_DTYPE[b] }, inputs: [s.tensor(a, [n])], ...EXACT });
      }
  });
});

const FLOATS: readonly DType[] = ['float32', 'float16', 'bfloat16', 'float64'];
const shapeOf = (s: ReturnType<typeof source>, least: number, most: number): number[] =>
  Array.from({ length: s.int(least, most) }, () => s.pick([1, 2, 3, 4, 5, 7, 8, 13]));
const tolerance = (d: DType) =>
  d === 'float16'
    ? { atol: 2e-3, rtol: 2e-3 }
    : d === 'bfloat16'
      ? { atol: 2e-2, rtol: 1e-2 }
      : d === 'float32'
        ? { atol: 1e-6, rtol: 1e-6 }
        : { atol: 1e-13, rtol: 1e-13 };
const integersOf = (d: DType, shape: readonly number[], values: readonly number[]): Tensor =>
  fromNumbers(d, shape, values);

describe('losses', () => {
  for (const op of losses)
    test(op.op, async () => {
      const s = source();
      for (let n = 0; n < 80; n++) {
        const [batch, classes, rest] = [s.int(1, 4), s.pick([1, 2, 3, 7, 17]), shapeOf(s, 0, 2)];
        if (n % 20 === 7) rest.push(0);
        const d = s.pick(FLOATS);
        const count = [batch, ...rest].reduce((a, b) => a * b, 1);
        const ignored = s.pick([-100, 0, 1]);
        const targets = integersOf(
          s.pick(['int32', 'int64']),
          [batch, ...rest],
          Array.from({ length: count }, () => (n % 3 === 0 && s.int(0, 3) === 0 ? ignored : s.int(0, classes - 1))),
        );
        const attrs = { reduction: s.pick(['none', 'sum', 'mean']), ...(n % 3 === 0 ? { ignore_index: ignored } : {}) };
        await agree(
          op,
          {
            attrs,
            inputs: [
              s.tensor(d, [batch, classes, ...rest], 20),
              targets,
              ...(n % 2 ? [s.tensor(d, [classes], 1)] : []),
            ],
            outputs: op.outputs.length === 2 && n % 3 === 1 ? 2 : 1,
            caps: caps(n),
            ...tolerance(d),
          },
          `trial ${n}`,
        );
      }
      for (const bad of [-1, 3, 2 ** 31, -(2 ** 31)]) {
        expect(runOp(op, { inputs: [s.tensor('float32', [2, 3]), integersOf('int64', [2], [0, bad])] }).status).toBe(1);
      }
    });
});

describe('lines', () => {
  test('Hardmax, softmax of doubles, LpNormalization', async () => {
    const s = source();
    for (let n = 0; n < 90; n++) {
      const shape = shapeOf(s, 1, 4);
      const d = n % 2 ? 'float64' : s.pick(FLOATS);
      const axis = s.int(-shape.length, shape.length - 1);
      if (n % 17 === 3) shape[0] = 0;
      const name = ['Hardmax', 'Softmax', 'LogSoftmax', 'LpNormalization'][n % 4]!;
      const t = s.tensor(d, shape, 30);
      await agree(
        [...softmax, ...otherNorms].find((o) => o.op === name)!,
        {
          attrs: name === 'LpNormalization' ? { axis, p: s.int(1, 2) } : { axis, flatten: Number(n % 5 === 0) },
          inputs: [t],
          caps: caps(n),
          ...(d === 'float64' || name === 'Hardmax' ? {} : tolerance(d)),
          ...(d === 'float64' ? { atol: 1e-12, rtol: 1e-12 } : {}),
        },
        `trial ${n}`,
      );
    }
  });
  test('TopK', async () => {
    const s = source();
    const topK = sort.find((o) => o.op === 'TopK')!;
    for (let n = 0; n < 150; n++) {
      const shape = shapeOf(s, 1, 3);
      const axis = s.int(-shape.length, shape.length - 1);
      const at = axis < 0 ? axis + shape.length : axis;
      shape[at] = s.pick([1, 2, 3, 8, 17, 100]);
      const d = s.pick([
        'float32',
        'float16',
        'float64',
        'int8',
        'uint8',
        'int32',
        'int64',
        'uint64',
        'uint32',
      ] as const);
      const t = s.tensor(d, shape, 3);
      if (d.startsWith('float') && d !== 'float16' && n % 3 === 0)
        (t.data as Float32Array).forEach((_, i, a) => {
          if (s.int(0, 9) === 0) a[i] = s.pick([NaN, Infinity, -Infinity, 0, -0]);
        });
      await agree(
        topK,
        {
          attrs: { axis, largest: s.int(0, 1) },
          inputs: [t, integersOf('int64', [1], [s.int(0, shape[at]!)])],
          constants: [1],
          outputs: 2,
          caps: caps(n),
          ...EXACT,
        },
        `trial ${n}`,
      );
    }
  });
});

describe('tensors from almost nothing', () => {
  const op = (name: string) => [...create, ...slice].find((o) => o.op === name)!;
  test('Trilu', async () => {
    const s = source();
    for (let n = 0; n < 80; n++) {
      const shape = shapeOf(s, 2, 4);
      const d = s.pick(['float32', 'uint8', 'float16', 'int64', 'complex128', 'bool'] as const);
      if (n % 15 === 4) shape[s.int(0, shape.length - 1)] = 0;
      const k = s.pick([-100, -3, -1, 0, 1, 2, 5, 100, 2 ** 53, -(2 ** 53)]);
      await agree(
        op('Trilu'),
        {
          attrs: { upper: s.int(0, 1) },
          inputs: [
            d === 'complex128'
              ? { dtype: d, shape, data: new Float64Array(2 * shape.reduce((a, b) => a * b, 1)).fill(3) }
              : s.tensor(d, shape),
            ...(n % 3 ? [integersOf('int64', [], [k])] : []),
          ],
          caps: caps(n),
          ...EXACT,
        },
        `trial ${n}`,
      );
    }
  });
  test('EyeLike and OneHot', async () => {
    const s = source();
    for (let n = 0; n < 80; n++) {
      const shape = [s.int(1, 9), s.int(1, 9)];
      const d = s.pick(['float32', 'uint8', 'float16', 'int64', 'float64', 'bool', 'int16'] as const);
      await agree(
        op('EyeLike'),
        {
          attrs: { k: s.int(-10, 10), dtype: ONNX_OF_DTYPE[d] },
          inputs: [s.tensor('float32', shape)],
          caps: caps(n),
          ...EXACT,
        },
        `trial ${n}`,
      );
      const from = shapeOf(s, 0, 3);
      const depth = s.int(0, 7);
      const wide = s.pick(['int64', 'float32', 'int8', 'uint16'] as const);
      const indices = integersOf(
        wide,
        from,
        Array.from(
          { length: from.reduce((a, b) => a * b, 1) },
          () => s.int(wide.startsWith('u') ? 0 : -9, 9) + (wide === 'float32' ? s.pick([0, 0.5]) : 0),
        ),
      );
      await agree(
        op('OneHot'),
        {
          attrs: { axis: s.int(-from.length - 1, from.length) },
          inputs: [indices, integersOf('int64', [1], [depth]), integersOf(d, [2], [0, 1])],
          constants: [1],
          caps: caps(n),
          ...EXACT,
        },
        `trial ${n}`,
      );
    }
  });
});
