/** Runs a WASM kernel on one call, as the runtime would, in a memory full of guard bytes. */
import type { DType } from '../src/core/dtype.ts';
import { constantOf, type Fact } from '../src/core/graph.ts';
import type { WasmCaps } from '../src/core/plan.ts';
import { byteLength, bytesOfTensor, type Tensor, tensorOver } from '../src/core/tensor.ts';
import type { Call, Epilogue, Ref, WasmEmitter, WasmKernel } from '../kernels/define.ts';
import { packers } from '../kernels/pack.ts';

const GUARD = 64;
const MARK = 0xa5;
const built = new Map<string, WebAssembly.Module>();

/** The module of a launch, compiled once per caps and spec. */
export function compiled(emit: WasmEmitter, spec: unknown, caps: WasmCaps): WebAssembly.Module {
  const key = JSON.stringify([emit.name, spec, caps]);
  let m = built.get(key);
  if (!m) built.set(key, m = new WebAssembly.Module(emit.build(spec, caps)));
  return m;
}

/** `run` gives the first status that is not 0. */
export interface Prepared { readonly run: () => number; readonly outputs: () => Tensor[] }
export interface OutShape { readonly dtype: DType; readonly shape: readonly number[] }

/** Lays out memory and instantiates the launches. `constants`: inputs that the kernel may take as packed weights. */
export function prepare(kernel: WasmKernel, caps: WasmCaps, inputs: readonly (Tensor | null)[], outputs: readonly (OutShape | null)[], attrs: unknown = {}, constants: readonly number[] = [], epilogue?: Epilogue, operands: readonly Tensor[] = []): Prepared {
  const facts = inputs.map((t, i): Fact | null => t && { dtype: t.dtype, shape: t.shape, ...(constants.includes(i) ? { constant: constantOf(t) } : {}) });
  const call: Call = { inputs: facts, outputs: outputs as Fact[], attrs, ...(epilogue ? { epilogue } : {}) };
  if (kernel.accepts && !kernel.accepts(call, caps)) throw Error(`${kernel.name} refuses the call`);
  const launched = kernel.launch(call, caps);
  const launches = Array.isArray(launched) ? launched : [launched];
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
      const bytes = packers.get(ref.pack.name)!(inputs[ref.input]!, ref.pack.args);
      if (bytes.byteLength !== ref.pack.bytes) throw Error(`${ref.pack.name} made ${bytes.byteLength} bytes, announced ${ref.pack.bytes}`);
      packedAt.set(key, at = place(bytes.byteLength, bytes));
    }
    return at;
  };
  const fail = (what: string): never => { throw Error(`no ${what}`); };
  const calls = launches.map((l) => ({ l, args: l.args.map((a: Ref | number | { f32: number }) => (typeof a === 'number' ? a : 'f32' in a ? a.f32 : address(a))) }));
  const pages = Math.ceil((top + GUARD) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, ...(caps.shared ? { maximum: 65536, shared: true } : {}) });
  const bytes = new Uint8Array(memory.buffer).fill(MARK);
  for (const r of regions) if (r.frozen) bytes.set(r.frozen, r.at);
  const fns = calls.map(({ l, args }) => ({ f: new WebAssembly.Instance(compiled(l.emit, l.spec, caps), { env: { memory } }).exports.run as (...a: number[]) => number | undefined, args }));
  const check = (): void => {
    regions.forEach((r, i) => {
      const end = regions[i + 1]?.at ?? r.at + r.bytes + GUARD;
      for (let at = r.at + r.bytes; at < end; at++) if (bytes[at] !== MARK) throw Error(`${kernel.name} wrote ${at - r.at - r.bytes} bytes behind a region of ${r.bytes}`);
      if (r.frozen) for (let at = 0; at < r.bytes; at++) if (bytes[r.at + at] !== r.frozen[at]) throw Error(`${kernel.name} wrote into an input`);
    });
  };
  return {
    run: () => { for (const { f, args } of fns) { const status = f(...args); if (status) return status; } return 0; },
    outputs: () => { check(); return outputs.map((o, i) => tensorOver(o?.dtype ?? 'float32', o?.shape ?? [0], bytes.slice(outputAt[i]!, outputAt[i]! + (o ? byteLength(o) : 0)))); },
  };
}
export function runKernel(...args: Parameters<typeof prepare>): Tensor[] {
  const p = prepare(...args);
  p.run();
  return p.outputs();
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
