/** The page that writes: shows the story as it grows. */
import {
  attempt,
  byId,
  bytes,
  bytesIfThere,
  chosenDevice,
  DEVICE_NAMES,
  make,
  milliseconds,
  say,
  takeFiles,
} from '../site/page.ts';
import { callWorker } from '../site/worker-call.ts';
import type { Writer, Written } from './worker.ts';

const worker = callWorker<Writer, Written>(new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }));
const [story, start, stop] = [byId('story'), byId<HTMLButtonElement>('start'), byId<HTMLButtonElement>('stop')];
const [temperature, topP, prompt] = [
  byId<HTMLInputElement>('temperature'),
  byId<HTMLInputElement>('top-p'),
  byId<HTMLInputElement>('prompt'),
];

let model: Uint8Array | null = null;
let loaded: Promise<void> | null = null;
let written: Written[] = [];
const device = chosenDevice(() => {
  loaded = null;
  if (model !== null) void attempt(ready);
});

async function ready(): Promise<void> {
  loaded ??= (async () => {
    model ??= await bytesIfThere('../data/models/stories260k-gqa-fp32/model.onnx');
    byId('ask').hidden = model !== null;
    if (model === null)
      throw new Error(
        'This site does not bring the model. Choose an ONNX file of stories260K as onnxruntime-genai exports it (grouped-query attention, float32).',
      );
    say('Loading the model …');
    const got = await worker.call('load', { model, device: device() });
    byId('held').textContent = bytes(got.bytes);
    byId('where').textContent = DEVICE_NAMES[got.device];
    say(`The model is ready on ${DEVICE_NAMES[got.device]} after ${milliseconds(got.milliseconds)}.`);
  })().catch((e: unknown) => {
    loaded = null;
    throw e;
  });
  return loaded;
}

worker.onEvent = (token) => {
  written.push(token);
  const last = story.lastElementChild;
  const kind = token.given ? 'told' : 'new';
  if (last?.className === kind) last.append(token.text);
  else story.append(make('span', { className: kind, textContent: token.text }));
  const own = written.filter((t) => !t.given);
  if (own.length === 0) return;
  const recent = own.slice(-32);
  byId('speed').textContent =
    `${(1000 / (recent.reduce((sum, t) => sum + t.milliseconds, 0) / recent.length)).toFixed(0)}/s`;
  byId('count').textContent = String(own.length);
  byId('ids').textContent = written.map((t) => t.id).join(' ');
};

async function write(): Promise<void> {
  if (start.disabled) return;
  start.disabled = true;
  try {
    await ready();
    stop.disabled = false;
    written = [];
    story.replaceChildren();
    story.classList.add('writing');
    say('Writing …');
    const started = performance.now();
    const tokens = await worker.call('write', {
      prompt: prompt.value.trim(),
      sampling: { temperature: temperature.valueAsNumber, topP: topP.valueAsNumber },
      tokens: 250,
    });
    const seconds = (performance.now() - started) / 1000;
    say(
      `${tokens} tokens in ${seconds.toFixed(1)} s, ${(tokens / seconds).toFixed(0)} a second with all that is round them.`,
    );
  } finally {
    story.classList.remove('writing');
    start.disabled = false;
    stop.disabled = true;
  }
}

for (const slider of [temperature, topP]) {
  const shown = byId(`${slider.id}-value`);
  const show = (): void => {
    shown.textContent = slider.valueAsNumber.toFixed(2);
  };
  slider.addEventListener('input', show);
  show();
}
start.addEventListener('click', () => void attempt(write));
stop.addEventListener(
  'click',
  () =>
    void attempt(async () => {
      await worker.call('stop');
    }),
);
prompt.addEventListener('keydown', (e) => {
  if (e.key === 'Enter') void attempt(write);
});
takeFiles(
  story,
  byId<HTMLInputElement>('model'),
  (file) =>
    void attempt(async () => {
      [model, loaded] = [new Uint8Array(await file.arrayBuffer()), null];
      await ready();
    }),
);
void attempt(ready);
