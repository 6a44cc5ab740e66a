/**
 * Attention of few queries over many keys, for hardware: keys are split among workgroups, and a second dispatch merges
 * (flash-decoding).
 */
import { attentionMerge, attentionSplit } from '../../wgsl/index.gen.ts';
import { inTiles, tileSlots, tileUniforms, type Variant } from './attention-flash.ts';
import { liesOf, putText, sinkText, type Work } from './attention.ts';
import { grid } from './grid.ts';

const WG = 128;
const rowsOf = (w: Work): number => (w.heads / w.kvHeads) * w.queries;
interface Sizes {
  readonly ROWS: number;
  readonly QUADS: number;
  readonly blocks: number;
  readonly chunks: number;
}
function sizesOf(w: Work): Sizes {
  const QUADS = Math.max(w.size, w.valueSize) / 4;
  const ROWS = Math.min(rowsOf(w), QUADS <= 32 ? 8 : 4);
  return { ROWS, QUADS, blocks: Math.ceil(rowsOf(w) / ROWS), chunks: Math.ceil(w.keys / WG) };
}
const partBytes = (w: Work, s: Sizes): number =>
  w.batch * w.kvHeads * s.blocks * s.chunks * s.ROWS * (s.QUADS + 1) * 16;
const memory = (s: Sizes): number => s.ROWS * s.QUADS * 16 + s.ROWS * WG * 4 + WG * 16;

/** The slot `part`: an invocation scores one key for every row, then sums four elements of a share of the values. */
function partText(w: Work, { ROWS, QUADS }: Sizes): string {
  const rows = Array.from({ length: ROWS }, (_, r) => r);
  const each = (f: (r: number) => string): string => rows.map(f).join('\n  ');
  const quads = w.valueSize / 4;
  const lanes = 2 ** Math.ceil(Math.log2(quads));
  const ways = WG / lanes;
  return `fn head_of(g: u32, row: u32) -> u32 { return g * u.share + min(row, u.share * u.queries - 1u) / u.queries; }
fn query_of(row: u32) -> u32 { return min(row, u.share * u.queries - 1u) % u.queries; }
fn part(b: u32, g: u32, row0: u32, j0: u32, to: u32, lid: u32) {
  for (var e = lid; e < ${ROWS * (w.size / 4)}u; e += WG) {
    let r = e / ${w.size / 4}u;
    let d = e - r * ${w.size / 4}u;
    queries[r * QUADS + d] = take_q(row_at(u.q_lies, b, head_of(g, row0 + r), query_of(row0 + r)), d * 4u);
  }
  workgroupBarrier();
  let j = j0 + lid;
  let at = row_at(u.k_lies, b, g, min(j, u.keys - 1u));
  ${each((r) => `var s${r} = 0.0;`)}
  for (var d = 0u; d < ${w.size / 4}u; d++) {
    let key = take_k(at, d * 4u);
    ${each((r) => `s${r} += dot(queries[${r * QUADS}u + d], key);`)}
  }
  ${each((r) => `weights[${r}u * WG + lid] = score(s${r}, b, head_of(g, row0 + ${r}u), query_of(row0 + ${r}u), j);`)}
  workgroupBarrier();
  // A row's greatest score and its sum of weights, by an invocation a row; then the weights themselves.
  if (lid < ${ROWS}u) {
    var top = LOWEST_F32;
    for (var t = 0u; t < WG; t++) { top = max(top, weights[lid * WG + t]); }
    var sum = 0.0;
    for (var t = 0u; t < WG; t++) { let s = weights[lid * WG + t]; sum += select(0.0, exp(s - top), s > LOWEST_F32); }
    sums[lid] = vec4f(top, sum, 0.0, 0.0);
    y[to + lid * (QUADS + 1u) + QUADS] = sums[lid];
  }
  workgroupBarrier();
  ${each((r) => `{ let s = weights[${r}u * WG + lid]; weights[${r}u * WG + lid] = select(0.0, exp(s - sums[${r}].x), s > LOWEST_F32); }`)}
  workgroupBarrier();
  let lane = lid & ${lanes - 1}u;
  let way = lid / ${lanes}u;
  let d = min(lane, ${quads - 1}u) * 4u;
  let values = row_at(u.v_lies, b, g, 0u);
  ${each((r) => `var o${r} = vec4f(0.0);`)}
  for (var t = way; t < WG; t += ${ways}u) {
    if (j0 + t < u.keys) {
      let value = take_v(values + (j0 + t) * u.v_lies.w, d);
      ${each((r) => `{ let p = weights[${r}u * WG + t]; if (p != 0.0) { o${r} += p * value; } }`)}
    }
  }
  ${each(
    (r) => `workgroupBarrier();
  sums[lid] = o${r};
  workgroupBarrier();
  if (lid < ${quads}u) {
    var all = vec4f(0.0);
    for (var t = 0u; t < ${ways}u; t++) { all += sums[t * ${lanes}u + lid]; }
    y[to + ${r}u * (QUADS + 1u) + lid] = all;
  }`,
  )}
}`;
}

export const split: Variant = {
  name: 'split',
  accepts: (w, caps) => {
    if (
      caps.software ||
      !inTiles(w) ||
      rowsOf(w) > 32 ||
      w.queries >= 8 ||
      w.keys < WG ||
      Math.max(w.size, w.valueSize) > 256
    )
      return false;
    const s = sizesOf(w);
    return (
      memory(s) <= caps.limits.maxComputeWorkgroupStorageSize &&
      caps.limits.maxComputeInvocationsPerWorkgroup >= WG &&
      s.chunks <= 65535 &&
      w.kvHeads * s.blocks <= 65535 &&
      w.batch <= 65535 &&
      partBytes(w, s) <= caps.limits.maxStorageBufferBindingSize
    );
  },
  scratch: (w) => [partBytes(w, sizesOf(w))],
  launches: (w, caps, first) => {
    const s = sizesOf(w);
    const {
      types,
      slots: { sink: _, ...slots },
    } = tileSlots(w, caps);
    const put = putText(w, caps, first + 1);
    const count = w.batch * w.heads * w.queries * (w.valueSize / 4);
    const sinks = w.riders.extra.filter((e) => e.name === 'sinks');
    return [
      {
        module: attentionSplit,
        params: { WG, ROWS: s.ROWS, QUADS: s.QUADS },
        types,
        slots: { ...slots, part: partText(w, s) },
        uniforms: { ...tileUniforms(w), blocks: s.blocks, chunks: s.chunks },
        workgroups: [s.chunks, w.kvHeads * s.blocks, w.batch],
        bind: [w.q.ref, w.k.ref, w.v.ref, { scratch: first }],
        extra: w.riders.extra,
        extraUniforms: w.riders.extraUniforms,
      },
      {
        module: attentionMerge,
        params: { WG: 64, ROWS: s.ROWS, QUADS: s.QUADS },
        types: { ...put.types, ...(sinks.length > 0 ? { sinks: w.riders.types.sinks! } : {}) },
        slots: { put: put.text, sink: sinkText(w) },
        uniforms: {
          count,
          heads: w.heads,
          share: w.heads / w.kvHeads,
          queries: w.queries,
          chunks: s.chunks,
          blocks: s.blocks,
          quads: w.valueSize / 4,
          y_lies: liesOf(w.y),
        },
        workgroups: grid(count, 64),
        bind: [{ scratch: first }, w.y.ref],
        extra: sinks,
      },
    ];
  },
};
