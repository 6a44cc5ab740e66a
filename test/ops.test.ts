import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { dtypesOf, type Example } from '../kernels/examples.ts';
import { ops } from '../kernels/index.ts';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { runCommand } from '../src/cli/command.ts';
import { markdown, opsCommand } from '../src/cli/command-ops.ts';
import { compareValues, mismatchText, type Tolerance } from '../src/cli/compare.ts';
import { encodeExample, type ExampleModel, exampleModel, examples, isInternal } from '../src/cli/example-model.ts';
import { placeOf, type Row, supportRows } from '../src/cli/support.ts';
import type { DType } from '../src/core/dtype.ts';
import { isTensor } from '../src/core/tensor.ts';
import { Session, type Value } from '../src/index.ts';

const names = [...ops.keys()].filter((op) => !isInternal(op));
const examplesOf = (op: string): readonly Example[] => examples.filter((e) => e.op === op);

let rows: ReadonlyMap<string, Row>;
beforeAll(async () => {
  rows = new Map((await supportRows()).map((r) => [r.op, r]));
}, 120_000);

describe('the support table', () => {
  it('has an example of every operator, and of no other', () => {
    expect(names.filter((op) => examplesOf(op).length === 0)).toEqual([]);
    expect(examples.filter((e) => !names.includes(e.op)).map((e) => e.op)).toEqual([]);
  });
  it('has a type for every operator', () =>
    expect([...rows.values()].filter((r) => r.reference.length === 0).map((r) => r.op)).toEqual([]));
  it('is OPERATORS.md', () => {
    const written = readFileSync(resolve(import.meta.dirname, '../OPERATORS.md'), 'utf8').split('\n');
    const now = `${markdown([...rows.values()])}\n`.split('\n');
    expect(
      now.filter((line) => !written.includes(line)),
      'write it anew: npm run ops',
    ).toEqual([]);
    expect(now).toEqual(written);
  });
});

describe('sardonyx ops', () => {
  const printed = async (...args: string[]): Promise<string> => {
    const out: string[] = [];
    const spy = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      out.push(String(text));
      return true;
    });
    try {
      expect(await runCommand(opsCommand, args)).toBe(0);
    } finally {
      spy.mockRestore();
    }
    return out.join('');
  };
  it('finds operators by name, in any domain', async () =>
    expect(
      (await printed('--op', 'gelu', '--device', 'reference'))
        .split('\n')
        .slice(1)
        .map((line) => line.trim().split(' ')[0]),
    ).toEqual(['Gelu', 'com.microsoft.Gelu', '']));
  it('prints JSON', async () =>
    expect(JSON.parse(await printed('--op', 'TransposeMat*', '--json'))).toMatchObject([
      { op: 'com.microsoft.TransposeMatMul', since: [1], webgpu: { dtypes: expect.arrayContaining(['float32']) } },
    ]));
  it.each([['--op', 'Nope'], ['--device', 'gpu'], ['model.onnx'], ['--nope']])(
    'refuses %s %s',
    async (...args) =>
      await expect(
        runCommand(
          opsCommand,
          args.filter((a) => a !== undefined),
        ),
      ).rejects.toThrow('option_invalid'),
  );
});

const run = async (
  m: ExampleModel,
  device: 'reference' | 'wasm' | 'webgpu',
): Promise<{ session: Session; results: Record<string, Value> }> => {
  await using session = await Session.load(encodeExample(m), { device, optimize: device !== 'reference' });
  return { session, results: await session.run(m.feeds) };
};
/** By the narrowest type in a call. Numbers that are rounded to integers may fall to the other side. */
const tolerance = (dtype: DType, op: string): Tolerance => {
  const integers = /Quant|QLinear|QGemm/.test(op) ? 1 : 0;
  if (dtype === 'float16' || op === 'Cast') return { rtol: 4e-3, atol: 4e-3, scaled: true, integers };
  return dtype === 'bfloat16'
    ? { rtol: 3e-2, atol: 3e-2, scaled: true, integers }
    : { rtol: 1e-4, atol: 1e-5, scaled: true, integers };
};
const shapeText = (v: Value): string => (isTensor(v) ? `${v.dtype}[${v.shape}]` : v.kind);
const wanted = new Map<string, Promise<Record<string, Value>>>();
const reference = (e: Example, dtype: DType): Promise<Record<string, Value>> => {
  const key = `${examples.indexOf(e)} ${dtype}`;
  if (!wanted.has(key))
    wanted.set(
      key,
      run(exampleModel(e, ops.get(e.op)!, dtype), 'reference').then((r) => r.results),
    );
  return wanted.get(key)!;
};

describe('each operator, by its reference', () => {
  it.each(names)('%s makes what was inferred, for every type', async (name) => {
    const op = ops.get(name)!;
    for (const e of examplesOf(name))
      for (const dtype of dtypesOf(e, op).filter((d) => rows.get(name)!.reference.includes(d))) {
        const { session, results } = await run(exampleModel(e, op, dtype), 'reference');
        const planned = session.plans.flatMap((p) => p.outputs.map((v) => p.values[v]!));
        for (const [port, value] of Object.entries(results)) {
          const as = planned.find((v) => v.name === port);
          if (as !== undefined && isTensor(value))
            expect(shapeText(value), `${port} for ${dtype}`).toBe(`${as.dtype}[${as.shape}]`);
        }
      }
  });
});

describe.each(['wasm', 'webgpu'] as const)('each operator, on %s', (device) => {
  let missing = false;
  beforeAll(async () => {
    if (device === 'webgpu')
      await requestGpuDevice({ allowSoftware: true }).catch(() => {
        missing = true;
      });
  });
  const accelerated = names.filter((name) => ops.get(name)!.dynamic !== true);
  it.for(accelerated)('%s gives what its reference gives, where the table says', async (name, { skip }) => {
    if (missing) skip('there is no WebGPU adapter');
    const op = ops.get(name)!;
    const { dtypes, some } = rows.get(name)![device];
    const tried =
      device === 'wasm'
        ? [...dtypes, ...some]
        : [...new Set([...dtypes, ...some].filter((_, i, all) => i === 0 || i === all.length - 1))];
    for (const e of examplesOf(name))
      for (const dtype of tried) {
        if (!dtypesOf(e, op).includes(dtype)) continue;
        const place = await placeOf(e, op, dtype, device);
        const { session, results } = await run(exampleModel(e, op, dtype), device);
        const kinds = session.plans.flatMap((p) =>
          p.steps.filter((s) => place === 'host' || s.run !== 'host' || s.why !== 'shape').map((s) => s.run),
        );
        expect(kinds.includes('host'), `${dtype}: ${kinds}`).toBe(place === 'host');
        if (place === 'kernel') expect(kinds).toContain(device === 'wasm' ? 'wasm' : 'gpu');
        for (const [port, value] of Object.entries(await reference(e, dtype))) {
          if (e.loose) {
            expect(shapeText(results[port]!)).toBe(shapeText(value));
            continue;
          }
          const { mismatch } = compareValues(results[port]!, value, tolerance(dtype, name), port);
          if (mismatch !== null) expect.fail(`${dtype}, inputs ${JSON.stringify(e.inputs)}: ${mismatchText(mismatch)}`);
        }
      }
  });
});
