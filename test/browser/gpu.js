// What test/browser-gpu.test.ts asks of a page: pictures, slices, and a lost device.
import { drawToCanvas, Session, tensor, tensorFromImage } from '../../dist/index.js';

const WIDTH = 40;
const HEIGHT = 24;
/** Smooth and opaque, so that no path may premultiply or round it away. */
function picture() {
  const data = new Uint8ClampedArray(4 * WIDTH * HEIGHT);
  for (let y = 0; y < HEIGHT; y++)
    for (let x = 0; x < WIDTH; x++) data.set([x * 6, y * 10, (x * y) & 255, 255], 4 * (y * WIDTH + x));
  return new ImageData(data, WIDTH, HEIGHT);
}
function canvasOf(image, canvas) {
  canvas.getContext('2d').putImageData(image, 0, 0);
  return canvas;
}
const apart = (a, b) => a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i])), 0);

/** A device of the library's own kind, from a session that stays open. */
async function openDevice(url) {
  const session = await Session.load(url, { device: 'webgpu' });
  return { session, device: session.gpuDevice };
}

/** A video that plays what is drawn on `canvas`. */
async function playing(canvas) {
  const video = Object.assign(document.createElement('video'), { muted: true, srcObject: canvas.captureStream(30) });
  // a stream has a frame for each time that its canvas is drawn
  const draw = setInterval(() => canvasOf(picture(), canvas), 20);
  await video.play();
  await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
  clearInterval(draw);
  video.pause();
  return video;
}

/** Of each kind of image, how far its tensor from the GPU lies from the one that the CPU makes of its pixels. */
async function images(url) {
  const { session, device } = await openDevice(url);
  const image = picture();
  const options = { size: [23, 17], mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
  const want = await tensorFromImage(image, options);
  const html = Object.assign(document.createElement('canvas'), { width: WIDTH, height: HEIGHT });
  const frame = new VideoFrame(canvasOf(image, new OffscreenCanvas(WIDTH, HEIGHT)), { timestamp: 0 });
  const sources = {
    ImageData: image,
    ImageBitmap: await createImageBitmap(image),
    OffscreenCanvas: canvasOf(image, new OffscreenCanvas(WIDTH, HEIGHT)),
    HTMLCanvasElement: canvasOf(image, html),
    VideoFrame: frame,
    HTMLVideoElement: await playing(html),
  };
  const far = {};
  for (const [name, source] of Object.entries(sources)) {
    const t = await tensorFromImage(source, { ...options, device });
    far[name] = [
      apart((await t.read()).data, want.data),
      apart((await tensorFromImage(source, options)).data, want.data),
    ];
    t.dispose();
  }
  frame.close();
  await session.release();
  return far;
}

/** How far a picture drawn from a tensor, on the GPU and on the host, lies from the one it was made of. */
async function drawn(url) {
  const { session, device } = await openDevice(url);
  const image = picture();
  const options = { mean: 0.5, std: 0.25, layout: 'nhwc' };
  const far = [];
  for (const t of [await tensorFromImage(image, { ...options, device }), await tensorFromImage(image, options)]) {
    const canvas = document.createElement('canvas');
    await drawToCanvas(t, canvas, options);
    const copy = new OffscreenCanvas(WIDTH, HEIGHT).getContext('2d');
    copy.drawImage(canvas, 0, 0);
    far.push(apart(copy.getImageData(0, 0, WIDTH, HEIGHT).data, image.data), canvas.width, canvas.height);
  }
  await session.release();
  return far;
}

/** Runs `url` whole and in slices while the page's clock ticks, aborts a run, and loses the device in one. */
async function long(url, size) {
  const x = tensor(
    'float32',
    [size, size],
    Float32Array.from({ length: size * size }, (_, i) => ((i * 7919) % 199) / 100 - 1),
  );
  const session = await Session.load(url, { device: 'webgpu' });
  const queue = session.gpuDevice.queue;
  let submits = 0;
  const { submit } = queue;
  queue.submit = (buffers) => {
    submits++;
    submit.call(queue, buffers);
  };
  const want = (await session.run({ x })).y.data;
  let longest = Infinity; // the best of three: others use the machine too
  let took = 0;
  let again;
  let sliced = 0;
  for (let i = 0; i < 3; i++) {
    submits = 0;
    let gap = 0;
    let last = performance.now();
    const clock = setInterval(() => {
      const now = performance.now();
      gap = Math.max(gap, now - last);
      last = now;
    }, 0);
    const begin = performance.now();
    again = (await session.run({ x })).y.data;
    took = performance.now() - begin;
    clearInterval(clock);
    longest = Math.min(longest, gap);
    sliced = submits;
  }

  const stop = new AbortController();
  const aborted = session.run({ x }, { signal: stop.signal }).then(
    () => 'done',
    (e) => e.code,
  );
  await new Promise((resolve) => setTimeout(resolve, took / 6));
  const start = performance.now();
  stop.abort();
  const code = await aborted;
  const rejected = performance.now() - start;
  await queue.onSubmittedWorkDone();
  const stopped = performance.now() - start;

  const old = session.gpuDevice;
  const lost = session.run({ x });
  setTimeout(() => old.destroy(), took / 6);
  const after = (await lost).y.data;
  const renewed = session.gpuDevice !== old;
  const kept = await session.run({ x }, { outputs: 'gpu' });
  const fed = (await session.run({ x: kept.y })).y.data.length;
  kept.y.dispose();
  await session.release();
  return {
    took,
    longest,
    sliced,
    same: [apart(again, want), apart(after, want)],
    code,
    rejected,
    stopped,
    renewed,
    fed,
  };
}

const answered = async (work) => {
  try {
    return { value: await work() };
  } catch (e) {
    return { error: `${e?.code}: ${e?.stack ?? e}` };
  }
};
globalThis.sardonyx = {
  images: (url) => answered(() => images(url)),
  drawn: (url) => answered(() => drawn(url)),
  long: (url, size) => answered(() => long(url, size)),
};
