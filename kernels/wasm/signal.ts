/** Fourier transforms of any length over its prime factors, in doubles. */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, WasmKernel } from '../define.ts';
import { rootsOf } from '../signal-fft.ts';
import { f64, i32, type I32, type Local, memory } from './asm.ts';
import { at, loopEmitter, loopsOf, type Loops } from './loops.ts';
import { knows } from './move.ts';
import { isStored } from './number.ts';

/** Longest transform: its roots of unity are part of the module. */
const LONGEST = 1 << 15;
const D = 'float64';
const factorsOf = (n: number): number[] => {
  const found: number[] = [];
  for (let p = 2; n > 1; p++) {
    if (p * p > n) p = n;
    for (; n % p === 0; n /= p) found.push(p);
  }
  return found;
};
interface Transform {
  readonly load: (to: I32) => void;
  /** Transforms what lies at `a`; gives where the result lies. */
  readonly run: (a: Local<'i32'>, b: Local<'i32'>) => Local<'i32'>;
}

/** A transform of `n` complex numbers by Stockham's method: a pass for each factor, from one buffer to the other. */
function transformOf(k: Loops<string>, n: number, sign: 1 | -1, roots: Local<'i32'>): Transform {
  const { re, im } = rootsOf(n, sign);
  const table = new Float64Array(2 * n);
  for (let i = 0; i < n; i++) {
    table[2 * i] = re[i]!;
    table[2 * i + 1] = im[i]!;
  }
  const segment = k.m.data(new Uint8Array(table.buffer));
  const names = ['src', 'dst', 'roots', 'p', 'done', 'left'] as const;
  /** Joins `p` transforms of `done` elements into one; `left` such come out. */
  const pass = k.m.fn('pass', new Array<'i32'>(6).fill('i32'), [], false, (g) => {
    const l = loopsOf(g, k.m, false, names);
    const { p } = l;
    const f = g;
    const [x, y] = [g.local('f64'), g.local('f64')];
    const angle = g.local('i32');
    const to = l.int(0);
    l.each(p.left, (s) =>
      l.each(p.p, (t) =>
        l.each(p.done, (j) => {
          const step = l.int(i32.mul(p.left, at(t, p.done, j)));
          f.set(angle, i32.const(0));
          f.set(x, f64.const(0));
          f.set(y, f64.const(0));
          l.each(p.p, (q) => {
            const from = l.int(i32.shl(at(at(q, p.left, s), p.done, j), 1));
            const w = l.int(i32.shl(angle, 1));
            const [a, b, c, d] = [
              l.take(D, p.src, from),
              l.take(D, p.src, i32.add(from, 1)),
              l.take(D, p.roots, w),
              l.take(D, p.roots, i32.add(w, 1)),
            ];
            f.set(x, f64.add(x, f64.sub(f64.mul(a, c), f64.mul(b, d))));
            f.set(y, f64.add(y, f64.add(f64.mul(a, d), f64.mul(b, c))));
            f.inc(angle, step);
            f.iff(i32.geu(angle, n), () => f.inc(angle, -n));
          });
          l.put(D, p.dst, to, x);
          l.put(D, p.dst, i32.add(to, 1), y);
          f.inc(to, 2);
        }),
      ),
    );
  });
  const factors = factorsOf(n);
  return {
    load: (to) => k.f.emit(memory.init(segment, to, 0, 16 * n)),
    run: (a, b) => {
      let done = 1;
      let [from, to] = [a, b];
      for (const p of factors) {
        k.f.call(pass, from, to, roots, i32.const(p), i32.const(done), i32.const(n / (done * p)));
        done *= p;
        [from, to] = [to, from];
      }
      return from;
    },
  };
}
const buffers = (n: number): number[] => [16 * n + 16, 16 * n + 16, 16 * n + 16];

// ── DFT ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
interface Dft {
  readonly axis: number;
  readonly length: number;
  readonly complex: boolean;
  readonly real: boolean;
  readonly bins: number;
}
interface DftSpec {
  readonly dtype: DType;
  readonly n: number;
  readonly inverse: boolean;
  readonly complex: boolean;
  readonly real: boolean;
}
const DFT = ['x', 'y', 'roots', 'a', 'b', 'outer', 'inner', 'steps', 'bins'] as const;
/** run(…DFT) */
const dftEmitter = loopEmitter(
  'dft',
  () => DFT,
  (k: Loops<(typeof DFT)[number]>, s: DftSpec) => {
    const { f, p } = k;
    const { n } = s;
    const parts = s.complex ? 2 : 1;
    const transform = transformOf(k, n, s.inverse ? 1 : -1, p.roots);
    transform.load(p.roots);
    k.each(p.outer, (o) =>
      k.each(p.inner, (i) => {
        k.each(n, (j) => {
          const mirrored = s.real ? k.int(i32.gtu(i32.shl(j, 1), n)) : null;
          const from = k.int(mirrored ? i32.select(mirrored, i32.sub(n, j), j) : j);
          const to = k.int(i32.shl(j, 1));
          const [x, y] = [k.real(0), k.real(0)];
          f.iff(
            i32.ltu(from, p.steps),
            () => {
              const e = k.int(i32.mul(at(at(o, p.steps, from), p.inner, i), parts));
              f.set(x, k.get(s.dtype, p.x, e));
              if (s.complex) f.set(y, k.get(s.dtype, p.x, i32.add(e, 1)));
              if (s.complex && mirrored) f.set(y, f64.select(mirrored, f64.neg(y), y));
            },
            () => {
              f.set(x, f64.const(0));
              f.set(y, f64.const(0));
            },
          );
          k.put(D, p.a, to, x);
          k.put(D, p.a, i32.add(to, 1), s.complex ? y : f64.const(0));
        });
        const result = transform.run(p.a, p.b);
        const scaled = (e: I32) => (s.inverse ? f64.mul(k.get(D, result, e), 1 / n) : k.get(D, result, e));
        k.each(p.bins, (j) => {
          const to = k.int(i32.mul(at(at(o, p.bins, j), p.inner, i), s.real ? 1 : 2));
          const from = k.int(i32.shl(j, 1));
          k.put(s.dtype, p.y, to, scaled(from));
          if (!s.real) k.put(s.dtype, p.y, i32.add(to, 1), scaled(i32.add(from, 1)));
        });
      }),
    );
  },
);
/** `shapeOf` resolves length and axis, which must be known. */
export const dftWasm = (shapeOf: (call: Call) => Dft): WasmKernel<{ readonly inverse: number }> => ({
  name: 'dft.factors',
  accepts: (call) => isStored(call.inputs[0]!.dtype) && knows(call, [1, 2]) && shapeOf(call).length <= LONGEST,
  scratch: (call) => buffers(shapeOf(call).length),
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const d = shapeOf(call);
    return {
      emit: dftEmitter,
      spec: { dtype, n: d.length, inverse: call.attrs.inverse !== 0, complex: d.complex, real: d.real },
      args: [
        { input: 0 },
        { output: 0 },
        { scratch: 0 },
        { scratch: 1 },
        { scratch: 2 },
        sizeOf(shape.slice(0, d.axis)),
        sizeOf(shape.slice(d.axis + 1, -1)),
        shape[d.axis]!,
        d.bins,
      ],
    };
  },
});

// ── STFT ────────────────────────────────────────────────────────────────────────────────────────────────────────────
interface Stft {
  readonly step: number;
  readonly length: number;
  readonly frames: number;
  readonly bins: number;
  readonly complex: boolean;
}
interface StftSpec {
  readonly dtype: DType;
  readonly window: DType | null;
  readonly n: number;
  readonly complex: boolean;
}
const STFT = ['x', 'window', 'y', 'roots', 'a', 'b', 'batch', 'signal', 'step', 'frames', 'bins'] as const;
/** run(…STFT) */
const stftEmitter = loopEmitter(
  'stft',
  () => STFT,
  (k: Loops<(typeof STFT)[number]>, s: StftSpec) => {
    const { p } = k;
    const { n } = s;
    const parts = s.complex ? 2 : 1;
    const transform = transformOf(k, n, -1, p.roots);
    transform.load(p.roots);
    const e = k.int(0);
    k.each(p.batch, (b) =>
      k.each(p.frames, (frame) => {
        k.each(n, (j) => {
          const from = k.int(i32.mul(i32.add(at(b, p.signal, i32.mul(frame, p.step)), j), parts));
          const to = k.int(i32.shl(j, 1));
          const w = k.real(s.window ? k.get(s.window, p.window, j) : 1);
          k.put(D, p.a, to, f64.mul(k.get(s.dtype, p.x, from), w));
          k.put(D, p.a, i32.add(to, 1), s.complex ? f64.mul(k.get(s.dtype, p.x, i32.add(from, 1)), w) : f64.const(0));
        });
        const result = transform.run(p.a, p.b);
        k.each(i32.shl(p.bins, 1), (j) => {
          k.put(s.dtype, p.y, e, k.get(D, result, j));
          k.f.inc(e, 1);
        });
      }),
    );
  },
);
export const stftWasm = (shapeOf: (call: Call) => Stft): WasmKernel => ({
  name: 'stft.factors',
  accepts: (call) => isStored(call.inputs[0]!.dtype) && knows(call, [1, 3]) && shapeOf(call).length <= LONGEST,
  scratch: (call) => buffers(shapeOf(call).length),
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const s = shapeOf(call);
    const window = call.inputs[2] ?? null;
    return {
      emit: stftEmitter,
      spec: { dtype, window: window?.dtype ?? null, n: s.length, complex: s.complex },
      args: [
        { input: 0 },
        window ? { input: 2 } : 0,
        { output: 0 },
        { scratch: 0 },
        { scratch: 1 },
        { scratch: 2 },
        shape[0]!,
        shape[1]!,
        s.step,
        s.frames,
        s.bins,
      ],
    };
  },
});
