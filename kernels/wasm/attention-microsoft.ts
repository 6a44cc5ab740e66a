/** com.microsoft's Attention, with its projection, and MultiHeadAttention on the CPU. */
import type { WasmCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { maskForm, multiShape, type ProjectedShape } from '../attention-microsoft-shape.ts';
import type { Heads } from '../attention-core.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { input, x } from '../expr.ts';
import { broadcastStrides } from '../shapes.ts';
import { f32, i32 } from './asm.ts';
import { attentionKernel, extended, maskOf, type Part, type Resolved, side, stacked } from './attention.ts';
import type { AttentionCall, Lies } from './attention-core.ts';
import { finishPlan } from './epilogue.ts';
import { type Product, productLaunch, productScratch, type Right } from './gemm.ts';
import { i32s } from './gemm-core.ts';
import { withHalf } from './half.ts';
import { kernelModule } from './module.ts';
import { loopsOf } from './loops.ts';

// ── masks ───────────────────────────────────────────────────────────────────────────────────────────────────────────
interface MaskSpec {
  readonly form: 'ends' | 'ranges' | 'raw';
  readonly bias: boolean;
}
const MASK = [
  'mask',
  'bias',
  'to',
  'batch',
  'heads',
  'rows',
  'keys',
  'from',
  'mBatch',
  'mRow',
  'bBatch',
  'bHead',
  'bRow',
  'bKey',
] as const;
/**
 * run(…MASK, filtered): what is added to scores [batch, heads, rows, keys]: `filtered` where a key is masked, and a
 * bias. Steps in elements; `from`: that of the first query of a raw mask.
 */
const maskModule: WasmEmitter<MaskSpec> = {
  name: 'attention_mask',
  build: (s, caps) =>
    kernelModule('attention_mask', [...i32s(MASK.length), 'f32'], caps, (f, m) => {
      const k = loopsOf(f, m, caps.fma, MASK);
      const { p } = k;
      const filtered = f.arg('f32', MASK.length);
      const v = f.local('f32');
      const b = f.local('f32');
      const word = (i: ReturnType<typeof i32.add>) => i32.load(i32.add(p.mask, i32.shl(i, 2)));
      k.each(p.batch, (n) => {
        const end = k.int(s.form === 'raw' ? p.keys : word(n));
        const begin = k.int(s.form === 'ranges' ? word(i32.add(p.batch, n)) : 0);
        k.each(p.heads, (h) =>
          k.each(p.rows, (i) => {
            const at = k.int(i32.add(p.from, i32.add(i32.mul(n, p.mBatch), i32.mul(i, p.mRow))));
            const by = k.int(
              i32.add(
                p.bias,
                i32.shl(i32.add(i32.add(i32.mul(n, p.bBatch), i32.mul(h, p.bHead)), i32.mul(i, p.bRow)), 2),
              ),
            );
            k.each(p.keys, (j) => {
              const masked =
                s.form === 'raw' ? i32.les(word(i32.add(at, j)), 0) : i32.or(i32.ges(j, end), i32.lts(j, begin));
              f.set(v, f32.select(masked, filtered, 0));
              if (s.bias) {
                f.set(b, f32.load(by));
                f.inc(by, i32.shl(p.bKey, 2));
                // two lowest numbers do not become infinity
                f.set(v, f32.select(f32.eq(b, -Infinity), b, f32.max(f32.add(v, b), -3e38)));
              }
              f.emit(f32.store(p.to, v));
              f.inc(p.to, 4);
            });
          }),
        );
      });
    }),
};
/** The mask and the bias of a call as one tensor that is added to the scores; undefined where they cannot be. */
function maskLaunch(
  call: Call,
  made: { readonly before: WasmLaunch[]; readonly scratch: number[] },
  h: Heads & { readonly past: number },
  maskAt: number,
  biasAt: number,
): AttentionCall['mask'] | undefined {
  const mask = call.inputs[maskAt];
  const bias = call.inputs[biasAt];
  const to = [h.batch, h.heads, h.queries, h.keys];
  if (bias && bias.dtype !== 'float32') return undefined;
  if (!mask) return maskOf(bias, { input: biasAt }, to);
  const form = maskForm(mask.shape, h);
  const side = mask.shape[3] ?? 0;
  const raw = form === 'keys' || form === 'queries' || form === 'square';
  const strides = bias ? broadcastStrides(bias.shape, to) : [0, 0, 0, 0];
  const heads = strides[1] ? h.heads : 1;
  const rows = bias || form === 'queries' || form === 'square' ? h.queries : 1;
  const [from, batch, row] =
    form === 'square'
      ? [h.past * side, side * side, side]
      : form === 'queries'
        ? [0, h.queries * h.keys, h.keys]
        : [0, h.keys, 0];
  const ref: Ref = { scratch: made.scratch.push(4 * h.batch * heads * rows * h.keys) - 1 };
  made.before.push({
    emit: maskModule,
    spec: { form: raw ? 'raw' : form, bias: !!bias },
    args: [
      { input: maskAt },
      bias ? { input: biasAt } : 0,
      ref,
      h.batch,
      heads,
      rows,
      h.keys,
      from,
      raw ? batch : 0,
      raw ? row : 0,
      ...strides,
      { f32: Math.max(call.attrs.mask_filter_value, -3e38) },
    ],
  });
  return {
    ref,
    batch: heads * rows * h.keys,
    head: heads > 1 ? rows * h.keys : 0,
    row: rows > 1 ? h.keys : 0,
    dtype: 'float32',
  };
}

const areFloat = (call: Call, inputs: readonly number[]): boolean =>
  inputs.every((i) => !call.inputs[i] || call.inputs[i].dtype === 'float32');

function ofMultiHead(call: Call): Resolved | null {
  if (!areFloat(call, [0, 1, 2, 3, 5, 6, 7]) || call.outputs[3]) return null;
  const s = multiShape(call.inputs, call.attrs as { num_heads: number });
  const { batch, heads, queries, incoming, keys, size, valueSize, form, past } = s;
  const made = { before: [] as WasmLaunch[], scratch: [] as number[] };
  const part = (i: number, steps: number, parts: number, n: number): Lies =>
    side({ input: i }, steps, heads, size, heads * parts * size, n * size, parts * size);
  const plain = side({ input: 0 }, queries, heads, size);
  const from: readonly Lies[] =
    form === 'packed'
      ? [0, 1, 2].map((n) => part(0, queries, 3, n))
      : form === 'packedKv'
        ? [plain, part(1, incoming, 2, 0), part(1, incoming, 2, 1)]
        : form === 'cached'
          ? [plain, stacked({ input: 1 }, incoming, heads, size), stacked({ input: 2 }, incoming, heads, valueSize)]
          : [plain, side({ input: 1 }, incoming, heads, size), side({ input: 2 }, incoming, heads, valueSize)];
  const shift = (n: number): Part | null =>
    call.inputs[3] && (n === 0 || form !== 'cached') ? { ref: { input: 3 }, at: n * heads * size } : null;
  const q = extended(made, from[0]!, { batch, kvHeads: heads, past: 0, incoming: queries }, size, null, null, shift(0));
  const [k, v] = [
    [1, size],
    [2, valueSize],
  ].map(([n, width]) =>
    extended(
      made,
      from[n!]!,
      s,
      width!,
      call.inputs[5 + n!] ? stacked({ input: 5 + n! }, past, heads, width!) : null,
      call.outputs[n!] ? { ref: { output: n! }, at: 0 } : null,
      shift(n!),
    ),
  ) as [Lies, Lies];
  const mask = maskLaunch(call, made, s, 4, 5);
  return mask === undefined
    ? null
    : {
        ...made,
        call: {
          batch,
          heads,
          kvHeads: heads,
          queries,
          keys,
          size,
          valueSize,
          q,
          k,
          v,
          y: side({ output: 0 }, queries, heads, valueSize),
          mask,
          scale: call.attrs.scale || 1 / Math.sqrt(size),
          softcap: 0,
          causal: !!call.attrs.unidirectional,
          left: -1,
          right: -1,
          past,
          lengths: null,
        },
      };
}

/**
 * com.microsoft.Attention: the input is projected first, to scratch 0; keys and values go behind the cache from there.
 */
const ofProjected =
  (shapeOf: (call: Call) => ProjectedShape) =>
  (call: Call, caps: WasmCaps): Resolved | null => {
    if (!areFloat(call, [0, 1, 2, 4, 5])) return null;
    const s = shapeOf(call);
    const { batch, heads, queries, keys, size, valueSize, width, hidden, past } = s;
    const bias = call.inputs[2];
    if (call.outputs[1] && size !== valueSize) return null;
    const product: Product = {
      M: batch * queries,
      N: width,
      K: s.input,
      aRow: s.input,
      aStep: 1,
      bRow: width,
      bCol: 1,
      levels: [],
    };
    const right: Right = { input: 1, constant: call.inputs[1]!.constant !== undefined, matrices: 1 };
    const packs = productScratch(product, right.constant, caps);
    const made = { before: [] as WasmLaunch[], scratch: [4 * batch * queries * width, ...(packs ? [packs] : [])] };
    const qkv: Ref = { scratch: 0 };
    const finish = bias
      ? finishPlan(
          { expr: x.add(input(0, 'f32'), input(1, 'f32')), operands: [{ fact: bias, ref: { input: 2 } }] },
          { dtype: 'float32', shape: [batch * queries, width] },
          1,
        )
      : null;
    if (sizeOf([batch, queries, width]) > 0)
      made.before.push(productLaunch(product, caps, { input: 0 }, right, 1, qkv, finish));
    const half = (steps: number): number => batch * heads * steps * size;
    const [k, v] = (
      [
        [0, size, hidden],
        [1, valueSize, 2 * hidden],
      ] as const
    ).map(([n, each, at]) =>
      extended(
        made,
        side(qkv, queries, heads, each, width, at),
        { batch, kvHeads: heads, past, incoming: queries },
        each,
        call.inputs[4] ? stacked({ input: 4 }, past, heads, each, n * half(past)) : null,
        call.outputs[1] ? { ref: { output: 1 }, at: n * half(keys) } : null,
      ),
    ) as [Lies, Lies];
    const mask = maskLaunch(call, made, s, 3, 5);
    return mask === undefined
      ? null
      : {
          ...made,
          call: {
            batch,
            heads,
            kvHeads: heads,
            queries,
            keys,
            size,
            valueSize,
            q: side(qkv, queries, heads, size, width),
            k,
            v,
            y: side({ output: 0 }, queries, heads, valueSize),
            mask,
            scale: call.attrs.scale || 1 / Math.sqrt(size),
            softcap: 0,
            causal: !!call.attrs.unidirectional,
            left: -1,
            right: -1,
            past,
            lengths: null,
          },
        };
  };

export const multiHeadWasm: readonly WasmKernel[] = withHalf([attentionKernel('attention.multi_head', ofMultiHead)]);
export const projectedWasm = (shapeOf: (call: Call) => ProjectedShape): readonly WasmKernel[] =>
  withHalf([attentionKernel('attention.projected', ofProjected(shapeOf))]);
