import type { DType } from '../../core/dtype.ts';
import { fail, SardonyxError } from '../../core/errors.ts';
import { byteLength, type Tensor, tensorOver } from '../../core/tensor.ts';
import type { Recorder } from './recorder.ts';

/** Words that dispatches set when they meet a bad value, each in a binding of its own. */
export interface Faults {
  readonly buffer: GPUBuffer;
  readonly nodes: readonly string[];
}
export const FAULT_STRIDE = 256;

/** A range of a buffer to bring to the host. */
export interface Range {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

export interface Readback {
  /**
   * Copies ranges into one staging buffer, behind what was recorded, and maps it once. Fault words of runs that nobody
   * has read from come along.
   * @throws value_invalid, device_lost, device_fault
   */
  read(wanted: readonly Range[]): Promise<Tensor[]>;
  /** Fault words of runs whose results have not been read yet. */
  readonly watched: Set<Faults>;
  release(): void;
}

export function makeReadback(
  recorder: Recorder,
  create: (size: number, usage: number, label: string) => GPUBuffer,
  destroy: (b: GPUBuffer) => void,
  checkAlive: () => void,
): Readback {
  let staging: GPUBuffer | null = null;
  const watched = new Set<Faults>();
  /** There is one staging buffer: reads take turns. */
  let reading: Promise<unknown> = Promise.resolve();

  async function readNow(wanted: readonly Range[]): Promise<Tensor[]> {
    checkAlive();
    const faults = [...watched];
    watched.clear();
    const results = await copyBack([
      ...wanted,
      ...faults.map((f) => ({ buffer: f.buffer, offset: 0, dtype: 'uint32' as const, shape: [f.buffer.size / 4] })),
    ]);
    const found = faults.flatMap((f, i) =>
      f.nodes.filter((_, k) => (results[wanted.length + i]!.data as Uint32Array)[(k * FAULT_STRIDE) / 4] !== 0),
    );
    if (found.length > 0)
      throw new SardonyxError('value_invalid', "an index is outside its tensor's bounds", [found[0]!]);
    return results.slice(0, wanted.length);
  }

  async function copyBack(wanted: readonly Range[]): Promise<Tensor[]> {
    let total = 0;
    const parts = wanted.map((w) => {
      const at = total;
      total += Math.ceil(byteLength(w) / 16) * 16;
      return at;
    });
    if (total === 0) {
      recorder.flush();
      return wanted.map((w) => tensorOver(w.dtype, w.shape, new Uint8Array(0)));
    }
    if (staging === null || staging.size < total) {
      if (staging !== null) destroy(staging);
      staging = create(total, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST, 'readback');
    }
    const encoder = recorder.encoder();
    wanted.forEach((w, i) => {
      const size = Math.ceil(byteLength(w) / 4) * 4;
      if (size > 0) encoder.copyBufferToBuffer(w.buffer, w.offset, staging!, parts[i]!, size);
    });
    recorder.flush();
    try {
      await staging.mapAsync(GPUMapMode.READ, 0, total);
    } catch (cause) {
      checkAlive();
      fail('device_fault', `results could not be read back: ${(cause as Error).message}`);
    }
    const mapped = new Uint8Array(staging.getMappedRange(0, total));
    const out = wanted.map((w, i) => tensorOver(w.dtype, w.shape, mapped.slice(parts[i]!, parts[i]! + byteLength(w))));
    staging.unmap();
    return out;
  }

  return {
    watched,
    read(wanted) {
      const turn = reading.then(
        () => readNow(wanted),
        () => readNow(wanted),
      );
      reading = turn;
      return turn;
    },
    release() {
      if (staging !== null) destroy(staging);
      staging = null;
    },
  };
}
