import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findCases, loosened, readSkips, skipOf } from '../src/cli/cases.ts';
import { verifyCase } from '../src/cli/verify.ts';

const data = resolve(import.meta.dirname, '../../shared/data/onnx');
const exceptions = readSkips(resolve(import.meta.dirname, 'exceptions.json'));
type Device = 'reference' | 'wasm' | 'webgpu';

/**
 * Of each suite and device: how many cases must pass, and how many of those with every node that computes on the
 * device. The numbers are what was reached; they may only rise.
 */
const FLOOR: Readonly<Record<string, Readonly<Record<Device, readonly [passed: number, wholly: number]>>>> = {
  node: { reference: [1783, 0], wasm: [1783, 1630], webgpu: [1783, 1540] },
  'node-old': { reference: [1297, 0], wasm: [1297, 1215], webgpu: [1297, 1155] },
  simple: { reference: [23, 0], wasm: [23, 7], webgpu: [23, 7] },
  'pytorch-operator': { reference: [35, 0], wasm: [35, 30], webgpu: [35, 30] },
  'pytorch-converted': { reference: [82, 0], wasm: [82, 79], webgpu: [82, 79] },
  light: { reference: [3, 0], wasm: [9, 9], webgpu: [2, 2] },
};
/** Full-size nets that take minutes where there is neither SIMD nor a GPU; `verify` runs all nine on every device. */
const LIGHT: Readonly<Record<Device, RegExp>> = {
  reference: /squeezenet|shufflenet|zfnet/,
  wasm: /./,
  webgpu: /squeezenet|shufflenet/,
};

describe.skipIf(!existsSync(data)).each(Object.keys(FLOOR))('ONNX %s', (suite) => {
  it.each(['reference', 'wasm', 'webgpu'] as const)('passes on %s', { timeout: 900_000 }, async (device) => {
    const wrong: string[] = [];
    let passed = 0;
    let wholly = 0;
    for (const one of findCases(resolve(data, suite)).filter((c) => suite !== 'light' || LIGHT[device].test(c.name))) {
      if (skipOf(one, device, exceptions)) continue;
      const result = await verifyCase(loosened(one, device, exceptions), { device });
      if (result.status !== 'passed') wrong.push(`${one.name}: ${result.message}`);
      else {
        passed++;
        if (result.nodes.every((n) => n.device === device || n.why === 'shape')) wholly++;
      }
    }
    console.log(`ONNX ${suite} on ${device}: ${passed} passed, ${wholly} of them wholly on the device`);
    expect(wrong).toEqual([]);
    expect(passed).toBeGreaterThanOrEqual(FLOOR[suite]![device][0]);
    if (device !== 'reference') expect(wholly).toBeGreaterThanOrEqual(FLOOR[suite]![device][1]);
  });
});
