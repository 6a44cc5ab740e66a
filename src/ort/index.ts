/**
 * `sardonyx/ort`: the API of `onnxruntime-web`, run by Sardonyx. Everything is onnxruntime-common's own (`Tensor`, `env`, `InferenceSession` with its checks); this
 * module is the backend behind it, under the names 'webgpu', 'wasm' and 'cpu'. A program changes one import;
 * transformers.js changes nothing:
 *
 * ```ts
 * resolve: { alias: { 'onnxruntime-web/webgpu': 'sardonyx/ort', 'onnxruntime-web': 'sardonyx/ort' } } // of a bundler
 * ```
 *
 * Session options work, or are refused by name; those that only advise ONNX Runtime (memory arenas, its log) have no
 * effect. Values other than tensors (sequences, maps) and types that onnxruntime-common does not know cannot leave a
 * session: ask for other outputs, or use `Session`.
 */
import * as common from 'onnxruntime-common';
import {
  type Backend,
  env,
  type InferenceSession,
  type InferenceSessionHandler,
  registerBackend,
  Tensor,
} from 'onnxruntime-common';
import { requestGpuDevice } from '../4-run/webgpu/device.ts';
import { SardonyxError } from '../core/errors.ts';
import {
  gpuTensor,
  type DType,
  type Feeds,
  type GpuTensor,
  type Port,
  Session,
  type SessionOptions,
  type Tensor as Own,
  type Value,
} from '../index.ts';
import { externalOf, providerOf, placesOf, refuseUnknown } from './options.ts';

export * from 'onnxruntime-common';
// biome-ignore lint/style/noDefaultExport: programs that import onnxruntime-web's keep theirs
export { common as default };

type Handler = Pick<InferenceSessionHandler, 'run'>;

/** Types that both sides know, under one name. */
const TYPES: ReadonlySet<string> = new Set<Tensor.Type>([
  'float32',
  'uint8',
  'int8',
  'uint16',
  'int16',
  'int32',
  'int64',
  'string',
  'bool',
  'float16',
  'float64',
  'uint32',
  'uint64',
  'uint4',
  'int4',
]);
const refused = (message: string): SardonyxError => new SardonyxError('option_invalid', message);

/**
 * Bits of float16, which newer engines hold in an array type of its own; bytes of packed types, whatever their sign.
 */
function storageOf(t: Tensor): Own['data'] {
  const { data, type } = t;
  if (type !== 'float16' && type !== 'int4') return data as Own['data'];
  const { buffer, byteOffset, length } = data as Uint16Array<ArrayBuffer>;
  return (
    type === 'float16' ? new Uint16Array(buffer, byteOffset, length) : new Uint8Array(buffer, byteOffset, length)
  ) as Own['data'];
}

/** A tensor as a session takes it. @throws option_invalid for a place that no session reads */
function fed(t: Tensor, shape: readonly number[], device: GPUDevice | null): Own | GpuTensor {
  if (t.location === 'cpu' || t.location === 'cpu-pinned')
    return { dtype: t.type as DType, shape, data: storageOf(t) } as Own;
  if (t.location !== 'gpu-buffer')
    throw refused(`a tensor in a ${t.location} cannot be fed; give one on the CPU or in a GPUBuffer`);
  if (device === null)
    throw refused('a tensor in a GPUBuffer can only be fed to a session on WebGPU; read it with getData()');
  return gpuTensor(t.type as DType, shape, t.gpuBuffer as GPUBuffer, { device });
}

/**
 * Shapes of the feeds. ONNX Runtime takes an empty tensor whatever its other dims are, and transformers.js feeds the
 * caches of a first step so; its named dims are made those of the feeds that hold something, where it stays empty.
 */
function shapesOf(
  feeds: Readonly<Record<string, Tensor>>,
  ports: readonly Port[],
): Readonly<Record<string, readonly number[]>> {
  const sizes = new Map<string, number>();
  for (const { name, shape } of ports)
    if (feeds[name]?.size)
      shape?.forEach((d, i) => {
        if (typeof d === 'string' && !sizes.has(d)) sizes.set(d, feeds[name]!.dims[i]!);
      });
  return Object.fromEntries(
    Object.entries(feeds).map(([name, { dims, size }]) => {
      const declared = ports.find((p) => p.name === name)?.shape;
      if (size > 0 || declared?.length !== dims.length) return [name, [...dims]];
      const shape = dims.map((d, i) => sizes.get(declared[i] as string) ?? d);
      return [name, shape.includes(0) ? shape : [...dims]];
    }),
  );
}

/** A result as the caller gets it; it owns its buffer, if it has one. */
function given(name: string, value: Value | GpuTensor): Tensor {
  if (!('dtype' in value) || !TYPES.has(value.dtype))
    throw refused(
      `output ${name} is ${'dtype' in value ? value.dtype : `a ${value.kind}`}, for which onnxruntime-common has no value; fetch other outputs, or use Session of 'sardonyx'`,
    );
  const dims = [...value.shape];
  if ('buffer' in value) {
    const own = value as GpuTensor<'float32'>;
    return Tensor.fromGpuBuffer(own.buffer, {
      dataType: own.dtype,
      dims,
      download: async () => (await own.read()).data,
      dispose: () => own.dispose(),
    });
  }
  if (value.dtype === 'float16' || value.dtype === 'int4') {
    const { buffer, byteOffset, length } = value.data as Uint16Array<ArrayBuffer>;
    const { Float16Array } = globalThis as {
      Float16Array?: new (b: ArrayBuffer, at: number, n: number) => Uint16Array;
    };
    const data =
      value.dtype === 'int4'
        ? new Int8Array(buffer, byteOffset, length)
        : Float16Array
          ? new Float16Array(buffer, byteOffset, length)
          : value.data;
    return new Tensor(value.dtype, data as Uint16Array, dims);
  }
  return new Tensor(value.dtype as 'float32', value.data as Float32Array, dims);
}

/** A tensor on the GPU that the caller prepared for a result, for a run to write. @throws option_invalid */
const prepared = (target: Tensor, name: string, device: GPUDevice | null): GpuTensor =>
  gpuTensor(target.type as DType, target.dims, target.gpuBuffer as GPUBuffer, {
    device:
      device ??
      (() => {
        throw refused(`the tensor for output ${name} is in a GPUBuffer, and the session does not run on WebGPU`);
      })(),
  });

/** Writes a result into the tensor on the CPU that the caller prepared for it. */
async function into(target: Tensor, name: string, value: Value | GpuTensor): Promise<Tensor> {
  const made = given(name, value);
  if (target.type !== made.type || String(target.dims) !== String(made.dims))
    throw refused(
      `the tensor for output ${name} is ${target.type}[${target.dims}]; the output is ${made.type}[${made.dims}]`,
    );
  const data = target.data as { set?(from: ArrayLike<unknown>): void; [i: number]: unknown };
  const from = (await made.getData(true)) as ArrayLike<unknown>;
  if (data.set) data.set(from);
  else for (let i = 0; i < from.length; i++) data[i] = from[i];
  return target;
}

const metadataOf = ({ name, dtype, shape }: Port): InferenceSession.ValueMetadata =>
  dtype !== null && TYPES.has(dtype)
    ? { name, isTensor: true, type: dtype as Tensor.Type, shape: (shape ?? []).map((d) => d ?? '') }
    : { name, isTensor: false };

/**
 * `env.webgpu.device`: what a program sets is what sessions run on; what it gets is the device of the newest session,
 * or that of the first one to come.
 */
const gpu: { set: GPUDevice | undefined; used: GPUDevice | undefined } = {
  set: env.webgpu.device as unknown as GPUDevice | undefined,
  used: undefined,
};
Object.defineProperty(env.webgpu, 'device', {
  configurable: true,
  get: async () => gpu.used ?? gpu.set ?? (await requestGpuDevice({ allowSoftware: true })).device,
  set: (device: GPUDevice) => {
    gpu.set = device;
  },
});

async function createHandler(
  kind: 'webgpu' | 'wasm',
  source: string | Uint8Array,
  options: InferenceSession.SessionOptions,
): Promise<InferenceSessionHandler> {
  refuseUnknown(options);
  const { numThreads } = env.wasm;
  const threads = options.intraOpNumThreads ?? (numThreads || undefined);
  const external = externalOf(options.externalData);
  const own: SessionOptions = {
    device:
      kind === 'webgpu'
        ? ((providerOf(options, 'webgpu')?.device as GPUDevice | undefined) ?? gpu.set ?? 'webgpu')
        : 'wasm',
    ...(options.freeDimensionOverrides ? { dims: options.freeDimensionOverrides } : {}),
    ...(options.graphOptimizationLevel === 'disabled' ? { optimize: false } : {}),
    ...(threads ? { threads } : {}),
    ...(external ? { externalData: external } : {}),
  };
  const session = await Session.load(source as string | Uint8Array<ArrayBuffer>, own);
  gpu.used = session.gpuDevice ?? gpu.used;
  const places = placesOf(
    options.preferredOutputLocation,
    session.outputs.map((o) => o.name),
    session.gpuDevice !== null,
  );

  const run: Handler['run'] = async (feeds, fetches, { terminate }) => {
    if (terminate) throw new SardonyxError('aborted', 'the run was given terminate: true');
    const place = (name: string): 'cpu' | 'gpu' | GpuTensor => {
      const target = fetches[name];
      if (target?.location === 'gpu-buffer') return prepared(target, name, session.gpuDevice);
      return (target ? target.location : places[name]) === 'gpu-buffer' ||
        (session.gpuDevice !== null && !(name in fetches))
        ? 'gpu'
        : 'cpu';
    };
    const shapes = shapesOf(feeds, session.inputs);
    const values: Feeds = Object.fromEntries(
      Object.entries(feeds).map(([name, t]) => [name, fed(t, shapes[name]!, session.gpuDevice)]),
    );
    const results: Record<string, Value | GpuTensor> = await session.run(values, {
      outputs: Object.fromEntries(session.outputs.map(({ name }) => [name, place(name)])),
    });
    for (const [name, value] of Object.entries(results)) if (!(name in fetches) && 'buffer' in value) value.dispose();
    return Object.fromEntries(
      await Promise.all(
        Object.entries(fetches).map(async ([name, target]) => [
          name,
          target === null
            ? given(name, results[name]!)
            : target.location === 'gpu-buffer'
              ? target
              : await into(target, name, results[name]!),
        ]),
      ),
    );
  };
  return {
    inputNames: session.inputs.map((p) => p.name),
    outputNames: session.outputs.map((p) => p.name),
    inputMetadata: session.inputs.map(metadataOf),
    outputMetadata: session.outputs.map(metadataOf),
    run,
    dispose: () => session.release(),
    startProfiling: () => {
      throw refused("startProfiling: measure with profile() of 'sardonyx/tune', or `sardonyx profile`");
    },
    endProfiling: () => {
      throw refused("endProfiling: measure with profile() of 'sardonyx/tune', or `sardonyx profile`");
    },
  };
}

const backend = (kind: 'webgpu' | 'wasm'): Backend => ({
  // A list of providers is asked in its order: one that this machine has not is passed over.
  init: async () => {
    if (
      kind === 'webgpu' &&
      typeof navigator !== 'undefined' &&
      !('gpu' in navigator) &&
      typeof process === 'undefined'
    )
      throw refused('this browser has no WebGPU');
  },
  createInferenceSessionHandler: (source, options = {}) => createHandler(kind, source, options),
});

/**
 * onnxruntime-common keeps the backend that came first under a name, whatever the priority, and says nothing of a
 * second one; a third of the second's priority is refused only if the second was taken.
 */
function claim(name: string, one: Backend, priority: number): void {
  registerBackend(name, one, priority);
  try {
    registerBackend(name, backend('wasm'), priority);
  } catch {
    return;
  }
  throw refused(
    `the execution provider '${name}' is onnxruntime-web's or onnxruntime-node's already: import sardonyx/ort before it, or in its place`,
  );
}
// Without a list of providers the CPU is asked first, as there.
const cpu = backend('wasm');
claim('wasm', cpu, 102);
claim('cpu', cpu, 101);
claim('webgpu', backend('webgpu'), 100);
