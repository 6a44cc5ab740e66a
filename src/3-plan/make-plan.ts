import { callOf } from '../../kernels/call.ts';
import type { Call, GpuKernel, Launch, Op, Ref, WasmKernel, WasmLaunch } from '../../kernels/define.ts';
import { type Access, type Lifetimes, lifetimes, lifetimesAgain, sameAccesses } from '../../memory/lifetimes.ts';
import { type MemoryPlan, planHeap, planSlabs } from '../../memory/plan.ts';
import { bytesOf, type DType } from '../core/dtype.ts';
import { fail, withinEach } from '../core/errors.ts';
import type { Constant, Fact, Facts, Node, ValueId } from '../core/graph.ts';
import type {
  Argument,
  Caps,
  GpuCaps,
  Home,
  HostStep,
  Pack,
  Plan,
  PlannedShader,
  PlannedValue,
  Step,
  WasmCaps,
  WasmCode,
  Weight,
} from '../core/plan.ts';
import { byteLength, sizeOf } from '../core/tensor.ts';
import { sameCall, sameText, watching } from './alike.ts';
import { type Chosen, chosenForGpu, chosenForWasm, type Tuning } from './choose.ts';
import { hardConflicts, isWasteful, shared } from './share-slabs.ts';
import { arrange, assembled, type Place } from './assembled.ts';
import { emitted } from './written.ts';

/** Nodes with all facts known, and what the caller brings and wants. */
export interface PlanRequest {
  readonly model: string;
  readonly nodes: readonly Node[];
  readonly facts: Facts;
  readonly nameOf: (v: ValueId) => string;
  readonly inputs: readonly ValueId[];
  readonly outputs: readonly ValueId[];
  /** Nodes that the host runs behind the plan. */
  readonly after: readonly Node[];
  readonly caps: Caps;
  readonly tuning?: Tuning;
  /** Called with every node that is placed on a device, as its kernel sees it. */
  readonly placed?: (node: Node, call: Call) => void;
  /** What kernels made of the same nodes at other dims; this plan's takes its place. */
  readonly memory?: PlanMemory;
}
export interface PlanMemory {
  /**
   * By the first output of a node: how it was last placed. A call that says the same as then is not asked about again,
   * and a shader that is put together alike is the same.
   */
  readonly made: Map<ValueId, Made>;
  /** What steps did with memory, and how long blocks lived. */
  lives?: { readonly accesses: readonly Access[]; readonly kept: string; readonly found: Lifetimes };
  /** Where blocks went, and where they went when all that can share slabs did. */
  layout?: MemoryPlan;
  tight?: MemoryPlan;
  /**
   * Of all plans of a graph, at dims of any class: whether the last one's steps shared slabs. What they do else takes
   * other shaders.
   */
  readonly habit: { shares?: boolean };
}
interface Made {
  readonly call: Call;
  readonly gpu?: Chosen<GpuKernel, Launch> | undefined;
  readonly wasm?: Chosen<WasmKernel, WasmLaunch> | undefined;
  readonly shaders: PlannedShader[];
}

/** A plan, and the constants that it refers to by number. */
export interface Planned {
  readonly plan: Plan;
  readonly constants: readonly Constant[];
}

/** Types that have a form in GPU memory; the others stay on the host. */
const GPU_DTYPES: ReadonlySet<DType> = new Set<DType>([
  'float32',
  'float16',
  'bfloat16',
  'int32',
  'uint32',
  'int64',
  'uint64',
  'int16',
  'uint16',
  'int8',
  'uint8',
  'bool',
  'float8e4m3fn',
  'float8e4m3fnuz',
  'float8e5m2',
  'float8e5m2fnuz',
  'float8e8m0',
  'float4e2m1',
  'int4',
  'uint4',
  'int2',
  'uint2',
]);
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

/**
 * Orders the work of one graph at fixed dims: places each node, picks its kernel, and lays out memory. Pure; touches no
 * device.
 */
export function makePlan(request: PlanRequest, ops: ReadonlyMap<string, Op>): Planned {
  return new Draft(request, ops).finish();
}

interface DraftValue {
  name: string;
  dtype: DType;
  shape: readonly number[];
  home: Home;
}

/** The plan while it is being written. Lives only inside `makePlan`. */
class Draft {
  readonly request: PlanRequest;
  readonly ops: ReadonlyMap<string, Op>;
  readonly values: DraftValue[] = [];
  readonly steps: Step[] = [];
  readonly accesses: Access[] = [];
  readonly shaders: PlannedShader[] = [];
  readonly shaderOf = new Map<string, number>();
  readonly modules: WasmCode[] = [];
  readonly moduleOf = new Map<string, number>();
  readonly constants: Constant[] = [];
  readonly constantOf = new Map<Constant, number>();
  readonly weights: Weight[] = [];
  /** Of each constant, its weights: one for each way to pack it. */
  readonly weightsOf: number[][] = [];
  /** Where each graph value is, on the device and on the host, as plan values. */
  readonly onDevice = new Map<ValueId, number>();
  readonly onHost = new Map<ValueId, number>();
  /** Values that are another's bytes under a different shape. */
  readonly viewOf = new Map<ValueId, ValueId>();
  /** Values between the halves of a node that was split, by ids of their own, below 0. */
  readonly between = new Map<ValueId, { name: string; fact: Fact }>();
  /** Calls of which kernels were asked, by operator and shape. */
  readonly seen = new Map<string, readonly { readonly call: Call; readonly chosen: Pick<Made, 'gpu' | 'wasm'> }[]>();
  readonly inputs: number[] = [];
  readonly faults: string[] = [];

  constructor(request: PlanRequest, ops: ReadonlyMap<string, Op>) {
    this.request = request;
    this.ops = ops;
  }

  finish(): Planned {
    const { request } = this;
    const onDevice = request.caps.kind !== 'reference';
    for (const v of request.inputs) {
      const fact = this.fact(v);
      const device = onDevice && this.hasDeviceForm(fact);
      const value = this.addValue(v, device ? { in: 'slab', slab: -1, offset: 0 } : { in: 'host' });
      (device ? this.onDevice : this.onHost).set(v, value);
      this.inputs.push(value);
    }
    withinEach(request.nodes, (node) => this.place(node));
    const outputs = request.outputs.map((v) => this.anywhere(v));
    return { plan: this.layOut(outputs), constants: this.constants };
  }

  fact(v: ValueId): Fact {
    return (
      this.request.facts[v] ??
      this.between.get(v)?.fact ??
      fail('internal', `value ${this.request.nameOf(v)} has no fact`)
    );
  }
  nameOf(v: ValueId): string {
    return this.between.get(v)?.name ?? this.request.nameOf(v);
  }
  addValue(v: ValueId, home: Home): number {
    const { dtype, shape } = this.fact(v);
    return this.values.push({ name: this.nameOf(v), dtype, shape, home }) - 1;
  }
  addStep(step: Step, access: Access): void {
    this.steps.push(step);
    this.accesses.push(access);
  }
  hasDeviceForm(fact: Fact): boolean {
    return this.request.caps.kind === 'webgpu'
      ? GPU_DTYPES.has(fact.dtype) &&
          bytesOf(fact.dtype, sizeOf(fact.shape)) <= this.request.caps.limits.maxStorageBufferBindingSize
      : fact.dtype !== 'string';
  }

  // ── where values are ──
  constant(c: Constant): number {
    let n = this.constantOf.get(c);
    if (n === undefined) this.constantOf.set(c, (n = this.constants.push(c) - 1));
    return n;
  }
  shader(shader: PlannedShader): number {
    let n = this.shaderOf.get(shader.code);
    if (n === undefined) this.shaderOf.set(shader.code, (n = this.shaders.push(shader) - 1));
    return n;
  }
  weight(c: Constant, pack?: Pack): number {
    const constant = this.constant(c);
    const known = (this.weightsOf[constant] ??= []);
    for (const n of known) if (samePack(this.weights[n]!.pack, pack)) return n;
    const n = this.weights.push({ constant, bytes: pack?.bytes ?? byteLength(c), ...(pack ? { pack } : {}) }) - 1;
    known.push(n);
    return n;
  }
  host(v: ValueId): number {
    let value = this.onHost.get(v);
    if (value !== undefined) return value;
    const { constant } = this.fact(v);
    const base = this.viewOf.get(v);
    if (constant !== undefined) value = this.addValue(v, { in: 'constant', constant: this.constant(constant) });
    else if (base !== undefined) value = this.addValue(v, { in: 'view', of: this.host(base) });
    else {
      const from =
        this.onDevice.get(v) ?? fail('internal', `value ${this.request.nameOf(v)} is read before it is made`);
      value = this.addValue(v, { in: 'host' });
      this.addStep({ run: 'download', from, to: value }, { reads: [this.root(from)], writes: [] });
    }
    this.onHost.set(v, value);
    return value;
  }
  device(v: ValueId): number {
    let value = this.onDevice.get(v);
    if (value !== undefined) return value;
    const { constant } = this.fact(v);
    const base = this.viewOf.get(v);
    if (constant !== undefined) value = this.addValue(v, { in: 'weights', weight: this.weight(constant) });
    else if (base !== undefined) value = this.addValue(v, { in: 'view', of: this.device(base) });
    else {
      const from = this.onHost.get(v) ?? fail('internal', `value ${this.request.nameOf(v)} is read before it is made`);
      value = this.addValue(v, { in: 'slab', slab: -1, offset: 0 });
      this.addStep({ run: 'upload', from, to: value }, { reads: [], writes: [value] });
    }
    this.onDevice.set(v, value);
    return value;
  }
  /** Where an output is, without moving it. */
  anywhere(v: ValueId): number {
    const base = this.viewOf.get(v);
    if (this.fact(v).constant !== undefined) return this.host(v);
    if (this.onDevice.has(v)) return this.onDevice.get(v)!;
    if (this.onHost.has(v)) return this.onHost.get(v)!;
    if (base !== undefined) return this.rootOnDevice(base) ? this.device(v) : this.host(v);
    return this.host(v);
  }
  rootOnDevice(v: ValueId): boolean {
    const base = this.viewOf.get(v);
    return base === undefined ? this.onDevice.has(v) : this.onDevice.has(v) || this.rootOnDevice(base);
  }
  /** Plan value that owns the memory behind `value`. */
  root(value: number): number {
    const home = this.values[value]!.home;
    return home.in === 'view' ? this.root(home.of) : value;
  }

  // ── placing nodes ──
  place(node: Node): void {
    const op = this.ops.get(node.op)!;
    if (op.view && node.inputs[0] != null) {
      this.viewOf.set(node.outputs[0]!, node.inputs[0]);
      return;
    }
    const { caps } = this.request;
    if (caps.kind === 'reference') return this.runOnHost(node, undefined);
    const call = callOf(node, (v) => this.fact(v));
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
    for (const f of facts) if (f !== null && !this.hasDeviceForm(f)) return f;
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
    if (caps.kind !== 'webgpu' || !GPU_DTYPES.has(dtype)) return `${dtype}[${shape}] has no form on ${caps.kind}`;
    const v = [...node.inputs, ...node.outputs].find((id) => id !== null && !this.hasDeviceForm(this.fact(id)));
    return `${v == null ? 'a value' : this.nameOf(v)}, ${dtype}[${shape}], takes ${bytesOf(dtype, sizeOf(shape))} bytes, and the device binds ${caps.limits.maxStorageBufferBindingSize} at once`;
  }

  /** A node whose kernels refuse its epilogue: the operator, then the epilogue as a map. */
  placeApart(node: Node): void {
    const { epilogue, operandsFrom, label, ...attrs } = node.attrs;
    const y = node.outputs[0]!;
    const { dtype, shape } = this.fact(y);
    const middle = -1 - this.between.size;
    this.between.set(middle, { name: `${node.name}.before`, fact: { dtype, shape } });
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
    if (!node.outputs.some((v) => v !== null && isWhole(this.fact(v)))) return false;
    const here = (v: ValueId | null): boolean =>
      v === null ||
      this.fact(v).constant !== undefined ||
      (!this.onDevice.has(v) && this.onHost.has(v) && this.viewOf.get(v) === undefined);
    return (
      node.inputs.every(here) &&
      node.inputs.some((v) => v !== null) &&
      [...node.inputs, ...node.outputs].every(
        (v) => v === null || (isWhole(this.fact(v)) && sizeOf(this.fact(v).shape) <= SHAPE_ELEMENTS),
      )
    );
  }

  /** Outputs without elements need memory but no work. */
  makeEmpty(node: Node): void {
    for (const v of node.outputs) {
      if (v === null) continue;
      this.onDevice.set(v, this.addValue(v, { in: 'slab', slab: -1, offset: 0 }));
    }
  }

  runOnHost(node: Node, why: string | undefined): void {
    const inputs = node.inputs.map((v) => (v === null ? null : this.host(v)));
    const outputs = node.outputs.map((v) => (v === null ? null : this.addValue(v, { in: 'host' })));
    node.outputs.forEach((v, i) => {
      if (v !== null) this.onHost.set(v, outputs[i]!);
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
    this.addStep(step, { reads: [], writes: [] });
  }

  /** The plan values of a call's device memory, outputs new. */
  bindings(
    node: Node,
    scratch: readonly number[],
  ): { inputs: (number | null)[]; outputs: (number | null)[]; operands: number[]; scratch: number[] } {
    const from = typeof node.attrs.operandsFrom === 'number' ? node.attrs.operandsFrom : node.inputs.length;
    // Constants are bound by reference (they may be packed), so they are not placed here.
    const read = (v: ValueId | null): number | null =>
      v === null || this.fact(v).constant !== undefined ? null : this.device(v);
    const inputs = node.inputs.slice(0, from).map(read);
    const operands = node.inputs.slice(from).map((v) => read(v) ?? -1);
    const outputs = node.outputs.map((v) => {
      if (v === null) return null;
      const value = this.addValue(v, { in: 'slab', slab: -1, offset: 0 });
      this.onDevice.set(v, value);
      return value;
    });
    const temporaries = scratch.map((bytes, i) => {
      const value =
        this.values.push({
          name: `${node.name}.scratch${i}`,
          dtype: 'uint8',
          shape: [bytes],
          home: { in: 'slab', slab: -1, offset: 0 },
        }) - 1;
      return value;
    });
    return { inputs, outputs, operands, scratch: temporaries };
  }

  resolve(
    ref: Exclude<Ref, { fault: true }>,
    node: Node,
    bound: ReturnType<Draft['bindings']>,
  ): { value: number } | { weight: number } {
    if ('output' in ref)
      return { value: bound.outputs[ref.output] ?? fail('internal', `output ${ref.output} is bound but not wanted`) };
    if ('scratch' in ref)
      return { value: bound.scratch[ref.scratch] ?? fail('internal', `scratch ${ref.scratch} was not asked for`) };
    const from = typeof node.attrs.operandsFrom === 'number' ? node.attrs.operandsFrom : node.inputs.length;
    const v = 'operand' in ref ? node.inputs[from + ref.operand] : node.inputs[ref.input];
    if (v === null || v === undefined) fail('internal', `a kernel of ${node.op} binds an input that is left out`);
    const { constant } = this.fact(v);
    const pack = 'input' in ref ? ref.pack : undefined;
    if (constant !== undefined) return { weight: this.weight(constant, pack) };
    if (pack !== undefined) fail('internal', `a kernel of ${node.op} packs an input that is no constant`);
    return { value: this.device(v) };
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
            ? { fault: this.faults.push(`node ${node.name} (${node.op})`) - 1 }
            : this.resolve(r, node, bound),
      );
      const shader = last[i] && sameText(last[i], launch) ? shaders[i]! : (shaders[i] = assembled(launch, caps.f16));
      const n = this.shader(shader);
      const { bind, uniforms } = arrange(shader.layout, places, launch);
      if (launch.workgroups.some((w) => w > caps.limits.maxComputeWorkgroupsPerDimension))
        fail(
          'device_limit',
          `${kernel.name} needs ${launch.workgroups.join('×')} workgroups; the device allows ${caps.limits.maxComputeWorkgroupsPerDimension} a dimension`,
        );
      const at: [reads: number[], writes: number[]] = [[], []];
      places.forEach((p, i) => {
        if (!('value' in p)) return;
        const root = this.root(p.value);
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
    for (const { step, reads, writes } of steps) this.addStep(step, { reads, writes });
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
      let n = this.moduleOf.get(key);
      if (n === undefined)
        this.moduleOf.set(
          key,
          (n = this.modules.push({ name: launch.emit.name, bytes: emitted(key, launch, caps) }) - 1),
        );
      const reads: number[] = [];
      for (const a of args)
        if (typeof a === 'object' && 'value' in a) {
          const root = this.root(a.value);
          if (!outputs.includes(root)) reads.push(root);
        }
      const sharing =
        launches.length > 1
          ? []
          : (kernel.inPlace?.(call) ?? []).flatMap(([o, i]): [number, number][] => {
              const to = bound.outputs[o] ?? null;
              const from =
                bound.inputs[i] ?? (i >= bound.inputs.length ? bound.operands[i - bound.inputs.length] : null) ?? null;
              return to === null || from === null || from < 0 ? [] : [[to, this.root(from)]];
            });
      const split = caps.threads > 1 && launch.split ? { split: launch.split } : {};
      this.addStep(
        { run: 'wasm', node: node.name, op: nameOf(node), kernel: kernel.name, module: n, args, ...split },
        { reads, writes: [...outputs, ...bound.scratch], sharing },
      );
    }
  }

  // ── memory ──
  layOut(outputs: readonly number[]): Plan {
    const { request, values } = this;
    // Kernels store whole words, up to four elements at once: every value is padded to 16 bytes.
    const bytes = (v: number): number => Math.max(16, Math.ceil(byteLength(values[v]!) / 16) * 16);
    const inSlab = (v: number): boolean => values[v]!.home.in === 'slab';
    const kept = new Set(outputs.map((v) => this.root(v)).filter(inSlab));
    const accesses: Access[] = [{ reads: [], writes: this.inputs.filter(inSlab) }];
    for (const a of this.accesses) accesses.push(a.reads.every(inSlab) ? a : { ...a, reads: a.reads.filter(inSlab) });
    const memory: PlanMemory = request.memory ?? { made: new Map(), habit: {} };
    const gpu = request.caps.kind === 'webgpu';
    const { tight, layout: before, lives, habit } = memory;
    const again =
      lives && String([...kept]) === lives.kept && sameAccesses(accesses, lives.accesses)
        ? lifetimesAgain(lives.found, bytes)
        : null;
    const found = again ?? lifetimes(accesses, bytes, kept);
    const { blocks, conflicts, blockOf } = found;
    const blockAt = (v: number): number | undefined => blockOf.get(this.root(v));
    const pack = (pairs: Lifetimes['conflicts'], like?: MemoryPlan): MemoryPlan =>
      planSlabs(blocks, pairs, {
        alignment: 256,
        maxSlabBytes: request.caps.kind === 'webgpu' ? request.caps.limits.maxBufferSize : Infinity,
        ...(like ? { like } : {}),
      });
    let layout = (memory.layout = gpu
      ? pack(conflicts, before)
      : planHeap(blocks, { alignment: 64, ...(before ? { like: before } : {}) }));
    let steps: readonly Step[] = this.steps;
    // Once slabs are shared they stay so: the shaders are there.
    const used = before ? tight !== undefined : habit.shares;
    if (gpu && (used || isWasteful(layout, used === false))) {
      const other = pack(hardConflicts(this.steps, accesses.slice(1), this.shaders, blockAt), tight);
      if (used ? other.total <= layout.total : other.total < layout.total) {
        layout = memory.tight = other;
        steps = shared(this.steps, this.shaders, blockAt, layout, (shader) => this.shader(shader));
      }
    }
    if (gpu) habit.shares = steps !== this.steps;
    memory.lives = { accesses, kept: String([...kept]), found };
    const planned = values.map((v, id): PlannedValue => {
      if (v.home.in !== 'slab') return v;
      const block = blockOf.get(id);
      const place = block === undefined ? undefined : layout.place.get(block);
      return { ...v, home: { in: 'slab', slab: place?.slab ?? 0, offset: place?.offset ?? 0 } };
    });
    return {
      format: 1,
      device: request.caps.kind,
      model: request.model,
      values: planned,
      slabs: layout.slabs.length > 0 ? layout.slabs : [0],
      ...inUse(steps, this.shaders),
      modules: this.modules,
      weights: this.weights,
      faults: this.faults,
      after: request.after.map((n) => ({ node: n.name, op: n.op })),
      inputs: this.inputs,
      outputs,
      peakBytes: layout.total,
      lowerBoundBytes: layout.lowerBound,
    };
  }
}

/**
 * The shaders that steps use, and the steps with their new numbers: sharing a slab may have left some without a user.
 */
function inUse(steps: readonly Step[], shaders: readonly PlannedShader[]): Pick<Plan, 'steps' | 'shaders'> {
  const numbers = new Map<number, number>();
  for (const s of steps) if (s.run === 'gpu' && !numbers.has(s.shader)) numbers.set(s.shader, numbers.size);
  if (numbers.size === shaders.length) return { steps, shaders };
  return {
    steps: steps.map((s) => (s.run === 'gpu' ? { ...s, shader: numbers.get(s.shader)! } : s)),
    shaders: [...numbers.keys()].map((n) => shaders[n]!),
  };
}

const samePack = (a: Pack | undefined, b: Pack | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && JSON.stringify(a) === JSON.stringify(b));

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
