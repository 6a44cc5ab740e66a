import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import type { WasmKernel } from '../kernels/define.ts';
import { common as wasmKernels } from '../kernels/wasm/index.ts';
import { findCases } from '../src/cli/cases.ts';
import { compareCommand } from '../src/cli/command-compare.ts';
import { runCommand } from '../src/cli/command.ts';
import { MODEL_TOLERANCE } from '../src/cli/compare.ts';
import { encodeModel, type NodeText } from '../src/cli/encode-model.ts';
import { type Difference, firstDifference } from '../src/cli/first-difference.ts';
import { verifyCase } from '../src/cli/verify.ts';
import { awkward } from '../src/tune/problem.ts';

const folder = mkdtempSync(join(tmpdir(), 'sardonyx-compare-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const table = wasmKernels as Record<string, readonly WasmKernel[]>;
const kept = new Map<string, readonly WasmKernel[]>();
/** Puts other kernels in place of an operator's, until the test ends. */
function inject(op: string, kernels: (own: readonly WasmKernel[]) => readonly WasmKernel[]): void {
  kept.set(op, table[op]!);
  table[op] = kernels(table[op]!);
}
afterEach(() => {
  for (const [op, kernels] of kept) table[op] = kernels;
  kept.clear();
});

const node = (op: string, name: string, inputs: string[], output: string, attrs: NodeText['attrs'] = []): NodeText => ({
  op,
  name,
  inputs,
  outputs: [output],
  attrs,
});
const axis = { name: 'axis', kind: 'int', value: -1 } as const;
/** Forty products and softmaxes, then a log-softmax and two more; a branch from the middle joins at the end. */
const chain: NodeText[] = [];
for (let i = 0, at = 'x'; i < 40; i++) {
  chain.push(
    node('MatMul', `mm${i}`, [at, 'w'], `p${i}`),
    node('Softmax', `sm${i}`, [`p${i}`], (at = `s${i}`), [axis]),
  );
  if (i === 39)
    chain.push(
      node('LogSoftmax', 'log', [at], 'l', [axis]),
      node('MatMul', 'after', ['l', 'w'], 'm'),
      node('Add', 'join', ['m', 's17'], 'y'),
    );
}
const shape = [5, 12];
const file = join(folder, 'chain.onnx');
writeFileSync(
  file,
  encodeModel(
    {
      inputs: [{ name: 'x', dtype: 'float32', shape }],
      outputs: [{ name: 'y', dtype: 'float32', shape }],
      weights: [{ name: 'w', tensor: awkward('float32', [12, 12], 1) }],
      nodes: chain,
    },
    { '': 17 },
  ),
);
const find = (source = file): Promise<Difference> =>
  firstDifference({
    source,
    devices: ['wasm', 'reference'],
    tolerance: MODEL_TOLERANCE,
    options: { threads: 1 },
    feeds: async () => ({ x: awkward('float32', shape, 2) }),
  });

describe('the first difference', () => {
  it('is none where the devices agree', async () => {
    expect(await find()).toMatchObject({ first: null, nodes: [], runs: 2 });
  });
  it('is the node with the wrong kernel, found in few runs', async () => {
    inject('LogSoftmax', () => table['Softmax']!);
    const found = await find();
    expect(found.first).toMatchObject({ node: 'log', op: 'LogSoftmax', value: 'l' });
    expect(found.nodes.map((n) => n.name)).toEqual(['log']);
    expect(found.merged).toBe(false);
    expect(found.runs).toBeLessThanOrEqual(10);
    expect(found.compared.length).toBeLessThan(50);
  });
  it('is the earliest of many', async () => {
    inject('Softmax', () => table['LogSoftmax']!);
    expect((await find()).first).toMatchObject({ node: 'sm0' });
  });
  it('is found on a branch that the output reads beside the line', async () => {
    // Only shapes [7, 12] go wrong, and only the branch has them.
    const wide = join(folder, 'branch.onnx');
    const nodes = [
      node('MatMul', 'a0', ['x', 'w'], 'a'),
      node('Softmax', 'b0', ['v'], 'b', [axis]),
      node('Softmax', 'a1', ['a'], 'c', [axis]),
      node('MatMul', 'b1', ['u', 'b'], 'd'),
      node('MatMul', 'a2', ['c', 'w'], 'e'),
      node('Add', 'end', ['e', 'd'], 'y'),
    ];
    writeFileSync(
      wide,
      encodeModel(
        {
          inputs: [
            { name: 'x', dtype: 'float32', shape },
            { name: 'v', dtype: 'float32', shape: [7, 12] },
            { name: 'u', dtype: 'float32', shape: [5, 7] },
          ],
          outputs: [{ name: 'y', dtype: 'float32', shape }],
          weights: [{ name: 'w', tensor: awkward('float32', [12, 12], 1) }],
          nodes,
        },
        { '': 17 },
      ),
    );
    const wrong = table['LogSoftmax']!;
    inject('Softmax', (own) =>
      own.map(
        (k, i): WasmKernel => ({
          ...k,
          launch: (call, caps) => (call.inputs[0]!.shape[0] === 7 ? wrong[i]! : k).launch(call, caps),
        }),
      ),
    );
    const found = await firstDifference({
      source: wide,
      devices: ['wasm', 'reference'],
      tolerance: MODEL_TOLERANCE,
      options: { threads: 1 },
      feeds: async () => ({
        x: awkward('float32', shape, 2),
        v: awkward('float32', [7, 12], 3),
        u: awkward('float32', [5, 7], 4),
      }),
    });
    expect(found.first).toMatchObject({ node: 'b0' });
  });
  it('is two nodes where they differ only merged', async () => {
    const fused = join(folder, 'fused.onnx');
    writeFileSync(
      fused,
      encodeModel(
        {
          inputs: [{ name: 'x', dtype: 'float32', shape }],
          outputs: [{ name: 'y', dtype: 'float32', shape }],
          weights: [{ name: 'w', tensor: awkward('float32', [12, 12], 1) }],
          nodes: [
            node('MatMul', 'mm', ['x', 'w'], 'p'),
            node('Relu', 'relu', ['p'], 'q'),
            node('Softmax', 'sm', ['q'], 'y', [axis]),
          ],
        },
        { '': 17 },
      ),
    );
    inject('MatMul', (own) =>
      own.map((k): WasmKernel => ({ ...k, launch: ({ epilogue: _, ...call }, caps) => k.launch(call, caps) })),
    ); // forgets the Relu
    const found = await find(fused);
    expect(found.first).toMatchObject({ node: 'relu' });
    expect(found).toMatchObject({ merged: true });
    expect(found.nodes.map((n) => n.name)).toEqual(['mm', 'relu']);
  });
});

describe('sardonyx compare', () => {
  const run = async (...args: string[]): Promise<{ code: number; out: string }> => {
    let out = '';
    const spy = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      out += String(text);
      return true;
    });
    try {
      return {
        code: await runCommand(compareCommand, [file, '--devices', 'wasm,reference', '--tuning', 'off', ...args]),
        out,
      };
    } finally {
      spy.mockRestore();
    }
  };
  it('says that devices agree', async () => {
    const { code, out } = await run();
    expect(code).toBe(0);
    expect(out).toContain('wasm agrees with reference');
  });
  it('writes the node as a case that fails until the kernel is right', async () => {
    inject('LogSoftmax', () => table['Softmax']!);
    const repro = join(folder, 'repro');
    const { code, out } = await run('--repro', repro, '--json');
    expect(code).toBe(1);
    expect(JSON.parse(out)).toMatchObject({
      first: { node: 'log', op: 'LogSoftmax', agrees: false },
      nodes: [{ node: 'log', op: 'LogSoftmax' }],
      merged: false,
    });
    const [one] = findCases(repro);
    expect(await verifyCase(one!, { device: 'wasm' })).toMatchObject({ status: 'failed' });
    expect(await verifyCase(one!, { device: 'reference' })).toMatchObject({ status: 'passed' });
    table['LogSoftmax'] = kept.get('LogSoftmax')!;
    expect(await verifyCase(one!, { device: 'wasm' })).toMatchObject({ status: 'passed' });
  });
  it('refuses one device', async () => {
    await expect(run('--devices', 'wasm')).rejects.toThrow(/option_invalid/);
  });
});
