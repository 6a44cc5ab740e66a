import { expect, test } from 'vitest';
import { type DType, ONNX_OF_DTYPE } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { deformConv } from '../kernels/conv-deform.ts';
import type { Op } from '../kernels/define.ts';
import { det } from '../kernels/det.ts';
import { pool } from '../kernels/pool.ts';
import { quantization } from '../kernels/quantize.ts';
import { roi } from '../kernels/roi.ts';
import { signal } from '../kernels/signal.ts';
import { dequantizeEach, quantizeEach } from '../kernels/wasm/quant-each.ts';
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
        : { atol: 1e-11, rtol: 1e-11 };
const op = (list: readonly Op[], name: string): Op => list.find((o) => o.op === name)!;
const ints = (shape: readonly number[], values: readonly number[], d: DType = 'int64'): Tensor =>
  fromNumbers(d, shape, values);
const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const FLOATS = ['float32', 'float64', 'float16', 'bfloat16'] as const;

test('Col2Im', async () => {
  const s = source();
  for (let n = 0; n < 80; n++) {
    const rank = s.int(1, 3);
    const block = Array.from({ length: rank }, () => s.int(1, 3));
    const dilations = block.map(() => s.int(1, 2));
    const strides = block.map(() => s.int(1, 3));
    const pads = [...block, ...block].map(() => s.int(0, 2));
    const image = block.map((k, i) => s.int(0, 4) + (k - 1) * dilations[i]! + 1);
    const columns = size(
      image.map(
        (v, i) => Math.floor((v + pads[i]! + pads[i + rank]! - dilations[i]! * (block[i]! - 1) - 1) / strides[i]!) + 1,
      ),
    );
    const d = s.pick(['float32', 'float64', 'float16', 'int32', 'int8'] as const);
    const inputs = [
      s.tensor(d, [s.int(1, 2), s.int(1, 3) * size(block), columns]),
      ints([rank], image),
      ints([rank], block),
    ];
    await agree(
      op(det, 'Col2Im'),
      { attrs: { dilations, strides, pads }, inputs, constants: [1, 2], caps: caps(n), ...tolerance(d) },
      `trial ${n}`,
    );
  }
});
test('DeformConv', async () => {
  const s = source();
  for (let n = 0; n < 80; n++) {
    const rank = n % 5 === 0 ? s.pick([1, 3]) : 2;
    const group = s.int(1, 2);
    const offset_group = s.int(1, 2);
    const channels = 2 * s.int(1, 2);
    const filters = group * s.int(1, 2);
    const batch = s.int(1, 2);
    const kernel = Array.from({ length: rank }, () => s.int(1, 3));
    const dilations = kernel.map(() => s.int(1, 2));
    const strides = kernel.map(() => s.int(1, 2));
    const pads = [...kernel, ...kernel].map(() => s.int(0, 1));
    const dims = kernel.map((k, i) => (k - 1) * dilations[i]! + 1 + s.int(0, 3));
    const out = dims.map(
      (v, i) => Math.floor((v + pads[i]! + pads[i + rank]! - (kernel[i]! - 1) * dilations[i]! - 1) / strides[i]!) + 1,
    );
    const taps = size(kernel);
    const d = s.pick(FLOATS);
    const inputs = [
      s.tensor(d, [batch, channels, ...dims]),
      s.tensor(d, [filters, channels / group, ...kernel]),
      s.tensor(d, [batch, offset_group * taps * rank, ...out], s.pick([0.9, 3])),
      n % 2 ? s.tensor(d, [filters]) : null,
      n % 3 ? s.tensor(d, [batch, offset_group * taps, ...out]) : null,
    ];
    if (n % 7 === 0 && (d === 'float32' || d === 'float64'))
      (inputs[2]!.data as Float32Array)[0] = s.pick([1e30, -1e30, Infinity]);
    const t = tolerance(d);
    await agree(
      deformConv,
      { attrs: { group, offset_group, dilations, strides, pads }, inputs, caps: caps(n), ...t, atol: 10 * t.atol },
      `trial ${n}`,
    );
  }
});
test('RoiAlign', async () => {
  const s = source();
  const align = op(roi, 'RoiAlign');
  for (let n = 0; n < 80; n++) {
    const [batch, channels, h, w, count] = [
      s.int(1, 2),
      s.int(1, 3),
      s.pick([1, 2, 7]),
      s.pick([1, 3, 8]),
      s.int(1, 4),
    ];
    const d = s.pick(FLOATS);
    const attrs = {
      mode: s.pick(['avg', 'max']),
      coordinate_transformation_mode: s.pick(['half_pixel', 'output_half_pixel']),
      output_height: s.int(1, 3),
      output_width: s.int(1, 3),
      sampling_ratio: s.int(0, 3),
      spatial_scale: s.pick([1, 0.5]),
    };
    await agree(
      align,
      {
        attrs,
        inputs: [
          s.tensor(d, [batch, channels, h, w]),
          s.tensor(n % 2 ? 'float32' : d, [count, 4], 12),
          ints(
            [count],
            Array.from({ length: count }, () => s.int(0, batch - 1)),
          ),
        ],
        caps: caps(n),
        ...tolerance(d),
      },
      `trial ${n}`,
    );
  }
  const rois = (v: number) => fromNumbers('float32', [1, 4], [0, 0, v, v]);
  expect(runOp(align, { inputs: [s.tensor('float32', [1, 1, 2, 2]), rois(2), ints([1], [1])] }).status).toBe(1);
  for (const v of [1e30, NaN, Infinity])
    expect(runOp(align, { inputs: [s.tensor('float32', [1, 1, 2, 2]), rois(v), ints([1], [0])] }).status).toBe(1);
});
test('MaxUnpool', async () => {
  const s = source();
  for (let n = 0; n < 60; n++) {
    const rank = s.int(1, 3);
    const kernel = Array.from({ length: rank }, () => s.int(1, 3));
    const strides = kernel.map(() => s.int(1, 3));
    const x = [s.int(1, 2), s.int(1, 2), ...kernel.map(() => s.int(1, 3))];
    const d = s.pick(FLOATS);
    const natural = [x[0]!, x[1]!, ...kernel.map((k, i) => (x[i + 2]! - 1) * strides[i]! + k)];
    const at = ints(
      x,
      Array.from({ length: size(x) }, () => s.int(0, size(natural) - 1)),
    );
    const wanted =
      n % 2
        ? [
            ints(
              [rank + 2],
              natural.map((v) => v + s.int(0, 2)),
            ),
          ]
        : [];
    await agree(
      op(pool, 'MaxUnpool'),
      {
        attrs: { kernel_shape: kernel, strides },
        inputs: [s.tensor(d, x), at, ...wanted],
        constants: [2],
        caps: caps(n),
        ...EXACT,
      },
      `trial ${n}`,
    );
  }
  for (const bad of [-1, 4, 2 ** 40])
    expect(
      runOp(op(pool, 'MaxUnpool'), {
        attrs: { kernel_shape: [2], strides: [2] },
        inputs: [s.tensor('float32', [1, 1, 2]), ints([1, 1, 2], [0, bad])],
      }).status,
    ).toBe(1);
});
test('Det', async () => {
  const s = source();
  for (let n = 0; n < 40; n++) {
    const k = s.pick([1, 2, 3, 5, 8]);
    const d = s.pick(['float32', 'float64'] as const);
    const t = s.tensor(d, [...(n % 3 ? [s.int(1, 4)] : []), k, k]);
    if (n % 7 === 0) (t.data as Float32Array).fill(0, 0, k);
    await agree(op(det, 'Det'), { inputs: [t], caps: caps(n), atol: 1e-9, rtol: 1e-6 }, `trial ${n}`);
  }
});
test('DFT and STFT', async () => {
  const s = source();
  for (let n = 0; n < 120; n++) {
    const d = s.pick(['float32', 'float64', 'float16'] as const);
    const rank = s.int(2, 4);
    const dims = Array.from({ length: rank - 1 }, () => s.int(1, 4));
    const axis = s.int(0, rank - 2);
    const inverse = s.int(0, 1);
    const onesided = s.int(0, 1);
    dims[axis] = s.pick([2, 3, 4, 5, 7, 8, 12, 16, 17, 30, 49]);
    const parts = onesided && !inverse ? 1 : s.int(1, 2);
    const length = n % 3 ? null : ints([], [s.pick([1, 2, 6, 13, 20])]);
    const t = tolerance(d);
    await agree(
      op(signal, 'DFT'),
      {
        attrs: { inverse, onesided },
        inputs: [s.tensor(d, [...dims, parts]), length, ints([], [n % 2 ? axis : axis - rank])],
        constants: [1, 2],
        caps: caps(n),
        ...t,
        atol: 100 * t.atol,
      },
      `trial ${n}`,
    );
    const frame = s.pick([1, 2, 5, 8, 12]);
    const complex = n % 3 === 0;
    const samples = frame + s.int(0, 9);
    const window = n % 2 ? s.tensor(d, [frame]) : null;
    await agree(
      op(signal, 'STFT'),
      {
        attrs: { onesided: complex ? 0 : s.int(0, 1) },
        inputs: [
          s.tensor(d, [s.int(1, 2), samples, ...(complex ? [2] : n % 4 ? [1] : [])]),
          ints([], [s.int(1, 4)]),
          window,
          window && n % 4 === 1 ? null : ints([], [frame]),
        ],
        constants: [1, 3],
        caps: caps(n),
        ...t,
        atol: 100 * t.atol,
      },
      `trial ${n}`,
    );
  }
});
test('quantising to and from every type', async () => {
  const s = source();
  const types = [
    'uint8',
    'int8',
    'uint16',
    'int16',
    'uint4',
    'int4',
    'uint2',
    'int2',
    'float8e4m3fn',
    'float8e4m3fnuz',
    'float8e5m2',
    'float8e5m2fnuz',
    'float4e2m1',
  ] as const;
  const kernel = quantizeEach((call) => (call.attrs.precision === 0 ? call.inputs[1]!.dtype : 'float64'));
  for (let n = 0; n < 240; n++) {
    const q = types[n % types.length]!;
    const mini = q.startsWith('float');
    const rank = s.int(1, 3);
    const shape = Array.from({ length: rank }, () => s.pick([1, 2, 3, 5, 8, 13]));
    const axis = s.int(0, rank - 1);
    const block = n % 3 === 0 ? s.int(1, 4) : 0;
    const scaleShape = block
      ? shape.map((v, i) => (i === axis ? Math.ceil(v / block) : v))
      : n % 3 === 1
        ? []
        : [shape[axis]!];
    const d = s.pick(['float32', 'float16', 'bfloat16'] as const);
    const scale = fromNumbers(
      d,
      scaleShape,
      Array.from({ length: size(scaleShape) }, () => 0.1 + s.next()),
    );
    const zero =
      n % 2 || mini
        ? fromNumbers(
            q,
            scaleShape,
            Array.from({ length: size(scaleShape) }, () => (mini ? 0 : s.int(0, 1))),
          )
        : null;
    await agree(
      op(quantization, 'QuantizeLinear'),
      {
        attrs: {
          axis,
          block_size: block,
          output_dtype: zero ? 0 : ONNX_OF_DTYPE[q],
          saturate: mini && q.startsWith('float8') ? s.int(0, 1) : 1,
          precision: n % 5 ? 0 : 11,
        },
        inputs: [s.tensor(n % 4 ? d : 'float64', shape, s.pick([1, 10, 1000])), scale, zero],
        kernel,
        caps: caps(n),
        ...EXACT,
      },
      `trial ${n}`,
    );
    await agree(
      op(quantization, 'DequantizeLinear'),
      {
        attrs: { axis, block_size: block },
        inputs: [
          fromNumbers(
            q,
            shape,
            Array.from({ length: size(shape) }, () => s.int(0, 3)),
          ),
          scale,
          zero,
        ],
        kernel: dequantizeEach,
        caps: caps(n),
        ...EXACT,
      },
      `trial ${n}`,
    );
  }
});
