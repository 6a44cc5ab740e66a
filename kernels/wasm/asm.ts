/**
 * A small typed WebAssembly assembler: TypeScript expressions become module bytes. An expression carries its WebAssembly type in its
 * TypeScript type, so `tsc` refuses `f32x4.add(i32, v128)`. An expression used twice is computed twice: keep it in a local (`Fn.let`).
 *
 * Vector constants inside a loop are loaded once, into a local at the function's start: newer engines build an inline
 * `v128.const` anew on every iteration. `Fn.hoist = false` turns that off.
 *
 * Opcodes: https://webassembly.github.io/spec/core/binary/instructions.html
 */
export type VT = 'i32' | 'i64' | 'f32' | 'f64' | 'v128';

/** A vector constant, apart from other bytes so that it can be hoisted out of loops. */
interface Constant { readonly bytes: readonly number[] }
const ENTER = '{', LEAVE = '}';
/** Bytes in order, nested as they were composed. ENTER and LEAVE stand around the instructions of a loop. */
export type Rope = number | readonly Rope[] | Constant | typeof ENTER | typeof LEAVE;

/** An instruction sequence that leaves one value of type T on the stack (none for 'void'). */
export interface Expr<T extends VT | 'void' = VT> { readonly t: T; readonly b: readonly Rope[] }
export type I32 = Expr<'i32'>;
export type I64 = Expr<'i64'>;
export type F32 = Expr<'f32'>;
export type F64 = Expr<'f64'>;
export type V = Expr<'v128'>;
export type Stmt = Expr<'void'>;
/** A parameter or local variable; as an expression it reads itself. */
export interface Local<T extends VT> extends Expr<T> { readonly idx: number }

const VTB: Readonly<Record<VT, number>> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };

// ── bytes ───────────────────────────────────────────────────────────────────────────────────────────────────────────
interface Bytes { buffer: Uint8Array<ArrayBuffer>; length: number }
const bytes = (capacity: number): Bytes => ({ buffer: new Uint8Array(capacity), length: 0 });
function room(w: Bytes, more: number): void {
  if (w.length + more <= w.buffer.length) return;
  const grown = new Uint8Array(Math.max(w.buffer.length * 2, w.length + more));
  grown.set(w.buffer.subarray(0, w.length));
  w.buffer = grown;
}
function put(w: Bytes, xs: ArrayLike<number>): void {
  room(w, xs.length);
  for (let i = 0; i < xs.length; i++) w.buffer[w.length++] = xs[i]!;
}
const putBytes = (w: Bytes, from: Bytes): void => {
  room(w, from.length);
  w.buffer.set(from.buffer.subarray(0, from.length), w.length);
  w.length += from.length;
};
const text = new TextEncoder();
const putText = (w: Bytes, s: string): void => { const b = text.encode(s); put(w, uleb(b.length)); put(w, b); };

/** Unsigned LEB128 of a 32-bit number. */
export function uleb(n: number): number[] {
  n >>>= 0;
  if (n < 128) return [n];
  const r: number[] = [];
  do {
    const x = n & 127;
    n >>>= 7;
    r.push(n ? x | 128 : x);
  } while (n);
  return r;
}
/** Signed LEB128. */
export function sleb(v: number | bigint): number[] {
  const r: number[] = [];
  if (typeof v === 'number' && v === (v | 0)) {
    for (;;) {
      const x = v & 127;
      v >>= 7;
      if ((v === 0 && !(x & 64)) || (v === -1 && x & 64)) { r.push(x); return r; }
      r.push(x | 128);
    }
  }
  let n = BigInt(v);
  for (;;) {
    const x = Number(n & 127n);
    n >>= 7n;
    if ((n === 0n && !(x & 64)) || (n === -1n && x & 64)) { r.push(x); return r; }
    r.push(x | 128);
  }
}
const scratch = new DataView(new ArrayBuffer(8));
const f32b = (x: number): number[] => { scratch.setFloat32(0, x, true); return [0, 1, 2, 3].map((i) => scratch.getUint8(i)); };
const f64b = (x: number): number[] => { scratch.setFloat64(0, x, true); return [0, 1, 2, 3, 4, 5, 6, 7].map((i) => scratch.getUint8(i)); };
const i32b = (x: number): number[] => [x & 255, (x >> 8) & 255, (x >> 16) & 255, (x >> 24) & 255];
const i64b = (x: bigint): number[] => [...i32b(Number(BigInt.asIntN(32, x))), ...i32b(Number(BigInt.asIntN(32, x >> 32n)))];

const e = <T extends VT | 'void'>(t: T, ...b: Rope[]): Expr<T> => ({ t, b });
const simd = (op: number): number[] => [0xfd, ...uleb(op)];

// ── scalars ─────────────────────────────────────────────────────────────────────────────────────────────────────────
/** Where an i32 is expected a number may stand. */
export type Num = I32 | number;
type Long = I64 | number | bigint;
type Single = F32 | number;
type Double = F64 | number;
const asI = (x: Num): I32 => (typeof x === 'number' ? i32.const(x) : x);
const asL = (x: Long): I64 => (typeof x === 'object' ? x : i64.const(x));
const asF = (x: Single): F32 => (typeof x === 'number' ? f32.const(x) : x);
const asD = (x: Double): F64 => (typeof x === 'number' ? f64.const(x) : x);
const conv = <A extends VT, T extends VT>(t: T, ...op: number[]) => (a: Expr<A>): Expr<T> => e(t, a.b, op);
const load = <T extends VT>(t: T, op: Rope, align: number) => (p: I32, off = 0): Expr<T> => e(t, p.b, op, align, uleb(off));
const ibin = (op: number) => (a: Num, b: Num): I32 => e('i32', asI(a).b, asI(b).b, op);
const lbin = (op: number) => (a: Long, b: Long): I64 => e('i64', asL(a).b, asL(b).b, op);
const lcmp = (op: number) => (a: Long, b: Long): I32 => e('i32', asL(a).b, asL(b).b, op);
const fbin = (op: number) => (a: Single, b: Single): F32 => e('f32', asF(a).b, asF(b).b, op);
const fcmp = (op: number) => (a: Single, b: Single): I32 => e('i32', asF(a).b, asF(b).b, op);
const dbin = (op: number) => (a: Double, b: Double): F64 => e('f64', asD(a).b, asD(b).b, op);
const dcmp = (op: number) => (a: Double, b: Double): I32 => e('i32', asD(a).b, asD(b).b, op);
const istore = (op: number, align: number) => (p: I32, v: Num, off = 0): Stmt => e('void', p.b, asI(v).b, op, align, uleb(off));

export const i32 = {
  const: (n: number): I32 => e('i32', 0x41, sleb(n | 0)),
  add: ibin(0x6a), sub: ibin(0x6b), mul: ibin(0x6c), divs: ibin(0x6d), divu: ibin(0x6e), rems: ibin(0x6f), remu: ibin(0x70), and: ibin(0x71), or: ibin(0x72), xor: ibin(0x73),
  shl: ibin(0x74), shrs: ibin(0x75), shru: ibin(0x76), rotl: ibin(0x77),
  eq: ibin(0x46), ne: ibin(0x47), lts: ibin(0x48), ltu: ibin(0x49), gts: ibin(0x4a), gtu: ibin(0x4b), les: ibin(0x4c), leu: ibin(0x4d), ges: ibin(0x4e), geu: ibin(0x4f),
  eqz: conv<'i32', 'i32'>('i32', 0x45), clz: conv<'i32', 'i32'>('i32', 0x67), ctz: conv<'i32', 'i32'>('i32', 0x68), popcnt: conv<'i32', 'i32'>('i32', 0x69),
  extend8s: conv<'i32', 'i32'>('i32', 0xc0), extend16s: conv<'i32', 'i32'>('i32', 0xc1),
  wrap: conv<'i64', 'i32'>('i32', 0xa7), bitsOf: conv<'f32', 'i32'>('i32', 0xbc),
  truncSatS: conv<'f32', 'i32'>('i32', 0xfc, 0), truncSatU: conv<'f32', 'i32'>('i32', 0xfc, 1), truncSatS64: conv<'f64', 'i32'>('i32', 0xfc, 2), truncSatU64: conv<'f64', 'i32'>('i32', 0xfc, 3),
  select: (c: I32, a: Num, b: Num): I32 => e('i32', asI(a).b, asI(b).b, c.b, 0x1b),
  load: load('i32', 0x28, 2), load8s: load('i32', 0x2c, 0), load8u: load('i32', 0x2d, 0), load16s: load('i32', 0x2e, 1), load16u: load('i32', 0x2f, 1),
  store: istore(0x36, 2), store8: istore(0x3a, 0), store16: istore(0x3b, 1),
  // threads
  atomicLoad: (p: I32, off = 0): I32 => e('i32', p.b, 0xfe, 0x10, 2, uleb(off)),
  atomicStore: (p: I32, v: Num, off = 0): Stmt => e('void', p.b, asI(v).b, 0xfe, 0x17, 2, uleb(off)),
  atomicAdd: (p: I32, v: Num, off = 0): I32 => e('i32', p.b, asI(v).b, 0xfe, 0x1e, 2, uleb(off)),
  wait: (p: I32, v: Num, off = 0): I32 => e('i32', p.b, asI(v).b, 0x42, sleb(-1), 0xfe, 0x01, 2, uleb(off)),
  notify: (p: I32, n: Num, off = 0): I32 => e('i32', p.b, asI(n).b, 0xfe, 0x00, 2, uleb(off)),
};
export const i64 = {
  const: (n: number | bigint): I64 => e('i64', 0x42, sleb(BigInt.asIntN(64, BigInt(n)))),
  add: lbin(0x7c), sub: lbin(0x7d), mul: lbin(0x7e), divs: lbin(0x7f), divu: lbin(0x80), rems: lbin(0x81), remu: lbin(0x82), and: lbin(0x83), or: lbin(0x84), xor: lbin(0x85),
  shl: lbin(0x86), shrs: lbin(0x87), shru: lbin(0x88),
  eq: lcmp(0x51), ne: lcmp(0x52), lts: lcmp(0x53), ltu: lcmp(0x54), gts: lcmp(0x55), gtu: lcmp(0x56), les: lcmp(0x57), leu: lcmp(0x58), ges: lcmp(0x59), geu: lcmp(0x5a),
  eqz: conv<'i64', 'i32'>('i32', 0x50), extendS: conv<'i32', 'i64'>('i64', 0xac), extendU: conv<'i32', 'i64'>('i64', 0xad), bitsOf: conv<'f64', 'i64'>('i64', 0xbd),
  truncSatS: conv<'f64', 'i64'>('i64', 0xfc, 6), truncSatU: conv<'f64', 'i64'>('i64', 0xfc, 7), truncSatS32: conv<'f32', 'i64'>('i64', 0xfc, 4), truncSatU32: conv<'f32', 'i64'>('i64', 0xfc, 5),
  extend8s: conv<'i64', 'i64'>('i64', 0xc2), extend16s: conv<'i64', 'i64'>('i64', 0xc3), extend32s: conv<'i64', 'i64'>('i64', 0xc4),
  select: (c: I32, a: Long, b: Long): I64 => e('i64', asL(a).b, asL(b).b, c.b, 0x1b),
  load: load('i64', 0x29, 3), store: (p: I32, v: Long, off = 0): Stmt => e('void', p.b, asL(v).b, 0x37, 3, uleb(off)),
};
export const f32 = {
  const: (x: number): F32 => e('f32', 0x43, f32b(x)),
  load: load('f32', 0x2a, 2), store: (p: I32, v: Single, off = 0): Stmt => e('void', p.b, asF(v).b, 0x38, 2, uleb(off)),
  add: fbin(0x92), sub: fbin(0x93), mul: fbin(0x94), div: fbin(0x95), min: fbin(0x96), max: fbin(0x97), copysign: fbin(0x98),
  abs: conv<'f32', 'f32'>('f32', 0x8b), neg: conv<'f32', 'f32'>('f32', 0x8c), ceil: conv<'f32', 'f32'>('f32', 0x8d), floor: conv<'f32', 'f32'>('f32', 0x8e),
  trunc: conv<'f32', 'f32'>('f32', 0x8f), nearest: conv<'f32', 'f32'>('f32', 0x90), sqrt: conv<'f32', 'f32'>('f32', 0x91),
  eq: fcmp(0x5b), ne: fcmp(0x5c), lt: fcmp(0x5d), gt: fcmp(0x5e), le: fcmp(0x5f), ge: fcmp(0x60),
  convS: conv<'i32', 'f32'>('f32', 0xb2), convU: conv<'i32', 'f32'>('f32', 0xb3), convS64: conv<'i64', 'f32'>('f32', 0xb4), convU64: conv<'i64', 'f32'>('f32', 0xb5),
  demote: conv<'f64', 'f32'>('f32', 0xb6), ofBits: conv<'i32', 'f32'>('f32', 0xbe),
  select: (c: I32, a: Single, b: Single): F32 => e('f32', asF(a).b, asF(b).b, c.b, 0x1b),
};
export const f64 = {
  const: (x: number): F64 => e('f64', 0x44, f64b(x)),
  load: load('f64', 0x2b, 3), store: (p: I32, v: Double, off = 0): Stmt => e('void', p.b, asD(v).b, 0x39, 3, uleb(off)),
  add: dbin(0xa0), sub: dbin(0xa1), mul: dbin(0xa2), div: dbin(0xa3), min: dbin(0xa4), max: dbin(0xa5), copysign: dbin(0xa6),
  abs: conv<'f64', 'f64'>('f64', 0x99), neg: conv<'f64', 'f64'>('f64', 0x9a), ceil: conv<'f64', 'f64'>('f64', 0x9b), floor: conv<'f64', 'f64'>('f64', 0x9c),
  trunc: conv<'f64', 'f64'>('f64', 0x9d), nearest: conv<'f64', 'f64'>('f64', 0x9e), sqrt: conv<'f64', 'f64'>('f64', 0x9f),
  eq: dcmp(0x61), ne: dcmp(0x62), lt: dcmp(0x63), gt: dcmp(0x64), le: dcmp(0x65), ge: dcmp(0x66),
  convS: conv<'i32', 'f64'>('f64', 0xb7), convU: conv<'i32', 'f64'>('f64', 0xb8), convS64: conv<'i64', 'f64'>('f64', 0xb9), convU64: conv<'i64', 'f64'>('f64', 0xba),
  promote: conv<'f32', 'f64'>('f64', 0xbb), ofBits: conv<'i64', 'f64'>('f64', 0xbf),
  select: (c: I32, a: Double, b: Double): F64 => e('f64', asD(a).b, asD(b).b, c.b, 0x1b),
};
/** Bulk memory. The last argument of each is a count of bytes. */
export const memory = {
  copy: (dst: I32, src: I32, n: Num): Stmt => e('void', dst.b, src.b, asI(n).b, 0xfc, 10, 0, 0),
  fill: (dst: I32, byte: Num, n: Num): Stmt => e('void', dst.b, asI(byte).b, asI(n).b, 0xfc, 11, 0),
  /** Copies from passive data segment `segment` (`Mod.data`). */
  init: (segment: number, dst: I32, src: Num, n: Num): Stmt => e('void', dst.b, asI(src).b, asI(n).b, 0xfc, 8, uleb(segment), 0),
};

// ── vectors ─────────────────────────────────────────────────────────────────────────────────────────────────────────
const asV = (x: V | number): V => (typeof x === 'number' ? f32x4.const(x) : x);
const vconst = (b: readonly number[]): V => e('v128', { bytes: b });
const vun = (op: number) => { const o = simd(op); return (a: V): V => e('v128', a.b, o); };
const vbin = (op: number) => { const o = simd(op); return (a: V | number, b: V | number): V => e('v128', asV(a).b, asV(b).b, o); };
const vint = (op: number) => { const o = simd(op); return (a: V, b: V): V => e('v128', a.b, b.b, o); };
const vshift = (op: number) => { const o = simd(op); return (a: V, n: Num): V => e('v128', a.b, asI(n).b, o); };
const vter = (op: number) => { const o = simd(op); return (a: V, b: V, c: V): V => e('v128', a.b, b.b, c.b, o); };
const vload = (op: number, align: number) => load('v128', simd(op), align);
const vtest = (op: number) => { const o = simd(op); return (a: V): I32 => e('i32', a.b, o); };
const lane = <T extends VT>(t: T, op: number) => { const o = simd(op); return (v: V, l: number): Expr<T> => e(t, v.b, o, l); };
const replace = <T extends VT>(op: number) => { const o = simd(op); return (v: V, l: number, x: Expr<T>): V => e('v128', v.b, x.b, o, l); };
const splat = <T extends VT>(op: number) => { const o = simd(op); return (x: Expr<T>): V => e('v128', x.b, o); };
const laneLoad = (op: number, align: number) => { const o = simd(op); return (p: I32, v: V, l: number, off = 0): V => e('v128', p.b, v.b, o, align, uleb(off), l); };
const laneStore = (op: number, align: number) => { const o = simd(op); return (p: I32, v: V, l: number, off = 0): Stmt => e('void', p.b, v.b, o, align, uleb(off), l); };
const four = (b: readonly number[]): number[] => [...b, ...b, ...b, ...b];

export const v128 = {
  load: vload(0x00, 4),
  store: (p: I32, v: V, off = 0): Stmt => e('void', p.b, v.b, 0xfd, 0x0b, 4, uleb(off)),
  load8splat: vload(0x07, 0), load16splat: vload(0x08, 1), load32splat: vload(0x09, 2), load64splat: vload(0x0a, 3),
  load32zero: vload(0x5c, 2), load64zero: vload(0x5d, 3),
  load8x8s: vload(0x01, 3), load8x8u: vload(0x02, 3), load16x4s: vload(0x03, 3), load16x4u: vload(0x04, 3), load32x2s: vload(0x05, 3), load32x2u: vload(0x06, 3),
  load8lane: laneLoad(0x54, 0), load16lane: laneLoad(0x55, 1), load32lane: laneLoad(0x56, 2), load64lane: laneLoad(0x57, 3),
  store8lane: laneStore(0x58, 0), store16lane: laneStore(0x59, 1), store32lane: laneStore(0x5a, 2), store64lane: laneStore(0x5b, 3),
  not: vun(0x4d), and: vbin(0x4e), andnot: vbin(0x4f), or: vbin(0x50), xor: vbin(0x51),
  /** Bits of `a` where the mask has ones, else of `b`. */
  bitselect: vter(0x52),
  anyTrue: vtest(0x53),
  zero: (): V => vconst(new Array<number>(16).fill(0)),
  const8: (b: number[]): V => vconst(b.map((x) => x & 255)),
  /** One number for all lanes, or four. */
  const32: (...x: number[]): V => vconst(x.length === 1 ? four(i32b(x[0]!)) : x.flatMap(i32b)),
  const64: (x: bigint): V => vconst([...i64b(x), ...i64b(x)]),
  shuffle: (a: V, b: V, lanes: number[]): V => e('v128', a.b, b.b, 0xfd, 0x0d, lanes),
  /** 32-bit lane shuffle, lanes 0..7 */
  shuf32: (a: V, b: V, l: number[]): V => v128.shuffle(a, b, l.flatMap((x) => [x * 4, x * 4 + 1, x * 4 + 2, x * 4 + 3])),
  select: (c: I32, a: V, b: V): V => e('v128', a.b, b.b, c.b, 0x1c, 1, VTB.v128),
};
export const f32x4 = {
  const: (x: number): V => vconst(four(f32b(x))),
  splat: splat<'f32'>(0x13), lane: lane('f32', 0x1f), replace: replace<'f32'>(0x20),
  add: vbin(0xe4), sub: vbin(0xe5), mul: vbin(0xe6), div: vbin(0xe7), min: vbin(0xe8), max: vbin(0xe9),
  /** b < a ? b : a — one instruction on x86; NaN only from `a`. */
  pmin: vbin(0xea),
  /** a < b ? b : a */
  pmax: vbin(0xeb),
  abs: vun(0xe0), neg: vun(0xe1), sqrt: vun(0xe3), ceil: vun(0x67), floor: vun(0x68), trunc: vun(0x69), nearest: vun(0x6a),
  eq: vbin(0x41), ne: vbin(0x42), lt: vbin(0x43), gt: vbin(0x44), le: vbin(0x45), ge: vbin(0x46),
  convS: vun(0xfa), convU: vun(0xfb), demote: vun(0x5e),
  rmadd: vter(0x105), rnmadd: vter(0x106), rmin: vbin(0x10d), rmax: vbin(0x10e),
};
const dv = (x: V | number): V => (typeof x === 'number' ? f64x2.const(x) : x);
const dvbin = (op: number) => { const o = simd(op); return (a: V | number, b: V | number): V => e('v128', dv(a).b, dv(b).b, o); };
export const f64x2 = {
  const: (x: number): V => { const b = f64b(x); return vconst([...b, ...b]); },
  splat: splat<'f64'>(0x14), lane: lane('f64', 0x21), replace: replace<'f64'>(0x22),
  add: dvbin(0xf0), sub: dvbin(0xf1), mul: dvbin(0xf2), div: dvbin(0xf3), min: dvbin(0xf4), max: dvbin(0xf5), pmin: dvbin(0xf6), pmax: dvbin(0xf7),
  abs: vun(0xec), neg: vun(0xed), sqrt: vun(0xef), ceil: vun(0x74), floor: vun(0x75), trunc: vun(0x7a), nearest: vun(0x94),
  eq: dvbin(0x47), ne: dvbin(0x48), lt: dvbin(0x49), gt: dvbin(0x4a), le: dvbin(0x4b), ge: dvbin(0x4c),
  promote: vun(0x5f), convS: vun(0xfe), convU: vun(0xff), rmadd: vter(0x107), rnmadd: vter(0x108),
};
export const i32x4 = {
  splat: splat<'i32'>(0x11), lane: lane('i32', 0x1b), replace: replace<'i32'>(0x1c),
  add: vbin(0xae), sub: vbin(0xb1), mul: vbin(0xb5), abs: vun(0xa0), neg: vun(0xa1), shl: vshift(0xab), shrs: vshift(0xac), shru: vshift(0xad),
  eq: vint(0x37), ne: vint(0x38), lts: vint(0x39), ltu: vint(0x3a), gts: vint(0x3b), gtu: vint(0x3c), les: vint(0x3d), leu: vint(0x3e), ges: vint(0x3f), geu: vint(0x40),
  mins: vbin(0xb6), minu: vbin(0xb7), maxs: vbin(0xb8), maxu: vbin(0xb9), allTrue: vtest(0xa3), bitmask: vtest(0xa4),
  truncSatS: vun(0xf8), truncSatU: vun(0xf9), rtruncS: vun(0x101), truncSatS64: vun(0xfc), dot16: vbin(0xba),
  rdot8add: vter(0x113), extaddS: vun(0x7e), extLowS: vun(0xa7), extHighS: vun(0xa8), extLowU: vun(0xa9), extHighU: vun(0xaa),
};
export const i64x2 = {
  splat: splat<'i64'>(0x12), lane: lane('i64', 0x1d), replace: replace<'i64'>(0x1e),
  add: vint(0xce), sub: vint(0xd1), mul: vint(0xd5), abs: vun(0xc0), neg: vun(0xc1), shl: vshift(0xcb), shrs: vshift(0xcc), shru: vshift(0xcd),
  eq: vint(0xd6), ne: vint(0xd7), lts: vint(0xd8), gts: vint(0xd9), extLowS: vun(0xc7), extHighS: vun(0xc8), extLowU: vun(0xc9), extHighU: vun(0xca),
};
export const i16x8 = {
  extLowS: vun(0x87), extHighS: vun(0x88), extLowU: vun(0x89), extHighU: vun(0x8a), add: vbin(0x8e), sub: vbin(0x91), mul: vbin(0x95),
  extmulLowS: vbin(0x9c), extmulHighS: vbin(0x9d), rdot8: vbin(0x112), narrowS: vbin(0x85), narrowU: vbin(0x86), splat: splat<'i32'>(0x10), laneU: lane('i32', 0x19),
};
export const i8x16 = {
  splat: splat<'i32'>(0x0f), add: vbin(0x6e), sub: vbin(0x71), swizzle: vbin(0x0e), rswizzle: vbin(0x100),
  shl: vshift(0x6b), shrs: vshift(0x6c), shru: vshift(0x6d), narrowS: vbin(0x65), narrowU: vbin(0x66), laneU: lane('i32', 0x16),
};

// ── functions and modules ───────────────────────────────────────────────────────────────────────────────────────────
/** A function being written: parameters first, then locals, then instructions in order. */
export class Fn {
  readonly mod: Mod;
  readonly idx: number;
  readonly params: VT[];
  readonly results: VT[];
  readonly name: string;
  locals: VT[];
  body: Rope[] = [];
  /** Nesting of blocks: what a branch counts from. */
  depth = 0;
  /** Loops and calls so far. */
  inner = 0;
  /** Keep vector constants of loops in locals. */
  hoist = true;
  /** It calls other functions, whose numbers are their module's. */
  calls = false;
  /** Its code, if that is known already. */
  code: Bytes | null = null;
  constructor(mod: Mod, idx: number, params: VT[], results: VT[], name: string) { this.mod = mod; this.idx = idx; this.params = params; this.results = results; this.name = name; this.locals = [...params]; }

  arg<T extends VT>(t: T, i: number): Local<T> { return { t, idx: i, b: [0x20, uleb(i)] }; }
  local<T extends VT>(t: T): Local<T> { const i = this.locals.length; this.locals.push(t); return { t, idx: i, b: [0x20, uleb(i)] }; }
  /** A new local that holds `v`. */
  let<T extends VT>(v: Expr<T>): Local<T> { const l = this.local(v.t); this.set(l, v); return l; }
  emit(...s: (Stmt | Rope)[]): void { for (const x of s) this.body.push(typeof x === 'object' && 't' in x ? x.b : (x as Rope)); }
  set<T extends VT>(l: Local<T>, v: Expr<T>): void { this.body.push(v.b, 0x21, uleb(l.idx)); }
  /** Sets a local to the value that a call left on the stack; of several results the last comes first. */
  pop<T extends VT>(l: Local<T>): void { this.body.push(0x21, uleb(l.idx)); }
  /** Sets and reads in one expression. */
  tee<T extends VT>(l: Local<T>, v: Expr<T>): Expr<T> { return e(l.t, v.b, 0x22, uleb(l.idx)); }
  inc(l: Local<'i32'>, n: Num): void { this.set(l, i32.add(l, n)); }
  /** Leaves a value as the function's (last) result. */
  ret<T extends VT>(v: Expr<T>): void { this.body.push(v.b); }
  /** Leaves the function at once. */
  returnNow(...v: Expr<VT>[]): void { for (const x of v) this.body.push(x.b); this.body.push(0x0f); }
  drop(v: Expr<VT>): void { this.body.push(v.b, 0x1a); }
  call(f: { idx: number }, ...args: Expr<VT>[]): void { this.calls = true; this.inner++; for (const a of args) this.body.push(a.b); this.body.push(0x10, uleb(f.idx)); }
  /** A call of a function with one result of type `t`. */
  value<T extends VT>(t: T, f: { idx: number }, ...args: Expr<VT>[]): Expr<T> { this.calls = true; this.inner++; return e(t, ...args.map((a) => a.b), 0x10, uleb(f.idx)); }
  /** A block; `br` or `brIf` with the label it is given leaves it. */
  block(body: (label: number) => void): void { this.body.push(0x02, 0x40); body(++this.depth); this.depth--; this.body.push(0x0b); }
  br(label: number): void { this.body.push(0x0c, uleb(this.depth - label)); }
  brIf(c: I32, label: number): void { this.body.push(c.b, 0x0d, uleb(this.depth - label)); }
  /** do { body } while (cond()) */
  doWhile(body: () => void, cond: () => I32): void {
    this.depth++;
    this.body.push(ENTER, 0x03, 0x40); body(); this.body.push(cond().b, 0x0d, 0, 0x0b, LEAVE);
    this.depth--;
    this.inner++;
  }
  /**
   * while (cond()) { body }. `bottom`: the test is repeated at the bottom. V8 moves out of a loop what does not change, constants too, only if the body
   * comes before each exit. Default: where there are vector constants, and neither loop nor call, whose registers they would take.
   */
  whileLoop(cond: () => I32, body: () => void, bottom?: boolean): void {
    const head: Rope[] = [], { inner, body: { length } } = this;
    this.depth += 2;
    this.body.push(ENTER, 0x02, 0x40, head); body();
    if (bottom ?? (this.inner === inner && this.body.some((r, i) => i > length && hasConstant(r)))) {
      head.push(cond().b, 0x45, 0x0d, 0, 0x03, 0x40);
      this.body.push(cond().b, 0x0d, 0);
    } else {
      head.push(0x03, 0x40, cond().b, 0x45, 0x0d, 1);
      this.body.push(0x0c, 0);
    }
    this.body.push(0x0b, 0x0b, LEAVE);
    this.depth -= 2;
    this.inner++;
  }
  /** for (l = from; l < to; l += step), at least once: bottom-tested */
  forN(l: Local<'i32'>, from: Num, to: Num, step: number, body: () => void): void {
    this.set(l, asI(from)); this.doWhile(() => { body(); this.inc(l, step); }, () => i32.ltu(l, to));
  }
  /** `n` times, perhaps never; `n` is read once. */
  times(n: Num, body: () => void): void {
    const left = this.let(asI(n));
    this.whileLoop(() => left, () => { body(); this.set(left, i32.sub(left, 1)); });
  }
  iff(c: I32, then: () => void, els?: () => void): void {
    this.depth++;
    this.body.push(c.b, 0x04, 0x40); then(); if (els) { this.body.push(0x05); els(); } this.body.push(0x0b);
    this.depth--;
  }
}

/** A constant that is made of nothing, in one instruction. */
const isCheap = (b: readonly number[]): boolean => b.every((x) => x === 0) || b.every((x) => x === 255);
const hasConstant = (r: Rope): boolean => typeof r === 'object' && ('bytes' in r ? !isCheap(r.bytes) : r.some(hasConstant));

/** The code of a function: locals, hoisted constants, instructions. */
function codeOf(f: Fn): Bytes {
  const locals = f.locals.slice(f.params.length);
  const prologue = bytes(64);
  const code = bytes(1024);
  const hoisted = new Map<string, number>();
  let loops = 0;
  const constant = ({ bytes: b }: Constant): void => {
    if (!loops || !f.hoist || isCheap(b)) { put(code, [0xfd, 0x0c]); put(code, b); return; }
    const key = b.join();
    let local = hoisted.get(key);
    if (local === undefined) {
      hoisted.set(key, local = f.params.length + locals.push('v128') - 1);
      put(prologue, [0xfd, 0x0c]); put(prologue, b); put(prologue, [0x21, ...uleb(local)]);
    }
    put(code, [0x20, ...uleb(local)]);
  };
  const visit = (r: readonly Rope[]): void => {
    room(code, r.length);
    for (let i = 0; i < r.length; i++) {
      const x = r[i]!;
      if (typeof x === 'number') { if (code.length === code.buffer.length) room(code, 1); code.buffer[code.length++] = x; }
      else if (x === ENTER) loops++;
      else if (x === LEAVE) loops--;
      else if ('bytes' in x) constant(x);
      else visit(x);
    }
  };
  visit(f.body);
  const out = bytes(code.length + prologue.length + 32);
  const runs: [VT, number][] = [];
  for (const t of locals) { const last = runs[runs.length - 1]; if (last?.[0] === t) last[1]++; else runs.push([t, 1]); }
  put(out, uleb(runs.length));
  for (const [t, n] of runs) { put(out, uleb(n)); put(out, [VTB[t]]); }
  putBytes(out, prologue);
  putBytes(out, code);
  put(out, [0x0b]);
  return out;
}

export interface ModOpts {
  /** Pages of 64 KiB. `import`: the memory is env.memory, else it is made and exported as "memory". */
  memory: { pages: number; max?: number; shared?: boolean; import?: boolean };
  /** false: leave the function names out. */
  names?: boolean;
}
/** A module being written: imports, then functions; `bytes` assembles it. */
export class Mod {
  readonly o: ModOpts;
  fns: Fn[] = [];
  exports: [string, number][] = [];
  imports: { m: string; n: string; params: VT[]; results: VT[] }[] = [];
  segments: Uint8Array[] = [];
  /** Leaves that are in the module, by what they are made of. */
  readonly leaves = new Map<string, Fn>();
  constructor(o: ModOpts) { this.o = o; }

  importFn(m: string, n: string, params: VT[], results: VT[] = []): { idx: number } {
    if (this.fns.length) throw Error('imports first');
    this.imports.push({ m, n, params, results });
    return { idx: this.imports.length - 1 };
  }
  fn(name: string, params: VT[], results: VT[], exported: boolean, build: (f: Fn) => void): Fn {
    const f = new Fn(this, this.imports.length + this.fns.length, params, results, name);
    this.fns.push(f);
    if (exported) this.exports.push([name, f.idx]);
    build(f);
    return f;
  }
  /** Adds a passive data segment, to be copied by `memory.init`; gives its number. */
  data(content: Uint8Array): number { return this.segments.push(content) - 1; }

  bytes(): Uint8Array<ArrayBuffer> {
    const out = bytes(4096);
    put(out, [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    const section = (id: number, fill: (w: Bytes) => void): void => {
      const w = bytes(1024);
      fill(w);
      put(out, [id, ...uleb(w.length)]);
      putBytes(out, w);
    };
    const types = new Map<string, { index: number; params: VT[]; results: VT[] }>();
    const typeOf = (params: VT[], results: VT[]): number => {
      const key = `${params}>${results}`;
      let t = types.get(key);
      if (!t) types.set(key, t = { index: types.size, params, results });
      return t.index;
    };
    const importTypes = this.imports.map((i) => typeOf(i.params, i.results));
    const fnTypes = this.fns.map((f) => typeOf(f.params, f.results));
    const m = this.o.memory;
    const limits = [(m.max !== undefined ? 1 : 0) | (m.shared ? 2 : 0), ...uleb(m.pages), ...(m.max !== undefined ? uleb(m.max) : [])];
    section(1, (w) => {
      put(w, uleb(types.size));
      for (const t of types.values()) put(w, [0x60, ...uleb(t.params.length), ...t.params.map((p) => VTB[p]), ...uleb(t.results.length), ...t.results.map((r) => VTB[r])]);
    });
    if (this.imports.length || m.import) section(2, (w) => {
      put(w, uleb(this.imports.length + (m.import ? 1 : 0)));
      this.imports.forEach((i, k) => { putText(w, i.m); putText(w, i.n); put(w, [0, ...uleb(importTypes[k]!)]); });
      if (m.import) { putText(w, 'env'); putText(w, 'memory'); put(w, [2, ...limits]); }
    });
    section(3, (w) => { put(w, uleb(fnTypes.length)); for (const t of fnTypes) put(w, uleb(t)); });
    if (!m.import) section(5, (w) => put(w, [1, ...limits]));
    section(7, (w) => {
      put(w, uleb(this.exports.length + (m.import ? 0 : 1)));
      for (const [name, index] of this.exports) { putText(w, name); put(w, [0, ...uleb(index)]); }
      if (!m.import) { putText(w, 'memory'); put(w, [2, 0]); }
    });
    if (this.segments.length) section(12, (w) => put(w, uleb(this.segments.length)));
    section(10, (w) => {
      put(w, uleb(this.fns.length));
      for (const f of this.fns) { const code = f.code ?? codeOf(f); put(w, uleb(code.length)); putBytes(w, code); }
    });
    if (this.segments.length) section(11, (w) => {
      put(w, uleb(this.segments.length));
      for (const s of this.segments) { put(w, [1, ...uleb(s.length)]); put(w, s); }
    });
    if (this.o.names !== false) section(0, (w) => {
      putText(w, 'name');
      const names = bytes(256);
      put(names, uleb(this.fns.length));
      for (const f of this.fns) { put(names, uleb(f.idx)); putText(names, f.name); }
      put(w, [1, ...uleb(names.length)]);
      putBytes(w, names);
    });
    return out.buffer.slice(0, out.length);
  }
}

/** Code of leaves, by what they are made of, for all modules of the process. */
const LEAVES = new Map<string, Bytes>();
/**
 * A function that `build` makes of `args` (JSON) and nothing else: it is in a module once, and its code is written once. That holds where it calls no
 * other function and initialises no memory; one that calls is made anew each time.
 */
export function leaf<A extends readonly unknown[]>(name: (...args: A) => string, params: (...args: A) => VT[], build: (f: Fn, ...args: A) => void): (m: Mod, ...args: A) => Fn {
  return (m, ...args) => {
    const key = `${name(...args)} ${JSON.stringify(args)}`;
    let fn = m.leaves.get(key);
    if (fn !== undefined) return fn;
    const code = LEAVES.get(key);
    fn = m.fn(name(...args), params(...args), [], false, (f) => { if (code === undefined) build(f, ...args); });
    fn.code = code ?? null;
    if (code === undefined && !fn.calls) LEAVES.set(key, (fn.code = codeOf(fn)));
    m.leaves.set(key, fn);
    return fn;
  };
}
