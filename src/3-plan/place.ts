import { callOf } from '../../kernels/call.ts';
import type { Call, GpuKernel, Launch, Op, Ref, WasmKernel, WasmLaunch } from '../../kernels/define.ts';
import { bytesOf, type DType } from '../core/dtype.ts';
import { fail } from '../core/errors.ts';
import type { Fact, Node, ValueId } from '../core/graph.ts';
import type { Argument, GpuCaps, HostStep, PlannedShader, Step, WasmCaps } from '../core/plan.ts';
import { sizeOf } from '../core/tensor.ts';
import { sameCall, sameSpec, sameText, watching } from './alike.ts';
import { arrange, assembled, type Place } from './assembled.ts';
import { type Chosen, chosenForGpu, chosenForWasm } from './choose.ts';
import { type Draft, isGpuType } from './draft.ts';
import type { Made } from './request.ts';
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

/** Writes a node: as calls of a kernel, as work of the host, or as nothing. */
export function place(draft: Draft, node: Node): void {
  const op = draft.ops.get(node.op)!;
  if (op.view && node.inputs[0] != null) {
    draft.viewOf.set(node.outputs[0]!, node.inputs[0]);
    return;
  }
  const { caps } = draft.request;
  if (caps.kind === 'reference') return runOnHost(draft, node, undefined);
  const call = callOf(node, (v) => draft.fact(v));
  if (isShapeWork(draft, node)) return runOnHost(draft, node, 'shape');
  const odd =
    oddOf(draft, call.inputs) ?? oddOf(draft, call.outputs) ?? (call.epilogue && oddOf(draft, call.epilogue.operands));
  if (odd != null) return runOnHost(draft, node, formless(draft, node, odd));
  if (call.outputs.every((f) => f === null || sizeOf(f.shape) === 0)) return makeEmpty(draft, node);
  const id = node.outputs.find((v) => v !== null)!;
  const last = draft.request.memory?.made.get(id);
  const known = last && sameCall(last.call, call) ? last : undefined;
  const made: Made = known ?? { call, shaders: last?.shaders ?? [], ...chosen(draft, op, call) };
  if (known === undefined) draft.request.memory?.made.set(id, made);
  if (made.gpu) return dispatch(draft, node, made.gpu, call, made.shaders, last?.gpu?.launches);
  if (made.wasm) return callWasm(draft, node, made.wasm, call, last?.wasm?.launches);
  if (call.epilogue !== undefined) return placeApart(draft, node);
  runOnHost(
    draft,
    node,
    (caps.kind === 'webgpu' ? op.webgpu : op.wasm) === undefined
      ? `no ${caps.kind === 'webgpu' ? 'WebGPU' : 'WASM'} kernel`
      : `no ${caps.kind === 'webgpu' ? 'WebGPU' : 'WASM'} kernel for these types or attributes`,
  );
}

/** The first that has no form on the device. */
function oddOf(draft: Draft, facts: readonly (Fact | null)[]): Fact | null {
  for (const f of facts) if (f !== null && !draft.hasDeviceForm(f)) return f;
  return null;
}

/**
 * The kernel of a call and its launches: those of an earlier call like it, unless they depend on what its constants
 * hold.
 */
function chosen(draft: Draft, op: Op, call: Call): Pick<Made, 'gpu' | 'wasm'> {
  const { caps } = draft.request;
  const key = `${op.op} ${call.outputs[0] ? sizeOf(call.outputs[0].shape) : 0}`;
  const others = draft.seen.get(key) ?? [];
  const same = others.find((o) => sameCall(o.call, call, true));
  if (same) return same.chosen;
  const { chosen, looked } = watching(call, (c) =>
    caps.kind === 'webgpu'
      ? { gpu: chosenForGpu(op, c, caps, draft.request.tuning?.(op.op, c, caps) ?? null) }
      : { wasm: chosenForWasm(op, c, caps as WasmCaps) },
  );
  if (!looked) draft.seen.set(key, [...others, { call, chosen }]);
  return chosen;
}

/** Why a value cannot be on the device. */
function formless(draft: Draft, node: Node, { dtype, shape }: Fact): string {
  const { caps } = draft.request;
  if (caps.kind !== 'webgpu' || !isGpuType(dtype)) return `${dtype}[${shape}] has no form on ${caps.kind}`;
  const v = [...node.inputs, ...node.outputs].find((id) => id !== null && !draft.hasDeviceForm(draft.fact(id)));
  return `${v == null ? 'a value' : draft.nameOf(v)}, ${dtype}[${shape}], takes ${bytesOf(dtype, sizeOf(shape))} bytes, and the device binds ${caps.limits.maxStorageBufferBindingSize} at once`;
}

/** A node whose kernels refuse its epilogue: the operator, then the epilogue as a map. */
function placeApart(draft: Draft, node: Node): void {
  const { epilogue, operandsFrom, label, ...attrs } = node.attrs;
  const y = node.outputs[0]!;
  const { dtype, shape } = draft.fact(y);
  const middle = -1 - draft.between.size;
  draft.between.set(middle, { name: `${node.name}.before`, fact: { dtype, shape } });
  place(draft, { ...node, attrs, inputs: node.inputs.slice(0, operandsFrom as number), outputs: [middle] });
  place(draft, {
    ...node,
    op: 'sardonyx.Map',
    attrs: { expr: epilogue!, dtype, shape, label: (label as readonly string[]).slice(1) },
    inputs: [middle, ...node.inputs.slice(operandsFrom as number)],
    outputs: [y],
  });
}

/** Small integer arithmetic on values that the host has anyway. */
function isShapeWork(draft: Draft, node: Node): boolean {
  if (!node.outputs.some((v) => v !== null && isWhole(draft.fact(v)))) return false;
  const here = (v: ValueId | null): boolean =>
    v === null ||
    draft.fact(v).constant !== undefined ||
    (!draft.onDevice.has(v) && draft.onHost.has(v) && draft.viewOf.get(v) === undefined);
  return (
    node.inputs.every(here) &&
    node.inputs.some((v) => v !== null) &&
    [...node.inputs, ...node.outputs].every(
      (v) => v === null || (isWhole(draft.fact(v)) && sizeOf(draft.fact(v).shape) <= SHAPE_ELEMENTS),
    )
  );
}

/** Outputs without elements need memory but no work. */
function makeEmpty(draft: Draft, node: Node): void {
  for (const v of node.outputs) {
    if (v === null) continue;
    draft.onDevice.set(v, draft.addValue(v, { in: 'slab', slab: -1, offset: 0 }));
  }
}

function runOnHost(draft: Draft, node: Node, why: string | undefined): void {
  const inputs = node.inputs.map((v) => (v === null ? null : draft.host(v)));
  const outputs = node.outputs.map((v) => (v === null ? null : draft.addValue(v, { in: 'host' })));
  node.outputs.forEach((v, i) => {
    if (v !== null) draft.onHost.set(v, outputs[i]!);
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
  draft.addStep(step, { reads: [], writes: [] });
}

/** The plan values of a call's device memory, outputs new. */
function bindings(draft: Draft, node: Node, scratch: readonly number[]): Bound {
  const from = typeof node.attrs.operandsFrom === 'number' ? node.attrs.operandsFrom : node.inputs.length;
  // Constants are bound by reference (they may be packed), so they are not placed here.
  const read = (v: ValueId | null): number | null =>
    v === null || draft.fact(v).constant !== undefined ? null : draft.device(v);
  const inputs = node.inputs.slice(0, from).map(read);
  const operands = node.inputs.slice(from).map((v) => read(v) ?? -1);
  const outputs = node.outputs.map((v) => {
    if (v === null) return null;
    const value = draft.addValue(v, { in: 'slab', slab: -1, offset: 0 });
    draft.onDevice.set(v, value);
    return value;
  });
  const temporaries = scratch.map((bytes, i) => {
    const value =
      draft.values.push({
        name: `${node.name}.scratch${i}`,
        dtype: 'uint8',
        shape: [bytes],
        home: { in: 'slab', slab: -1, offset: 0 },
      }) - 1;
    return value;
  });
  return { inputs, outputs, operands, scratch: temporaries };
}

function resolve(
  draft: Draft,
  ref: Exclude<Ref, { fault: true }>,
  node: Node,
  bound: Bound,
): { value: number } | { weight: number } {
  if ('output' in ref)
    return { value: bound.outputs[ref.output] ?? fail('internal', `output ${ref.output} is bound but not wanted`) };
  if ('scratch' in ref)
    return { value: bound.scratch[ref.scratch] ?? fail('internal', `scratch ${ref.scratch} was not asked for`) };
  const from = typeof node.attrs.operandsFrom === 'number' ? node.attrs.operandsFrom : node.inputs.length;
  const v = 'operand' in ref ? node.inputs[from + ref.operand] : node.inputs[ref.input];
  if (v === null || v === undefined) fail('internal', `a kernel of ${node.op} binds an input that is left out`);
  const { constant } = draft.fact(v);
  const pack = 'input' in ref ? ref.pack : undefined;
  if (constant !== undefined) return { weight: draft.weight(constant, pack) };
  if (pack !== undefined) fail('internal', `a kernel of ${node.op} packs an input that is no constant`);
  return { value: draft.device(v) };
}

/** `shaders` are those of the launches `last`, if there were any; they become those of these. */
function dispatch(
  draft: Draft,
  node: Node,
  { kernel, scratch, launches }: Chosen<GpuKernel, Launch>,
  call: Call,
  shaders: PlannedShader[],
  last: readonly Launch[] = [],
): void {
  const caps = draft.request.caps as GpuCaps;
  draft.request.placed?.(node, call);
  const bound = bindings(draft, node, scratch);
  const steps = launches.map((launch, i): { step: Step; reads: number[]; writes: number[] } => {
    const refs = [...launch.bind, ...(launch.extra ?? []).map((e) => e.bind)];
    const places = refs.map(
      (r): Place =>
        'fault' in r
          ? { fault: draft.faults.push(`node ${node.name} (${node.op})`) - 1 }
          : resolve(draft, r, node, bound),
    );
    const shader = last[i] && sameText(last[i], launch) ? shaders[i]! : (shaders[i] = assembled(launch, caps.f16));
    const n = draft.shader(shader);
    const { bind, uniforms } = arrange(shader.layout, places, launch);
    if (launch.workgroups.some((w) => w > caps.limits.maxComputeWorkgroupsPerDimension))
      fail(
        'device_limit',
        `${kernel.name} needs ${launch.workgroups.join('×')} workgroups; the device allows ${caps.limits.maxComputeWorkgroupsPerDimension} a dimension`,
      );
    const at: [reads: number[], writes: number[]] = [[], []];
    places.forEach((p, i) => {
      if (!('value' in p)) return;
      const root = draft.root(p.value);
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
  for (const { step, reads, writes } of steps) draft.addStep(step, { reads, writes });
}

function callWasm(
  draft: Draft,
  node: Node,
  { kernel, scratch, launches }: Chosen<WasmKernel, WasmLaunch>,
  call: Call,
  last: readonly WasmLaunch[] = [],
): void {
  const caps = draft.request.caps as WasmCaps;
  draft.request.placed?.(node, call);
  const bound = bindings(draft, node, scratch);
  const outputs = bound.outputs.filter((v): v is number => v !== null);
  for (const [i, launch] of launches.entries()) {
    const args = launch.args.map(
      (a): Argument =>
        typeof a === 'number'
          ? a
          : 'f32' in a
            ? a.f32
            : 'fault' in a
              ? fail('internal', 'WASM kernels return their faults')
              : resolve(draft, a, node, bound),
    );
    const key = keyOf(launch, last[i]);
    let n = draft.moduleOf.get(key);
    if (n === undefined)
      draft.moduleOf.set(
        key,
        (n = draft.modules.push({ name: launch.emit.name, bytes: emitted(key, launch, caps) }) - 1),
      );
    const reads: number[] = [];
    for (const a of args)
      if (typeof a === 'object' && 'value' in a) {
        const root = draft.root(a.value);
        if (!outputs.includes(root)) reads.push(root);
      }
    const sharing =
      launches.length > 1
        ? []
        : (kernel.inPlace?.(call) ?? []).flatMap(([o, i]): [number, number][] => {
            const to = bound.outputs[o] ?? null;
            const from =
              bound.inputs[i] ?? (i >= bound.inputs.length ? bound.operands[i - bound.inputs.length] : null) ?? null;
            return to === null || from === null || from < 0 ? [] : [[to, draft.root(from)]];
          });
    const split = caps.threads > 1 && launch.split ? { split: launch.split } : {};
    draft.addStep(
      { run: 'wasm', node: node.name, op: nameOf(node), kernel: kernel.name, module: n, args, ...split },
      { reads, writes: [...outputs, ...bound.scratch], sharing },
    );
  }
}

/** What a module is known by: its emitter and all that it looks at. `last`: the launch in this place at other dims. */
function keyOf(launch: WasmLaunch, last: WasmLaunch | undefined): string {
  let key = KEYS.get(launch);
  if (key !== undefined) return key;
  const same = last !== undefined && last.emit === launch.emit && sameSpec(last.spec, launch.spec);
  key = (same ? KEYS.get(last) : undefined) ?? `${launch.emit.name} ${JSON.stringify(launch.spec)}`;
  KEYS.set(launch, key);
  return key;
}
const KEYS = new WeakMap<WasmLaunch, string>();

/** What the plan calls a node's operator: a fused one by its parts. */
function nameOf(node: Node): string {
  const label = node.attrs.label as readonly string[] | undefined;
  if (label === undefined) return node.op;
  return label.length <= 4 ? label.join('+') : `${label.slice(0, 3).join('+')}+…+${label.at(-1)} (${label.length})`;
}
