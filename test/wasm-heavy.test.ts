/** Every heavy WASM kernel against its operator's reference on random shapes, in guarded memory. */
import { setFlagsFromString } from 'node:v8';
import { describe, expect, test } from 'vitest';
import { ops, wasmKernels } from '../kernels/index.ts';
import { type Call, type Epilogue, type Op, parseAttrs, refCall, type WasmKernel } from '../kernels/define.ts';
import { quantization } from '../kernels/quantize.ts';
import { matMulIntegerWasm, qlinearMatMulWasm } from '../kernels/wasm/quant-gemm.ts';
import { dequantizeLinear, dynamicQuantizeLinear, quantizeLinear } from '../kernels/wasm/quant.ts';
import { matMulNBits } from '../kernels/wasm/quant-nbits.ts';
import { rnn } from '../kernels/rnn.ts';
import { rnnWasm } from '../kernels/wasm/rnn.ts';
import { attentions } from '../kernels/attention.ts';
import { attentionWasm, groupedWasm } from '../kernels/wasm/attention.ts';
import { multiHeadWasm } from '../kernels/wasm/attention-microsoft.ts';
import { pool } from '../kernels/pool.ts';
import { matmulScalar } from '../kernels/wasm/gemm-scalar.ts';
import { poolWasm } from '../kernels/wasm/pool.ts';
import { matmul } from '../kernels/matmul.ts';
import { matmulShape } from '../kernels/matmul-shape.ts';
import { finishes, finishOf } from '../kernels/wasm/epilogue.ts';
import { convolution, convTransposeShape } from '../kernels/conv.ts';
import { convTransposeWasm } from '../kernels/wasm/conv-transpose.ts';
import { convDirect, convWasm } from '../kernels/wasm/conv.ts';
import { fusedMatmulWasm, gemmWasm, matmulWasm } from '../kernels/wasm/gemm.ts';
import { f32x4, v128 } from '../kernels/wasm/asm.ts';
import { convDepthwise } from '../kernels/wasm/conv-depthwise.ts';
import { kernelModule } from '../kernels/wasm/module.ts';
import { fastestTile } from '../kernels/wasm/calibrate.ts';
import { TILES, type Tile } from '../kernels/wasm/gemm-core.ts';
import type { AttrValue } from '../src/core/graph.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { BASE_WASM, type WasmCaps } from '../src/core/plan.ts';
import { encodeModel } from '../src/cli/encode-model.ts';
import { bytesOfTensor, sizeOf, type Tensor, tensor } from '../src/core/tensor.ts';
import { Session } from '../src/session.ts';
import { convShape } from '../kernels/conv-shape.ts';
import { constant, type Ex, input, substitute, x } from '../kernels/expr.ts';
import { broadcastStrides, eachOffset } from '../kernels/shapes.ts';
import { generator, runKernel } from './wasm-harness.ts';

// so that both roundings are tested there
if (process.versions.node.startsWith('20.')) setFlagsFromString('--experimental-wasm-relaxed-simd');
const SEED = Number(process.env.SARDONYX_SEED ?? 20240601);
const hasFma = WebAssembly.validate(
  kernelModule('probe', [], BASE_WASM, (f) => f.drop(f32x4.rmadd(v128.zero(), v128.zero(), v128.zero()))),
);
const caps = (tile?: readonly [number, number], fma = hasFma): WasmCaps => ({
  ...BASE_WASM,
  fma,
  ...(tile ? { tile } : {}),
});

/** Deterministic choices for one family of cases. */
function dice(family: string) {
  const random = generator(SEED ^ [...family].reduce((h, c) => Math.imul(h, 31) + c.charCodeAt(0), 7));
  const int = (from: number, to: number): number => from + Math.floor(random() * (to - from + 1));
  const pick = <T>(...of: readonly T[]): T => of[int(0, of.length - 1)]!;
  const reals = (...shape: number[]): Tensor =>
    tensor(
      'float32',
      shape,
      Float32Array.from({ length: sizeOf(shape) }, () => random() * 2 - 1),
    );
  return { random, int, pick, reals };
}
const opOf = (name: string, ...families: (readonly Op[])[]): Op =>
  [...families.flat(), ...ops.values()].find((o) => o.op === name)!;

interface Case {
  readonly epilogue?: Epilogue;
  readonly operands?: readonly Tensor[];
  readonly inputs: readonly (Tensor | null)[];
  readonly attrs?: Record<string, AttrValue>;
  readonly constants?: readonly number[];
  readonly outputs?: number;
  readonly tolerance?: number;
  /** Allowed difference, whatever the size of the value. */
  readonly within?: number;
}
/** An epilogue in double precision; it knows the few functions that these tests use. */
function finished(t: Tensor, expr: Ex, operands: readonly Tensor[]): Tensor {
  const values = [t, ...operands].map((o) => {
    const from = numbers(o);
    const to: number[] = [];
    eachOffset(t.shape, broadcastStrides(o.shape, t.shape), (_, at) => to.push(from[at]!));
    return to;
  });
  const of = (e: Ex, i: number): number => {
    if (e.f === 'in') return values[e.i]![i]!;
    if (e.f === 'const') return Number(e.v);
    const [a = 0, b = 0] = e.a.map((y) => of(y, i));
    return e.f === 'add'
      ? a + b
      : e.f === 'mul'
        ? a * b
        : e.f === 'max'
          ? Math.max(a, b)
          : e.f === 'min'
            ? Math.min(a, b)
            : e.f === 'sigmoid'
              ? 1 / (1 + Math.exp(-a))
              : NaN;
  };
  return fromNumbers(
    t.dtype,
    t.shape,
    Float64Array.from({ length: sizeOf(t.shape) }, (_, i) => of(expr, i)),
  );
}
/** A random epilogue for an output: an activation around additions of broadcast operands. */
function randomEpilogue(
  d: ReturnType<typeof dice>,
  shape: readonly number[],
): { epilogue: Epilogue; operands: Tensor[] } {
  const operands = Array.from({ length: d.int(0, 2) }, () => {
    const drop = d.int(0, shape.length);
    const full = shape.map((n, i) => (i < drop || (i > drop && d.random() < 0.2) ? 1 : n));
    return d.reals(...full.slice(d.pick(0, drop)));
  });
  let expr = operands.reduce<Ex>((e, _, i) => d.pick(x.add, x.mul)(e, input(i + 1, 'f32')), input(0, 'f32'));
  expr = d.pick(
    (e: Ex) => x.max(e, constant(0, 'f32')),
    (e: Ex) => x.mul(e, x.sigmoid(e)),
    (e: Ex) => x.min(x.max(e, constant(-1, 'f32')), constant(6, 'f32')),
    (e: Ex) => x.mul(e, constant(2, 'f32')),
  )(expr);
  return { epilogue: { expr, operands }, operands };
}
/** The half-precision forms of kernels, by the names of those. */
const halves = new Map(
  Object.values(wasmKernels).flatMap((list) =>
    list.filter((k) => k.name.endsWith('_half')).map((k) => [k.name.slice(0, -'_half'.length), k] as const),
  ),
);
let calls = 0;

/**
 * Runs kernel and reference; every output must agree within `tolerance`, relative to 1 and to the size of the value. Of
 * every fourth call, the half-precision form does too.
 */
async function agree(op: Op, kernel: WasmKernel, c: Case, machine: WasmCaps): Promise<void> {
  await same(op, kernel, c, machine);
  const half = halves.get(kernel.name);
  if (half === undefined || calls++ % 4 > 0) return;
  const narrow = (t: Tensor | null): Tensor | null =>
    t?.dtype === 'float32' ? fromNumbers('float16', t.shape, numbers(t)) : t;
  await same(op, half, { ...c, inputs: c.inputs.map(narrow), tolerance: Math.max(c.tolerance ?? 0, 4e-3) }, machine);
}
async function same(op: Op, kernel: WasmKernel, c: Case, machine: WasmCaps): Promise<void> {
  const attrs = parseAttrs(op.attrs, c.attrs ?? {});
  const n = c.outputs ?? 1;
  const want = await op.reference(refCall(c.inputs, attrs as any, n));
  const expected = want.slice(0, n) as Tensor[];
  if (c.epilogue) expected[0] = finished(expected[0]!, c.epilogue.expr, c.operands ?? []);
  const { outputs: got } = runKernel(
    kernel,
    machine,
    c.inputs,
    expected,
    attrs,
    c.constants ?? [],
    c.epilogue,
    c.operands,
  );
  const about = `seed ${SEED} ${kernel.name} ${JSON.stringify({ shapes: c.inputs.map((t) => t?.shape), attrs: c.attrs, constants: c.constants, tile: machine.tile, fma: machine.fma })}`;
  expected.forEach((e, o) => {
    const a = numbers(got[o]!);
    const b = numbers(e);
    for (let i = 0; i < b.length; i++) {
      const d = Math.abs(a[i]! - b[i]!);
      if (
        !(d <= (c.within ?? 0)) &&
        !(d <= (c.tolerance ?? 1e-4) * Math.max(1, Math.abs(b[i]!))) &&
        !(Object.is(a[i], b[i]) || a[i] === b[i])
      )
        expect.fail(`${about}: output ${o} [${i}] is ${a[i]}, not ${b[i]}`);
    }
  });
}

describe('matmul', () => {
  const op = opOf('MatMul', matmul);
  const kernel = matmulWasm[0]!;
  test('any shape, tile and arrangement of B', async () => {
    const d = dice('matmul');
    const tiles = [...TILES.plain, ...TILES.fma];
    for (let t = 0; t < 160; t++) {
      const [M, N, K] = [
        d.pick(0, 1, 1, 2, 3, d.int(1, 70)),
        d.pick(0, 1, 3, d.int(1, 70)),
        d.pick(0, 1, d.int(1, 60), d.int(760, 900)),
      ];
      const kind = t % 6;
      const a =
        kind === 0
          ? d.reals(K)
          : kind === 1
            ? d.reals(2, M, K)
            : kind === 2
              ? d.reals(3, 1, M, K)
              : kind === 3
                ? d.reals(2, 3, M, K)
                : d.reals(M, K);
      const b =
        kind === 5
          ? d.reals(K)
          : kind === 2
            ? d.reals(2, K, N)
            : kind === 3
              ? d.reals(d.pick(1, 2), d.pick(1, 3), K, N)
              : d.reals(K, N);
      const shape = matmulShape(a.shape, b.shape).shape;
      const epilogue = d.pick(null, randomEpilogue(d, shape));
      if (epilogue && !finishes(finishOf({ epilogue: epilogue.epilogue } as Call), { dtype: 'float32', shape }))
        continue;
      await agree(
        op,
        kernel,
        { inputs: [a, b], constants: d.pick([], [1]), ...epilogue },
        caps(d.pick(...tiles), hasFma && d.random() < 0.5),
      );
    }
  });
  test('has the same bits with any tile', async () => {
    const d = dice('tiles');
    for (let t = 0; t < 24; t++) {
      const [M, N, K] = [
        d.pick(1, 2, d.int(3, 60)),
        d.int(1, 60),
        d.pick(d.int(1, 60), d.int(120, 140), d.int(760, 900)),
      ];
      const fma = hasFma && t % 2 === 0;
      const inputs = [d.reals(M, K), d.reals(K, N)];
      const constants = d.pick([], [1]);
      const bits = (tile?: Tile): Buffer =>
        Buffer.from(
          bytesOfTensor(
            runKernel(
              kernel,
              caps(tile, fma),
              inputs,
              [{ dtype: 'float32', shape: [M, N] }],
              parseAttrs(op.attrs, {}),
              constants,
            ).outputs[0]!,
          ),
        );
      const usual = bits();
      for (const tile of [...TILES.plain, ...TILES.fma])
        expect(bits(tile).equals(usual), `seed ${SEED} ${M}×${N}×${K} by ${tile}`).toBe(true);
    }
  });
  test('a session with many weights takes a tile that was measured, and results keep their bits', async () => {
    const d = dice('session');
    const a = d.reals(37, 512);
    const b = d.reals(512, 4096);
    const model = encodeModel(
      {
        inputs: [{ name: 'a', dtype: 'float32', shape: a.shape }],
        outputs: [{ name: 'c', dtype: 'float32', shape: [37, 4096] }],
        weights: [{ name: 'b', tensor: b }],
        nodes: [{ op: 'MatMul', name: 'mm', inputs: ['a', 'b'], outputs: ['c'], attrs: [] }],
      },
      { '': 17 },
    );
    await using session = await Session.load(model, { device: 'wasm', threads: 1 });
    const { c } = await session.run({ a });
    const found = await fastestTile(hasFma);
    expect(session.plans[0]!.weights[0]!.pack!.args[0]).toBe((found ?? (hasFma ? TILES.fma : TILES.plain)[0]!)[1]);
    const usual = runKernel(
      kernel,
      caps(undefined, hasFma),
      [a, b],
      [{ dtype: 'float32', shape: [37, 4096] }],
      parseAttrs(op.attrs, {}),
      [1],
    ).outputs[0]!;
    expect(Buffer.from(bytesOfTensor(c as Tensor)).equals(bytesOfTensor(usual))).toBe(true);
  });
  test('float64 and integers', async () => {
    const d = dice('scalar');
    for (let t = 0; t < 40; t++) {
      const dtype = d.pick('float64' as const, 'int32' as const, 'uint32' as const, 'int64' as const);
      const [M, N, K] = [d.int(0, 9), d.int(0, 9), d.int(0, 9)];
      const of = (...shape: number[]): Tensor =>
        fromNumbers(
          dtype,
          shape,
          Float64Array.from({ length: sizeOf(shape) }, () =>
            dtype === 'float64' ? d.random() : d.int(dtype === 'uint32' ? 0 : -50, 50),
          ),
        );
      await agree(
        op,
        matmulScalar,
        { inputs: d.pick([of(2, M, K), of(K, N)], [of(2, 1, M, K), of(3, K, N)], [of(K), of(K)]), tolerance: 1e-12 },
        caps(),
      );
    }
  });
  test('on shared memory', async () => {
    const d = dice('shared');
    await agree(op, kernel, { inputs: [d.reals(9, 11), d.reals(11, 13)], constants: [1] }, { ...caps(), shared: true });
  });
  test('Gemm: transposed operands, alpha, beta and C', async () => {
    const d = dice('gemm');
    for (let t = 0; t < 120; t++) {
      const [M, N, K, transA, transB] = [d.int(0, 50), d.int(0, 50), d.int(0, 60), d.pick(0, 1), d.pick(0, 1)];
      const c = d.pick(null, d.reals(), d.reals(N), d.reals(1, N), d.reals(M, 1), d.reals(M, N));
      await agree(
        opOf('Gemm', matmul),
        gemmWasm[0]!,
        {
          inputs: [transA ? d.reals(K, M) : d.reals(M, K), transB ? d.reals(N, K) : d.reals(K, N), c],
          constants: d.pick([], [1]),
          attrs: { transA, transB, alpha: d.pick(1, 0.5), beta: d.pick(1, 0, -2) },
          ...d.pick(null, randomEpilogue(d, [M, N])),
        },
        caps(undefined, hasFma && d.random() < 0.5),
      );
    }
  });
  test('FusedMatMul: transposes with and without the batch', async () => {
    const d = dice('fused');
    for (let t = 0; t < 80; t++) {
      const [M, N, K, B, H, transA, transB, transBatchA, transBatchB] = [
        d.int(1, 20),
        d.int(1, 20),
        d.int(1, 30),
        d.int(1, 3),
        d.int(1, 3),
        d.pick(0, 1),
        d.pick(0, 1),
        d.pick(0, 1),
        d.pick(0, 1),
      ];
      const operand = (r: number, c: number, trans: number, batch: number): Tensor => {
        const [p, q] = trans ? [c, r] : [r, c]; // [B, H, p, q], or with dim 0 between the last two: [p, B, H, q]
        return batch ? d.reals(p!, B, H, q!) : d.reals(B, H, p!, q!);
      };
      await agree(
        opOf('com.microsoft.FusedMatMul', matmul),
        fusedMatmulWasm[0]!,
        {
          inputs: [operand(M, K, transA, transBatchA), operand(K, N, transB, transBatchB)],
          constants: d.pick([], [1]),
          attrs: { alpha: d.pick(1, 0.125), transA, transB, transBatchA, transBatchB },
        },
        caps(undefined, hasFma && d.random() < 0.5),
      );
    }
  });
});

/** A random convolution of `rank` spatial dims. */
function randomConv(
  d: ReturnType<typeof dice>,
  rank: number,
  groups: number,
  channels: number,
  filters: number,
): { x: Tensor; w: Tensor; b: Tensor | null; attrs: Record<string, AttrValue> } {
  const kernel = Array.from({ length: rank }, () => d.pick(1, 2, 3, 3, 5));
  const dilations = kernel.map(() => d.pick(1, 1, 2, 3));
  const strides = kernel.map(() => d.pick(1, 1, 2, 3));
  const pads = Array.from({ length: 2 * rank }, () => d.pick(0, 0, 1, 2));
  const spatial = kernel.map(
    (k, i) => Math.max(1, (k - 1) * dilations[i]! + 1 - pads[i]! - pads[i + rank]!) + d.int(0, rank === 3 ? 4 : 21),
  );
  const plain = d.random() < 0.25;
  return {
    x: d.reals(d.pick(1, 1, 2), groups * channels, ...spatial),
    w: d.reals(groups * filters, channels, ...(plain ? kernel.map(() => 1) : kernel)),
    b: d.pick(null, d.reals(groups * filters)),
    attrs: { group: groups, ...(plain ? {} : { strides, pads, dilations }) },
  };
}
/** An epilogue or none, with operands as convolutions have them. */
function convEpilogue(
  d: ReturnType<typeof dice>,
  shape: readonly number[],
): { epilogue: Epilogue; operands: Tensor[] } | null {
  const [n, m] = shape as [number, number];
  const rest = shape.slice(2);
  const operands = Array.from({ length: d.int(0, 2) }, () =>
    d.pick(
      d.reals(),
      d.reals(m, ...rest.map(() => 1)),
      d.reals(n, m, ...rest.map(() => 1)),
      d.reals(...shape),
      d.reals(rest.at(-1)!),
    ),
  );
  const { epilogue } = randomEpilogue(d, [1]);
  const sum = operands.reduce<Ex>((e, _, i) => d.pick(x.add, x.mul)(e, input(i + 1, 'f32')), input(0, 'f32'));
  return d.pick(null, {
    epilogue: {
      expr: substitute(epilogue.operands.length ? x.max(input(0, 'f32'), constant(0, 'f32')) : epilogue.expr, [sum]),
      operands,
    },
    operands,
  });
}
describe('conv', () => {
  const op = opOf('Conv', convolution);
  test('any rank, stride, dilation, padding, grouping and epilogue', async () => {
    const d = dice('conv');
    for (let t = 0; t < 160; t++) {
      const c = randomConv(d, d.pick(1, 2, 2, 2, 3), d.pick(1, 1, 2, 3), d.int(1, 7), d.int(1, 11));
      const { shape } = convShape(c.x.shape, c.w.shape, null, c.attrs);
      await agree(
        op,
        convDirect,
        { inputs: [c.x, c.w, c.b], attrs: c.attrs, constants: d.pick([1], [1], []), ...convEpilogue(d, shape) },
        caps(d.pick(undefined, [3, 12], [6, 8]), hasFma && d.random() < 0.5),
      );
    }
  });
  test('depthwise', async () => {
    const d = dice('depthwise');
    for (let t = 0; t < 120; t++) {
      const c = randomConv(d, d.pick(1, 2, 2), d.int(2, 6), 1, 1);
      const { shape } = convShape(c.x.shape, c.w.shape, null, c.attrs);
      await agree(
        op,
        convDepthwise,
        { inputs: [c.x, c.w, c.b], attrs: c.attrs, ...convEpilogue(d, shape) },
        caps(undefined, hasFma && d.random() < 0.5),
      );
    }
  });
});
describe('conv transpose', () => {
  const op = opOf('ConvTranspose', convolution);
  test('any rank, stride, dilation, padding and grouping', async () => {
    const d = dice('transpose');
    for (let t = 0; t < 100; t++) {
      const rank = d.pick(1, 2, 2, 3);
      const group = d.pick(1, 1, 2, 3);
      const channels = d.int(1, 6);
      const filters = d.int(1, 7);
      const kernel = Array.from({ length: rank }, () => d.int(1, 4));
      const strides = kernel.map(() => d.int(1, 3));
      const dilations = kernel.map(() => d.int(1, 2));
      const pads = [0, 1].flatMap(() => kernel.map(() => d.int(0, 1)));
      const spatial = kernel.map(() => d.int(2, rank === 3 ? 4 : 9));
      if (
        spatial.some(
          (n, i) => (n - 1) * strides[i]! + (kernel[i]! - 1) * dilations[i]! + 1 - pads[i]! - pads[i + rank]! < 1,
        )
      )
        continue;
      const x = d.reals(d.int(1, 2), group * channels, ...spatial);
      const w = d.reals(group * channels, filters, ...kernel);
      const attrs = { group, strides, dilations, pads };
      const { shape } = convTransposeShape(x.shape, w.shape, null, attrs);
      await agree(
        op,
        convTransposeWasm,
        { inputs: [x, w, d.pick(null, d.reals(group * filters))], attrs, ...convEpilogue(d, shape) },
        caps(undefined, hasFma && d.random() < 0.5),
      );
    }
  });
});
describe('pool', () => {
  const names = ['MaxPool', 'AveragePool', 'LpPool'] as const;
  test('any window, ceil_mode and kind', async () => {
    const d = dice('pool');
    for (let t = 0; t < 240; t++) {
      const name = d.pick(...names);
      const rank = d.pick(1, 2, 2, 3);
      const kernel_shape = Array.from({ length: rank }, () => d.pick(1, 2, 3, 5));
      const dilations = kernel_shape.map(() => d.pick(1, 1, 2));
      const strides = kernel_shape.map(() => d.pick(1, 2, 3));
      const pads = [0, 1].flatMap(() => kernel_shape.map((k) => d.int(0, k - 1)));
      const x = d.reals(
        d.int(1, 2),
        d.int(1, 3),
        ...kernel_shape.map((k, i) => (k - 1) * dilations[i]! + 1 + d.int(0, rank === 3 ? 5 : 20)),
      );
      const more =
        name === 'AveragePool'
          ? { count_include_pad: d.pick(0, 1) }
          : name === 'LpPool'
            ? { p: d.pick(1, 2, 3) }
            : d.pick({}, { storage_order: 1 });
      const indexed = name === 'MaxPool' && d.random() < 0.5;
      await agree(
        opOf(name, pool),
        poolWasm[name]!.at(indexed ? -1 : 0)!,
        {
          inputs: [x],
          attrs: { kernel_shape, dilations, strides, pads, ceil_mode: d.pick(0, 1), ...more },
          outputs: indexed ? 2 : 1,
        },
        caps(),
      );
    }
  });
  test('MaxPool of bytes', async () => {
    const d = dice('pool bytes');
    for (let t = 0; t < 20; t++) {
      const dtype = d.pick('int8' as const, 'uint8' as const);
      const shape = [1, 2, d.int(3, 12), d.int(3, 12)];
      const x = fromNumbers(
        dtype,
        shape,
        Float64Array.from({ length: sizeOf(shape) }, () => d.int(dtype === 'int8' ? -128 : 0, 127)),
      );
      await agree(
        opOf('MaxPool', pool),
        poolWasm.MaxPool!.at(-1)!,
        { inputs: [x], attrs: { kernel_shape: [3, 2], pads: [1, 0, 1, 1] } },
        caps(),
      );
    }
  });
  test('global', async () => {
    const d = dice('global pool');
    for (const name of ['GlobalAveragePool', 'GlobalMaxPool', 'GlobalLpPool'])
      for (let t = 0; t < 20; t++) {
        await agree(
          opOf(name, pool),
          poolWasm[name]![0]!,
          {
            inputs: [d.reals(d.int(1, 3), d.int(1, 5), ...Array.from({ length: d.int(1, 3) }, () => d.int(1, 11)))],
            attrs: name === 'GlobalLpPool' ? { p: d.pick(1, 2, 3) } : {},
          },
          caps(),
        );
      }
  });
});
describe('quantised', () => {
  const bytesOf = (d: ReturnType<typeof dice>, dtype: 'uint8' | 'int8', ...shape: number[]): Tensor =>
    fromNumbers(
      dtype,
      shape,
      Float64Array.from({ length: sizeOf(shape) }, () =>
        d.int(dtype === 'int8' ? -128 : 0, dtype === 'int8' ? 127 : 255),
      ),
    );
  test('MatMulInteger and QLinearMatMul', async () => {
    const d = dice('integer');
    for (let t = 0; t < 120; t++) {
      const [M, N, K] = [d.pick(0, 1, 2, d.int(1, 30)), d.pick(0, 1, 8, d.int(1, 40)), d.pick(0, 1, 2, d.int(1, 70))];
      const ta = d.pick('uint8' as const, 'int8' as const);
      const tb = d.pick('uint8' as const, 'int8' as const);
      const [a, b] = d.pick(
        () => [bytesOf(d, ta, M, K), bytesOf(d, tb, K, N)],
        () => [bytesOf(d, ta, 2, M, K), bytesOf(d, tb, K, N)],
        () => [bytesOf(d, ta, 2, 3, M, K), bytesOf(d, tb, 2, 1, K, N)],
      )() as [Tensor, Tensor];
      const constants = d.pick([], [0, 1, 3].slice(1));
      const machine = caps(undefined, hasFma && d.random() < 0.5);
      await agree(
        opOf('MatMulInteger', quantization),
        matMulIntegerWasm,
        {
          inputs: [a, b, d.pick(null, bytesOf(d, ta)), d.pick(null, bytesOf(d, tb), bytesOf(d, tb, N))],
          constants,
          tolerance: 0,
        },
        machine,
      );
      const scale = (...s: number[]): Tensor =>
        tensor(
          'float32',
          s,
          Float32Array.from({ length: sizeOf(s) }, () => 0.01 + d.random() / 50),
        );
      const ty = d.pick('uint8' as const, 'int8' as const);
      await agree(
        opOf('QLinearMatMul', quantization),
        qlinearMatMulWasm,
        {
          inputs: [
            a,
            scale(),
            bytesOf(d, ta),
            b,
            d.pick(scale(), scale(N)),
            d.pick(bytesOf(d, tb), bytesOf(d, tb, N)),
            tensor('float32', [], [0.5]),
            bytesOf(d, ty),
          ],
          constants,
          tolerance: 0,
          within: 1,
        },
        machine,
      );
    }
  });
  test('QuantizeLinear and DequantizeLinear by tensor, axis and block; DynamicQuantizeLinear', async () => {
    const d = dice('linear');
    for (let t = 0; t < 120; t++) {
      const shape = Array.from({ length: d.int(1, 4) }, () => d.int(1, 9));
      const axis = d.int(0, shape.length - 1);
      const block_size = d.pick(0, 0, 2, 3);
      const dtype = d.pick('uint8' as const, 'int8' as const);
      const of = block_size
        ? shape.map((n, i) => (i === axis ? Math.ceil(n / block_size) : n))
        : d.pick([], [shape[axis]!]);
      const scale = tensor(
        'float32',
        of,
        Float32Array.from({ length: sizeOf(of) }, () => 0.01 + d.random() / 50),
      );
      const zero = d.pick(null, bytesOf(d, dtype, ...of));
      const x = d.reals(...shape);
      const attrs = { axis, block_size };
      const even = block_size === 0 || sizeOf(shape.slice(axis + 1)) > 1 || shape[axis]! % block_size === 0;
      if (even)
        await agree(
          opOf('QuantizeLinear', quantization),
          quantizeLinear,
          { inputs: [x, scale, zero], attrs, tolerance: 0, within: 1 },
          caps(),
        );
      if (even)
        await agree(
          opOf('DequantizeLinear', quantization),
          dequantizeLinear,
          { inputs: [d.pick(bytesOf(d, dtype, ...shape)), scale, zero], attrs },
          caps(),
        );
      await agree(
        opOf('DynamicQuantizeLinear', quantization),
        dynamicQuantizeLinear,
        { inputs: [x], outputs: 3, tolerance: 1e-6, within: 0 },
        caps(),
      );
    }
  });
  test('MatMulNBits: bits, blocks, zero points, few and many rows', async () => {
    const d = dice('nbits');
    for (let t = 0; t < 90; t++) {
      const bits = d.pick(4, 4, 2, 8);
      const block_size = d.pick(16, 32, 64);
      const K = d.int(1, 12) * 16;
      const N = d.int(1, 40);
      const blocks = Math.ceil(K / block_size);
      const bytes = (...shape: number[]): Tensor =>
        tensor(
          'uint8',
          shape,
          Uint8Array.from({ length: sizeOf(shape) }, () => d.int(0, 255)),
        );
      const inputs = [
        d.reals(...d.pick([], [2]), d.pick(1, 1, 2, 3, 5, 9, 20, 31), K),
        bytes(N, blocks, (block_size * bits) / 8),
        d.reals(N, blocks),
        d.pick(null, bytes(N, Math.ceil((blocks * bits) / 8))),
        null,
        d.pick(null, d.reals(N)),
      ];
      await agree(
        opOf('com.microsoft.MatMulNBits', quantization),
        matMulNBits,
        { inputs, constants: [1, 2, 3], attrs: { K, N, bits, block_size }, tolerance: bits === 8 ? 2e-3 : 2e-4 },
        caps(undefined, hasFma && d.random() < 0.5),
      );
    }
  });
});
describe('recurrent', () => {
  for (const name of ['LSTM', 'GRU', 'RNN'] as const)
    test(name, async () => {
      const d = dice(name);
      const gates = { LSTM: 4, GRU: 3, RNN: 1 }[name];
      const lstm = name === 'LSTM';
      for (let t = 0; t < 50; t++) {
        const [steps, batch, n, hidden, layout] = [d.int(1, 6), d.int(1, 5), d.int(1, 11), d.int(1, 18), d.pick(0, 1)];
        const direction = d.pick('forward', 'reverse', 'bidirectional');
        const D = direction === 'bidirectional' ? 2 : 1;
        const state = (): Tensor => (layout ? d.reals(batch, D, hidden) : d.reals(D, batch, hidden));
        const lengths = tensor(
          'int32',
          [batch],
          Int32Array.from({ length: batch }, () => d.int(0, steps)),
        );
        const inputs = [
          layout ? d.reals(batch, steps, n) : d.reals(steps, batch, n),
          d.reals(D, gates * hidden, n),
          d.reals(D, gates * hidden, hidden),
          d.pick(null, d.reals(D, 2 * gates * hidden)),
          d.pick(null, lengths),
          d.pick(null, state()),
          ...(lstm ? [d.pick(null, state()), d.pick(null, d.reals(D, 3 * hidden))] : []),
        ];
        const special: Record<string, AttrValue> = lstm
          ? { input_forget: d.pick(0, 0, 1) }
          : name === 'GRU'
            ? { linear_before_reset: d.pick(0, 1) }
            : {};
        await agree(
          opOf(name, rnn),
          rnnWasm[name][0]!,
          {
            inputs,
            constants: [1, 2],
            outputs: lstm ? 3 : 2,
            attrs: { direction, layout, hidden_size: hidden, ...d.pick({}, { clip: 0.5 }), ...special },
            tolerance: 2e-4,
          },
          caps(undefined, hasFma && d.random() < 0.5),
        );
      }
    });
});
describe('attention', () => {
  const machine = (d: ReturnType<typeof dice>): WasmCaps => caps(undefined, hasFma && d.random() < 0.5);
  test('Attention', async () => {
    const d = dice('attention');
    for (let t = 0; t < 80; t++) {
      const [B, kv, per, S, T, P, size, valueSize] = [
        d.int(1, 2),
        d.int(1, 2),
        d.int(1, 3),
        d.pick(1, 2, 5, d.int(1, 60)),
        d.int(1, 30),
        d.pick(0, 0, d.int(1, 9)),
        d.int(1, 20),
        d.int(1, 20),
      ];
      const H = kv * per;
      const packed = d.random() < 0.5;
      const keys = T + P;
      const heads = (n: number, steps: number, width: number): Tensor =>
        packed ? d.reals(B, steps, n * width) : d.reals(B, n, steps, width);
      const bool = (...shape: number[]): Tensor =>
        tensor(
          'bool',
          shape,
          Uint8Array.from({ length: sizeOf(shape) }, () => d.int(0, 1)),
        );
      const mask = d.pick(null, d.reals(S, keys), d.reals(B, 1, S, keys), bool(S, keys), bool(B, H, 1, keys));
      const attrs: Record<string, AttrValue> = {
        is_causal: d.pick(0, 1),
        softcap: d.pick(0, 2),
        left_window_size: d.pick(-1, -1, 3),
        right_window_size: d.pick(-1, -1, 2),
        ...(packed ? { q_num_heads: H, kv_num_heads: kv } : {}),
      };
      await agree(
        opOf('Attention', attentions),
        attentionWasm[0]!,
        {
          inputs: [
            heads(H, S, size),
            heads(kv, T, size),
            heads(kv, T, valueSize),
            mask,
            P ? d.reals(B, kv, P, size) : null,
            P ? d.reals(B, kv, P, valueSize) : null,
          ],
          attrs,
          outputs: d.pick(1, 3),
        },
        machine(d),
      );
    }
  });
  test('MultiHeadAttention', async () => {
    const d = dice('multi');
    for (let t = 0; t < 40; t++) {
      const [B, H, S, T, P, size] = [
        d.int(1, 2),
        d.int(1, 3),
        d.pick(1, 3, d.int(1, 20)),
        d.int(1, 30),
        d.pick(0, 0, d.int(1, 9)),
        d.int(1, 20),
      ];
      const past = (): Tensor | null => (P ? d.reals(B, H, P, size) : null);
      await agree(
        opOf('com.microsoft.MultiHeadAttention', attentions),
        multiHeadWasm[0]!,
        {
          inputs: [
            d.reals(B, S, H * size),
            d.reals(B, T, H * size),
            d.reals(B, T, H * size),
            null,
            null,
            d.pick(null, d.reals(d.pick(1, B), d.pick(1, H), S, T + P)),
            past(),
            past(),
          ],
          attrs: { num_heads: H, unidirectional: d.pick(0, 1) },
          outputs: d.pick(1, 3),
        },
        machine(d),
      );
    }
  });
  test('GroupQueryAttention: prompts and steps, rotary, windows, packed queries', async () => {
    const d = dice('grouped');
    for (let t = 0; t < 60; t++) {
      const [B, kv, per, size] = [d.int(1, 2), d.int(1, 2), d.int(1, 3), 2 * d.int(1, 10)];
      const H = kv * per;
      const prompt = d.random() < 0.5;
      const S = prompt ? d.int(1, 20) : d.pick(1, 1, 3);
      const old = prompt ? 0 : d.int(1, 12);
      const total = S + old;
      const cache = prompt ? d.pick(0, 0, total + d.int(0, 3)) : d.pick(old, total + d.int(0, 3));
      const packed = d.random() < 0.3;
      const angles = 40;
      const do_rotary = d.pick(0, 1);
      const turned = d.pick(size, 2);
      const one = (n: number): Tensor => tensor('int32', [1], Int32Array.of(n));
      const past = (): Tensor | null => (cache ? d.reals(B, kv, cache, size) : null);
      await agree(
        opOf('com.microsoft.GroupQueryAttention', attentions),
        groupedWasm[0]!,
        {
          inputs: [
            d.reals(B, S, (packed ? H + 2 * kv : H) * size),
            packed ? null : d.reals(B, S, kv * size),
            packed ? null : d.reals(B, S, kv * size),
            past(),
            past(),
            tensor('int32', [B], new Int32Array(B).fill(total - 1)),
            one(total),
            ...(do_rotary ? [d.reals(angles, turned / 2), d.reals(angles, turned / 2)] : [null, null]),
          ],
          attrs: {
            num_heads: H,
            kv_num_heads: kv,
            do_rotary,
            rotary_interleaved: d.pick(0, 1),
            local_window_size: d.pick(-1, 4),
            softcap: d.pick(0, 3),
          },
          outputs: 3,
          constants: [6],
        },
        machine(d),
      );
    }
  });
});
describe('half precision', () => {
  test('the same kernels on float16 and bfloat16', async () => {
    const d = dice('half');
    for (let t = 0; t < 40; t++) {
      const dtype = d.pick('float16' as const, 'bfloat16' as const);
      const tolerance = dtype === 'float16' ? 4e-3 : 3e-2;
      const half = (x: Tensor | null): Tensor | null => x && fromNumbers(dtype, x.shape, numbers(x));
      const [M, N, K] = [d.int(1, 20), d.int(1, 20), d.int(1, 20)];
      const constants = d.pick([], [1]);
      await agree(
        opOf('Gemm', matmul),
        gemmWasm[1]!,
        { inputs: [d.reals(M, K), d.reals(K, N), d.pick(null, d.reals(N))].map(half), constants, tolerance },
        caps(),
      );
      const c = randomConv(d, 2, 1, d.int(1, 4), d.int(1, 5));
      const operands = [half(d.reals(1, c.w.shape[0]!, 1, 1))!];
      await agree(
        opOf('Conv', convolution),
        convWasm.find((k) => k.name === 'conv.direct_half')!,
        {
          inputs: [c.x, c.w, c.b].map(half),
          attrs: c.attrs,
          constants,
          epilogue: { expr: x.max(x.add(input(0, 'f32'), input(1, 'f32')), constant(0, 'f32')), operands },
          operands,
          tolerance,
        },
        caps(),
      );
      await agree(
        opOf('GlobalAveragePool', pool),
        poolWasm.GlobalAveragePool![1]!,
        { inputs: [half(d.reals(2, 3, d.int(1, 9)))], tolerance },
        caps(),
      );
    }
  });
});
