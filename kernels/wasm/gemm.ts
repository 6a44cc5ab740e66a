/** Matrix products on the CPU: MatMul, Gemm and their fused forms. */
import { sizeOf } from '../../src/core/tensor.ts';
import type { WasmCaps } from '../../src/core/plan.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { fusedMatmulShape, gemmShape, type MatMulShape, matmulShape } from '../matmul.ts';
import { i32 } from './asm.ts';
import { gemm2d, type GemmSpec, gemmSpec, i32s, packPanels, panelFloats, params } from './gemm-core.ts';
import { kernelModule } from './module.ts';

/** One dimension of a batch: its size, and how far A and B move along it, in elements. */
export interface Level { readonly n: number; readonly a: number; readonly b: number }
/** A stack of products C = A × B with C dense; strides in elements. */
export interface Product { readonly M: number; readonly N: number; readonly K: number; readonly aRow: number; readonly aStep: number; readonly bRow: number; readonly bCol: number; readonly levels: readonly Level[] }

/** The product behind a MatMul, with as much of the batch as possible made rows of A. */
export function productOf(s: MatMulShape): Product {
  const strides = (m: MatMulShape['a']): number[] => s.batch.map((_, i) => {
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
    if (l.a === 0) { M /= l.n; levels.push(l); break; }
  }
  for (let i = levels.length - 1; i > 0; i--) {
    const outer = levels[i - 1]!, inner = levels[i]!;
    if (outer.a === inner.a * inner.n && outer.b === inner.b * inner.n) levels.splice(i - 1, 2, { n: outer.n * inner.n, a: inner.a, b: inner.b });
  }
  return { M, N: s.n, K: s.k, aRow, aStep: s.a.col, bRow: s.b.row, bCol: s.b.col, levels };
}

interface ProductSpec { readonly gemm: GemmSpec; readonly pack: '' | 'rows' | 'columns'; readonly levels: number }

/** run(a, aRow, aStep, b, bRow, bCol, scratch, c, M, N, K, then per level: n, a, b): a stack of products; strides in bytes. */
export const gemmModule: WasmEmitter<ProductSpec> = {
  name: 'gemm',
  build: (spec, caps) => kernelModule('gemm', i32s(11 + 3 * spec.levels), caps, (f, m) => {
    const multiply = gemm2d(m, caps, spec.gemm);
    const pack = spec.pack ? packPanels(m, spec.gemm, spec.pack === 'columns') : null;
    const p = params(f, 'a', 'aRow', 'aStep', 'b', 'bRow', 'bCol', 'scratch', 'c', 'M', 'N', 'K');
    const packed = f.let(i32.const(-1));
    const one = (): void => {
      if (pack) f.iff(i32.ne(packed, p.b), () => { f.call(pack, p.b, p.bRow, p.bCol, p.scratch, p.N, p.K); f.set(packed, p.b); });
      f.call(multiply, p.a, p.aRow, p.aStep, pack ? p.scratch : p.b, p.bRow, p.c, i32.mul(p.N, 4), p.M, p.N, p.K);
      f.inc(p.c, i32.mul(i32.mul(p.M, p.N), 4));
    };
    const level = (l: number): void => {
      if (l === spec.levels) return one();
      const n = f.arg('i32', 11 + 3 * l), a = f.arg('i32', 12 + 3 * l), b = f.arg('i32', 13 + 3 * l);
      f.times(n, () => { level(l + 1); f.inc(p.a, a); f.inc(p.b, b); });
      f.inc(p.a, i32.sub(0, i32.mul(n, a)));
      f.inc(p.b, i32.sub(0, i32.mul(n, b)));
    };
    level(0);
  }),
};

/** How a product's B reaches the kernel: packed at load, read where it lies, or packed before each product. */
type Way = 'constant' | 'direct' | 'rows' | 'columns';
function wayOf(p: Product, constantB: boolean): Way {
  if (constantB) return 'constant';
  if (p.bCol === 1 && p.M <= 8) return 'direct';
  return p.bCol === 1 ? 'rows' : 'columns';
}
const scratchOf = (p: Product, way: Way, caps: WasmCaps): number => (way === 'rows' || way === 'columns' ? 4 * panelFloats(gemmSpec(caps, p.M, p.N).tile[1], p.K, p.N) : 0);

/** The launch of a product; `constantB` when `b` names a constant input, `matrices` how many it holds. */
export function productLaunch(p: Product, caps: WasmCaps, a: Ref, b: { readonly input: number; readonly constant: boolean; readonly matrices: number }, scratch: number, c: Ref): WasmLaunch<ProductSpec> {
  const way = wayOf(p, b.constant);
  const gemm = gemmSpec(caps, p.M, p.N, way === 'direct');
  const floats = panelFloats(gemm.tile[1], p.K, p.N);
  const matrix = p.K * p.N;
  const packed: Ref = { input: b.input, pack: { name: 'gemm.panels', args: [gemm.tile[1], p.K, p.N, p.bRow, p.bCol, b.matrices, matrix], bytes: 4 * b.matrices * floats } };
  const bMove = (l: Level): number => 4 * (way === 'constant' && matrix > 0 ? (l.b / matrix) * floats : l.b);
  return {
    emit: gemmModule,
    spec: { gemm, pack: way === 'rows' || way === 'columns' ? way : '', levels: p.levels.length },
    args: [
      a, 4 * p.aRow, 4 * p.aStep, way === 'constant' ? packed : { input: b.input }, 4 * p.bRow, 4 * p.bCol, scratchOf(p, way, caps) ? { scratch } : 0, c, p.M, p.N, p.K,
      ...p.levels.flatMap((l) => [l.n, 4 * l.a, bMove(l)]),
    ],
  };
}

type Shaped = (call: Call) => MatMulShape;
const ofMatMul: Shaped = (call) => matmulShape(call.inputs[0]!.shape, call.inputs[1]!.shape);
const ofFused: Shaped = (call) => fusedMatmulShape(call.inputs[0]!.shape, call.inputs[1]!.shape, call.attrs);
const ofGemm: Shaped = (call) => gemmShape(call.inputs[0]!.shape, call.inputs[1]!.shape, call.inputs[2]?.shape ?? null, call.attrs);

function matmulKernel(name: string, shaped: Shaped): WasmKernel {
  const plain = (call: Call): boolean => call.inputs[0]!.dtype === 'float32';
  const constant = (call: Call): boolean => call.inputs[1]!.constant !== undefined && !call.attrs.transBatchB;
  return {
    name,
    accepts: plain,
    scratch: (call, caps) => { const p = productOf(shaped(call)); const n = scratchOf(p, wayOf(p, constant(call)), caps); return n ? [n] : []; },
    launch: (call, caps) => {
      const p = productOf(shaped(call));
      const [rows, cols] = [p.K, p.N];
      const matrices = rows * cols > 0 ? sizeOf(call.inputs[1]!.shape) / (rows * cols) : 0;
      return productLaunch(p, caps, { input: 0 }, { input: 1, constant: constant(call), matrices }, 0, { output: 0 });
    },
  };
}
export const matmulWasm: readonly WasmKernel[] = [matmulKernel('matmul.tile', ofMatMul)];
