/** One WASM kernel on one call, set up in a memory of its own, so that it can be timed without a session. */
import { type InferCall, type Op, parseAttrs, type Ref, type WasmKernel, type WasmLaunch } from '../kernels/define.ts';
import { ops } from '../kernels/index.ts';
import { packed as packWeight } from '../kernels/packers.ts';
import { fail } from '../src/core/errors.ts';
import { type AttrValue, constantOf, type Fact } from '../src/core/graph.ts';
import type { WasmCaps } from '../src/core/plan.ts';
import { byteLength, bytesOfTensor, type Tensor } from '../src/core/tensor.ts';

export interface KernelCall {
  readonly op: string;
  readonly attrs?: Readonly<Record<string, AttrValue>>;
  readonly inputs: readonly (Tensor | null)[];
  /** Inputs that are weights: known while planning, packed at load. */
  readonly weights?: readonly number[];
}
export interface Prepared {
  readonly kernel: string;
  readonly run: () => void;
}

/** The first kernel that accepts the call, ready to run. @throws option_invalid if there is none */
export function prepare(call: KernelCall, caps: WasmCaps): Prepared {
  const op = ops.get(call.op) ?? fail('option_invalid', `no operator ${call.op}`);
  const attrs = parseAttrs(op.attrs, call.attrs ?? {});
  const facts = call.inputs.map(
    (t, i): Fact | null =>
      t && { dtype: t.dtype, shape: t.shape, ...(call.weights?.includes(i) ? { constant: constantOf(t) } : {}) },
  );
  const outputs = infer(op, attrs, facts, call.inputs);
  const planned = { inputs: facts, outputs, attrs };
  const kernel: WasmKernel =
    op.wasm?.find((k) => k.accepts?.(planned, caps) ?? true) ??
    fail(
      'option_invalid',
      `no WASM kernel of ${call.op} takes ${facts.map((f) => f && `${f.dtype}[${f.shape}]`).join(', ')}`,
    );
  const launches = ([] as WasmLaunch[]).concat(kernel.launch(planned, caps) as WasmLaunch | WasmLaunch[]);

  let end = 1024;
  const filled: { readonly at: number; readonly bytes: Uint8Array }[] = [];
  const take = (size: number, bytes?: Uint8Array): number => {
    const at = end;
    if (bytes) filled.push({ at, bytes });
    end += Math.ceil((size + 64) / 64) * 64;
    return at;
  };
  const inputAt = call.inputs.map((t) => (t ? take(byteLength(t), bytesOfTensor(t)) : 0));
  const outputAt = outputs.map((o) => take(byteLength(o)));
  const scratchAt = (kernel.scratch?.(planned, caps) ?? []).map((n) => take(n));
  const packed = new Map<string, number>();
  const address = (ref: Ref): number => {
    if ('output' in ref) return outputAt[ref.output]!;
    if ('scratch' in ref) return scratchAt[ref.scratch]!;
    if (!('input' in ref)) return fail('internal', 'a kernel on its own has no operands and no fault word');
    if (ref.pack === undefined) return inputAt[ref.input]!;
    const key = JSON.stringify(ref);
    let at = packed.get(key);
    if (at === undefined) packed.set(key, (at = take(ref.pack.bytes, packWeight(call.inputs[ref.input]!, ref.pack))));
    return at;
  };
  const args = launches.map((l) => l.args.map((a) => (typeof a === 'number' ? a : 'f32' in a ? a.f32 : address(a))));
  const memory = new WebAssembly.Memory({ initial: Math.ceil(end / 65536) });
  for (const { at, bytes } of filled) new Uint8Array(memory.buffer).set(bytes, at);
  const runs = launches.map(
    (l) =>
      new WebAssembly.Instance(new WebAssembly.Module(l.emit.build(l.spec, caps)), { env: { memory } }).exports.run as (
        ...a: number[]
      ) => number | undefined,
  );
  return {
    kernel: kernel.name,
    run: () =>
      runs.forEach((run, i) => {
        if (run(...args[i]!)) fail('internal', `${kernel.name} reports a fault`);
      }),
  };
}

function infer(
  op: Op,
  attrs: unknown,
  facts: readonly (Fact | null)[],
  inputs: readonly (Tensor | null)[],
): readonly Fact[] {
  const call: InferCall = { inputs: facts, attrs, outputs: 1, value: (i) => inputs[i]!, fact: (i) => facts[i]! };
  return op.infer!(call).slice(0, 1);
}
