import { describe, expect, test } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { attentions } from '../kernels/attention.ts';
import { causalConv } from '../kernels/conv-causal.ts';
import type { Op } from '../kernels/define.ts';
import { gatherScatter } from '../kernels/gather-scatter.ts';
import { grid } from '../kernels/grid.ts';
import { rotary } from '../kernels/rotary.ts';
import { slice } from '../kernels/slice.ts';
import { agree, CAPS, runOp, SHARED, source } from './wasm-device.ts';

const caps = (n: number) => (n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!);
const EXACT = { atol: 0, rtol: 0 };
const tolerance = (d: DType) =>
  d === 'float16'
    ? { atol: 2e-3, rtol: 2e-3 }
    : d === 'bfloat16'
      ? { atol: 2e-2, rtol: 1e-2 }
      : d === 'float32'
        ? { atol: 1e-6, rtol: 1e-6 }
        : { atol: 1e-13, rtol: 1e-13 };
const op = (list: readonly Op[], name: string): Op => list.find((o) => o.op === name)!;
const ints = (shape: readonly number[], values: readonly number[], d: DType = 'int64'): Tensor =>
  fromNumbers(d, shape, values);

test('GridSample', async () => {
  const s = source();
  for (let n = 0; n < 150; n++) {
    const rank = s.int(1, 3);
    const size = () => s.pick(n % 2 ? [1, 2, 3, 5] : [1, 4, 7]);
    const dims = Array.from({ length: rank }, size);
    const out = Array.from({ length: rank }, size);
    const batch = s.int(1, 2);
    if (n % 25 === 3) out[0] = 0;
    const d = s.pick(['float32', 'float16', 'float64', 'bfloat16'] as const);
    const g = s.tensor(s.pick(['float32', 'float64']), [batch, ...out, rank], s.pick([1, 1.3, 5]));
    if (n % 4 === 0)
      (g.data as Float32Array).forEach((_, i, a) => {
        if (s.int(0, 3) === 0) a[i] = s.pick([-1, 1, 0, NaN, Infinity, -Infinity, 1e30, -1e9, 0.5]);
      });
    const attrs = {
      mode: s.pick(['linear', 'nearest', 'cubic']),
      padding_mode: s.pick(['zeros', 'border', 'reflection']),
      align_corners: s.int(0, 1),
    };
    await agree(
      op(grid, 'GridSample'),
      { attrs, inputs: [s.tensor(d, [batch, s.int(1, 3), ...dims]), g], caps: caps(n), ...tolerance(d) },
      `trial ${n}`,
    );
  }
});
test('AffineGrid', async () => {
  const s = source();
  for (let n = 0; n < 40; n++) {
    const rank = s.int(2, 3);
    const batch = s.int(1, 3);
    const dims = Array.from({ length: rank }, () => s.int(1, 6));
    const d = s.pick(['float32', 'float64', 'float16'] as const);
    await agree(
      op(grid, 'AffineGrid'),
      {
        attrs: { align_corners: n % 2 },
        inputs: [s.tensor(d, [batch, rank, rank + 1]), ints([rank + 2], [batch, 3, ...dims])],
        constants: [1],
        caps: caps(n),
        ...tolerance(d),
      },
      `trial ${n}`,
    );
  }
});
test('LinearAttention', async () => {
  const s = source();
  for (let n = 0; n < 60; n++) {
    const microsoft = n % 3 === 0;
    const kv = s.int(1, 3);
    const per = s.int(1, 3);
    const [q, k] = microsoft && n % 2 ? [kv, kv * per] : [kv * per, kv];
    const [batch, steps, size, width] = [s.int(1, 2), s.int(1, 5), s.pick([1, 2, 5, 8]), s.pick([1, 3, 4])];
    const d = s.pick(['float32', 'float16', 'bfloat16'] as const);
    const rule = s.pick(['linear', 'gated', 'delta', 'gated_delta']);
    const t = (...shape: number[]) => s.tensor(d, shape, 1);
    const inputs = [
      t(batch, steps, q * size),
      t(batch, steps, k * size),
      t(batch, steps, k * width),
      n % 2 ? s.tensor(n % 4 === 1 ? 'float32' : d, [batch, k, size, width], 1) : null,
      rule.startsWith('gated') ? t(batch, steps, k * (n % 5 ? size : 1)) : null,
      rule.endsWith('delta') ? t(batch, steps, n % 2 ? k : 1) : null,
    ];
    await agree(
      op(attentions, microsoft ? 'com.microsoft.LinearAttention' : 'LinearAttention'),
      {
        attrs: { q_num_heads: q, kv_num_heads: k, update_rule: rule, ...(n % 4 ? {} : { scale: 0.7 }) },
        inputs,
        outputs: s.int(1, 2),
        caps: caps(n),
        ...tolerance(d),
      },
      `trial ${n}`,
    );
  }
});
test('CausalConvWithState', async () => {
  const s = source();
  for (let n = 0; n < 60; n++) {
    const [batch, channels, length, taps, dilation] = [
      s.int(1, 2),
      s.int(1, 5),
      s.pick([1, 2, 7, 13]),
      s.int(1, 4),
      s.int(1, 3),
    ];
    const d = s.pick(['float32', 'float16', 'bfloat16'] as const);
    const inputs = [
      s.tensor(d, [batch, channels, length]),
      s.tensor(d, [channels, 1, taps]),
      n % 2 ? s.tensor(d, [channels]) : null,
      n % 3 ? s.tensor(d, [batch, channels, (taps - 1) * dilation]) : null,
    ];
    await agree(
      causalConv[n % 2]!,
      {
        attrs: { activation: s.pick(['none', 'silu', 'swish']), dilation },
        inputs,
        outputs: s.int(1, 2),
        caps: caps(n),
        ...tolerance(d),
      },
      `trial ${n}`,
    );
  }
});
describe('RotaryEmbedding', () => {
  test('agrees', async () => {
    const s = source();
    for (let n = 0; n < 60; n++) {
      const [batch, steps, heads, half, rest] = [
        s.int(1, 3),
        s.int(1, 5),
        s.int(1, 3),
        s.int(1, 4),
        n % 3 ? 0 : s.int(1, 3),
      ];
      const size = 2 * half + rest;
      const rows = 11;
      const d = s.pick(['float32', 'float16', 'bfloat16', 'float64'] as const);
      const mode = n % 3 === 0 ? 'none' : n % 3 === 1 ? 'each' : 'first';
      const cache = mode === 'none' ? [batch, steps, half] : [rows, half];
      const x = s.tensor(d, n % 2 ? [batch, heads, steps, size] : [batch, steps, heads * size]);
      const ids =
        mode === 'none'
          ? null
          : mode === 'each'
            ? ints(
                [batch, steps],
                Array.from({ length: batch * steps }, () => s.int(0, rows - 1)),
              )
            : ints([1], [s.int(0, rows - steps)]);
      await agree(
        rotary[n % 2]!,
        {
          attrs: {
            interleaved: s.int(0, 1),
            num_heads: heads,
            rotary_embedding_dim: rest ? 2 * half : 0,
            ...(n % 4 ? {} : { scale: 0.5 }),
          },
          inputs: [x, s.tensor(d, cache), s.tensor(d, cache), ids],
          caps: caps(n),
          ...tolerance(d),
        },
        `trial ${n}`,
      );
    }
  });
  test('positions outside the caches are refused', () => {
    const s = source();
    for (const bad of [-1, 4, 2 ** 31, 2 ** 40])
      expect(
        runOp(rotary[0]!, {
          attrs: { num_heads: 1 },
          inputs: [
            s.tensor('float32', [1, 2, 4]),
            s.tensor('float32', [4, 2]),
            s.tensor('float32', [4, 2]),
            ints([1, 2], [0, bad]),
          ],
        }).status,
      ).toBe(1);
    expect(
      runOp(rotary[0]!, {
        attrs: { num_heads: 1 },
        inputs: [
          s.tensor('float32', [1, 2, 4]),
          s.tensor('float32', [4, 2]),
          s.tensor('float32', [4, 2]),
          ints([1], [3]),
        ],
      }).status,
    ).toBe(1);
  });
});
test('TensorScatter', async () => {
  const s = source();
  for (let n = 0; n < 60; n++) {
    const rank = s.int(2, 4);
    const shape = Array.from({ length: rank }, () => s.int(1, 4));
    const axis = s.int(1, rank - 1);
    const circular = n % 2 === 1;
    shape[axis] = s.int(1, 7);
    const short = s.int(n % 9 ? 1 : 0, shape[axis]!);
    const d = s.pick(['float32', 'int8', 'int64', 'float16'] as const);
    const at =
      n % 3
        ? ints(
            [shape[0]!],
            Array.from({ length: shape[0]! }, () => s.int(0, circular ? 30 : shape[axis]! - short)),
          )
        : null;
    await agree(
      op(gatherScatter, 'TensorScatter'),
      {
        attrs: { axis: n % 4 ? axis : axis - rank, mode: circular ? 'circular' : 'linear' },
        inputs: [
          s.tensor(d, shape),
          s.tensor(
            d,
            shape.map((v, i) => (i === axis ? short : v)),
          ),
          at,
        ],
        caps: caps(n),
        ...EXACT,
      },
      `trial ${n}`,
    );
  }
  for (const bad of [-1, 3, 2 ** 40])
    expect(
      runOp(op(gatherScatter, 'TensorScatter'), {
        inputs: [s.tensor('float32', [1, 4, 2]), s.tensor('float32', [1, 2, 2]), ints([1], [bad])],
      }).status,
    ).toBe(1);
});
test('ReverseSequence', async () => {
  const s = source();
  for (let n = 0; n < 60; n++) {
    const shape = Array.from({ length: s.int(2, 4) }, () => s.int(1, 5));
    const time = n % 2;
    const d = s.pick(['float32', 'int8', 'int64', 'float16'] as const);
    await agree(
      op(slice, 'ReverseSequence'),
      {
        attrs: { time_axis: time, batch_axis: 1 - time },
        inputs: [
          s.tensor(d, shape),
          ints(
            [shape[1 - time]!],
            Array.from({ length: shape[1 - time]! }, () => s.int(0, shape[time]!)),
          ),
        ],
        caps: caps(n),
        ...EXACT,
      },
      `trial ${n}`,
    );
  }
  expect(runOp(op(slice, 'ReverseSequence'), { inputs: [s.tensor('float32', [3, 2]), ints([2], [1, 4])] }).status).toBe(
    1,
  );
});
