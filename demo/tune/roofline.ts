/** How near kernels come to what the device can do: work a byte across, speed upwards, both by powers of two (Williams et al., "Roofline"). */
import type { TuningRecord } from 'sardonyx/tune';
import { draw } from '../site/page.ts';

export function roofline({ entries, peaks }: TuningRecord, width: number): SVGSVGElement {
  const [height, left, right, bottom, top] = [280, 46, 16, 34, 12];
  const points = entries.filter((e) => e.flops > 0 && e.bytes > 0).map((e) => ({ e, work: e.flops / e.bytes, speed: e.flops / e.ms / 1e6 }));
  const ridge = peaks.gflops / peaks.copyGBs;
  const log = Math.log2;
  const [lowX, highX] = [Math.floor(log(Math.min(ridge / 4, ...points.map((p) => p.work)))), Math.ceil(log(Math.max(ridge * 8, ...points.map((p) => p.work))))];
  const [lowY, highY] = [Math.floor(log(Math.min(peaks.gflops / 64, ...points.map((p) => p.speed)))), Math.ceil(log(Math.max(peaks.gflops, ...points.map((p) => p.speed))) + 0.1)];
  const x = (work: number): number => left + ((width - left - right) * (log(work) - lowX)) / (highX - lowX);
  const y = (speed: number): number => height - bottom - ((height - bottom - top) * (log(speed) - lowY)) / (highY - lowY);
  const picture = draw('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${points.length} kernels below a roof of ${peaks.gflops.toFixed(0)} GFLOP/s and ${peaks.copyGBs.toFixed(1)} GB/s` });
  const name = (power: number): string => (power < 0 ? `1/${2 ** -power}` : String(2 ** power));
  for (let k = lowX; k <= highX; k += Math.ceil((highX - lowX) / 8)) picture.append(draw('line', { class: 'axis', x1: x(2 ** k), x2: x(2 ** k), y1: top, y2: height - bottom }), draw('text', { x: x(2 ** k), y: height - bottom + 14, 'text-anchor': 'middle' }, name(k)));
  for (let k = lowY; k <= highY; k += Math.ceil((highY - lowY) / 6)) picture.append(draw('line', { class: 'axis', x1: left, x2: width - right, y1: y(2 ** k), y2: y(2 ** k) }), draw('text', { x: left - 6, y: y(2 ** k) + 4, 'text-anchor': 'end' }, name(k)));
  const from = Math.max(2 ** lowX, 2 ** lowY / peaks.copyGBs);
  picture.append(draw('path', { class: 'bound', d: `M${x(from)},${y(from * peaks.copyGBs)}L${x(ridge)},${y(peaks.gflops)}L${x(2 ** highX)},${y(peaks.gflops)}` }),
    draw('text', { x: left, y: height - 4 }, 'FLOP a byte'), draw('text', { x: 0, y: top - 2 }, 'GFLOP/s'));
  for (const { e, work, speed } of points) picture.append(draw('circle', { cx: x(work), cy: y(speed), r: 4 }, draw('title', {}, `${e.group} ${e.sizes.join('×')}\n${e.kernel}: ${speed.toFixed(1)} GFLOP/s, ${(100 * e.roofline).toFixed(0)} % of the roof`)));
  return picture;
}
