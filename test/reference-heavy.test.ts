/**
 * References of the heavy operators that ONNX has no cases for: each is checked against another operator, another form
 * of itself, or its formula.
 */
import { describe, expect, test } from 'vitest';
import { type Call, type InferCall, NeedsValue, type Op, parseAttrs, refCall } from '../kernels/define.ts';
import { ops } from '../kernels/index.ts';
import { BNB4 } from '../kernels/quantize-bnb4.ts';
import type { DType } from '../src/core/dtype.ts';
import { SardonyxError } from '../src/core/errors.ts';
import { type Attrs, constantOf, type Fact } from '../src/core/graph.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';

type In = Tensor | null;

/** Normalises, infers and runs; the inferred facts must be those of the results. */
async function run(name: string, inputs: readonly In[], attrs: Attrs = {}, outputs = 1, opset = 25): Promise<Tensor[]> {
  let op: Op = ops.get(name)!;
  let raw = attrs;
  const values: In[] = [...inputs];
  let ids: readonly (number | null)[] = inputs.map((t, i) => (t === null ? null : i));
  if (op.normalize) {
    const n = op.normalize({
      attrs,
      inputs: ids,
      outputs: Array.from({ length: outputs }, (_, i) => i),
      opset,
      constant: (t) => values.push(t) - 1,
    });
    op = n.op === undefined ? op : ops.get(n.op)!;
    raw = n.attrs ?? raw;
    ids = n.inputs ?? ids;
  }
  const given = ids.map((i) => (i === null ? null : values[i]!));
  const parsed = parseAttrs(op.attrs, raw);
  const facts = given.map((t): Fact | null =>
    t === null ? null : { dtype: t.dtype, shape: t.shape, constant: constantOf(t) },
  );
  const call: InferCall & Pick<Call, 'attrs'> = {
    inputs: facts,
    attrs: parsed,
    outputs,
    fact: (i) =>
      facts[i] ??
      (() => {
        throw new Error(`no input ${i}`);
      })(),
    value: (i) =>
      given[i] ??
      (() => {
        throw new NeedsValue(i);
      })(),
  };
  const inferred = op.infer!(call);
  const results = (await op.reference(refCall(given, parsed, outputs))) as Tensor[];
  for (let i = 0; i < outputs; i++)
    expect([results[i]!.dtype, results[i]!.shape]).toEqual([inferred[i]!.dtype, inferred[i]!.shape]);
  return results;
}
const one = async (name: string, inputs: readonly In[], attrs: Attrs = {}, opset = 25): Promise<Tensor> =>
  (await run(name, inputs, attrs, 1, opset))[0]!;

let seed = 1;
/** In [-1, 1), the same in every run. */
const noise = (): number => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return seed / 2 ** 31 - 1;
};
const random = (...shape: number[]): Tensor =>
  fromNumbers('float32', shape, Array.from({ length: sizeOf(shape) }, noise));
const integers = (dtype: DType, least: number, most: number, ...shape: number[]): Tensor =>
  fromNumbers(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, () => Math.floor(least + ((noise() + 1) / 2) * (most - least + 1))),
  );
const of = (dtype: DType, shape: readonly number[], ...values: number[]): Tensor => fromNumbers(dtype, shape, values);
const map = (t: Tensor, f: (v: number, i: number) => number, dtype: DType = 'float32'): Tensor =>
  fromNumbers(dtype, t.shape, Array.from(numbers(t) as Float32Array, f));
const reshape = (t: Tensor, ...shape: number[]): Tensor => ({ ...t, shape });
/** Numpy's transpose. */
function transpose(t: Tensor, ...order: number[]): Tensor {
  const shape = order.map((d) => t.shape[d]!);
  const from = numbers(t);
  const strides = t.shape.map((_, d) => sizeOf(t.shape.slice(d + 1)));
  return fromNumbers(
    t.dtype,
    shape,
    Array.from(
      { length: sizeOf(shape) },
      (_, i) =>
        from[
          order.reduce((at, d, k) => at + (Math.floor(i / sizeOf(shape.slice(k + 1))) % shape[k]!) * strides[d]!, 0)
        ]!,
    ),
  );
}
/** Entries [from, to) of an axis. */
function slice(t: Tensor, axis: number, from: number, to: number): Tensor {
  const inner = sizeOf(t.shape.slice(axis + 1));
  const n = t.shape[axis]!;
  const v = numbers(t);
  const kept = Array.from({ length: sizeOf(t.shape) }, (_, i) => i).filter((i) => {
    const k = Math.floor(i / inner) % n;
    return k >= from && k < to;
  });
  return fromNumbers(
    t.dtype,
    t.shape.map((d, i) => (i === axis ? to - from : d)),
    kept.map((i) => v[i]!),
  );
}
const concat = (axis: number, ...parts: Tensor[]): Tensor => {
  const outer = sizeOf(parts[0]!.shape.slice(0, axis));
  const out: number[] = [];
  for (let o = 0; o < outer; o++)
    for (const p of parts)
      out.push(
        ...Array.from(numbers(p) as Float32Array).slice(
          (o * sizeOf(p.shape)) / outer,
          ((o + 1) * sizeOf(p.shape)) / outer,
        ),
      );
  return fromNumbers(
    parts[0]!.dtype,
    parts[0]!.shape.map((d, i) => (i === axis ? parts.reduce((n, p) => n + p.shape[axis]!, 0) : d)),
    out,
  );
};
function same(got: Tensor, want: Tensor, tolerance = 1e-5): void {
  expect([got.dtype, got.shape]).toEqual([want.dtype, want.shape]);
  const a = numbers(got);
  const b = numbers(want);
  let worst = 0;
  for (let i = 0; i < a.length; i++) worst = Math.max(worst, a[i] === b[i] ? 0 : Math.abs(a[i]! - b[i]!) || Infinity);
  expect(worst).toBeLessThanOrEqual(tolerance);
}
/** As `same`, and the tensor is not trivial. */
function alike(got: Tensor, want: Tensor, tolerance = 1e-5): void {
  expect(Array.from(numbers(want) as Float32Array).some((v) => v !== 0)).toBe(true);
  same(got, want, tolerance);
}

describe('products', () => {
  test('FusedMatMul turns its operands', async () => {
    const a = random(2, 3, 4);
    const b = random(2, 5, 4);
    alike(
      await one('com.microsoft.FusedMatMul', [a, b], { transB: 1, alpha: 0.5 }),
      map(await one('MatMul', [a, transpose(b, 0, 2, 1)]), (v) => v * 0.5),
    );
    const c = random(3, 2, 4); // rows, batch, columns
    alike(
      await one('com.microsoft.FusedMatMul', [c, b], { transBatchA: 1, transB: 1 }),
      await one('MatMul', [transpose(c, 1, 0, 2), transpose(b, 0, 2, 1)]),
    );
  });
  test('integers stay exact beyond doubles', async () => {
    const big = { dtype: 'int64', shape: [1, 2], data: new BigInt64Array([2n ** 53n + 1n, 1n]) } as Tensor;
    const unit = { dtype: 'int64', shape: [2, 1], data: new BigInt64Array([1n, 2n]) } as Tensor;
    expect((await one('MatMul', [big, unit])).data[0]).toBe(2n ** 53n + 3n);
    expect((await one('Einsum', [big, unit], { equation: 'ij,jk->ik' })).data[0]).toBe(2n ** 53n + 3n);
    expect((await one('MatMul', [of('int32', [1, 2], 2 ** 30, 1), of('int32', [2, 1], 4, 7)])).data[0]).toBe(7);
  });
  test.each([
    'bij,bjk->bik',
    '...ij,...jk',
    'iij->j',
    'ij,kj,jl->il',
    'i,j',
    'ij->',
    'bhqd,bhkd->bhqk',
    'ij,ij->i',
    'aba,ac->bc',
  ])('Einsum %s', async (equation) => {
    const size: Record<string, number> = { a: 2, b: 2, c: 3, d: 4, h: 2, i: 3, j: 4, k: 5, l: 2, q: 3 };
    const [left, right] = equation.split('->');
    const terms = left!.split(',');
    const inputs = terms.map((t) =>
      random(...(t.startsWith('...') ? [2, 2] : []), ...[...t.replace('...', '')].map((l) => size[l]!)),
    );
    const name = (t: string): string[] => [...(t.startsWith('...') ? ['0', '1'] : []), ...t.replace('...', '')];
    const letters = [...new Set(terms.flatMap(name))];
    const dims = letters.map((l) => size[l] ?? 2);
    const flat = terms.flatMap(name);
    const out =
      right !== undefined
        ? name(right)
        : [
            ...(left!.includes('...') ? ['0', '1'] : []),
            ...letters.filter((l) => !/\d/.test(l) && flat.filter((x) => x === l).length === 1).sort(),
          ];
    const want = new Float64Array(sizeOf(out.map((l) => size[l] ?? 2)));
    for (let n = 0; n < sizeOf(dims); n++) {
      const at = Object.fromEntries(letters.map((l, d) => [l, Math.floor(n / sizeOf(dims.slice(d + 1))) % dims[d]!]));
      const offset = (ls: string[]): number => ls.reduce((o, l) => o * (size[l] ?? 2) + at[l]!, 0);
      want[offset(out)]! += terms.reduce((p, t, i) => p * numbers(inputs[i]!)[offset(name(t))]!, 1);
    }
    alike(
      await one('Einsum', inputs, { equation }),
      fromNumbers(
        'float32',
        out.map((l) => size[l] ?? 2),
        want,
      ),
    );
  });
});

describe('convolution', () => {
  test('fused and channels-last forms are Conv', async () => {
    const x = random(2, 4, 6, 5);
    const w = random(6, 2, 3, 3);
    const b = random(6);
    const attrs = { group: 2, pads: [1, 0, 1, 2], strides: [2, 1] };
    const y = await one('Conv', [x, w, b], attrs);
    const z = random(...y.shape);
    alike(
      await one('com.microsoft.FusedConv', [x, w, b, z], {
        ...attrs,
        activation: 'LeakyRelu',
        activation_params: [0.1],
      }),
      map(y, (v, i) => {
        const s = v + numbers(z)[i]!;
        return s < 0 ? 0.1 * s : s;
      }),
    );
    const last = (t: Tensor): Tensor => transpose(t, 0, 2, 3, 1);
    alike(await one('com.microsoft.NhwcConv', [last(x), last(w), b], attrs), last(y));
    alike(
      await one('com.microsoft.NhwcFusedConv', [last(x), w, b, last(z)], { ...attrs, activation: 'Relu' }),
      last(map(y, (v, i) => Math.max(0, v + numbers(z)[i]!))),
    );
  });
  test('ConvTranspose is the adjoint of Conv', async () => {
    // Shapes that the strides tile: the transposed output is as large as the input was.
    for (const attrs of [
      { strides: [2, 3], pads: [1, 0, 2, 1], dilations: [1, 2], group: 2 },
      { strides: [2, 3], auto_pad: 'SAME_LOWER', output_shape: [10, 11] },
    ] as Attrs[]) {
      const { output_shape: _, ...forward } = attrs;
      const x = random(1, 4, 10, 11);
      const w = random(6, attrs.group ? 2 : 4, 3, 2);
      const y = await one('Conv', [x, w], forward);
      const g = random(...y.shape);
      const back = await one('ConvTranspose', [g, w], attrs);
      const dot = (a: Tensor, b: Tensor): number =>
        Array.from(numbers(a) as Float32Array).reduce((s, v, i) => s + v * numbers(b)[i]!, 0);
      expect(back.shape).toEqual(x.shape);
      expect(dot(y, g)).toBeCloseTo(dot(x, back), 3);
      expect(Math.abs(dot(y, g))).toBeGreaterThan(0.1);
    }
  });
  test('CausalConvWithState carries on where it stopped, also dilated', async () => {
    const x = random(2, 3, 7);
    const w = random(3, 1, 3);
    const b = random(3);
    const op = 'com.microsoft.CausalConvWithState';
    const attrs = { activation: 'silu', dilation: 2 };
    const [y, state] = (await run(op, [x, w, b], attrs, 2)) as [Tensor, Tensor];
    const plain = await one(
      'Conv',
      [
        concat(
          2,
          map(random(2, 3, 4), () => 0),
          x,
        ),
        w,
        b,
      ],
      { group: 3, dilations: [2] },
    );
    alike(
      y,
      map(plain, (v) => v / (1 + Math.exp(-v))),
    );
    const [start, held] = (await run(op, [slice(x, 2, 0, 3), w, b], attrs, 2)) as [Tensor, Tensor];
    const [rest, last] = (await run(op, [slice(x, 2, 3, 7), w, b, held], attrs, 2)) as [Tensor, Tensor];
    alike(concat(2, start, rest), y);
    alike(last, state);
  });
  test('QLinearConv is Conv of the real numbers, rounded; its zero point pads', async () => {
    const x = integers('uint8', 0, 255, 1, 3, 5, 5);
    const w = integers('int8', -128, 127, 2, 3, 3, 3);
    const bias = integers('int32', -999, 999, 2);
    const scale = [0.02, 0.03];
    const wide = map(x, (v) => (v - 100) * 0.1);
    const filters = map(w, (v, i) => (v - [3, -4][Math.floor(i / 27)]!) * scale[Math.floor(i / 27)]!);
    const y = await one('Conv', [wide, filters, map(bias, (v, i) => v * 0.1 * scale[i]!)], { pads: [1, 1, 1, 1] });
    const inputs = [
      x,
      of('float32', [], 0.1),
      of('uint8', [], 100),
      w,
      of('float32', [2], ...scale),
      of('int8', [2], 3, -4),
      of('float32', [], 2),
      of('uint8', [], 120),
      bias,
    ];
    alike(
      await one('QLinearConv', inputs, { pads: [1, 1, 1, 1] }),
      map(y, (v) => Math.min(255, Math.max(0, Math.round(v / 2) + 120)), 'uint8'),
      1,
    );
    alike(
      transpose(
        await one('com.microsoft.QLinearConv', [transpose(x, 0, 2, 3, 1), ...inputs.slice(1)], {
          pads: [1, 1, 1, 1],
          channels_last: 1,
        }),
        0,
        3,
        1,
        2,
      ),
      await one('QLinearConv', inputs, { pads: [1, 1, 1, 1] }),
      0,
    );
  });
});

describe('recurrence', () => {
  const reversed = (t: Tensor, axis: number): Tensor =>
    concat(
      axis,
      ...Array.from({ length: t.shape[axis]! }, (_, i) => slice(t, axis, t.shape[axis]! - 1 - i, t.shape[axis]! - i)),
    );
  test.each([
    ['LSTM', 4, {}],
    ['GRU', 3, { linear_before_reset: 1 }],
    ['GRU', 3, {}],
    ['RNN', 1, { activations: ['Affine'], activation_alpha: [0.5], activation_beta: [0.1] }],
    ['LSTM', 4, { clip: 0.3, input_forget: 1 }],
  ] as [string, number, Attrs][])('%s: directions, layout and lengths', async (op, gates, attrs) => {
    const T = 5;
    const B = 3;
    const I = 4;
    const H = 2;
    const x = random(T, B, I);
    const w = random(2, gates * H, I);
    const r = random(2, gates * H, H);
    const b = random(2, 2 * gates * H);
    const h0 = random(2, B, H);
    const dir = (t: Tensor, d: number): Tensor => slice(t, 0, d, d + 1);
    const twice = {
      ...attrs,
      ...(attrs.activations
        ? { activations: ['Affine', 'Affine'], activation_alpha: [0.5, 0.5], activation_beta: [0.1, 0.1] }
        : {}),
    };
    const [y, last] = (await run(op, [x, w, r, b, null, h0], { ...twice, direction: 'bidirectional' }, 2)) as [
      Tensor,
      Tensor,
    ];
    const [f] = (await run(op, [x, dir(w, 0), dir(r, 0), dir(b, 0), null, dir(h0, 0)], attrs, 2)) as [Tensor];
    const [back] = (await run(op, [reversed(x, 0), dir(w, 1), dir(r, 1), dir(b, 1), null, dir(h0, 1)], attrs, 2)) as [
      Tensor,
    ];
    alike(y, concat(1, f, reversed(back, 0)));
    alike(last, concat(0, reshape(slice(f, 0, T - 1, T), 1, B, H), reshape(slice(back, 0, T - 1, T), 1, B, H)));
    const [yl, lastl] = (await run(
      op,
      [transpose(x, 1, 0, 2), w, r, b, null, transpose(h0, 1, 0, 2)],
      { ...twice, direction: 'bidirectional', layout: 1 },
      2,
    )) as [Tensor, Tensor];
    alike(yl, transpose(y, 2, 0, 1, 3));
    alike(lastl, transpose(last, 1, 0, 2));
    const lengths = of('int32', [B], 5, 2, 3);
    const [short, ends] = (await run(op, [x, w, r, b, lengths, h0], { ...twice, direction: 'bidirectional' }, 2)) as [
      Tensor,
      Tensor,
    ];
    const [alone, end] = (await run(
      op,
      [slice(slice(x, 0, 0, 2), 1, 1, 2), w, r, b, null, slice(h0, 1, 1, 2)],
      { ...twice, direction: 'bidirectional' },
      2,
    )) as [Tensor, Tensor];
    alike(slice(slice(short, 2, 1, 2), 0, 0, 2), alone);
    alike(slice(ends, 1, 1, 2), end);
    same(
      slice(slice(short, 2, 1, 2), 0, 2, 5),
      map(random(3, 2, 1, H), () => 0),
    );
  });
  test('DynamicQuantizeLSTM is near LSTM of the widened weights', async () => {
    const x = random(4, 2, 6);
    const w = integers('int8', -127, 127, 1, 6, 12);
    const r = integers('uint8', 0, 255, 1, 3, 12);
    const b = random(1, 24);
    const ws = of('float32', [1], 0.008);
    const rs = fromNumbers(
      'float32',
      [1, 12],
      Array.from({ length: 12 }, (_, i) => 0.003 + i * 2e-4),
    );
    const wide = transpose(
      map(w, (v) => (v - 5) * 0.008),
      0,
      2,
      1,
    );
    const deep = transpose(
      map(r, (v, i) => (v - 128) * (0.003 + (i % 12) * 2e-4)),
      0,
      2,
      1,
    );
    const got = await one(
      'com.microsoft.DynamicQuantizeLSTM',
      [
        x,
        w,
        r,
        b,
        null,
        null,
        null,
        null,
        ws,
        of('int8', [1], 5),
        rs,
        fromNumbers('uint8', [1, 12], new Array(12).fill(128)),
      ],
      { hidden_size: 3 },
    );
    alike(got, await one('LSTM', [x, wide, deep, b]), 0.02);
  });
});

describe('quantised products', () => {
  const pack = (values: readonly number[], bits: number, row: number): number[] => {
    const per = 8 / bits;
    const bytes: number[] = [];
    for (let at = 0; at < values.length; at += row)
      for (let i = 0; i < row; i += per)
        bytes.push(
          values.slice(at + i, Math.min(at + row, at + i + per)).reduce((b, v, k) => b | (v << (k * bits)), 0),
        );
    return bytes;
  };
  test.each([2, 4, 8])('MatMulNBits of %i bits', async (bits) => {
    const [N, K, block] = [3, 40, 16];
    const blocks = 3;
    const top = 2 ** bits - 1;
    const raw = Array.from({ length: N * blocks * block }, () => Math.floor(((noise() + 1) / 2) * (top + 1)));
    const zero = Array.from({ length: N * blocks }, () => Math.floor(((noise() + 1) / 2) * (top + 1)));
    const a = random(2, 2, K);
    const scales = random(N * blocks);
    const bias = random(N);
    const b = fromNumbers('uint8', [N, blocks, (block * bits) / 8], pack(raw, bits, block));
    const zeros = pack(zero, bits, blocks);
    const attrs = { N, K, bits, block_size: block };
    const weights = (
      z: (n: number, g: number) => number,
      group = (k: number): number => Math.floor(k / block),
    ): Tensor =>
      fromNumbers(
        'float32',
        [K, N],
        Array.from({ length: K * N }, (_, i) => {
          const n = i % N;
          const k = Math.floor(i / N);
          const g = group(k);
          return (raw[n * blocks * block + k]! - z(n, g)) * numbers(scales)[n * blocks + g]!;
        }),
      );
    alike(
      await one('com.microsoft.MatMulNBits', [a, b, scales], attrs),
      await one('MatMul', [a, weights(() => 2 ** (bits - 1))]),
      1e-3,
    );
    const packedZero = fromNumbers('uint8', [zeros.length], zeros);
    const shifted = await one('MatMul', [a, weights((n, g) => zero[n * blocks + g]!)]);
    alike(
      await one('com.microsoft.MatMulNBits', [a, b, scales, packedZero, null, bias], attrs),
      map(shifted, (v, i) => v + numbers(bias)[i % N]!),
      1e-3,
    );
    alike(
      await one('com.microsoft.MatMulNBits', [a, b, scales, fromNumbers('float32', [N, blocks], zero)], attrs),
      shifted,
      1e-3,
    );
    const order = fromNumbers(
      'int32',
      [K],
      Array.from({ length: K }, (_, k) => (k * 7) % blocks),
    );
    alike(
      await one('com.microsoft.MatMulNBits', [a, b, scales, null, order], attrs),
      await one('MatMul', [
        a,
        weights(
          () => 2 ** (bits - 1),
          (k) => (k * 7) % blocks,
        ),
      ]),
      1e-3,
    );
  });
  test.each([0, 1])('MatMulBnb4 of type %i', async (quant_type) => {
    const [N, K] = [5, 20];
    const codes = Array.from({ length: N * K }, (_, i) => (i * 7) % 16);
    const absmax = random(7);
    const table = BNB4[quant_type]!;
    const a = random(3, K);
    const b = fromNumbers(
      'uint8',
      [(N * K) / 2],
      Array.from({ length: (N * K) / 2 }, (_, i) => codes[2 * i]! * 16 + codes[2 * i + 1]!),
    );
    const attrs = { N, K, block_size: 16, quant_type };
    const wide = fromNumbers(
      'float32',
      [N, K],
      codes.map((c, i) => table[c]! * numbers(absmax)[Math.floor(i / 16)]!),
    );
    alike(
      await one('com.microsoft.MatMulBnb4', [a, b, absmax], attrs),
      await one('MatMul', [a, transpose(wide, 1, 0)]),
    );
    const c = random(2, N);
    alike(
      await one('com.microsoft.MatMulBnb4', [c, b, absmax], { ...attrs, transB: 0 }),
      await one('MatMul', [c, wide]),
    );
  });
  test('GatherBlockQuantized widens the rows it takes', async () => {
    const rows = 5;
    const width = 48;
    const raw = Array.from({ length: rows * width }, () => Math.floor(((noise() + 1) / 2) * 16));
    const scales = random(rows, 3);
    const zero = Array.from({ length: rows * 3 }, (_, i) => i % 16);
    const indices = of('int64', [2, 2], 4, 0, -2, 9);
    const attrs = { block_size: 16, quantize_axis: 1, gather_axis: 0 };
    const want = (z: (s: number) => number): Tensor =>
      fromNumbers(
        'float32',
        [2, 2, width],
        [4, 0, 3, -1].flatMap((r) =>
          Array.from({ length: width }, (_, i) =>
            r < 0
              ? 0
              : (raw[r * width + i]! - z(r * 3 + Math.floor(i / 16))) * numbers(scales)[r * 3 + Math.floor(i / 16)]!,
          ),
        ),
      );
    const bytes = fromNumbers('uint8', [rows, width / 2], pack(raw, 4, width));
    alike(
      await one('com.microsoft.GatherBlockQuantized', [bytes, indices, scales], attrs),
      want(() => 8),
    );
    alike(
      await one(
        'com.microsoft.GatherBlockQuantized',
        [bytes, indices, scales, fromNumbers('uint8', [rows, 2], pack(zero, 4, 3))],
        attrs,
      ),
      want((s) => zero[s]!),
    );
    alike(
      await one(
        'com.microsoft.GatherBlockQuantized',
        [fromNumbers('uint4', [rows, width], raw), indices, scales, fromNumbers('uint4', [rows, 3], zero)],
        attrs,
      ),
      want((s) => zero[s]!),
    );
  });
  test('matrix products widen to the real product', async () => {
    const a = integers('uint8', 0, 255, 2, 3, 4);
    const b = integers('int8', -128, 127, 4, 5);
    const bs = map(random(5), (v) => Math.abs(v) + 0.1);
    const bz = integers('int8', -9, 9, 5);
    const bias = random(5);
    const x = map(a, (v) => (v - 7) * 0.5);
    const y = map(b, (v, i) => (v - numbers(bz)[i % 5]!) * numbers(bs)[i % 5]!);
    const want = map(await one('MatMul', [x, y]), (v, i) => v + numbers(bias)[i % 5]!);
    alike(
      await one('com.microsoft.MatMulIntegerToFloat', [a, b, of('float32', [], 0.5), bs, of('uint8', [], 7), bz, bias]),
      want,
      1e-2,
    );
    alike(
      await one('com.microsoft.DynamicQuantizeMatMul', [x, b, bs, bz, bias]),
      want,
      Math.max(...Array.from(numbers(want) as Float32Array, Math.abs)) * 0.02,
    );
    const c = integers('int32', -50, 50, 5);
    const flat = reshape(a, 6, 4);
    const gemm = await one('MatMul', [reshape(x, 6, 4), y]);
    const real = map(gemm, (v, i) => 2 * (v + numbers(c)[i % 5]! * 0.5 * numbers(bs)[i % 5]!));
    alike(
      await one(
        'com.microsoft.QGemm',
        [flat, of('float32', [], 0.5), of('uint8', [], 7), transpose(b, 1, 0), bs, bz, c],
        { alpha: 2, transB: 1 },
      ),
      real,
      1e-2,
    );
    alike(
      await one(
        'com.microsoft.QGemm',
        [flat, of('float32', [], 0.5), of('uint8', [], 7), b, bs, bz, c, of('float32', [], 20), of('uint8', [], 90)],
        { alpha: 2 },
      ),
      map(real, (v) => Math.min(255, Math.max(0, Math.round(v / 20) + 90)), 'uint8'),
      1,
    );
  });
  test('elementwise operators round what the real ones give', async () => {
    const a = integers('uint8', 0, 255, 1, 2, 4, 4);
    const b = integers('uint8', 0, 255, 2, 1, 4);
    const s = (v: number): Tensor => of('float32', [], v);
    const z = (v: number): Tensor => of('uint8', [], v);
    const wide = map(a, (v) => (v - 128) * 0.05);
    const round = (t: Tensor, scale: number, zero: number): Tensor =>
      map(t, (v) => Math.min(255, Math.max(0, Math.round(v / scale) + zero)), 'uint8');
    const sum = map(wide, (v, i) => v + (numbers(b)[Math.floor(i / 16) * 4 + (i % 4)]! - 3) * 0.02);
    const product = map(wide, (v, i) => v * (numbers(b)[Math.floor(i / 16) * 4 + (i % 4)]! - 3) * 0.02);
    alike(
      await one('com.microsoft.QLinearAdd', [a, s(0.05), z(128), b, s(0.02), z(3), s(0.07), z(90)]),
      round(sum, 0.07, 90),
      1,
    );
    alike(
      await one('com.microsoft.QLinearMul', [a, s(0.05), z(128), b, s(0.02), z(3), s(0.2), z(120)]),
      round(product, 0.2, 120),
      1,
    );
    const five = [a, s(0.05), z(128), s(0.01), z(9)];
    alike(
      await one('com.microsoft.QLinearSigmoid', [a, s(0.05), z(128), s(1 / 256), null]),
      round(
        map(wide, (v) => 1 / (1 + Math.exp(-v))),
        1 / 256,
        0,
      ),
      1,
    );
    alike(
      await one('com.microsoft.QLinearLeakyRelu', five, { alpha: 0.2 }),
      round(
        map(wide, (v) => (v < 0 ? 0.2 * v : v)),
        0.01,
        9,
      ),
      1,
    );
    alike(
      await one('com.microsoft.QLinearSoftmax', five, { axis: 1, opset: 13 }),
      round(await one('Softmax', [wide], { axis: 1 }), 0.01, 9),
      1,
    );
    alike(
      await one('com.microsoft.QLinearSoftmax', five, { axis: 1, opset: 12 }),
      round(await one('Softmax', [wide], { axis: 1 }, 12), 0.01, 9),
      1,
    );
    const chosen = fromNumbers('bool', [4, 1], [1, 0, 0, 1]);
    const picked = map(wide, (v, i) =>
      Math.floor(i / 4) % 4 === 0 || Math.floor(i / 4) % 4 === 3
        ? v
        : (numbers(b)[Math.floor(i / 16) * 4 + (i % 4)]! - 3) * 0.02,
    );
    alike(
      await one('com.microsoft.QLinearWhere', [chosen, a, s(0.05), z(128), b, s(0.02), z(3), s(0.06), z(100)]),
      round(picked, 0.06, 100),
      1,
    );
    for (const reduce of [{ axes: [1, 3], keepdims: 0 }, { axes: [-2], keepdims: 1 }, { keepdims: 1 }] as Attrs[])
      alike(
        await one('com.microsoft.QLinearReduceMean', [a, s(0.05), z(128), s(0.02), z(99)], reduce),
        round(await one('ReduceMean', [wide], reduce, 11), 0.02, 99),
        1,
      );
    const pool = { kernel_shape: [2, 3], pads: [1, 0, 0, 1], count_include_pad: 1 };
    alike(
      await one('com.microsoft.QLinearAveragePool', [a, s(0.05), z(128), s(0.04), z(99)], pool),
      round(await one('AveragePool', [wide], pool), 0.04, 99),
      1,
    );
    alike(
      transpose(
        await one(
          'com.microsoft.QLinearGlobalAveragePool',
          [transpose(a, 0, 2, 3, 1), s(0.05), z(128), s(0.02), z(99)],
          { channels_last: 1 },
        ),
        0,
        3,
        1,
        2,
      ),
      round(await one('GlobalAveragePool', [wide]), 0.02, 99),
      1,
    );
    alike(
      await one('com.microsoft.QLinearConcat', [s(0.1), z(70), a, s(0.05), z(128), a, s(0.1), z(70)], { axis: 2 }),
      concat(2, round(wide, 0.1, 70), a),
      1,
    );
  });
});

describe('attention', () => {
  const B = 2;
  const S = 3;
  const N = 2;
  const D = 4;
  const W = N * D;
  const heads = { q_num_heads: N, kv_num_heads: N };
  test('MultiHeadAttention: its forms agree, and are Attention', async () => {
    const q = random(B, S, W);
    const k = random(B, 5, W);
    const v = random(B, 5, W);
    const own = { num_heads: N };
    const mha = 'com.microsoft.MultiHeadAttention';
    const want = await one('Attention', [q, k, v], heads);
    alike(await one(mha, [q, k, v], own), want);
    const kv = concat(3, reshape(k, B, 5, N, 1, D), reshape(v, B, 5, N, 1, D));
    alike(await one(mha, [q, kv], own), want);
    const first = (t: Tensor, n: number): Tensor => transpose(reshape(t, B, n, N, D), 0, 2, 1, 3);
    alike(await one(mha, [q, first(k, 5), first(v, 5)], own), want);
    const [y, pk, pv] = (await run(
      mha,
      [
        q,
        slice(k, 1, 2, 5),
        slice(v, 1, 2, 5),
        null,
        null,
        null,
        slice(first(k, 5), 2, 0, 2),
        slice(first(v, 5), 2, 0, 2),
      ],
      own,
      3,
    )) as [Tensor, Tensor, Tensor];
    alike(y, want);
    same(pk, first(k, 5));
    same(pv, first(v, 5));
    const bias = random(3 * W);
    const add = (t: Tensor, at: number): Tensor => map(t, (x, i) => x + numbers(bias)[at * W + (i % W)]!);
    alike(await one(mha, [q, k, v, bias], own), await one('Attention', [add(q, 0), add(k, 1), add(v, 2)], heads));
    const self = concat(
      3,
      reshape(q, B, S, N, 1, D),
      reshape(slice(k, 1, 0, S), B, S, N, 1, D),
      reshape(slice(v, 1, 0, S), B, S, N, 1, D),
    );
    alike(
      await one(mha, [self, null, null, bias], { ...own, unidirectional: 1 }),
      await one('Attention', [add(q, 0), add(slice(k, 1, 0, S), 1), add(slice(v, 1, 0, S), 2)], {
        ...heads,
        is_causal: 1,
      }),
    );
    const lengths = [4, 2];
    const allowed = fromNumbers(
      'bool',
      [B, 1, 1, 5],
      lengths.flatMap((n) => Array.from({ length: 5 }, (_, i) => Number(i < n))),
    );
    const masked = await one('Attention', [q, k, v, allowed], heads);
    const filter = { ...own, mask_filter_value: -1e30 };
    alike(await one(mha, [q, k, v, null, of('int32', [B], ...lengths)], filter), masked);
    alike(await one(mha, [q, k, v, null, map(reshape(allowed, B, 5), (x) => x, 'int32')], filter), masked);
    const extra = random(1, N, S, 5);
    alike(await one(mha, [q, k, v, null, null, extra], own), await one('Attention', [q, k, v, extra], heads));
  });
  test('Attention of com.microsoft projects, and QAttention does so from bytes', async () => {
    const x = random(B, S, 5);
    const w = random(5, 3 * W);
    const bias = random(3 * W);
    const past = random(2, B, N, 2, D);
    const attrs = { num_heads: N, unidirectional: 1 };
    const qkv = map(await one('MatMul', [x, w]), (v, i) => v + numbers(bias)[i % (3 * W)]!);
    const part = (t: Tensor, i: number): Tensor => slice(t, 2, i * W, (i + 1) * W);
    const half = (i: number): Tensor => reshape(slice(past, 0, i, i + 1), B, N, 2, D);
    const [want, wantK, wantV] = (await run(
      'Attention',
      [part(qkv, 0), part(qkv, 1), part(qkv, 2), null, half(0), half(1)],
      { ...heads, is_causal: 1 },
      3,
    )) as [Tensor, Tensor, Tensor];
    const [y, present] = (await run('com.microsoft.Attention', [x, w, bias, null, past], attrs, 2)) as [Tensor, Tensor];
    alike(y, want);
    alike(present, concat(0, reshape(wantK, 1, B, N, 5, D), reshape(wantV, 1, B, N, 5, D)));
    const left = of('int32', [2 * B], 3, 2, 1, 0);
    const mask = of('int32', [B, S], 0, 1, 1, 1, 1, 0);
    const bare = { num_heads: N };
    alike(
      await one('com.microsoft.Attention', [x, w, bias, left], bare),
      await one('com.microsoft.Attention', [x, w, bias, mask], bare),
    );
    const xb = integers('uint8', 0, 255, B, S, 5);
    const wb = integers('int8', -128, 127, 5, 3 * W);
    const ws = map(random(3 * W), (v) => 0.01 + Math.abs(v) / 100);
    const wide = [map(xb, (v) => (v - 8) * 0.01), map(wb, (v, i) => (v - 2) * numbers(ws)[i % (3 * W)]!), bias];
    alike(
      await one(
        'com.microsoft.QAttention',
        [xb, wb, bias, of('float32', [], 0.01), ws, mask, of('uint8', [], 8), of('int8', [], 2)],
        bare,
      ),
      await one('com.microsoft.Attention', [...wide, mask], bare),
    );
  });
  test('GroupQueryAttention: a prompt, its steps, shared caches and packing agree', async () => {
    const H = 4;
    const K = 2;
    const T = 6;
    const gqa = 'com.microsoft.GroupQueryAttention';
    const attrs = { num_heads: H, kv_num_heads: K, do_rotary: 1, softcap: 2, local_window_size: 3 };
    const q = random(B, T, H * D);
    const k = random(B, T, K * D);
    const v = random(B, T, K * D);
    const cos = random(9, D / 2);
    const sin = random(9, D / 2);
    const total = (n: number): Tensor => of('int32', [], n);
    const lens = (n: number): Tensor => of('int32', [B], n - 1, n - 1);
    const all = (await run(gqa, [q, k, v, null, null, lens(T), total(T), cos, sin], attrs, 3)) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const ids = fromNumbers(
      'int64',
      [B, T],
      Array.from({ length: B * T }, (_, i) => i % T),
    );
    const turn = (t: Tensor, n: number): Promise<Tensor> =>
      one('RotaryEmbedding', [t, cos, sin, ids], { num_heads: n });
    const window = fromNumbers(
      'bool',
      [T, T],
      Array.from({ length: T * T }, (_, i) => Number(i % T <= Math.floor(i / T) && i % T > Math.floor(i / T) - 3)),
    );
    alike(
      all[0],
      await one('Attention', [await turn(q, H), await turn(k, K), v, window], {
        q_num_heads: H,
        kv_num_heads: K,
        softcap: 2,
      }),
    );
    same(await one('com.microsoft.RotaryEmbedding', [q, ids, cos, sin], { num_heads: H }), await turn(q, H));
    alike(
      (await run(gqa, [concat(2, q, k, v), null, null, null, null, lens(T), total(T), cos, sin], attrs, 3))[0]!,
      all[0],
    );
    const at = (t: Tensor, from: number, to: number): Tensor => slice(t, 1, from, to);
    const prompt = (await run(
      gqa,
      [at(q, 0, 4), at(k, 0, 4), at(v, 0, 4), null, null, lens(4), total(4), cos, sin],
      attrs,
      3,
    )) as [Tensor, Tensor, Tensor];
    const step = (await run(
      gqa,
      [at(q, 4, 6), at(k, 4, 6), at(v, 4, 6), prompt[1], prompt[2], lens(6), total(6), cos, sin],
      attrs,
      3,
    )) as [Tensor, Tensor, Tensor];
    alike(concat(1, prompt[0], step[0]), all[0]);
    alike(step[1], all[1]);
    alike(step[2], all[2]);
    const room = random(B, K, 3, D);
    const shared = (await run(
      gqa,
      [
        at(q, 4, 6),
        at(k, 4, 6),
        at(v, 4, 6),
        concat(2, prompt[1], room),
        concat(2, prompt[2], room),
        lens(6),
        total(6),
        cos,
        sin,
      ],
      attrs,
      3,
    )) as [Tensor, Tensor, Tensor];
    alike(shared[0], step[0]);
    alike(shared[1], concat(2, step[1], slice(room, 2, 2, 3)));
    // A sink of -infinity is no sink; a smooth softmax is a sink of 0.
    const few = { num_heads: H, kv_num_heads: K };
    const base = [q, k, v, null, null, lens(T), total(T)];
    const none = new Array<null>(4).fill(null);
    alike(await one(gqa, [...base, ...none, map(random(H), () => -Infinity)], few), await one(gqa, base, few));
    alike(
      await one(gqa, [...base, ...none, map(random(H), () => 0)], few),
      await one(gqa, base, { ...few, smooth_softmax: 1 }),
    );
    // Entries of different length, padded on the right at the prompt: the shorter one is as if alone.
    const ragged = (await run(
      gqa,
      [at(q, 0, 4), at(k, 0, 4), at(v, 0, 4), null, null, of('int32', [B], 3, 1), total(4), cos, sin],
      attrs,
      3,
    )) as [Tensor, Tensor, Tensor];
    const next = (await run(
      gqa,
      [at(q, 4, 5), at(k, 4, 5), at(v, 4, 5), ragged[1], ragged[2], of('int32', [B], 4, 2), total(5), cos, sin],
      attrs,
      3,
    )) as [Tensor];
    const second = (t: Tensor, from: number, to: number): Tensor => slice(slice(t, 0, 1, 2), 1, from, to);
    const joined = (t: Tensor): Tensor => concat(1, second(t, 0, 2), second(t, 4, 5));
    const alone = await one(
      gqa,
      [joined(q), joined(k), joined(v), null, null, of('int32', [1], 2), total(3), cos, sin],
      attrs,
    );
    alike(slice(next[0], 0, 1, 2), slice(alone, 1, 2, 3));
  });
  test('LinearAttention of com.microsoft shares a query head among key heads', async () => {
    const q = random(2, 5, 2 * D);
    const k = random(2, 5, 4 * D);
    const v = random(2, 5, 4 * 3);
    const decay = map(random(2, 5, 4), (x) => -Math.abs(x));
    const beta = random(2, 5, 4);
    const twice = concat(2, ...[0, 0, 1, 1].map((h) => slice(q, 2, h * D, (h + 1) * D)));
    const got = await run(
      'com.microsoft.LinearAttention',
      [q, k, v, null, decay, beta],
      { q_num_heads: 2, kv_num_heads: 4 },
      2,
    );
    const want = await run(
      'LinearAttention',
      [twice, k, v, null, decay, beta],
      { q_num_heads: 4, kv_num_heads: 4 },
      2,
      27,
    );
    alike(got[0]!, want[0]!);
    alike(got[1]!, want[1]!);
  });
  test('windows of Attention bound the keys on both sides', async () => {
    const q = random(1, 1, 4, D);
    const k = random(1, 1, 6, D);
    const v = random(1, 1, 6, D);
    const allowed = fromNumbers(
      'bool',
      [4, 6],
      Array.from({ length: 24 }, (_, n) => {
        const i = Math.floor(n / 6);
        const j = n % 6;
        return Number(j >= i - 2 && j <= i + 1);
      }),
    );
    alike(
      await one('Attention', [q, k, v], { left_window_size: 2, right_window_size: 1 }),
      await one('Attention', [q, k, v, allowed]),
    );
  });
});

describe('malformed calls are refused', () => {
  const x = random(1, 3, 8, 8);
  const w = random(4, 3, 3, 3);
  const s = of('float32', [], 1);
  const attention = { q_num_heads: 2, kv_num_heads: 2 };
  test.each([
    ['Conv', [x, random(4, 3, 3)], {}, 'shape_mismatch'],
    ['Conv', [x, random(4, 2, 3, 3)], {}, 'shape_mismatch'],
    ['Conv', [x, w], { kernel_shape: [3] }, 'attribute_invalid'],
    ['Conv', [x, w], { strides: [1, 1, 1] }, 'attribute_invalid'],
    ['Conv', [x, w], { pads: [1, 1] }, 'attribute_invalid'],
    ['Conv', [x, w], { pads: [-1, 0, 0, 0] }, 'attribute_invalid'],
    ['Conv', [x, w], { strides: [0, 1] }, 'attribute_invalid'],
    ['Conv', [x, w], { dilations: [9, 9] }, 'shape_mismatch'],
    ['Conv', [x, w], { auto_pad: 'SAME' }, 'attribute_invalid'],
    ['Conv', [x, w, random(3)], {}, 'shape_mismatch'],
    ['Conv', [x, w], { group: 0 }, 'attribute_invalid'],
    ['Conv', [x, w], { group: 2 }, 'shape_mismatch'],
    ['ConvTranspose', [x, random(2, 4, 3, 3)], {}, 'shape_mismatch'],
    ['ConvTranspose', [x, random(3, 4, 3, 3)], { output_padding: [1, 1] }, 'attribute_invalid'],
    ['ConvTranspose', [x, random(3, 4, 3, 3)], { pads: [5, 5, 5, 5] }, 'shape_mismatch'],
    ['MaxPool', [x], { kernel_shape: [2] }, 'attribute_invalid'],
    ['MaxPool', [x], {}, 'attribute_invalid'],
    ['AveragePool', [x], { kernel_shape: [2, 2], dilations: [1] }, 'attribute_invalid'],
    ['GlobalMaxPool', [random(2, 3)], {}, 'shape_mismatch'],
    ['MatMul', [random(2, 3), random(2, 3)], {}, 'shape_mismatch'],
    ['MatMul', [s, s], {}, 'shape_mismatch'],
    ['Gemm', [random(2, 3), random(3, 4), random(3)], {}, 'shape_mismatch'],
    ['Gemm', [random(2, 3, 1), random(3, 4)], {}, 'shape_mismatch'],
    ['Einsum', [random(2, 3)], { equation: 'ijk->i' }, 'shape_mismatch'],
    ['Einsum', [random(2, 3)], { equation: 'ij->k' }, 'attribute_invalid'],
    ['Einsum', [random(2, 3), random(4, 3)], { equation: 'ij,jk' }, 'shape_mismatch'],
    ['Einsum', [random(2)], { equation: 'i,j' }, 'attribute_invalid'],
    ['LSTM', [random(2, 1, 3), random(1, 8, 3), random(1, 8, 3)], {}, 'shape_mismatch'],
    ['LSTM', [random(2, 1, 3), random(1, 8, 3), random(1, 8, 2)], { direction: 'bidirectional' }, 'shape_mismatch'],
    [
      'GRU',
      [random(2, 1, 3), random(1, 6, 3), random(1, 6, 2)],
      { activations: ['Sigmoid', 'Nope'] },
      'attribute_invalid',
    ],
    ['GRU', [random(2, 1, 3), random(1, 6, 3), random(1, 6, 2)], { hidden_size: 3 }, 'attribute_invalid'],
    ['RNN', [random(2, 1, 3), random(1, 2, 3), random(1, 2, 2), null, of('int32', [1], 3)], {}, 'value_invalid'],
    ['QuantizeLinear', [x, random(4)], {}, 'shape_mismatch'],
    ['QuantizeLinear', [x, random(1, 3, 3, 8)], { axis: 2, block_size: 4 }, 'shape_mismatch'],
    ['DequantizeLinear', [integers('int8', 0, 9, 2, 2), random(2)], { axis: 2 }, 'attribute_invalid'],
    ['QuantizeLinear', [x, s], { output_dtype: 1 }, 'attribute_invalid'],
    [
      'com.microsoft.MatMulNBits',
      [random(2, 16), integers('uint8', 0, 9, 3, 1, 8), random(3)],
      { K: 16, N: 4, block_size: 16 },
      'shape_mismatch',
    ],
    [
      'com.microsoft.MatMulNBits',
      [random(2, 16), integers('uint8', 0, 9, 3, 1, 8), random(3)],
      { K: 16, N: 3, block_size: 17 },
      'attribute_invalid',
    ],
    ['Attention', [random(1, 2, 8), random(1, 2, 8), random(1, 2, 8)], {}, 'attribute_invalid'],
    ['Attention', [random(1, 2, 8), random(1, 2, 6), random(1, 2, 8)], attention, 'shape_mismatch'],
    ['Attention', [random(1, 2, 8), random(1, 2, 8), random(1, 2, 8), random(3, 2)], attention, 'shape_mismatch'],
    [
      'Attention',
      [random(1, 2, 8), random(1, 2, 8), random(1, 2, 8), null, random(1, 2, 3, 4)],
      attention,
      'input_missing',
    ],
    [
      'RotaryEmbedding',
      [random(1, 2, 3, 4), random(5, 2), random(5, 2), of('int64', [1, 3], 0, 1, 5)],
      {},
      'value_invalid',
    ],
    [
      'RotaryEmbedding',
      [random(1, 2, 3, 4), random(5, 3), random(5, 3), of('int64', [1, 3], 0, 1, 2)],
      {},
      'shape_mismatch',
    ],
    ['DFT', [random(2, 3, 3)], {}, 'shape_mismatch'],
    ['DFT', [random(2, 3, 2)], { onesided: 1 }, 'shape_mismatch'],
    ['STFT', [random(1, 4, 1), of('int64', [], 1), random(8)], {}, 'shape_mismatch'],
    ['STFT', [random(1, 8, 1), of('int64', [], 0), random(4)], {}, 'value_invalid'],
    ['Det', [random(2, 3)], {}, 'shape_mismatch'],
  ] as [string, In[], Attrs, string][])('%s %#', async (op, inputs, attrs, code) => {
    const error = await run(op, inputs, attrs).then(
      () => null,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(SardonyxError);
    expect((error as SardonyxError).code).toBe(code);
  });
});
