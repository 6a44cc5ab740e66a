import { describe, expect, it } from 'vitest';
import { generator } from '../kernels/generator.ts';
import { packers } from '../kernels/wasm/pack.ts';
import { weaving } from '../kernels/wasm/weave.ts';
import { PART } from '../src/core/graph.ts';
import { BASE_WASM, type Pack } from '../src/core/plan.ts';
import { sizeOf, tensor } from '../src/core/tensor.ts';

/** What the module makes of numbers that all differ, part by part, in memory that held something else. */
function woven(shape: readonly number[], pack: Pack, shared: boolean): { packed: Uint8Array; parts: number } {
  const n = sizeOf(shape);
  const bytes = new Uint8Array(Float32Array.from({ length: n }, (_, i) => i + 1).buffer);
  const { module, parts } = weaving({ dtype: 'float32', shape }, pack, { ...BASE_WASM, shared })!;
  const largest = Math.max(...parts.map((p) => p.bytes));
  const pages = Math.ceil((largest + pack.bytes) / 65536) + 1;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: shared ? 65536 : pages, shared });
  const { run } = new WebAssembly.Instance(new WebAssembly.Module(module), { env: { memory } }).exports;
  const all = new Uint8Array(memory.buffer);
  // The part ends with the memory: nothing behind it may be read. What is packed lies in front, 16 bytes of it not ours.
  const from = memory.buffer.byteLength - largest;
  all.fill(0xaa, 0, from);
  for (const part of parts) {
    all.fill(0xbb, from);
    all.set(bytes.subarray(part.at, part.at + part.bytes), from + largest - part.bytes);
    for (const call of part.calls) (run as (...a: number[]) => void)(from + largest - part.bytes, 16, ...call);
  }
  expect(
    [...all.subarray(0, 16), ...all.subarray(16 + pack.bytes, Math.min(from, 32 + pack.bytes))].every(
      (b) => b === 0xaa,
    ),
  ).toBe(true);
  return { packed: all.slice(16, 16 + pack.bytes), parts: parts.length };
}
function expectAlike(shape: readonly number[], name: string, args: readonly number[], shared = false): number {
  const t = tensor(
    'float32',
    shape,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => i + 1),
  );
  const want = packers.get(name)!(t, args);
  const { packed, parts } = woven(shape, { name, args, bytes: want.byteLength }, shared);
  expect(Buffer.compare(packed, want), `${name} [${args}]`).toBe(0);
  return parts;
}

describe('weights packed by WASM are those that packers make', () => {
  const random = generator(2611);
  const int = (from: number, to: number): number => from + Math.floor(random() * (to - from));
  it('tiles of filters', () => {
    for (let i = 0; i < 150; i++) {
      const [mr, groups, filters, K] = [int(1, 9), int(1, 4), int(1, 23), int(1, 40)];
      expectAlike([groups * filters, K], 'conv.tiles', [mr, groups, filters, K], i % 5 === 0);
    }
    for (const K of [255, 256, 257, 601]) expectAlike([7, K], 'conv.tiles', [4, 1, 7, K]);
  });
  it('panels of a matrix, of its transpose, of several', () => {
    for (let i = 0; i < 200; i++) {
      const [nr, K, N, matrices] = [4 * int(1, 5), int(1, 40), int(1, 61), int(1, 4)];
      expectAlike([matrices, K, N], 'gemm.panels', [nr, K, N, N, 1, matrices, K * N], i % 5 === 0);
      expectAlike([matrices, N, K], 'gemm.panels', [nr, K, N, 1, K, matrices, K * N]);
    }
    for (const K of [255, 256, 257, 601]) {
      expectAlike([K, 19], 'gemm.panels', [8, K, 19, 19, 1, 1, K * 19]);
      expectAlike([19, K], 'gemm.panels', [8, K, 19, 1, K, 1, K * 19]);
    }
  });
  it('in parts where they are large', () => {
    const many = Math.ceil((1.3 * PART) / 4 / 331);
    expect(expectAlike([many, 331], 'conv.tiles', [4, 1, many, 331])).toBeGreaterThan(1);
    expect(expectAlike([331, many], 'gemm.panels', [8, 331, many, many, 1, 1, 331 * many])).toBe(2);
    expect(expectAlike([many, 331], 'gemm.panels', [8, 331, many, 1, 331, 1, 331 * many])).toBeGreaterThan(1);
  });
  it('but not other types, other packers, or parts that are no rows', () => {
    const pack: Pack = { name: 'gemm.panels', args: [8, 4, 8, 8, 1, 1, 32], bytes: 128 };
    expect(weaving({ dtype: 'float16', shape: [4, 8] }, pack, BASE_WASM)).toBe(null);
    expect(weaving({ dtype: 'float32', shape: [4, 8] }, { ...pack, name: 'gemm.pairs' }, BASE_WASM)).toBe(null);
    expect(weaving({ dtype: 'float32', shape: [4, 16] }, { ...pack, args: [8, 4, 8, 16, 1, 1, 64] }, BASE_WASM)).toBe(
      null,
    );
  });
});
