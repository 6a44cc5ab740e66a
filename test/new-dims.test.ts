import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BASE_GPU, BASE_WASM, type Home } from '../src/core/plan.ts';
import { type DType, type Feeds, type Plan, planModel, Session, type Tensor, tensor } from '../src/index.ts';

const FOLDER = resolve('../shared/data/models');
const file = (model: string): string => resolve(FOLDER, model, 'model.onnx');

/** A decoder's inputs at these lengths: `seq` new tokens behind `past` others. */
function feedsOf(session: Session, past: number, seq: number, batch = 1): Feeds {
  const sizes: Readonly<Record<string, number>> = {
    batch,
    batch_size: batch,
    seq,
    sequence_length: seq,
    past,
    past_sequence_length: past,
    total: past + seq,
    total_sequence_length: past + seq,
  };
  return Object.fromEntries(
    session.inputs.map(({ name, dtype, shape }): [string, Tensor] => {
      const dims = shape!.map((d) => (typeof d === 'number' ? d : sizes[d!]!));
      return [
        name,
        tensor(
          dtype as DType,
          dims,
          new Array<number>(dims.reduce((a, b) => a * b, 1)).fill(dtype === 'float32' ? 0.25 : 1),
        ),
      ];
    }),
  );
}
/** All of a plan but where its values lie, its modules by their bytes. */
const text = ({ slabs, peakBytes, ...plan }: Plan): string =>
  JSON.stringify(plan, (key, v: unknown) =>
    key === 'bytes' && v instanceof Uint8Array
      ? Buffer.from(v).toString('base64')
      : key === 'home' && (v as Home).in === 'slab'
        ? 'slab'
        : v,
  );

describe.skipIf(!existsSync(FOLDER))('new dims', () => {
  for (const model of ['stories260k-hf-op17', 'stories260k-int8dyn', 'gpt2-mini-synth', 'qwen3-mini-synth']) {
    it(`${model} makes no module for a longer past or prompt, and the plan that a new session makes`, async () => {
      await using session = await Session.load(file(model), { device: 'wasm' });
      const ways: readonly (readonly [past: number, seq: number])[][] = [
        [
          [4, 1],
          [5, 1],
          [6, 1],
          [17, 1],
        ],
        [
          [0, 9],
          [0, 10],
          [0, 23],
        ],
      ];
      for (const [first, ...others] of ways) {
        await session.run(feedsOf(session, ...first!));
        const { modules } = session.made;
        for (const lengths of others) {
          await session.run(feedsOf(session, ...lengths));
          await using fresh = await Session.load(file(model), { device: 'wasm' });
          await fresh.run(feedsOf(fresh, ...lengths));
          expect(text(session.plan!)).toBe(text(fresh.plan!));
          expect(session.plan!.peakBytes).toBeLessThanOrEqual(1.05 * fresh.plan!.peakBytes + 4096);
        }
        expect(session.made.modules).toBe(modules);
      }
    });
  }

  /** Emitters that know the sizes of images: their rows' distance is in each load's offset. */
  const SIZED = ['depthwise', 'pool', 'conv_transpose'];
  for (const [model, dims, ...others] of [
    ['ppocrv4-det', [1, 320, 320], [1, 352, 320], [1, 384, 448]],
    ['ppocrv4-rec', [1, 48, 320], [1, 48, 352], [1, 48, 337]],
    ['ppocr-cls', [2, 48, 192], [3, 48, 192]],
  ] as const) {
    it(`${model} makes modules for another size of image only where it is known to`, async () => {
      const plan = async ([n, h, w]: readonly [number, number, number]): Promise<Plan> =>
        (
          await planModel(file(model), {
            caps: BASE_WASM,
            dims: {
              'p2o.DynamicDimension.0': n,
              'p2o.DynamicDimension.1': model === 'ppocrv4-rec' ? w : h,
              'p2o.DynamicDimension.2': w,
            },
          })
        ).plan;
      const known = new Set((await plan(dims)).modules.map((m) => m.bytes));
      for (const other of others)
        expect(
          (await plan(other)).modules
            .filter((m) => !known.has(m.bytes))
            .map((m) => m.name)
            .filter((name) => !SIZED.includes(name)),
        ).toEqual([]);
    });
  }

  /** A batch of one against batches of more: what is left are tiles that fit more rows. */
  it.each([
    ['openseeface-lm0', (batch: number) => ({ batch_size: batch })],
    ['bert-mini-synth', (batch: number) => ({ batch, seq: 64 })],
  ] as const)('%s needs few other shaders for a batch of more than one', async (model, dimsOf) => {
    for (const software of [false, true]) {
      const shaders = async (batch: number): Promise<string[]> =>
        (await planModel(file(model), { caps: { ...BASE_GPU, software }, dims: dimsOf(batch) })).plan.shaders.map(
          (s) => s.code,
        );
      const known = new Set(await shaders(1));
      for (const batch of [3, 5])
        expect((await shaders(batch)).filter((code) => !known.has(code)).length).toBeLessThanOrEqual(4);
    }
  });

  it('a session makes no pipeline for another batch or length', { timeout: 120_000 }, async () => {
    await using session = await Session.load(file('bert-mini-synth'), { device: 'webgpu' });
    const run = (batch: number, seq: number): Promise<unknown> =>
      session.run(
        Object.fromEntries(
          session.inputs.map(({ name, dtype }) => [
            name,
            tensor(dtype as DType, [batch, seq], new Array<number>(batch * seq).fill(1)),
          ]),
        ),
      );
    await run(2, 24);
    const { pipelines } = session.made;
    for (const [batch, seq] of [
      [3, 24],
      [2, 40],
      [7, 16],
      [2, 128],
    ] as const) {
      await run(batch, seq);
      expect([batch, seq, session.made.pipelines]).toEqual([batch, seq, pipelines]);
    }
  });

  it('a decoder makes no pipeline behind its first prompt and its first step', { timeout: 120_000 }, async () => {
    await using session = await Session.load(file('stories260k-int8dyn'), { device: 'webgpu' });
    await session.run(feedsOf(session, 0, 9));
    await session.run(feedsOf(session, 9, 1));
    const { pipelines } = session.made;
    for (const [past, seq, batch = 1] of [
      [16, 1],
      [17, 1],
      [100, 1],
      [16, 1, 2],
      [0, 16],
      [0, 33, 2],
    ] as const) {
      await session.run(feedsOf(session, past, seq, batch));
      expect([past, seq, batch, session.made.pipelines]).toEqual([past, seq, batch, pipelines]);
    }
  });

  it('lengths of classes that were prepared make no pipeline, from one row to a hundred', {
    timeout: 120_000,
  }, async () => {
    await using session = await Session.load(file('bert-mini-synth'), {
      device: 'webgpu',
      dims: [
        [1, 1],
        [1, 7],
        [1, 16],
        [3, 1],
        [3, 64],
      ].map(([batch, seq]) => ({ batch: batch!, seq: seq! })),
    });
    const { pipelines } = session.made; // kernels have tiles for one or two rows and for more
    expect(pipelines).toBeLessThanOrEqual(60);
    for (const [batch, seq] of [
      [1, 128],
      [1, 100],
      [1, 24],
      [1, 17],
      [3, 100],
      [5, 40],
      [4, 1],
      [1, 5],
      [1, 1],
    ] as const) {
      await session.run(
        Object.fromEntries(
          session.inputs.map(({ name, dtype }) => [
            name,
            tensor(dtype as DType, [batch, seq], new Array<number>(batch * seq).fill(1)),
          ]),
        ),
      );
      expect([batch, seq, session.made.pipelines]).toEqual([batch, seq, pipelines]);
    }
  });
});
