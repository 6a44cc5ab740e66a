import { test } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { ops } from '../kernels/index.ts';
import { attentionShape } from '../kernels/attention-shape.ts';
import { attentionRows } from '../kernels/wasm/attention-rows.ts';
import { agree, CAPS, SHARED, source } from './wasm-device.ts';

const caps = (n: number) => (n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!);
const tolerance = (d: DType) =>
  d === 'float16'
    ? { atol: 2e-3, rtol: 2e-3 }
    : d === 'bfloat16'
      ? { atol: 2e-2, rtol: 1e-2 }
      : d === 'float32'
        ? { atol: 1e-6, rtol: 1e-6 }
        : { atol: 1e-12, rtol: 1e-12 };

test('Attention in all its forms', async () => {
  const s = source();
  const op = ops.get('Attention')!;
  const kernel = attentionRows((call) => attentionShape(call.inputs, call.attrs), true);
  for (let n = 0; n < 150; n++) {
    const packed = n % 2 === 0;
    const [batch, kv, per, queries, incoming, size, width] = [
      s.int(1, 2),
      s.int(1, 2),
      s.int(1, 3),
      s.int(1, 5),
      s.int(1, 7),
      s.pick([1, 2, 5, 8]),
      s.pick([1, 3, 4]),
    ];
    const heads = kv * per;
    const d = s.pick(['float32', 'float64', 'float16', 'bfloat16'] as const);
    const past = n % 3 === 0 ? s.int(0, 4) : 0;
    const keys = past + incoming;
    const three = (h: number, l: number, w: number): number[] => (packed ? [batch, l, h * w] : [batch, h, l, w]);
    const full = [batch, heads, queries, keys].map((v) => (s.int(0, 2) ? v : 1));
    full[3] = s.pick([keys, keys, 1, s.int(1, keys)]);
    const maskType = s.pick(['bool', d, 'float32', 'int32'] as const);
    const mask = n % 4 ? s.tensor(maskType, full.slice(s.int(0, 3)), 3) : null;
    if (mask && maskType === 'float32')
      (mask.data as Float32Array).forEach((_, i, a) => {
        if (s.int(0, 2) === 0) a[i] = -Infinity;
      });
    const inputs = [
      s.tensor(d, three(heads, queries, size)),
      s.tensor(d, three(kv, incoming, size)),
      s.tensor(d, three(kv, incoming, width)),
      mask,
      ...(n % 3 === 0
        ? [s.tensor(d, [batch, kv, past, size]), s.tensor(d, [batch, kv, past, width])]
        : n % 3 === 1
          ? [
              null,
              null,
              fromNumbers(
                'int64',
                [batch],
                Array.from({ length: batch }, () => s.int(-1, keys + 1)),
              ),
            ]
          : []),
    ];
    const window = () => (s.int(0, 2) ? -1 : s.int(0, 4));
    const attrs = {
      is_causal: s.int(0, 1),
      left_window_size: window(),
      right_window_size: window(),
      qk_matmul_output_mode: s.int(0, 3),
      softcap: n % 5 === 0 ? 1.5 : 0,
      ...(packed ? { q_num_heads: heads, kv_num_heads: kv } : {}),
      ...(n % 4 ? {} : { scale: 0.7 }),
    };
    await agree(op, { attrs, inputs, outputs: s.int(1, 4), kernel, caps: caps(n), ...tolerance(d) }, `trial ${n}`);
  }
});
test('FlexAttention without bodies', async () => {
  const s = source();
  const op = ops.get('ai.onnx.preview.FlexAttention')!;
  for (let n = 0; n < 30; n++) {
    const [batch, kv, per, queries, keys, size, width] = [
      s.int(1, 2),
      s.int(1, 2),
      s.int(1, 3),
      s.int(1, 5),
      s.int(1, 7),
      s.int(1, 5),
      s.int(1, 4),
    ];
    const d = s.pick(['float32', 'float64', 'float16', 'bfloat16'] as const);
    await agree(
      op,
      {
        inputs: [
          s.tensor(d, [batch, kv * per, queries, size]),
          s.tensor(d, [batch, kv, keys, size]),
          s.tensor(d, [batch, kv, keys, width]),
        ],
        caps: caps(n),
        ...tolerance(d),
      },
      `trial ${n}`,
    );
  }
});
