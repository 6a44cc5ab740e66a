/** The runtimes that a bench compares, behind one face. */
import { readFile } from 'node:fs/promises';
import { Buffer } from 'node:buffer';
import { createRequire } from 'node:module';
import type { Session } from '../src/index.ts';
import { fail } from '../src/core/errors.ts';
import type { DType } from '../src/core/dtype.ts';
import { isTensor, type Tensor, type Value } from '../src/core/tensor.ts';

export type RuntimeName = 'sardonyx' | 'onnxruntime-web' | 'onnxruntime-node';
/** Where a runtime computes. */
export interface Target {
  readonly device: 'wasm' | 'webgpu';
  readonly threads: number;
}
export type Feeds = Readonly<Record<string, Value>>;

/** A model that is loaded. */
export interface Loaded {
  /** One run, inputs copied in and outputs copied out. */
  run(feeds: Feeds): Promise<unknown>;
  /** What a run gave, as our values. */
  values(results: unknown): Readonly<Record<string, Value>>;
  /** Nodes that run on the host, as "Op: why"; only Sardonyx tells. */
  readonly onHost: () => readonly string[];
  release(): Promise<void>;
}
export interface Runtime {
  readonly name: RuntimeName;
  readonly version: string;
  /** Reads and prepares a model. */
  load(path: string): Promise<Loaded>;
}

/**
 * Imports a runtime; what that costs is part of a cold start. onnxruntime-node computes natively, on the CPU or through
 * its own Dawn.
 */
export async function openRuntime(name: RuntimeName, target: Target): Promise<Runtime> {
  return name === 'sardonyx'
    ? openSardonyx(target)
    : name === 'onnxruntime-web'
      ? openOnnxruntimeWeb(target)
      : openOnnxruntimeNode(target);
}

async function openSardonyx({ device, threads }: Target): Promise<Runtime> {
  // The built entry point, as users import it: a bundle of our own would share what the bench has loaded already.
  const entry = new URL('../index.js', import.meta.url).href;
  const { Session: Class } = (await import(entry)) as { Session: typeof Session };
  return {
    name: 'sardonyx',
    version: '0.1.0',
    load: async (path) => {
      const session = await Class.load(path, { device, ...(device === 'wasm' ? { threads } : {}) });
      return {
        run: (feeds) => session.run(feeds),
        values: (results) => results as Record<string, Value>,
        onHost: () =>
          session.plans.flatMap((p) => [
            ...p.steps.flatMap((s) => (s.run === 'host' && s.why !== 'shape' ? [`${s.op}: ${s.why ?? 'host'}`] : [])),
            ...p.after.map((n) => `${n.op}: its shape depends on data`),
          ]),
        release: () => session.release(),
      };
    },
  };
}

type Ort = typeof import('onnxruntime-web/wasm');

async function openOnnxruntimeWeb({ threads }: Target): Promise<Runtime> {
  // Its entry for Node is the one that starts threads there.
  const ort = (await (threads > 1 ? import('onnxruntime-web') : import('onnxruntime-web/wasm'))) as Ort;
  ort.env.wasm.numThreads = threads;
  return onnxruntime('onnxruntime-web', ort, ort.env.versions.web ?? ort.env.versions.common, {
    executionProviders: ['wasm'],
  });
}

/**
 * Not among the dependencies: 290 MB. `npm install --no-save --ignore-scripts onnxruntime-node@1.30.0`, or a folder in
 * NODE_PATH.
 */
async function openOnnxruntimeNode({ device, threads }: Target): Promise<Runtime> {
  let ort: Ort;
  try {
    ort = createRequire(import.meta.url)('onnxruntime-node') as Ort;
  } catch (e) {
    fail(
      'device_unavailable',
      `onnxruntime-node is not installed: npm install --no-save --ignore-scripts onnxruntime-node@1.30.0 (${(e as Error).message.split('\n')[0]})`,
    );
  }
  const options =
    device === 'webgpu'
      ? { executionProviders: ['webgpu'] }
      : { executionProviders: ['cpu'], intraOpNumThreads: threads, interOpNumThreads: 1 };
  return onnxruntime(
    'onnxruntime-node',
    ort,
    (ort.env.versions as { readonly node?: string }).node ?? ort.env.versions.common,
    options,
  );
}

function onnxruntime(name: RuntimeName, ort: Ort, version: string, options: object): Runtime {
  ort.env.logLevel = 'error';
  return {
    name,
    version,
    load: async (path) => {
      const session = await ort.InferenceSession.create(await readFile(path), { ...options, logSeverityLevel: 3 });
      // It cannot hand sequences and maps to JavaScript.
      const tensors = session.outputMetadata.flatMap((m) => (m.isTensor ? [m.name] : []));
      const made = new Map<Value, InstanceType<typeof ort.Tensor>>();
      const toOrt = (v: Value): InstanceType<typeof ort.Tensor> => {
        let t = made.get(v);
        if (t === undefined)
          made.set(
            v,
            (t = isTensor(v)
              ? new ort.Tensor(v.dtype as 'float32', v.data as Float32Array, v.shape)
              : fail('option_invalid', `${name} takes only tensors`)),
          );
        return t;
      };
      return {
        run: (feeds) =>
          session.run(Object.fromEntries(Object.entries(feeds).map(([input, v]) => [input, toOrt(v)])), tensors),
        values: (results) =>
          Object.fromEntries(
            Object.entries(results as Record<string, InstanceType<typeof ort.Tensor>>).map(([output, t]) => [
              output,
              ours(t),
            ]),
          ),
        onHost: () => [],
        release: () => session.release(),
      };
    },
  };
}

/** Its float16 comes as Float16Array where the engine has one; ours are bits. */
function ours(t: { readonly type: string; readonly dims: readonly number[]; readonly data: unknown }): Tensor {
  const data =
    t.type === 'float16' && !(t.data instanceof Uint16Array) ? new Uint16Array((t.data as Uint16Array).buffer) : t.data;
  return {
    dtype: t.type as DType,
    shape: t.dims,
    data: (Buffer.isBuffer(data) ? new Uint8Array(data) : data) as Tensor['data'],
  };
}
