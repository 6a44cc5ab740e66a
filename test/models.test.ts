import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findCases, loosened, readSkips } from '../src/cli/cases.ts';
import { verifyCase } from '../src/cli/verify.ts';

const data = resolve(import.meta.dirname, '../../shared/data/models');
const exceptions = readSkips(resolve(import.meta.dirname, 'exceptions.json'));
const present = existsSync(data);
/**
 * Models that take SwiftShader longer than a test run should: they run on the other devices, and by `verify` on this
 * one.
 */
const large: ReadonlySet<string> = new Set(
  JSON.parse(readFileSync(resolve(import.meta.dirname, 'large-models.json'), 'utf8')) as string[],
);

describe.skipIf(!present).each(['reference', 'wasm', 'webgpu'] as const)('recorded models on %s', (device) => {
  for (const one of present ? findCases(data) : []) {
    it.skipIf(device === 'webgpu' && large.has(one.name))(one.name, { timeout: 300_000 }, async () => {
      const result = await verifyCase(loosened(one, device, exceptions), { device });
      expect(result.message ?? 'passed').toBe('passed');
      if (device !== 'reference')
        expect(
          result.nodes.some((n) => n.device === device),
          `no node ran on ${device}`,
        ).toBe(true);
    });
  }
});
