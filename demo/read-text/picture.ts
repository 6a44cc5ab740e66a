/** Pictures as plain pixels, and how they are scaled and cut. Nothing here knows Node or a browser. */

/** 8-bit RGBA, row by row from the top. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array | Uint8ClampedArray;
}
export interface Point {
  readonly x: number;
  readonly y: number;
}
/** Corners, clockwise from the top left of the text. */
export type Box = readonly [Point, Point, Point, Point];

/** `v`, held between 0 and `end`. */
export const clamp = (v: number, end: number): number => Math.min(Math.max(v, 0), end);
export const distance = (a: Point, b: Point): number => Math.hypot(a.x - b.x, a.y - b.y);

/** The same box, for text along its longer side: a tall one starts at the bottom left. */
export const lengthwise = ([a, b, c, d]: Box): Box =>
  distance(a, d) > 1.5 * distance(a, b) ? [d, a, b, c] : [a, b, c, d];
/** The same box, for text that stands on its head. */
export const upended = ([a, b, c, d]: Box): Box => [c, d, a, b];

/**
 * How a model wants its pixels: (v / 255 - mean) / std for each channel, blue first as its training pictures were read.
 */
export interface Normalization {
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}

/**
 * The picture scaled to width × height, as [3, height, width]. Between pixels it is bilinear; shrinking widens the same
 * tent over all the pixels that fall together, so that thin strokes stay.
 */
export function toPlanes(p: Picture, width: number, height: number, { mean, std }: Normalization): Float32Array {
  const [across, down] = [tents(p.width, width), tents(p.height, height)];
  const rows = new Float32Array(p.height * width * 3);
  for (let y = 0, to = 0; y < p.height; y++)
    for (const { first, weights } of across) {
      let [r, g, b] = [0, 0, 0];
      for (let i = 0, at = (y * p.width + first) * 4; i < weights.length; i++, at += 4) {
        const w = weights[i]!;
        r += w * p.data[at]!;
        g += w * p.data[at + 1]!;
        b += w * p.data[at + 2]!;
      }
      rows[to++] = b;
      rows[to++] = g;
      rows[to++] = r;
    }
  const out = new Float32Array(3 * width * height);
  down.forEach(({ first, weights }, y) => {
    for (let c = 0; c < 3; c++)
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum += weights[i]! * rows[((first + i) * width + x) * 3 + c]!;
        out[(c * height + y) * width + x] = (sum / 255 - mean[c]!) / std[c]!;
      }
  });
  return out;
}

/** For each of `to` pixels along a side: the pixels among `from` that it is made of, and how much of each. */
function tents(from: number, to: number): { first: number; weights: Float32Array }[] {
  const scale = from / to;
  const reach = Math.max(1, scale);
  return Array.from({ length: to }, (_, i) => {
    const center = (i + 0.5) * scale - 0.5;
    const first = Math.max(0, Math.ceil(center - reach));
    const last = Math.min(from - 1, Math.floor(center + reach));
    const weights = Float32Array.from({ length: last - first + 1 }, (_, k) =>
      Math.max(0, 1 - Math.abs(first + k - center) / reach),
    );
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((w) => w / sum) };
  });
}

/**
 * What lies in a box, made upright, in the proportions of the box: `height` pixels high, or as high as in the picture
 * if that is more. Places between pixels are bilinear; beyond the borders the nearest pixel goes on.
 */
export function cut(p: Picture, box: Box, height: number): Picture {
  const [a, b, c, d] = box;
  const across = Math.max(distance(a, b), distance(d, c));
  const down = Math.max(distance(a, d), distance(b, c), 1);
  const high = Math.max(height, Math.round(down));
  const width = Math.max(Math.ceil(high / 2), Math.round((high * across) / down));
  const data = new Uint8Array(width * high * 4).fill(255);
  for (let y = 0, to = 0; y < high; y++)
    for (let x = 0; x < width; x++, to += 4) {
      const u = (x + 0.5) / width;
      const v = (y + 0.5) / high;
      const px = clamp((a.x * (1 - u) + b.x * u) * (1 - v) + (d.x * (1 - u) + c.x * u) * v - 0.5, p.width - 1);
      const py = clamp((a.y * (1 - u) + b.y * u) * (1 - v) + (d.y * (1 - u) + c.y * u) * v - 0.5, p.height - 1);
      const x0 = Math.floor(px);
      const y0 = Math.floor(py);
      const fx = px - x0;
      const fy = py - y0;
      const right = x0 + 1 < p.width ? 4 : 0;
      const below = y0 + 1 < p.height ? p.width * 4 : 0;
      const from = (y0 * p.width + x0) * 4;
      for (let k = 0; k < 3; k++) {
        const i = from + k;
        data[to + k] = Math.round(
          (p.data[i]! * (1 - fx) + p.data[i + right]! * fx) * (1 - fy) +
            (p.data[i + below]! * (1 - fx) + p.data[i + right + below]! * fx) * fy,
        );
      }
    }
  return { width, height: high, data };
}

/** The same, upside down. */
export function turned(p: Picture): Picture {
  const data = new Uint8Array(p.data.length);
  for (let i = 0, n = p.width * p.height; i < n; i++) data.set(p.data.subarray(4 * i, 4 * i + 4), 4 * (n - 1 - i));
  return { ...p, data };
}

/** A copy with boxes drawn on it, their lines `thickness` pixels wide and smooth. */
export function withBoxes(
  p: Picture,
  boxes: readonly Box[],
  color: readonly [number, number, number] = [214, 40, 90],
  thickness = Math.max(2, p.width / 500),
): Picture {
  const data = new Uint8Array(p.data);
  for (const box of boxes) {
    const [xs, ys] = [box.map((q) => q.x), box.map((q) => q.y)];
    const [left, top] = [
      clamp(Math.floor(Math.min(...xs) - thickness), p.width),
      clamp(Math.floor(Math.min(...ys) - thickness), p.height),
    ];
    const [right, bottom] = [
      clamp(Math.ceil(Math.max(...xs) + thickness), p.width),
      clamp(Math.ceil(Math.max(...ys) + thickness), p.height),
    ];
    for (let y = top; y < bottom; y++)
      for (let x = left; x < right; x++) {
        const at = { x: x + 0.5, y: y + 0.5 };
        const away = Math.min(...box.map((from, i) => distanceToSide(at, from, box[(i + 1) % 4]!)));
        const ink = clamp(thickness / 2 + 0.5 - away, 1);
        if (ink > 0)
          for (let k = 0; k < 3; k++)
            data[(y * p.width + x) * 4 + k] = Math.round(
              data[(y * p.width + x) * 4 + k]! * (1 - ink) + color[k]! * ink,
            );
      }
  }
  return { ...p, data };
}

function distanceToSide(p: Point, a: Point, b: Point): number {
  const length = distance(a, b);
  const along = length === 0 ? 0 : clamp(((p.x - a.x) * (b.x - a.x) + (p.y - a.y) * (b.y - a.y)) / length ** 2, 1);
  return distance(p, { x: a.x + along * (b.x - a.x), y: a.y + along * (b.y - a.y) });
}
