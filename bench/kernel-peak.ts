/** What this machine can do at most, in WASM. */
import { arithmetic, copying, type KnownWork } from '../src/tune/peaks-wasm.ts';
import { sample, spread, warmUp } from './timing.ts';

/** GFLOP/s of multiply-add on registers: in one instruction where `fma`. */
export const peakFlops = (fma: boolean): Promise<number> => rate(arithmetic(fma));

/** GB/s that `memory.copy` moves, reads and writes counted, of arrays of `bytes`. */
export const copyBandwidth = (bytes: number): Promise<number> => rate(copying(bytes));

/** By processor time, and its tenth percentile, since a peak is what is reached undisturbed. */
async function rate({ run, amount }: KnownWork): Promise<number> {
  const repeats = await warmUp(run, 100, 10);
  const times: number[] = [];
  for (let i = 0; i < 15; i++) times.push((await sample(run, repeats)).cpu);
  return amount / 1e6 / spread(times).p10;
}
