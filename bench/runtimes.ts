/** The runtimes that a bench compares, behind one face. */
import { readFile } from 'node:fs/promises';
import { Buffer } from 'node:buffer';
import type { Session } from '../src/index.ts';
import { fail } from '../src/core/errors.ts';
import type { DType } from '../src/core/dtype.ts';
import { isTensor, type Tensor, type Value } from '../src/core/tensor.ts';

export type RuntimeName = 'sardonyx' | 'onnxruntime-web';
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

/** Imports a runtime; what that costs is part of a cold start. */
export async function openRuntime(name: RuntimeName, threads: number): Promise<Runtime> {
  return name === 'sardonyx' ? openSardonyx(threads) : openOnnxruntime(threads);
}

async function openSardonyx(threads: number): Promise<Runtime> {
  // The built entry point, as users import it: a bundle of our own would share what the bench has loaded already.
  const entry = new URL('../index.js', import.meta.url).href;
  const { Session: Class } = (await import(entry)) as { Session: typeof Session };
  return {
    name: 'sardonyx', version: '0.1.0',
    load: async (path) => {
      const session = await Class.load(path, { device: 'wasm', threads });
      return {
        run: (feeds) => session.run(feeds),
        values: (results) => results as Record<string, Value>,
        onHost: () => session.plans.flatMap((p) => [
          ...p.steps.flatMap((s) => (s.run === 'host' && s.why !== 'shape' ? [`${s.op}: ${s.why ?? 'host'}`] : [])),
          ...p.after.map((n) => `${n.op}: its shape depends on data`),
        ]),
        release: () => session.release(),
      };
    },
  };
}

async function openOnnxruntime(threads: number): Promise<Runtime> {
  // Its entry for Node is the one that starts threads there.
  const ort = (await (threads > 1 ? import('onnxruntime-web') : import('onnxruntime-web/wasm'))) as typeof import('onnxruntime-web/wasm');
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = 'error';
  return {
    name: 'onnxruntime-web', version: ort.env.versions.web ?? ort.env.versions.common,
    load: async (path) => {
      const session = await ort.InferenceSession.create(await readFile(path), { executionProviders: ['wasm'], logSeverityLevel: 3 });
      // It cannot hand sequences and maps to JavaScript.
      const tensors = session.outputMetadata.flatMap((m) => (m.isTensor ? [m.name] : []));
      const made = new Map<Value, InstanceType<typeof ort.Tensor>>();
      const toOrt = (v: Value): InstanceType<typeof ort.Tensor> => {
        let t = made.get(v);
        if (t === undefined) made.set(v, (t = isTensor(v) ? new ort.Tensor(v.dtype as 'float32', v.data as Float32Array, v.shape) : fail('option_invalid', 'onnxruntime-web takes only tensors')));
        return t;
      };
      return {
        run: (feeds) => session.run(Object.fromEntries(Object.entries(feeds).map(([name, v]) => [name, toOrt(v)])), tensors),
        values: (results) => Object.fromEntries(Object.entries(results as Record<string, InstanceType<typeof ort.Tensor>>).map(([name, t]) => [name, ours(t)])),
        onHost: () => [],
        release: () => session.release(),
      };
    },
  };
}

/** Its float16 comes as Float16Array where the engine has one; ours are bits. */
function ours(t: { readonly type: string; readonly dims: readonly number[]; readonly data: unknown }): Tensor {
  const data = t.type === 'float16' && !(t.data instanceof Uint16Array) ? new Uint16Array((t.data as Uint16Array).buffer) : t.data;
  return { dtype: t.type as DType, shape: t.dims, data: (Buffer.isBuffer(data) ? new Uint8Array(data) : data) as Tensor['data'] };
}
