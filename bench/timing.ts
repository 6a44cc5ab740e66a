/** Timing on a machine that others use too: samples of some length, runtimes in turns, medians. */
import { cpuUsage } from 'node:process';

/** Milliseconds on the clock, and of processor time in all threads of the process. */
export interface Spent {
  readonly wall: number;
  readonly cpu: number;
}

export async function timed<T>(work: () => T | Promise<T>): Promise<{ spent: Spent; value: T }> {
  const before = cpuUsage();
  const started = performance.now();
  const value = await work();
  const wall = performance.now() - started;
  const { user, system } = cpuUsage(before);
  return { spent: { wall, cpu: (user + system) / 1000 }, value };
}

/** Of a sample of `repeats` runs: the time of one. */
export async function sample(run: () => unknown, repeats: number): Promise<Spent> {
  const { spent } = await timed(async () => {
    for (let i = 0; i < repeats; i++) await run();
  });
  return { wall: spent.wall / repeats, cpu: spent.cpu / repeats };
}

/**
 * Runs until `ms` have passed, at least twice, so that engines finish compiling; gives the repeats that make a sample
 * of `sampleMs`.
 */
export async function warmUp(run: () => unknown, ms: number, sampleMs: number): Promise<number> {
  const until = performance.now() + ms;
  let last = 0;
  for (let i = 0; i < 2 || performance.now() < until; i++) {
    const started = performance.now();
    await run();
    last = i === 0 ? performance.now() - started : Math.min(last, performance.now() - started);
  }
  return Math.max(1, Math.ceil(sampleMs / Math.max(last, 1e-3)));
}

/**
 * Waits until no thread of this process is busy, 500 ms at most. Threads of some runtimes spin for a while after a run,
 * on cores that whoever comes next needs.
 */
export async function settle(): Promise<void> {
  for (let step = 0; step < 50; step++) {
    const { spent } = await timed(
      () =>
        new Promise<void>((resolve) => {
          setTimeout(resolve, 10);
        }),
    );
    if (spent.cpu < 0.1 * spent.wall) return;
  }
}

export interface Spread {
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
}
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
  return { median: at(0.5), p10: at(0.1), p90: at(0.9) };
}

export const geometricMean = (values: readonly number[]): number =>
  Math.exp(values.reduce((sum, v) => sum + Math.log(v), 0) / values.length);
