/**
 * What plans for WebGPU may cost, model by model: dispatches, pipelines, memory. A figure that falls may lower its
 * ceiling here; none may rise without a reason.
 */
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { parseModel } from '../src/1-parse/model.ts';
import { findCases } from '../src/cli/cases.ts';
import { recordedFeeds } from '../src/cli/verify.ts';
import type { Constant } from '../src/core/graph.ts';
import { BASE_GPU } from '../src/core/plan.ts';
import { byteLength, isTensor } from '../src/core/tensor.ts';
import { type Plan, planModel, Session, summarize, tensor } from '../src/index.ts';
import { encode, node, port } from './onnx-model.ts';
import { openNullDevice, pipelineOf } from './gpu-harness.ts';

const data = resolve(import.meta.dirname, '../../shared/data');
const MODELS = resolve(data, 'models');
const LIGHT = resolve(data, 'onnx/light');

/**
 * The most dispatches of a model at its recorded inputs; `layers`: of a transformer as exporters write it, which has 10
 * for each and 6 more at most.
 */
const CEILINGS: Readonly<Record<string, { readonly dispatches: number; readonly layers?: number }>> = {
  'bert-mini-synth': { dispatches: 19, layers: 2 },
  'gpt2-mini-synth': { dispatches: 30, layers: 3 },
  'qwen3-mini-synth': { dispatches: 25, layers: 2 },
  'stories260k-hf-op17': { dispatches: 52, layers: 5 },
  'ort-bert-toy': { dispatches: 46, layers: 5 },
  't5-mini-enc-synth': { dispatches: 17, layers: 2 },
  'whisper-mini-enc-synth': { dispatches: 22, layers: 2 },
  // A ViT and a text encoder of two layers each.
  'clip-mini-synth': { dispatches: 50 },
  'sam-mini-enc-synth': { dispatches: 25, layers: 2 },
  'wav2vec2-mini-synth': { dispatches: 34 },
  'convnext-mini-synth': { dispatches: 43 },
  'mobilenetv2-synth': { dispatches: 54 },
  'genai-tiny-lfm2': { dispatches: 7 },
  'stories260k-gqa-fp32': { dispatches: 55 },
  'stories260k-gqa-fp16': { dispatches: 60 },
  'stories260k-gqa-int4': { dispatches: 65 },
  'stories260k-int8dyn': { dispatches: 167 },
  'blazeface-front': { dispatches: 56 },
  fastestdet: { dispatches: 121 },
  gtcrn: { dispatches: 277 },
  'mlsd-320-tiny': { dispatches: 54 },
  'openseeface-det': { dispatches: 93 },
  'openseeface-lm0': { dispatches: 80 },
  'ppocr-cls': { dispatches: 75 },
  'ppocrv4-det': { dispatches: 91 },
  'ppocrv4-rec': { dispatches: 65 },
  'super-resolution-10': { dispatches: 5 },
  'ultraface-rfb-320': { dispatches: 74 },
  'yunet-n-320': { dispatches: 73 },
  light_resnet50: { dispatches: 53 },
  light_squeezenet: { dispatches: 39 },
  light_shufflenet: { dispatches: 78 },
  light_densenet121: { dispatches: 246 },
  light_inception_v1: { dispatches: 84 },
  light_inception_v2: { dispatches: 94 },
};
const PIPELINES = 60;
/** Peak of the activations over what no plan can do without. */
const WORST = 1.2;
const MEDIAN = 1.1;
/** Weights on the GPU over the constants that they hold. */
const PADDED = 1.03;

const pathOf = (name: string): string =>
  name.startsWith('light_') ? resolve(LIGHT, `${name}.onnx`) : resolve(MODELS, name);
const THERE = Object.keys(CEILINGS).filter((name) => existsSync(pathOf(name)));

/** The plan for a GPU of WebGPU's default limits at the dims of the recorded inputs. */
async function planOf(name: string): Promise<{ plan: Plan; constants: readonly Constant[] }> {
  const [one] = findCases(pathOf(name));
  const { graph } = parseModel(readFileSync(one!.model));
  const session = await Session.load(one!.model, { device: 'reference' });
  const feeds = await recordedFeeds(session, one!.sets[0]!, { inputTypes: session.inputs.map(() => null) });
  await session.release();
  const dims: Record<string, number> = {};
  for (const v of graph.inputs) {
    const { name: input, declared } = graph.values[v]!;
    const t = feeds[input]!;
    if (isTensor(t))
      t.shape.forEach((d, i) => {
        const known = declared?.shape?.[i];
        if (typeof known !== 'number') dims[known ?? `${input}.${i}`] = d;
      });
  }
  return planModel(one!.model, { device: 'webgpu', dims, caps: BASE_GPU });
}

describe.skipIf(THERE.length === 0)('models', () => {
  const plans = new Map<string, Awaited<ReturnType<typeof planOf>>>();
  let device: GPUDevice;
  beforeAll(async () => {
    for (const name of THERE) plans.set(name, await planOf(name));
    await requestGpuDevice({ allowSoftware: true }); // WebGPU's global names
    ({ device } = await openNullDevice([]));
  }, 120_000);

  it.each(THERE)('%s', (name) => {
    const { plan, constants } = plans.get(name)!;
    const s = summarize(plan);
    const { dispatches, layers } = CEILINGS[name]!;
    expect(s.dispatches).toBeLessThanOrEqual(dispatches);
    if (layers !== undefined) expect(s.dispatches).toBeLessThanOrEqual(10 * layers + 6);
    expect(s.pipelines).toBeLessThanOrEqual(PIPELINES);
    expect(s.peakBytes).toBeLessThanOrEqual(WORST * s.lowerBoundBytes);
    const held = [...new Set(plan.weights.map((w) => w.constant))].reduce((n, c) => n + byteLength(constants[c]!), 0);
    expect(plan.weights.reduce((n, w) => n + w.bytes, 0)).toBeLessThanOrEqual(PADDED * held + 4096);
  });

  it('need little more memory than the least, in the median', () => {
    const ratios = [...plans.values()]
      .map(({ plan }) => plan.peakBytes / Math.max(1, plan.lowerBoundBytes))
      .sort((a, b) => a - b);
    expect(ratios[Math.floor(ratios.length / 2)]).toBeLessThanOrEqual(MEDIAN);
  });

  // No software adapter runs these variants, but Dawn's null device compiles them, with the slabs that they share bound
  // writable.
  it('have shaders that compile', async () => {
    const code = new Map([...plans.values()].flatMap(({ plan }) => plan.shaders).map((s) => [s.code, s]));
    expect(code.size).toBeGreaterThan(100);
    for (const shader of code.values()) await pipelineOf(device, shader);
  }, 120_000);
});

it('a chain of a hundred elementwise operators is one dispatch', async () => {
  const chain = Array.from({ length: 100 }, (_, i) =>
    node(['Relu', 'Neg', 'Abs', 'Sigmoid'][i % 4]!, [i === 0 ? 'x' : `v${i}`], [i === 99 ? 'y' : `v${i + 1}`]),
  );
  const model = encode({ input: [port('x', [7, 9])], output: [port('y', [7, 9])], initializer: [], node: chain });
  const { plan } = await planModel(model, { device: 'webgpu', caps: BASE_GPU });
  expect(summarize(plan).dispatches).toBe(1);
  const feeds = {
    x: tensor(
      'float32',
      [7, 9],
      Array.from({ length: 63 }, (_, i) => (i - 30) / 8),
    ),
  };
  await using reference = await Session.load(model, { device: 'reference', optimize: false });
  await using session = await Session.load(model, { device: 'webgpu' });
  const [want, got] = [await reference.run(feeds), await session.run(feeds)];
  const values = (t: unknown): number[] => Array.from((t as { data: Float32Array }).data);
  values(got['y']).forEach((v, i) => {
    expect(v).toBeCloseTo(values(want['y'])[i]!, 5);
  });
});
