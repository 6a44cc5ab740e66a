import { test } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { batchNorm } from '../kernels/norm-batch.ts';
import { otherNorms } from '../kernels/norm-other.ts';
import { agree, CAPS, SHARED, source } from './wasm-device.ts';

const caps = (n: number) => (n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!);
const tolerance = (d: DType) =>
  d === 'float16'
    ? { atol: 4e-3, rtol: 4e-3 }
    : d === 'bfloat16'
      ? { atol: 4e-2, rtol: 2e-2 }
      : d === 'float32'
        ? { atol: 2e-6, rtol: 2e-6 }
        : { atol: 1e-12, rtol: 1e-12 };
const op = (name: string) => [batchNorm, ...otherNorms].find((o) => o.op === name)!;
const FLOATS = ['float32', 'float64', 'float16', 'bfloat16'] as const;

test('BatchNormalization and MeanVarianceNormalization', async () => {
  const s = source();
  for (let n = 0; n < 80; n++) {
    const shape = [s.int(1, 3), s.int(1, 6), ...Array.from({ length: s.int(0, 2) }, () => s.pick([1, 2, 3, 7]))];
    const d = s.pick(FLOATS);
    const spatial = n % 4 ? 1 : 0;
    const own = spatial ? [shape[1]!] : shape.slice(1);
    const e = s.pick([d, 'float32'] as const);
    const variance = fromNumbers(
      e,
      own,
      Array.from({ length: own.reduce((a, b) => a * b, 1) }, () => 0.1 + s.next()),
    );
    await agree(
      op('BatchNormalization'),
      {
        attrs: { training_mode: n % 2, epsilon: 0.01, momentum: 0.7, spatial },
        inputs: [s.tensor(d, shape), s.tensor(e, own), s.tensor(e, own), s.tensor(e, own), variance],
        outputs: s.int(1, 5),
        caps: caps(n),
        ...tolerance(d),
      },
      `trial ${n}`,
    );
    const axes = shape.map((_, i) => i).filter((i) => s.int(0, 1) || (i === 0 && shape[0]! > 1));
    const wide = shape.map((v) => v + 1);
    await agree(
      op('MeanVarianceNormalization'),
      {
        attrs: { axes },
        inputs: [s.tensor(d, wide)],
        caps: caps(n),
        ...tolerance(d),
        ...(axes.length === 0 ? { atol: 1 } : {}),
      },
      `trial ${n}`,
    );
  }
});
