/** The picture of the first page: layers of a stone, each as a sum of slow waves. */
import { byId, draw } from './page.ts';

/** Colour and thickness of each layer from the top, in units of the picture; the last goes on to the bottom. */
const LAYERS: readonly (readonly [colour: string, thickness: number])[] = [
  ['#1b1412', 46],
  ['#3a1c12', 14],
  ['#e9d8c2', 5],
  ['#8f371c', 30],
  ['#b9492a', 17],
  ['#f2e4d2', 9],
  ['#5c2413', 21],
  ['#d6a877', 4],
  ['#a5361c', 36],
  ['#f2e4d2', 3],
  ['#c8623c', 12],
  ['#41190d', 26],
  ['#ead9c3', 4],
  ['#1b1412', 80],
];
const [WIDTH, HEIGHT, STEP] = [1200, 260, 12];

/** How far a layer's upper edge rises or falls at x: neighbours move alike, deeper ones less and later. */
const wave = (x: number, depth: number): number =>
  (1 - depth * 0.35) *
  (11 * Math.sin(x / 190 + depth * 1.1) + 6 * Math.sin(x / 83 + depth * 2.3 + 1) + 2.5 * Math.sin(x / 31 + depth * 5));

let top = 0;
const picture = draw('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none' });
byId('layers').append(picture);
for (const [colour, thickness] of LAYERS) {
  const edge = Array.from(
    { length: WIDTH / STEP + 1 },
    (_, i) => `${i * STEP},${(top === 0 ? 0 : top + wave(i * STEP, top / HEIGHT)).toFixed(1)}`,
  );
  picture.append(draw('path', { d: `M${edge.join('L')}L${WIDTH},${HEIGHT}L0,${HEIGHT}Z`, fill: colour }));
  top += thickness;
}
