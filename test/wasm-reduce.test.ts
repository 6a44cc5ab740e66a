import { describe, expect, test } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { type Tensor, tensor } from '../src/core/tensor.ts';
import { alongAxis } from '../kernels/along.ts';
import { reductions } from '../kernels/reduce.ts';
import { agree, CAPS, DIMS, runOp, SHARED, source } from './wasm-device.ts';

const op = (name: string) => [...reductions, ...alongAxis].find((o) => o.op === name)!;
const ints = (v: readonly number[]): Tensor => tensor('int64', [v.length], v);
const FLOATS: readonly DType[] = ['float32', 'float16', 'bfloat16', 'float64'];
const INTS: readonly DType[] = ['int32', 'uint32', 'int64', 'uint64', 'int8', 'uint8', 'int16', 'uint16'];
const tolerance = (d: DType) =>
  d.includes('int') || d === 'bool'
    ? { atol: 0, rtol: 0 }
    : d === 'bfloat16'
      ? { atol: 0.2, rtol: 2e-2 }
      : d === 'float16'
        ? { atol: 2e-2, rtol: 4e-3 }
        : { atol: 1e-4, rtol: 2e-5 };

describe('reductions', () => {
  for (const name of ['Sum', 'Mean', 'Max', 'Min', 'Prod', 'L1', 'L2', 'SumSquare', 'LogSum', 'LogSumExp'])
    test(name, async () => {
      const s = source();
      for (let n = 0; n < 70; n++) {
        const floats = FLOATS.filter((d) => name !== 'LogSumExp' || d !== 'float64');
        const d =
          ['Mean', 'L2', 'LogSum', 'LogSumExp'].includes(name) || n % 2
            ? s.pick(floats)
            : s.pick<DType>(['Max', 'Min'].includes(name) ? [...INTS, 'bool'] : INTS);
        const shape = Array.from({ length: s.int(1, 5) }, (_, i) =>
          s.pick(i === 0 ? [...DIMS, 67] : [1, 2, 3, 4, 5, 17]),
        );
        while (shape.reduce((a, b) => a * b, 1) > 4000) shape.pop();
        if (n % 15 === 0) shape[s.int(0, shape.length - 1)] = 0;
        shape.reverse();
        const axes = shape
          .map((_, i) => i)
          .filter(() => s.next() < 0.5)
          .map((a) => (s.next() < 0.5 ? a : a - shape.length));
        const t =
          name === 'LogSum'
            ? fromNumbers(
                d,
                shape,
                Array.from(numbers(s.tensor(d, shape)), (v) => Math.abs(v) + 0.1),
              )
            : s.tensor(d, shape, name === 'Prod' ? 1.4 : name === 'LogSumExp' ? 60 : 2);
        await agree(
          op(`Reduce${name}`),
          {
            attrs: { keepdims: n & 1, noop_with_empty_axes: n % 3 ? 0 : 1 },
            inputs: [t, n % 7 ? ints(axes) : null],
            constants: [1],
            caps: n % 5 ? CAPS[n % CAPS.length]! : SHARED,
            ...tolerance(d),
          },
          `axes ${axes} trial ${n}`,
        );
      }
    });
  test('special values', async () => {
    const t = tensor(
      'float32',
      [3, 5],
      Float32Array.of(1, NaN, 2, 3, 4, Infinity, 1, 2, 3, 4, -Infinity, -Infinity, -Infinity, -Infinity, -Infinity),
    );
    for (const axes of [[0], [1]])
      for (const name of ['Max', 'Min', 'Sum', 'Mean', 'L1', 'Prod'])
        await agree(op(`Reduce${name}`), { inputs: [t, ints(axes)], constants: [1] });
    const u = tensor('float32', [2, 3], Float32Array.of(-Infinity, -Infinity, -Infinity, Infinity, 0, -Infinity));
    for (const axes of [[0], [1]]) await agree(op('ReduceLogSumExp'), { inputs: [u, ints(axes)], constants: [1] });
  });
  test('a long sum stays exact enough', () => {
    const t = tensor('float32', [1 << 16], new Float32Array(1 << 16).fill(0.1));
    expect(numbers(runOp(op('ReduceMean'), { inputs: [t, null] }).outputs[0]!)[0]).toBeCloseTo(0.1, 5);
  });
});

test('positions of extremes', async () => {
  const s = source();
  for (let n = 0; n < 80; n++) {
    const d = s.pick([...FLOATS, ...INTS]);
    const shape = Array.from({ length: s.int(1, 3) }, () => s.pick(DIMS.slice(0, 9)));
    const t =
      n % 2
        ? s.tensor(d, shape)
        : fromNumbers(
            d,
            shape,
            Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => s.int(0, 3)),
          );
    await agree(
      op(n % 4 < 2 ? 'ArgMax' : 'ArgMin'),
      {
        attrs: { axis: s.int(-shape.length, shape.length - 1), keepdims: n & 1, select_last_index: n % 3 ? 0 : 1 },
        inputs: [t],
      },
      `trial ${n}`,
    );
  }
});

test('running sums and products', async () => {
  const s = source();
  for (let n = 0; n < 60; n++) {
    const d = s.pick([...FLOATS, ...INTS]);
    const shape = Array.from({ length: s.int(1, 3) }, () => s.pick(DIMS.slice(0, 7)));
    await agree(
      op(n % 2 ? 'CumSum' : 'CumProd'),
      {
        attrs: { exclusive: n % 3 ? 0 : 1, reverse: n % 4 ? 0 : 1 },
        inputs: [s.tensor(d, shape, 1.3), tensor('int32', [], [s.int(-shape.length, shape.length - 1)])],
        constants: [1],
        ...tolerance(d),
      },
      `trial ${n}`,
    );
  }
});
