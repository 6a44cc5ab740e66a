import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findBoxes, hull, rectangleRound, regions } from '../demo/read-text/boxes.ts';
import { FileError, loadModels, readPicture, writePicture } from '../demo/read-text/files.ts';
import { readingOrder } from '../demo/read-text/order.ts';
import {
  type Box,
  cut,
  distance,
  lengthwise,
  type Picture,
  type Point,
  toPlanes,
  turned,
  withBoxes,
} from '../demo/read-text/picture.ts';
import { decode, type Line, readText } from '../demo/read-text/reader.ts';

const folder = resolve(import.meta.dirname, '../demo/read-text');
const close = (a: number, b: number, by = 1e-6): void =>
  expect(Math.abs(a - b), `${a} and ${b}`).toBeLessThanOrEqual(by);
const level = (x: number, y: number, width = 20, height = 10): Box => [
  { x, y },
  { x: x + width, y },
  { x: x + width, y: y + height },
  { x, y: y + height },
];
const tilted = (box: Box, degrees: number): Box => {
  const t = (degrees * Math.PI) / 180;
  return box.map(({ x, y }) => ({
    x: x * Math.cos(t) - y * Math.sin(t),
    y: x * Math.sin(t) + y * Math.cos(t),
  })) as unknown as Box;
};

describe('boxes', () => {
  it('come from connected regions, corners included, borders not wrapped', () => {
    const map = [1, 0, 0, 1, /**/ 0, 1, 0, 0, /**/ 0, 0, 0, 1, /**/ 0.2, 0, 1, 0];
    expect(regions(map, 4, 4, 0.3).map((r) => r.sort((a, b) => a - b))).toEqual([[0, 5], [3], [11, 14]]);
    expect(regions([0, 0, 1, /**/ 1, 0, 0], 3, 2, 0.3)).toEqual([[2], [3]]);
  });
  it('have the hull of their points', () => {
    const square = [
      { x: 0, y: 0 },
      { x: 2, y: 0 },
      { x: 2, y: 2 },
      { x: 0, y: 2 },
    ];
    expect(hull([...square, { x: 1, y: 1 }, { x: 1, y: 0 }, { x: 2, y: 2 }])).toEqual(square);
  });
  it('are the smallest rectangles, at any angle', () => {
    for (const degrees of [0, 7, -20, 40]) {
      const corners = tilted(level(40, 30, 20, 4), degrees);
      rectangleRound(
        [...corners, { x: (corners[0].x + corners[2].x) / 2, y: (corners[0].y + corners[2].y) / 2 }],
        () => 0,
      ).forEach((p, i) => close(distance(p, corners[i]!), 0, 1e-9));
    }
  });
  it('grow by the rule, and faint or tiny regions are none', () => {
    const map = new Float32Array(60 * 40);
    for (let y = 10; y < 16; y++) for (let x = 8; x < 40; x++) map[y * 60 + x] = 0.9;
    for (let y = 30; y < 36; y++) for (let x = 8; x < 40; x++) map[y * 60 + x] = 0.4;
    map[0] = 1;
    const [only, ...rest] = findBoxes(map, 60, 40, { pixel: 0.3, box: 0.6, unclip: 1.6, smallest: 3 });
    expect(rest).toEqual([]);
    const by = (32 * 6 * 1.6) / (2 * (32 + 6));
    level(8 - by, 10 - by, 32 + 2 * by, 6 + 2 * by).forEach((p, i) => close(distance(p, only!.box[i]!), 0));
    close(only!.score, 0.9);
  });
});

describe('reading order', () => {
  const read = (...cells: [string, Box][]): string =>
    readingOrder(cells.map(([name, box]) => ({ name, box })).reverse())
      .map((c) => c.name)
      .join(' ');
  it('is by lines, from the left', () =>
    expect(read(['a', level(0, 0)], ['b', level(50, 2)], ['c', level(0, 14)])).toBe('a b c'));
  it('is by lines in a table, also in one that is tilted', () => {
    for (const degrees of [0, 3, -3, 90, 177]) {
      const cells = ['a', 'b', 'c', 'd', 'e', 'f'].map((name, i): [string, Box] => [
        name,
        tilted(level((i % 2) * 200, (i >> 1) * 14, 80), degrees),
      ]);
      expect(read(...cells)).toBe('a b c d e f');
    }
  });
  it('is by columns where lines do not stand side by side', () =>
    expect(
      read(
        ['a', level(0, 0, 100)],
        ['b', level(0, 16, 100)],
        ['c', level(0, 32, 100)],
        ['d', level(150, 8)],
        ['e', level(150, 24)],
        ['f', level(0, 80)],
      ),
    ).toBe('a b c d e f'));
});

describe('pictures', () => {
  const gradient: Picture = {
    width: 8,
    height: 4,
    data: Uint8Array.from({ length: 128 }, (_, i) => (i % 4 === 0 ? (Math.floor(i / 4) % 8) * 30 : 255)),
  };
  const plain = { mean: [0, 0, 0], std: [1 / 255, 1 / 255, 1 / 255] } as const;
  it('are cut along a box, and go on beyond their borders', () => {
    const part = cut(gradient, level(2, 0, 4, 4), 4);
    expect([part.width, part.height]).toEqual([4, 4]);
    expect([0, 1, 2, 3].map((x) => part.data[4 * x])).toEqual([60, 90, 120, 150]);
    expect([0, 1, 2, 3].map((x) => cut(gradient, level(6, -1, 4, 4), 4).data[4 * x])).toEqual([180, 210, 210, 210]);
  });
  it('are cut upright where the text goes up', () => {
    const part = cut(gradient, lengthwise(level(3, -4, 2, 12)), 2);
    expect([part.width, part.height]).toEqual([12, 2]);
    expect([part.data[0], part.data[12 * 4]]).toEqual([90, 120]);
  });
  it('scale: between pixels in proportion, and shrinking takes all pixels in', () => {
    const row = (width: number): number[] =>
      [...toPlanes(gradient, width, 1, plain).subarray(2 * width)].map((v) => Math.round(100 * v) / 100);
    expect(row(8)).toEqual([0, 30, 60, 90, 120, 150, 180, 210]);
    expect(row(16).slice(1, 5)).toEqual([7.5, 22.5, 37.5, 52.5]);
    expect(row(1)).toEqual([105]);
    expect(toPlanes(gradient, 1, 1, plain)[0]).toBeCloseTo(255, 3);
  });
  it('turn upside down and back', () => {
    expect(turned(gradient).data[0]).toBe(210);
    expect(turned(turned(gradient)).data).toEqual(gradient.data);
  });
  it('show boxes, within their borders', () => {
    const drawn = withBoxes(
      { width: 20, height: 20, data: new Uint8Array(1600).fill(255) },
      [level(5, 5, 30, 10)],
      [0, 0, 0],
      2,
    );
    const at = (x: number, y: number): number => drawn.data[(y * 20 + x) * 4]!;
    expect([at(4, 10), at(5, 10), at(10, 10), at(15, 5), at(19, 14), at(2, 2)]).toEqual([0, 0, 255, 0, 0, 255]);
  });
});

describe('files', () => {
  const temporary = mkdtempSync(join(tmpdir(), 'read-text-'));
  afterAll(() => rmSync(temporary, { recursive: true }));
  it('come back as they were written', () => {
    const file = join(temporary, 'new folder', 'a.png');
    writePicture(file, { width: 2, height: 1, data: Uint8Array.of(1, 2, 3, 255, 4, 5, 6, 255) });
    const { width, height, data } = readPicture(file);
    expect([width, height, ...data]).toEqual([2, 1, 1, 2, 3, 255, 4, 5, 6, 255]);
  });
  it('that are no pictures are refused with the reason', () => {
    const broken = join(temporary, 'broken.png');
    writeFileSync(broken, readFileSync(join(folder, 'sample.png')).subarray(0, 500));
    expect(() => readPicture(broken)).toThrow(/broken/);
    expect(() => readPicture(join(folder, 'main.ts'))).toThrow(/neither PNG nor JPEG/);
    expect(() => readPicture(join(folder, 'nothing.png'))).toThrow(/no such file/);
    expect(() => readPicture(folder)).toThrow(FileError);
    expect(() => writePicture(join(broken, 'under.png'), readPicture(join(folder, 'sample.png')))).toThrow(FileError);
  });
});

describe('spelling', () => {
  /** Probabilities of blank, a, b and space, step by step. */
  const spell = (...steps: number[][]): ReturnType<typeof decode> =>
    decode(Float32Array.from(steps.flat()), 4, ['a', 'b']);
  const [blank, a, b, space] = [
    [0.7, 0.1, 0.1, 0.1],
    [0.1, 0.8, 0.1, 0],
    [0, 0.1, 0.9, 0],
    [0.2, 0, 0.2, 0.6],
  ];
  it('drops repeats and blanks', () => {
    const { text, confidence } = spell([1, 0, 0, 0], a!, a!, [1, 0, 0, 0], a!, b!, space!, space!, b!);
    expect(text).toBe('aab b');
    close(confidence, (0.8 + 0.8 + 0.9 + 0.6 + 0.9) / 5);
  });
  it('makes a space of blanks that lean to one, only between characters', () => {
    expect(spell(blank!, blank!, a!, blank!, blank!, b!, blank!, blank!).text).toBe('a b');
    expect(spell(a!, blank!, b!).text).toBe('ab');
    expect(spell(a!, space!, blank!, blank!, b!).text).toBe('a b');
  });
  it('of nothing is nothing', () => expect(spell(blank!, blank!)).toEqual({ text: '', confidence: 0 }));
});

describe('the sample', () => {
  const drawn = JSON.parse(readFileSync(join(folder, 'lines.json'), 'utf8')) as {
    text: string;
    corners: [number, number][];
  }[];
  const picture = readPicture(join(folder, 'sample.png'));
  const center = (corners: readonly Point[]): Point => ({
    x: corners.reduce((s, p) => s + p.x, 0) / 4,
    y: corners.reduce((s, p) => s + p.y, 0) / 4,
  });
  const texts = [
    'BOARDING PASS',
    'Passenger',
    'Ada Lovelace',
    'From',
    'To',
    'London',
    'Turin',
    'Gate 17',
    'Seat 24C',
    '10:45',
    'SDX 1815',
    'Group 2',
    'Window side',
    '24C',
    'Call the engine workshop',
    'before 9:30, ask for 240 EUR',
  ];
  let lines: readonly Line[] = [];
  let onHead: readonly Line[] = [];
  beforeAll(async () => {
    const models = await loadModels('wasm');
    lines = (await readText(picture, models)).lines;
    onHead = (await readText(turned(picture), models)).lines;
    await Promise.all([models.detect, models.classify, models.recognize].map((s) => s.release()));
  }, 120_000);

  it('is read to the letter, in order', () => {
    expect(lines.map((l) => l.text)).toEqual(texts);
    for (const { confidence } of lines) expect(confidence).toBeGreaterThan(0.9);
  });
  it('is read as well upside down', () => {
    expect(onHead.map((l) => l.text)).toEqual(texts);
    onHead.forEach(({ box }, i) =>
      close(distance({ x: picture.width - box[0].x, y: picture.height - box[0].y }, lines[i]!.box[0]), 0, 8),
    );
  });
  it('has its text where the boxes are', () => {
    expect(lines.map((l) => l.text).sort()).toEqual(drawn.map((d) => d.text).sort());
    const left = [...drawn];
    for (const { text, box } of lines) {
      const same = left
        .filter((d) => d.text === text)
        .map((d) => ({ d, ink: d.corners.map(([x, y]): Point => ({ x, y })) }));
      const { d, ink } = same.sort((p, q) => distance(p.ink[0]!, box[0]) - distance(q.ink[0]!, box[0]))[0]!;
      left.splice(left.indexOf(d), 1);
      // A box leaves some air on every side.
      close(distance(center(box), center(ink)), 0, 2.5);
      box.forEach((corner, i) => close(distance(corner, ink[i]!), 0, 13));
    }
  });
  it('is drawn with its boxes', () => {
    const file = resolve(import.meta.dirname, '../out/read-text.test.png');
    writePicture(
      file,
      withBoxes(
        picture,
        lines.map((l) => l.box),
      ),
    );
    const { width, height, data } = readPicture(file);
    expect([width, height]).toEqual([picture.width, picture.height]);
    for (const {
      box: [a, b],
    } of lines) {
      const [x, y] = [Math.floor((a.x + b.x) / 2), Math.floor((a.y + b.y) / 2)];
      const reddest = Math.max(
        ...[-1, 0, 1].map((dy) => {
          const at = ((y + dy) * width + x) * 4;
          return data[at]! - data[at + 1]!;
        }),
      );
      expect(reddest).toBeGreaterThan(80);
    }
  });
});
