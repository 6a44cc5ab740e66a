/**
 * `npm run bench:operators`: models of one operator on WASM, one thread, beside onnxruntime-web's WASM provider, both in turns in one process.
 * A whole run is measured, with the input copied in and the output out: of a model that has the operator once, where
 * copies may be most of the time, and of one that has it eight times in a row, each with weights of its own, where they
 * are not.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { number, print, printJson, progress, table } from '../src/cli/command.ts';
import { type AttrText, encodeModel } from '../src/cli/encode-model.ts';
import { seeded } from '../src/cli/inputs.ts';
import { sizeOf, type Tensor, tensor } from '../src/core/tensor.ts';
import { disagreement, save } from './cases.ts';
import { openRuntime, type Runtime, type RuntimeName } from './runtimes.ts';
import { geometricMean, sample, type Spread, spread, warmUp } from './timing.ts';

const USAGE = `npm run bench:operators -- [options]

  --only TEXT,…     only operators whose name contains one of these
  --rounds N        samples of each (default 15)
  --relaxed         relaxed SIMD in V8 even where it is behind a flag (Node 20)
  --json            print the report as JSON
  --out FILE.json   also write the JSON there, and the table beside it as FILE.md`;

const { values: given } = parseArgs({
  options: {
    only: { type: 'string' },
    rounds: { type: 'string' },
    relaxed: { type: 'boolean' },
    json: { type: 'boolean' },
    out: { type: 'string' },
    help: { type: 'boolean' },
  },
});
const NAMES: readonly RuntimeName[] = ['sardonyx', 'onnxruntime-web'];

/**
 * An operator on `x`, with weights that each use of it draws anew. The second use follows the first where shapes allow;
 * else `back` stands between them.
 */
interface Problem {
  readonly name: string;
  readonly x: readonly number[];
  readonly layer: Layer;
  readonly back?: Layer;
}
interface Layer {
  readonly op: string;
  readonly attrs?: Readonly<Record<string, number | readonly number[]>>;
  readonly weights?: () => readonly Tensor[];
  readonly out: readonly number[];
}
/** Microseconds of each use. */
interface Pair {
  readonly ours: Spread;
  readonly peer: Spread;
  readonly ratio: number;
  readonly wrong?: string;
}
interface Figure {
  readonly name: string;
  readonly once: Pair;
  readonly inRow: Pair;
}
const IN_ROW = 8;

const next = seeded(1);
const within = (most: number, ...shape: number[]): Tensor =>
  tensor(
    'float32',
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => most * (2 * next() - 1)),
  );
const floats = (...shape: number[]): Tensor => within(1, ...shape);
const bytes = (...shape: number[]): Tensor =>
  tensor(
    'uint8',
    shape,
    Uint8Array.from({ length: sizeOf(shape) }, () => 256 * next()),
  );

/** A convolution that keeps the image's size, divides it by the stride or, transposed, multiplies it. */
interface Image {
  readonly channels: number;
  readonly size: readonly number[];
}
function conv(
  from: Image,
  channels: number,
  kernel: number,
  { stride = 1, group = 1, transposed = false } = {},
): Layer & { readonly to: Image } {
  const each = (n: number): number[] => from.size.map(() => n);
  const pad = transposed ? (kernel - stride) / 2 : (kernel - 1) / 2;
  const size = from.size.map((n) => (transposed ? n * stride : n / stride));
  const fan = (from.channels / group) * kernel ** size.length;
  const shape = transposed ? [from.channels, channels / group] : [channels, from.channels / group];
  return {
    op: transposed ? 'ConvTranspose' : 'Conv',
    attrs: { kernel_shape: each(kernel), pads: [...each(pad), ...each(pad)], strides: each(stride), group },
    weights: () => [within(1 / Math.sqrt(fan), ...shape, ...each(kernel)), within(0.1, channels)],
    out: [1, channels, ...size],
    to: { channels, size },
  };
}
function convolution(
  family: string,
  from: Image,
  kernel: number,
  options: Parameters<typeof conv>[3] & { readonly channels?: number; readonly back?: number } = {},
): Problem {
  const layer = conv(from, options.channels ?? from.channels, kernel, options);
  const { stride = 1, transposed = false } = options;
  const name = `${family} ${from.size.map(() => kernel).join('×')}${stride > 1 ? `/${stride}` : ''} ${from.channels}→${layer.to.channels} @${from.size.join('×')}`;
  return {
    name,
    x: [1, from.channels, ...from.size],
    layer,
    ...(options.back ? { back: conv(layer.to, from.channels, options.back, { stride, transposed: !transposed }) } : {}),
  };
}
const image = (channels: number, ...size: number[]): Image => ({ channels, size });
const depthwise = (channels: number, size: number): Problem =>
  convolution('depthwise', image(channels, size, size), 3, { group: channels });
const softmax = (...shape: number[]): Problem => ({
  name: `softmax ${shape.join('×')}`,
  x: shape,
  layer: { op: 'Softmax', attrs: { axis: -1 }, out: shape },
});
const layerNorm = (...shape: number[]): Problem => ({
  name: `layernorm ${shape.join('×')}`,
  x: shape,
  layer: {
    op: 'LayerNormalization',
    attrs: { axis: -1 },
    weights: () => [floats(shape.at(-1)!), floats(shape.at(-1)!)],
    out: shape,
  },
});
/** One row by 4-bit weights in blocks of 32. */
function nbits(K: number, N: number): Problem {
  const layer = (from: number, to: number): Layer => ({
    op: 'com.microsoft.MatMulNBits',
    attrs: { K: from, N: to, bits: 4, block_size: 32 },
    weights: () => [bytes(to, from / 32, 16), within(1 / 64, (to * from) / 32)],
    out: [1, to],
  });
  return { name: `matmulnbits 1×${N}×${K}`, x: [1, K], layer: layer(K, N), ...(K === N ? {} : { back: layer(N, K) }) };
}
function matmul(M: number, N: number, K: number): Problem {
  const layer = (from: number, to: number): Layer => ({
    op: 'MatMul',
    weights: () => [within(1 / Math.sqrt(from), from, to)],
    out: [M, to],
  });
  return { name: `matmul ${M}×${N}×${K}`, x: [M, K], layer: layer(K, N), ...(K === N ? {} : { back: layer(N, K) }) };
}

const PROBLEMS: readonly (() => Problem)[] = [
  () => depthwise(32, 112),
  () => depthwise(96, 56),
  () => depthwise(144, 56),
  () => depthwise(192, 28),
  () => depthwise(384, 14),
  () => depthwise(960, 7),
  () => convolution('pointwise', image(64, 56, 56), 1),
  () => convolution('pointwise', image(128, 28, 28), 1),
  () => convolution('pointwise', image(512, 7, 7), 1),
  () => convolution('conv', image(64, 56, 56), 3),
  () => convolution('conv', image(128, 28, 28), 3),
  () => convolution('conv', image(256, 14, 14), 3),
  () => convolution('strided', image(64, 56, 56), 3, { channels: 128, stride: 2, back: 2 }),
  () => convolution('strided', image(3, 224, 224), 7, { channels: 32, stride: 2, back: 4 }),
  () => convolution('grouped', image(128, 28, 28), 3, { group: 32 }),
  () => convolution('grouped', image(256, 14, 14), 3, { group: 32 }),
  () => convolution('transposed', image(64, 28, 28), 2, { channels: 32, stride: 2, transposed: true, back: 3 }),
  () => convolution('transposed', image(64, 28, 28), 4, { channels: 32, stride: 2, transposed: true, back: 3 }),
  () => convolution('1-D', image(128, 400), 3),
  () => convolution('1-D', image(384, 100), 3),
  () => convolution('3-D', image(16, 8, 28, 28), 3),
  () => softmax(12, 128, 128),
  () => softmax(8, 197, 197),
  () => softmax(512, 768),
  () => softmax(1, 32000),
  () => layerNorm(16, 384),
  () => layerNorm(128, 768),
  () => layerNorm(512, 768),
  () => layerNorm(197, 192),
  () => nbits(768, 768),
  () => nbits(768, 3072),
  () => nbits(2048, 2048),
  () => nbits(4096, 4096),
  () => matmul(256, 256, 256),
  () => matmul(512, 512, 512),
  () => matmul(128, 768, 768),
  () => matmul(128, 3072, 768),
];

const attributes = (of: Layer['attrs']): AttrText[] =>
  Object.entries(of ?? {}).map(([name, value]) => ({ name, value, kind: typeof value === 'number' ? 'int' : 'ints' }));
function modelOf({ x, layer, back }: Problem, uses: number): Uint8Array {
  const layers = Array.from({ length: uses }, (_, i) => {
    const l = back && i % 2 ? back : layer;
    return { ...l, weights: (l.weights?.() ?? []).map((w, j) => ({ name: `w${i}_${j}`, tensor: w })) };
  });
  return encodeModel(
    {
      inputs: [{ name: 'y0', dtype: 'float32', shape: x }],
      outputs: [{ name: `y${uses}`, dtype: 'float32', shape: layers.at(-1)!.out }],
      weights: layers.flatMap((l) => l.weights),
      nodes: layers.map((l, i) => ({
        op: l.op,
        name: `node${i}`,
        inputs: [`y${i}`, ...l.weights.map((w) => w.name)],
        outputs: [`y${i + 1}`],
        attrs: attributes(l.attrs),
      })),
    },
    { '': 17, 'com.microsoft': 1 },
  );
}

async function compare(problem: Problem, uses: number, file: string, runtimes: readonly Runtime[]): Promise<Pair> {
  await writeFile(file, modelOf(problem, uses));
  const feeds = { y0: floats(...problem.x) };
  const loaded = [];
  for (const r of runtimes) loaded.push({ model: await r.load(file), times: [] as number[], repeats: 1 });
  const wrong = disagreement(await Promise.all(loaded.map(async ({ model }) => model.values(await model.run(feeds)))));
  for (const l of loaded) l.repeats = await warmUp(() => l.model.run(feeds), 250, 20);
  for (let r = 0; r < (number(given, 'rounds', 1) ?? 15); r++)
    for (const l of r % 2 ? [...loaded].reverse() : loaded)
      l.times.push((1000 * (await sample(() => l.model.run(feeds), l.repeats)).cpu) / uses);
  for (const l of loaded) await l.model.release();
  const [ours, peer] = loaded.map((l) => spread(l.times)) as [Spread, Spread];
  return { ours, peer, ratio: peer.median / ours.median, ...(wrong === null ? {} : { wrong }) };
}

async function bench(): Promise<void> {
  if (given.relaxed) setFlagsFromString('--experimental-wasm-relaxed-simd');
  const runtimes = await Promise.all(NAMES.map((name) => openRuntime(name, { device: 'wasm', threads: 1 })));
  const wanted = given.only?.split(',');
  const folder = await mkdtemp(join(tmpdir(), 'sardonyx-bench-'));
  const operators: Figure[] = [];
  try {
    for (const make of PROBLEMS) {
      const problem = make();
      if (wanted && !wanted.some((w) => problem.name.includes(w))) continue;
      progress(problem.name);
      const [once, inRow] = [
        await compare(problem, 1, join(folder, 'model.onnx'), runtimes),
        await compare(problem, IN_ROW, join(folder, 'model.onnx'), runtimes),
      ];
      operators.push({ name: problem.name, once, inRow });
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  progress('');
  const families = [...new Set(operators.map(({ name }) => name.split(' ')[0]!))];
  const means = families.map((name) => {
    const ratios = operators.filter((f) => f.name.split(' ')[0] === name).map((f) => f.inRow.ratio);
    return { name, mean: geometricMean(ratios), least: Math.min(...ratios) };
  });
  const report = {
    machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, load: loadavg()[2]! },
    node: process.versions.node,
    relaxedSimd: given.relaxed === true,
    runtimes: runtimes.map(({ name, version }) => ({ name, version })),
    operators,
    means,
  };
  const us = (v: number): string => v.toFixed(v < 100 ? 1 : 0);
  const cells = ({ ours, peer, ratio }: Pair): string[] => [
    us(ours.median),
    `${us(ours.p10)}–${us(ours.p90)}`,
    us(peer.median),
    `${us(peer.p10)}–${us(peer.p90)}`,
    `×${ratio.toFixed(2)}`,
  ];
  const rows = [
    [
      'operator',
      'in a row: ours',
      'p10–p90',
      'peer',
      'p10–p90',
      'ratio',
      'once: ours',
      'p10–p90',
      'peer',
      'p10–p90',
      'ratio',
      'notes',
    ],
    ...operators.map((f) => [
      f.name,
      ...cells(f.inRow),
      ...cells(f.once),
      [f.once.wrong, f.inRow.wrong].filter(Boolean).join('; '),
    ]),
  ];
  const heading = `${report.runtimes.map((r) => `${r.name} ${r.version}`).join(' and ')}, one thread, Node ${report.node}${report.relaxedSimd ? ' with relaxed SIMD' : ''}, ${report.machine.cpu}, load average ${report.machine.load.toFixed(1)}. Medians of processor time in µs for each use of the operator; ratio = peer / ours.`;
  const ends = means.map((m) => `${m.name} ×${m.mean.toFixed(2)}, least ×${m.least.toFixed(2)}`).join('; ');
  if (given.json) printJson(report);
  else print(`${heading}\n${table(rows)}\n${ends}`);
  if (given.out === undefined) return;
  await save(
    given.out,
    `${JSON.stringify(report, (_, v: unknown) => (typeof v === 'number' ? Number(v.toPrecision(5)) : v), 1)}\n`,
  );
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  await save(
    given.out.replace(/(\.json)?$/, '.md'),
    [
      heading,
      `In a row, geometric means: ${ends}.`,
      '',
      line(rows[0]!),
      line(rows[0]!.map((_, i, all) => (i === 0 || i === all.length - 1 ? '---' : '--:'))),
      ...rows.slice(1).map(line),
      '',
    ].join('\n'),
  );
}

if (given.help) print(USAGE);
else await bench();
