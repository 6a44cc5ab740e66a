/** The page that reads pictures: shows them, sends their pixels to the worker, and draws what comes back. */
import type { Box, Picture } from '../read-text/picture.ts';
import type { Line, StageTimes } from '../read-text/reader.ts';
import {
  attempt,
  byId,
  bytes,
  chosenDevice,
  count,
  DEVICE_NAMES,
  draw,
  make,
  milliseconds,
  say,
  takeFiles,
} from '../site/page.ts';
import { callWorker } from '../site/worker-call.ts';
import type { Reader } from './worker.ts';

/**
 * Longest side in pixels: of a still picture in all, and of what the detector sees of a live one, where speed counts.
 */
const STILL = 2000;
const [CAREFUL, LIVE] = [960, 480];

const canvas = byId<HTMLCanvasElement>('canvas');
const context = canvas.getContext('2d', { willReadFrequently: true })!;
const boxes = byId<SVGSVGElement>('boxes');
const video = byId<HTMLVideoElement>('video');
const camera = byId<HTMLButtonElement>('camera');

const worker = callWorker<Reader>(new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }));
let loaded: ReturnType<typeof load> | null = null;
let live: MediaStream | null = null;

const device = chosenDevice(() => {
  loaded = null;
  void attempt(async () => {
    await ready();
  });
});
async function load() {
  say('Loading three models, 16 MB …');
  const got = await worker.call('load', device());
  say(`Models ready on ${DEVICE_NAMES[got.device]} after ${milliseconds(got.milliseconds)}.`);
  return got;
}
function ready() {
  loaded ??= load().catch((e: unknown) => {
    loaded = null;
    throw e;
  });
  return loaded;
}

/** Puts a picture on the stage and gives its pixels. */
function show(source: CanvasImageSource, width: number, height: number, longest: number): Picture {
  const scale = Math.min(1, longest / Math.max(width, height));
  [canvas.width, canvas.height] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  byId('hint').hidden = true;
  byId('picture').hidden = false;
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

async function read(picture: Picture, longest: number): Promise<void> {
  const models = await ready();
  if (live === null) say('Reading …');
  const started = performance.now();
  const { data } = picture;
  const got = await worker.call('read', { picture: { width: picture.width, height: picture.height, data }, longest }, [
    data.buffer,
  ]);
  report(got.lines, got.times, performance.now() - started, got.bytes, DEVICE_NAMES[models.device]);
}

function report(lines: readonly Line[], times: StageTimes, all: number, held: number, where: string): void {
  boxes.setAttribute('viewBox', `0 0 ${canvas.width} ${canvas.height}`);
  const outlines = lines.map(({ box }) => outline(box));
  boxes.replaceChildren(...outlines);
  byId('lines').replaceChildren(
    ...lines.map(({ text, confidence }, i) => {
      const item = make(
        'li',
        {},
        make('span', { textContent: text }),
        make('span', { className: 'figure', textContent: `${Math.round(100 * confidence)} %` }),
      );
      item.addEventListener('pointerenter', () => outlines[i]!.classList.add('at'));
      item.addEventListener('pointerleave', () => outlines[i]!.classList.remove('at'));
      outlines[i]!.addEventListener('pointerenter', () => item.classList.add('at'));
      outlines[i]!.addEventListener('pointerleave', () => item.classList.remove('at'));
      return item;
    }),
  );
  byId('none').hidden = lines.length > 0;
  byId('none').textContent = 'No text was found.';
  const figures: [string, string][] = [
    ['find', milliseconds(times.detect)],
    ['turn', milliseconds(times.crop + times.classify)],
    ['spell', milliseconds(times.recognize)],
    ['in all', milliseconds(all)],
    ['held', bytes(held)],
    ['on', where],
  ];
  byId('figures').replaceChildren(
    ...figures.map(([name, value]) =>
      make('div', {}, make('dt', { textContent: name }), make('dd', { textContent: value })),
    ),
  );
  if (live === null) say(`${count(lines.length, 'line')} read in ${milliseconds(all)}.`);
  else say(`${(1000 / all).toFixed(1)} pictures a second.`);
}
const outline = (box: Box): SVGPolygonElement =>
  draw('polygon', { points: box.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ') });

async function readBlob(blob: Blob): Promise<void> {
  stopCamera();
  let picture: ImageBitmap;
  try {
    picture = await createImageBitmap(blob);
  } catch {
    throw new Error('the browser cannot decode that file as a picture');
  }
  boxes.replaceChildren();
  await read(show(picture, picture.width, picture.height, STILL), CAREFUL);
}

function stopCamera(): void {
  for (const track of live?.getTracks() ?? []) track.stop();
  live = null;
  camera.setAttribute('aria-pressed', 'false');
  camera.textContent = 'Camera';
}

async function startCamera(): Promise<void> {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error('this page has no camera to ask for');
  live = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment', width: { ideal: 960 } } });
  camera.setAttribute('aria-pressed', 'true');
  camera.textContent = 'Stop the camera';
  video.srcObject = live;
  await video.play();
  for (const stream = live; live === stream && stream.active; ) {
    await read(show(video, video.videoWidth, video.videoHeight, CAREFUL), LIVE);
    await new Promise(requestAnimationFrame);
  }
}

byId('sample').addEventListener(
  'click',
  () =>
    void attempt(async () => readBlob(await (await fetch(new URL('../read-text/sample.png', import.meta.url))).blob())),
);
camera.addEventListener('click', () => void (live === null ? attempt(startCamera) : stopCamera()));
takeFiles(byId('drop'), byId<HTMLInputElement>('file'), (file) => void attempt(() => readBlob(file)));
