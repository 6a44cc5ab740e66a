import { describe, expect, test } from 'vitest';
import { planModel, Session, type Tensor, tensor } from '../src/index.ts';
import { BASE_WASM } from '../src/core/plan.ts';
import { sizeOf } from '../src/core/tensor.ts';
import { encode, initializer, type Json, node, port } from './onnx-model.ts';
import { source } from './wasm-device.ts';

const s = source();
const scalar = (v: number): Tensor => tensor('float32', [], Float32Array.of(v));
const byte = (v: number, signed = false): Tensor =>
  signed ? tensor('int8', [], Int8Array.of(v)) : tensor('uint8', [], Uint8Array.of(v));

type Attributes = NonNullable<Parameters<typeof node>[3]>;
/** A model in which tensors are quantised and dequantised around each layer. */
function layers() {
  const nodes: Json[] = [];
  const weights: Record<string, Tensor> = {};
  let count = 0;
  const weight = (t: Tensor): string => {
    const n = `t${count++}`;
    weights[n] = t;
    return n;
  };
  const op = (type: string, inputs: readonly string[], attrs: Attributes = {}): string => {
    const y = `t${count++}`;
    nodes.push(node(type, inputs, [y], attrs));
    return y;
  };
  const list = (scales: readonly number[]): Tensor =>
    scales.length > 1 ? tensor('float32', [scales.length], Float32Array.from(scales)) : scalar(scales[0]!);
  return {
    weight,
    op,
    /** The value rounded to steps and back. */
    steps: (x: string, scale: number, zero: number): string =>
      op('DequantizeLinear', [
        op('QuantizeLinear', [x, weight(scalar(scale)), weight(byte(zero))]),
        weight(scalar(scale)),
        weight(byte(zero)),
      ]),
    /** Constant weights of bytes, with one scale or one of each of `axis`. */
    bytes: (shape: readonly number[], scales: readonly number[], axis: number): string => {
      const q = tensor(
        'int8',
        shape,
        Int8Array.from({ length: sizeOf(shape) }, () => s.int(-127, 127)),
      );
      const many = scales.length > 1;
      return op(
        'DequantizeLinear',
        [
          weight(q),
          weight(list(scales)),
          weight(many ? tensor('int8', [scales.length], new Int8Array(scales.length)) : byte(0, true)),
        ],
        many ? { axis } : {},
      );
    },
    bias: (n: number, scales: readonly number[]): string =>
      op(
        'DequantizeLinear',
        [
          weight(
            tensor(
              'int32',
              [n],
              Int32Array.from({ length: n }, () => s.int(-300, 300)),
            ),
          ),
          weight(list(scales)),
        ],
        scales.length > 1 ? { axis: 0 } : {},
      ),
    model: (input: readonly number[], output: string): Uint8Array =>
      encode(
        {
          input: [port('x', input)],
          output: [{ name: output, type: { tensorType: { elemType: 1 } } }],
          initializer: Object.entries(weights).map(([n, t]) => initializer(n, t)),
          node: nodes,
        },
        17,
      ),
  };
}
type Layers = ReturnType<typeof layers>;

/**
 * Runs on the CPU and by the references; every result is at most one step away, and nearly all are the same. Gives the
 * operators of the plan.
 */
async function check(l: Layers, shape: number[], output: string, step: number): Promise<string[]> {
  const model = l.model(shape, output);
  const feeds = { x: s.tensor('float32', shape, 3) };
  await using plain = await Session.load(model, { device: 'reference', optimize: false });
  await using wasm = await Session.load(model, { device: 'wasm' });
  const [want, got] = [(await plain.run(feeds))[output] as Tensor, (await wasm.run(feeds))[output] as Tensor].map(
    (t) => t.data as Float32Array,
  ) as [Float32Array, Float32Array];
  let apart = 0;
  want.forEach((v, i) => {
    const far = Math.abs(v - got[i]!);
    if (far > 1e-5) apart++;
    expect(far, `element ${i}`).toBeLessThanOrEqual(step * 1.001);
  });
  expect(apart).toBeLessThanOrEqual(want.length / 50);
  return (await planModel(model, { caps: BASE_WASM })).plan.steps.flatMap((p) => ('op' in p ? [p.op] : []));
}

describe('layers between DequantizeLinear and QuantizeLinear run on bytes', () => {
  test('convolutions, plain, grouped and depthwise, with padding and activations', async () => {
    for (let n = 0; n < 16; n++) {
      const l = layers();
      const group = s.pick([1, 1, 2, 6]);
      const channels = group === 6 ? 6 : 2 * s.int(1, 4);
      const filters = group === 6 ? 6 : 2 * s.int(1, 5);
      const k = s.pick([1, 3]);
      const many = n % 2 === 1;
      const scales = Array.from({ length: many ? filters : 1 }, () => 0.005 + 0.01 * s.next());
      const activation = s.pick(['', 'Relu', 'Clip']);
      const [xs, xz] = [0.02, s.int(0, 200)];
      const [ys, yz] = [0.05, activation === '' ? s.int(0, 200) : 0];
      let x = l.steps('x', xs, xz);
      if (n % 3 === 0)
        x = l.steps(
          l.op('Pad', [x, l.weight(tensor('int64', [8], BigInt64Array.from([0, 0, 1, 1, 0, 0, 1, 0], BigInt)))]),
          s.pick([xs, 0.03]),
          xz,
        );
      const biased =
        n % 3 === 0
          ? []
          : [
              l.bias(
                filters,
                scales.map((v) => Math.fround(xs * Math.fround(v))),
              ),
            ];
      let y = l.op('Conv', [x, l.bytes([filters, channels / group, k, k], scales, 0), ...biased], {
        kernel_shape: [k, k],
        group,
        strides: [s.pick([1, 2]), 1],
        pads: k === 3 ? [1, 1, 1, 1] : [0, 0, 0, 0],
      });
      if (activation === 'Relu') y = l.op('Relu', [y]);
      if (activation === 'Clip') y = l.op('Clip', [y, l.weight(scalar(0)), l.weight(scalar(20))]);
      const ops = await check(l, [s.int(1, 2), channels, 9, s.int(7, 11)], l.steps(y, ys, yz), ys);
      expect(ops).toContain('QLinearConv');
      expect(ops.some((o) => /Conv|Pad|Clip|Relu/.test(o) && o !== 'QLinearConv')).toBe(false);
    }
  });
  test('products', async () => {
    for (let n = 0; n < 6; n++) {
      const l = layers();
      const scales = Array.from({ length: n % 2 ? 10 : 1 }, () => 0.01 + 0.01 * s.next());
      const ops = await check(
        l,
        [3, 5, 12],
        l.steps(l.op('MatMul', [l.steps('x', 0.02, 120), l.bytes([12, 10], scales, 1)]), 0.04, 100),
        0.04,
      );
      expect(ops).toContain('QLinearMatMul');
    }
  });
  test('sums are one loop from bytes to bytes, and bytes are moved as they are', async () => {
    const l = layers();
    const a = l.steps('x', 0.03, 128);
    const b = l.steps(l.op('Mul', ['x', 'x']), 0.04, 10);
    const sum = l.steps(l.op('Add', [a, b]), 0.05, 60);
    const turned = l.steps(l.op('Transpose', [sum], { perm: [1, 0] }), 0.05, 60);
    const ops = await check(l, [6, 7], turned, 0.05);
    expect(ops.filter((o) => o === 'Transpose')).toHaveLength(1);
    expect(ops.length).toBeLessThanOrEqual(4);
  });
  test('what is no such layer stays as it is', async () => {
    const l = layers();
    const x = l.steps('x', 0.02, 100);
    const w = l.bytes([4, 3, 1, 1], [0.01], 0);
    const floating = l.op('Conv', [x, w, l.weight(tensor('float32', [4], Float32Array.of(0.1, 0.2, 0.3, 0.4)))], {
      kernel_shape: [1, 1],
    });
    expect(await check(l, [1, 3, 5, 5], l.steps(floating, 0.05, 90), 0.05)).not.toContain('QLinearConv');
    const read = layers();
    const conv = read.op('Conv', [read.steps('x', 0.02, 100), read.bytes([4, 3, 1, 1], [0.01], 0)], {
      kernel_shape: [1, 1],
    });
    expect(await check(read, [1, 3, 5, 5], read.op('Add', [conv, read.steps(conv, 0.05, 90)]), 0.05)).not.toContain(
      'QLinearConv',
    );
  });
});

test('products of com.microsoft become an integer product and what scales it', async () => {
  const micro = { domain: 'com.microsoft' };
  const list = (n: number): Tensor =>
    tensor(
      'float32',
      [n],
      Float32Array.from({ length: n }, () => 0.01 + s.next() / 50),
    );
  const bytes = (...shape: number[]): Tensor =>
    tensor(
      'uint8',
      shape,
      Uint8Array.from({ length: sizeOf(shape) }, () => s.int(0, 255)),
    );
  for (const many of [false, true])
    for (const biased of [false, true]) {
      const weights: Record<string, Tensor> = {
        w: bytes(6, 5),
        ws: many ? list(5) : scalar(0.02),
        wz: many ? bytes(5) : byte(120),
        b: list(5),
        xs: scalar(0.03),
        xz: byte(100),
      };
      const bias = biased ? ['b'] : [];
      const nodes = [
        node('DynamicQuantizeMatMul', ['x', 'w', 'ws', 'wz', ...bias], ['y'], {}, micro),
        node('QuantizeLinear', ['x', 'xs', 'xz'], ['q']),
        node('MatMulIntegerToFloat', ['q', 'w', 'xs', 'ws', 'xz', 'wz', ...bias], ['z'], {}, micro),
        node(
          'FusedGemm',
          ['y', 'g', 'b'],
          ['f'],
          { transB: 1, activation: 'LeakyRelu', activation_alpha: { float: 0.2 } },
          micro,
        ),
      ];
      const model = encode(
        {
          input: [port('x', [4, 6])],
          output: ['y', 'z', 'f'].map((name) => ({ name, type: { tensorType: { elemType: 1 } } })),
          initializer: Object.entries({ ...weights, g: s.tensor('float32', [5, 5]) }).map(([n, t]) =>
            initializer(n, t),
          ),
          node: nodes,
        },
        17,
      );
      const feeds = { x: s.tensor('float32', [4, 6], 3) };
      await using plain = await Session.load(model, { device: 'reference', optimize: false });
      await using wasm = await Session.load(model, { device: 'wasm', strict: true });
      const [want, got] = [await plain.run(feeds), await wasm.run(feeds)];
      for (const name of ['y', 'z', 'f'])
        ((want[name] as Tensor).data as Float32Array).forEach((v, i) =>
          expect(((got[name] as Tensor).data as Float32Array)[i]!, `${name}[${i}]`).toBeCloseTo(v, 4),
        );
    }
});
