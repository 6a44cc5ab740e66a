import { describe, test } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { channelNorms } from '../kernels/norm-channel.ts';
import { rowNorms } from '../kernels/norm.ts';
import { softmax } from '../kernels/softmax.ts';
import { agree, CAPS, DIMS, SHARED, source } from './wasm-device.ts';

const op = (name: string) => [...rowNorms, ...channelNorms, ...softmax].find((o) => o.op === name)!;
const FLOATS: readonly DType[] = ['float32', 'float16', 'bfloat16'];
const tolerance = (d: DType) => (d === 'float32' ? { atol: 2e-5, rtol: 1e-5 } : d === 'float16' ? { atol: 2e-3, rtol: 2e-3 } : { atol: 2e-2, rtol: 1e-2 });

describe('softmax', () => {
  for (const name of ['Softmax', 'LogSoftmax']) test(name, async () => {
    const s = source();
    for (let n = 0; n < 60; n++) {
      const shape = Array.from({ length: s.int(1, 4) }, () => s.pick(DIMS.slice(0, 10)));
      if (n % 7 === 0) shape[s.int(0, shape.length - 1)] = s.pick([0, 100, 257]);
      const d = s.pick(FLOATS);
      const attrs = { axis: s.int(-shape.length, shape.length - 1), flatten: n % 9 === 0 ? 1 : 0 };
      await agree(op(name), { attrs, inputs: [s.tensor(d, shape, s.pick([1, 30, 200]))], caps: n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!, ...tolerance(d), atol: tolerance(d).atol * (name === 'Softmax' ? 1 : 400) }, `trial ${n}`);
    }
  });
  test('masked entries are exactly 0', async () => {
    const t = { dtype: 'float32' as const, shape: [2, 5], data: Float32Array.of(1, -Infinity, 2, -1e9, 3, -1e38, 0, -Infinity, -100, -88) };
    await agree(op('Softmax'), { inputs: [t], atol: 1e-38, rtol: 1e-6 });
  });
});

describe('normalisation of rows', () => {
  for (const name of ['LayerNormalization', 'RMSNormalization', 'SimplifiedLayerNormalization']) test(name, async () => {
    const s = source();
    for (let n = 0; n < 50; n++) {
      const shape = Array.from({ length: s.int(1, 4) }, () => s.pick(DIMS.slice(0, 10)));
      if (n % 10 === 0 && shape.length > 1) shape[0] = 0;
      const axis = s.int(shape[0] === 0 ? 1 : 0, shape.length - 1);
      const d = s.pick(FLOATS);
      const own = n % 4 === 0 ? [1] : shape.slice(axis);
      const inputs = [s.tensor(d, shape), s.tensor(d, own), ...(name === 'LayerNormalization' && n % 3 ? [s.tensor(d, own)] : [])];
      const outputs = d === 'float32' || n % 2 ? s.int(1, name === 'LayerNormalization' ? 3 : name === 'RMSNormalization' ? 1 : 2) : 1;
      const t = { ...tolerance(d), ...(shape.slice(axis).reduce((a, b) => a * b, 1) === 1 ? { atol: 1 } : {}) }; // a row of one: 0 / sqrt(epsilon)
      await agree(op(name), { attrs: { axis, epsilon: 1e-2 }, inputs, outputs, caps: CAPS[n % CAPS.length]!, ...t }, `trial ${n}`);
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
      const inputs = [s.tensor(d, shape), s.tensor(d, skip), s.tensor(d, [h]), ...(layer ? [n % 3 ? s.tensor(d, [h]) : null] : []), n % 5 ? s.tensor(d, [h]) : null];
      await agree(op(`com.microsoft.Skip${layer ? '' : 'Simplified'}LayerNormalization`), { attrs: { epsilon: 1e-2 }, inputs, outputs: n % 3 === 2 ? 4 : 1, caps: n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!, ...tolerance(d) }, `trial ${n}`);
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
    await agree(op('InstanceNormalization'), { attrs: { epsilon: 1e-2 }, inputs: [s.tensor(d, shape), s.tensor(d, [channels]), s.tensor(d, [channels])], caps, ...tolerance(d) });
    const own = [n % 3 ? channels : groups];
    await agree(op('GroupNormalization'), { attrs: { num_groups: groups, epsilon: 1e-2, scale_per_group: n % 3 ? 0 : 1 }, inputs: [s.tensor(d, shape), s.tensor(d, own), s.tensor(d, own)], caps, ...tolerance(d) });
  }
});
