import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findBoxes, hull, readingOrder, rectangleRound, regions } from '../demo/read-text/boxes.ts';
import { loadModels, readPicture, writePicture } from '../demo/read-text/files.ts';
import { type Box, cut, type Picture, turned, withBoxes } from '../demo/read-text/picture.ts';
import { decode, readText } from '../demo/read-text/reader.ts';

const folder = resolve(import.meta.dirname, '../demo/read-text');
const close = (a: number, b: number, by = 1e-6): void => expect(Math.abs(a - b)).toBeLessThanOrEqual(by);

describe('boxes', () => {
  it('find connected regions, corners included', () => {
    const map = [1, 0, 0, 1, /**/ 0, 1, 0, 0, /**/ 0, 0, 0, 1, /**/ 0.2, 0, 1, 0];
    expect(regions(map, 4, 4, 0.3).map((r) => r.sort((a, b) => a - b))).toEqual([[0, 5], [3], [11, 14]]);
  });
  it('have the hull of their points', () => {
    const square = [{ x: 0, y: 0 }, { x: 2, y: 0 }, { x: 2, y: 2 }, { x: 0, y: 2 }];
    expect(hull([...square, { x: 1, y: 1 }, { x: 1, y: 0 }])).toHaveLength(4);
  });
  it('are the smallest rectangles, at any angle', () => {
    for (const degrees of [0, 7, -20, 40]) {
      const t = (degrees * Math.PI) / 180;
      const corners = [[-10, -2], [10, -2], [10, 2], [-10, 2]].map(([x, y]) => ({ x: 50 + x! * Math.cos(t) - y! * Math.sin(t), y: 50 + x! * Math.sin(t) + y! * Math.cos(t) }));
      rectangleRound(corners, () => 0).forEach((p, i) => { close(p.x, corners[i]!.x, 1e-9); close(p.y, corners[i]!.y, 1e-9); });
    }
  });
  it('grow by the rule, and faint or tiny regions are none', () => {
    const map = new Float32Array(60 * 40);
    for (let y = 10; y < 16; y++) for (let x = 8; x < 40; x++) map[y * 60 + x] = 0.9;
    for (let y = 30; y < 36; y++) for (let x = 8; x < 40; x++) map[y * 60 + x] = 0.4;
    map[0] = 1;
    const [only, ...rest] = findBoxes(map, 60, 40);
    expect(rest).toEqual([]);
    const by = (32 * 6 * 1.6) / (2 * (32 + 6));
    close(only!.box[0].x, 8 - by, 1e-6);
    close(only!.box[2].y, 16 + by, 1e-6);
  });
  it('come in reading order', () => {
    const at = (x: number, y: number): { box: Box } => ({ box: [{ x, y }, { x: x + 20, y }, { x: x + 20, y: y + 10 }, { x, y: y + 10 }] });
    const [a, b, c] = [at(50, 2), at(0, 0), at(0, 20)];
    expect(readingOrder([c, a, b])).toEqual([b, a, c]);
  });
});

describe('pictures', () => {
  const gradient: Picture = { width: 8, height: 4, data: Uint8Array.from({ length: 128 }, (_, i) => (i % 4 === 0 ? (Math.floor(i / 4) % 8) * 30 : 255)) };
  it('are cut along a box', () => {
    const part = cut(gradient, [{ x: 2, y: 0 }, { x: 6, y: 0 }, { x: 6, y: 4 }, { x: 2, y: 4 }], 4);
    expect([part.width, part.height]).toEqual([4, 4]);
    expect([0, 1, 2, 3].map((x) => part.data[4 * x])).toEqual([60, 90, 120, 150]);
  });
  it('turn upside down and back', () => expect(turned(turned(gradient)).data).toEqual(gradient.data));
  it('are read by their first bytes', () => {
    expect(() => readPicture(join(folder, 'main.ts'))).toThrow(/neither PNG nor JPEG/);
    expect(() => readPicture(join(folder, 'nothing.png'))).toThrow(/no such file/);
  });
});

it('spells by the best path', () => {
  const steps = [0, 1, 1, 0, 1, 2, 3, 3];
  const p = new Float32Array(steps.length * 4).fill(0.1);
  steps.forEach((k, i) => { p[i * 4 + k] = 0.7; });
  const { text, confidence } = decode(p, 4, ['a', 'b']);
  expect(text).toBe('aab ');
  close(confidence, 0.7, 1e-6);
});

it('reads the sample, and says where its lines are', { timeout: 120_000 }, async () => {
  const drawn = JSON.parse(readFileSync(join(folder, 'lines.json'), 'utf8')) as { text: string; left: number; top: number; right: number; bottom: number }[];
  const picture = readPicture(join(folder, 'sample.png'));
  const models = await loadModels('wasm');
  const { lines } = await readText(picture, models);
  // The recogniser, trained on Chinese, is careless with spaces.
  const bare = (s: string): string => s.replaceAll(' ', '');
  expect(lines.map((l) => bare(l.text)).sort()).toEqual(drawn.map((d) => bare(d.text)).sort());
  const used = new Set<unknown>();
  for (const line of lines) {
    const [xs, ys] = [line.box.map((p) => p.x), line.box.map((p) => p.y)];
    const d = drawn.find((c) => bare(c.text) === bare(line.text) && !used.has(c))!;
    used.add(d);
    // `lines.json` has the boxes of the letters' line height, which is more than their ink.
    close(Math.min(...xs), d.left, 9);
    close(Math.max(...xs), d.right, 9);
    close((Math.min(...ys) + Math.max(...ys)) / 2, (d.top + d.bottom) / 2, 6);
  }
  const file = resolve(import.meta.dirname, '../out/read-text.test.png');
  writePicture(file, withBoxes(picture, lines.map((l) => l.box)));
  expect(existsSync(file)).toBe(true);
  expect([readPicture(file).width, readPicture(file).height]).toEqual([880, 620]);
});
