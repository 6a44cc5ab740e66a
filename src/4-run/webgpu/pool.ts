/** Buffers of results that stay on the GPU. What a caller gives back serves the next run: a steady loop makes none. */
export interface Pool {
  take(bytes: number): GPUBuffer;
  give(buffer: GPUBuffer): void;
  /** Destroys what is idle; what is given back later is destroyed then. */
  release(): void;
}

/** Idle bytes kept besides as many as were in use at once. */
const SPARE = 16 << 20;

/** Sizes go up in quarters of a power of two, so that tensors that grow by a row a step share buffers. */
function sizeClass(bytes: number): number {
  const step = 2 ** Math.max(6, Math.floor(Math.log2(Math.max(256, bytes))) - 2);
  return Math.max(256, Math.ceil(bytes / step) * step);
}

export function makePool(limit: number, create: (size: number) => GPUBuffer, destroy: (b: GPUBuffer) => void): Pool {
  const idle: GPUBuffer[] = []; // the longest idle first
  let used = 0;
  let most = 0;
  let idleBytes = 0;
  let released = false;
  return {
    take(bytes) {
      const size = Math.min(limit, sizeClass(bytes));
      const at = idle.findIndex((b) => b.size === size);
      used += size;
      most = Math.max(most, used);
      if (at < 0) return create(size);
      idleBytes -= size;
      return idle.splice(at, 1)[0]!;
    },
    give(buffer) {
      used -= buffer.size;
      if (released) return destroy(buffer);
      idle.push(buffer);
      idleBytes += buffer.size;
      while (idleBytes > most + SPARE) {
        const oldest = idle.shift()!;
        idleBytes -= oldest.size;
        destroy(oldest);
      }
    },
    release() {
      released = true;
      for (const b of idle.splice(0)) destroy(b);
      idleBytes = 0;
    },
  };
}
