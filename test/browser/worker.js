// What test/browser-worker.test.ts asks of a page.
import { Session, tensor } from '../../dist/index.js';

/** The longest time for which the page's thread did not answer, while `work` ran. */
async function watched(work) {
  let gap = 0;
  let last = performance.now();
  const channel = new MessageChannel();
  let going = true;
  channel.port1.onmessage = () => {
    const now = performance.now();
    gap = Math.max(gap, now - last);
    last = now;
    if (going) setTimeout(() => channel.port2.postMessage(0));
  };
  channel.port2.postMessage(0);
  const from = performance.now();
  const value = await work();
  const took = performance.now() - from;
  gap = Math.max(gap, performance.now() - last);
  going = false;
  return { value, took, gap };
}

const text = (results) =>
  Object.values(results).map((t) => {
    let sum = '';
    const bytes = new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength);
    for (let i = 0; i < bytes.length; i += 8192) sum += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return btoa(sum);
  });

/** Loads the model, runs it three times, then once with an abort after 40 ms, then once more. */
async function run({ url, shape, seed, options }) {
  const session = await Session.load(url, { device: 'wasm', ...options });
  let s = seed >>> 0;
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return s / 2 ** 31 - 1;
  });
  const feeds = { x: tensor('float32', shape, data) };
  const first = text(await session.run(feeds));
  const second = await watched(() => session.run(feeds));
  const long = [];
  const observer = new PerformanceObserver((list) => long.push(...list.getEntries().map((e) => e.duration)));
  observer.observe({ entryTypes: ['longtask'] });
  await session.run(feeds);
  await new Promise((done) => setTimeout(done, 50));
  observer.disconnect();
  const abort = new AbortController();
  let at = 0;
  setTimeout(() => {
    at = performance.now();
    abort.abort();
  }, 40);
  const code = await session.run(feeds, { signal: abort.signal }).then(
    () => 'finished',
    (e) => e.code,
  );
  const late = performance.now() - at;
  const last = text(await session.run(feeds));
  const engine = session.engine;
  const { bytes } = session;
  await session.release();
  return {
    engine,
    bytes,
    isolated: crossOriginIsolated,
    results: [first, text(second.value), last],
    took: second.took,
    gap: second.gap,
    long,
    aborted: { code, late },
  };
}

/** Two sessions at once: which ends first, though it began last. */
async function turns({ long, short, shape }) {
  const sessions = await Promise.all([long, short].map((url) => Session.load(url, { device: 'wasm' })));
  const feeds = { x: tensor('float32', shape, new Float32Array(shape.reduce((a, b) => a * b, 1))) };
  for (const session of sessions) await session.run(feeds);
  const order = [];
  const first = sessions[0].run(feeds).then(() => order.push('long'));
  await new Promise((done) => setTimeout(done, 30));
  await Promise.all([first, sessions[1].run(feeds).then(() => order.push('short'))]);
  for (const session of sessions) await session.release();
  return order;
}

globalThis.sardonyx = { run, turns };
