/** ONNX's Attention, and FlexAttention without bodies. */
import { type Resolve, attentionVariants } from './attention-variants.ts';
import { asI32, biasOf, member, rider, rulesText } from './attention-rules.ts';
import { extended } from './attention-past.ts';
import { attentionShape } from '../attention-shape.ts';
import type { Launch } from '../define.ts';
import { type Lies, NO_RIDERS, sideBySide, stacked, together } from './attention.ts';
import { elemOf, isReal, realElem } from './elem.ts';

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
