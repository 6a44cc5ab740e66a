/** Register tiles of convolutions as text: four pixels in a row by some filters, unrolled to scalar names. */
import { remembered } from '../remembered.ts';
import { storeRows } from './product-tiles.ts';

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** A window over rows and columns; pads are those at the beginning. */
export interface Plane {
  readonly kernel: readonly [number, number];
  readonly strides: readonly [number, number];
  readonly dilations: readonly [number, number];
  readonly pads: readonly [number, number];
}

/** Kernels wider than this are walked by a loop. */
const UNROLLED = 7;
const i32 = (n: number): string => (n < 0 ? `(${n})` : `${n}`);

/** The taps of one row: which pixels (offsets from `left`) each of them gives to which of the four outputs. */
interface RowTaps {
  readonly left: string;
  readonly taps: readonly {
    readonly kx: number;
    readonly give: readonly (readonly [output: number, offset: number])[];
  }[];
}

/** Statements that add one row's taps: `pixels` are loaded once each. */
function rowText(
  { left, taps }: RowTaps,
  tap: (kx: string, give: readonly (readonly [number, string])[]) => string,
): string {
  const offsets = [...new Set(taps.flatMap((t) => t.give.map(([, o]) => o)))].sort((a, b) => a - b);
  const name = (o: number): string => `v${o < 0 ? `n${-o}` : o}`;
  return [
    ...offsets.map((o) => `let ${name(o)} = pixel(row, ${left} + ${i32(o)});`),
    ...taps
      .filter((t) => t.give.length > 0)
      .map((t) =>
        tap(
          `${t.kx}u`,
          t.give.map(([j, o]) => [j, name(o)]),
        ),
      ),
  ]
    .map((l) => `        ${l}`)
    .join('\n');
}

const slide = (p: Plane): RowTaps => ({
  left: 'ix',
  taps: range(p.kernel[1]).map((kx) => ({
    kx,
    give: range(4).map((j) => [j, kx * p.dilations[1] + j * p.strides[1]] as const),
  })),
});

/** Loops over the rows that a window covers; `row` is where the input row starts and `ky` the tap's. */
const rowsText = (p: Plane, body: string): string => `    for (var ky = 0u; ky < ${p.kernel[0]}u; ky++) {
      let py = bitcast<u32>(iy + i32(ky * ${p.dilations[0]}u));
      if (py < u.h) {
        let row = plane + py * u.w;
${body}
      }
    }`;

const wideRow = (
  p: Plane,
  tap: (kx: string, give: readonly (readonly [number, string])[]) => string,
): string => `        for (var kx = 0u; kx < ${p.kernel[1]}u; kx++) {
          let at = ix + i32(kx * ${p.dilations[1]}u);
          ${range(4)
            .map((j) => `let v${j} = pixel(row, at + ${j * p.strides[1]});`)
            .join(' ')}
          ${tap(
            'kx',
            range(4).map((j) => [j, `v${j}`]),
          )}
        }`;
const windowText = (p: Plane, tap: (kx: string, give: readonly (readonly [number, string])[]) => string): string =>
  rowsText(p, p.kernel[1] > UNROLLED ? wideRow(p, tap) : rowText(slide(p), tap));

const start = (p: Plane): string => `  let iy = i32(oy * ${p.strides[0]}u) - ${p.pads[0]};
  let ix = i32(ox * ${p.strides[1]}u) - ${p.pads[1]};`;

const stores = (FQ: number): string =>
  storeRows(
    FQ * 4,
    'first',
    'u.filters',
    (f) =>
      `vec4f(${range(4)
        .map((j) => `c${f >> 2}_${j}.${'xyzw'[f & 3]}`)
        .join(', ')})`,
    (i) => `put((y0 + ${i}) * area + at, v, left);`,
  );

/** A text of a plane, written once for each. */
function ofPlane<A extends readonly (string | number)[]>(
  write: (p: Plane, ...args: A) => string,
): (p: Plane, ...args: A) => string {
  let plane!: Plane;
  const text = remembered((_: string, ...args: A) => write(plane, ...args));
  return (p, ...args) => {
    plane = p;
    return text(`${p.kernel} ${p.strides} ${p.dilations} ${p.pads}`, ...args);
  };
}

/**
 * All channels of a group, by 4 FQ filters. `taken(quad, k)`: the weights of a quad of filters for channel and tap k.
 */
export const filtersTile = ofPlane((p, FQ: number, channels: string) =>
  accumulate(
    FQ,
    `${start(p)}
  for (var ch = 0u; ch < ${channels}; ch++) {
    let plane = (z * u.channels + ch) * u.h * u.w;
${windowText(p, (kx, give) => weighted(FQ, `(ch * ${p.kernel[0]}u + ky) * ${p.kernel[1]}u + ${kx}`, give))}
  }`,
  ),
);

const accumulate = (FQ: number, body: string): string => `fn tile(z: u32, first: u32, oy: u32, ox: u32) {
  let g = z % u.groups;
  let area = u.oh * u.ow;
  let y0 = z * u.filters + first;
  let at = oy * u.ow + ox;
  let left = u.ow - ox;
${range(FQ)
  .map((q) => `  let f${q} = take_filters(g, first + ${q * 4}u);`)
  .join('\n')}
${range(FQ)
  .map((q) =>
    range(4)
      .map((j) => `  var c${q}_${j} = vec4f(0.0);`)
      .join(''),
  )
  .join('\n')}
${body}
${stores(FQ)}
}`;
const weighted = (FQ: number, k: string, give: readonly (readonly [number, string])[]): string =>
  `{ let k = ${k}; ${range(FQ)
    .map((q) => `let w${q} = take_w(f${q}, k);`)
    .join(' ')} ${range(FQ)
    .flatMap((q) => give.map(([j, v]) => `c${q}_${j} += ${v} * w${q};`))
    .join(' ')} }`;

/** One filter of a group with one channel. `each`: filters a channel. */
export const depthwiseTile = ofPlane(
  (p) => `fn tile(z: u32, first: u32, oy: u32, ox: u32) {
  let g = z % u.groups;
${start(p)}
  let plane = z * u.h * u.w;
  let w0 = (g * u.filters + first) * ${p.kernel[0] * p.kernel[1]}u;
  var c = vec4f(0.0);
${windowText(p, (kx, give) => `c += load_weights(w0 + ky * ${p.kernel[1]}u + ${kx}) * vec4f(${give.map(([, v]) => v).join(', ')});`)}
  put(((z * u.filters + first) * u.oh + oy) * u.ow + ox, c, u.ow - ox);
}`,
);

/** Transposed: every output gathers the taps that reach it, those of its stride's phase. */
export const transposedTile = ofPlane((p, FQ: number, channels: string) => {
  const [SH, SW] = p.strides;
  const [KH, KW] = p.kernel;
  const [DH, DW] = p.dilations;
  const k = (kx: string): string => `(ch * ${KH}u + ky) * ${KW}u + ${kx}`;
  // Where the stride divides four, each of the four outputs has the same phase in every invocation.
  const even = 4 % SW === 0 && KW <= 4 * UNROLLED;
  const taps = range(KW).map((kx) => ({
    kx,
    give: range(4).flatMap((j): [number, number][] => {
      const t = j + p.pads[1] - kx * DW;
      return t % SW === 0 ? [[j, t / SW]] : [];
    }),
  }));
  const one = (j: number): string =>
    DW === 1
      ? `{ let t = ox + ${j + p.pads[1]}u; for (var kx = t % ${SW}u; kx < ${KW}u; kx += ${SW}u) { let v = pixel(row, (i32(t) - i32(kx)) / ${SW}); ${weighted(FQ, k('kx'), [[j, 'v']])} } }`
      : `for (var kx = 0u; kx < ${KW}u; kx++) { let t = i32(ox + ${j + p.pads[1]}u) - i32(kx * ${DW}u); if (t >= 0 && t % ${SW} == 0) { let v = pixel(row, t / ${SW}); ${weighted(FQ, k('kx'), [[j, 'v']])} } }`;
  const row = even
    ? rowText({ left: 'ix', taps }, (kx, give) => weighted(FQ, k(kx), give))
    : range(4)
        .map((j) => `        ${one(j)}`)
        .join('\n');
  const ky =
    DH === 1 ? `for (var ky = ty % ${SH}u; ky < ${KH}u; ky += ${SH}u)` : `for (var ky = 0u; ky < ${KH}u; ky++)`;
  return accumulate(
    FQ,
    `  let ty = oy + ${p.pads[0]}u;
  let ix = i32(ox / ${SW}u);
  for (var ch = 0u; ch < ${channels}; ch++) {
    let plane = (z * u.channels + ch) * u.h * u.w;
    ${ky} {
      let ry = i32(ty) - i32(ky * ${DH}u);
      if (ry >= 0${DH === 1 ? '' : ` && ry % ${SH} == 0`} && ry / ${SH} < i32(u.h)) {
        let row = plane + u32(ry / ${SH}) * u.w;
${row}
      }
    }
  }`,
  );
});
