/** Matrix products on the CPU: MatMul, Gemm and their fused forms. */
import { sizeOf } from '../../src/core/tensor.ts';
import type { Split, WasmCaps } from '../../src/core/plan.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { fusedMatmulShape, gemmShape, type MatMulShape, matmulShape } from '../matmul-shape.ts';
import { constant, type Ex, input, kindOf, substitute, x } from '../expr.ts';
import { i32 } from './asm.ts';
import { widthOf } from './elem.ts';
import {
  type Finish,
  finishArgCount,
  finishes,
  finishLaunch,
  finishOf,
  type FinishPlan,
  finishPlan,
  finishRows,
  type FinishSpec,
} from './epilogue.ts';
import { gemm2d, type GemmSpec, gemmSpec, i32s, packPanels, panelFloats, params } from './gemm-core.ts';
import { withHalf } from './half.ts';
import { kernelModule } from './module.ts';

/** One dimension of a batch: its size, and how far A and B move along it, in elements. */
export interface Level {
  readonly n: number;
  readonly a: number;
  readonly b: number;
}
/** A stack of products C = A × B with C dense; strides in elements. */
export interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly aRow: number;
  readonly aStep: number;
  readonly bRow: number;
  readonly bCol: number;
  readonly levels: readonly Level[];
}

/** The product behind a MatMul, with as much of the batch as possible made rows of A. */
export function productOf(s: MatMulShape): Product {
  const strides = (m: MatMulShape['a']): number[] =>
    s.batch.map((_, i) => {
      const at = i - (s.batch.length - m.batch.length);
      return at < 0 || m.batch[at] === 1 ? 0 : m.strides[at]!;
    });
  const a = strides(s.a);
  const b = strides(s.b);
  const levels = s.batch.map((n, i): Level => ({ n, a: a[i]!, b: b[i]! })).filter((l) => l.n !== 1);
  let M = s.m;
  const rowsFollow = (l: Level): boolean => l.b === 0 && (M === 1 || l.a === M * s.a.row);
  let aRow = s.a.row;
  while (levels.length && rowsFollow(levels.at(-1)!)) {
    const l = levels.pop()!;
    if (M === 1) aRow = l.a;
    M *= l.n;
    if (l.a === 0) {
      M /= l.n;
      levels.push(l);
      break;
    }
  }
  for (let i = levels.length - 1; i > 0; i--) {
    const outer = levels[i - 1]!;
    const inner = levels[i]!;
    if (outer.a === inner.a * inner.n && outer.b === inner.b * inner.n)
      levels.splice(i - 1, 2, { n: outer.n * inner.n, a: inner.a, b: inner.b });
  }
  return { M, N: s.n, K: s.k, aRow, aStep: s.a.col, bRow: s.b.row, bCol: s.b.col, levels };
}

interface ProductSpec {
  readonly gemm: GemmSpec;
  readonly pack: '' | 'rows' | 'columns';
  readonly levels: number;
  readonly finish: FinishSpec | null;
}

const HEAD = 14;

/**
 * run(a, aRow, aStep, b, bRow, bCol, scratch, c, M, N, K, block, cRow, row, then per level: n, a, b, then operands): a
 * stack of products; strides in bytes. `block`: rows after which the epilogue runs; `row`: the first row's number in
 * the whole output.
 */
export const gemmModule: WasmEmitter<ProductSpec> = {
  name: 'gemm',
  build: (spec, caps) =>
    kernelModule(
      'gemm',
      i32s(HEAD + 3 * spec.levels + (spec.finish ? finishArgCount(spec.finish) : 0)),
      caps,
      (f, m) => {
        const multiply = gemm2d(m, caps, spec.gemm);
        const pack = spec.pack ? packPanels(m, spec.gemm, spec.pack === 'columns') : null;
        const finish = spec.finish ? finishRows(m, caps, spec.finish) : null;
        const operands = spec.finish
          ? Array.from({ length: finishArgCount(spec.finish) }, (_, i) => f.arg('i32', HEAD + 3 * spec.levels + i))
          : [];
        const p = params(
          f,
          'a',
          'aRow',
          'aStep',
          'b',
          'bRow',
          'bCol',
          'scratch',
          'c',
          'M',
          'N',
          'K',
          'block',
          'cRow',
          'row',
        );
        const packed = f.let(i32.const(-1));
        const rows = f.local('i32');
        const left = f.local('i32');
        const at = f.local('i32');
        const b = pack ? p.scratch : p.b;
        const one = (): void => {
          if (pack)
            f.iff(i32.ne(packed, p.b), () => {
              f.call(pack, p.b, p.bRow, p.bCol, p.scratch, p.N, p.K);
              f.set(packed, p.b);
            });
          f.set(left, p.M);
          f.set(at, p.a);
          f.whileLoop(
            () => left,
            () => {
              f.set(rows, finish ? i32.select(i32.ltu(left, p.block), left, p.block) : left);
              f.call(multiply, at, p.aRow, p.aStep, b, p.bRow, p.c, p.cRow, rows, p.N, p.K);
              if (finish) f.call(finish, p.c, p.row, rows, p.N, i32.sub(p.cRow, i32.shl(p.N, 2)), ...operands);
              f.inc(at, i32.mul(rows, p.aRow));
              f.inc(p.c, i32.mul(rows, p.cRow));
              f.inc(p.row, rows);
              f.set(left, i32.sub(left, rows));
            },
          );
        };
        const level = (l: number): void => {
          if (l === spec.levels) return one();
          const n = f.arg('i32', HEAD + 3 * l);
          const a = f.arg('i32', HEAD + 1 + 3 * l);
          const b = f.arg('i32', HEAD + 2 + 3 * l);
          f.times(n, () => {
            level(l + 1);
            f.inc(p.a, a);
            f.inc(p.b, b);
          });
          f.inc(p.a, i32.sub(0, i32.mul(n, a)));
          f.inc(p.b, i32.sub(0, i32.mul(n, b)));
        };
        level(0);
      },
    ),
};

/** How a product's B reaches the kernel: packed at load, read where it lies, or packed before each product. */
type Way = 'constant' | 'direct' | 'rows' | 'columns';
function wayOf(p: Product, constantB: boolean): Way {
  if (constantB) return 'constant';
  if (p.bCol === 1 && p.M <= 8) return 'direct';
  return p.bCol === 1 ? 'rows' : 'columns';
}
/** Bytes of scratch in which a product packs B; 0 where it need not. */
export function productScratch(p: Product, constantB: boolean, caps: WasmCaps): number {
  const way = wayOf(p, constantB);
  return (cutOf(p, way, gemmSpec(caps, p.M, p.N), caps) === 'columns' ? 1 : caps.threads) * scratchOf(p, way, caps);
}
const scratchOf = (p: Product, way: Way, caps: WasmCaps): number =>
  way === 'rows' || way === 'columns' ? 4 * panelFloats(gemmSpec(caps, p.M, p.N).tile[1], p.K, p.N) : 0;

/** Multiply-adds of a register tile in a nanosecond, for `Split.cost`. */
export const MACS = 16;
/**
 * What threads share: the outermost level of the batch, else rows, each of which is then read once, unless they are few
 * or each thread would have to pack all of B.
 */
const cutOf = (
  p: Product,
  way: Way,
  { tile: [mr, nr] }: GemmSpec,
  { threads }: WasmCaps,
): 'level' | 'rows' | 'columns' =>
  p.levels.length > 0
    ? 'level'
    : p.M >= 4 * mr * threads && (way === 'constant' || way === 'direct' || p.N < 4 * nr * threads)
      ? 'rows'
      : 'columns';
function splitOf(
  p: Product,
  way: Way,
  gemm: GemmSpec,
  caps: WasmCaps,
  bMove: (l: Level) => number,
  finish: FinishPlan | null,
): Split {
  const [mr, nr] = gemm.tile;
  const bytes = scratchOf(p, way, caps);
  const own: Split['own'] = bytes ? [[6, bytes]] : [];
  const cut = cutOf(p, way, gemm, caps);
  if (cut === 'level') {
    const [level, ...inner] = p.levels as [Level, ...Level[]];
    const rows = inner.reduce((n, l) => n * l.n, p.M);
    return {
      items: HEAD,
      grain: 1,
      moves: [
        [0, 4 * level.a],
        [3, bMove(level)],
        [7, 4 * rows * p.N],
        [13, rows],
      ],
      own,
      cost: (rows * p.N * p.K) / MACS,
    };
  }
  if (cut === 'rows')
    return {
      items: 8,
      grain: mr,
      moves: [
        [0, 4 * p.aRow],
        [7, 4 * p.N],
        [13, 1],
      ],
      own,
      cost: (p.N * p.K) / MACS,
    };
  const b =
    way === 'constant'
      ? ([[3, 4 * p.K]] as const)
      : way === 'direct'
        ? ([[3, 4]] as const)
        : ([
            [3, 4 * p.bCol],
            [6, 4 * p.K],
          ] as const);
  const operands =
    finish?.spec.operands.flatMap((o, i): [number, number][] => (o.along ? [[HEAD + 4 * i, widthOf(o.dtype)]] : [])) ??
    [];
  return { items: 9, grain: nr, moves: [...b, [7, 4], ...operands], cost: (p.M * p.K) / MACS };
}

/** B of a product: an input, whether its value is known at load, and then how many matrices it holds. */
export interface Right {
  readonly input: number;
  readonly constant: boolean;
  readonly matrices: number;
}
/**
 * The launch of a product, with its epilogue. `scratch`: its number, used where B must be packed first
 * (`productScratch`).
 */
export function productLaunch(
  p: Product,
  caps: WasmCaps,
  a: Ref,
  b: Right,
  scratch: number,
  c: Ref,
  finish: FinishPlan | null = null,
): WasmLaunch<ProductSpec> {
  const way = wayOf(p, b.constant);
  const gemm = gemmSpec(caps, p.M, p.N, way === 'direct');
  const floats = panelFloats(gemm.tile[1], p.K, p.N);
  const matrix = p.K * p.N;
  const packed: Ref = {
    input: b.input,
    pack: {
      name: 'gemm.panels',
      args: [gemm.tile[1], p.K, p.N, p.bRow, p.bCol, b.matrices, matrix],
      bytes: 4 * b.matrices * floats,
    },
  };
  const bMove = (l: Level): number => 4 * (way === 'constant' && matrix > 0 ? (l.b / matrix) * floats : l.b);
  const stripe = gemm.tile[0] * Math.floor(48 / gemm.tile[0]);
  const block = stripe * Math.max(1, Math.floor(65536 / Math.max(1, stripe * p.N)));
  return {
    emit: gemmModule,
    spec: {
      gemm,
      pack: way === 'rows' || way === 'columns' ? way : '',
      levels: p.levels.length,
      finish: finish?.spec ?? null,
    },
    args: [
      a,
      4 * p.aRow,
      4 * p.aStep,
      way === 'constant' ? packed : { input: b.input },
      4 * p.bRow,
      4 * p.bCol,
      productScratch(p, b.constant, caps) ? { scratch } : 0,
      c,
      p.M,
      p.N,
      p.K,
      block,
      4 * p.N,
      0,
      ...p.levels.flatMap((l) => [l.n, 4 * l.a, bMove(l)]),
      ...(finish?.args ?? []),
    ],
    split: splitOf(p, way, gemm, caps, bMove, finish),
  };
}

// ── the operators ───────────────────────────────────────────────────────────────────────────────────────────────────
type Shaped = (call: Call) => MatMulShape;
const ofMatMul: Shaped = (call) => matmulShape(call.inputs[0]!.shape, call.inputs[1]!.shape);
const ofFused: Shaped = (call) => fusedMatmulShape(call.inputs[0]!.shape, call.inputs[1]!.shape, call.attrs);
const ofGemm: Shaped = (call) =>
  gemmShape(call.inputs[0]!.shape, call.inputs[1]!.shape, call.inputs[2]?.shape ?? null, call.attrs);

/**
 * What happens to the product as it is stored: alpha · it + beta · C, the activation of FusedGemm, the call's epilogue.
 */
function finishOfProduct(call: Call): Finish | null {
  const { alpha = 1, beta = 1 } = call.attrs as { alpha?: number; beta?: number };
  const c = beta === 0 ? null : (call.inputs[2] ?? null);
  let expr: Ex = input(0, 'f32');
  if (alpha !== 1) expr = x.mul(expr, constant(alpha, 'f32'));
  if (c) {
    const term = input(1, 'f32');
    expr = x.add(expr, beta === 1 ? term : x.mul(term, constant(beta, 'f32')));
  }
  const operands = [...(c ? [{ fact: c, ref: { input: 2 } }] : []), ...(finishOf(call)?.operands ?? [])];
  if (call.epilogue)
    expr = substitute(call.epilogue.expr, [
      expr,
      ...call.epilogue.operands.map((o, i) => input(i + (c ? 2 : 1), kindOf(o.dtype)!)),
    ]);
  return expr.f === 'in' && operands.length === 0 ? null : { expr, operands };
}

function productKernel(name: string, shaped: Shaped): WasmKernel {
  const right = (call: Call): Right => {
    const b = call.inputs[1]!;
    const { n, k } = shaped(call);
    return {
      input: 1,
      constant: b.constant !== undefined && !call.attrs.transBatchB,
      matrices: n * k > 0 ? sizeOf(b.shape) / (n * k) : 0,
    };
  };
  const finished = (call: Call): { finish: Finish | null; plan: FinishPlan | null } => {
    const finish = finishOfProduct(call);
    const out = call.outputs[0]!;
    return {
      finish,
      plan: finish && finishPlan(finish, out, out.shape.length - (call.inputs[1]!.shape.length > 1 ? 1 : 0)),
    };
  };
  return {
    name,
    accepts: (call) => {
      if (call.inputs[0]!.dtype !== 'float32' || call.attrs.activation) return false;
      const { finish, plan } = finished(call);
      return finish === null || plan !== null || finishes(finish, call.outputs[0]!);
    },
    scratch: (call, caps) => {
      const n = productScratch(productOf(shaped(call)), right(call).constant, caps);
      return n ? [n] : [];
    },
    launch: (call, caps) => {
      const { finish, plan } = finished(call);
      const launch = productLaunch(productOf(shaped(call)), caps, { input: 0 }, right(call), 0, { output: 0 }, plan);
      return plan ? launch : [launch, ...finishLaunch(finish, call.outputs[0]!)];
    },
  };
}

export const matmulWasm: readonly WasmKernel[] = withHalf([productKernel('matmul.tile', ofMatMul)]);
export const gemmWasm: readonly WasmKernel[] = withHalf([productKernel('gemm.tile', ofGemm)]);
export const fusedMatmulWasm: readonly WasmKernel[] = withHalf([productKernel('fused_matmul.tile', ofFused)]);
