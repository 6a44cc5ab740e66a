/** The order in which a person would read boxes: block by block, in a block line by line, in a line from the left. */
import { type Box, distance, type Point } from './picture.ts';

/**
 * A box in a frame in which lines are level; `across` and `down` are the ends of its middle line, widened by a fifth of
 * the height.
 */
interface Spot<T> {
  readonly of: T;
  readonly across: Range;
  readonly down: Range;
  readonly height: number;
}
type Range = readonly [low: number, high: number];

const between = (a: Point, b: Point): Point => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
const middle = ([low, high]: Range): number => (low + high) / 2;
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1] ?? 0;

/** Boxes in reading order. Text that is tilted or turned as a whole is taken as level. */
export function readingOrder<T extends { readonly box: Box }>(found: readonly T[]): T[] {
  const [along, aslant] = found.reduce(([x, y], { box: [a, b] }) => [x + b.x - a.x, y + b.y - a.y], [0, 0]);
  const tilt = Math.atan2(aslant, along);
  const level = ({ x, y }: Point): Point => ({
    x: x * Math.cos(tilt) + y * Math.sin(tilt),
    y: y * Math.cos(tilt) - x * Math.sin(tilt),
  });
  return blocks(
    found.map((of): Spot<T> => {
      const [a, b, c, d] = of.box;
      const height = Math.min(distance(a, d), distance(a, b));
      const [left, right] = [level(between(a, d)), level(between(b, c))];
      const by = height / 5;
      return {
        of,
        height,
        across: [Math.min(left.x, right.x), Math.max(left.x, right.x)],
        down: [Math.min(left.y, right.y) - by, Math.max(left.y, right.y) + by],
      };
    }),
  ).map((s) => s.of);
}

/**
 * Cuts along the widest white: first between blocks above each other, then between columns, then between lines. Columns
 * whose cells stand side by side are a table, which is read line by line.
 */
function blocks<T>(spots: readonly Spot<T>[]): readonly Spot<T>[] {
  if (spots.length < 2) return spots;
  const height = median(spots.map((s) => s.height));
  for (const parts of [cuts(spots, 'down', 1.8 * height), columns(spots, height), cuts(spots, 'down', 0)])
    if (parts.length > 1) return parts.flatMap(blocks);
  return lines(spots);
}

/** Parts with white of more than `gap` between them. */
function cuts<T>(spots: readonly Spot<T>[], side: 'across' | 'down', gap: number): Spot<T>[][] {
  const parts: Spot<T>[][] = [];
  let end = -Infinity;
  for (const s of [...spots].sort((a, b) => a[side][0] - b[side][0])) {
    if (s[side][0] > end + gap) parts.push([]);
    parts.at(-1)!.push(s);
    end = Math.max(end, s[side][1]);
  }
  return parts;
}

function columns<T>(spots: readonly Spot<T>[], height: number): Spot<T>[][] {
  const parts = cuts(spots, 'across', height);
  const beside = (s: Spot<T>, part: readonly Spot<T>[]): boolean =>
    part.some((t) => Math.abs(middle(t.down) - middle(s.down)) < 0.3 * Math.min(s.height, t.height));
  const aligned = parts.slice(1).flatMap((part, i) => part.map((s) => beside(s, parts[i]!)));
  return aligned.filter(Boolean).length > 0.7 * aligned.length ? [] : parts;
}

/** What no white separates: spots whose middles are less than half a height apart share a line. */
function lines<T>(spots: readonly Spot<T>[]): Spot<T>[] {
  const out: Spot<T>[][] = [];
  for (const s of [...spots].sort((a, b) => middle(a.down) - middle(b.down))) {
    const line = out.at(-1);
    if (
      line !== undefined &&
      Math.abs(middle(line[0]!.down) - middle(s.down)) < 0.5 * Math.min(line[0]!.height, s.height)
    )
      line.push(s);
    else out.push([s]);
  }
  return out.flatMap((line) => line.sort((a, b) => a.across[0] - b.across[0]));
}
