/**
 * How near kernels come to what the device can do: work a byte across, speed upwards, both by powers of two (Williams
 * et al., "Roofline").
 */
import type { Peaks } from 'sardonyx/tune';
import { draw } from './page.ts';

/** Something measured: what it must compute and move, and how long it took. */
export interface Timed {
  readonly name: string;
  readonly flops: number;
  readonly bytes: number;
  readonly ms: number;
}

export function roofline(timed: readonly Timed[], peaks: Peaks, width: number): SVGSVGElement {
  const [height, left, right, bottom, top] = [288, 46, 16, 34, 20];
  const points = timed
    .filter((t) => t.flops > 0 && t.bytes > 0 && t.ms > 0)
    .map((t) => ({ name: t.name, work: t.flops / t.bytes, speed: t.flops / t.ms / 1e6 }));
  const ridge = peaks.gflops / peaks.copyGBs;
  const log = Math.log2;
  const [lowX, highX] = [
    Math.floor(log(Math.min(ridge / 4, ...points.map((p) => p.work)))),
    Math.ceil(log(Math.max(ridge * 8, ...points.map((p) => p.work)))),
  ];
  const [lowY, highY] = [
    Math.floor(log(Math.min(peaks.gflops / 64, ...points.map((p) => p.speed)))),
    Math.ceil(log(Math.max(peaks.gflops, ...points.map((p) => p.speed))) + 0.1),
  ];
  const x = (work: number): number => left + ((width - left - right) * (log(work) - lowX)) / (highX - lowX);
  const y = (speed: number): number =>
    height - bottom - ((height - bottom - top) * (log(speed) - lowY)) / (highY - lowY);
  const picture = draw('svg', {
    viewBox: `0 0 ${width} ${height}`,
    role: 'img',
    'aria-label': `${points.length} kernels below a roof of ${peaks.gflops.toFixed(0)} GFLOP/s and ${peaks.copyGBs.toFixed(1)} GB/s`,
  });
  const mark = (power: number): string => (power < 0 ? `1/${2 ** -power}` : String(2 ** power));
  for (let k = lowX; k <= highX; k += Math.ceil((highX - lowX) / 8))
    picture.append(
      draw('line', { class: 'axis', x1: x(2 ** k), x2: x(2 ** k), y1: top, y2: height - bottom }),
      draw('text', { x: x(2 ** k), y: height - bottom + 14, 'text-anchor': 'middle' }, mark(k)),
    );
  for (let k = lowY; k <= highY; k += Math.ceil((highY - lowY) / 6))
    picture.append(
      draw('line', { class: 'axis', x1: left, x2: width - right, y1: y(2 ** k), y2: y(2 ** k) }),
      draw('text', { x: left - 6, y: y(2 ** k) + 4, 'text-anchor': 'end' }, mark(k)),
    );
  const from = Math.max(2 ** lowX, 2 ** lowY / peaks.copyGBs);
  picture.append(
    draw('path', {
      class: 'bound',
      d: `M${x(from)},${y(from * peaks.copyGBs)}L${x(ridge)},${y(peaks.gflops)}L${x(2 ** highX)},${y(peaks.gflops)}`,
    }),
    draw('text', { x: left, y: height - 4 }, 'FLOP a byte'),
    draw('text', { x: 0, y: 10 }, 'GFLOP/s'),
  );
  const roof = (work: number): number => Math.min(peaks.gflops, work * peaks.copyGBs);
  for (const { name, work, speed } of points)
    picture.append(
      draw(
        'circle',
        { cx: x(work), cy: y(speed), r: 4 },
        draw(
          'title',
          {},
          `${name}: ${speed.toFixed(1)} GFLOP/s, ${((100 * speed) / roof(work)).toFixed(0)} % of the roof`,
        ),
      ),
    );
  return picture;
}
