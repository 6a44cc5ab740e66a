import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { rangesCommand } from '../src/cli/command-ranges.ts';
import { runCommand } from '../src/cli/command.ts';
import { encodeModel, type NodeText } from '../src/cli/encode-model.ts';
import { type Ranges, rangesOf } from '../src/cli/ranges.ts';
import { tensor } from '../src/core/tensor.ts';

const folder = mkdtempSync(join(tmpdir(), 'sardonyx-ranges-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const node = (op: string, name: string, inputs: string[], output: string): NodeText => ({
  op,
  name,
  inputs,
  outputs: [output],
  attrs: [],
});
/** A variance that float16 cannot hold, a mask of -Infinity that is meant, and an infinity that a division hides. */
const nodes = [
  node('Sub', 'centre', ['x', 'mean'], 'd'),
  node('Mul', 'square', ['d', 'd'], 'v'),
  node('Add', 'mask', ['x', 'masked'], 'm'),
  node('Softmax', 'weights', ['m'], 'p'),
  node('Exp', 'grow', ['v'], 'e'),
  node('Reciprocal', 'hide', ['e'], 'r'),
  node('Add', 'join', ['p', 'r'], 'y'),
];
const file = join(folder, 'model.onnx');
writeFileSync(
  file,
  encodeModel(
    {
      inputs: [{ name: 'x', dtype: 'float32', shape: [4] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: [4] }],
      nodes,
      weights: [
        { name: 'mean', tensor: tensor('float32', [], [-700]) },
        { name: 'masked', tensor: tensor('float32', [4], [0, 0, -Infinity, 0]) },
      ],
    },
    { '': 17 },
  ),
);
const find = (device: 'wasm' | 'webgpu' | 'reference'): Promise<Ranges> =>
  rangesOf({ source: file, device, feeds: async () => ({ x: tensor('float32', [4], [1, -2, 3, 100]) }) });

describe('ranges', () => {
  it.each(['reference', 'wasm', 'webgpu'] as const)(
    'names the node whose infinity is hidden from the outputs, on %s',
    async (device) => {
      const { all, broken } = await find(device);
      expect(all.map((r) => r.value).sort()).toEqual(['d', 'e', 'm', 'p', 'r', 'v', 'y']);
      expect(all.find((r) => r.value === 'v')).toMatchObject({
        node: 'square',
        op: 'Mul',
        min: 698 ** 2,
        max: 800 ** 2,
        nan: 0,
        infinite: 0,
      });
      expect(all.find((r) => r.value === 'y')).toMatchObject({ nan: 0, infinite: 0 });
      expect(broken).toEqual([expect.objectContaining({ node: 'grow', infinite: 4 })]);
    },
  );
  it('is a command that says so', async () => {
    const lines: string[] = [];
    const out = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      lines.push(String(text));
      return true;
    });
    const code = await runCommand(rangesCommand, [file, '--device', 'reference', '--input', 'x=1,-2,3,100']).finally(
      () => out.mockRestore(),
    );
    expect(code).toBe(1);
    expect(lines.join('')).toMatch(/grow \(Exp\) makes 4 infinite of finite inputs: e/);
    expect(lines.join('')).toMatch(/v +Mul +square +float32 +487200 +640000 +beyond float16/);
  });
});
