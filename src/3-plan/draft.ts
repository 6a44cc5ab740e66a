import type { Call, Op } from '../../kernels/define.ts';
import type { Access } from '../../memory/lifetimes.ts';
import { bytesOf, type DType } from '../core/dtype.ts';
import { fail } from '../core/errors.ts';
import type { Constant, Fact, ValueId } from '../core/graph.ts';
import type { Home, Pack, PlannedShader, Step, WasmCode, Weight } from '../core/plan.ts';
import { byteLength, sizeOf } from '../core/tensor.ts';
import type { Made, PlanRequest } from './request.ts';

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
export const isGpuType = (dtype: DType): boolean => GPU_DTYPES.has(dtype);

interface DraftValue {
  name: string;
  dtype: DType;
  shape: readonly number[];
  home: Home;
}

/**
 * A plan while it is being written: what it has so far, and where each value of the graph is. A value that is wanted
 * where it is not becomes a weight, a view, or a step that moves it.
 */
export class Draft {
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
  readonly inputs: number[] = [];
  readonly faults: string[] = [];

  /** Calls of which kernels were asked, by operator and size. */
  readonly seen = new Map<string, readonly { readonly call: Call; readonly chosen: Pick<Made, 'gpu' | 'wasm'> }[]>();

  constructor(request: PlanRequest, ops: ReadonlyMap<string, Op>) {
    this.request = request;
    this.ops = ops;
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
}

const samePack = (a: Pack | undefined, b: Pack | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && JSON.stringify(a) === JSON.stringify(b));
