/** Attention by tiles, for hardware and many queries. */
import type { GpuCaps } from '../../src/core/plan.ts';
import { attentionFlash } from '../../wgsl/index.gen.ts';
import type { GpuKernel, Launch } from '../define.ts';
import { adjustText, inFours, liesOf, sinkText, takeText, type Work } from './attention.ts';
import { isPacked } from './elem.ts';

/** Another way to run an attention; its scratch begins at `first`. */
export interface Variant {
  readonly name: string;
  readonly accepts: (w: Work, caps: GpuCaps) => boolean;
  readonly tunables?: NonNullable<GpuKernel['tunables']>;
  readonly scratch: (w: Work, caps: GpuCaps) => readonly number[];
  readonly launches: (
    w: Work,
    caps: GpuCaps,
    first: number,
    tuned: Readonly<Record<string, number>>,
  ) => readonly Launch[];
}

/** Rows of query, key and value that tiles can read and write: whole fours. */
export const inTiles = (w: Work): boolean =>
  inFours(w.q, w.size) && inFours(w.k, w.size) && inFours(w.v, w.valueSize) && inFours(w.y, w.valueSize);
/** Slots q, k, v, put, adjust and sink, and their types. */
export function tileSlots(w: Work, caps: GpuCaps): { types: Launch['types']; slots: Record<string, string> } {
  const [q, k, v] = [
    takeText('q', w.q, w.size, caps),
    takeText('k', w.k, w.size, caps),
    takeText('v', w.v, w.valueSize, caps),
  ];
  return {
    types: { ...q.types, ...k.types, ...v.types, ...w.riders.types },
    slots: { take_q: q.text, take_k: k.text, take_v: v.text, adjust: adjustText(w), sink: sinkText(w) },
  };
}
export const tileUniforms = (w: Work): Record<string, number | readonly number[]> => ({
  heads: w.heads,
  share: w.heads / w.kvHeads,
  queries: w.queries,
  keys: w.keys,
  size: w.size,
  value_size: w.valueSize,
  scale: w.scale,
  softcap: w.softcap,
  q_lies: liesOf(w.q),
  k_lies: liesOf(w.k),
  v_lies: liesOf(w.v),
  y_lies: liesOf(w.y),
});

interface Tile {
  readonly R: number;
  readonly C: number;
  readonly QUADS: number;
}
const bytesOfTile = ({ R, C, QUADS }: Tile): number => 4 * (C * 8 * QUADS * 4 + R * 16 * C * 8 + R * 16 * 8);
const roomFor = (tile: Tile, caps: GpuCaps): boolean => bytesOfTile(tile) <= caps.limits.maxComputeWorkgroupStorageSize;
/**
 * 8 C keys and 16 R queries a tile: unless asked otherwise, keys that take 8 KiB, and queries as workgroup memory and
 * registers allow.
 */
function tileOf(w: Work, caps: GpuCaps, tuned: Readonly<Record<string, number>> = {}): Tile {
  const widest = Math.max(w.size, w.valueSize);
  const C = widest <= 64 ? 4 : widest <= 128 ? 2 : 1;
  const tile = { R: 4, C, QUADS: widest / 4 };
  const own = widest <= 128 && roomFor(tile, caps) ? tile : { ...tile, R: 2 };
  const asked = { ...own, R: tuned.R ?? own.R, C: tuned.C ?? own.C };
  return roomFor(asked, caps) ? asked : own;
}

/** The slot `attend`: everything an invocation keeps, in registers by name. */
function attendText(w: Work, { R, C }: Pick<Tile, 'R' | 'C'>): string {
  const rows = Array.from({ length: R }, (_, i) => i);
  const own = Array.from({ length: C }, (_, c) => c);
  const columns = Array.from({ length: Math.ceil(w.valueSize / 32) }, (_, d) => d);
  const each = <T>(list: readonly T[], f: (v: T) => string): string => list.map(f).join('\n');
  const last = `${w.valueSize / 4 - 1}u`;
  const column = (d: number): string =>
    d * 8 + 7 < w.valueSize / 4 ? `tx + ${d * 8}u` : `min(tx + ${d * 8}u, ${last})`;
  return `fn attend(b: u32, h: u32, first: u32, lid: u32) {
  let tx = lid & 7u;
  let r0 = (lid >> 3u) * ${R}u;
  let i0 = first + r0;
  let g = h / u.share;
  ${each(rows, (i) => `let q${i} = row_at(u.q_lies, b, h, min(i0 + ${i}u, u.queries - 1u)); var m${i} = LOWEST_F32; var l${i} = 0.0; ${each(columns, (d) => `var o${i}_${d} = vec4f(0.0);`)}`)}
  let begin = u32(clamp(first_key(b, first), 0, i32(u.keys)));
  let end = u32(clamp(end_key(b, min(first + BQ, u.queries) - 1u), 0, i32(u.keys)));
  for (var j0 = begin; j0 < end; j0 += BC) {
    hold_k(b, g, j0, lid);
    workgroupBarrier();
    ${each(rows, (i) => each(own, (c) => `var s${i}_${c} = 0.0;`))}
    for (var d = 0u; d < ${w.size / 4}u; d++) {
      ${each(own, (c) => `let k${c} = held[(tx * ${C}u + ${c}u) * QUADS + d];`)}
      ${each(rows, (i) => `let a${i} = take_q(q${i}, d * 4u); ${each(own, (c) => `s${i}_${c} += dot(a${i}, k${c});`)}`)}
    }
    let j = j0 + tx * ${C}u;
    ${each(rows, (i) => `${each(own, (c) => `s${i}_${c} = score(s${i}_${c}, b, h, i0 + ${i}u, j + ${c}u);`)}\n    tops[(r0 + ${i}u) * 8u + tx] = ${own.map((c) => `s${i}_${c}`).reduce((p, q) => `max(${p}, ${q})`)};`)}
    workgroupBarrier();
    hold_v(b, g, j0, lid);
    ${each(
      rows,
      (i) => `{
      var top = m${i};
      for (var t = 0u; t < 8u; t++) { top = max(top, tops[(r0 + ${i}u) * 8u + t]); }
      let less = exp2((m${i} - top) * 1.4426950408889634);
      m${i} = top;
      l${i} *= less;
      ${each(columns, (d) => `o${i}_${d} *= less;`)}
      ${each(own, (c) => `{ let p = weigh(s${i}_${c}, top); l${i} += p; weights[(r0 + ${i}u) * BC + tx * ${C}u + ${c}u] = p; }`)}
    }`,
    )}
    workgroupBarrier();
    for (var t = 0u; t < BC; t++) {
      ${each(columns, (d) => `let v${d} = held[t * QUADS + ${column(d)}];`)}
      ${each(rows, (i) => `{ let p = weights[(r0 + ${i}u) * BC + t]; if (p != 0.0) { ${each(columns, (d) => `o${i}_${d} += p * v${d};`)} } }`)}
    }
    workgroupBarrier();
  }
  let extra_logit = sink(h);
  ${each(rows, (i) => `tops[(r0 + ${i}u) * 8u + tx] = l${i};`)}
  workgroupBarrier();
  ${each(
    rows,
    (i) => `if (i0 + ${i}u < u.queries) {
    let top = max(m${i}, extra_logit);
    let less = exp2((m${i} - top) * 1.4426950408889634);
    var sum = 0.0;
    for (var t = 0u; t < 8u; t++) { sum += tops[(r0 + ${i}u) * 8u + t]; }
    sum = sum * less + weigh(extra_logit, top);
    let by = select(0.0, less / sum, sum > 0.0);
    let to = row_at(u.y_lies, b, h, i0 + ${i}u);
    ${each(columns, (d) => `${d * 8 + 7 < w.valueSize / 4 ? '' : `if (tx + ${d * 8}u <= ${last}) `}{ put(to, (tx + ${d * 8}u) * 4u, o${i}_${d} * by); }`)}
  }`,
  )}
}`;
}

export const flash: Variant = {
  name: 'flash',
  accepts: (w, caps) =>
    !caps.software &&
    inTiles(w) &&
    w.queries >= 8 &&
    Math.max(w.size, w.valueSize) <= 256 &&
    roomFor(tileOf(w, caps), caps) &&
    caps.limits.maxComputeInvocationsPerWorkgroup >= 128 &&
    w.heads <= 65535 &&
    w.batch <= 65535 &&
    Math.ceil(w.queries / 16) <= 65535,
  tunables: { R: [1, 2, 4], C: [1, 2, 4] },
  scratch: () => [],
  launches: (w, caps, _, tuned) => {
    const tile = tileOf(w, caps, tuned);
    const { types, slots } = tileSlots(w, caps);
    const packed = isPacked(w.y.elem, caps) || w.y.elem !== 'f32';
    const put = packed ? 'store4_y((at + d) >> 2u, v.x, v.y, v.z, v.w);' : 'y[(at + d) >> 2u] = v;';
    return [
      {
        module: attentionFlash,
        params: { BQ: tile.R * 16, BC: tile.C * 8, QUADS: tile.QUADS },
        types: { ...types, ...(packed ? { y: w.y.elem } : {}) },
        slots: {
          ...slots,
          put: `${packed ? '' : 'alias YStore = vec4f;\n'}fn put(at: u32, d: u32, v: vec4f) { ${put} }`,
          attend: attendText(w, tile),
        },
        uniforms: tileUniforms(w),
        workgroups: [Math.ceil(w.queries / (tile.R * 16)), w.heads, w.batch],
        bind: [w.q.ref, w.k.ref, w.v.ref, w.y.ref],
        extra: w.riders.extra,
        extraUniforms: w.riders.extraUniforms,
      },
    ];
  },
};
