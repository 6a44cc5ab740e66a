/** What this machine can do at most, in WASM: arithmetic in registers, and copying memory. */
import { f32x4, i32, type Local, memory, Mod, v128 } from '../kernels/wasm/asm.ts';
import { sample, spread, warmUp } from './timing.ts';

const CHAINS = 10;
const UNROLLED = 4;

/** GFLOP/s of multiply-add on registers: in one instruction where `fma`. */
export async function peakFlops(fma: boolean): Promise<number> {
  const m = new Mod({ memory: { import: true, pages: 1 } });
  const peak = m.fn('peak', ['i32'], [], false, (f) => {
    const times = f.arg('i32', 0);
    const [a, b] = [f.local('v128'), f.local('v128')];
    const sums: Local<'v128'>[] = Array.from({ length: CHAINS }, () => f.local('v128'));
    f.set(a, v128.load(i32.const(0)));
    f.set(b, v128.load(i32.const(16)));
    f.times(times, () => { for (let r = 0; r < UNROLLED; r++) for (const s of sums) f.set(s, fma ? f32x4.rmadd(s, a, b) : f32x4.add(f32x4.mul(s, a), b)); });
    sums.forEach((s, i) => f.emit(v128.store(i32.const(64 + 16 * i), s)));
  });
  m.exports.push(['run', peak.idx]);
  const run = instance(m, 1);
  const times = 1 << 16;
  return (times * UNROLLED * CHAINS * 8) / 1e6 / (await best(() => run(times)));
}

/** GB/s that `memory.copy` moves, reads and writes counted, of arrays of `bytes`. */
export async function copyBandwidth(bytes: number): Promise<number> {
  const m = new Mod({ memory: { import: true, pages: 1 } });
  const copy = m.fn('copy', ['i32'], [], false, (f) => f.emit(memory.copy(i32.add(f.arg('i32', 0), 0), i32.const(0), bytes)));
  m.exports.push(['run', copy.idx]);
  const run = instance(m, Math.ceil((2 * bytes) / 65536));
  return (2 * bytes) / 1e6 / (await best(() => run(bytes)));
}

function instance(m: Mod, pages: number): (n: number) => void {
  const memory = new WebAssembly.Memory({ initial: pages });
  return new WebAssembly.Instance(new WebAssembly.Module(m.bytes()), { env: { memory } }).exports.run as (n: number) => void;
}

/** Milliseconds of a run: the tenth percentile, since a peak is what is reached undisturbed. */
async function best(run: () => void): Promise<number> {
  const repeats = await warmUp(run, 100, 10);
  const times: number[] = [];
  for (let i = 0; i < 15; i++) times.push((await sample(run, repeats)).cpu);
  return spread(times).p10;
}
