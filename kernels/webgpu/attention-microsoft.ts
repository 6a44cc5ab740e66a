/** com.microsoft's MultiHeadAttention, and its Attention, which projects by itself. */
import { type Resolve, attentionVariants } from './attention-variants.ts';
import { biasOf, member, rider, rulesText } from './attention-rules.ts';
import { extended } from './attention-past.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { maskForm, multiShape, type ProjectedShape } from '../attention-microsoft-shape.ts';
import type { Heads } from '../attention-core.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import { type Lies, NO_RIDERS, type Riders, rowsLaunch, sideBySide, stacked, together } from './attention.ts';
import { isReal, realElem } from './elem.ts';
import { productKernels } from './product-kernels.ts';
import { matrixOf } from './product.ts';

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

export const multiHeadKernels = attentionVariants('multi_head', ofMultiHead);
export const projectedKernels = (shapeOf: (call: Call) => ProjectedShape): readonly GpuKernel[] =>
  attentionVariants('projected', ofProjected(shapeOf));
