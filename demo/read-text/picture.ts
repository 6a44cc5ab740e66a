/** Pictures as plain pixels, and how they are scaled and cut. Nothing here knows Node or a browser. */

/** 8-bit RGBA, row by row from the top. */
export interface Picture { readonly width: number; readonly height: number; readonly data: Uint8Array | Uint8ClampedArray }
export interface Point { readonly x: number; readonly y: number }
/** Corners, clockwise from the top left of the text. */
export type Box = readonly [Point, Point, Point, Point];

export const distance = (a: Point, b: Point): number => Math.hypot(a.x - b.x, a.y - b.y);

/** One channel at a place between pixels, bilinear, held at the borders. */
function sample(p: Picture, x: number, y: number, channel: number): number {
  const cx = Math.min(Math.max(x, 0), p.width - 1), cy = Math.min(Math.max(y, 0), p.height - 1);
  const x0 = Math.floor(cx), y0 = Math.floor(cy);
  const x1 = Math.min(x0 + 1, p.width - 1), y1 = Math.min(y0 + 1, p.height - 1);
  const fx = cx - x0, fy = cy - y0;
  const at = (u: number, v: number): number => p.data[(v * p.width + u) * 4 + channel]!;
  return (at(x0, y0) * (1 - fx) + at(x1, y0) * fx) * (1 - fy) + (at(x0, y1) * (1 - fx) + at(x1, y1) * fx) * fy;
}

/** How a model wants its pixels: (v / 255 - mean) / std for each channel, blue first as its training pictures were read. */
export interface Normalization { readonly mean: readonly [number, number, number]; readonly std: readonly [number, number, number] }

/** The picture scaled to width × height, as [3, height, width]. Shrinking averages, so that thin strokes stay. */
export function toPlanes(p: Picture, width: number, height: number, { mean, std }: Normalization): Float32Array {
  const out = new Float32Array(3 * width * height);
  const [sx, sy] = [p.width / width, p.height / height];
  const taps = Math.max(1, Math.min(4, Math.round(Math.max(sx, sy))));
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) for (let c = 0; c < 3; c++) {
    let sum = 0;
    for (let i = 0; i < taps; i++) for (let j = 0; j < taps; j++) sum += sample(p, (x + (j + 0.5) / taps) * sx - 0.5, (y + (i + 0.5) / taps) * sy - 0.5, 2 - c);
    out[(c * height + y) * width + x] = (sum / taps / taps / 255 - mean[c]!) / std[c]!;
  }
  return out;
}

/** What lies in a box, made upright: `height` pixels high, as wide as the box's proportions say. A tall box is turned on its side. */
export function cut(p: Picture, box: Box, height: number): Picture {
  const upright = distance(box[0], box[3]) > 1.5 * distance(box[0], box[1]) ? ([box[3], box[0], box[1], box[2]] as Box) : box;
  const [a, b, c, d] = upright;
  const across = Math.max(distance(a, b), distance(d, c));
  const down = Math.max(distance(a, d), distance(b, c), 1);
  const width = Math.max(height / 2, Math.round((height * across) / down));
  const data = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const u = (x + 0.5) / width, v = (y + 0.5) / height;
    const px = (a.x * (1 - u) + b.x * u) * (1 - v) + (d.x * (1 - u) + c.x * u) * v - 0.5;
    const py = (a.y * (1 - u) + b.y * u) * (1 - v) + (d.y * (1 - u) + c.y * u) * v - 0.5;
    for (let k = 0; k < 3; k++) data[(y * width + x) * 4 + k] = sample(p, px, py, k);
    data[(y * width + x) * 4 + 3] = 255;
  }
  return { width, height, data };
}

/** The same, upside down. */
export function turned(p: Picture): Picture {
  const data = new Uint8Array(p.data.length);
  for (let i = 0, n = p.width * p.height; i < n; i++) data.set(p.data.subarray(4 * i, 4 * i + 4), 4 * (n - 1 - i));
  return { ...p, data };
}

/** A copy with boxes drawn on it, `thickness` pixels wide. */
export function withBoxes(p: Picture, boxes: readonly Box[], color: readonly [number, number, number] = [214, 40, 90], thickness = Math.max(2, Math.round(p.width / 500))): Picture {
  const data = new Uint8Array(p.data);
  const dot = (x: number, y: number): void => {
    for (let j = 0; j < thickness; j++) for (let i = 0; i < thickness; i++) {
      const u = Math.round(x - thickness / 2) + i, v = Math.round(y - thickness / 2) + j;
      if (u >= 0 && v >= 0 && u < p.width && v < p.height) data.set([...color, 255], (v * p.width + u) * 4);
    }
  };
  for (const box of boxes) box.forEach((from, i) => {
    const to = box[(i + 1) % 4]!;
    const n = Math.ceil(distance(from, to)) + 1;
    for (let k = 0; k <= n; k++) dot(from.x + ((to.x - from.x) * k) / n, from.y + ((to.y - from.y) * k) / n);
  });
  return { ...p, data };
}
