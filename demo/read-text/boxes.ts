/**
 * From a map of text probabilities to boxes round lines: the post-processing of Liao et al., "Real-time Scene Text
 * Detection with Differentiable Binarization" (arXiv:1911.08947), with a rectangle for the polygon.
 */
import type { Box, Point } from './picture.ts';

export interface Found {
  readonly box: Box;
  readonly score: number;
}

/**
 * Pixels of each connected region in which the map is above `threshold`, by index. Neighbours touch at sides or
 * corners.
 */
export function regions(map: ArrayLike<number>, width: number, height: number, threshold: number): number[][] {
  const seen = new Uint8Array(width * height);
  const out: number[][] = [];
  for (let start = 0; start < width * height; start++) {
    if (seen[start] || map[start]! <= threshold) continue;
    const region = [start];
    seen[start] = 1;
    for (let i = 0; i < region.length; i++) {
      const x = region[i]! % width;
      const y = Math.floor(region[i]! / width);
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++)
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const at = v * width + u;
          if (!seen[at] && map[at]! > threshold) {
            seen[at] = 1;
            region.push(at);
          }
        }
    }
    out.push(region);
  }
  return out;
}

/** Convex hull, counter-clockwise (Andrew's monotone chain). */
export function hull(points: readonly Point[]): Point[] {
  const sorted = [...points].sort((a, b) => a.x - b.x || a.y - b.y);
  if (sorted.length < 3) return sorted;
  const half = (list: readonly Point[]): Point[] => {
    const chain: Point[] = [];
    for (const p of list) {
      while (chain.length > 1 && cross(chain.at(-2)!, chain.at(-1)!, p) <= 0) chain.pop();
      chain.push(p);
    }
    return chain.slice(0, -1);
  };
  return [...half(sorted), ...half(sorted.reverse())];
}
const cross = (o: Point, a: Point, b: Point): number => (a.x - o.x) * (b.y - o.y) - (a.y - o.y) * (b.x - o.x);

/** The rectangle of least area round points, grown by `by` on every side: one of its sides lies along the hull. */
export function rectangleRound(points: readonly Point[], grow: (across: number, down: number) => number): Box {
  const corners = hull(points);
  let best: { area: number; angle: number; low: Point; high: Point } | null = null;
  corners.forEach((p, i) => {
    const q = corners[(i + 1) % corners.length]!;
    const angle = corners.length < 2 ? 0 : Math.atan2(q.y - p.y, q.x - p.x);
    const turned = corners.map((c) => turn(c, -angle));
    const [xs, ys] = [turned.map((t) => t.x), turned.map((t) => t.y)];
    const [low, high] = [
      { x: Math.min(...xs), y: Math.min(...ys) },
      { x: Math.max(...xs), y: Math.max(...ys) },
    ];
    const area = (high.x - low.x) * (high.y - low.y);
    if (best === null || area < best.area) best = { area, angle, low, high };
  });
  const { angle, low, high } = best!;
  const by = grow(high.x - low.x, high.y - low.y);
  const at = (x: number, y: number): Point => turn({ x, y }, angle);
  return inOrder([
    at(low.x - by, low.y - by),
    at(high.x + by, low.y - by),
    at(high.x + by, high.y + by),
    at(low.x - by, high.y + by),
  ]);
}
const turn = ({ x, y }: Point, angle: number): Point => ({
  x: x * Math.cos(angle) - y * Math.sin(angle),
  y: x * Math.sin(angle) + y * Math.cos(angle),
});

/** Clockwise from the corner that is top left when the longer side is nearest to level. */
function inOrder(box: Box): Box {
  const left = [...box].sort((a, b) => a.x - b.x || a.y - b.y);
  const [a, d] = left[0]!.y <= left[1]!.y ? [left[0]!, left[1]!] : [left[1]!, left[0]!];
  const [b, c] = left[2]!.y <= left[3]!.y ? [left[2]!, left[3]!] : [left[3]!, left[2]!];
  return [a, b, c, d];
}

export interface BoxOptions {
  /** A pixel is text above this. */
  readonly pixel: number;
  /** A box stays if its pixels are text on average with this probability. */
  readonly box: number;
  /** How far a box grows: area × this / circumference, since the map marks shrunken lines. */
  readonly unclip: number;
  /** Shorter sides are specks. */
  readonly smallest: number;
}
export const BOX_OPTIONS: BoxOptions = { pixel: 0.3, box: 0.6, unclip: 1.9, smallest: 3 };

/** Boxes of a probability map, in its own pixels. */
export function findBoxes(
  map: ArrayLike<number>,
  width: number,
  height: number,
  options: BoxOptions = BOX_OPTIONS,
): Found[] {
  return regions(map, width, height, options.pixel).flatMap((region): Found[] => {
    const score = region.reduce((sum, i) => sum + map[i]!, 0) / region.length;
    if (score < options.box || region.length < 4) return [];
    // Pixels are squares: their corners make the hull.
    const points = region.flatMap((i) => {
      const x = i % width;
      const y = Math.floor(i / width);
      return [
        { x, y },
        { x: x + 1, y },
        { x, y: y + 1 },
        { x: x + 1, y: y + 1 },
      ];
    });
    let shorter = Infinity;
    const box = rectangleRound(points, (across, down) => {
      shorter = Math.min(across, down);
      return (across * down * options.unclip) / (2 * (across + down));
    });
    return shorter < options.smallest ? [] : [{ box, score }];
  });
}
