import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import onnxProto from 'onnx-proto';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { findCases, readSkips, skipOf } from '../src/cli/cases.ts';
import { percentile } from '../src/cli/command-bench.ts';
import { runCommand } from '../src/cli/command.ts';
import { feedsFor } from '../src/cli/command-run.ts';
import { verifyCommand } from '../src/cli/command-verify.ts';
import { CASE_TOLERANCE, compareValues, MODEL_TOLERANCE, mismatchText } from '../src/cli/compare.ts';
import { randomInput, readInput, seeded } from '../src/cli/inputs.ts';
import { encodeNpy, parseNpy } from '../src/cli/npy.ts';
import { verifyCase } from '../src/cli/verify.ts';
import { tensor, type Tensor, type Value } from '../src/core/tensor.ts';
import { Session } from '../src/index.ts';
import { built } from './browser/chromium.ts';
import { encode, node, port } from './onnx-model.ts';

const { onnx } = onnxProto;
const floats = (...values: number[]): Tensor => tensor('float32', [values.length], values);
const wrong = (got: Value, want: Value, tolerance = CASE_TOLERANCE): string | null => {
  const { mismatch } = compareValues(got, want, tolerance, 'y');
  return mismatch && mismatchText(mismatch);
};

describe('comparing', () => {
  it('takes floats within the tolerance, and names the first one outside', () => {
    expect(wrong(floats(1, 2.001), floats(1, 2))).toBeNull();
    expect(wrong(tensor('float32', [2, 2], [1, 2, 3.5, 5]), tensor('float32', [2, 2], [1, 2, 3, 4]))).toBe(
      'y[1,0]: got 3.5, want 3 (2 of 4 elements wrong)',
    );
    expect(wrong(floats(1e-8), floats(0))).toBeNull();
    expect(wrong(floats(1e-6), floats(0))).not.toBeNull();
  });
  it('knows NaN and infinities', () => {
    expect(wrong(floats(Number.NaN, Infinity), floats(Number.NaN, Infinity))).toBeNull();
    for (const [got, want] of [
      [Number.NaN, 1],
      [1, Number.NaN],
      [1, Infinity],
      [Infinity, 1],
      [-Infinity, Infinity],
    ] as const)
      expect(wrong(floats(got), floats(want)), `${got} for ${want}`).not.toBeNull();
  });
  it('measures models in their largest magnitude', () => {
    expect(wrong(floats(1000, 0.05), floats(1000, 0), MODEL_TOLERANCE)).toBeNull();
    expect(wrong(floats(1000, 0.2), floats(1000, 0), MODEL_TOLERANCE)).not.toBeNull();
    expect(wrong(floats(Infinity, 0.2), floats(Infinity, 0), MODEL_TOLERANCE)).not.toBeNull();
  });
  it('takes integers, bools and strings exactly', () => {
    const big = (x: bigint): Value => tensor('int64', [1], [x]);
    expect(wrong(big(2n ** 53n + 1n), big(2n ** 53n))).toBe('y[0]: got 9007199254740993, want 9007199254740992');
    expect(wrong(tensor('uint8', [1], [5]), tensor('uint8', [1], [6]))).not.toBeNull();
    expect(wrong(tensor('uint8', [1], [5]), tensor('uint8', [1], [6]), { ...CASE_TOLERANCE, integers: 1 })).toBeNull();
    expect(wrong(tensor('string', [1], ['a']), tensor('string', [1], ['b']))).toBe('y[0]: got "a", want "b"');
    expect(compareValues(floats(1.5, 0), floats(1, 0), CASE_TOLERANCE, 'y')).toMatchObject({
      maxAbs: 0.5,
      maxRel: 0.5,
    });
  });
  it('wants the same kind, dtype and shape', () => {
    expect(wrong(floats(1), tensor('float64', [1], [1]))).toBe('y: got float32[1], want float64[1]');
    expect(wrong(floats(1), tensor('float32', [1, 1], [1]))).not.toBeNull();
    expect(
      wrong({ kind: 'sequence', items: [floats(1), floats(3)] }, { kind: 'sequence', items: [floats(1), floats(2)] }),
    ).toMatch(/^y\{1\}\[0\]/);
    expect(wrong({ kind: 'sequence', items: [] }, { kind: 'sequence', items: [floats(2)] })).toBe(
      'y: got 0 items, want 1 items',
    );
    expect(wrong({ kind: 'optional', value: null }, { kind: 'optional', value: floats(1) })).toBe(
      'y: got none, want float32[1]',
    );
    expect(wrong(floats(1), { kind: 'optional', value: floats(1) })).toBe('y: got float32[1], want optional');
  });
});

describe('inputs', () => {
  it('say which free dims were guessed, once', async () => {
    const model = encode({
      input: [port('x', ['batch', 3, null])],
      output: [port('y', ['batch', 3, null])],
      node: [node('Neg', ['x'], ['y'])],
    });
    await using session = await Session.load(model, { device: 'reference' });
    const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    try {
      for (let i = 0; i < 2; i++)
        expect((await feedsFor(session, 'm', new Map(), { batch: 2 }, seeded(1), 1))['x']).toMatchObject({
          shape: [2, 3, 1],
        });
      await feedsFor(session, 'm', new Map(), { batch: 2, 'x.2': 4 }, seeded(1), 1);
      expect(said.mock.calls.map(([line]) => line)).toEqual([
        'free dims taken as 1: x.2; --dims NAME=N gives others\n',
      ]);
    } finally {
      said.mockRestore();
    }
  });
  it('survive a .npy file', () => {
    for (const t of [
      tensor('float32', [2, 3], [1, 2, 3, 4, 5, 6]),
      tensor('int64', [], [7]),
      tensor('bool', [2], [true, false]),
      tensor('float16', [0, 2], []),
    ])
      expect(parseNpy(encodeNpy(t))).toEqual(t);
    expect(encodeNpy(floats(1)).length % 64).toBe(4);
    expect(() => parseNpy(encodeNpy(floats(1, 2)).subarray(0, 130))).toThrow(/needs 8 bytes but has 2/);
  });
  it('are made of numbers', async () => {
    const port = { name: 'x', dtype: 'int64', shape: ['n', 2] } as const;
    expect(await readInput(port, '3', null, { n: 2 })).toEqual(tensor('int64', [2, 2], [3, 3, 3, 3]));
    expect(await readInput(port, '1,2', null, { n: 1 })).toEqual(tensor('int64', [1, 2], [1, 2]));
    await expect(readInput(port, '1,2,3', null, { n: 1 })).rejects.toThrow(/2 elements, not 3/);
    await expect(readInput(port, 'x', null, { n: 1 })).rejects.toThrow(/neither/);
  });
  it('are the same noise for the same seed', () => {
    const port = { name: 'x', dtype: 'float32', shape: [4] } as const;
    expect(randomInput(port, 'float32', [4], seeded(3))).toEqual(randomInput(port, 'float32', [4], seeded(3)));
    expect(randomInput(port, 'float32', [4], seeded(3))).not.toEqual(randomInput(port, 'float32', [4], seeded(4)));
  });
  it('have percentiles', () =>
    expect([percentile([5, 1, 3], 0.5), percentile([5, 1, 3], 0.1), percentile([4], 0.9)]).toEqual([3, 1, 4]));
});

describe('verify', () => {
  let root = '';
  const write = (path: string, bytes: Uint8Array | string): void => {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), bytes);
  };
  const softmax = (): Uint8Array => {
    const value = (name: string): unknown => ({
      name,
      type: { tensorType: { elemType: 1, shape: { dim: [{ dimValue: 1 }, { dimValue: 2 }] } } },
    });
    return onnx.ModelProto.encode(
      onnx.ModelProto.fromObject({
        irVersion: 8,
        opsetImport: [{ version: 17 }],
        graph: {
          name: 'g',
          node: [{ opType: 'Softmax', input: ['x'], output: ['y'] }],
          input: [value('x')],
          output: [value('y')],
        },
      }),
    ).finish();
  };
  const pb = (...floatData: number[]): Uint8Array =>
    onnx.TensorProto.encode(
      onnx.TensorProto.fromObject({ dataType: 1, dims: [1, floatData.length], floatData }),
    ).finish();

  beforeAll(() => {
    root = mkdtempSync(join(tmpdir(), 'sardonyx-cli-'));
    for (const [name, output] of [
      ['a/right', pb(0.5, 0.5)],
      ['a/off', pb(0.5, 0.6)],
    ] as const) {
      write(`${name}/model.onnx`, softmax());
      write(`${name}/test_data_set_0/input_0.pb`, pb(3, 3));
      write(`${name}/test_data_set_0/output_0.pb`, output);
    }
    write('light/one.onnx', softmax());
    write('light/one_output_0.pb', pb(0.37754068, 0.62245935));
    write('models/m/model.onnx', softmax());
    write('models/models.json', '{}');
    write('skips.json', JSON.stringify([{ case: 'a/off', device: 'reference', reason: 'wrong on purpose' }]));
  });
  afterAll(() => rmSync(root, { recursive: true, force: true }));

  it('finds cases of both layouts', () => {
    const cases = findCases(root);
    expect(cases.map((c) => [c.name, c.sets.length, c.tolerance])).toEqual([
      ['a/off', 1, CASE_TOLERANCE],
      ['a/right', 1, CASE_TOLERANCE],
      ['light/one', 1, CASE_TOLERANCE],
      ['models/m', 0, MODEL_TOLERANCE],
    ]);
    expect(findCases(join(root, 'a/right')).map((c) => c.name)).toEqual(['right']);
    expect(findCases(join(root, 'light/one.onnx')).map((c) => c.name)).toEqual(['one']);
    expect(() => findCases(join(root, 'none'))).toThrow(/there is no/);
  });

  it('skips by the end of a path, on one device or all', () => {
    const [off] = findCases(join(root, 'a/off'));
    const skips = readSkips(join(root, 'skips.json'));
    expect(skipOf(off!, 'reference', skips)?.reason).toBe('wrong on purpose');
    expect(skipOf(off!, 'wasm', skips)).toBeNull();
    for (const [pattern, hit] of [
      ['off', true],
      ['a/o*', true],
      ['ff', false],
      ['*ff', true],
      ['a.off', false],
    ] as const)
      expect(skipOf(off!, 'wasm', [{ case: pattern, reason: 'r' }]) !== null, pattern).toBe(hit);
  });

  it('passes what is right and tells what is wrong', async () => {
    const results = await Promise.all(findCases(root).map((one) => verifyCase(one, { device: 'reference' })));
    expect(results.map((r) => [r.name, r.status, r.message])).toEqual([
      ['a/off', 'failed', 'y[0,1]: got 0.5, want 0.60000002 (1 of 2 elements wrong)'],
      ['a/right', 'passed', undefined],
      ['light/one', 'passed', undefined],
      ['models/m', 'failed', 'the case has no test_data_set_N'],
    ]);
    expect(results[1]!.nodes.map((n) => n.op)).toEqual(['Softmax']);
  });

  it('exits with 0, 1 or refuses', async () => {
    const run = (...args: string[]): Promise<number> =>
      runCommand(verifyCommand, [...args, '--device', 'reference', '--json']);
    expect(await run(join(root, 'a/right'))).toBe(0);
    expect(await run(join(root, 'a'))).toBe(1);
    expect(await run(join(root, 'a'), '--skip-file', join(root, 'skips.json'))).toBe(0);
    expect(await run(join(root, 'a/off'), '--atol', '0.2')).toBe(0);
    await expect(run(root, '--filter', 'no such case')).rejects.toThrow(/option_invalid: no case/);
    await expect(run(root, '--bogus')).rejects.toThrow(/option_invalid: Unknown option '--bogus'/);
    await expect(run()).rejects.toThrow(/at least one folder/);
  });
});

describe('the command', () => {
  const cli = resolve(import.meta.dirname, '../dist/cli.js');
  const COMMANDS = ['run', 'inspect', 'compile', 'verify', 'compare', 'ranges', 'bench', 'profile', 'tune', 'ops'];
  const sardonyx = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8' });
  let folder: string;
  let model: string;
  beforeAll(() => {
    built(cli);
    folder = mkdtempSync(join(tmpdir(), 'sardonyx-command-'));
    model = join(folder, 'model.onnx');
    writeFileSync(
      model,
      encode({
        input: [port('x', ['batch', 4])],
        output: [port('y', ['batch', 4])],
        node: [node('Relu', ['x'], ['y'])],
      }),
    );
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each([[], ...COMMANDS.map((name) => [name])])('has help for %s that fits 80 columns', (...name) => {
    const { status, stdout } = sardonyx(...name, '--help');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^sardonyx /);
    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
    for (const other of name.length === 0 ? COMMANDS : ['--json', 'Exit status']) expect(stdout).toContain(other);
  });
  it('tells its version', () =>
    expect(sardonyx('--version').stdout.trim()).toBe(
      (JSON.parse(readFileSync(resolve(cli, '../../package.json'), 'utf8')) as { version: string }).version,
    ));
  it.each([
    [['nope'], /no command "nope"[\s\S]*inspect/],
    [['run'], /takes one model, not 0/],
    [['run', 'nope.onnx'], /source_failed: cannot read nope\.onnx/],
    [['run', 'MODEL', '--device', 'gpu'], /--device gpu: know auto/],
    [['run', 'MODEL', '--device', 'wasm'], /input_missing/],
    [['run', 'MODEL', '--device', 'wasm', '--input', 'x=nope.npy'], /cannot read input x/],
    [['compile', 'MODEL', '--device', 'wasm'], /dim 0 of input x is free; give --dims batch=N/],
    [['inspect', 'MODEL', '--memory', '1GB'], /--memory 1GB is not a number/],
  ] as const)('answers %j with what to do, and 2', (args, message) => {
    const { status, stdout, stderr } = sardonyx(...args.map((a) => (a === 'MODEL' ? model : a)));
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/^\s+at /m);
  });
  it('prints one JSON value, and nothing beside it', () => {
    for (const args of [
      ['run', model, '--device', 'wasm', '--random', '--dims', 'batch=2'],
      ['inspect', model, '--plan', '--trace'],
      ['inspect', model, '--dims', 'batch=2', '--plan'],
      ['ops', '--op', 'Relu'],
      ['ranges', model, '--device', 'wasm'],
      ['compare', model, '--devices', 'wasm,reference'],
      ['bench', model, '--device', 'wasm', '--runs', '1'],
      ['compile', model, '--device', 'wasm', '--dims', 'batch=1', '--out', join(folder, 'm.plan')],
    ]) {
      const { status, stdout } = sardonyx(...args, '--json');
      expect([args[0], status, typeof JSON.parse(stdout)]).toEqual([args[0], 0, 'object']);
    }
  }, 30_000);
});
