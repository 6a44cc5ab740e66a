/** What the CPU can do at most in WASM, on one thread: arithmetic in registers, and copying memory. */
import { f32x4, i32, type Local, memory, Mod, v128 } from '../../kernels/wasm/asm.ts';

const CHAINS = 10;
const UNROLLED = 4;

/** A run of known work. */
export interface KnownWork {
  readonly run: () => void;
  readonly amount: number;
}

/** Multiply-add on registers, in one instruction where `fma`; the amount is in operations. */
export function arithmetic(fma: boolean): KnownWork {
  const m = new Mod({ memory: { import: true, pages: 1 } });
  const peak = m.fn('peak', ['i32'], [], false, (f) => {
    const times = f.arg('i32', 0);
    const [a, b] = [f.local('v128'), f.local('v128')];
    const sums: Local<'v128'>[] = Array.from({ length: CHAINS }, () => f.local('v128'));
    f.set(a, v128.load(i32.const(0)));
    f.set(b, v128.load(i32.const(16)));
    f.times(times, () => {
      for (let r = 0; r < UNROLLED; r++)
        for (const s of sums) f.set(s, fma ? f32x4.rmadd(s, a, b) : f32x4.add(f32x4.mul(s, a), b));
    });
    sums.forEach((s, i) => f.emit(v128.store(i32.const(64 + 16 * i), s)));
  });
  m.exports.push(['run', peak.idx]);
  const run = instance(m, 1);
  const times = 1 << 16;
  return { run: () => run(times), amount: times * UNROLLED * CHAINS * 8 };
}

/** `memory.copy` of arrays of `bytes`; the amount is in bytes read and written. */
export function copying(bytes: number): KnownWork {
  const m = new Mod({ memory: { import: true, pages: 1 } });
  const copy = m.fn('copy', ['i32'], [], false, (f) =>
    f.emit(memory.copy(i32.add(f.arg('i32', 0), 0), i32.const(0), bytes)),
  );
  m.exports.push(['run', copy.idx]);
  const run = instance(m, Math.ceil((2 * bytes) / 65536));
  return { run: () => run(bytes), amount: 2 * bytes };
}

function instance(m: Mod, pages: number): (n: number) => void {
  const memory = new WebAssembly.Memory({ initial: pages });
  return new WebAssembly.Instance(new WebAssembly.Module(m.bytes()), { env: { memory } }).exports.run as (
    n: number,
  ) => void;
}

/**
 * Billions of operations, or of bytes, a second: the best of a dozen samples of 10 ms, since a peak is what is reached
 * undisturbed.
 */
export function rateOf({ run, amount }: KnownWork): number {
  const spent = (times: number): number => {
    const from = performance.now();
    for (let i = 0; i < times; i++) run();
    return performance.now() - from;
  };
  for (let until = performance.now() + 50; performance.now() < until; ) run(); // until the engine has compiled it
  const repeats = Math.max(1, Math.ceil(10 / Math.max(spent(1), 1e-3)));
  return amount / 1e6 / (Math.min(...Array.from({ length: 12 }, () => spent(repeats))) / repeats);
}
