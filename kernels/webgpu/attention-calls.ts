/** Which attention each operator's call is: what to move first, and what then lies where. */
import type { Fact } from '../../src/core/graph.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { type Elem, VALUE_TYPE } from '../../wgsl/assemble.ts';
import { attentionTurn } from '../../wgsl/index.gen.ts';
import { attentionShape, groupedShape } from '../attention-shape.ts';
import { maskForm, multiShape, type ProjectedShape } from '../attention-microsoft-shape.ts';
import type { Heads } from '../attention-core.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import { broadcastStrides } from '../shapes.ts';
import { flash } from './attention-flash.ts';
import { lane, row } from './attention-row.ts';
import { split } from './attention-split.ts';
import {
  type Lies,
  liesOf,
  NO_RIDERS,
  type Riders,
  rowsLaunch,
  sideBySide,
  stacked,
  stepsLaunches,
  stepsScratch,
  together,
  valueText,
  type Work,
  writeText,
} from './attention.ts';
import { elemOf, isPacked, isReal, realElem } from './elem.ts';
import { wholeCopy } from './move.ts';
import type { Member } from './operands.ts';
import { productKernels } from './product-kernels.ts';
import { matrixOf } from './product.ts';
import { ofLast } from '../remembered.ts';

const member = (name: string, value: number, type: Member['type'] = 'u32'): Member => ({ name, type, value });
const rider = (name: string, elem: Elem, bind: Ref, ...extraUniforms: Member[]): Riders => ({
  types: { [name]: elem },
  extra: [{ name, bind }],
  extraUniforms,
});
/** A loaded number as f32, and whether a loaded flag is set. */
const asF32 = (elem: Elem, load: string): string =>
  elem === 'i64'
    ? `f32_of_i64(${load})`
    : elem === 'u64'
      ? `f32_of_u64(${load})`
      : VALUE_TYPE[elem] === 'f32'
        ? load
        : `f32(${load})`;
const asI32 = (elem: Elem, load: string): string => (elem === 'i64' ? `saturated_i32(${load})` : load);

/** What has to run before an attention, and the attention. Scratch 0 … of `scratch` is what `before` fills. */
export interface Resolved {
  readonly work: Work;
  readonly before: readonly Launch[];
  readonly scratch: readonly number[];
}
export type Resolve = (call: Call, caps: GpuCaps) => Resolved | null;

/**
 * Rows of scores with a bias or mask tensor that broadcasts to [batch, heads, queries, keys]; a shorter one masks the
 * keys that it lacks.
 */
export function biasOf(name: string, fact: Fact, ref: Ref, to: readonly number[]): { text: string; riders: Riders } {
  const last = fact.shape.at(-1)!;
  const columns = last === 1 && to[3] !== 1 ? to[3]! : last;
  const strides = broadcastStrides(fact.shape, [to[0]!, to[1]!, to[2]!, Math.max(columns, last)]);
  const elem = elemOf(fact.dtype)!;
  const load = `load_${name}(b * extra.${name}_b + h * extra.${name}_h + i * extra.${name}_i + j * extra.${name}_j)`;
  const short = columns < to[3]! ? `if (j >= extra.${name}_columns) { return LOWEST_F32; }` : '';
  const add =
    elem === 'bool'
      ? `if (!${load}) { return LOWEST_F32; }`
      : `let m_${name} = ${asF32(elem, load)};\n  if (is_inf(m_${name}) && m_${name} < 0.0) { return LOWEST_F32; }\n  v = max(v + m_${name}, -3.0e38);`;
  return {
    text: `${short}\n  ${add}`,
    riders: rider(
      name,
      elem,
      ref,
      ...['b', 'h', 'i', 'j'].map((d, n) => member(`${name}_${d}`, strides[n]!)),
      ...(short ? [member(`${name}_columns`, columns)] : []),
    ),
  };
}
export const rulesText = (first: string, end: string, bias: string): string =>
  [
    `fn first_key(b: u32, i: u32) -> i32 { return ${first}; }`,
    `fn end_key(b: u32, i: u32) -> i32 { return ${end}; }`,
    `fn bias(s: f32, b: u32, h: u32, i: u32, j: u32) -> f32 {\n  var v = s;\n  ${bias}\n  return v;\n}`,
  ].join('\n');

/**
 * Keys or values behind those of a cache, in an output or, if nobody wants them, in scratch; as they are where there is
 * no cache and no bias.
 */
function extended(
  call: Call,
  caps: GpuCaps,
  scratch: number[],
  before: Launch[],
  s: { readonly batch: number; readonly kvHeads: number; readonly past: number; readonly incoming: number },
  size: number,
  now: Lies,
  old: { readonly ref: Ref; readonly at: number } | null,
  to: Ref | null,
  shift: { readonly input: number; readonly at: number } | null,
): Lies {
  if (to === null && s.past === 0 && shift === null) return now;
  const wanted = to !== null && 'output' in to ? call.outputs[to.output]! : null;
  const elem = wanted ? realElem(wanted) : 'f32';
  const keys = s.past + s.incoming;
  const ref = to ?? { scratch: scratch.push(4 * s.batch * s.kvHeads * keys * size) - 1 };
  const kept = old !== null && s.past > 0;
  const text = `${kept ? 'if (n < u.past) { return load_old(extra.old_at + ((b * u.heads + h) * u.past + n) * u.size + d); }\n  ' : ''}return fresh(b, h, n - u.past, d)${shift ? ' + load_shift(extra.shift_at + h * u.size + d)' : ''};`;
  const riders = together(
    kept
      ? rider('old', realElem(call.inputs[(old.ref as { input: number }).input]!), old.ref, member('old_at', old.at))
      : NO_RIDERS,
    shift
      ? rider('shift', realElem(call.inputs[shift.input]!), { input: shift.input }, member('shift_at', shift.at))
      : NO_RIDERS,
  );
  before.push(
    rowsLaunch(
      now,
      { batch: s.batch, heads: s.kvHeads, rows: keys, size, past: s.past },
      ref,
      elem,
      caps,
      text,
      riders,
    ),
  );
  return stacked(ref, elem, s.kvHeads, keys, size);
}

// ── Attention ───────────────────────────────────────────────────────────────────────────────────────────────────────
const ofAttention: Resolve = (call, caps) => {
  const a = call.attrs;
  const s = attentionShape(call.inputs, a);
  const { batch, heads, kvHeads, queries, keys, size, valueSize, incoming } = s;
  const mask = call.inputs[3];
  if (![0, 1, 2, 4, 5].every((i) => isReal(call.inputs[i])) || (mask && elemOf(mask.dtype) === undefined)) return null;
  const lies = (i: number, steps: number, n: number, width: number): Lies => {
    const elem = realElem(call.inputs[i]!);
    return s.packed
      ? sideBySide({ input: i }, elem, steps, width, n * width)
      : stacked({ input: i }, elem, n, steps, width);
  };
  const scratch: number[] = [];
  const before: Launch[] = [];
  const both = [1, 2].map((i) =>
    extended(
      call,
      caps,
      scratch,
      before,
      s,
      i === 1 ? size : valueSize,
      lies(i, incoming, kvHeads, i === 1 ? size : valueSize),
      { ref: { input: 3 + i }, at: 0 },
      call.outputs[i] ? { output: i } : null,
      null,
    ),
  );
  const m = mask ? biasOf('mask', mask, { input: 3 }, [batch, heads, queries, keys]) : null;
  const lengths = call.inputs[6] ? rider('lengths', elemOf(call.inputs[6].dtype)!, { input: 6 }) : NO_RIDERS;
  const length = call.inputs[6] ? `i32(${asI32(elemOf(call.inputs[6].dtype)!, 'load_lengths(b)')})` : null;
  const position = `(i32(i) + ${length !== null && s.past === 0 ? `${length} - extra.queries` : 'extra.past'})`;
  const ends = [
    'extra.keys',
    ...(length === null ? [] : [length]),
    ...(a.is_causal ? [`${position} + 1`] : []),
    ...(a.right_window_size < 0 ? [] : [`${position} + extra.right + 1`]),
  ];
  const uniforms = [
    member('queries', queries, 'i32'),
    member('past', s.past, 'i32'),
    member('keys', keys, 'i32'),
    member('left', Math.min(a.left_window_size, keys), 'i32'),
    member('right', Math.min(a.right_window_size, keys), 'i32'),
  ];
  const y = call.outputs[0]!;
  return {
    before,
    scratch,
    work: {
      batch,
      heads,
      kvHeads,
      queries,
      keys,
      size,
      valueSize,
      q: lies(0, queries, heads, size),
      k: both[0]!,
      v: both[1]!,
      out: y,
      y: s.packed
        ? sideBySide({ output: 0 }, realElem(y), queries, valueSize, heads * valueSize)
        : stacked({ output: 0 }, realElem(y), heads, queries, valueSize),
      scale: a.scale ?? 1 / Math.sqrt(size),
      softcap: a.softcap,
      rules: rulesText(
        a.left_window_size < 0 ? '0' : `${position} - extra.left`,
        ends.reduce((p, q) => `min(${p}, ${q})`),
        m?.text ?? '',
      ),
      riders: together(lengths, m?.riders ?? NO_RIDERS, { types: {}, extra: [], extraUniforms: uniforms }),
      seen: call.outputs[3]
        ? { output: 3, dtype: call.outputs[3].dtype, stage: a.qk_matmul_output_mode, keys }
        : undefined,
    },
  };
};

// ── com.microsoft's Attention and MultiHeadAttention ────────────────────────────────────────────────────────────────
/** Masks of com.microsoft's operators add a finite number; later keys are not seen under `unidirectional`. */
function microsoftRules(
  call: Call,
  s: Heads & { readonly past: number },
  mask: number,
  bias: number,
): { rules: string; riders: Riders } {
  const m = call.inputs[mask];
  const b = call.inputs[bias]
    ? biasOf('bias_', call.inputs[bias]!, { input: bias }, [s.batch, s.heads, s.queries, s.keys])
    : null;
  const form = m ? maskForm(m.shape, s) : null;
  const keys = 'u32(extra.keys)';
  const masked =
    form === null
      ? null
      : {
          ends: 'i32(j) >= load_mask(b)',
          ranges: 'i32(j) >= load_mask(b) || i32(j) < load_mask(extra.batch + b)',
          keys: `load_mask(b * ${keys} + j) <= 0`,
          queries: `load_mask((b * extra.queries + i) * ${keys} + j) <= 0`,
          square: 'load_mask((b * extra.side + u32(extra.past) + i) * extra.side + j) <= 0',
        }[form];
  const text = `${masked ? `if (${masked}) { v += extra.filtered; }` : ''}\n  ${b?.text ?? ''}`;
  const uniforms = [
    member('keys', s.keys, 'i32'),
    member('past', s.past, 'i32'),
    member('batch', s.batch),
    member('queries', s.queries),
    member('side', m?.shape[3] ?? 0),
    member('filtered', Math.max(call.attrs.mask_filter_value, -3e38), 'f32'),
  ];
  return {
    rules: rulesText('0', call.attrs.unidirectional ? 'min(extra.keys, i32(i) + extra.past + 1)' : 'extra.keys', text),
    riders: together(m ? rider('mask', 'i32', { input: mask }) : NO_RIDERS, b?.riders ?? NO_RIDERS, {
      types: {},
      extra: [],
      extraUniforms: uniforms,
    }),
  };
}

const ofMultiHead: Resolve = (call, caps) => {
  if (![0, 1, 2, 3, 5, 6, 7].every((i) => isReal(call.inputs[i]))) return null;
  const s = multiShape(call.inputs, call.attrs as { num_heads: number });
  const { batch, heads, queries, incoming, keys, size, valueSize, form } = s;
  const elem = (i: number): Elem => realElem(call.inputs[i]!);
  const part = (input: number, steps: number, parts: number, at: number): Lies =>
    sideBySide({ input }, elem(input), steps, size, heads * parts * size, at * size, parts * size);
  const plain = (): Lies => sideBySide({ input: 0 }, elem(0), queries, size, heads * size);
  const from: readonly Lies[] =
    form === 'packed'
      ? [0, 1, 2].map((n) => part(0, queries, 3, n))
      : form === 'packedKv'
        ? [plain(), part(1, incoming, 2, 0), part(1, incoming, 2, 1)]
        : form === 'cached'
          ? [
              plain(),
              stacked({ input: 1 }, elem(1), heads, incoming, size),
              stacked({ input: 2 }, elem(2), heads, incoming, valueSize),
            ]
          : [
              plain(),
              sideBySide({ input: 1 }, elem(1), incoming, size, heads * size),
              sideBySide({ input: 2 }, elem(2), incoming, valueSize, heads * valueSize),
            ];
  const scratch: number[] = [];
  const before: Launch[] = [];
  const shifted = (n: number) =>
    call.inputs[3] && (n === 0 || form !== 'cached') ? { input: 3, at: n * heads * size } : null;
  const q = extended(
    call,
    caps,
    scratch,
    before,
    { batch, kvHeads: heads, past: 0, incoming: queries },
    size,
    from[0]!,
    null,
    null,
    shifted(0),
  );
  const [k, v] = [1, 2].map((n) =>
    extended(
      call,
      caps,
      scratch,
      before,
      s,
      n === 1 ? size : valueSize,
      from[n]!,
      call.inputs[5 + n] ? { ref: { input: 5 + n }, at: 0 } : null,
      call.outputs[n] ? { output: n } : null,
      shifted(n),
    ),
  );
  const y = call.outputs[0]!;
  return {
    before,
    scratch,
    work: {
      batch,
      heads,
      kvHeads: heads,
      queries,
      keys,
      size,
      valueSize,
      q,
      k: k!,
      v: v!,
      y: sideBySide({ output: 0 }, realElem(y), queries, valueSize, heads * valueSize),
      out: y,
      scale: call.attrs.scale || 1 / Math.sqrt(size),
      softcap: 0,
      ...microsoftRules(call, s, 4, 5),
      seen: call.outputs[3] ? { output: 3, dtype: call.outputs[3].dtype, stage: 3, keys } : undefined,
    },
  };
};

/** com.microsoft.Attention: the input is projected first, in f32, to scratch 0. */
const ofProjected =
  (shapeOf: (call: Call) => ProjectedShape): Resolve =>
  (call, caps) => {
    if (![0, 1, 2, 4, 5].every((i) => isReal(call.inputs[i]))) return null;
    const s = shapeOf(call);
    const { batch, heads, queries, keys, size, valueSize, width, hidden } = s;
    const projection: Call = {
      inputs: call.inputs.slice(0, 3),
      outputs: [{ dtype: 'float32', shape: [batch, queries, width] }],
      attrs: {},
    };
    const [product] = productKernels('attention', () => ({
      call: projection,
      batch: [],
      m: batch * queries,
      n: width,
      k: s.input,
      a: { ref: { input: 0 }, elem: realElem(call.inputs[0]!), row: s.input, col: 1, batch: [] },
      b: matrixOf(call, 1, s.input, width, width, 1, [], false),
      fixedDepth: call.inputs[1]!.constant !== undefined,
      kind: 'f32',
      alpha: 1,
      addends: call.inputs[2] ? [{ input: 2, shape: [width], times: 1 }] : [],
    })).filter((k) => k.accepts!(projection, caps));
    if (product === undefined) return null;
    const scratch = [batch * queries * width * 4, ...(product.scratch?.(projection, caps, {}) ?? [])];
    const moved = (ref: Ref): Ref =>
      'output' in ref ? { scratch: 0 } : 'scratch' in ref ? { scratch: ref.scratch + 1 } : ref;
    const before = ([] as Launch[])
      .concat(product.launch(projection, caps, {}) as Launch | Launch[])
      .map((l): Launch => ({ ...l, bind: l.bind.map(moved) }));
    const lies = (at: number, each: number): Lies => sideBySide({ scratch: 0 }, 'f32', queries, each, width, at);
    const half = batch * heads * s.past * size;
    const present = call.outputs[1];
    const pair = [0, 1].map((n) =>
      extended(
        call,
        caps,
        scratch,
        before,
        { batch, kvHeads: heads, past: s.past, incoming: queries },
        n === 0 ? size : valueSize,
        lies(n === 0 ? hidden : 2 * hidden, n === 0 ? size : valueSize),
        call.inputs[4] ? { ref: { input: 4 }, at: n * half } : null,
        null,
        null,
      ),
    );
    if (present) {
      // Both caches one after the other: heads of a batch twice as large.
      if (size !== valueSize) return null;
      const [k, v] = pair as [Lies, Lies];
      const text =
        'let at = extra.other_at + (b - extra.batch) * extra.other_batch + h * extra.other_head + n * extra.other_row + d;\n  if (b >= extra.batch) { return load_other(at); }\n  return fresh(b, h, n, d);';
      before.push(
        rowsLaunch(
          k,
          { batch: 2 * batch, heads, rows: keys, size },
          { output: 1 },
          realElem(present),
          caps,
          text,
          rider(
            'other',
            v.elem,
            v.ref,
            member('batch', batch),
            ...(['at', 'batch', 'head', 'row'] as const).map((n) => member(`other_${n}`, v[n])),
          ),
        ),
      );
    }
    const y = call.outputs[0]!;
    return {
      before,
      scratch,
      work: {
        batch,
        heads,
        kvHeads: heads,
        queries,
        keys,
        size,
        valueSize,
        q: lies(0, size),
        k: pair[0]!,
        v: pair[1]!,
        y: sideBySide({ output: 0 }, realElem(y), queries, valueSize, heads * valueSize),
        out: y,
        scale: call.attrs.scale || 1 / Math.sqrt(size),
        softcap: 0,
        ...microsoftRules(call, s, 3, 5),
      },
    };
  };

// ── com.microsoft.GroupQueryAttention ───────────────────────────────────────────────────────────────────────────────
/** Text that reads a fresh element (b, h, i, d), normalised and rotated as asked. */
function freshText(normed: boolean, turned: boolean, interleaved: boolean, position: string, angles: string): string {
  const plain = normed ? 'normed' : 'fresh';
  return [
    normed
      ? `fn normed(b: u32, h: u32, i: u32, d: u32) -> f32 {
  var sum = 0.0;
  for (var e = 0u; e < u.size; e++) { let v = fresh(b, h, i, e); sum += v * v; }
  return fresh(b, h, i, d) * inverseSqrt(sum / f32(u.size) + extra.epsilon) * load_weights(d);
}`
      : '',
    turned
      ? `fn turned(b: u32, h: u32, i: u32, d: u32) -> f32 {
  let v = ${plain}(b, h, i, d);
  if (d >= extra.turned) { return v; }
  let half = extra.turned / 2u;
  let wanted = ${position};
  if (wanted < 0 || wanted >= i32(${angles})) { atomicOr(&fault[0], 1u); }
  let second = ${interleaved ? '(d & 1u) == 1u' : 'd >= half'};
  let other = ${plain}(b, h, i, select(d + ${interleaved ? '1u' : 'half'}, d - ${interleaved ? '1u' : 'half'}, second));
  let at = u32(clamp(wanted, 0, i32(${angles}) - 1)) * half + ${interleaved ? 'd / 2u' : 'select(d, d - half, second)'};
  let c = load_cosines(at);
  let s = load_sines(at);
  return select(c * v - s * other, s * other + c * v, second);
}`
      : '',
  ]
    .filter((t) => t !== '')
    .join('\n');
}
const readsFresh = (normed: boolean, turned: boolean): string => (turned ? 'turned' : normed ? 'normed' : 'fresh');

export function turnLaunch(
  from: Lies,
  s: { batch: number; heads: number; rows: number; size: number; past: number },
  to: Ref,
  elem: Elem,
  caps: GpuCaps,
  helpers: string,
  body: string,
  riders: Riders,
): Launch {
  const plain = rowsLaunch(from, s, to, elem, caps, body, riders);
  return {
    ...plain,
    module: attentionTurn,
    slots: { value: `${helpers}\n${valueText(body)}`, write: writeText(plain.params!.PER!) },
    uniforms: { ...plain.uniforms, x_lies: liesOf(from) },
    bind: [from.ref, to, { fault: true }],
  };
}
export { freshText, rider, member };

const ofGrouped: Resolve = (call, caps) => {
  const a = call.attrs;
  const known = call.inputs[6]!.constant?.peek();
  if (!known || ![0, 1, 2, 3, 4, 7, 8, 10, 11, 14, 15].every((i) => isReal(call.inputs[i]))) return null;
  const total = Number((known.data as Int32Array)[0]);
  const s = groupedShape(call.inputs, a, total);
  const { batch, heads, kvHeads, queries, keys, size, cache } = s;
  const prompt = queries === total;
  const width = call.inputs[0]!.shape[2]!;
  const of = (i: number, n: number, at: number): Lies =>
    s.packed
      ? sideBySide({ input: 0 }, realElem(call.inputs[0]!), queries, size, width, at * size)
      : sideBySide({ input: i }, realElem(call.inputs[i]!), queries, size, n * size);
  const turned = !!a.do_rotary && s.turned > 0;
  const normed = !!call.inputs[14];
  const lengths = rider('lengths', 'i32', { input: 5 }, member('queries', queries, 'i32'));
  const prior = prompt ? '0' : '(load_lengths(b) + 1 - extra.queries)';
  const ids = turned && !!call.inputs[9];
  const position = ids ? 'saturated_i32(load_ids(b * u32(extra.queries) + i))' : `${prior} + i32(i)`;
  const turning = turned
    ? together(
        rider(
          'cosines',
          realElem(call.inputs[7]!),
          { input: 7 },
          member('turned', s.turned),
          member('angles', call.inputs[7]!.shape[0]!),
        ),
        rider('sines', realElem(call.inputs[8]!), { input: 8 }),
        ids ? rider('ids', 'i64', { input: 9 }) : NO_RIDERS,
      )
    : NO_RIDERS;
  const weights = (i: number): Riders =>
    normed
      ? rider('weights', realElem(call.inputs[i]!), { input: i }, member('epsilon', a.qk_norm_epsilon, 'f32'))
      : NO_RIDERS;
  const helpers = freshText(normed, turned, !!a.rotary_interleaved, position, 'extra.angles');
  const scratch: number[] = [];
  const before: Launch[] = [];
  const cached = (n: 0 | 1): Lies => {
    const present = call.outputs[1 + n];
    const to: Ref = present ? { output: 1 + n } : { scratch: scratch.push(4 * batch * kvHeads * keys * size) - 1 };
    const elem: Elem = present ? realElem(present) : 'f32';
    const astray = 'load_lengths(b) < 0 || load_lengths(b) >= extra.total || first < 0 || first > extra.most';
    const bounds: Riders = {
      types: {},
      extra: [],
      extraUniforms: [member('total', total, 'i32'), member('most', cache, 'i32')],
    };
    const launch = (rows: number, body: string, riders: Riders): Launch =>
      turnLaunch(
        of(1 + n, kvHeads, heads + n * kvHeads),
        { batch, heads: kvHeads, rows, size, past: 0 },
        to,
        elem,
        caps,
        n === 0 ? helpers : '',
        body,
        together(lengths, bounds, riders, ...(n === 0 ? [turning, weights(15)] : [])),
      );
    // A cache that is as long as the present one is the same memory elsewhere, and keeps what it holds beyond: it is
    // copied, unless it is the very same, and new rows are written into it.
    if (
      present &&
      cache === keys &&
      present.dtype === call.inputs[3 + n]!.dtype &&
      (!isPacked(elem, caps) || size % 4 === 0)
    ) {
      const rows = launch(queries, `return ${n === 0 ? readsFresh(normed, turned) : 'fresh'}(b, h, n, d);`, {
        types: {},
        extra: [],
        extraUniforms: [member('keys', keys)],
      });
      const PER = rows.params!.PER!;
      const write = `fn write(q: u32, last: u32) {
  let i = q * ${PER}u;
  let e = head_element(i);
  let b = e.x;
  let first = ${prior};
  if (${astray}) { atomicOr(&fault[0], 1u); return; }
  let at = ((b * u.heads + e.y) * extra.keys + u32(first) + e.z) * u.size + e.w;
  ${PER === 1 ? 'store_y(at, element(i));' : 'store4_y(at / 4u, element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last)));'}
}`;
      before.push(wholeCopy(call, 3 + n, 1 + n), { ...rows, slots: { ...rows.slots, write } });
      return stacked(to, elem, kvHeads, keys, size);
    }
    const old =
      cache > 0 ? rider('old', realElem(call.inputs[3 + n]!), { input: 3 + n }, member('cache', cache)) : NO_RIDERS;
    const body = [
      `let first = ${prior};`,
      `if (${astray}) { atomicOr(&fault[0], 1u); }`,
      `if (i32(n) >= first && i32(n) < first + extra.queries) { return ${n === 0 ? readsFresh(normed, turned) : 'fresh'}(b, h, n - u32(max(first, 0)), d); }`,
      cache > 0
        ? `if (n < extra.cache && ${cache === keys ? 'true' : 'i32(n) < first'}) { return load_old(((b * u.heads + h) * extra.cache + n) * u.size + d); }`
        : '',
      'return 0.0;',
    ].join('\n  ');
    before.push(launch(keys, body, old));
    return stacked(to, elem, kvHeads, keys, size);
  };
  const [k, v] = [cached(0), cached(1)];
  let q = of(0, heads, 0);
  if (turned || normed) {
    const to: Ref = { scratch: scratch.push(4 * batch * heads * queries * size) - 1 };
    before.push(
      turnLaunch(
        q,
        { batch, heads, rows: queries, size, past: 0 },
        to,
        'f32',
        caps,
        helpers,
        `return ${readsFresh(normed, turned)}(b, h, n, d);`,
        together(lengths, turning, weights(14)),
      ),
    );
    q = stacked(to, 'f32', heads, queries, size);
  }
  const biased = call.inputs[10]
    ? biasOf('bias_', call.inputs[10], { input: 10 }, [
        batch,
        heads,
        queries,
        Math.min(keys, call.inputs[10].shape[3]!),
      ])
    : null;
  const y = call.outputs[0]!;
  const at = `${prior} + i32(i)`;
  return {
    before,
    scratch,
    work: {
      batch,
      heads,
      kvHeads,
      queries,
      keys,
      size,
      valueSize: size,
      q,
      k,
      v,
      y: sideBySide({ output: 0 }, realElem(y), queries, size, heads * size),
      out: y,
      scale: a.scale || 1 / Math.sqrt(size),
      softcap: a.softcap,
      rules: rulesText(
        a.local_window_size > 0 ? `${at} + 1 - extra.window` : '0',
        a.causal ? `min(${at} + 1, i32(u.keys))` : 'min(max(load_lengths(b) + 1, 1), i32(u.keys))',
        biased?.text ?? '',
      ),
      riders: together(
        lengths,
        biased?.riders ?? NO_RIDERS,
        { types: {}, extra: [], extraUniforms: [member('window', Math.min(a.local_window_size, keys), 'i32')] },
        call.inputs[11] ? rider('sinks', realElem(call.inputs[11]), { input: 11 }) : NO_RIDERS,
      ),
      sink: call.inputs[11] ? 'load_sinks(h)' : a.smooth_softmax > 0 ? '0.0' : undefined,
      seen: call.outputs[3]
        ? { output: 3, dtype: call.outputs[3].dtype, stage: a.qk_output === 2 ? 3 : 2, keys: total }
        : undefined,
    },
  };
};

// ── kernels ─────────────────────────────────────────────────────────────────────────────────────────────────────────
const fits = (r: Resolved, caps: GpuCaps): boolean =>
  [...r.before.map((l) => l.module.bindings.length + (l.extra?.length ?? 0)), 4 + r.work.riders.extra.length].every(
    (n) => n <= caps.limits.maxStorageBuffersPerShaderStage,
  ) &&
  r.work.batch * r.work.heads <= 65535 &&
  [...r.scratch, ...stepsScratch(r.work, caps)].every((b) => b <= caps.limits.maxStorageBufferBindingSize) &&
  sizeOf(r.work.out.shape) > 0 &&
  r.work.keys > 0 &&
  r.work.size > 0;
// Tiles need no scores in memory.
const fitsTiled = (r: Resolved, caps: GpuCaps): boolean =>
  [...r.before.map((l) => l.module.bindings.length + (l.extra?.length ?? 0)), 4 + r.work.riders.extra.length].every(
    (n) => n <= caps.limits.maxStorageBuffersPerShaderStage,
  ) && sizeOf(r.work.out.shape) > 0;

/** The variants of an attention that an operator's calls resolve to. */
export function attentionVariants(family: string, of: Resolve): readonly GpuKernel[] {
  const resolve = ofLast(of);
  return [
    ...[split, flash, row, lane].map(
      (variant): GpuKernel => ({
        name: `${family}.${variant.name}`,
        accepts: (call, caps) => {
          const r = resolve(call, caps);
          return r !== null && fitsTiled(r, caps) && !r.work.seen && variant.accepts(r.work, caps);
        },
        scratch: (call, caps) => {
          const r = resolve(call, caps)!;
          return [...r.scratch, ...variant.scratch(r.work, caps)];
        },
        ...(variant.tunables ? { tunables: variant.tunables } : {}),
        launch: (call, caps, tuned) => {
          const r = resolve(call, caps)!;
          return [...r.before, ...variant.launches(r.work, caps, r.scratch.length, tuned)];
        },
      }),
    ),
    {
      name: `${family}.steps`,
      accepts: (call, caps) => {
        const r = resolve(call, caps);
        return r !== null && fits(r, caps);
      },
      scratch: (call, caps) => {
        const r = resolve(call, caps)!;
        return [...r.scratch, ...stepsScratch(r.work, caps)];
      },
      launch: (call, caps) => {
        const r = resolve(call, caps)!;
        return [...r.before, ...stepsLaunches(r.work, caps, r.scratch.length)];
      },
    },
  ];
}

/** ONNX's Attention, and com.microsoft's MultiHeadAttention, GroupQueryAttention and Attention. */
export const attentionKernels = attentionVariants('attention', ofAttention);
/** FlexAttention without bodies. */
export const flexKernels = attentionVariants('flex', (call, caps) =>
  call.attrs.score_mod !== undefined || call.attrs.prob_mod !== undefined
    ? null
    : ofAttention(
        {
          ...call,
          attrs: {
            is_causal: 0,
            left_window_size: -1,
            right_window_size: -1,
            qk_matmul_output_mode: 0,
            softcap: 0,
            scale: call.attrs.scale,
          },
        },
        caps,
      ),
);
export const multiHeadKernels = attentionVariants('multi_head', ofMultiHead);
export const groupedKernels = attentionVariants('grouped', ofGrouped);
export const projectedKernels = (shapeOf: (call: Call) => ProjectedShape): readonly GpuKernel[] =>
  attentionVariants('projected', ofProjected(shapeOf));
