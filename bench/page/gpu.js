// What bench/gpu.ts asks of a page: two runtimes on WebGPU behind one face. Elements travel as base64, times come back
// in ms.
const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  uint32: Uint32Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};
const mapValues = (record, f) => Object.fromEntries(Object.entries(record).map(([name, value]) => [name, f(value)]));

function decode({ dtype, shape, base64 }) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return { dtype, shape, data: new ARRAYS[dtype](bytes.buffer) };
}
function encode({ dtype, shape, data }) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let text = '';
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return { dtype, shape, base64: btoa(text) };
}

const RUNTIMES = {
  sardonyx: async () => {
    const { Session } = await import('/dist/index.js');
    return async (bytes) => {
      const session = await Session.load(bytes, { device: 'webgpu' });
      return {
        run: (feeds) => session.run(feeds),
        values: (results) => results,
        release: () => session.release(),
        about: () => ({
          dispatches: session.plans.reduce((n, p) => n + p.steps.filter((s) => s.run === 'gpu').length, 0),
          pipelines: session.plans.reduce((n, p) => n + p.shaders.length, 0),
          onHost: session.plans.flatMap((p) => [
            ...p.steps.flatMap((s) => (s.run === 'host' && s.why !== 'shape' ? [`${s.op}: ${s.why ?? 'host'}`] : [])),
            ...p.after.map((n) => `${n.op}: its shape depends on data`),
          ]),
        }),
      };
    };
  },
  'onnxruntime-web': async () => {
    const ort = await import('/ort/ort.webgpu.bundle.min.mjs');
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = '/ort/';
    ort.env.logLevel = 'error';
    return async (bytes) => {
      const session = await ort.InferenceSession.create(bytes, { executionProviders: ['webgpu'], logSeverityLevel: 3 });
      const made = new Map();
      const toOrt = (v) => {
        if (!made.has(v))
          made.set(
            v,
            new ort.Tensor(
              v.dtype,
              v.dtype === 'float16' && typeof Float16Array === 'function' ? new Float16Array(v.data.buffer) : v.data,
              v.shape,
            ),
          );
        return made.get(v);
      };
      return {
        run: (feeds) => session.run(mapValues(feeds, toOrt)),
        about: () => null,
        release: () => session.release(),
        values: (results) => mapValues(results, (t) => ({ dtype: t.type, shape: t.dims, data: t.data })),
      };
    };
  },
};

let feeds = {};
const open = new Map();
const loaded = new Map();

/** What an error says: its fields would be lost on the way. */
const answered = async (work) => {
  try {
    return { value: await work() };
  } catch (e) {
    return { error: `${e?.code ? `${e.code}: ` : ''}${e?.message ?? e}` };
  }
};
const timed = async (work) => {
  const started = performance.now();
  const value = await work();
  return [performance.now() - started, value];
};

globalThis.bench = {
  /** Starts a runtime: its code, its WebAssembly and its device, with a model that is nearly nothing. */
  open: (name, tiny, input) =>
    answered(async () => {
      const load = await RUNTIMES[name]();
      const model = await load(new Uint8Array(await (await fetch(tiny)).arrayBuffer()));
      await model.run(mapValues(input, decode));
      await model.release();
      open.set(name, load);
    }),
  /** Loads a model from bytes that are there, and runs it once. */
  start: (name, url, sent) =>
    answered(async () => {
      feeds = mapValues(sent, decode);
      const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
      const [load, model] = await timed(() => open.get(name)(bytes));
      const [first, results] = await timed(() => model.run(feeds));
      loaded.set(name, model);
      // Text, maps and sequences are not compared.
      const numeric = Object.fromEntries(
        Object.entries(model.values(results)).filter(([, v]) => ArrayBuffer.isView(v.data)),
      );
      return { load, first, results: mapValues(numeric, encode), about: model.about() };
    }),
  /** Milliseconds of one run, the mean of `repeats`. */
  sample: (name, repeats) =>
    answered(async () => {
      const model = loaded.get(name);
      const [all] = await timed(async () => {
        for (let i = 0; i < repeats; i++) await model.run(feeds);
      });
      return all / repeats;
    }),
  adapter: () =>
    answered(async () => {
      const adapter = await navigator.gpu?.requestAdapter();
      return adapter ? [adapter.info.vendor, adapter.info.architecture].filter(Boolean).join(' ') : null;
    }),
};
