/**
 * Attention of a row in one dispatch: an invocation a row for software adapters, a workgroup a row where there are few
 * queries.
 */
import type { GpuCaps } from '../../src/core/plan.ts';
import { attentionLane, attentionRow } from '../../wgsl/index.gen.ts';
import type { Launch } from '../define.ts';
import { tileUniforms, type Variant } from './attention-flash.ts';
import { adjustText, putScratch, putText, sinkText, takeText, type Work } from './attention.ts';
import { grid } from './grid.ts';

const rowsOf = (w: Work): number => w.batch * w.heads * w.queries;

/** The launch of a module with slots q, k, v, put, adjust and sink. */
function launches(
  w: Work,
  caps: GpuCaps,
  first: number,
  of: Pick<Launch, 'module' | 'params' | 'workgroups'> & {
    readonly slots?: Record<string, string>;
    readonly uniforms?: Record<string, number>;
  },
): readonly Launch[] {
  const [q, k, v] = [
    takeText('q', w.q, w.size, caps),
    takeText('k', w.k, w.size, caps),
    takeText('v', w.v, w.valueSize, caps, 'u.value_size'),
  ];
  const put = putText(w, caps, first, 'u.value_size');
  return [
    {
      ...of,
      types: { ...q.types, ...k.types, ...v.types, ...put.types, ...w.riders.types },
      slots: {
        take_q: q.text,
        take_k: k.text,
        take_v: v.text,
        put: put.text,
        adjust: adjustText(w),
        sink: sinkText(w),
        ...of.slots,
      },
      uniforms: { ...tileUniforms(w), ...of.uniforms },
      bind: [w.q.ref, w.k.ref, w.v.ref, put.y],
      extra: w.riders.extra,
      extraUniforms: w.riders.extraUniforms,
    },
    ...put.after,
  ];
}

/** Everything an invocation keeps, by name: a query, and what it has summed. */
function laneText(w: Work): string {
  const own = Array.from({ length: Math.ceil(w.size / 4) }, (_, d) => d);
  const values = Array.from({ length: Math.ceil(w.valueSize / 4) }, (_, d) => d);
  const each = (list: readonly number[], f: (d: number) => string): string => list.map(f).join(' ');
  return `fn attend(b: u32, h: u32, i: u32) {
  let g = h / u.share;
  let query = row_at(u.q_lies, b, h, i);
  ${each(own, (d) => `let q${d} = take_q(query, ${4 * d}u);`)}
  ${each(values, (d) => `var o${d} = vec4f(0.0);`)}
  var top = sink(h);
  var sum = select(0.0, 1.0, top > LOWEST_F32);
  let begin = u32(clamp(first_key(b, i), 0, i32(u.keys)));
  let end = u32(clamp(end_key(b, i), 0, i32(u.keys)));
  for (var j = begin; j < end; j++) {
    let key = row_at(u.k_lies, b, g, j);
    var s = (${own.map((d) => `dot(q${d}, take_k(key, ${4 * d}u))`).join(' + ')}) * u.scale;
    if (u.softcap != 0.0) { s = u.softcap * safe_tanh(s / u.softcap); }
    s = bias(s, b, h, i, j);
    if (s > LOWEST_F32) {
      if (s > top) {
        let less = exp(top - s);
        top = s;
        sum *= less;
        ${each(values, (d) => `o${d} *= less;`)}
      }
      let p = exp(s - top);
      sum += p;
      let at = row_at(u.v_lies, b, g, j);
      ${each(values, (d) => `o${d} += p * take_v(at, ${4 * d}u);`)}
    }
  }
  let by = select(0.0, 1.0 / sum, sum > 0.0);
  let to = row_at(u.y_lies, b, h, i);
  ${each(values, (d) => `put(to, ${4 * d}u, o${d} * by);`)}
}`;
}

/** Longer rows of names than this compile slowly. */
const WIDEST = 128;
/** Rows that are worth more than work shared among the keys of each. */
const ROWS = 16;
const LONG = 256;

export const lane: Variant = {
  name: 'lane',
  accepts: (w, caps) =>
    caps.software && Math.max(w.size, w.valueSize) <= WIDEST && (rowsOf(w) >= ROWS || w.keys <= LONG),
  scratch: putScratch,
  launches: (w, caps, first) => {
    // Two vectors of a CPU: few rows are spread over its cores, too.
    const WG = 8;
    return launches(w, caps, first, {
      module: attentionLane,
      params: { WG },
      workgroups: grid(rowsOf(w), WG),
      slots: { attend: laneText(w) },
      uniforms: { count: rowsOf(w) },
    });
  },
};

const HELD = 1024;
export const row: Variant = {
  name: 'row',
  accepts: (w, caps) =>
    !caps.software &&
    w.keys <= HELD &&
    w.queries <= 65535 &&
    w.heads <= 65535 &&
    w.batch <= 65535 &&
    Math.max(w.size, w.valueSize) <= 512 &&
    rowsOf(w) * w.keys <= 2 ** 20,
  scratch: putScratch,
  launches: (w, caps, first) => {
    const WG = w.keys > 128 ? 128 : 64;
    const LANES = Math.min(WG, 2 ** Math.ceil(Math.log2(Math.ceil(w.valueSize / 4))));
    return launches(w, caps, first, {
      module: attentionRow,
      params: { WG, HELD, LANES },
      workgroups: [w.queries, w.heads, w.batch],
    });
  },
};
