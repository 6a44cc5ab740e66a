import { beforeAll, describe, expect, it, test } from 'vitest';
import type { GpuKernel, Op } from '../kernels/define.ts';
import { ops } from '../kernels/index.ts';
import { workOf } from '../kernels/work.ts';
import type { Tuning } from '../src/3-plan/choose.ts';
import { makePlan } from '../src/3-plan/make-plan.ts';
import { shipped } from '../src/3-plan/shipped-tuning.ts';
import { checkTable, distance, tuningFor, type TuningTable } from '../src/3-plan/tuning.ts';
import { type Gpu, requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { BASE_GPU, type GpuCaps, type GpuStep } from '../src/core/plan.ts';
import { Session } from '../src/index.ts';
import { encodeModel } from '../src/cli/encode-model.ts';
import { compactTuning, mergeTuning, tuneModel, type TuningRecord } from '../src/tune/index.ts';
import { gauge, type Gauge } from '../src/tune/peaks.ts';
import { awkward, disagreement, floats, keyOf, makeProblem, weight } from '../src/tune/problem.ts';
import { awkwardProblems, standardProblems } from '../src/tune/problems.ts';
import { tuneProblem, variantsOf } from '../src/tune/search.ts';
import { deviation, median } from '../src/tune/timer.ts';

const caps: GpuCaps = { ...BASE_GPU, vendor: 'acme', architecture: 'one' };
const product = makeProblem('MatMul', [floats(64, 96), weight(96, 128)]);
const table = (...entries: TuningTable['entries']): TuningTable => ({ format: 1, adapter: 'acme-one', entries });

describe('work', () => {
  it.each([
    [product, [1, 64, 128, 96], 2 * 64 * 96 * 128],
    [makeProblem('MatMul', [floats(3, 5, 7), floats(3, 7, 11)]), [3, 5, 11, 7], 2 * 3 * 5 * 7 * 11],
    [makeProblem('MatMul', [floats(3, 5, 7), weight(7, 11)]), [1, 15, 11, 7], 2 * 3 * 5 * 7 * 11],
    [makeProblem('Gemm', [floats(8, 5), weight(11, 8), null], { transA: 1, transB: 1 }), [1, 5, 11, 8], 2 * 5 * 8 * 11],
    [
      makeProblem('Conv', [floats(2, 6, 9, 9), weight(8, 3, 3, 3)], { group: 2 }),
      [2 * 7 * 7, 4, 3, 2],
      2 * 2 * 8 * 7 * 7 * 3 * 9,
    ],
    [
      makeProblem('ConvTranspose', [floats(1, 3, 4, 4), weight(3, 5, 2, 2)], { strides: [2, 2] }),
      [64, 5, 3, 1],
      2 * 3 * 16 * 5 * 4,
    ],
  ])('of %#', (problem, sizes, flops) => {
    expect(problem.work).toMatchObject({ sizes, flops });
  });
  it('tells weights, types and windows apart, and nothing else', () => {
    const groups = [
      product,
      makeProblem('MatMul', [floats(64, 96), floats(96, 128)]),
      makeProblem('MatMul', [
        { dtype: 'float16', shape: [4, 8] },
        { dtype: 'float16', shape: [8, 4], weight: true },
      ]),
      makeProblem('Conv', [floats(1, 4, 9, 9), weight(4, 4, 3, 3)]),
      makeProblem('Conv', [floats(1, 4, 9, 9), weight(4, 4, 3, 3)], { strides: [2, 2] }),
    ].map((p) => p.work.group);
    expect(new Set(groups).size).toBe(groups.length);
    expect(makeProblem('MatMul', [floats(3, 5), weight(5, 9)]).work.group).toBe(product.work.group);
  });
  it('is positive for every problem that is tuned', () => {
    for (const p of [...standardProblems({ software: false }), ...awkwardProblems()]) {
      expect(
        p.work.sizes.every((s) => s > 0),
        keyOf(p),
      ).toBe(true);
      expect(p.work.flops + p.bytes).toBeGreaterThan(0);
    }
  });
});

describe('tables', () => {
  const near = { group: product.work.group, sizes: [1, 64, 100, 90], kernel: 'matmul.direct', params: { TM: 2 } };
  const choice = (...tables: TuningTable[]): ReturnType<Tuning> =>
    tuningFor(caps, tables)('MatMul', product.call, caps);
  it('give the nearest entry within an octave', () => {
    expect(choice(table(near))).toEqual(near);
    expect(choice(table(near, { ...near, sizes: [1, 64, 128, 90], params: { TM: 4 } }))).toMatchObject({
      params: { TM: 4 },
    });
    expect(choice(table({ ...near, sizes: [1, 16, 128, 96] }))).toBeNull();
    expect(choice(table({ ...near, group: 'other' }))).toBeNull();
  });
  it('of the caller come first, those of other adapters not at all', () => {
    expect(choice(table(near), table({ ...near, kernel: 'matmul.any' }))).toMatchObject({ kernel: 'matmul.direct' });
    expect(choice({ ...table(near), adapter: 'acme-two' })).toBeNull();
  });
  it('that ship are asked after the caller’s', () => {
    const asked = (tables: readonly TuningTable[]): ReturnType<Tuning> =>
      tuningFor(caps, tables, [table({ ...near, params: { TM: 8 } })])('MatMul', product.call, caps);
    expect(asked([])).toMatchObject({ params: { TM: 8 } });
    expect(asked([table(near)])).toMatchObject({ params: { TM: 2 } });
    expect(asked([table({ ...near, sizes: [1, 4096, 4096, 4096] })])).toMatchObject({ params: { TM: 8 } });
  });
  it('keep sizes up to 8 apart', () => {
    expect(distance([4, 64], [4, 100])).toBeCloseTo(Math.log2(100 / 64));
    expect(distance([4, 64], [5, 64])).toBe(Infinity);
    expect(distance([4, 64], [4])).toBe(Infinity);
  });
  it.each<[string, unknown]>([
    ['null', null],
    ['no list', { format: 1, adapter: 'x' }],
    ['a newer format', { format: 2, adapter: 'x', entries: [] }],
    ['an entry without sizes', { format: 1, adapter: 'x', entries: [{ group: 'a', kernel: 'b' }] }],
    ['a size of 0', table({ ...near, sizes: [0] })],
  ])('%s is refused', (_, value) => {
    expect(() => checkTable(value)).toThrow(/option_invalid/);
  });
  it('that ship are of the format, small, and name kernels that there are', () => {
    const kernels = new Map([...ops.values()].flatMap((op) => (op.webgpu ?? []).map((k) => [k.name, k] as const)));
    for (const t of shipped) {
      checkTable(t);
      expect(JSON.stringify(t).length, t.adapter).toBeLessThan(20_000);
      for (const e of t.entries) {
        expect(kernels.has(e.kernel), e.kernel).toBe(true);
        for (const [name, value] of Object.entries(e.params ?? {}))
          expect(kernels.get(e.kernel)!.tunables?.[name], `${e.kernel} ${name}`).toContain(value);
      }
    }
  });
});

describe('plans', () => {
  const stepOf = (tuning: Tuning): GpuStep => {
    const facts = [product.call.inputs[0]!, product.call.inputs[1]!, product.call.outputs[0]!];
    const node = { op: 'MatMul', name: 'n', inputs: [0, 1], outputs: [2], attrs: {}, opset: 17 };
    const { plan } = makePlan(
      { model: 'm', nodes: [node], facts, nameOf: String, inputs: [0], outputs: [2], after: [], caps, tuning },
      ops,
    );
    return plan.steps.find((s): s is GpuStep => s.run === 'gpu')!;
  };
  it('take the kernel and the parameters that are named', () => {
    expect(stepOf(() => null).kernel).toBe('matmul.tile');
    expect(stepOf(() => ({ kernel: 'matmul.direct', params: { TM: 2 } })).params).toMatchObject({ TM: 2 });
    expect(stepOf(() => ({ kernel: 'matmul.any' }))).toMatchObject({ kernel: 'matmul.any' });
  });
  it('pass over what cannot be', () => {
    expect(stepOf(() => ({ kernel: 'matmul.splitk' })).kernel).toBe('matmul.tile'); // not deep enough for it
    expect(stepOf(() => ({ kernel: 'no.such' })).kernel).toBe('matmul.tile');
    expect(stepOf(() => ({ kernel: 'matmul.direct', params: { TM: 3, NO: 1 } })).params).toEqual(
      stepOf(() => ({ kernel: 'matmul.direct' })).params,
    );
  });
});

test('medians and deviations', () => {
  expect([median([3, 1, 2]), median([1, 2, 3, 10]), deviation([1, 2, 3, 10])]).toEqual([2, 2.5, 1]);
});
test('awkward values are both signs, zeros and distinct, and the same for a seed', () => {
  const t = awkward('float32', [1000], 3);
  const values = Array.from(t.data as Float32Array);
  expect(values.some((v) => v === 0) && values.some((v) => v < 0) && values.some((v) => v > 1)).toBe(true);
  expect(new Set(values).size).toBeGreaterThan(700);
  expect(awkward('float32', [1000], 3).data).toEqual(t.data);
  expect(awkward('float32', [1000], 4).data).not.toEqual(t.data);
});
test('disagreements are found', () => {
  const t = awkward('float32', [50], 1);
  const off = { ...t, data: (t.data as Float32Array).map((v, i) => (i === 7 ? v + 0.1 : v)) } as typeof t;
  const bad = { ...t, data: (t.data as Float32Array).map((v, i) => (i === 9 ? Number.NaN : v)) } as typeof t;
  expect([disagreement([t], [t]), disagreement([off], [t]), disagreement([bad], [t])]).toEqual([
    null,
    expect.stringContaining('element 7'),
    expect.stringContaining('element 9'),
  ]);
});
test('records merge, the newer deciding, and shrink to what planners read', () => {
  const entry = (kernel: string, ...sizes: number[]): TuningRecord['entries'][number] => ({
    group: 'g',
    sizes,
    kernel,
    params: {},
    ms: 1,
    untuned: { kernel, ms: 1 },
    gain: 1,
    noise: 0,
    samples: 1,
    checked: 1,
    timed: 1,
    roofline: 1,
    flops: 1,
    bytes: 1,
    wrong: [],
  });
  const record = (...entries: TuningRecord['entries']): TuningRecord => ({
    format: 1,
    harness: 1,
    adapter: 'a',
    device: { description: '', software: true, features: [], clock: 'wall' },
    peaks: { gflops: 1, copyGBs: 1 },
    entries,
  });
  expect(
    mergeTuning(record(entry('old', 1), entry('old', 2)), record(entry('new', 2))).entries.map((e) => e.kernel),
  ).toEqual(['old', 'new']);
  expect(compactTuning(record(entry('k', 3)))).toEqual({
    format: 1,
    adapter: 'a',
    entries: [{ group: 'g', sizes: [3], kernel: 'k' }],
  });
  expect(() => mergeTuning({ ...record(), adapter: 'b' }, record())).toThrow(/option_invalid/);
});

describe('on a device', () => {
  let gpu: Gpu;
  let measured: Gauge;
  beforeAll(async () => {
    gpu = await requestGpuDevice({ allowSoftware: true });
    measured = await gauge(gpu.device, gpu.caps);
  });
  it('has peaks', () => {
    expect(measured.peaks.gflops).toBeGreaterThan(0.05);
    expect(measured.peaks.copyGBs).toBeGreaterThan(0.01);
  });
  it('finds a parameter that is faster by far, and leaves out what is wrong', async () => {
    // A toy whose default does the work 24 times; WRONG = 1 leaves half of it away.
    const honest = ops.get('Softsign')!;
    const base = ops.get('sardonyx.Map')!.webgpu![0] as GpuKernel;
    const problem = makeProblem('sardonyx.Map', [floats(8, 4096)], {
      expr: JSON.stringify(honest.map!([{ k: 'f32', f: 'in', i: 0 }], {}, 'float32')),
      dtype: 'float32',
      shape: [8, 4096],
    });
    const toy: GpuKernel = {
      name: 'toy',
      tunables: { TIMES: [1, 24], WRONG: [0, 1] },
      launch: (call, c, { TIMES = 24, WRONG = 0 }) =>
        Array.from({ length: TIMES }, () => {
          const l = base.launch(call, c, {}) as Exclude<ReturnType<GpuKernel['launch']>, readonly unknown[]>;
          return WRONG ? { ...l, uniforms: { count: 16384 } } : l;
        }),
    };
    const registry = ops as Map<string, Op>;
    const kept = registry.get('sardonyx.Map')!;
    registry.set('sardonyx.Map', { ...kept, webgpu: [toy] });
    try {
      const found = await tuneProblem({ ...gpu, gauge: measured }, problem, performance.now() + 30_000);
      if (found === null || found === 'open') throw new Error(`nothing found: ${found}`);
      expect(found).toMatchObject({ kernel: 'toy', params: { TIMES: 1 }, checked: 4 });
      expect(found.gain).toBeGreaterThan(2);
      expect(found.wrong).toEqual([expect.stringContaining('WRONG=1'), expect.stringContaining('WRONG=1')]);
    } finally {
      registry.set('sardonyx.Map', kept);
    }
  }, 120_000);
  it('tunes a model in a budget, goes on, and the session takes the result', async () => {
    const model = encodeModel(
      {
        inputs: [{ name: 'x', dtype: 'float32', shape: [9, 20] }],
        outputs: [{ name: 'z', dtype: 'float32', shape: [9, 24] }],
        weights: [{ name: 'w', tensor: awkward('float32', [20, 24], 1) }],
        nodes: [
          { op: 'MatMul', name: 'mm', inputs: ['x', 'w'], outputs: ['y'], attrs: [] },
          { op: 'Softmax', name: 'sm', inputs: ['y'], outputs: ['z'], attrs: [] },
        ],
      },
      { '': 17 },
    );
    const told: string[] = [];
    const first = await tuneModel(model, {
      device: gpu.device,
      seconds: 20,
      only: (p) => p.startsWith('MatMul'),
      onProgress: (p) => told.push(p.problem),
    });
    expect(first.entries.map((e) => e.group)).toEqual([expect.stringMatching(/^MatMul/)]);
    expect(told.filter((t) => t !== '')).toHaveLength(1);
    const forced = { ...first, entries: [{ ...first.entries[0]!, kernel: 'matmul.direct', params: { TM: 2 } }] };
    const again = await tuneModel(model, { device: gpu.device, seconds: 20, resume: forced });
    expect(again.entries[0]).toEqual(forced.entries[0]);
    expect(again.entries).toHaveLength(2);
    const x = awkward('float32', [9, 20], 5);
    const run = async (tuning: TuningTable | false): Promise<{ params: unknown; z: unknown }> => {
      await using session = await Session.load(model, { device: gpu.device, tuning });
      const { z } = await session.run({ x });
      return {
        params: session.plans[0]!.steps.flatMap((s) =>
          s.run === 'gpu' && s.kernel === 'matmul.direct' ? [s.params['TM']] : [],
        ),
        z,
      };
    };
    const [tuned, plain] = [await run(forced), await run(false)];
    expect(tuned.params).toEqual([2]);
    expect(plain.params).not.toEqual([2]);
    expect(disagreement([tuned.z as never], [plain.z as never], 1e-5)).toBeNull();
    // Variants that the planner never takes by itself load with a table that names one.
    if (!gpu.caps.subgroups) return;
    const named = (kernel: string): TuningTable => ({
      ...forced,
      entries: [{ ...forced.entries[0]!, kernel, params: {} }],
    });
    await using session = await Session.load(model, { device: gpu.device, tuning: named('matmul.lanes') });
    const { z } = await session.run({ x });
    expect(session.plans[0]!.steps.flatMap((s) => (s.run === 'gpu' ? [s.kernel] : []))).toContain('matmul.lanes');
    expect(disagreement([z as never], [plain.z as never], 1e-5)).toBeNull();
  }, 120_000);
  it('stops when asked', async () => {
    await expect(
      tuneModel(
        encodeModel(
          {
            inputs: [{ name: 'x', dtype: 'float32', shape: [64, 64] }],
            outputs: [{ name: 'y', dtype: 'float32', shape: [64, 64] }],
            weights: [],
            nodes: [{ op: 'Softmax', name: 's', inputs: ['x'], outputs: ['y'], attrs: [] }],
          },
          { '': 17 },
        ),
        { device: gpu.device, signal: AbortSignal.abort() },
      ),
    ).rejects.toThrow(/aborted/);
  });
});

test('variants of a product on a base adapter are many, each another program, the planner’s own first', () => {
  const big = makeProblem('MatMul', [floats(256, 256), weight(256, 256)]);
  const names = variantsOf(big, BASE_GPU).map((v) => `${v.kernel.name} ${JSON.stringify(v.params)}`);
  expect(names[0]).toBe('matmul.tile {}');
  expect(names.length).toBeGreaterThan(20);
  expect(new Set(names).size).toBe(names.length);
  expect(variantsOf(big, { ...BASE_GPU, software: true }).map((v) => v.kernel.name)).toContain('matmul.tile');
  expect(workOf('MatMul', big.call).flops).toBe(2 * 256 ** 3);
});
