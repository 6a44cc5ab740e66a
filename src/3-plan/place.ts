import { callOf } from '../../kernels/call.ts';
import type { Call, GpuKernel, Launch, Op, Ref, WasmKernel, WasmLaunch } from '../../kernels/define.ts';
import { bytesOf, type DType } from '../core/dtype.ts';
import { fail } from '../core/errors.ts';
import type { Fact, Node, ValueId } from '../core/graph.ts';
import type { Argument, GpuCaps, HostStep, PlannedShader, Step, WasmCaps } from '../core/plan.ts';
import { sizeOf } from '../core/tensor.ts';
import { sameCall, sameText, watching } from './alike.ts';
import { arrange, assembled, type Place } from './assembled.ts';
import { type Chosen, chosenForGpu, chosenForWasm } from './choose.ts';
import { type Draft, isGpuType } from './draft.ts';
import type { Made, PlanRequest } from './request.ts';
import { emitted } from './written.ts';

const isWhole = ({ dtype }: Fact): boolean => WHOLE.has(dtype);
const WHOLE: ReadonlySet<DType> = new Set<DType>([
  'bool',
  'int2',
  'int4',
  'int8',
  'int16',
  'int32',
  'int64',
  'uint2',
  'uint4',
  'uint8',
  'uint16',
  'uint32',
  'uint64',
]);
/** Integer results this small, made of values that are on the host, stay there: they are shapes and indices. */
const SHAPE_ELEMENTS = 4096;

/** The plan values of a call's device memory; -1 for an operand that is a constant. */
interface Bound {
  readonly inputs: readonly (number | null)[];
  readonly outputs: readonly (number | null)[];
  readonly operands: readonly number[];
  readonly scratch: readonly number[];
}

/** Writes nodes into a draft, one after the other: each as calls of a kernel, as work of the host, or as nothing. */
export class Placer {
  readonly request: PlanRequest;
  readonly ops: ReadonlyMap<string, Op>;
  readonly draft: Draft;
  /** Calls of which kernels were asked, by operator and shape. */
  readonly seen = new Map<string, readonly { readonly call: Call; readonly chosen: Pick<Made, 'gpu' | 'wasm'> }[]>();

  constructor(request: PlanRequest, ops: ReadonlyMap<string, Op>, draft: Draft) {
    this.request = request;
    this.ops = ops;
    this.draft = draft;
  }

  place(node: Node): void {
    const op = this.ops.get(node.op)!;
    if (op.view && node.inputs[0] != null) {
      this.draft.viewOf.set(node.outputs[0]!, node.inputs[0]);
      return;
    }
    const { caps } = this.request;
    if (caps.kind === 'reference') return this.runOnHost(node, undefined);
    const call = callOf(node, (v) => this.draft.fact(v));
    if (this.isShapeWork(node)) return this.runOnHost(node, 'shape');
    const odd =
      this.oddOf(call.inputs) ?? this.oddOf(call.outputs) ?? (call.epilogue && this.oddOf(call.epilogue.operands));
    if (odd != null) return this.runOnHost(node, this.formless(node, odd));
    if (call.outputs.every((f) => f === null || sizeOf(f.shape) === 0)) return this.makeEmpty(node);
    const id = node.outputs.find((v) => v !== null)!;
    const last = this.request.memory?.made.get(id);
    const known = last && sameCall(last.call, call) ? last : undefined;
    const made: Made = known ?? { call, shaders: last?.shaders ?? [], ...this.chosen(op, call) };
    if (known === undefined) this.request.memory?.made.set(id, made);
    if (made.gpu) return this.dispatch(node, made.gpu, call, made.shaders, last?.gpu?.launches);
    if (made.wasm) return this.callWasm(node, made.wasm, call);
    if (call.epilogue !== undefined) return this.placeApart(node);
    this.runOnHost(
      node,
      (caps.kind === 'webgpu' ? op.webgpu : op.wasm) === undefined
        ? `no ${caps.kind === 'webgpu' ? 'WebGPU' : 'WASM'} kernel`
        : `no ${caps.kind === 'webgpu' ? 'WebGPU' : 'WASM'} kernel for these types or attributes`,
    );
  }
  /** The first that has no form on the device. */
  oddOf(facts: readonly (Fact | null)[]): Fact | null {
    for (const f of facts) if (f !== null && !this.draft.hasDeviceForm(f)) return f;
    return null;
  }
  /**
   * The kernel of a call and its launches: those of an earlier call like it, unless they depend on what its constants
   * hold.
   */
  chosen(op: Op, call: Call): Pick<Made, 'gpu' | 'wasm'> {
    const { caps } = this.request;
    const key = `${op.op} ${call.outputs[0] ? sizeOf(call.outputs[0].shape) : 0}`;
    const others = this.seen.get(key) ?? [];
    const same = others.find((o) => sameCall(o.call, call, true));
    if (same) return same.chosen;
    const { chosen, looked } = watching(call, (c) =>
      caps.kind === 'webgpu'
        ? { gpu: chosenForGpu(op, c, caps, this.request.tuning?.(op.op, c, caps) ?? null) }
        : { wasm: chosenForWasm(op, c, caps as WasmCaps) },
    );
    if (!looked) this.seen.set(key, [...others, { call, chosen }]);
    return chosen;
  }
  /** Why a value cannot be on the device. */
  formless(node: Node, { dtype, shape }: Fact): string {
    const { caps } = this.request;
    if (caps.kind !== 'webgpu' || !isGpuType(dtype)) return `${dtype}[${shape}] has no form on ${caps.kind}`;
    const v = [...node.inputs, ...node.outputs].find(
      (id) => id !== null && !this.draft.hasDeviceForm(this.draft.fact(id)),
    );
    return `${v == null ? 'a value' : this.draft.nameOf(v)}, ${dtype}[${shape}], takes ${bytesOf(dtype, sizeOf(shape))} bytes, and the device binds ${caps.limits.maxStorageBufferBindingSize} at once`;
  }

  /** A node whose kernels refuse its epilogue: the operator, then the epilogue as a map. */
  placeApart(node: Node): void {
    const { epilogue, operandsFrom, label, ...attrs } = node.attrs;
    const y = node.outputs[0]!;
    const { dtype, shape } = this.draft.fact(y);
    const middle = -1 - this.draft.between.size;
    this.draft.between.set(middle, { name: `${node.name}.before`, fact: { dtype, shape } });
    this.place({ ...node, attrs, inputs: node.inputs.slice(0, operandsFrom as number), outputs: [middle] });
    this.place({
      ...node,
      op: 'sardonyx.Map',
      attrs: { expr: epilogue!, dtype, shape, label: (label as readonly string[]).slice(1) },
      inputs: [middle, ...node.inputs.slice(operandsFrom as number)],
      outputs: [y],
    });
  }

  /** Small integer arithmetic on values that the host has anyway. */
  isShapeWork(node: Node): boolean {
    if (!node.outputs.some((v) => v !== null && isWhole(this.draft.fact(v)))) return false;
    const here = (v: ValueId | null): boolean =>
      v === null ||
      this.draft.fact(v).constant !== undefined ||
      (!this.draft.onDevice.has(v) && this.draft.onHost.has(v) && this.draft.viewOf.get(v) === undefined);
    return (
      node.inputs.every(here) &&
      node.inputs.some((v) => v !== null) &&
      [...node.inputs, ...node.outputs].every(
        (v) => v === null || (isWhole(this.draft.fact(v)) && sizeOf(this.draft.fact(v).shape) <= SHAPE_ELEMENTS),
      )
    );
  }

  /** Outputs without elements need memory but no work. */
  makeEmpty(node: Node): void {
    for (const v of node.outputs) {
      if (v === null) continue;
      this.draft.onDevice.set(v, this.draft.addValue(v, { in: 'slab', slab: -1, offset: 0 }));
    }
  }

  runOnHost(node: Node, why: string | undefined): void {
    const inputs = node.inputs.map((v) => (v === null ? null : this.draft.host(v)));
    const outputs = node.outputs.map((v) => (v === null ? null : this.draft.addValue(v, { in: 'host' })));
    node.outputs.forEach((v, i) => {
      if (v !== null) this.draft.onHost.set(v, outputs[i]!);
    });
    const step: HostStep = {
      run: 'host',
      node: node.name,
      op: node.op,
      inputs,
      outputs,
      attrs: node.attrs,
      ...(why === undefined ? {} : { why }),
    };
    this.draft.addStep(step, { reads: [], writes: [] });
  }

  /** The plan values of a call's device memory, outputs new. */
  bindings(
    node: Node,
    scratch: readonly number[],
  ): { inputs: (number | null)[]; outputs: (number | null)[]; operands: number[]; scratch: number[] } {
    const from = typeof node.attrs.operandsFrom === 'number' ? node.attrs.operandsFrom : node.inputs.length;
    // Constants are bound by reference (they may be packed), so they are not placed here.
    const read = (v: ValueId | null): number | null =>
      v === null || this.draft.fact(v).constant !== undefined ? null : this.draft.device(v);
    const inputs = node.inputs.slice(0, from).map(read);
    const operands = node.inputs.slice(from).map((v) => read(v) ?? -1);
    const outputs = node.outputs.map((v) => {
      if (v === null) return null;
      const value = this.draft.addValue(v, { in: 'slab', slab: -1, offset: 0 });
      this.draft.onDevice.set(v, value);
      return value;
    });
    const temporaries = scratch.map((bytes, i) => {
      const value =
        this.draft.values.push({
          name: `${node.name}.scratch${i}`,
          dtype: 'uint8',
          shape: [bytes],
          home: { in: 'slab', slab: -1, offset: 0 },
        }) - 1;
      return value;
    });
    return { inputs, outputs, operands, scratch: temporaries };
  }

  resolve(ref: Exclude<Ref, { fault: true }>, node: Node, bound: Bound): { value: number } | { weight: number } {
    if ('output' in ref)
      return { value: bound.outputs[ref.output] ?? fail('internal', `output ${ref.output} is bound but not wanted`) };
    if ('scratch' in ref)
      return { value: bound.scratch[ref.scratch] ?? fail('internal', `scratch ${ref.scratch} was not asked for`) };
    const from = typeof node.attrs.operandsFrom === 'number' ? node.attrs.operandsFrom : node.inputs.length;
    const v = 'operand' in ref ? node.inputs[from + ref.operand] : node.inputs[ref.input];
    if (v === null || v === undefined) fail('internal', `a kernel of ${node.op} binds an input that is left out`);
    const { constant } = this.draft.fact(v);
    const pack = 'input' in ref ? ref.pack : undefined;
    if (constant !== undefined) return { weight: this.draft.weight(constant, pack) };
    if (pack !== undefined) fail('internal', `a kernel of ${node.op} packs an input that is no constant`);
    return { value: this.draft.device(v) };
  }

  /** `shaders` are those of the launches `last`, if there were any; they become those of these. */
  dispatch(
    node: Node,
    { kernel, scratch, launches }: Chosen<GpuKernel, Launch>,
    call: Call,
    shaders: PlannedShader[],
    last: readonly Launch[] = [],
  ): void {
    const caps = this.request.caps as GpuCaps;
    this.request.placed?.(node, call);
    const bound = this.bindings(node, scratch);
    const steps = launches.map((launch, i): { step: Step; reads: number[]; writes: number[] } => {
      const refs = [...launch.bind, ...(launch.extra ?? []).map((e) => e.bind)];
      const places = refs.map(
        (r): Place =>
          'fault' in r
            ? { fault: this.draft.faults.push(`node ${node.name} (${node.op})`) - 1 }
            : this.resolve(r, node, bound),
      );
      const shader = last[i] && sameText(last[i], launch) ? shaders[i]! : (shaders[i] = assembled(launch, caps.f16));
      const n = this.draft.shader(shader);
      const { bind, uniforms } = arrange(shader.layout, places, launch);
      if (launch.workgroups.some((w) => w > caps.limits.maxComputeWorkgroupsPerDimension))
        fail(
          'device_limit',
          `${kernel.name} needs ${launch.workgroups.join('×')} workgroups; the device allows ${caps.limits.maxComputeWorkgroupsPerDimension} a dimension`,
        );
      const at: [reads: number[], writes: number[]] = [[], []];
      places.forEach((p, i) => {
        if (!('value' in p)) return;
        const root = this.draft.root(p.value);
        const list = at[launch.module.bindings[i]?.access === 'read_write' ? 1 : 0];
        if (!list.includes(root)) list.push(root);
      });
      return {
        step: {
          run: 'gpu',
          node: node.name,
          op: nameOf(node),
          kernel: kernel.name,
          shader: n,
          params: launch.params ?? {},
          bind,
          ...(launch.copies ? { copies: launch.copies } : {}),
          uniforms,
          workgroups: launch.workgroups,
        },
        reads: at[0],
        writes: at[1],
      };
    });
    for (const { step, reads, writes } of steps) this.draft.addStep(step, { reads, writes });
  }

  callWasm(node: Node, { kernel, scratch, launches }: Chosen<WasmKernel, WasmLaunch>, call: Call): void {
    const caps = this.request.caps as WasmCaps;
    this.request.placed?.(node, call);
    const bound = this.bindings(node, scratch);
    const outputs = bound.outputs.filter((v): v is number => v !== null);
    for (const launch of launches) {
      const args = launch.args.map(
        (a): Argument =>
          typeof a === 'number'
            ? a
            : 'f32' in a
              ? a.f32
              : 'fault' in a
                ? fail('internal', 'WASM kernels return their faults')
                : this.resolve(a, node, bound),
      );
      const key = keyOf(launch);
      let n = this.draft.moduleOf.get(key);
      if (n === undefined)
        this.draft.moduleOf.set(
          key,
          (n = this.draft.modules.push({ name: launch.emit.name, bytes: emitted(key, launch, caps) }) - 1),
        );
      const reads: number[] = [];
      for (const a of args)
        if (typeof a === 'object' && 'value' in a) {
          const root = this.draft.root(a.value);
          if (!outputs.includes(root)) reads.push(root);
        }
      const sharing =
        launches.length > 1
          ? []
          : (kernel.inPlace?.(call) ?? []).flatMap(([o, i]): [number, number][] => {
              const to = bound.outputs[o] ?? null;
              const from =
                bound.inputs[i] ?? (i >= bound.inputs.length ? bound.operands[i - bound.inputs.length] : null) ?? null;
              return to === null || from === null || from < 0 ? [] : [[to, this.draft.root(from)]];
            });
      const split = caps.threads > 1 && launch.split ? { split: launch.split } : {};
      this.draft.addStep(
        { run: 'wasm', node: node.name, op: nameOf(node), kernel: kernel.name, module: n, args, ...split },
        { reads, writes: [...outputs, ...bound.scratch], sharing },
      );
    }
  }
}

/** What a module is known by: its emitter and all that it looks at. */
function keyOf(launch: WasmLaunch): string {
  let key = KEYS.get(launch);
  if (key === undefined) KEYS.set(launch, (key = `${launch.emit.name} ${JSON.stringify(launch.spec)}`));
  return key;
}
const KEYS = new WeakMap<WasmLaunch, string>();

/** What the plan calls a node's operator: a fused one by its parts. */
function nameOf(node: Node): string {
  const label = node.attrs.label as readonly string[] | undefined;
  if (label === undefined) return node.op;
  return label.length <= 4 ? label.join('+') : `${label.slice(0, 3).join('+')}+…+${label.at(-1)} (${label.length})`;
}
