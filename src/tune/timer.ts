/** Times of recorded dispatches on a GPU. */

/** Records dispatches into a pass. */
export type Recorded = (pass: GPUComputePassEncoder) => void;

export interface Timer {
  /** `timestamps`: the GPU's own clock. `wall`: submits until they are done, less an empty one. */
  readonly kind: 'timestamps' | 'wall';
  /** Milliseconds of one execution, from a pass with `repeats` of them. */
  time(record: Recorded, repeats?: number): Promise<number>;
  /** The repeats that make a sample long enough for this clock, after `ms` for one. */
  repeatsFor(ms: number): number;
  destroy(): void;
}

/** Browsers round timestamps to this many nanoseconds, against attacks that need a good clock. */
const QUANTUM = 65536n;
/** Milliseconds that a sample must last to mean something: by an exact clock, a rounded one, and by waiting. */
const LEAST = { exact: 1, rounded: 8, wall: 12 } as const;
const MOST_REPEATS = 512;

/**
 * A timer for a device; by timestamps where it has them and they agree with the wall clock. `busy` is work of some
 * milliseconds to find that out.
 */
export async function makeTimer(device: GPUDevice, busy: Recorded): Promise<Timer> {
  const wall = await wallTimer(device);
  if (!device.features.has('timestamp-query')) return wall;
  const stamps = stampTimer(device);
  await wall.time(busy);
  const [byWall, byStamps] = [await wall.time(busy, 4), await stamps.time(busy, 4)];
  // Some drivers offer timestamps that stand still, or count in other units.
  if (byStamps > byWall / 20 && byStamps < byWall * 3 + 1) return stamps;
  stamps.destroy();
  return wall;
}

function stampTimer(device: GPUDevice): Timer {
  const set = device.createQuerySet({ type: 'timestamp', count: 2 });
  const resolved = device.createBuffer({ size: 256, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
  const read = device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  let rounded = true;
  return {
    kind: 'timestamps',
    async time(record, repeats = 1) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass({
        timestampWrites: { querySet: set, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
      });
      for (let i = 0; i < repeats; i++) record(pass);
      pass.end();
      encoder.resolveQuerySet(set, 0, 2, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, read, 0, 16);
      device.queue.submit([encoder.finish()]);
      await read.mapAsync(GPUMapMode.READ);
      const [from, to] = new BigUint64Array(read.getMappedRange()) as unknown as [bigint, bigint];
      if (from % QUANTUM !== 0n || to % QUANTUM !== 0n) rounded = false;
      read.unmap();
      return Number(to - from) / 1e6 / repeats;
    },
    repeatsFor: (ms) => repeatsFor(rounded ? LEAST.rounded : LEAST.exact, ms),
    destroy() {
      set.destroy();
      resolved.destroy();
      read.destroy();
    },
  };
}

async function wallTimer(device: GPUDevice): Promise<Timer> {
  const once = async (record: Recorded | null, repeats: number): Promise<number> => {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    if (record) for (let i = 0; i < repeats; i++) record(pass);
    pass.end();
    const commands = encoder.finish();
    const started = performance.now();
    device.queue.submit([commands]);
    await device.queue.onSubmittedWorkDone();
    return performance.now() - started;
  };
  const empty: number[] = [];
  for (let i = 0; i < 7; i++) empty.push(await once(null, 0));
  const overhead = median(empty);
  return {
    kind: 'wall',
    time: async (record, repeats = 1) => Math.max(1e-4, (await once(record, repeats)) - overhead) / repeats,
    repeatsFor: (ms) => repeatsFor(LEAST.wall, ms),
    destroy: () => undefined,
  };
}

const repeatsFor = (least: number, ms: number): number =>
  Math.min(MOST_REPEATS, Math.max(1, Math.ceil(least / Math.max(ms, 1e-4))));

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length === 0
    ? Number.NaN
    : sorted.length % 2 === 1
      ? sorted[half]!
      : (sorted[half - 1]! + sorted[half]!) / 2;
}
/** The median distance from the median: a spread that outliers do not move. */
export const deviation = (values: readonly number[]): number => {
  const middle = median(values);
  return median(values.map((v) => Math.abs(v - middle)));
};
