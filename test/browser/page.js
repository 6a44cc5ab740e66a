// What test/browser.test.ts asks of a page, which speaks JSON: elements travel as base64.
import { Session, tensor } from '../../dist/index.js';

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

function decode({ dtype, shape, base64 }) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return tensor(dtype, shape, new ARRAYS[dtype](bytes.buffer));
}

function encode({ dtype, shape, data }) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let text = '';
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return { dtype, shape, base64: btoa(text) };
}

const mapValues = (record, f) => Object.fromEntries(Object.entries(record).map(([name, value]) => [name, f(value)]));
const heldBy = (session) => ({ bytes: session.bytes, made: { ...session.made } });

/**
 * Loads `url` into `sessions` sessions, runs `feeds` (a list) first one after the other on the first session, then all
 * at once on all of them, then the first feeds `again` times.
 */
async function check({ url, device, feeds, sessions = 1, again = 0 }) {
  const inputs = feeds.map((one) => mapValues(one, decode));
  const open = await Promise.all(Array.from({ length: sessions }, () => Session.load(url, { device })));
  const results = [];
  for (const one of inputs) results.push(mapValues(await open[0].run(one), encode));
  const together = [];
  if (sessions > 1 || inputs.length > 1)
    for (const all of await Promise.all(open.flatMap((session) => inputs.map((one) => session.run(one)))))
      together.push(mapValues(all, encode));
  const before = heldBy(open[0]);
  for (let i = 0; i < again; i++) await open[0].run(inputs[0]);
  const after = heldBy(open[0]);
  const plans = open[0].plans.map((plan) => ({
    device: plan.device,
    after: plan.after,
    steps: plan.steps.filter((s) => 'node' in s).map(({ run, node, op, why }) => ({ run, node, op, why })),
  }));
  for (const session of open) await session.release();
  return { device: open[0].device, results, together, before, after, plans, released: open[0].bytes };
}

/** The answer, or the error's code and text: an error's own fields would be lost on the way. */
const answered = async (work) => {
  try {
    return { value: await work() };
  } catch (e) {
    return { error: { code: e?.code, message: String(e?.message ?? e) } };
  }
};

globalThis.sardonyx = {
  check: (request) => answered(() => check(request)),
  adapter: () =>
    answered(async () => {
      const adapter = await navigator.gpu?.requestAdapter();
      return adapter ? `${adapter.info.vendor}/${adapter.info.architecture}` : null;
    }),
};
