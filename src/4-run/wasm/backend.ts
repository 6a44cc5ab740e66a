import { fail, SardonyxError } from '../../core/errors.ts';
import { type Constant, eachPart, inFileOrder } from '../../core/graph.ts';
import type { Plan, WasmCaps, WasmStep, Weight } from '../../core/plan.ts';
import { byteLength, bytesOfTensor, isTensor, type Tensor, tensorOver, type Value } from '../../core/tensor.ts';
import type { Backend, Executable, Held, HostWork } from '../executable.ts';
import { hostHeld } from '../executable.ts';
import { hostConstants, hostValues } from '../host-values.ts';
import { type Heap, makeHeap } from './heap.ts';

/** Compiled modules of this process, by their bytes (the planner hands out one array per text). */
const compiled = new WeakMap<Uint8Array, WebAssembly.Module>();

type Run = (...args: number[]) => number | undefined;

/** The CPU path: kernels that our assembler emitted, over one heap. */
export function wasmBackend(caps: WasmCaps): Backend {
  const heap = makeHeap();
  const made = { modules: 0, instances: 0, regions: 0 };
  const instances = new Map<Uint8Array, Run>();
  const weights = new Map<Constant, Map<string, { address: number; users: number }>>();

  const functionOf = (code: Uint8Array<ArrayBuffer>, name: string): Run => {
    let run = instances.get(code);
    if (run === undefined) {
      let module = compiled.get(code);
      if (module === undefined) {
        try {
          module = new WebAssembly.Module(code);
        } catch (cause) {
          throw new SardonyxError('device_fault', `the engine refuses kernel ${name}: ${(cause as Error).message}`, [], { cause });
        }
        compiled.set(code, module);
        made.modules++;
      }
      run = new WebAssembly.Instance(module, { env: { memory: heap.memory } }).exports.run as Run;
      instances.set(code, run);
      made.instances++;
    }
    return run;
  };

  const placeWeight = async (constants: readonly Constant[], weight: Weight, work: HostWork): Promise<{ constant: Constant; key: string; address: number }> => {
    const constant = constants[weight.constant]!;
    const key = weight.pack ? JSON.stringify(weight.pack) : '';
    const forms = weights.get(constant) ?? new Map<string, { address: number; users: number }>();
    weights.set(constant, forms);
    let form = forms.get(key);
    if (form === undefined) {
      const tensor = weight.pack ? await constant.load() : null;
      const address = heap.take(weight.bytes + 64);
      made.regions++;
      if (weight.pack) work.pack(tensor!, weight.pack, heap.bytes.subarray(address, address + weight.bytes));
      else await eachPart(constant, (bytes, at) => heap.bytes.set(bytes, address + at));
      forms.set(key, (form = { address, users: 0 }));
    }
    form.users++;
    return { constant, key, address: form.address };
  };
  const dropWeight = ({ constant, key }: { constant: Constant; key: string }): void => {
    const forms = weights.get(constant);
    const form = forms?.get(key);
    if (forms === undefined || form === undefined || --form.users > 0) return;
    heap.give(form.address);
    forms.delete(key);
    if (forms.size === 0) weights.delete(constant);
  };

  return {
    caps, made,
    get bytes() { return heap.used; },
    async instantiate(plan, constants, work): Promise<Executable> {
      const placed: Awaited<ReturnType<typeof placeWeight>>[] = [];
      for (const { w, i } of inFileOrder(plan.weights.map((w, i) => ({ w, i })), ({ w }) => constants[w.constant]!)) placed[i] = await placeWeight(constants, w, work);
      const host = hostValues(plan, await hostConstants(plan, constants), work);
      const base = heap.take(plan.slabs.reduce((a, b) => a + b, 0) + 64);
      made.regions++;
      const address = addresses(plan, base, placed.map((p) => p.address));
      const calls = plan.steps.map((s) => (s.run === 'wasm' ? bindCall(s, functionOf(plan.modules[s.module]!.bytes, s.kernel), address, placed.map((p) => p.address)) : null));
      return {
        async run(inputs, signal, probe) {
          inputs.forEach((held, i) => feed(plan, plan.inputs[i]!, held, host, heap, address));
          for (let i = 0; i < plan.steps.length; i++) {
            const step = plan.steps[i]!;
            switch (step.run) {
              case 'wasm':
                if (probe) await probe.host(i, calls[i]!);
                else calls[i]!();
                break;
              case 'host': {
                const pending = probe ? probe.host(i, () => host.run(step)) : host.run(step);
                if (pending) await pending;
                break;
              }
              case 'upload': store(host.get(step.from) as Tensor, heap, address[step.to]!); break;
              case 'download': host.set(step.to, copyOut(plan, step.from, heap, address)); break;
              default: fail('internal', `a ${step.run} step on WASM`);
            }
            if (signal?.aborted) signal.throwIfAborted();
          }
          const outputs = plan.outputs.map((v) => hostHeld(address[v] === undefined ? host.get(v) : copyOut(plan, v, heap, address)));
          host.clear();
          return outputs;
        },
        destroy() {
          heap.give(base);
          placed.forEach(dropWeight);
          host.clear();
        },
      };
    },
    read: async (held) => held.map((h): Value => (h.on === 'host' ? h.value : fail('internal', 'a device value on WASM'))),
    release: () => { instances.clear(); weights.clear(); },
  };
}

/** Address of each plan value that has one. */
function addresses(plan: Plan, base: number, weights: readonly number[]): (number | undefined)[] {
  const at = (v: number): number | undefined => {
    const { home } = plan.values[v]!;
    switch (home.in) {
      case 'slab': return base + home.offset;
      case 'weights': return weights[home.weight];
      case 'view': return at(home.of);
      default: return undefined;
    }
  };
  return plan.values.map((_, v) => at(v));
}

function bindCall(step: WasmStep, run: Run, address: readonly (number | undefined)[], weights: readonly number[]): () => void {
  const args = step.args.map((a) => (typeof a === 'number' ? a : 'weight' in a ? weights[a.weight]! : (address[a.value] ?? fail('internal', `${step.kernel}: a value without an address`))));
  return () => {
    const fault = run(...args);
    if (fault) throw new SardonyxError('value_invalid', `an index is outside its tensor's bounds`, [`node ${step.node} (${step.op})`]);
  };
}

function feed(plan: Plan, v: number, held: Held, host: { set(v: number, value: Value): void }, heap: Heap, address: readonly (number | undefined)[]): void {
  if (held.on !== 'host') fail('internal', 'a device value on WASM');
  const at = address[v];
  if (at === undefined) host.set(v, held.value);
  else if (isTensor(held.value)) store(held.value, heap, at);
  else fail('type_mismatch', `input ${plan.values[v]!.name} must be a tensor`);
}

const store = (t: Tensor, heap: Heap, at: number): void => heap.bytes.set(bytesOfTensor(t), at);

function copyOut(plan: Plan, v: number, heap: Heap, address: readonly (number | undefined)[]): Tensor {
  const { dtype, shape } = plan.values[v]!;
  const at = address[v]!;
  return tensorOver(dtype, shape, heap.bytes.slice(at, at + byteLength({ dtype, shape })));
}
