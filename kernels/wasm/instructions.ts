/**
 * WebAssembly's instructions as expressions that carry their type: `tsc` refuses `f32x4.add(i32, v128)`.
 *
 * Opcodes: https://webassembly.github.io/spec/core/binary/instructions.html
 */
export type VT = 'i32' | 'i64' | 'f32' | 'f64' | 'v128';

/** A vector constant, apart from other bytes so that it can be hoisted out of loops. */
export interface Constant {
  readonly bytes: readonly number[];
}
export const ENTER = '{',
  LEAVE = '}';
/** Bytes in order, nested as they were composed. ENTER and LEAVE stand around the instructions of a loop. */
export type Rope = number | readonly Rope[] | Constant | typeof ENTER | typeof LEAVE;

/** An instruction sequence that leaves one value of type T on the stack (none for 'void'). */
export interface Expr<T extends VT | 'void' = VT> {
  readonly t: T;
  readonly b: readonly Rope[];
}
export type I32 = Expr<'i32'>;
export type I64 = Expr<'i64'>;
export type F32 = Expr<'f32'>;
export type F64 = Expr<'f64'>;
export type V = Expr<'v128'>;
export type Stmt = Expr<'void'>;
/** A parameter or local variable; as an expression it reads itself. */
export interface Local<T extends VT> extends Expr<T> {
  readonly idx: number;
}

/** A type's byte in the binary format. */
export const VTB: Readonly<Record<VT, number>> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };

// ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────
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
      if ((v === 0 && !(x & 64)) || (v === -1 && x & 64)) {
        r.push(x);
        return r;
      }
      r.push(x | 128);
    }
  }
  let n = BigInt(v);
  for (;;) {
    const x = Number(n & 127n);
    n >>= 7n;
    if ((n === 0n && !(x & 64)) || (n === -1n && x & 64)) {
      r.push(x);
      return r;
    }
    r.push(x | 128);
  }
}
const scratch = new DataView(new ArrayBuffer(8));
const f32b = (x: number): number[] => {
  scratch.setFloat32(0, x, true);
  return [0, 1, 2, 3].map((i) => scratch.getUint8(i));
};
const f64b = (x: number): number[] => {
  scratch.setFloat64(0, x, true);
  return [0, 1, 2, 3, 4, 5, 6, 7].map((i) => scratch.getUint8(i));
};
const i32b = (x: number): number[] => [x & 255, (x >> 8) & 255, (x >> 16) & 255, (x >> 24) & 255];
const i64b = (x: bigint): number[] => [
  ...i32b(Number(BigInt.asIntN(32, x))),
  ...i32b(Number(BigInt.asIntN(32, x >> 32n))),
];

/** An expression of these bytes. */
export const e = <T extends VT | 'void'>(t: T, ...b: Rope[]): Expr<T> => ({ t, b });
const simd = (op: number): number[] => [0xfd, ...uleb(op)];

// ── scalars ─────────────────────────────────────────────────────────────────────────────────────────────────────────
/** Where an i32 is expected a number may stand. */
export type Num = I32 | number;
type Long = I64 | number | bigint;
type Single = F32 | number;
type Double = F64 | number;
export const asI = (x: Num): I32 => (typeof x === 'number' ? i32.const(x) : x);
const asL = (x: Long): I64 => (typeof x === 'object' ? x : i64.const(x));
const asF = (x: Single): F32 => (typeof x === 'number' ? f32.const(x) : x);
const asD = (x: Double): F64 => (typeof x === 'number' ? f64.const(x) : x);
const conv =
  <A extends VT, T extends VT>(t: T, ...op: number[]) =>
  (a: Expr<A>): Expr<T> =>
    e(t, a.b, op);
const load =
  <T extends VT>(t: T, op: Rope, align: number) =>
  (p: I32, off = 0): Expr<T> =>
    e(t, p.b, op, align, uleb(off));
const ibin =
  (op: number) =>
  (a: Num, b: Num): I32 =>
    e('i32', asI(a).b, asI(b).b, op);
const lbin =
  (op: number) =>
  (a: Long, b: Long): I64 =>
    e('i64', asL(a).b, asL(b).b, op);
const lcmp =
  (op: number) =>
  (a: Long, b: Long): I32 =>
    e('i32', asL(a).b, asL(b).b, op);
const fbin =
  (op: number) =>
  (a: Single, b: Single): F32 =>
    e('f32', asF(a).b, asF(b).b, op);
const fcmp =
  (op: number) =>
  (a: Single, b: Single): I32 =>
    e('i32', asF(a).b, asF(b).b, op);
const dbin =
  (op: number) =>
  (a: Double, b: Double): F64 =>
    e('f64', asD(a).b, asD(b).b, op);
const dcmp =
  (op: number) =>
  (a: Double, b: Double): I32 =>
    e('i32', asD(a).b, asD(b).b, op);
const istore =
  (op: number, align: number) =>
  (p: I32, v: Num, off = 0): Stmt =>
    e('void', p.b, asI(v).b, op, align, uleb(off));

export const i32 = {
  const: (n: number): I32 => e('i32', 0x41, sleb(n | 0)),
  add: ibin(0x6a),
  sub: ibin(0x6b),
  mul: ibin(0x6c),
  divs: ibin(0x6d),
  divu: ibin(0x6e),
  rems: ibin(0x6f),
  remu: ibin(0x70),
  and: ibin(0x71),
  or: ibin(0x72),
  xor: ibin(0x73),
  shl: ibin(0x74),
  shrs: ibin(0x75),
  shru: ibin(0x76),
  rotl: ibin(0x77),
  eq: ibin(0x46),
  ne: ibin(0x47),
  lts: ibin(0x48),
  ltu: ibin(0x49),
  gts: ibin(0x4a),
  gtu: ibin(0x4b),
  les: ibin(0x4c),
  leu: ibin(0x4d),
  ges: ibin(0x4e),
  geu: ibin(0x4f),
  eqz: conv<'i32', 'i32'>('i32', 0x45),
  clz: conv<'i32', 'i32'>('i32', 0x67),
  ctz: conv<'i32', 'i32'>('i32', 0x68),
  popcnt: conv<'i32', 'i32'>('i32', 0x69),
  extend8s: conv<'i32', 'i32'>('i32', 0xc0),
  extend16s: conv<'i32', 'i32'>('i32', 0xc1),
  wrap: conv<'i64', 'i32'>('i32', 0xa7),
  bitsOf: conv<'f32', 'i32'>('i32', 0xbc),
  truncSatS: conv<'f32', 'i32'>('i32', 0xfc, 0),
  truncSatU: conv<'f32', 'i32'>('i32', 0xfc, 1),
  truncSatS64: conv<'f64', 'i32'>('i32', 0xfc, 2),
  truncSatU64: conv<'f64', 'i32'>('i32', 0xfc, 3),
  select: (c: I32, a: Num, b: Num): I32 => e('i32', asI(a).b, asI(b).b, c.b, 0x1b),
  load: load('i32', 0x28, 2),
  load8s: load('i32', 0x2c, 0),
  load8u: load('i32', 0x2d, 0),
  load16s: load('i32', 0x2e, 1),
  load16u: load('i32', 0x2f, 1),
  store: istore(0x36, 2),
  store8: istore(0x3a, 0),
  store16: istore(0x3b, 1),
  // threads
  atomicLoad: (p: I32, off = 0): I32 => e('i32', p.b, 0xfe, 0x10, 2, uleb(off)),
  atomicStore: (p: I32, v: Num, off = 0): Stmt => e('void', p.b, asI(v).b, 0xfe, 0x17, 2, uleb(off)),
  atomicAdd: (p: I32, v: Num, off = 0): I32 => e('i32', p.b, asI(v).b, 0xfe, 0x1e, 2, uleb(off)),
  wait: (p: I32, v: Num, off = 0): I32 => e('i32', p.b, asI(v).b, 0x42, sleb(-1), 0xfe, 0x01, 2, uleb(off)),
  notify: (p: I32, n: Num, off = 0): I32 => e('i32', p.b, asI(n).b, 0xfe, 0x00, 2, uleb(off)),
};
export const i64 = {
  const: (n: number | bigint): I64 => e('i64', 0x42, sleb(BigInt.asIntN(64, BigInt(n)))),
  add: lbin(0x7c),
  sub: lbin(0x7d),
  mul: lbin(0x7e),
  divs: lbin(0x7f),
  divu: lbin(0x80),
  rems: lbin(0x81),
  remu: lbin(0x82),
  and: lbin(0x83),
  or: lbin(0x84),
  xor: lbin(0x85),
  shl: lbin(0x86),
  shrs: lbin(0x87),
  shru: lbin(0x88),
  eq: lcmp(0x51),
  ne: lcmp(0x52),
  lts: lcmp(0x53),
  ltu: lcmp(0x54),
  gts: lcmp(0x55),
  gtu: lcmp(0x56),
  les: lcmp(0x57),
  leu: lcmp(0x58),
  ges: lcmp(0x59),
  geu: lcmp(0x5a),
  eqz: conv<'i64', 'i32'>('i32', 0x50),
  extendS: conv<'i32', 'i64'>('i64', 0xac),
  extendU: conv<'i32', 'i64'>('i64', 0xad),
  bitsOf: conv<'f64', 'i64'>('i64', 0xbd),
  truncSatS: conv<'f64', 'i64'>('i64', 0xfc, 6),
  truncSatU: conv<'f64', 'i64'>('i64', 0xfc, 7),
  truncSatS32: conv<'f32', 'i64'>('i64', 0xfc, 4),
  truncSatU32: conv<'f32', 'i64'>('i64', 0xfc, 5),
  extend8s: conv<'i64', 'i64'>('i64', 0xc2),
  extend16s: conv<'i64', 'i64'>('i64', 0xc3),
  extend32s: conv<'i64', 'i64'>('i64', 0xc4),
  select: (c: I32, a: Long, b: Long): I64 => e('i64', asL(a).b, asL(b).b, c.b, 0x1b),
  load: load('i64', 0x29, 3),
  store: (p: I32, v: Long, off = 0): Stmt => e('void', p.b, asL(v).b, 0x37, 3, uleb(off)),
};
export const f32 = {
  const: (x: number): F32 => e('f32', 0x43, f32b(x)),
  load: load('f32', 0x2a, 2),
  store: (p: I32, v: Single, off = 0): Stmt => e('void', p.b, asF(v).b, 0x38, 2, uleb(off)),
  add: fbin(0x92),
  sub: fbin(0x93),
  mul: fbin(0x94),
  div: fbin(0x95),
  min: fbin(0x96),
  max: fbin(0x97),
  copysign: fbin(0x98),
  abs: conv<'f32', 'f32'>('f32', 0x8b),
  neg: conv<'f32', 'f32'>('f32', 0x8c),
  ceil: conv<'f32', 'f32'>('f32', 0x8d),
  floor: conv<'f32', 'f32'>('f32', 0x8e),
  trunc: conv<'f32', 'f32'>('f32', 0x8f),
  nearest: conv<'f32', 'f32'>('f32', 0x90),
  sqrt: conv<'f32', 'f32'>('f32', 0x91),
  eq: fcmp(0x5b),
  ne: fcmp(0x5c),
  lt: fcmp(0x5d),
  gt: fcmp(0x5e),
  le: fcmp(0x5f),
  ge: fcmp(0x60),
  convS: conv<'i32', 'f32'>('f32', 0xb2),
  convU: conv<'i32', 'f32'>('f32', 0xb3),
  convS64: conv<'i64', 'f32'>('f32', 0xb4),
  convU64: conv<'i64', 'f32'>('f32', 0xb5),
  demote: conv<'f64', 'f32'>('f32', 0xb6),
  ofBits: conv<'i32', 'f32'>('f32', 0xbe),
  select: (c: I32, a: Single, b: Single): F32 => e('f32', asF(a).b, asF(b).b, c.b, 0x1b),
};
export const f64 = {
  const: (x: number): F64 => e('f64', 0x44, f64b(x)),
  load: load('f64', 0x2b, 3),
  store: (p: I32, v: Double, off = 0): Stmt => e('void', p.b, asD(v).b, 0x39, 3, uleb(off)),
  add: dbin(0xa0),
  sub: dbin(0xa1),
  mul: dbin(0xa2),
  div: dbin(0xa3),
  min: dbin(0xa4),
  max: dbin(0xa5),
  copysign: dbin(0xa6),
  abs: conv<'f64', 'f64'>('f64', 0x99),
  neg: conv<'f64', 'f64'>('f64', 0x9a),
  ceil: conv<'f64', 'f64'>('f64', 0x9b),
  floor: conv<'f64', 'f64'>('f64', 0x9c),
  trunc: conv<'f64', 'f64'>('f64', 0x9d),
  nearest: conv<'f64', 'f64'>('f64', 0x9e),
  sqrt: conv<'f64', 'f64'>('f64', 0x9f),
  eq: dcmp(0x61),
  ne: dcmp(0x62),
  lt: dcmp(0x63),
  gt: dcmp(0x64),
  le: dcmp(0x65),
  ge: dcmp(0x66),
  convS: conv<'i32', 'f64'>('f64', 0xb7),
  convU: conv<'i32', 'f64'>('f64', 0xb8),
  convS64: conv<'i64', 'f64'>('f64', 0xb9),
  convU64: conv<'i64', 'f64'>('f64', 0xba),
  promote: conv<'f32', 'f64'>('f64', 0xbb),
  ofBits: conv<'i64', 'f64'>('f64', 0xbf),
  select: (c: I32, a: Double, b: Double): F64 => e('f64', asD(a).b, asD(b).b, c.b, 0x1b),
};
/** Bulk memory. The last argument of each is a count of bytes. */
export const memory = {
  copy: (dst: I32, src: I32, n: Num): Stmt => e('void', dst.b, src.b, asI(n).b, 0xfc, 10, 0, 0),
  fill: (dst: I32, byte: Num, n: Num): Stmt => e('void', dst.b, asI(byte).b, asI(n).b, 0xfc, 11, 0),
  /** Copies from passive data segment `segment` (`Mod.data`). */
  init: (segment: number, dst: I32, src: Num, n: Num): Stmt =>
    e('void', dst.b, asI(src).b, asI(n).b, 0xfc, 8, uleb(segment), 0),
};

// ── vectors ─────────────────────────────────────────────────────────────────────────────────────────────────────────
const asV = (x: V | number): V => (typeof x === 'number' ? f32x4.const(x) : x);
const vconst = (b: readonly number[]): V => e('v128', { bytes: b });
const vun = (op: number) => {
  const o = simd(op);
  return (a: V): V => e('v128', a.b, o);
};
const vbin = (op: number) => {
  const o = simd(op);
  return (a: V | number, b: V | number): V => e('v128', asV(a).b, asV(b).b, o);
};
const vint = (op: number) => {
  const o = simd(op);
  return (a: V, b: V): V => e('v128', a.b, b.b, o);
};
const vshift = (op: number) => {
  const o = simd(op);
  return (a: V, n: Num): V => e('v128', a.b, asI(n).b, o);
};
const vter = (op: number) => {
  const o = simd(op);
  return (a: V, b: V, c: V): V => e('v128', a.b, b.b, c.b, o);
};
const vload = (op: number, align: number) => load('v128', simd(op), align);
const vtest = (op: number) => {
  const o = simd(op);
  return (a: V): I32 => e('i32', a.b, o);
};
const lane = <T extends VT>(t: T, op: number) => {
  const o = simd(op);
  return (v: V, l: number): Expr<T> => e(t, v.b, o, l);
};
const replace = <T extends VT>(op: number) => {
  const o = simd(op);
  return (v: V, l: number, x: Expr<T>): V => e('v128', v.b, x.b, o, l);
};
const splat = <T extends VT>(op: number) => {
  const o = simd(op);
  return (x: Expr<T>): V => e('v128', x.b, o);
};
const laneLoad = (op: number, align: number) => {
  const o = simd(op);
  return (p: I32, v: V, l: number, off = 0): V => e('v128', p.b, v.b, o, align, uleb(off), l);
};
const laneStore = (op: number, align: number) => {
  const o = simd(op);
  return (p: I32, v: V, l: number, off = 0): Stmt => e('void', p.b, v.b, o, align, uleb(off), l);
};
const four = (b: readonly number[]): number[] => [...b, ...b, ...b, ...b];

export const v128 = {
  load: vload(0x00, 4),
  store: (p: I32, v: V, off = 0): Stmt => e('void', p.b, v.b, 0xfd, 0x0b, 4, uleb(off)),
  load8splat: vload(0x07, 0),
  load16splat: vload(0x08, 1),
  load32splat: vload(0x09, 2),
  load64splat: vload(0x0a, 3),
  load32zero: vload(0x5c, 2),
  load64zero: vload(0x5d, 3),
  load8x8s: vload(0x01, 3),
  load8x8u: vload(0x02, 3),
  load16x4s: vload(0x03, 3),
  load16x4u: vload(0x04, 3),
  load32x2s: vload(0x05, 3),
  load32x2u: vload(0x06, 3),
  load8lane: laneLoad(0x54, 0),
  load16lane: laneLoad(0x55, 1),
  load32lane: laneLoad(0x56, 2),
  load64lane: laneLoad(0x57, 3),
  store8lane: laneStore(0x58, 0),
  store16lane: laneStore(0x59, 1),
  store32lane: laneStore(0x5a, 2),
  store64lane: laneStore(0x5b, 3),
  not: vun(0x4d),
  and: vbin(0x4e),
  andnot: vbin(0x4f),
  or: vbin(0x50),
  xor: vbin(0x51),
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
  shuf32: (a: V, b: V, l: number[]): V =>
    v128.shuffle(
      a,
      b,
      l.flatMap((x) => [x * 4, x * 4 + 1, x * 4 + 2, x * 4 + 3]),
    ),
  select: (c: I32, a: V, b: V): V => e('v128', a.b, b.b, c.b, 0x1c, 1, VTB.v128),
};
export const f32x4 = {
  const: (x: number): V => vconst(four(f32b(x))),
  splat: splat<'f32'>(0x13),
  lane: lane('f32', 0x1f),
  replace: replace<'f32'>(0x20),
  add: vbin(0xe4),
  sub: vbin(0xe5),
  mul: vbin(0xe6),
  div: vbin(0xe7),
  min: vbin(0xe8),
  max: vbin(0xe9),
  /** b < a ? b : a — one instruction on x86; NaN only from `a`. */
  pmin: vbin(0xea),
  /** a < b ? b : a */
  pmax: vbin(0xeb),
  abs: vun(0xe0),
  neg: vun(0xe1),
  sqrt: vun(0xe3),
  ceil: vun(0x67),
  floor: vun(0x68),
  trunc: vun(0x69),
  nearest: vun(0x6a),
  eq: vbin(0x41),
  ne: vbin(0x42),
  lt: vbin(0x43),
  gt: vbin(0x44),
  le: vbin(0x45),
  ge: vbin(0x46),
  convS: vun(0xfa),
  convU: vun(0xfb),
  demote: vun(0x5e),
  rmadd: vter(0x105),
  rnmadd: vter(0x106),
  rmin: vbin(0x10d),
  rmax: vbin(0x10e),
};
const dv = (x: V | number): V => (typeof x === 'number' ? f64x2.const(x) : x);
const dvbin = (op: number) => {
  const o = simd(op);
  return (a: V | number, b: V | number): V => e('v128', dv(a).b, dv(b).b, o);
};
export const f64x2 = {
  const: (x: number): V => {
    const b = f64b(x);
    return vconst([...b, ...b]);
  },
  splat: splat<'f64'>(0x14),
  lane: lane('f64', 0x21),
  replace: replace<'f64'>(0x22),
  add: dvbin(0xf0),
  sub: dvbin(0xf1),
  mul: dvbin(0xf2),
  div: dvbin(0xf3),
  min: dvbin(0xf4),
  max: dvbin(0xf5),
  pmin: dvbin(0xf6),
  pmax: dvbin(0xf7),
  abs: vun(0xec),
  neg: vun(0xed),
  sqrt: vun(0xef),
  ceil: vun(0x74),
  floor: vun(0x75),
  trunc: vun(0x7a),
  nearest: vun(0x94),
  eq: dvbin(0x47),
  ne: dvbin(0x48),
  lt: dvbin(0x49),
  gt: dvbin(0x4a),
  le: dvbin(0x4b),
  ge: dvbin(0x4c),
  promote: vun(0x5f),
  convS: vun(0xfe),
  convU: vun(0xff),
  rmadd: vter(0x107),
  rnmadd: vter(0x108),
};
export const i32x4 = {
  splat: splat<'i32'>(0x11),
  lane: lane('i32', 0x1b),
  replace: replace<'i32'>(0x1c),
  add: vbin(0xae),
  sub: vbin(0xb1),
  mul: vbin(0xb5),
  abs: vun(0xa0),
  neg: vun(0xa1),
  shl: vshift(0xab),
  shrs: vshift(0xac),
  shru: vshift(0xad),
  eq: vint(0x37),
  ne: vint(0x38),
  lts: vint(0x39),
  ltu: vint(0x3a),
  gts: vint(0x3b),
  gtu: vint(0x3c),
  les: vint(0x3d),
  leu: vint(0x3e),
  ges: vint(0x3f),
  geu: vint(0x40),
  mins: vbin(0xb6),
  minu: vbin(0xb7),
  maxs: vbin(0xb8),
  maxu: vbin(0xb9),
  allTrue: vtest(0xa3),
  bitmask: vtest(0xa4),
  truncSatS: vun(0xf8),
  truncSatU: vun(0xf9),
  rtruncS: vun(0x101),
  truncSatS64: vun(0xfc),
  dot16: vbin(0xba),
  rdot8add: vter(0x113),
  extaddS: vun(0x7e),
  extLowS: vun(0xa7),
  extHighS: vun(0xa8),
  extLowU: vun(0xa9),
  extHighU: vun(0xaa),
};
export const i64x2 = {
  splat: splat<'i64'>(0x12),
  lane: lane('i64', 0x1d),
  replace: replace<'i64'>(0x1e),
  add: vint(0xce),
  sub: vint(0xd1),
  mul: vint(0xd5),
  abs: vun(0xc0),
  neg: vun(0xc1),
  shl: vshift(0xcb),
  shrs: vshift(0xcc),
  shru: vshift(0xcd),
  eq: vint(0xd6),
  ne: vint(0xd7),
  lts: vint(0xd8),
  gts: vint(0xd9),
  extLowS: vun(0xc7),
  extHighS: vun(0xc8),
  extLowU: vun(0xc9),
  extHighU: vun(0xca),
};
export const i16x8 = {
  extLowS: vun(0x87),
  extHighS: vun(0x88),
  extLowU: vun(0x89),
  extHighU: vun(0x8a),
  add: vbin(0x8e),
  sub: vbin(0x91),
  mul: vbin(0x95),
  extmulLowS: vbin(0x9c),
  extmulHighS: vbin(0x9d),
  rdot8: vbin(0x112),
  narrowS: vbin(0x85),
  narrowU: vbin(0x86),
  splat: splat<'i32'>(0x10),
  laneU: lane('i32', 0x19),
};
export const i8x16 = {
  splat: splat<'i32'>(0x0f),
  add: vbin(0x6e),
  sub: vbin(0x71),
  swizzle: vbin(0x0e),
  rswizzle: vbin(0x100),
  shl: vshift(0x6b),
  shrs: vshift(0x6c),
  shru: vshift(0x6d),
  narrowS: vbin(0x65),
  narrowU: vbin(0x66),
  laneU: lane('i32', 0x16),
};
