/** `npm run bench:kernels`: single WASM kernels, as a share of what this machine can compute or copy. */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { parseAttrs } from '../kernels/define.ts';
import { input } from '../kernels/expr.ts';
import { ops } from '../kernels/index.ts';
import { number, print, printJson, table } from '../src/cli/command.ts';
import { seeded } from '../src/cli/inputs.ts';
import { fail } from '../src/core/errors.ts';
import { BASE_WASM, type WasmCaps } from '../src/core/plan.ts';
import { sizeOf, type Tensor, tensor } from '../src/core/tensor.ts';
import { type KernelCall, prepare } from './kernel-call.ts';
import { copyBandwidth, peakFlops } from './kernel-peak.ts';
import { sample, spread, warmUp } from './timing.ts';

const USAGE = `npm run bench:kernels -- [options]

  --only TEXT,…   only kernels whose name contains one of these
  --rounds N      samples of each kernel (default 9)
  --relaxed       relaxed SIMD, even where V8 has it behind a flag (Node 20)
  --tile R,C      rows and columns of the register tile
  --json          print every figure`;

const { values: given } = parseArgs({
  options: {
    only: { type: 'string' },
    rounds: { type: 'string' },
    relaxed: { type: 'boolean' },
    tile: { type: 'string' },
    json: { type: 'boolean' },
    help: { type: 'boolean' },
  },
});

/** A problem, with the arithmetic it needs, or the bytes that it must at least read and write. */
interface Problem extends KernelCall {
  readonly name: string;
  readonly flops?: number;
  readonly bytes?: number;
}

const next = seeded(1);
const floats = (...shape: number[]): Tensor =>
  tensor(
    'float32',
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => 2 * next() - 1),
  );
const bytes = (...shape: number[]): Tensor =>
  tensor(
    'uint8',
    shape,
    Uint8Array.from({ length: sizeOf(shape) }, () => 256 * next()),
  );
const product = (M: number, N: number, K: number): Problem => ({
  name: `matmul ${M}×${N}×${K}`,
  op: 'MatMul',
  inputs: [floats(M, K), floats(K, N)],
  weights: [1],
  flops: 2 * M * N * K,
});
function conv(
  name: string,
  filters: number,
  channels: number,
  size: number,
  kernel: number,
  group = 1,
  stride = 1,
): Problem {
  const pad = kernel >> 1;
  const out = Math.floor((size + 2 * pad - kernel) / stride) + 1;
  return {
    name,
    op: 'Conv',
    attrs: { kernel_shape: [kernel, kernel], pads: [pad, pad, pad, pad], strides: [stride, stride], group },
    inputs: [floats(1, channels, size, size), floats(filters, channels / group, kernel, kernel), floats(filters)],
    weights: [1, 2],
    flops: (2 * filters * channels * kernel * kernel * out * out) / group,
  };
}
/** A convolution of bytes, one scale each. */
function byteConv(filters: number, channels: number, size: number, kernel: number, group = 1): Problem {
  const pad = kernel >> 1;
  const scale = (v: number): Tensor => tensor('float32', [], Float32Array.of(v));
  const zero = (v: number): Tensor => tensor('uint8', [], Uint8Array.of(v));
  return {
    name: `${group === 1 ? 'qlinearconv' : 'depthwise qlinearconv'} ${kernel}×${kernel} ${channels}→${filters} @${size}`,
    op: 'QLinearConv',
    attrs: { kernel_shape: [kernel, kernel], pads: [pad, pad, pad, pad], group },
    inputs: [
      bytes(1, channels, size, size),
      scale(0.02),
      zero(128),
      bytes(filters, channels / group, kernel, kernel),
      scale(0.01),
      zero(128),
      scale(0.05),
      zero(100),
      tensor('int32', [filters], new Int32Array(filters)),
    ],
    weights: [1, 2, 3, 4, 5, 6, 7, 8],
    flops: (2 * filters * channels * kernel * kernel * size * size) / group,
  };
}
const rows = (name: string, call: KernelCall, passes: number): Problem => ({
  name,
  ...call,
  bytes: passes * 4 * 512 * 768,
});
const x = (): Tensor => floats(512, 768);

const problems = (): Problem[] => [
  product(256, 256, 256),
  product(512, 512, 512),
  product(1024, 1024, 1024),
  product(128, 768, 768),
  product(1, 3072, 768),
  conv('conv 3×3 64→64 @56', 64, 64, 56, 3),
  conv('conv 3×3 64→64 @224', 64, 64, 224, 3),
  conv('conv 3×3 256→256 @14', 256, 256, 14, 3),
  conv('conv 1×1 128→256 @28', 256, 128, 28, 1),
  conv('conv 1×1 512→512 @7', 512, 512, 7, 1),
  conv('conv 7×7/2 3→64 @224', 64, 3, 224, 7, 1, 2),
  conv('depthwise 3×3 192 @56', 192, 192, 56, 3, 192),
  byteConv(128, 32, 56, 3),
  byteConv(32, 128, 56, 1),
  byteConv(512, 512, 7, 1),
  byteConv(192, 192, 56, 3, 192),
  {
    name: 'matmulnbits 1×3072×768',
    op: 'com.microsoft.MatMulNBits',
    attrs: { K: 768, N: 3072, bits: 4, block_size: 32 },
    inputs: [floats(1, 768), bytes(3072, 24, 16), floats(3072, 24)],
    weights: [1, 2],
    flops: 2 * 3072 * 768,
  },
  rows('softmax 512×768', { op: 'Softmax', inputs: [x()] }, 2),
  rows('layernorm 512×768', { op: 'LayerNormalization', inputs: [x(), floats(768), floats(768)], weights: [1, 2] }, 2),
  rows('gelu 512×768', map([x()], 'Gelu'), 2),
  rows('add 512×768', map([x(), x()], 'Add'), 3),
  rows('transpose 512×768', { op: 'Transpose', attrs: { perm: [1, 0] }, inputs: [x()] }, 2),
];

/** An elementwise operator as the map that the planner makes of it. */
function map(inputs: readonly Tensor[], op: string): KernelCall {
  const lowered =
    ops.get(op)!.map!(
      inputs.map((_, i) => input(i, 'f32')),
      parseAttrs(ops.get(op)!.attrs, {}),
      'float32',
    ) ?? fail('internal', `${op} is no map`);
  return {
    op: 'sardonyx.Map',
    attrs: { expr: JSON.stringify(lowered), dtype: 'float32', shape: inputs[0]!.shape },
    inputs,
  };
}

if (given.help) print(USAGE);
else await bench();

async function bench(): Promise<void> {
  if (given.relaxed) setFlagsFromString('--experimental-wasm-relaxed-simd');
  const tile = given.tile?.split(',').map(Number);
  const caps: WasmCaps = {
    ...BASE_WASM,
    fma: given.relaxed === true,
    ...(tile ? { tile: [tile[0]!, tile[1]!] as const } : {}),
  };
  const peak = { gflops: await peakFlops(caps.fma), copyGBs: await copyBandwidth(512 * 768 * 4) };
  const wanted = given.only?.split(',');
  const ready = problems()
    .filter((p) => wanted === undefined || wanted.some((w) => p.name.includes(w)))
    .map((p) => ({ p, ...prepare(p, caps), times: [] as number[], repeats: 1 }));
  for (const k of ready) k.repeats = await warmUp(k.run, 150, 20);
  for (let round = number(given, 'rounds', 1) ?? 9; round > 0; round--)
    for (const k of ready) k.times.push((await sample(k.run, k.repeats)).cpu);
  const kernels = ready.map(({ p, kernel, times }) => {
    const ms = spread(times);
    const rate = (p.flops ?? p.bytes!) / 1e6 / ms.median;
    return {
      name: p.name,
      kernel,
      ms,
      rate,
      unit: p.flops === undefined ? 'GB/s' : 'GFLOP/s',
      share: rate / (p.flops === undefined ? peak.copyGBs : peak.gflops),
    };
  });
  const report = {
    machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length },
    node: process.versions.node,
    relaxedSimd: caps.fma,
    peak,
    kernels,
  };
  if (given.json) return printJson(report);
  print(
    `Node ${report.node}${caps.fma ? ' with relaxed SIMD' : ''}, ${report.machine.cpu}, ${report.machine.cores} cores: ${peak.gflops.toFixed(1)} GFLOP/s of ${caps.fma ? 'fused ' : ''}multiply-add in registers, ${peak.copyGBs.toFixed(1)} GB/s copied`,
  );
  print(
    table([
      ['problem', 'kernel', 'ms', 'p10–p90', 'rate', '', 'of peak'],
      ...kernels.map((k) => [
        k.name,
        k.kernel,
        k.ms.median.toFixed(3),
        `${k.ms.p10.toFixed(3)}–${k.ms.p90.toFixed(3)}`,
        k.rate.toFixed(1),
        k.unit,
        `${(100 * k.share).toFixed(0)} %`,
      ]),
    ]),
  );
}
