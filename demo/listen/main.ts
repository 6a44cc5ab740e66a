/** The page that listens: leads sound through an AudioWorklet to the worker, and plots what comes back. */
import {
  attempt,
  byId,
  bytesIfThere,
  chosenDevice,
  DEVICE_NAMES,
  make,
  milliseconds,
  say,
  takeFiles,
} from '../site/page.ts';
import { callWorker } from '../site/worker-call.ts';
import { RATE, sampleClip } from './speech.ts';
import type { Heard, Listener } from './worker.ts';
import worklet from './worklet.ts?worker&url';

const FRAME_SECONDS = 512 / RATE;
/** How much sound the plot shows, in frames. */
const SHOWN = 320;
const THRESHOLD = 0.5;
/** Speech goes on over a shorter silence, in seconds. */
const BREATH = 0.4;

const worker = callWorker<Listener, Heard | { readonly failed: string }>(
  new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }),
);
const plot = byId<HTMLCanvasElement>('plot');
const microphone = byId<HTMLButtonElement>('microphone');
const sample = byId<HTMLButtonElement>('sample');

let model: Uint8Array | null = null;
let loaded: Promise<void> | null = null;
let heard: Heard[] = [];
let frames = 0;
/** Stretches of speech so far, in seconds; the last one may go on. */
let stretches: [from: number, to: number][] = [];
let sound: { stop(): void } | null = null;

const device = chosenDevice(() => {
  loaded = null;
  if (model !== null) void attempt(ready);
});

async function ready(): Promise<void> {
  loaded ??= (async () => {
    model ??= await bytesIfThere('../data/models/silero-vad-v5/model.onnx');
    byId('ask').hidden = model !== null;
    if (model === null)
      throw new Error(
        'This site does not bring the model. Choose the file silero_vad_v5.onnx; the npm package @ricky0123/vad-web has it.',
      );
    say('Loading the model …');
    const got = await worker.call('load', { model, device: device() });
    say(`Silero VAD is ready on ${DEVICE_NAMES[got.device]} after ${milliseconds(got.milliseconds)}.`);
  })().catch((e: unknown) => {
    loaded = null;
    throw e;
  });
  return loaded;
}

/** Sends what a source sounds like to the worker, from now on. */
async function listenTo(open: (context: AudioContext) => Promise<AudioNode & { start?(): void }>): Promise<void> {
  stop();
  await ready();
  const context = new AudioContext({ sampleRate: RATE });
  await context.audioWorklet.addModule(worklet);
  const frameMaker = new AudioWorkletNode(context, 'frames', {
    numberOfOutputs: 1,
    channelCount: 1,
    channelCountMode: 'explicit',
  });
  const { port1, port2 } = new MessageChannel();
  frameMaker.port.postMessage(port1, [port1]);
  [heard, frames, stretches] = [[], 0, []];
  await worker.call('listen', port2, [port2]);
  let source: AudioNode & { start?(): void };
  try {
    source = await open(context);
  } catch (e) {
    void context.close();
    throw e;
  }
  source.connect(frameMaker);
  // A node that leads nowhere need not run: its silent output goes to the speakers.
  frameMaker.connect(context.destination);
  sound = { stop: () => void context.close() };
  source.start?.();
  for (const b of [sample, microphone]) b.disabled = false;
}

function stop(): void {
  sound?.stop();
  sound = null;
  microphone.textContent = 'Microphone';
  microphone.setAttribute('aria-pressed', 'false');
  sample.textContent = 'Play the sample';
}

/** Plays samples to the speakers and to the model, and stops at their end. */
const play = (audio: (context: AudioContext) => Promise<AudioBuffer>): Promise<void> =>
  listenTo(async (context) => {
    const source = new AudioBufferSourceNode(context, { buffer: await audio(context) });
    source.connect(context.destination);
    sample.textContent = 'Stop';
    source.onended = () => {
      stop();
      say(`Done: ${stretches.length} ${stretches.length === 1 ? 'stretch' : 'stretches'} of speech.`);
    };
    return source;
  });

worker.onEvent = (event) => {
  if ('failed' in event)
    return void attempt(() => {
      throw new Error(event.failed);
    });
  const spoke = (heard.at(-1)?.probability ?? 0) >= THRESHOLD;
  const speaks = event.probability >= THRESHOLD;
  const now = frames++ * FRAME_SECONDS;
  heard.push(event);
  if (heard.length > SHOWN) heard.shift();
  if (speaks && now - (stretches.at(-1)?.[1] ?? -Infinity) > BREATH) stretches.push([now, now + FRAME_SECONDS]);
  else if (speaks) stretches.at(-1)![1] = now + FRAME_SECONDS;
  if (speaks !== spoke || frames === 1) {
    byId('verdict').textContent = speaks ? 'Speech' : 'No speech';
    byId('verdict').classList.toggle('speech', speaks);
    byId('stretches').replaceChildren(
      ...stretches
        .slice(-8)
        .map(([from, to]) =>
          make(
            'li',
            {},
            make('span', { textContent: `from ${from.toFixed(1)} s` }),
            make('span', { className: 'figure', textContent: `${(to - from).toFixed(1)} s` }),
          ),
        ),
    );
  }
  byId('probability').textContent = `${(100 * event.probability).toFixed(0)} %`;
  if (frames % 8 === 1) {
    const recent = heard.slice(-32);
    byId('took').textContent = milliseconds(recent.reduce((sum, h) => sum + h.milliseconds, 0) / recent.length);
    byId('load').textContent =
      `${((100 * recent.reduce((sum, h) => sum + h.milliseconds, 0)) / (recent.length * FRAME_SECONDS * 1000)).toFixed(0)} %`;
    byId('waiting').textContent = String(event.waiting);
  }
  if (!waits) {
    waits = true;
    requestAnimationFrame(paint);
  }
};
let waits = false;

/** The plot: sound in the middle, how likely it is speech as an area from below. */
function paint(): void {
  waits = false;
  const style = getComputedStyle(document.documentElement);
  const [ink, line, accent, glow] = ['--quiet', '--line', '--carnelian', '--glow'].map((name) =>
    style.getPropertyValue(name),
  ) as [string, string, string, string];
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [plot.clientWidth, plot.clientHeight];
  [plot.width, plot.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const g = plot.getContext('2d')!;
  g.scale(ratio, ratio);
  const step = width / SHOWN;
  const y = (p: number): number => 8 + (1 - p) * (height - 16);
  g.strokeStyle = line;
  g.setLineDash([4, 4]);
  g.beginPath();
  g.moveTo(0, y(THRESHOLD));
  g.lineTo(width, y(THRESHOLD));
  g.stroke();
  g.setLineDash([]);
  g.fillStyle = ink;
  heard.forEach(({ low, high }, i) =>
    g.fillRect(
      i * step,
      y(0.5 + 0.45 * Math.min(1, high)),
      Math.max(1, step - 0.5),
      Math.max(1, y(0.5 + 0.45 * Math.max(-1, low)) - y(0.5 + 0.45 * Math.min(1, high))),
    ),
  );
  if (heard.length === 0) return;
  g.beginPath();
  heard.forEach(({ probability }, i) => (i === 0 ? g.moveTo(0, y(probability)) : g.lineTo(i * step, y(probability))));
  g.strokeStyle = accent;
  g.lineWidth = 2;
  g.stroke();
  g.lineTo((heard.length - 1) * step, height);
  g.lineTo(0, height);
  g.fillStyle = glow;
  g.fill();
}

sample.addEventListener(
  'click',
  () =>
    void attempt(async () => {
      if (sound !== null) return stop();
      const { samples } = sampleClip();
      await play(async () => {
        const buffer = new AudioBuffer({ length: samples.length, sampleRate: RATE });
        buffer.copyToChannel(samples as Float32Array<ArrayBuffer>, 0);
        return buffer;
      });
    }),
);
microphone.addEventListener(
  'click',
  () =>
    void attempt(async () => {
      if (sound !== null) return stop();
      await listenTo(async (context) => {
        if (!navigator.mediaDevices?.getUserMedia) throw new Error('this page has no microphone to ask for');
        const stream = await navigator.mediaDevices.getUserMedia({
          audio: { channelCount: 1, echoCancellation: false },
        });
        microphone.textContent = 'Stop';
        microphone.setAttribute('aria-pressed', 'true');
        context.addEventListener('statechange', () => {
          if (context.state === 'closed') for (const track of stream.getTracks()) track.stop();
        });
        return context.createMediaStreamSource(stream);
      });
    }),
);
takeFiles(
  byId('drop'),
  byId<HTMLInputElement>('file'),
  (file) =>
    void attempt(async () => {
      const encoded = await file.arrayBuffer();
      await play((context) =>
        context.decodeAudioData(encoded).catch(() => {
          throw new Error(`the browser cannot decode ${file.name} as sound`);
        }),
      );
    }),
);
byId<HTMLInputElement>('model').addEventListener(
  'change',
  ({ currentTarget }) =>
    void attempt(async () => {
      const file = (currentTarget as HTMLInputElement).files?.[0];
      if (file === undefined) return;
      [model, loaded] = [new Uint8Array(await file.arrayBuffer()), null];
      await ready();
    }),
);
window.addEventListener('resize', () => paint());
paint();
void attempt(ready);
