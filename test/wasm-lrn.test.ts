import { test } from 'vitest';
import { otherNorms } from '../kernels/norm-other.ts';
import { agree, CAPS, source } from './wasm-device.ts';

test('LRN, over any planes, windows and exponents', async () => {
  const s = source();
  const lrn = otherNorms.find((o) => o.op === 'LRN')!;
  for (let n = 0; n < 60; n++) {
    const d = s.pick(['float32', 'float16'] as const);
    const x = s.tensor(d, [s.int(1, 2), s.int(1, 9), s.int(1, 5), ...(n % 2 ? [s.int(1, 7)] : [])], 3);
    const attrs = {
      size: s.int(1, 7),
      alpha: s.pick([1e-4, 0.5]),
      beta: s.pick([0.75, 0.5, 1.3]),
      bias: s.pick([1, 2]),
    };
    await agree(
      lrn,
      { attrs, inputs: [x], caps: CAPS[n % CAPS.length]!, ...(d === 'float16' ? { atol: 2e-3, rtol: 2e-3 } : {}) },
      `trial ${n}`,
    );
  }
});
