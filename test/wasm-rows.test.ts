import { describe, expect, test } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { channelNorms } from '../kernels/norm-channel.ts';
import { rowNorms } from '../kernels/norm.ts';
import { softmax } from '../kernels/softmax.ts';
import { agree, CAPS, DIMS, runOp, SHARED, source } from './wasm-device.ts';

const op = (name: string) => [...rowNorms, ...channelNorms, ...softmax].find((o) => o.op === name)!;
const FLOATS: readonly DType[] = ['float32', 'float16', 'bfloat16'];
const tolerance = (d: DType) =>
  d === 'float32'
    ? { atol: 2e-5, rtol: 1e-5 }
    : d === 'float16'
      ? { atol: 2e-3, rtol: 2e-3 }
      : { atol: 2e-2, rtol: 1e-2 };

describe('softmax', () => {
  for (const name of ['Softmax', 'LogSoftmax'])
    test(name, async () => {
      const s = source();
      for (let n = 0; n < 60; n++) {
        const shape = Array.from({ length: s.int(1, 4) }, () => s.pick(DIMS.slice(0, 10)));
        if (n % 7 === 0) shape[s.int(0, shape.length - 1)] = s.pick([0, 100, 257]);
        const d = s.pick(FLOATS);
        const attrs = { axis: s.int(-shape.length, shape.length - 1), flatten: n % 9 === 0 ? 1 : 0 };
        await agree(
          op(name),
          {
            attrs,
            inputs: [s.tensor(d, shape, s.pick([1, 30, 200]))],
            caps: n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!,
            ...tolerance(d),
            atol: tolerance(d).atol * (name === 'Softmax' ? 1 : 400),
          },
          `trial ${n}`,
        );
      }
    });
  test('masked entries are exactly 0', async () => {
    const t = {
      dtype: 'float32' as const,
      shape: [2, 5],
      data: Float32Array.of(1, -Infinity, 2, -1e9, 3, -1e38, 0, -Infinity, -100, -88),
    };
    await agree(op('Softmax'), { inputs: [t], atol: 1e-38, rtol: 1e-6 });
  });
  test('is off by 6 + 1.25 |x| units of 2^-24 at most', () => {
    const s = source();
    const row = [0, ...Array.from({ length: 4000 }, (_, i) => -87 * (i % 2 ? s.next() : s.next() ** 6))].map(
      Math.fround,
    );
    const exact = row.map(Math.exp);
    const total = exact.reduce((a, b) => a + b);
    for (const caps of CAPS) {
      const got = runOp(op('Softmax'), {
        inputs: [{ dtype: 'float32', shape: [row.length], data: Float32Array.from(row) }],
        caps,
      }).outputs[0]!.data as Float32Array;
      row.forEach((x, i) => {
        if (exact[i]! / total > 2 ** -125)
          expect(Math.abs((got[i]! * total) / exact[i]! - 1) * 2 ** 24, `e^${x}`).toBeLessThanOrEqual(6 - 1.25 * x);
      });
    }
  });
  test('NaN, infinity and a row of nothing but masks give NaN', async () => {
    const rows = [
      [1, NaN, 2, 3, 4, 5, 6, 7, 8, 9],
      [1, 2, 3, 4, Infinity, 5, 6, 7, 8, -Infinity],
      new Array<number>(10).fill(-Infinity),
      [1, 2, 3, 4, 5, 6, 7, 8, 9, NaN],
    ];
    for (const name of ['Softmax', 'LogSoftmax'])
      for (const row of rows)
        await agree(op(name), { inputs: [{ dtype: 'float32', shape: [1, row.length], data: Float32Array.from(row) }] });
  });
  test('any NaN stays one', () => {
    const one = [0x7fc00000, 0xffc00000, 0x7f800001, 0xff800001];
    const bits = Uint32Array.from({ length: 2044 }, (_, i) => one[i & 3]! + (i >> 2));
    for (const name of ['Softmax', 'LogSoftmax'])
      for (const caps of CAPS)
        for (const axis of [0, 1]) {
          const n = 6;
          const data = new Float32Array(n * bits.length);
          const words = new Uint32Array(data.buffer);
          bits.forEach((b, i) => {
            words[axis === 1 ? n * i + (i % n) : (i % n) * bits.length + i] = b;
          });
          const shape = axis === 1 ? [bits.length, n] : [n, bits.length];
          const got = runOp(op(name), {
            attrs: { axis, flatten: 0 },
            inputs: [{ dtype: 'float32', shape, data }],
            caps,
          }).outputs[0]!.data as Float32Array;
          expect(
            got.findIndex((v) => !Number.isNaN(v)),
            `${name} along ${axis}`,
          ).toBe(-1);
        }
  });
});

describe('normalisation of rows', () => {
  for (const name of ['LayerNormalization', 'RMSNormalization', 'SimplifiedLayerNormalization'])
    test(name, async () => {
      const s = source();
      for (let n = 0; n < 50; n++) {
        const shape = Array.from({ length: s.int(1, 4) }, () => s.pick(DIMS.slice(0, 10)));
        if (n % 10 === 0 && shape.length > 1) shape[0] = 0;
        const axis = s.int(shape[0] === 0 ? 1 : 0, shape.length - 1);
        const d = s.pick(FLOATS);
        const own = n % 4 === 0 ? [1] : shape.slice(axis);
        const inputs = [
          s.tensor(d, shape),
          s.tensor(d, own),
          ...(name === 'LayerNormalization' && n % 3 ? [s.tensor(d, own)] : []),
        ];
        const outputs =
          d === 'float32' || n % 2
            ? s.int(1, name === 'LayerNormalization' ? 3 : name === 'RMSNormalization' ? 1 : 2)
            : 1;
        // a row of one: 0 / sqrt(epsilon)
        const t = { ...tolerance(d), ...(shape.slice(axis).reduce((a, b) => a * b, 1) === 1 ? { atol: 1 } : {}) };
        await agree(
          op(name),
          { attrs: { axis, epsilon: 1e-2 }, inputs, outputs, caps: CAPS[n % CAPS.length]!, ...t },
          `trial ${n}`,
        );
      }
    });
  test('with additions', async () => {
    const s = source();
    for (let n = 0; n < 60; n++) {
      const [b, l, h] = [s.int(1, 3), s.int(1, 5), s.pick(DIMS)];
      const d = s.pick(FLOATS);
      const shape = n % 3 === 0 ? [l, h] : [b, l, h];
      const skip = n % 4 === 0 ? [l, h] : n % 4 === 1 && shape.length === 3 ? [1, l, h] : shape;
      const layer = n % 2 === 0;
      const inputs = [
        s.tensor(d, shape),
        s.tensor(d, skip),
        s.tensor(d, [h]),
        ...(layer ? [n % 3 ? s.tensor(d, [h]) : null] : []),
        n % 5 ? s.tensor(d, [h]) : null,
      ];
      await agree(
        op(`com.microsoft.Skip${layer ? '' : 'Simplified'}LayerNormalization`),
        {
          attrs: { epsilon: 1e-2 },
          inputs,
          outputs: n % 3 === 2 ? 4 : 1,
          caps: n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!,
          ...tolerance(d),
        },
        `trial ${n}`,
      );
    }
  });
});

test('instances and groups of channels', async () => {
  const s = source();
  for (let n = 0; n < 50; n++) {
    const groups = s.int(1, 4);
    const channels = groups * s.int(1, 5);
    const shape = [s.int(1, 2), channels, s.pick(DIMS), ...(n % 2 ? [s.int(1, 4)] : [])];
    const d = s.pick(FLOATS);
    const caps = CAPS[n % CAPS.length]!;
    await agree(op('InstanceNormalization'), {
      attrs: { epsilon: 1e-2 },
      inputs: [s.tensor(d, shape), s.tensor(d, [channels]), s.tensor(d, [channels])],
      caps,
      ...tolerance(d),
    });
    const own = [n % 3 ? channels : groups];
    await agree(op('GroupNormalization'), {
      attrs: { num_groups: groups, epsilon: 1e-2, scale_per_group: n % 3 ? 0 : 1 },
      inputs: [s.tensor(d, shape), s.tensor(d, own), s.tensor(d, own)],
      caps,
      ...tolerance(d),
    });
  }
});
