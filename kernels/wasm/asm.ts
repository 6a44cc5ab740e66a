// Tiny typed WebAssembly assembler: TypeScript expressions -> wasm bytes.
// Expressions carry their wasm type in the TypeScript type, so `tsc` rejects f32x4.add(i32, v128).
export type VT = 'i32' | 'i64' | 'f32' | 'f64' | 'v128';
type Rope = number | Rope[];
export interface Expr<T extends VT | 'void' = VT> { readonly t: T; readonly b: Rope[] }
export type I32 = Expr<'i32'>; export type F32 = Expr<'f32'>; export type V = Expr<'v128'>; export type Stmt = Expr<'void'>;
export interface Local<T extends VT> extends Expr<T> { readonly idx: number }

const VTB: Record<VT, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };

export function uleb(n: number): number[] {
  const r: number[] = []; n >>>= 0;
  do { let x = n & 127; n >>>= 7; if (n) x |= 128; r.push(x); } while (n);
  return r;
}
export function sleb(v: number | bigint): number[] {
  let n = BigInt(v); const r: number[] = [];
  for (;;) { const x = Number(n & 127n); n >>= 7n; if ((n === 0n && !(x & 64)) || (n === -1n && (x & 64))) { r.push(x); return r; } r.push(x | 128); }
}
const f32b = (x: number) => [...new Uint8Array(new Float32Array([x]).buffer)];
const e = <T extends VT | 'void'>(t: T, ...b: Rope[]): Expr<T> => ({ t, b });
const simd = (op: number) => [0xfd, ...uleb(op)];

type Num = I32 | number;
const asI = (x: Num): I32 => typeof x === 'number' ? i32.const(x) : x;
const asV = (x: V | number): V => typeof x === 'number' ? f32x4.const(x) : x;
const bin = <T extends VT>(t: T, op: number) => (a: Expr<T>, b: Expr<T>): Expr<T> => e(t, a.b, b.b, op);
const ibin = (op: number) => (a: Num, b: Num): I32 => e('i32', asI(a).b, asI(b).b, op);
export const i32 = {
  const: (n: number): I32 => e('i32', 0x41, sleb(n | 0)),
  add: ibin(0x6a), sub: ibin(0x6b), mul: ibin(0x6c), divu: ibin(0x6e), remu: ibin(0x70), and: ibin(0x71), or: ibin(0x72), xor: ibin(0x73),
  shl: ibin(0x74), shrs: ibin(0x75), shru: ibin(0x76),
  eq: ibin(0x46), ne: ibin(0x47), lts: ibin(0x48), ltu: ibin(0x49), gts: ibin(0x4a), gtu: ibin(0x4b), les: ibin(0x4c), leu: ibin(0x4d), ges: ibin(0x4e), geu: ibin(0x4f),
  eqz: (a: I32): I32 => e('i32', a.b, 0x45),
  load: (p: I32, off = 0): I32 => e('i32', p.b, 0x28, 2, uleb(off)),
  load8u: (p: I32, off = 0): I32 => e('i32', p.b, 0x2d, 0, uleb(off)),
  load16u: (p: I32, off = 0): I32 => e('i32', p.b, 0x2f, 1, uleb(off)),
  store: (p: I32, v: Num, off = 0): Stmt => e('void', p.b, asI(v).b, 0x36, 2, uleb(off)),
  store8: (p: I32, v: Num, off = 0): Stmt => e('void', p.b, asI(v).b, 0x3a, 0, uleb(off)),
  // threads
  atomicLoad: (p: I32, off = 0): I32 => e('i32', p.b, 0xfe, 0x10, 2, uleb(off)),
  atomicStore: (p: I32, v: Num, off = 0): Stmt => e('void', p.b, asI(v).b, 0xfe, 0x17, 2, uleb(off)),
  atomicAdd: (p: I32, v: Num, off = 0): I32 => e('i32', p.b, asI(v).b, 0xfe, 0x1e, 2, uleb(off)),
  wait: (p: I32, v: Num, off = 0): I32 => e('i32', p.b, asI(v).b, 0x42, sleb(-1), 0xfe, 0x01, 2, uleb(off)),
  notify: (p: I32, n: Num, off = 0): I32 => e('i32', p.b, asI(n).b, 0xfe, 0x00, 2, uleb(off)),
};
export const f32 = {
  const: (x: number): F32 => e('f32', 0x43, f32b(x)),
  load: (p: I32, off = 0): F32 => e('f32', p.b, 0x2a, 2, uleb(off)),
  store: (p: I32, v: F32, off = 0): Stmt => e('void', p.b, v.b, 0x38, 2, uleb(off)),
  add: bin('f32', 0x92), sub: bin('f32', 0x93), mul: bin('f32', 0x94), div: bin('f32', 0x95), min: bin('f32', 0x96), max: bin('f32', 0x97),
  sqrt: (a: F32): F32 => e('f32', a.b, 0x91),
};
const vun = (op: number) => (a: V): V => e('v128', a.b, simd(op));
const vbin = (op: number) => (a: V | number, b: V | number): V => e('v128', asV(a).b, asV(b).b, simd(op));
const vshift = (op: number) => (a: V, n: Num): V => e('v128', a.b, asI(n).b, simd(op));
const vter = (op: number) => (a: V, b: V, c: V): V => e('v128', a.b, b.b, c.b, simd(op));
export const v128 = {
  load: (p: I32, off = 0): V => e('v128', p.b, simd(0x00), 4, uleb(off)),
  store: (p: I32, v: V, off = 0): Stmt => e('void', p.b, v.b, simd(0x0b), 4, uleb(off)),
  load8splat: (p: I32, off = 0): V => e('v128', p.b, simd(0x07), 0, uleb(off)),
  load32splat: (p: I32, off = 0): V => e('v128', p.b, simd(0x09), 2, uleb(off)),
  load64splat: (p: I32, off = 0): V => e('v128', p.b, simd(0x0a), 3, uleb(off)),
  load32zero: (p: I32, off = 0): V => e('v128', p.b, simd(0x5c), 2, uleb(off)),
  load64zero: (p: I32, off = 0): V => e('v128', p.b, simd(0x5d), 3, uleb(off)),
  and: vbin(0x4e), andnot: vbin(0x4f), or: vbin(0x50), xor: vbin(0x51), bitselect: vter(0x52),
  zero: (): V => e('v128', simd(0x0c), new Array(16).fill(0)),
  const8: (b: number[]): V => e('v128', simd(0x0c), b.map(x => x & 255)),
  const32: (...x: number[]): V => e('v128', simd(0x0c), [...new Uint8Array(new Int32Array(x.length === 1 ? [x[0]!, x[0]!, x[0]!, x[0]!] : x).buffer)]),
  shuffle: (a: V, b: V, lanes: number[]): V => e('v128', a.b, b.b, simd(0x0d), lanes),
  /** 32-bit lane shuffle, lanes 0..7 */
  shuf32: (a: V, b: V, l: number[]): V => v128.shuffle(a, b, l.flatMap(x => [x * 4, x * 4 + 1, x * 4 + 2, x * 4 + 3])),
  load8x8s: (p: I32, off = 0): V => e('v128', p.b, simd(0x01), 3, uleb(off)),
  load8x8u: (p: I32, off = 0): V => e('v128', p.b, simd(0x02), 3, uleb(off)),
};
export const f32x4 = {
  const: (x: number): V => e('v128', simd(0x0c), [...f32b(x), ...f32b(x), ...f32b(x), ...f32b(x)]),
  splat: (x: F32): V => e('v128', x.b, simd(0x13)),
  lane: (v: V, l: number): F32 => e('f32', v.b, simd(0x1f), l),
  add: vbin(0xe4), sub: vbin(0xe5), mul: vbin(0xe6), div: vbin(0xe7), min: vbin(0xe8), max: vbin(0xe9), pmin: vbin(0xea), pmax: vbin(0xeb),
  abs: vun(0xe0), neg: vun(0xe1), sqrt: vun(0xe3), ceil: vun(0x67), floor: vun(0x68), nearest: vun(0x6a),
  eq: vbin(0x41), lt: vbin(0x43), gt: vbin(0x44), le: vbin(0x45), ge: vbin(0x46),
  convS: vun(0xfa), convU: vun(0xfb),
  rmadd: vter(0x105), rnmadd: vter(0x106), rmin: vbin(0x10d), rmax: vbin(0x10e),
};
export const i32x4 = {
  splat: (x: I32): V => e('v128', x.b, simd(0x11)),
  lane: (v: V, l: number): I32 => e('i32', v.b, simd(0x1b), l),
  add: vbin(0xae), sub: vbin(0xb1), mul: vbin(0xb5), shl: vshift(0xab), shrs: vshift(0xac), shru: vshift(0xad),
  truncSatS: vun(0xf8), rtruncS: vun(0x101), dot16: vbin(0xba), maxs: vbin(0xb8), mins: vbin(0xb6),
  rdot8add: vter(0x113), extaddS: vun(0x7e), extLowS: vun(0xa7), extHighS: vun(0xa8),
};
export const i16x8 = {
  extLowS: vun(0x87), extHighS: vun(0x88), extLowU: vun(0x89), extHighU: vun(0x8a), add: vbin(0x8e), sub: vbin(0x91), mul: vbin(0x95),
  extmulLowS: vbin(0x9c), extmulHighS: vbin(0x9d), rdot8: vbin(0x112), narrowS: vbin(0x85), splat: (x: I32): V => e('v128', x.b, simd(0x10)),
};
export const i8x16 = {
  splat: (x: I32): V => e('v128', x.b, simd(0x0f)), add: vbin(0x6e), sub: vbin(0x71), swizzle: vbin(0x0e), rswizzle: vbin(0x100),
  shl: vshift(0x6b), shrs: vshift(0x6c), shru: vshift(0x6d), narrowS: vbin(0x65), narrowU: vbin(0x66),
};
export const seq = (...s: Stmt[]): Stmt => e('void', ...s.map(x => x.b));

export class Fn {
  locals: VT[] = []; body: Rope[] = []; depth = 0;
  readonly mod: Mod; readonly idx: number; readonly params: VT[]; readonly results: VT[]; readonly name: string;
  constructor(mod: Mod, idx: number, params: VT[], results: VT[], name: string) { this.mod = mod; this.idx = idx; this.params = params; this.results = results; this.name = name; this.locals = [...params]; }
  arg<T extends VT>(t: T, i: number): Local<T> { return { t, idx: i, b: [0x20, uleb(i)] }; }
  local<T extends VT>(t: T): Local<T> { const i = this.locals.length; this.locals.push(t); return { t, idx: i, b: [0x20, uleb(i)] }; }
  emit(...s: (Stmt | Rope)[]) { for (const x of s) this.body.push(typeof x === 'object' && 't' in x ? x.b : x as Rope); }
  set<T extends VT>(l: Local<T>, v: Expr<T>) { this.body.push(v.b, 0x21, uleb(l.idx)); }
  inc(l: Local<'i32'>, n: Num) { this.set(l, i32.add(l, n)); }
  ret<T extends VT>(v: Expr<T>) { this.body.push(v.b); }
  drop(v: Expr<VT>) { this.body.push(v.b, 0x1a); }
  call(f: { idx: number }, ...args: Expr<VT>[]) { for (const a of args) this.body.push(a.b); this.body.push(0x10, uleb(f.idx)); }
  /** do { body } while (cond()) */
  doWhile(body: () => void, cond: () => I32) { this.body.push(0x03, 0x40); body(); this.body.push(cond().b, 0x0d, 0, 0x0b); }
  /** while-style loop guarded */
  whileLoop(cond: () => I32, body: () => void) { this.body.push(0x02, 0x40, 0x03, 0x40, cond().b, 0x45, 0x0d, 1); body(); this.body.push(0x0c, 0, 0x0b, 0x0b); }
  /** for (l = from; l < to; l += step) with constant >0 trip count: bottom-tested */
  forN(l: Local<'i32'>, from: Num, to: Num, step: number, body: () => void) {
    this.set(l, asI(from)); this.doWhile(() => { body(); this.inc(l, step); }, () => i32.ltu(l, to));
  }
  iff(c: I32, then: () => void, els?: () => void) { this.body.push(c.b, 0x04, 0x40); then(); if (els) { this.body.push(0x05); els(); } this.body.push(0x0b); }
}
const flat = (r: Rope[], out: number[]) => { for (const x of r) if (typeof x === 'number') out.push(x); else flat(x, out); return out; };
export interface ModOpts { memory: { pages: number; max?: number; shared?: boolean; import?: boolean } ; names?: boolean}
export class Mod {
  fns: Fn[] = []; exports: [string, number][] = []; imports: { m: string; n: string; params: VT[]; results: VT[] }[] = [];
  readonly o: ModOpts;
  constructor(o: ModOpts) { this.o = o; }
  importFn(m: string, n: string, params: VT[], results: VT[] = []) { if (this.fns.length) throw Error('imports first'); this.imports.push({ m, n, params, results }); return { idx: this.imports.length - 1 }; }
  fn(name: string, params: VT[], results: VT[], exported: boolean, build: (f: Fn) => void): Fn {
    const f = new Fn(this, this.imports.length + this.fns.length, params, results, name); this.fns.push(f);
    if (exported) this.exports.push([name, f.idx]);
    build(f); return f;
  }
  bytes(): Uint8Array {
    const out: number[] = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
    const sec = (id: number, c: number[]) => { out.push(id, ...uleb(c.length)); for (const x of c) out.push(x); };
    const vec = (xs: number[][]) => { const r = uleb(xs.length); for (const x of xs) for (const y of x) r.push(y); return r; };
    const str = (s: string) => { const b = new TextEncoder().encode(s); return [...uleb(b.length), ...b]; };
    const types: string[] = []; const tb: number[][] = [];
    const ty = (p: VT[], r: VT[]) => { const k = p + '>' + r; let i = types.indexOf(k); if (i < 0) { i = types.length; types.push(k); tb.push([0x60, ...vec(p.map(x => [VTB[x]])), ...vec(r.map(x => [VTB[x]]))]); } return i; };
    const it = this.imports.map(i => ty(i.params, i.results)), ft = this.fns.map(f => ty(f.params, f.results));
    const m = this.o.memory, lim = [(m.max !== undefined ? 1 : 0) | (m.shared ? 2 : 0), ...uleb(m.pages), ...(m.max !== undefined ? uleb(m.max) : [])];
    sec(1, vec(tb));
    const imps: number[][] = this.imports.map((i, k) => [...str(i.m), ...str(i.n), 0, ...uleb(it[k]!)]);
    if (m.import) imps.push([...str('env'), ...str('memory'), 2, ...lim]);
    if (imps.length) sec(2, vec(imps));
    sec(3, vec(ft.map(uleb)));
    if (!m.import) sec(5, vec([lim]));
    const ex = this.exports.map(([n, i]) => [...str(n), 0, ...uleb(i)]); if (!m.import) ex.push([...str('memory'), 2, 0]);
    sec(7, vec(ex));
    const bodies = this.fns.map(f => {
      const c: number[] = []; const ls = f.locals.slice(f.params.length); const runs: [VT, number][] = [];
      for (const l of ls) { const last = runs[runs.length - 1]; if (last && last[0] === l) last[1]++; else runs.push([l, 1]); }
      c.push(...vec(runs.map(([t, n]) => [...uleb(n), VTB[t]]))); flat(f.body, c); c.push(0x0b);
      return [...uleb(c.length), ...c.slice(0, 0)].concat(c);
    });
    sec(10, vec(bodies));
    if (this.o.names !== false) sec(0, [...str('name'), 1, ...(() => { const c = vec(this.fns.map(f => [...uleb(f.idx), ...str(f.name ?? '')])); return [...uleb(c.length), ...c]; })()]);
    return new Uint8Array(out);
  }
}
