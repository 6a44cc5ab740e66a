/**
 * sardonyx.HeadAttention: heads are read where they lie; those that are rotated, normalised or kept behind a cache are
 * made first.
 */
import { sizeOf } from '../../src/core/tensor.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { attentionPair } from '../../wgsl/index.gen.ts';
import { apart, headShape, type HeadAttrs, type HeadShape } from '../attention-heads.ts';
import type { Call, Launch, Ref } from '../define.ts';
import { biasOf, member, rider, rulesText } from './attention-rules.ts';
import { attentionVariants, type Resolve } from './attention-variants.ts';
import {
  type Lies,
  liesOf,
  NO_RIDERS,
  type Riders,
  rowsLaunch,
  sideBySide,
  stacked,
  together,
  valueText,
} from './attention.ts';
import { elemOf, isPacked, isReal, realElem } from './elem.ts';
import { grid } from './grid.ts';

type HeadCall = Call<HeadAttrs>;

/** `fn NAME(b, h, i, d)`: an element normalised and rotated, and what that reads. */
function preparedText(call: HeadCall, weights: number): { text: string; name: string; riders: Riders } {
  const { inputs, attrs: a } = call;
  const [normed, turned] = [!!inputs[weights], !!inputs[6]];
  const plain = normed ? 'normed' : 'fresh';
  const text = [
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
  let half = extra.half;
  if (d >= 2u * half) { return v; }
  let second = ${a.interleaved ? '(d & 1u) == 1u' : 'd >= half'};
  let other = ${plain}(b, h, i, ${a.interleaved ? 'd ^ 1u' : 'select(d + half, d - half, second)'});
  let at = (b * extra.steps + i) * half + ${a.interleaved ? 'd / 2u' : 'select(d, d - half, second)'};
  let c = load_cosines(at);
  let s = load_sines(at);
  return select(c * v - s * other, s * other + c * v, second);
}`
      : '',
  ]
    .filter((t) => t !== '')
    .join('\n');
  const steps = inputs[0]!.shape[1]!;
  const riders = together(
    normed
      ? rider('weights', realElem(inputs[weights]!), { input: weights }, member('epsilon', a.epsilon, 'f32'))
      : NO_RIDERS,
    turned
      ? together(
          rider(
            'cosines',
            realElem(inputs[6]!),
            { input: 6 },
            member('half', inputs[6]!.shape[2]!),
            member('steps', steps),
          ),
          rider('sines', realElem(inputs[7]!), { input: 7 }),
        )
      : NO_RIDERS,
  );
  return { text, name: turned ? 'turned' : plain, riders };
}

/** Keys or values where attention reads them, and the launch that brings them there. */
interface Moved {
  readonly lies: Lies;
  readonly to: Ref;
  readonly elem: Elem;
  readonly helpers: string;
  readonly body: string;
  readonly riders: Riders;
  readonly from: Lies;
}

function movedOf(call: HeadCall, s: HeadShape, scratch: number[], n: 0 | 1, from: Lies): Moved | null {
  const size = n === 0 ? s.size : s.valueSize;
  const prepared = n === 0 ? preparedText(call, 9) : { text: '', name: 'fresh', riders: NO_RIDERS };
  const wanted = call.outputs[1 + n];
  if (!wanted && s.past === 0 && prepared.name === 'fresh') return null;
  const to: Ref = wanted ? { output: 1 + n } : { scratch: scratch.push(4 * s.batch * s.kvHeads * s.keys * size) - 1 };
  const elem: Elem = wanted ? realElem(wanted) : 'f32';
  const old = n === 0 ? 'old_keys' : 'old_values';
  const body = `${s.past > 0 ? `if (n < u.past) { return load_${old}(((b * u.heads + h) * u.past + n) * u.size + d); }\n  ` : ''}return ${prepared.name}(b, h, n - u.past, d);`;
  const riders = together(
    s.past > 0 ? rider(old, realElem(call.inputs[4 + n]!), { input: 4 + n }) : NO_RIDERS,
    prepared.riders,
  );
  return { lies: stacked(to, elem, s.kvHeads, s.keys, size), to, elem, helpers: prepared.text, body, riders, from };
}

/** Both in one dispatch, where they have one source and the same form. */
function pairLaunch(s: HeadShape, k: Moved, v: Moved, caps: GpuCaps): Launch | null {
  const riders = together(k.riders, v.riders);
  if (
    JSON.stringify(k.from.ref) !== JSON.stringify(v.from.ref) ||
    k.from.head !== v.from.head ||
    s.size !== s.valueSize ||
    k.elem !== v.elem ||
    3 + riders.extra.length > caps.limits.maxStorageBuffersPerShaderStage
  )
    return null;
  const count = s.batch * s.kvHeads * s.keys * s.size;
  const PER = isPacked(k.elem, caps) ? 4 : 1;
  const behind =
    'fn fresh_value(b: u32, h: u32, i: u32, d: u32) -> f32 { return fresh(b, h, i, d + extra.values_at); }\nfn other_element(e: u32) -> f32 { let at = head_element(e); return other(at.x, at.y, at.z, at.w); }';
  const four = (f: string, y: string): string =>
    `store4_${y}(q, ${f}(i), ${f}(min(i + 1u, last)), ${f}(min(i + 2u, last)), ${f}(min(i + 3u, last)));`;
  return {
    module: attentionPair,
    types: { x: k.from.elem, y: k.elem, z: v.elem, ...riders.types },
    params: { WG: 64, PER },
    slots: {
      value: `${k.helpers}\n${valueText(k.body)}`,
      other: `${behind}\nfn other(b: u32, h: u32, n: u32, d: u32) -> f32 {\n  ${v.body.replace('fresh(', 'fresh_value(')}\n}`,
      write:
        PER === 1
          ? 'fn write(q: u32, last: u32) { store_y(q, element(q)); store_z(q, other_element(q)); }'
          : `fn write(q: u32, last: u32) { let i = q * 4u; ${four('element', 'y')} ${four('other_element', 'z')} }`,
    },
    uniforms: { count, heads: s.kvHeads, rows: s.keys, size: s.size, past: s.past, x_lies: liesOf(k.from) },
    workgroups: grid(Math.ceil(count / PER), 64),
    bind: [k.from.ref, k.to, v.to],
    extra: riders.extra,
    extraUniforms: [...riders.extraUniforms, member('values_at', v.from.at - k.from.at)],
  };
}

/**
 * Sums of products of each query with the vectors of its row and of its column, made first: what is added to a score is
 * two of them.
 */
function placed(
  inputs: Call['inputs'],
  q: Lies,
  s: HeadShape,
  scratch: number[],
  before: Launch[],
  caps: GpuCaps,
): { text: string; riders: Riders } {
  const [tall, wide] = [inputs[10]!, inputs[11]!];
  const [high, across] = [tall.shape[1]!, wide.shape[1]!];
  const size = high + across;
  const to: Ref = { scratch: scratch.push(4 * s.batch * s.heads * s.queries * size) - 1 };
  const value = `let t = d < extra.high;
  let at = select((n % extra.columns * (u.size - extra.high) + d - extra.high) * extra.depth, (n / extra.columns * extra.high + d) * extra.depth, t);
  var sum = 0.0;
  for (var e = 0u; e < extra.depth; e++) {
    var w: f32;
    if (t) { w = load_tall(at + e); } else { w = load_wide(at + e); }
    sum += fresh(b, h, n, e) * w;
  }
  return sum;`;
  const tables = together(
    rider(
      'tall',
      realElem(tall),
      { input: 10 },
      member('high', high),
      member('columns', wide.shape[0]!),
      member('depth', s.size),
    ),
    rider('wide', realElem(wide), { input: 11 }),
  );
  before.push(rowsLaunch(q, { batch: s.batch, heads: s.heads, rows: s.queries, size }, to, 'f32', caps, value, tables));
  return {
    text: `let place = ((b * extra.all_heads + h) * extra.all_queries + i) * (extra.high + extra.across);\n  v += load_places(place + j / extra.across) + load_places(place + extra.high + j % extra.across);`,
    riders: rider(
      'places',
      'f32',
      to,
      member('all_heads', s.heads),
      member('all_queries', s.queries),
      member('high', high),
      member('across', across),
    ),
  };
}

const ofHeads: Resolve = (call: HeadCall, caps) => {
  const { attrs: a, inputs } = call;
  const mask = inputs[3];
  if (
    ![0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11].every((i) => isReal(inputs[i])) ||
    (mask && elemOf(mask.dtype) === undefined)
  )
    return null;
  const s = headShape(inputs, a);
  const { batch, heads, kvHeads, queries, keys, incoming } = s;
  const rows = (i: number, steps: number, size: number): Lies => {
    const from = inputs[i] ? i : 0;
    return sideBySide(
      { input: from },
      realElem(inputs[from]!),
      steps,
      size,
      inputs[from]!.shape[2]!,
      a.at[i]!,
      apart(a, i),
    );
  };
  const scratch: number[] = [];
  const before: Launch[] = [];
  const [k, v] = ([1, 2] as const).map((i) => {
    const from = rows(i, incoming, i === 1 ? a.size : a.value_size);
    return { from, moved: movedOf(call, s, scratch, (i - 1) as 0 | 1, from) };
  }) as [{ from: Lies; moved: Moved | null }, { from: Lies; moved: Moved | null }];
  const pair = k.moved && v.moved ? pairLaunch(s, k.moved, v.moved, caps) : null;
  if (pair) before.push(pair);
  else
    for (const [m, size] of [
      [k.moved, a.size],
      [v.moved, a.value_size],
    ] as const) {
      if (m)
        before.push(
          moveLaunch(
            m.from,
            { batch, heads: kvHeads, rows: keys, size, past: s.past },
            m.to,
            m.elem,
            caps,
            m.helpers,
            m.body,
            m.riders,
          ),
        );
    }
  let q = rows(0, queries, a.size);
  const turned = preparedText(call, 8);
  if (turned.name !== 'fresh') {
    const to: Ref = { scratch: scratch.push(4 * batch * heads * queries * a.size) - 1 };
    before.push(
      moveLaunch(
        q,
        { batch, heads, rows: queries, size: a.size, past: 0 },
        to,
        'f32',
        caps,
        turned.text,
        `return ${turned.name}(b, h, n, d);`,
        turned.riders,
      ),
    );
    q = stacked(to, 'f32', heads, queries, a.size);
  }
  const m = inputs[10]
    ? placed(inputs, q, s, scratch, before, caps)
    : mask
      ? biasOf('mask', mask, { input: 3 }, [batch, heads, queries, keys])
      : null;
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
      size: a.size,
      valueSize: a.value_size,
      q,
      k: k.moved?.lies ?? k.from,
      v: v.moved?.lies ?? v.from,
      out: y,
      y: sideBySide({ output: 0 }, realElem(y), queries, a.value_size, heads * a.value_size),
      scale: a.scale,
      softcap: a.softcap,
      rules: rulesText('0', a.is_causal ? 'min(i32(i) + extra.seen, extra.keys)' : 'extra.keys', m?.text ?? ''),
      riders: together(m?.riders ?? NO_RIDERS, {
        types: {},
        extra: [],
        extraUniforms: [member('keys', keys, 'i32'), ...(a.is_causal ? [member('seen', s.past + 1, 'i32')] : [])],
      }),
    },
  };
};

function moveLaunch(
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
  return { ...plain, slots: { ...plain.slots, value: `${helpers}\n${valueText(body)}` } };
}

export const headAttentionKernels = attentionVariants('heads', (call, caps) =>
  sizeOf(call.outputs[0]!.shape) === 0 ? null : ofHeads(call, caps),
);
