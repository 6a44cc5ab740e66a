/** com.microsoft.GroupQueryAttention: a cache, and rotary angles that are applied on the way. */
import { type Resolve, attentionVariants } from './attention-variants.ts';
import { biasOf, member, rider, rulesText } from './attention-rules.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { attentionTurn } from '../../wgsl/index.gen.ts';
import { groupedShape } from '../attention-shape.ts';
import type { Launch, Ref } from '../define.ts';
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
  writeText,
} from './attention.ts';
import { isPacked, isReal, realElem } from './elem.ts';
import { wholeCopy } from './move.ts';

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

export const groupedKernels = attentionVariants('grouped', ofGrouped);
