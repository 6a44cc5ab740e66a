// What bench/page.ts asks of a page that has loaded nothing yet: a runtime's code, a session and one result, from a
// model that is there.
const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  int64: BigInt64Array,
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

/** Each step of a start gives what the next one needs: code, session, results. */
const STARTS = {
  sardonyx: {
    code: (device) => import(`/ours/${device}/index.js`),
    session: ({ Session }, model, device) => Session.load(model, { device }),
    run: (session, feeds) => session.run(feeds),
    values: (results) => results,
  },
  'onnxruntime-web': {
    code: async (device) => {
      const ort = await import(device === 'webgpu' ? '/ort/ort.webgpu.min.mjs' : '/ort/ort.wasm.min.mjs');
      ort.env.logLevel = 'error';
      return ort;
    },
    session: (ort, model, device) =>
      ort.InferenceSession.create(model, { executionProviders: [device], logSeverityLevel: 3 }).then((session) => ({
        session,
        ort,
      })),
    run: ({ session, ort }, feeds) =>
      session.run(mapValues(feeds, ({ dtype, shape, data }) => new ort.Tensor(dtype, data, shape))),
    values: (results) => mapValues(results, (t) => ({ dtype: t.type, shape: t.dims, data: t.data })),
  },
};

// What an app gets that imports the package by its name: every device in one build. Only its bytes are counted.
STARTS['onnxruntime-web by default'] = {
  ...STARTS['onnxruntime-web'],
  code: async () => import('/ort/ort.bundle.min.mjs'),
};

globalThis.start = async ({ runtime, device, url, feeds: sent }) => {
  const model = new Uint8Array(await (await fetch(url)).arrayBuffer());
  const feeds = mapValues(sent, decode);
  const { code, session: open, run, values } = STARTS[runtime];
  const times = [performance.now()];
  const lap = (value) => {
    times.push(performance.now());
    return value;
  };
  const lib = lap(await code(device));
  const session = lap(await open(lib, model, device));
  const results = lap(await run(session, feeds));
  return {
    code: times[1] - times[0],
    load: times[2] - times[1],
    run: times[3] - times[2],
    results: mapValues(values(results), encode),
  };
};
