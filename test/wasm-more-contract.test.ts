import { expect, test } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { quantizedConvolution } from '../kernels/conv-quantized.ts';
import type { Op } from '../kernels/define.ts';
import { einsum } from '../kernels/einsum.ts';
import { quantizedMatmul } from '../kernels/quantize-matmul.ts';
import { reductions } from '../kernels/reduce.ts';
import { byteProductWasm, logSumExpWasm } from '../kernels/wasm/contract.ts';
import { agree, CAPS, SHARED, source } from './wasm-device.ts';

const caps = (n: number) => (n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!);
const EXACT = { atol: 0, rtol: 0 };
const tolerance = (d: DType) =>
  d === 'float16'
    ? { atol: 2e-3, rtol: 2e-3 }
    : d === 'bfloat16'
      ? { atol: 2e-2, rtol: 1e-2 }
      : d === 'float32'
        ? { atol: 1e-6, rtol: 1e-6 }
        : { atol: 1e-12, rtol: 1e-12 };
const op = (list: readonly Op[], name: string): Op => list.find((o) => o.op === name)!;
const ints = (shape: readonly number[], values: readonly number[], d: DType = 'int64'): Tensor =>
  fromNumbers(d, shape, values);

test('Einsum', async () => {
  const s = source();
  const equations = [
    'ij->ji',
    'ii->i',
    'ii->',
    'i,i->',
    'ij,jk->ik',
    'bij,bjk->bik',
    '...ij,...jk->...ik',
    'i,j->ij',
    'ij,jk',
    'bhid,bhjd->bhij',
    'ij,j,k->ik',
    'ijk->',
    'a...a->...',
    'bil,bjl,ij->b',
    ',ij->ij',
    'ij,kj->ik',
  ];
  for (let n = 0; n < 120; n++) {
    const equation = equations[n % equations.length]!;
    const size: Record<string, number> = {};
    const d = s.pick(['float32', 'float64', 'float16', 'int32', 'uint8'] as const);
    const lead = [s.int(1, 2), s.int(1, 3)].slice(0, s.int(0, 2));
    const shapes = equation
      .split('->')[0]!
      .split(',')
      .map((term) =>
        [...term.replace('...', '.')].flatMap((l) => (l === '.' ? lead : [(size[l] ??= s.pick([1, 2, 3, 5, 7]))])),
      );
    if (n % 30 === 7 && shapes[0]!.length > 1 && equation === 'ij->ji') shapes[0]![0] = 0;
    const t = tolerance(d);
    await agree(
      op(einsum, 'Einsum'),
      {
        attrs: { equation },
        inputs: shapes.map((shape) => s.tensor(d, shape)),
        caps: caps(n),
        ...t,
        atol: 10 * t.atol,
      },
      `trial ${n}`,
    );
  }
});
test('ReduceLogSumExp of doubles', async () => {
  const s = source();
  const reduce = op(reductions, 'ReduceLogSumExp');
  const kernel = logSumExpWasm((call) => {
    const rank = call.inputs[0]!.shape.length;
    const given = call.inputs[1] ? Array.from(call.inputs[1].constant!.peek()!.data as BigInt64Array, Number) : [];
    return given.length ? given.map((a) => (a < 0 ? a + rank : a)) : Array.from({ length: rank }, (_, i) => i);
  });
  for (let n = 0; n < 80; n++) {
    const shape = Array.from({ length: s.int(1, 4) }, () => s.pick([1, 2, 3, 5, 8]));
    const d = s.pick(['float64', 'float64', 'float32'] as const);
    const axes = shape
      .map((_, i) => i)
      .filter(() => s.int(0, 1))
      .map((i) => (s.int(0, 1) ? i : i - shape.length));
    const t = s.tensor(d, shape, s.pick([1, 50, 900]));
    if (n % 4 === 0)
      (t.data as Float64Array).forEach((_, i, a) => {
        if (s.int(0, 4) === 0) a[i] = s.pick([Infinity, -Infinity, NaN, 0]);
      });
    await agree(
      reduce,
      {
        attrs: { keepdims: s.int(0, 1) },
        inputs: [t, ints([axes.length], axes)],
        constants: [1],
        ...(d === 'float32' ? { kernel } : {}),
        caps: caps(n),
        ...tolerance(d),
      },
      `trial ${n}`,
    );
  }
});
test('convolution of bytes', async () => {
  const s = source();
  for (let n = 0; n < 240; n++) {
    const known = n % 4 > 1;
    const rank = s.pick([1, 2, 2, 3]);
    const group = s.int(1, 3);
    const per = s.int(1, known ? 7 : 3);
    const filters = group * s.int(1, known ? 9 : 3);
    const batch = s.int(1, 2);
    const kernel = Array.from({ length: rank }, () => s.pick([1, n % 5 ? s.int(1, 3) : 1]));
    const dilations = kernel.map(() => s.int(1, 2));
    const strides = kernel.map(() => s.pick([1, s.int(1, 3)]));
    const pads = [...kernel, ...kernel].map(() => s.pick([0, s.int(0, 2)]));
    const dims = kernel.map((k, i) => (k - 1) * dilations[i]! + 1 + s.int(0, known ? 11 : 4));
    const a = s.pick(['uint8', 'int8'] as const);
    const b = s.pick(['uint8', 'int8'] as const);
    const y = s.pick(['uint8', 'int8'] as const);
    const window = { group, dilations, strides, pads, ...(n % 6 === 0 ? { auto_pad: 'SAME_UPPER', pads: [] } : {}) };
    const w = s.tensor(b, [filters, per, ...kernel]);
    const zero = (d: DType, count: number | null) => s.tensor(d, count === null ? [] : [count]);
    await agree(
      op(quantizedConvolution, 'ConvInteger'),
      {
        attrs: window,
        inputs: [
          s.tensor(a, [batch, group * per, ...dims]),
          w,
          n % 2 ? zero(a, null) : null,
          n % 3 ? zero(b, n % 4 ? filters : 1) : null,
        ],
        constants: known ? [1, 3] : [],
        caps: caps(n),
        ...EXACT,
      },
      `trial ${n}`,
    );
    const microsoft = n % 2 === 0;
    const last = microsoft && n % 4 === 0;
    const scale = (count: number | null) =>
      fromNumbers(
        'float32',
        count === null ? [] : [count],
        Array.from({ length: count ?? 1 }, () => 0.05 + s.next() / 4),
      );
    const x = s.tensor(a, last ? [batch, ...dims, group * per] : [batch, group * per, ...dims]);
    const bias =
      n % 3
        ? ints(
            [filters],
            Array.from({ length: filters }, () => s.int(-9999, 9999)),
            'int32',
          )
        : null;
    const inputs = [
      x,
      scale(null),
      zero(a, null),
      w,
      scale(n % 2 ? filters : null),
      zero(b, n % 5 ? null : filters),
      scale(null),
      zero(y, null),
      bias,
    ];
    await agree(
      op(quantizedConvolution, microsoft ? 'com.microsoft.QLinearConv' : 'QLinearConv'),
      {
        attrs: { ...window, ...(last ? { channels_last: 1 } : {}) },
        inputs,
        constants: known ? [3, 5] : [],
        caps: caps(n),
        ...EXACT,
      },
      `trial ${n}`,
    );
  }
});
test('depthwise convolution of bytes', async () => {
  const s = source();
  for (let n = 0; n < 100; n++) {
    const rank = s.pick([1, 2, 2]);
    const group = s.int(2, 5);
    const batch = s.int(1, 2);
    const kernel = Array.from({ length: rank }, () => s.pick([1, 2, 3, 3, 5]));
    const dilations = kernel.map(() => s.pick([1, 1, 2]));
    const strides = kernel.map(() => s.pick([1, 1, 2, 3]));
    const pads = [...kernel, ...kernel].map(() => s.int(0, 2));
    const dims = kernel.map((k, i) => (k - 1) * dilations[i]! + 1 + s.int(0, 19));
    const [a, b, y] = ['', '', ''].map(() => s.pick(['uint8', 'int8'] as const)) as ['uint8', 'uint8', 'uint8'];
    const scale = (count: number | null) =>
      fromNumbers(
        'float32',
        count === null ? [] : [count],
        Array.from({ length: count ?? 1 }, () => 0.02 + s.next() / 8),
      );
    const many = n % 2 ? group : null;
    const inputs = [
      s.tensor(a, [batch, group, ...dims]),
      scale(null),
      s.tensor(a, []),
      s.tensor(b, [group, 1, ...kernel]),
      scale(many),
      s.tensor(b, many === null ? [] : [many]),
      scale(null),
      s.tensor(y, []),
      n % 3
        ? ints(
            [group],
            Array.from({ length: group }, () => s.int(-9999, 9999)),
            'int32',
          )
        : null,
    ];
    const ran = await agree(
      op(quantizedConvolution, 'QLinearConv'),
      { attrs: { group, dilations, strides, pads }, inputs, constants: [3, 5], caps: caps(n), ...EXACT },
      `trial ${n}`,
    );
    expect(ran.kernel).toBe('conv.quantized_depthwise');
  }
});
test('products of bytes with one scale each', async () => {
  const s = source();
  for (let n = 0; n < 80; n++) {
    const [m, k, c] = [s.int(1, 7), s.pick([1, 2, 5, 17]), s.int(1, 9)];
    const lead = [[], [2], [3, 2]][n % 3]!;
    const thin = lead.map((v) => (s.int(0, 1) ? v : 1));
    const byte = () => s.pick(['uint8', 'int8'] as const);
    const d = s.pick(['float32', 'float16', 'bfloat16'] as const);
    const [a, b, y] = [byte(), byte(), byte()];
    const scale = () => fromNumbers(d, n % 2 ? [] : [1], [0.05 + s.next()]);
    const zero = (t: DType) => s.tensor(t, n % 2 ? [] : [1]);
    const inputs = [
      s.tensor(a, [...lead, m, k]),
      scale(),
      zero(a),
      s.tensor(b, [...thin, k, c]),
      scale(),
      zero(b),
      scale(),
      zero(y),
    ];
    await agree(
      op(quantizedMatmul, 'QLinearMatMul'),
      { inputs, kernel: byteProductWasm, caps: caps(n), ...EXACT },
      `trial ${n}`,
    );
  }
});
