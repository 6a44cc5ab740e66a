/**
 * Attention on plain strided tensors: three dispatches that run anywhere, and how tiles and split rows say what they
 * read.
 */
import type { DType } from '../../src/core/dtype.ts';
import type { Fact } from '../../src/core/graph.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import {
  attentionRows,
  attentionScores,
  attentionSoftmax,
  attentionSoftmaxGroup,
  attentionValues,
} from '../../wgsl/index.gen.ts';
import type { Heads } from '../attention-core.ts';
import type { Launch, Ref } from '../define.ts';
import { constant, input, kindOf, x } from '../expr.ts';
import { isPacked } from './elem.ts';
import { grid, groups } from './grid.ts';
import { mapLaunch } from './map.ts';
import type { Member } from './operands.ts';

/** The least float32: what a masked score is. Nothing else scores as little, see `adjust`. */
export const LOWEST = -3.4028234663852886e38;

/** Heads of rows in memory: element (b, h, row, d) is at `at + b batch + h head + row row + d`. */
export interface Lies {
  readonly ref: Ref;
  readonly elem: Elem;
  readonly at: number;
  readonly batch: number;
  readonly head: number;
  readonly row: number;
}
/** [batch, steps, width], of which a row holds the heads side by side from `at` on. */
export const sideBySide = (
  ref: Ref,
  elem: Elem,
  steps: number,
  size: number,
  width: number,
  at = 0,
  head = size,
): Lies => ({ ref, elem, at, batch: steps * width, head, row: width });
/** [batch, heads, steps, size]. */
export const stacked = (ref: Ref, elem: Elem, heads: number, steps: number, size: number): Lies => ({
  ref,
  elem,
  at: 0,
  batch: heads * steps * size,
  head: steps * size,
  row: size,
});

/** Read-only bindings and uniforms that slots use. */
export interface Riders {
  readonly types: Readonly<Record<string, Elem>>;
  readonly extra: NonNullable<Launch['extra']>;
  readonly extraUniforms: readonly Member[];
}
export const NO_RIDERS: Riders = { types: {}, extra: [], extraUniforms: [] };
export const together = (...all: readonly Riders[]): Riders => ({
  types: Object.assign({}, ...all.map((r) => r.types)),
  extra: all.flatMap((r) => r.extra),
  extraUniforms: all.flatMap((r) => r.extraUniforms),
});

/** One attention over tensors that are all there. */
export interface Work extends Heads {
  readonly q: Lies;
  readonly k: Lies;
  readonly v: Lies;
  readonly y: Lies;
  readonly out: Fact;
  readonly scale: number;
  readonly softcap: number;
  /**
   * `fn first_key(b: u32, i: u32) -> i32`, `fn end_key(b: u32, i: u32) -> i32`: which keys query i may see, neither falling as i grows; and
   * `fn bias(s: f32, b: u32, h: u32, i: u32, j: u32) -> f32`: the score with its masks, `LOWEST_F32` for a key that is masked.
   */
  readonly rules: string;
  readonly riders: Riders;
  /** A further logit of each head's sum: "load_sink(h)", or a number; undefined: none. */
  readonly sink?: string | undefined;
  /**
   * Rows of scores that somebody wants: where, of what type, and after which stage (3: probabilities). `keys` of each.
   */
  readonly seen?:
    | { readonly output: number; readonly dtype: DType; readonly stage: number; readonly keys: number }
    | undefined;
}

/** The slot `adjust` of scores. */
export const adjustText = (w: Work): string =>
  `${w.rules}\nfn adjust(s: f32, b: u32, h: u32, i: u32, j: u32) -> f32 {\n  if (i32(j) < first_key(b, i) || i32(j) >= end_key(b, i)) { return LOWEST_F32; }\n  return bias(s, b, h, i, j);\n}`;
export const sinkText = (w: Work): string => `fn sink(h: u32) -> f32 { return ${w.sink ?? 'LOWEST_F32'}; }`;
export const liesOf = (l: Lies): readonly number[] => [l.at, l.batch, l.head, l.row];

const four = (n: number): boolean => n % 4 === 0;
/** Do rows of `size` elements consist of aligned fours? */
export const inFours = (l: Lies, size: number): boolean => [size, ...liesOf(l)].every(four);

/**
 * `fn take_NAME(at, d)`: elements d .. d+3 of the row at `at`, zero behind the last of `width`; and the binding's type.
 */
export function takeText(
  name: string,
  l: Lies,
  size: number,
  caps: GpuCaps,
  width = 'u.size',
): { types: Record<string, Elem>; text: string } {
  const head = `fn take_${name}(at: u32, d: u32) -> vec4f`;
  if (!inFours(l, size)) {
    const rest = [1, 2, 3].map(
      (c) => `select(0.0, load_${name}(at + min(d + ${c}u, ${width} - 1u)), d + ${c}u < ${width})`,
    );
    return { types: { [name]: l.elem }, text: `${head} { return vec4f(load_${name}(at + d), ${rest.join(', ')}); }` };
  }
  const Store = `${name.toUpperCase()}Store`;
  if (l.elem === 'f32')
    return { types: {}, text: `alias ${Store} = vec4f;\n${head} { return ${name}[(at + d) >> 2u]; }` };
  if (l.elem === 'f16' && caps.f16)
    return {
      types: { half: 'f16' },
      text: `alias ${Store} = vec4<f16>;\n${head} { return vec4f(${name}[(at + d) >> 2u]); }`,
    };
  return { types: { [name]: l.elem }, text: `${head} { return load4_${name}((at + d) >> 2u); }` };
}

/** Must the result be made as f32 first, because its rows share words? */
export const wide = (w: Work, caps: GpuCaps): boolean => isPacked(w.y.elem, caps) && !inFours(w.y, w.valueSize);

/** `fn put(at, d, v)` of the output, of which elements up to `size` exist. `y` is where it goes. */
export function putText(
  w: Work,
  caps: GpuCaps,
  scratch: number,
  size = 'u.size',
): { types: Record<string, Elem>; text: string; y: Ref; after: readonly Launch[] } {
  const spread = wide(w, caps);
  const elem = spread ? 'f32' : w.y.elem;
  const whole = inFours(w.y, w.valueSize);
  const one = (c: number): string => `store_y(at + d${c ? ` + ${c}u` : ''}, v.${'xyzw'[c]});`;
  const text = whole
    ? 'store4_y((at + d) >> 2u, v.x, v.y, v.z, v.w);'
    : `${one(0)} ${[1, 2, 3].map((c) => `if (d + ${c}u < ${size}) { ${one(c)} }`).join(' ')}`;
  const after = spread
    ? [
        mapLaunch(x.cast(input(0, 'f32'), kindOf(w.out.dtype)!), w.out, w.y.ref, [
          { fact: { dtype: 'float32', shape: w.out.shape }, bind: { scratch } },
        ]),
      ]
    : [];
  return {
    types: { y: elem },
    text: `fn put(at: u32, d: u32, v: vec4f) { ${text} }`,
    y: spread ? { scratch } : w.y.ref,
    after,
  };
}
/** Bytes of scratch that `putText` needs. */
export const putScratch = (w: Work, caps: GpuCaps): number[] => (wide(w, caps) ? [sizeOf(w.out.shape) * 4] : []);

const WG = 64;
/**
 * Scores, softmax, weighted sums. Scratch `first`: the scores; then that of rows that are `seen`, then that of
 * `putText`.
 */
export function stepsScratch(w: Work, caps: GpuCaps): number[] {
  const rows = w.batch * w.heads * w.queries;
  return [rows * w.keys * 4, ...(w.seen ? [rows * w.seen.keys * 4] : []), ...putScratch(w, caps)];
}
export function stepsLaunches(w: Work, caps: GpuCaps, first: number): readonly Launch[] {
  const rows = w.batch * w.heads * w.queries;
  const share = w.heads / w.kvHeads;
  const scratch: Ref = { scratch: first };
  const q = takeText('q', w.q, w.size, caps);
  const k = takeText('k', w.k, w.size, caps);
  const v = takeText('v', w.v, w.valueSize, caps);
  const scores = (to: Ref, keys: number, stage: number): Launch => {
    const count = rows * Math.ceil(keys / 4);
    return {
      module: attentionScores,
      params: { WG, STAGE: stage },
      types: { ...q.types, ...k.types, ...w.riders.types },
      slots: { take_q: q.text, take_k: k.text, adjust: adjustText(w) },
      uniforms: {
        count,
        heads: w.heads,
        share,
        queries: w.queries,
        keys,
        size: w.size,
        scale: w.scale,
        softcap: w.softcap,
        q_lies: liesOf(w.q),
        k_lies: liesOf(w.k),
      },
      workgroups: grid(count, WG),
      bind: [w.q.ref, w.k.ref, to],
      extra: w.riders.extra,
      extraUniforms: w.riders.extraUniforms,
    };
  };
  const seen: Launch[] = [];
  if (w.seen) {
    const { keys, stage, dtype } = w.seen;
    const shape = [w.batch, w.heads, w.queries, keys];
    const fact: Fact = { dtype: 'float32', shape };
    const from: Ref = { scratch: first + 1 };
    const minus = x.select(x.eq(input(0, 'f32'), constant(LOWEST, 'f32')), constant(-Infinity, 'f32'), input(0, 'f32'));
    if (stage < 3) seen.push(scores(from, keys, stage));
    else
      seen.push(
        rowsLaunch(
          stacked(scratch, 'f32', w.heads, w.queries, w.keys),
          { batch: w.batch, heads: w.heads, rows: w.queries, size: keys },
          from,
          'f32',
          caps,
          'return fresh(b, h, n, d);',
        ),
      );
    seen.push(
      mapLaunch(x.cast(minus, kindOf(dtype)!), { dtype, shape }, { output: w.seen.output }, [{ fact, bind: from }]),
    );
  }
  const lane = caps.software || w.keys <= 64;
  const sinkRiders = w.riders.extra.filter((e) => e.name === 'sinks');
  const softmax: Launch = {
    module: lane ? attentionSoftmax : attentionSoftmaxGroup,
    params: { WG: lane ? WG : 128 },
    types: sinkRiders.length > 0 ? { sinks: w.riders.types.sinks! } : {},
    slots: { sink: sinkText(w) },
    uniforms: { rows, n: w.keys, queries: w.queries, heads: w.heads },
    workgroups: lane ? grid(rows, WG) : groups(rows),
    bind: [scratch],
    extra: sinkRiders,
  };
  const put = putText(w, caps, first + (w.seen ? 2 : 1));
  const count = rows * Math.ceil(w.valueSize / 4);
  const values: Launch = {
    module: attentionValues,
    params: { WG },
    types: { ...v.types, ...put.types },
    slots: { take_v: v.text, put: put.text },
    uniforms: {
      count,
      heads: w.heads,
      share,
      queries: w.queries,
      keys: w.keys,
      size: w.valueSize,
      v_lies: liesOf(w.v),
      y_lies: liesOf(w.y),
    },
    workgroups: grid(count, WG),
    bind: [scratch, w.v.ref, put.y],
  };
  return [scores(scratch, w.keys, 2), softmax, values, ...seen, ...put.after];
}

/**
 * Heads made one after another: [batch, heads, rows, size] = value(b, h, n, d), text that may call `fresh(b, h, row,
 * d)` for elements of `from`.
 */
export function rowsLaunch(
  from: Lies,
  s: { batch: number; heads: number; rows: number; size: number; past?: number },
  to: Ref,
  elem: Elem,
  caps: GpuCaps,
  value: string,
  riders: Riders = NO_RIDERS,
): Launch {
  const count = s.batch * s.heads * s.rows * s.size;
  const PER = isPacked(elem, caps) ? 4 : 1;
  return {
    module: attentionRows,
    types: { x: from.elem, y: elem, ...riders.types },
    params: { WG, PER },
    slots: { value: valueText(value), write: writeText(PER) },
    uniforms: { count, heads: s.heads, rows: s.rows, size: s.size, past: s.past ?? 0, x_lies: liesOf(from) },
    workgroups: grid(Math.ceil(count / PER), WG),
    bind: [from.ref, to],
    extra: riders.extra,
    extraUniforms: riders.extraUniforms,
  };
}
/** Slots of attention_rows and attention_turn. */
export const valueText = (body: string): string => `fn value(b: u32, h: u32, n: u32, d: u32) -> f32 {\n  ${body}\n}`;
export const writeText = (PER: number): string =>
  PER === 1
    ? 'fn write(q: u32, last: u32) { store_y(q, element(q)); }'
    : 'fn write(q: u32, last: u32) { let i = q * 4u; store4_y(q, element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))); }';
