/** The tables that `resize.ts` reads, apart from its kernel, which loads with those of images. */
import { axisTaps, type Interpolation, type ResizedAxis } from './taps.ts';

/**
 * "resize.taps" [JSON of the attributes and axes]: the tables of each axis, one behind another: [index, bits of the
 * weight] a tap; one tap that nobody reads if no axis has any, since a binding may not be empty.
 */
export function packTaps(spec: string): Uint8Array<ArrayBuffer> {
  const { attrs, axes } = JSON.parse(spec) as { readonly attrs: Interpolation; readonly axes: readonly ResizedAxis[] };
  const tables = axes.map((axis) => axisTaps(attrs, axis));
  const words = new Uint32Array(
    Math.max(
      2,
      tables.reduce((n, t) => n + t.index.length * 2, 0),
    ),
  );
  const floats = new Float32Array(words.buffer);
  let at = 0;
  for (const { taps, index, weight, outside } of tables)
    index.forEach((v, i) => {
      words[at] = outside?.[Math.floor(i / taps)] ? 0xffffffff : v;
      floats[at + 1] = weight[i]!;
      at += 2;
    });
  return new Uint8Array(words.buffer);
}
