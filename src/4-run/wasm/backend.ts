import { fail, SardonyxError } from '../../core/errors.ts';
import { bytesInMemory, type Constant, eachPart, inFileOrder } from '../../core/graph.ts';
import type { Pack, Plan, Split, WasmCaps, Weight } from '../../core/plan.ts';
import { byteLength, bytesOfTensor, isTensor, type Tensor, tensorOver, type Value } from '../../core/tensor.ts';
import type { Backend, Executable, HostWork } from '../executable.ts';
import { hostHeld } from '../executable.ts';
import { hostConstants, hostValues } from '../host-values.ts';
import { listen } from '../turns.ts';
import type { Outcome } from './crew.ts';
import type { Engine } from './engine.ts';
import type { Call, Failure, Range } from './thread.ts';

/** A constant on the heap; `fill` writes it. */
interface Form {
  readonly address: number;
  readonly fill: () => Promise<void>;
  users: number;
}
interface Placed {
  readonly constant: Constant;
  readonly key: string;
  readonly address: number;
}

/**
 * A constant packed by a module: `run(part, packed, …)` is called with each part's bytes in turn, and with what else
 * `calls` says.
 */
export interface Woven {
  readonly name: string;
  readonly module: Uint8Array<ArrayBuffer>;
  readonly parts: readonly {
    readonly at: number;
    readonly bytes: number;
    readonly calls: readonly (readonly number[])[];
  }[];
}
/** How a constant is packed by WASM; null where only the host does it. */
export type Weaving = (constant: Pick<Constant, 'dtype' | 'shape'>, pack: Pack, caps: WasmCaps) => Woven | null;

/** The CPU path: kernels that our assembler emitted, over one heap. */
export function wasmBackend(engine: Engine, weaving?: Weaving): Backend {
  const weights = new Map<Constant, Map<string, Form>>();
  const space = engine.open(async () => {
    for (const forms of weights.values()) for (const form of forms.values()) await form.fill();
  });
  const { heap } = space;
  const made = { modules: 0, regions: 0 };
  const modules = new Set<number>();

  const placeWeight = async (constants: readonly Constant[], weight: Weight, work: HostWork): Promise<Placed> => {
    const constant = constants[weight.constant]!;
    const key = weight.pack ? JSON.stringify(weight.pack) : '';
    const forms = weights.get(constant) ?? new Map<string, Form>();
    weights.set(constant, forms);
    let form = forms.get(key);
    if (form === undefined) {
      const { pack, bytes } = weight;
      const address = heap.take(bytes + 64);
      const woven = (pack && weaving?.(constant, pack, engine.caps)) ?? null;
      const fill = async (): Promise<void> => {
        if (woven) await weave(constant, woven, address);
        else if (pack) {
          const tensor = await constant.load();
          const view = space.view(address, bytes);
          if (view) work.pack(tensor, pack, view);
          else space.write(address, work.pack(tensor, pack));
        } else await eachPart(constant, (part, at) => space.write(address + at, part));
      };
      await fill();
      made.regions++;
      forms.set(key, (form = { address, fill, users: 0 }));
    }
    form.users++;
    return { constant, key, address: form.address };
  };
  const weave = async (constant: Constant, { name, module, parts }: Woven, to: number): Promise<void> => {
    const here = bytesInMemory(constant) ?? (constant.stored ? null : bytesOfTensor(await constant.load()));
    const from = heap.take(largest(parts));
    for (const { at, bytes, calls } of parts) {
      const part = here ? here.subarray(at, at + bytes) : await constant.stored!.read(at, bytes);
      space.write(from, part);
      for (const rest of calls) space.call(name, module, [from, to, ...rest]);
    }
    heap.give(from);
  };
  const dropWeight = ({ constant, key }: Placed): void => {
    const forms = weights.get(constant);
    const form = forms?.get(key);
    if (forms === undefined || form === undefined || --form.users > 0) return;
    heap.give(form.address);
    forms.delete(key);
    if (forms.size === 0) weights.delete(constant);
  };

  return {
    get caps() {
      return engine.caps;
    },
    made,
    get engine() {
      return engine.state;
    },
    get bytes() {
      return heap.used;
    },
    async instantiate(plan, constants, work): Promise<Executable> {
      if (space.lost) await space.repair();
      // First, so that a worker compiles them while weights are packed.
      const codes = plan.modules.map(({ name, bytes }) => space.code(name, bytes));
      for (const code of codes)
        if (!modules.has(code)) {
          modules.add(code);
          made.modules++;
        }
      const placed: Placed[] = [];
      for (const { w, i } of inFileOrder(
        plan.weights.map((w, i) => ({ w, i })),
        ({ w }) => constants[w.constant]!,
      ))
        placed[i] = await placeWeight(constants, w, work);
      const host = hostValues(plan, await hostConstants(plan, constants), work);
      const base = heap.take(plan.slabs.reduce((a, b) => a + b, 0) + 64);
      made.regions++;
      const address = addresses(
        plan,
        base,
        placed.map((p) => p.address),
      );
      /** The plan's calls, and where each step's is among them. */
      const calls: Call[] = [];
      const stepOf: number[] = [];
      const callAt = plan.steps.map((step, i) => {
        if (step.run !== 'wasm') return -1;
        const args = step.args.map((a) =>
          typeof a === 'number'
            ? a
            : 'weight' in a
              ? placed[a.weight]!.address
              : (address[a.value] ?? fail('internal', `${step.kernel}: a value without an address`)),
        );
        stepOf.push(i);
        return calls.push({ code: codes[step.module]!, args, ...partsOf(args, step.split, engine.caps.threads) }) - 1;
      });
      const list = space.list(calls);
      await space.settle();

      const check = ({ failure }: Outcome): void => {
        if (failure) throw errorOf(plan, failure, stepOf);
      };
      const place = (v: number): Range => [address[v]!, byteLength(plan.values[v]!)];
      const tensorOf = (v: number, bytes: Uint8Array<ArrayBuffer>): Tensor =>
        tensorOver(plan.values[v]!.dtype, plan.values[v]!.shape, bytes);
      const fromHeap = plan.outputs.filter((v) => address[v] !== undefined);
      const reads = fromHeap.map(place);
      /** The steps from i on that are calls, one of them if they are measured. */
      const until = (i: number, one: boolean): number => {
        let end = i + 1;
        while (!one && plan.steps[end]?.run === 'wasm') end++;
        return end;
      };
      return {
        async run(inputs, signal, probe) {
          if (space.lost) await space.repair();
          inputs.forEach((held, i) => {
            const v = plan.inputs[i]!;
            if (held.on !== 'host') fail('internal', 'a device value on WASM');
            if (address[v] === undefined) host.set(v, held.value);
            else if (isTensor(held.value)) space.write(address[v], bytesOfTensor(held.value));
            else fail('type_mismatch', `input ${plan.values[v]!.name} must be a tensor`);
          });
          let last: Outcome | null = null;
          for (let i = 0; i < plan.steps.length; ) {
            const step = plan.steps[i]!;
            let end = i + 1;
            switch (step.run) {
              case 'wasm': {
                end = until(i, probe !== undefined);
                const ends = end === plan.steps.length;
                const go = (): Outcome | Promise<Outcome> =>
                  space.run(list, callAt[i]!, callAt[i]! + end - i, ends ? reads : [], signal);
                let outcome: Outcome | Promise<Outcome> | undefined;
                if (probe) await probe.host(i, () => (outcome = go()));
                else outcome = go();
                if (outcome instanceof Promise) outcome = await outcome;
                check(outcome!);
                if (ends) last = outcome!;
                break;
              }
              case 'host': {
                const pending = probe ? probe.host(i, () => host.run(step)) : host.run(step);
                if (pending) await pending;
                break;
              }
              case 'upload':
                space.write(address[step.to]!, bytesOfTensor(host.get(step.from) as Tensor));
                break;
              case 'download': {
                const got = await space.run(list, 0, 0, [place(step.from)], signal);
                check(got);
                host.set(step.to, tensorOf(step.from, got.bytes[0]!));
                break;
              }
              default:
                fail('internal', `a ${step.run} step on WASM`);
            }
            const turn = listen(signal);
            if (turn) await turn;
            i = end;
          }
          if (last === null && reads.length > 0) check((last = await space.run(list, 0, 0, reads, signal)));
          let next = 0;
          const outputs = plan.outputs.map((v) =>
            hostHeld(address[v] === undefined ? host.get(v) : tensorOf(v, last!.bytes[next++]!)),
          );
          host.clear();
          return outputs;
        },
        destroy() {
          space.drop(list);
          heap.give(base);
          placed.forEach(dropWeight);
          host.clear();
        },
      };
    },
    read: async (held) =>
      held.map((h): Value => (h.on === 'host' ? h.value : fail('internal', 'a device value on WASM'))),
    release: () => {
      weights.clear();
      space.close();
      engine.close();
    },
  };
}

const largest = (parts: Woven['parts']): number => parts.reduce((most, { bytes }) => Math.max(most, bytes), 0);

/** Address of each plan value that has one. */
function addresses(plan: Plan, base: number, weights: readonly number[]): (number | undefined)[] {
  const at = (v: number): number | undefined => {
    const { home } = plan.values[v]!;
    switch (home.in) {
      case 'slab':
        return base + home.offset;
      case 'weights':
        return weights[home.weight];
      case 'view':
        return at(home.of);
      default:
        return undefined;
    }
  };
  return plan.values.map((_, v) => at(v));
}

/** What waking others costs is only won back by calls of this many nanoseconds, in parts of no less than that. */
const SHARED_NS = 40_000;
const PART_NS = 10_000;
/** Shorter calls are over before a system has moved a thread to a core that is free. */
const SHORT_NS = 2_000_000;
/** Parts for each thread, so that one that comes late leaves work to the others. */
const PARTS = 4;

/** How a call is cut. */
function partsOf(
  args: readonly number[],
  split: Split | undefined,
  threads: number,
): Pick<Call, 'parts' | 'size' | 'split' | 'short'> {
  const whole = { parts: 1, size: 0 };
  if (split === undefined) return whole;
  const n = args[split.items]!;
  const all = n * split.cost;
  if (all < SHARED_NS) return whole;
  const wanted = Math.min(Math.floor(all / PART_NS), PARTS * threads, 62);
  const size = Math.ceil(n / wanted / split.grain) * split.grain;
  const parts = Math.ceil(n / size);
  return parts > 1 ? { parts, size, split, short: all < SHORT_NS } : whole;
}

function errorOf(plan: Plan, { call, why, during }: Failure, stepOf: readonly number[]): SardonyxError {
  if (during !== undefined) return new SardonyxError(during === 'grow' ? 'out_of_memory' : 'device_fault', String(why));
  const step = plan.steps[stepOf[call]!]! as { node: string; op: string };
  return new SardonyxError(
    why === 1 ? 'value_invalid' : 'device_fault',
    why === 1 ? `an index is outside its tensor's bounds` : `a kernel failed: ${why}`,
    [`node ${step.node} (${step.op})`],
  );
}
