import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { profileCommand } from '../src/cli/command-profile.ts';
import { runCommand } from '../src/cli/command.ts';
import { encodeModel } from '../src/cli/encode-model.ts';
import { tensor } from '../src/core/tensor.ts';
import { Session } from '../src/index.ts';
import { type Profile, profile, profileHtml } from '../src/tune/index.ts';
import { awkward } from '../src/tune/problem.ts';

const folder = mkdtempSync(join(tmpdir(), 'sardonyx-profile-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A product, a softmax, something that only the host does, and a value whose shape depends on data. */
const model = encodeModel(
  {
    inputs: [{ name: 'x', dtype: 'float32', shape: [33, 40] }],
    outputs: [
      { name: 'z', dtype: 'float32', shape: [33, 24] },
      { name: 'where', dtype: 'int64' },
    ],
    weights: [{ name: 'w', tensor: awkward('float32', [40, 24], 1) }],
    nodes: [
      { op: 'MatMul', name: '<mm & co>', inputs: ['x', 'w'], outputs: ['y'], attrs: [] },
      { op: 'Softmax', name: 'sm', inputs: ['y'], outputs: ['z'], attrs: [] },
      { op: 'NonZero', name: 'nz', inputs: ['z'], outputs: ['at'], attrs: [] },
      { op: 'Neg', name: 'neg', inputs: ['at'], outputs: ['where'], attrs: [] },
    ],
  },
  { '': 17 },
);
const x = awkward('float32', [33, 40], 2);
const made = new Map<string, Promise<Profile>>();
const of = (device: 'webgpu' | 'wasm' | 'reference'): Promise<Profile> => {
  let p = made.get(device);
  if (p === undefined) made.set(device, (p = profile(model, { x }, { device, runs: 2, threads: 1 })));
  return p;
};

describe.each(['webgpu', 'wasm', 'reference'] as const)('a profile on %s', (device) => {
  it('has every node that a session would plan, in order, with times', async () => {
    const p = await of(device);
    await using session = await Session.load(model, { device, threads: 1, tuning: false });
    await session.run({ x });
    const planned = session.plans.flatMap((plan) => plan.steps.flatMap((s) => ('node' in s ? [s.node] : [])));
    expect(new Set(p.nodes.map((n) => n.node).filter((n) => planned.includes(n)))).toEqual(new Set(planned));
    expect(p.device).toBe(device);
    expect(p.nodes.every((n) => n.ms >= 0)).toBe(true);
    expect(p.nodesMs).toBeCloseTo(
      p.nodes.reduce((n, { ms }) => n + ms, 0),
      9,
    );
    expect(p.nodesMs).toBeGreaterThan(0);
    expect(p.gapMs).toBeCloseTo(p.runMs - p.nodesMs, 9);
    expect(p.clock === 'host').toBe(device !== 'webgpu');
  });
  it('knows the work of what runs on the device', async () => {
    const p = await of(device);
    const product = p.nodes.find((n) => n.node === '<mm & co>')!;
    if (device === 'reference')
      expect([product.kernels, product.flops, product.roofline]).toEqual([['host'], null, null]);
    else {
      expect(product.flops).toBe(2 * 33 * 40 * 24);
      expect(product.bytes).toBe(4 * (33 * 40 + 40 * 24 + 33 * 24));
      expect(product.floorMs).toBeCloseTo(
        Math.max(product.flops! / p.peaks.gflops, product.bytes! / p.peaks.copyGBs) / 1e6,
        12,
      );
      expect(product.roofline).toBeGreaterThan(0);
      expect(p.plans.reduce((n, plan) => n + plan.dispatches, 0)).toBeGreaterThan(2);
    }
  });
  it('maps memory: blocks lie in their slabs, and none on another at one step', async () => {
    for (const plan of (await of(device)).plans) {
      const total = plan.slabs.reduce((n, s) => n + s, 0);
      for (const [i, a] of plan.blocks.entries()) {
        expect(a.at + a.bytes).toBeLessThanOrEqual(total);
        expect(a.from).toBeLessThanOrEqual(a.to);
        for (const b of plan.blocks.slice(i + 1))
          expect(
            a.to < b.from ||
              b.to < a.from ||
              a.at + a.bytes <= b.at ||
              b.at + b.bytes <= a.at ||
              (device === 'wasm' && (a.to === b.from || b.to === a.from)),
            `${a.name} and ${b.name}`,
          ).toBe(true);
      }
    }
  });
  it('is drawn as one page that asks for nothing', async () => {
    const p = await of(device);
    const page = profileHtml(p);
    expect(page).not.toMatch(/(src|href)=|url\(|<script|@import/);
    expect(page).not.toContain('<mm & co>');
    expect(page).toContain('&#60;mm &#38; co&#62;');
    expect(page).not.toMatch(/NaN|Infinity|undefined/);
    for (const title of ['Waterfall', 'Dearest nodes', 'Roofline', 'Memory', 'Plan'])
      expect(page).toContain(`<h2>${title}</h2>`);
    const bars = page.split('<h2>Waterfall</h2>')[1]!.split('</section>')[0]!;
    expect([...bars.matchAll(/<rect /g)]).toHaveLength(p.nodes.length);
    expect([...page.matchAll(/class="c\d block"/g)]).toHaveLength(
      p.plans.slice(0, 6).reduce((n, plan) => n + plan.blocks.length, 0),
    );
    const dots = [...page.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)].map((m) => [Number(m[1]), Number(m[2])]);
    expect(dots).toHaveLength(p.nodes.filter((n) => n.flops && n.bytes && n.ms > 0).length);
    for (const [cx, cy] of dots) expect(cx! >= 62 && cx! <= 1064 && cy! >= 14 && cy! <= 360).toBe(true);
    for (const tag of ['svg', 'section', 'table', 'details'])
      expect(page.split(`<${tag}`).length).toBe(page.split(`</${tag}>`).length);
  });
});

describe('a session that is profiled', () => {
  it('gives what it gives otherwise', async () => {
    // A measured run repeats dispatches; the profile checks nothing, so compare the plans' texts and results of a plain
    // run.
    const p = await of('wasm');
    await using session = await Session.load(model, { device: 'wasm', threads: 1 });
    const { z } = await session.run({ x });
    expect((z as { shape: readonly number[] }).shape).toEqual([33, 24]);
    expect(p.plans[0]!.text).toContain('matmul');
  });
  it('stops when asked', async () => {
    await expect(profile(model, { x }, { device: 'wasm', signal: AbortSignal.abort() })).rejects.toThrow(/aborted/);
  });
  it('refuses what a session refuses', async () => {
    await expect(profile(model, { x: tensor('float32', [2], [1, 2]) }, { device: 'wasm' })).rejects.toThrow(
      /input_shape/,
    );
  });
});

describe('sardonyx profile', () => {
  const file = join(folder, 'model.onnx');
  const run = async (...args: string[]): Promise<{ code: number; out: string }> => {
    const { writeFileSync } = await import('node:fs');
    writeFileSync(file, model);
    let out = '';
    const spy = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      out += String(text);
      return true;
    });
    try {
      return {
        code: await runCommand(profileCommand, [file, '--device', 'wasm', '--runs', '2', '--tuning', 'off', ...args]),
        out,
      };
    } finally {
      spy.mockRestore();
    }
  };
  it('prints JSON', async () => {
    const { code, out } = await run('--json');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      model: file,
      device: 'wasm',
      nodes: expect.arrayContaining([expect.objectContaining({ node: 'sm', op: 'Softmax' })]),
    });
  });
  it('lists nodes and writes the page', async () => {
    const html = join(folder, 'p.html');
    const { code, out } = await run('--html', html, '--top', '1');
    expect(code).toBe(0);
    expect(out).toMatch(/of roofline/);
    expect(out).toMatch(/and \d+ more/);
    expect(readFileSync(html, 'utf8')).toMatch(/^<!doctype html>/);
  });
  it('refuses nonsense', async () => {
    await expect(run('--runs', '0')).rejects.toThrow(/option_invalid/);
  });
});
