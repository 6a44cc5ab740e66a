/** A plan as pictures: the graph of its steps, and the map of its memory. */
import { bytes, draw } from '../site/page.ts';
import { bytesOf, flow, kernelOf, opOf, placeOf, type Seen } from './flow.ts';

const [BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y] = [150, 22, 14, 20];

/**
 * The steps as boxes, each below all that it reads, and in its row as near below them as there is room; what reads what
 * as curves.
 * `chosen` is called with the number of a box that is clicked.
 */
export function graphPicture(plan: Seen, chosen: (step: number) => void): SVGSVGElement {
  const { edges } = flow(plan);
  const before: number[][] = plan.steps.map(() => []);
  for (const { from, to } of edges) before[to]!.push(from);
  const row: number[] = [];
  const x: number[] = [];
  const rightmost: number[] = [];
  const leftmost: number[] = [];
  plan.steps.forEach((_, i) => {
    row[i] = 1 + Math.max(-1, ...before[i]!.map((p) => row[p]!));
    const wanted = before[i]!.length === 0 ? 0 : before[i]!.reduce((sum, p) => sum + x[p]!, 0) / before[i]!.length;
    const [left, right] = [leftmost[row[i]!], rightmost[row[i]!]];
    const step = BOX_WIDTH + GAP_X;
    x[i] =
      right === undefined || left === undefined || wanted >= right + step || wanted <= left - step
        ? wanted
        : wanted - left < right - wanted
          ? left - step
          : right + step;
    leftmost[row[i]!] = Math.min(left ?? Infinity, x[i]!);
    rightmost[row[i]!] = Math.max(right ?? -Infinity, x[i]!);
  });
  const low = Math.min(0, ...x) - GAP_X;
  const high = Math.max(0, ...x) + 1.2 * BOX_WIDTH + GAP_X;
  const height = (Math.max(-1, ...row) + 1) * (BOX_HEIGHT + GAP_Y) + GAP_Y;
  const y = (i: number): number => GAP_Y + row[i]! * (BOX_HEIGHT + GAP_Y);
  const picture = draw('svg', {
    viewBox: `${low} 0 ${high - low} ${height}`,
    width: high - low,
    height,
    role: 'img',
    'aria-label': `graph of ${plan.steps.length} steps`,
  });
  for (const { from, to } of edges) {
    const [x0, y0, x1, y1] = [x[from]! + BOX_WIDTH / 2, y(from) + BOX_HEIGHT, x[to]! + BOX_WIDTH / 2, y(to)];
    // An edge that passes rows goes round the boxes between.
    const aside = row[to]! - row[from]! > 1 && Math.abs(x1 - x0) < BOX_WIDTH ? BOX_WIDTH * 0.72 : 0;
    picture.append(
      draw('path', {
        d:
          aside === 0
            ? `M${x0},${y0}C${x0},${y0 + GAP_Y} ${x1},${y1 - GAP_Y} ${x1},${y1}`
            : `M${x0},${y0}C${x0 + aside},${y0 + GAP_Y} ${x1 + aside},${y1 - GAP_Y} ${x1},${y1}`,
      }),
    );
  }
  plan.steps.forEach((s, i) => {
    const label = opOf(s);
    const box = draw(
      'g',
      { class: placeOf(s), transform: `translate(${x[i]},${y(i)})` },
      draw('rect', { width: BOX_WIDTH, height: BOX_HEIGHT, rx: 3 }),
      draw('text', { x: 8, y: 15 }, label.length > 21 ? `${label.slice(0, 20)}…` : label),
      draw('title', {}, `${i}  ${label}${'node' in s ? ` ${s.node}` : ''}\n${kernelOf(s)}`),
    );
    box.addEventListener('click', () => chosen(i));
    picture.append(box);
  });
  return picture;
}

/** The stone's layers, for values that lie on each other. */
const TONES = [
  '#a5361c',
  '#ead2b5',
  '#6a2a16',
  '#c8623c',
  '#d6a877',
  '#8f371c',
  '#f0dfca',
  '#41190d',
  '#b9492a',
  '#9c7a55',
];

/**
 * Where each value lies in memory, `width` pixels wide (upwards, slab on slab) and from which step to which; the dashed
 * line is what no plan can do without.
 */
export function memoryMap(plan: Seen, width: number): SVGSVGElement {
  const [height, left, bottom] = [280, 0, 22];
  const steps = Math.max(1, plan.steps.length + 1);
  const all = Math.max(1, plan.peakBytes);
  const base = plan.slabs.map((_, i) => plan.slabs.slice(0, i).reduce((sum, b) => sum + b, 0));
  const across = (step: number): number => left + ((width - 2 * left) * step) / steps;
  const up = (address: number): number => height - bottom - ((height - bottom - 24) * address) / all;
  const picture = draw('svg', {
    viewBox: `0 0 ${width} ${height}`,
    role: 'img',
    'aria-label': `memory over ${plan.steps.length} steps: ${bytes(plan.peakBytes)}, at least ${bytes(plan.lowerBoundBytes)} needed`,
  });
  const { lives } = flow(plan);
  lives.forEach(({ value, first, last }, i) => {
    const { home, name, dtype, shape } = plan.values[value]!;
    if (home.in !== 'slab') return;
    const size = bytesOf(plan.values[value]!);
    const top = up(base[home.slab]! + home.offset + size);
    picture.append(
      draw(
        'rect',
        {
          class: 'value',
          x: across(Math.max(0, first)),
          y: top,
          width: Math.max(1, across(last + 1) - across(Math.max(0, first))),
          height: Math.max(0.5, up(base[home.slab]! + home.offset) - top),
          style: `--colour: ${TONES[i % TONES.length]}`,
        },
        draw(
          'title',
          {},
          `${name}: ${dtype}[${shape.join('×')}], ${bytes(size)}, steps ${Math.max(0, first)} to ${last}`,
        ),
      ),
    );
  });
  for (const at of [...base.slice(1), plan.peakBytes])
    picture.append(draw('line', { x1: left, x2: width - left, y1: up(at), y2: up(at), stroke: 'var(--line)' }));
  picture.append(
    draw('line', {
      class: 'bound',
      x1: left,
      x2: width - left,
      y1: up(plan.lowerBoundBytes),
      y2: up(plan.lowerBoundBytes),
    }),
    draw(
      'text',
      { x: left, y: 14 },
      `${bytes(plan.peakBytes)} in ${plan.slabs.length} ${plan.slabs.length === 1 ? 'region' : 'slabs'}, lower bound ${bytes(plan.lowerBoundBytes)}`,
    ),
    draw('text', { x: left, y: height - 6 }, 'first step'),
    draw('text', { x: width - left, y: height - 6, 'text-anchor': 'end' }, 'last step'),
  );
  return picture;
}
