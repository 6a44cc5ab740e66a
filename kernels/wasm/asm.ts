/**
 * A small typed WebAssembly assembler: TypeScript expressions become module bytes. An expression carries its
 * WebAssembly type in its TypeScript type, so `tsc` refuses `f32x4.add(i32, v128)`. An expression used twice is
 * computed twice: keep it in a local (`Fn.let`).
 *
 * Vector constants inside a loop are loaded once, into a local at the function's start: newer engines build an inline
 * `v128.const` anew on every iteration. `Fn.hoist = false` turns that off.
 */
import {
  asI,
  type Constant,
  e,
  ENTER,
  type Expr,
  type I32,
  i32,
  LEAVE,
  type Local,
  type Num,
  type Rope,
  type Stmt,
  uleb,
  VTB,
  type VT,
} from './instructions.ts';

export * from './instructions.ts';

// ── bytes ───────────────────────────────────────────────────────────────────────────────────────────────────────────
interface Bytes {
  buffer: Uint8Array<ArrayBuffer>;
  length: number;
}
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
const putText = (w: Bytes, s: string): void => {
  const b = text.encode(s);
  put(w, uleb(b.length));
  put(w, b);
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
  constructor(mod: Mod, idx: number, params: VT[], results: VT[], name: string) {
    this.mod = mod;
    this.idx = idx;
    this.params = params;
    this.results = results;
    this.name = name;
    this.locals = [...params];
  }

  arg<T extends VT>(t: T, i: number): Local<T> {
    return { t, idx: i, b: [0x20, uleb(i)] };
  }
  local<T extends VT>(t: T): Local<T> {
    const i = this.locals.length;
    this.locals.push(t);
    return { t, idx: i, b: [0x20, uleb(i)] };
  }
  /** A new local that holds `v`. */
  let<T extends VT>(v: Expr<T>): Local<T> {
    const l = this.local(v.t);
    this.set(l, v);
    return l;
  }
  emit(...s: (Stmt | Rope)[]): void {
    for (const x of s) this.body.push(typeof x === 'object' && 't' in x ? x.b : (x as Rope));
  }
  set<T extends VT>(l: Local<T>, v: Expr<T>): void {
    this.body.push(v.b, 0x21, uleb(l.idx));
  }
  /** Sets a local to the value that a call left on the stack; of several results the last comes first. */
  pop<T extends VT>(l: Local<T>): void {
    this.body.push(0x21, uleb(l.idx));
  }
  /** Sets and reads in one expression. */
  tee<T extends VT>(l: Local<T>, v: Expr<T>): Expr<T> {
    return e(l.t, v.b, 0x22, uleb(l.idx));
  }
  inc(l: Local<'i32'>, n: Num): void {
    this.set(l, i32.add(l, n));
  }
  /** Leaves a value as the function's (last) result. */
  ret<T extends VT>(v: Expr<T>): void {
    this.body.push(v.b);
  }
  /** Leaves the function at once. */
  returnNow(...v: Expr<VT>[]): void {
    for (const x of v) this.body.push(x.b);
    this.body.push(0x0f);
  }
  drop(v: Expr<VT>): void {
    this.body.push(v.b, 0x1a);
  }
  call(f: { idx: number }, ...args: Expr<VT>[]): void {
    this.calls = true;
    this.inner++;
    for (const a of args) this.body.push(a.b);
    this.body.push(0x10, uleb(f.idx));
  }
  /** A call of a function with one result of type `t`. */
  value<T extends VT>(t: T, f: { idx: number }, ...args: Expr<VT>[]): Expr<T> {
    this.calls = true;
    this.inner++;
    return e(t, ...args.map((a) => a.b), 0x10, uleb(f.idx));
  }
  /** A block; `br` or `brIf` with the label it is given leaves it. */
  block(body: (label: number) => void): void {
    this.body.push(0x02, 0x40);
    body(++this.depth);
    this.depth--;
    this.body.push(0x0b);
  }
  br(label: number): void {
    this.body.push(0x0c, uleb(this.depth - label));
  }
  brIf(c: I32, label: number): void {
    this.body.push(c.b, 0x0d, uleb(this.depth - label));
  }
  /** do { body } while (cond()) */
  doWhile(body: () => void, cond: () => I32): void {
    this.depth++;
    this.body.push(ENTER, 0x03, 0x40);
    body();
    this.body.push(cond().b, 0x0d, 0, 0x0b, LEAVE);
    this.depth--;
    this.inner++;
  }
  /**
   * while (cond()) { body }. `bottom`: the test is repeated at the bottom. V8 moves out of a loop what does not change,
   * constants too, only if the body comes before each exit. Default: where there are vector constants, and neither loop
   * nor call, whose registers they would take.
   */
  whileLoop(cond: () => I32, body: () => void, bottom?: boolean): void {
    const head: Rope[] = [];
    const {
      inner,
      body: { length },
    } = this;
    this.depth += 2;
    this.body.push(ENTER, 0x02, 0x40, head);
    body();
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
    this.set(l, asI(from));
    this.doWhile(
      () => {
        body();
        this.inc(l, step);
      },
      () => i32.ltu(l, to),
    );
  }
  /** `n` times, perhaps never; `n` is read once. */
  times(n: Num, body: () => void): void {
    const left = this.let(asI(n));
    this.whileLoop(
      () => left,
      () => {
        body();
        this.set(left, i32.sub(left, 1));
      },
    );
  }
  iff(c: I32, then: () => void, els?: () => void): void {
    this.depth++;
    this.body.push(c.b, 0x04, 0x40);
    then();
    if (els) {
      this.body.push(0x05);
      els();
    }
    this.body.push(0x0b);
    this.depth--;
  }
}

/** A constant that is made of nothing, in one instruction. */
const isCheap = (b: readonly number[]): boolean => b.every((x) => x === 0) || b.every((x) => x === 255);
const hasConstant = (r: Rope): boolean =>
  typeof r === 'object' && ('bytes' in r ? !isCheap(r.bytes) : r.some(hasConstant));

/** The code of a function: locals, hoisted constants, instructions. */
function codeOf(f: Fn): Bytes {
  const locals = f.locals.slice(f.params.length);
  const prologue = bytes(64);
  const code = bytes(1024);
  const hoisted = new Map<string, number>();
  let loops = 0;
  const constant = ({ bytes: b }: Constant): void => {
    if (!loops || !f.hoist || isCheap(b)) {
      put(code, [0xfd, 0x0c]);
      put(code, b);
      return;
    }
    const key = b.join();
    let local = hoisted.get(key);
    if (local === undefined) {
      hoisted.set(key, (local = f.params.length + locals.push('v128') - 1));
      put(prologue, [0xfd, 0x0c]);
      put(prologue, b);
      put(prologue, [0x21, ...uleb(local)]);
    }
    put(code, [0x20, ...uleb(local)]);
  };
  const visit = (r: readonly Rope[]): void => {
    room(code, r.length);
    for (let i = 0; i < r.length; i++) {
      const x = r[i]!;
      if (typeof x === 'number') {
        if (code.length === code.buffer.length) room(code, 1);
        code.buffer[code.length++] = x;
      } else if (x === ENTER) loops++;
      else if (x === LEAVE) loops--;
      else if ('bytes' in x) constant(x);
      else visit(x);
    }
  };
  visit(f.body);
  const out = bytes(code.length + prologue.length + 32);
  const runs: [VT, number][] = [];
  for (const t of locals) {
    const last = runs[runs.length - 1];
    if (last?.[0] === t) last[1]++;
    else runs.push([t, 1]);
  }
  put(out, uleb(runs.length));
  for (const [t, n] of runs) {
    put(out, uleb(n));
    put(out, [VTB[t]]);
  }
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
  constructor(o: ModOpts) {
    this.o = o;
  }

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
  data(content: Uint8Array): number {
    return this.segments.push(content) - 1;
  }

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
      if (!t) types.set(key, (t = { index: types.size, params, results }));
      return t.index;
    };
    const importTypes = this.imports.map((i) => typeOf(i.params, i.results));
    const fnTypes = this.fns.map((f) => typeOf(f.params, f.results));
    const m = this.o.memory;
    const limits = [
      (m.max !== undefined ? 1 : 0) | (m.shared ? 2 : 0),
      ...uleb(m.pages),
      ...(m.max !== undefined ? uleb(m.max) : []),
    ];
    section(1, (w) => {
      put(w, uleb(types.size));
      for (const t of types.values())
        put(w, [
          0x60,
          ...uleb(t.params.length),
          ...t.params.map((p) => VTB[p]),
          ...uleb(t.results.length),
          ...t.results.map((r) => VTB[r]),
        ]);
    });
    if (this.imports.length || m.import)
      section(2, (w) => {
        put(w, uleb(this.imports.length + (m.import ? 1 : 0)));
        this.imports.forEach((i, k) => {
          putText(w, i.m);
          putText(w, i.n);
          put(w, [0, ...uleb(importTypes[k]!)]);
        });
        if (m.import) {
          putText(w, 'env');
          putText(w, 'memory');
          put(w, [2, ...limits]);
        }
      });
    section(3, (w) => {
      put(w, uleb(fnTypes.length));
      for (const t of fnTypes) put(w, uleb(t));
    });
    if (!m.import) section(5, (w) => put(w, [1, ...limits]));
    section(7, (w) => {
      put(w, uleb(this.exports.length + (m.import ? 0 : 1)));
      for (const [name, index] of this.exports) {
        putText(w, name);
        put(w, [0, ...uleb(index)]);
      }
      if (!m.import) {
        putText(w, 'memory');
        put(w, [2, 0]);
      }
    });
    if (this.segments.length) section(12, (w) => put(w, uleb(this.segments.length)));
    section(10, (w) => {
      put(w, uleb(this.fns.length));
      for (const f of this.fns) {
        const code = f.code ?? codeOf(f);
        put(w, uleb(code.length));
        putBytes(w, code);
      }
    });
    if (this.segments.length)
      section(11, (w) => {
        put(w, uleb(this.segments.length));
        for (const s of this.segments) {
          put(w, [1, ...uleb(s.length)]);
          put(w, s);
        }
      });
    if (this.o.names !== false)
      section(0, (w) => {
        putText(w, 'name');
        const names = bytes(256);
        put(names, uleb(this.fns.length));
        for (const f of this.fns) {
          put(names, uleb(f.idx));
          putText(names, f.name);
        }
        put(w, [1, ...uleb(names.length)]);
        putBytes(w, names);
      });
    return out.buffer.slice(0, out.length);
  }
}

/** Code of leaves, by what they are made of, for all modules of the process. */
const LEAVES = new Map<string, Bytes>();
/**
 * A function that `build` makes of `args` (JSON) and nothing else: it is in a module once, and its code is written
 * once. That holds where it calls no other function and initialises no memory; one that calls is made anew each time.
 */
export function leaf<A extends readonly unknown[]>(
  name: (...args: A) => string,
  params: (...args: A) => VT[],
  build: (f: Fn, ...args: A) => void,
): (m: Mod, ...args: A) => Fn {
  return (m, ...args) => {
    const key = `${name(...args)} ${JSON.stringify(args)}`;
    let fn = m.leaves.get(key);
    if (fn !== undefined) return fn;
    const code = LEAVES.get(key);
    fn = m.fn(name(...args), params(...args), [], false, (f) => {
      if (code === undefined) build(f, ...args);
    });
    fn.code = code ?? null;
    if (code === undefined && !fn.calls) LEAVES.set(key, (fn.code = codeOf(fn)));
    m.leaves.set(key, fn);
    return fn;
  };
}
