/** Which register tile of products is fastest on this engine and machine; results have the same bits with any. */
import { BASE_WASM } from '../../src/core/plan.ts';
import { i32 } from './asm.ts';
import { gemm2d, TILES, type Tile } from './gemm-core.ts';
import { kernelModule } from './module.ts';

/** A product that fits the first caches and that every tile divides: 0.9 million operations, some 20 µs. */
const M = 48;
const N = 48;
const K = 192;
/**
 * Milliseconds that each tile runs first, so that the engine compiles it well; of a sample; samples of each; what
 * another than the default must gain.
 */
const WARM_MS = 3;
const SAMPLE_MS = 0.15;
const ROUNDS = 9;
const GAIN = 1.03;
/** A clock with longer ticks, in milliseconds, would need samples too long for a start. */
const TICK_MS = 0.02;

function tick(): number {
  let least = Infinity;
  for (let i = 0; i < 4; i++) {
    const from = performance.now();
    let to = from;
    while (to === from) to = performance.now();
    least = Math.min(least, to - from);
  }
  return least;
}
/** Others get their turn, and the engine puts in place what it has compiled. */
const pause = (): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve);
  });

/**
 * The fastest of `TILES`, or undefined where that is the default or the clock is too coarse to tell. Takes some 30 ms,
 * in pieces of a few. A tile counts by its best sample, since whatever disturbs one makes it longer.
 */
async function measure(fma: boolean): Promise<Tile | undefined> {
  if (tick() > TICK_MS) return undefined;
  const memory = new WebAssembly.Memory({ initial: 4 });
  const tried = (fma ? TILES.fma : TILES.plain).map((tile) => {
    const bytes = kernelModule('calibrate', [], BASE_WASM, (f, m) => {
      f.call(
        gemm2d(m, { ...BASE_WASM, fma }, { tile, one: false, wide: true, nTail: 0 }),
        ...[1024, 4 * K, 4, 65536, 0, 131072, 4 * N, M, N, K].map((v) => i32.const(v)),
      );
    });
    const run = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } }).exports[
      'run'
    ] as () => void;
    return { tile, run, best: Infinity };
  });
  let runs = 1;
  for (const { run } of tried) {
    const until = performance.now() + WARM_MS;
    for (let last = performance.now(), now = last; last < until; last = now) {
      run();
      now = performance.now();
      runs = Math.max(runs, Math.ceil(SAMPLE_MS / Math.max(now - last, 0.005)));
    }
    await pause();
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const t of tried) {
      const from = performance.now();
      for (let i = 0; i < runs; i++) t.run();
      t.best = Math.min(t.best, performance.now() - from);
    }
    if (round % 3 === 2) await pause();
  }
  const fastest = tried.reduce((a, b) => (b.best < a.best ? b : a));
  return fastest.best * GAIN < tried[0]!.best ? fastest.tile : undefined;
}

const found = new Map<boolean, Promise<Tile | undefined>>();
/** The fastest tile with or without relaxed SIMD, measured once per process; undefined: the default. */
export function fastestTile(fma: boolean): Promise<Tile | undefined> {
  let tile = found.get(fma);
  if (tile === undefined) found.set(fma, (tile = measure(fma)));
  return tile;
}
