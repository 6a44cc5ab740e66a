/** Runs a WASM kernel on one call, as the runtime would, in a memory full of guard bytes. */
import { appendFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { constantOf, type Fact } from '../src/core/graph.ts';
import type { WasmCaps } from '../src/core/plan.ts';
import { byteLength, bytesOfTensor, type Tensor, tensorOver } from '../src/core/tensor.ts';
import type { Call, Epilogue, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../kernels/define.ts';
import { packed as packWeight } from '../kernels/packers.ts';

const GUARD = 64;
const MARK = 0xa5;
const built = new Map<string, WebAssembly.Module>();

/** The module of a launch, compiled once per caps and spec. */
export function compiled(emit: WasmEmitter, spec: unknown, caps: WasmCaps): WebAssembly.Module {
  const key = JSON.stringify([emit.name, spec, { ...caps, threads: 0 }]);
  let m = built.get(key);
  if (!m) built.set(key, (m = new WebAssembly.Module(emit.build(spec, caps))));
  return m;
}

/**
 * The argument lists of the parts that threads run: three of them if there is enough, the last first, each by another
 * thread.
 */
function partsOf({ split }: WasmLaunch, args: readonly number[], threads: number): number[][] {
  if (!split || threads === 1) return [[...args]];
  const n = args[split.items]!;
  const size = Math.max(1, Math.ceil(n / split.grain / 3)) * split.grain;
  if (!Number.isInteger(n) || n < 0 || size <= 0) throw Error(`no items to split: ${n} by ${split.grain}`);
  const parts = Array.from({ length: Math.ceil(n / size) }, (_, i) => {
    const part = [...args];
    part[split.items] = Math.min(size, n - i * size);
    for (const [a, step] of split.moves) part[a] = part[a]! + i * size * step;
    for (const [a, bytes] of split.own ?? []) part[a] = part[a]! + (i % threads) * bytes;
    return part;
  });
  return n === 0 ? [[...args]] : parts.reverse();
}

/** `run` gives the first status that is not 0. */
export interface Prepared {
  readonly run: () => number;
  readonly outputs: () => Tensor[];
  /** Some launch can be shared by threads. */
  readonly splits: boolean;
}
export interface OutShape {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** Lays out memory and instantiates the launches. `constants`: inputs that the kernel may take as packed weights. */
export function prepare(
  kernel: WasmKernel,
  caps: WasmCaps,
  inputs: readonly (Tensor | null)[],
  outputs: readonly (OutShape | null)[],
  attrs: unknown = {},
  constants: readonly number[] = [],
  epilogue?: Epilogue,
  operands: readonly Tensor[] = [],
): Prepared {
  const facts = inputs.map(
    (t, i): Fact | null =>
      t && { dtype: t.dtype, shape: t.shape, ...(constants.includes(i) ? { constant: constantOf(t) } : {}) },
  );
  const call: Call = { inputs: facts, outputs: outputs as Fact[], attrs, ...(epilogue ? { epilogue } : {}) };
  if (kernel.accepts && !kernel.accepts(call, caps)) throw Error(`${kernel.name} refuses the call`);
  note(kernel.name);
  const launches = launchesOf(kernel, call, caps);
  let top = 1024;
  const regions: { at: number; bytes: number; frozen: Uint8Array | null }[] = [];
  const place = (bytes: number, content: Uint8Array | null): number => {
    const at = top;
    regions.push({ at, bytes, frozen: content });
    top = Math.ceil((at + bytes + GUARD) / 64) * 64;
    return at;
  };
  const inputAt = inputs.map((t) => (t ? place(byteLength(t), bytesOfTensor(t)) : 0));
  const operandAt = operands.map((t) => place(byteLength(t), bytesOfTensor(t)));
  const outputAt = outputs.map((o) => (o ? place(byteLength(o), null) : 0));
  const scratchAt = (kernel.scratch?.(call, caps) ?? []).map((n) => place(n, null));
  const packedAt = new Map<string, number>();
  const address = (ref: Ref): number => {
    if ('output' in ref) return outputAt[ref.output] ?? fail(`output ${ref.output}`);
    if ('operand' in ref) return operandAt[ref.operand] ?? fail(`operand ${ref.operand}`);
    if ('fault' in ref) return fail('fault word: it is for GPU kernels');
    if ('scratch' in ref) return scratchAt[ref.scratch] ?? fail(`scratch ${ref.scratch}`);
    if (!ref.pack) return inputAt[ref.input] ?? fail(`input ${ref.input}`);
    const key = JSON.stringify(ref);
    let at = packedAt.get(key);
    if (at === undefined) {
      const bytes = packWeight(inputs[ref.input]!, ref.pack);
      const filled = new Uint8Array(bytes.length).fill(MARK);
      if (packWeight(inputs[ref.input]!, ref.pack, filled).some((b, i) => b !== bytes[i]))
        throw Error(`${ref.pack.name} writes other bytes into memory that it is given`);
      packedAt.set(key, (at = place(bytes.byteLength, bytes)));
    }
    return at;
  };
  const fail = (what: string): never => {
    throw Error(`no ${what}`);
  };
  const calls = launches.map((l) => ({
    l,
    args: l.args.map((a: Ref | number | { f32: number }) =>
      typeof a === 'number' ? a : 'f32' in a ? a.f32 : address(a),
    ),
  }));
  const pages = Math.ceil((top + GUARD) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, ...(caps.shared ? { maximum: 65536, shared: true } : {}) });
  const bytes = new Uint8Array(memory.buffer).fill(MARK);
  for (const r of regions) if (r.frozen) bytes.set(r.frozen, r.at);
  const fns = calls.flatMap(({ l, args }) => {
    const f = new WebAssembly.Instance(compiled(l.emit, l.spec, caps), { env: { memory } }).exports.run as (
      ...a: number[]
    ) => number | undefined;
    return partsOf(l, args, caps.threads).map((part) => ({ f, args: part }));
  });
  const check = (): void => {
    regions.forEach((r, i) => {
      const end = regions[i + 1]?.at ?? r.at + r.bytes + GUARD;
      for (let at = r.at + r.bytes; at < end; at++)
        if (bytes[at] !== MARK)
          throw Error(`${kernel.name} wrote ${at - r.at - r.bytes} bytes behind a region of ${r.bytes}`);
      if (r.frozen)
        for (let at = 0; at < r.bytes; at++)
          if (bytes[r.at + at] !== r.frozen[at]) throw Error(`${kernel.name} wrote into an input`);
    });
  };
  return {
    splits: launches.some((l) => l.split),
    run: () => {
      for (const { f, args } of fns) {
        const status = f(...args);
        if (status) return status;
      }
      return 0;
    },
    outputs: () => {
      check();
      return outputs.map((o, i) =>
        tensorOver(
          o?.dtype ?? 'float32',
          o?.shape ?? [0],
          bytes.slice(outputAt[i]!, outputAt[i]! + (o ? byteLength(o) : 0)),
        ),
      );
    },
  };
}
const launchesOf = (kernel: WasmKernel, call: Call, caps: WasmCaps): readonly WasmLaunch[] =>
  ([] as WasmLaunch[]).concat(kernel.launch(call, caps));

const noted = new Set<string>();
/** Notes for `wasm-tried.test.ts` that a kernel ran, and in which file. */
function note(kernel: string): void {
  const folder = process.env.SARDONYX_TRIED;
  if (folder === undefined) return;
  for (const line of [kernel, `file ${basename(expect.getState().testPath ?? '')}`])
    if (!noted.has(line)) appendFileSync(join(folder, String(process.pid)), `${line}\n`);
  noted.add(kernel).add(`file ${basename(expect.getState().testPath ?? '')}`);
}

/**
 * Runs a kernel; where threads can share it, also cut in parts on shared memory, which must give the same bits and the
 * same status.
 */
export function runKernel(...given: Parameters<typeof prepare>): { status: number; outputs: Tensor[] } {
  const [kernel, caps, ...rest] = given;
  const p = prepare(kernel, caps, ...rest);
  const status = p.run();
  const outputs = p.outputs();
  if (caps.threads > 1) return { status, outputs };
  const many = prepare(kernel, { ...caps, shared: true, threads: 3 }, ...rest);
  if (!many.splits) return { status, outputs };
  if ((many.run() === 0) !== (status === 0))
    throw Error(`${kernel.name} in parts ends with another status than ${status}`);
  if (status === 0)
    many.outputs().forEach((t, o) => {
      const [a, b] = [bytesOfTensor(outputs[o]!), bytesOfTensor(t)];
      for (let i = 0; i < a.length; i++)
        if (a[i] !== b[i])
          throw Error(`${kernel.name} in parts differs in byte ${i} of output ${o} of ${t.dtype}[${t.shape}]`);
    });
  return { status, outputs };
}

/** A small seeded generator: uniform in [0, 1). */
export function generator(seed: number): () => number {
  let s = seed >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
