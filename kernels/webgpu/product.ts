/**
 * Stacks of matrix products as data, and how shaders read their operands: shared by matrix products, convolutions and
 * quantised products.
 */
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { type Elem, VALUE_TYPE } from '../../wgsl/assemble.ts';
import type { Call, Launch, Ref } from '../define.ts';
import { mergeDims } from '../merge.ts';
import { inRow, remembered } from '../remembered.ts';
import { elemOf } from './elem.ts';
import { type Addend, finishOf, type Parts, putOf, storesOne } from './finish.ts';
import type { Member } from './operands.ts';

/** A stack of matrices in input `ref`: element (i, j) of batch entry z is at start(z) + i row + j col. */
export interface Matrix {
  readonly ref: Ref;
  readonly elem: Elem;
  readonly row: number;
  readonly col: number;
  readonly batch: readonly number[];
}

/** Text that reads an operand. `ref` is bound to it; further bindings and uniforms ride along. */
export interface Source {
  readonly ref: Ref;
  readonly types: Readonly<Record<string, Elem>>;
  readonly text: string;
  readonly extra?: NonNullable<Launch['extra']>;
  readonly extraUniforms?: readonly Member[];
}

type Read = Pick<Source, 'types' | 'text'>;

/** y[z] = a[z] b[z] for all entries z of `batch`, m x k by k x n, finished as `addends` and the call's epilogue say. */
export interface Product {
  readonly call: Call;
  readonly batch: readonly number[];
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: Matrix;
  readonly b: Matrix;
  /** k comes from weights, so it may be part of the shader. */
  readonly fixedDepth: boolean;
  readonly kind: 'f32' | 'i32' | 'u32';
  readonly alpha: number;
  readonly addends: readonly Addend[];
  /** Reads b instead of the default, in rows of four columns. */
  readonly readB?: (p: Product, caps: GpuCaps) => Source;
  readonly readA?: (p: Product, caps: GpuCaps) => Source;
  /** `fn put` of quads, instead of what the call's epilogue and `addends` say. */
  readonly put?: (caps: GpuCaps) => Parts;
}

/** The same product with as few batch dims and as many rows as its strides allow. */
export function flattened(p: Product): Product {
  const merged = mergeDims(p.batch, [p.a.batch, p.b.batch], true);
  const [sa, sb] = merged.strides as [number[], number[]];
  const whole = merged.dims.length === 1 && sb[0] === 0 && sa[0] === p.m * p.a.row;
  if (whole) return { ...p, batch: [], m: p.m * merged.dims[0]!, a: { ...p.a, batch: [] }, b: { ...p.b, batch: [] } };
  return { ...p, batch: merged.dims, a: { ...p.a, batch: sa }, b: { ...p.b, batch: sb } };
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const four = (n: number): boolean => n % 4 === 0;
/**
 * Can the matrix be read four neighbours along `run`, the stride-1 direction, with the other direction's stride
 * `other`?
 */
const quads = (m: Matrix, run: number, other: number): boolean => run === 1 && four(other) && m.batch.every(four);

export const uniformsOf = (p: Product): Record<string, number | readonly number[]> => {
  const inward = (list: readonly number[]): number[] => [...list].reverse();
  return {
    m: p.m,
    n: p.n,
    k: p.k,
    count: sizeOf(p.batch),
    a_row: p.a.row,
    a_col: p.a.col,
    b_row: p.b.row,
    b_col: p.b.col,
    dims: inward(p.batch),
    a_batch: inward(p.a.batch),
    b_batch: inward(p.b.batch),
  };
};

/** Text for a number: part of the shader where weights determine it. */
export const numberText = (value: number, fixed: boolean, otherwise: string): string =>
  fixed ? `${value}u` : otherwise;

/** `take_NAME` by whole quads: the binding's type and how quad i and element i are read. */
function quadText(
  name: string,
  elem: Elem,
  f16: boolean,
): { types: Readonly<Record<string, Elem>>; text: string; quad: (i: string) => string; one: (i: string) => string } {
  const Name = name.toUpperCase();
  if (elem === 'f32' || elem === 'i32' || elem === 'u32')
    return {
      types: {},
      text: `alias ${Name}Store = vec4<${elem}>;`,
      quad: (i) => `${name}[(${i}) >> 2u]`,
      one: (i) => `${name}[(${i}) >> 2u][(${i}) & 3u]`,
    };
  if (elem === 'f16' && f16)
    return {
      types: { half: 'f16' },
      text: `alias ${Name}Store = vec4<f16>;`,
      quad: (i) => `vec4f(${name}[(${i}) >> 2u])`,
      one: (i) => `f32(${name}[(${i}) >> 2u][(${i}) & 3u])`,
    };
  return {
    types: { [name]: elem },
    text: '',
    quad: (i) => `load4_${name}((${i}) >> 2u)`,
    one: (i) => `load_${name}(${i})`,
  };
}

/**
 * `take_a(o, k, row)`: depths k .. k+3 of the row at o; `one_a`: depth k. `clamped`: depths beyond the last are read as
 * the last.
 */
export function sourceA(p: Product, caps: GpuCaps, clamped: boolean): Source {
  if (p.readA) return p.readA(p, caps);
  const { a } = p;
  const whole = quads(a, a.col, a.row) && (!clamped || four(p.k) || 'pack' in a.ref);
  return {
    ref: a.ref,
    ...(whole
      ? quadsOfA(a.elem, caps.f16)
      : columnsOfA(a.elem, a.col === 1, clamped ? numberText(p.k - 1, p.fixedDepth, '(u.k - 1u)') : '')),
  };
}
const quadsOfA = remembered((elem: Elem, f16: boolean): Read => {
  const q = quadText('a', elem, f16);
  const type = VALUE_TYPE[elem];
  return {
    types: q.types,
    text: `${q.text}\nfn take_a(o: u32, k: u32, row: u32) -> vec4<${type}> { return ${q.quad('o + k')}; }\nfn one_a(o: u32, k: u32, row: u32) -> ${type} { return ${q.one('o + k')}; }`,
  };
});
const columnsOfA = remembered((elem: Elem, dense: boolean, last: string): Read => {
  const col = numberText(1, dense, 'u.a_col');
  const type = VALUE_TYPE[elem];
  const at = range(4).map(
    (j) => `load_a(o + ${last !== '' && j > 0 ? `min(k + ${j}u, ${last})` : `(k + ${j}u)`} * ${col})`,
  );
  return {
    types: { a: elem },
    text: `fn take_a(o: u32, k: u32, row: u32) -> vec4<${type}> { return vec4<${type}>(${at.join(', ')}); }\nfn one_a(o: u32, k: u32, row: u32) -> ${type} { return load_a(o + k * ${col}); }`,
  };
});

/**
 * Does b lie with its columns in rows of neighbours, so that the product is best formed by dot products along the
 * depth?
 */
export const dotsB = (p: Product): boolean =>
  p.readB === undefined && p.b.col !== 1 && four(p.k) && quads(p.b, p.b.row, p.b.col);

/** Are quads of columns read whole? */
export const wholeB = (p: Product): boolean =>
  p.readB !== undefined || (quads(p.b, p.b.col, p.b.row) && (four(p.n) || 'pack' in p.b.ref));

/**
 * `take_b(o, k, n)`: columns n .. n+3 at depth k, those beyond the last read as the last. With `dots`: depths k .. k+3
 * of column n.
 */
export function sourceB(p: Product, caps: GpuCaps, dots: boolean): Source {
  if (p.readB) return p.readB(p, caps);
  const { b } = p;
  const fixed = 'pack' in b.ref;
  if (!dots && !wholeB(p)) return { ref: b.ref, ...columnsOfB(b.elem, b.col === 1) };
  const at = dots
    ? `o + n * ${numberText(b.col, fixed, 'u.b_col')} + k`
    : `o + k * ${numberText(b.row, fixed, 'u.b_row')} + n`;
  return { ref: b.ref, ...quadsOfB(b.elem, caps.f16, at) };
}
const headB = (elem: Elem): string => `fn take_b(o: u32, k: u32, n: u32) -> vec4<${VALUE_TYPE[elem]}>`;
const quadsOfB = remembered((elem: Elem, f16: boolean, at: string): Read => {
  const q = quadText('b', elem, f16);
  return { types: q.types, text: `${q.text}\n${headB(elem)} { return ${q.quad(at)}; }` };
});
const columnsOfB = remembered((elem: Elem, dense: boolean): Read => {
  const columns = range(4).map(
    (j) => `load_b(at + ${j === 0 ? 'n' : `min(n + ${j}u, last)`} * ${numberText(1, dense, 'u.b_col')})`,
  );
  return {
    types: { b: elem },
    text: `${headB(elem)} { let at = o + k * u.b_row; let last = u.n - 1u; return vec4<${VALUE_TYPE[elem]}>(${columns.join(', ')}); }`,
  };
});

/** May rows be stored four columns at a time? Packed elements only where rows are whole quads of the output. */
export const storable = (p: Product, caps: GpuCaps): boolean => four(p.n) || storesOne(p.call, caps);

/**
 * A launch of a module with bindings a, b, y and the product's uniforms, whose slots are the sources, the store and
 * `text`.
 */
export function productLaunch(
  p: Product,
  module: Launch['module'],
  params: Readonly<Record<string, number>>,
  workgroups: Launch['workgroups'],
  a: Source,
  b: Source,
  text: string,
  put: Parts,
  y: Ref = { output: 0 },
  wide = 0,
): Launch {
  return {
    module,
    params: { ...params, RANK: p.batch.length },
    uniforms: { ...uniformsOf(p), wide },
    workgroups,
    types: { ...a.types, ...b.types, ...put.types },
    slots: { tile: inRow(a.text, b.text, put.text, text) },
    bind: [a.ref, b.ref, y],
    extra: [...put.extra, ...(a.extra ?? []), ...(b.extra ?? [])],
    extraUniforms: [...put.extraUniforms, ...(a.extraUniforms ?? []), ...(b.extraUniforms ?? [])],
  };
}

/** How a product's rows are finished and stored. */
export const putRows = (p: Product): ((caps: GpuCaps) => Parts) =>
  p.put ?? ((caps) => putOf(p.call, caps, four(p.n), finishOf(p.call, p.addends, p.alpha, p.kind), p.kind));

/** Types whose products shaders form in each kind. */
export const productKind = (elem: Elem | undefined): Product['kind'] | null =>
  elem === 'f32' || elem === 'f16' || elem === 'bf16' ? 'f32' : elem === 'i32' || elem === 'u32' ? elem : null;

/** Storage bindings of a product besides its epilogue's. */
export const PRODUCT_BINDINGS = 3;

/** An input's stack as a Matrix, packed into rows whose stride four divides when that helps and it is a constant. */
export function matrixOf(
  call: Call,
  input: number,
  rows: number,
  cols: number,
  row: number,
  col: number,
  batch: readonly number[],
  turned: boolean,
): Matrix {
  const fact = call.inputs[input]!;
  const elem = elemOf(fact.dtype)!;
  const dense = row === cols && col === 1 ? 'rows' : row === 1 && col === rows ? 'columns' : null;
  const good = col === 1 && four(cols);
  if (
    fact.constant === undefined ||
    good ||
    dense === null ||
    (elem !== 'f32' && elem !== 'f16' && elem !== 'bf16') ||
    turned ||
    batch.some((s) => s % (rows * cols) !== 0) ||
    rows * cols === 0
  )
    return { ref: { input }, elem, row, col, batch };
  const wide = Math.ceil(cols / 4) * 4;
  const count = sizeOf(fact.shape) / (rows * cols);
  const pack = {
    name: 'matrix.rows',
    args: [count, rows, cols, row, col],
    bytes: count * rows * wide * (elem === 'f32' ? 4 : 2),
  };
  return { ref: { input, pack }, elem, row: wide, col: 1, batch: batch.map((s) => (s / (rows * cols)) * rows * wide) };
}
