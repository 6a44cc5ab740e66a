/**
 * A profile as one HTML file that needs nothing else: plots are SVG, the colours follow the reader's light or dark
 * setting.
 */
import type { Block, Profile, ProfiledNode, ProfiledPlan } from './profile.ts';

const escape = (s: string): string => s.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const ms = (x: number): string =>
  x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x >= 0.1 ? x.toFixed(2) : x.toFixed(4);
const size = (n: number): string =>
  n < 10240
    ? `${n} B`
    : n < 10 * 2 ** 20
      ? `${(n / 1024).toFixed(1)} KiB`
      : n < 10 * 2 ** 30
        ? `${(n / 2 ** 20).toFixed(1)} MiB`
        : `${(n / 2 ** 30).toFixed(1)} GiB`;
const percent = (x: number): string => `${(100 * x).toFixed(x < 0.1 ? 1 : 0)} %`;
const at = (x: number): string => x.toFixed(1).replace(/\.0$/, '');

/** Kernels get the colours in the order of their time; from the eighth on they share grey. */
const COLOURS = 7;
type Paint = (kernel: string) => string;
interface Total {
  readonly kernel: string;
  readonly ms: number;
  readonly nodes: number;
}
function totalsOf(nodes: readonly ProfiledNode[]): Total[] {
  const totals = new Map<string, Total>();
  for (const n of nodes) {
    const name = familyOf(n);
    const t = totals.get(name) ?? { kernel: name, ms: 0, nodes: 0 };
    totals.set(name, { kernel: name, ms: t.ms + n.ms, nodes: t.nodes + 1 });
  }
  return [...totals.values()].sort((a, b) => b.ms - a.ms);
}
/** A node of several dispatches goes by the first; on the reference, where all is the host's, by its operator. */
const familyOf = ({ kernels: [kernel = ''], op }: ProfiledNode): string => (kernel === 'host' ? `host: ${op}` : kernel);

/** The report of a profile. */
export function profileHtml(profile: Profile): string {
  const totals = totalsOf(profile.nodes);
  const index = new Map(totals.map(({ kernel }, i) => [kernel, Math.min(i, COLOURS)]));
  const paint: Paint = (kernel) => `c${index.get(kernel) ?? COLOURS}`;
  const peak = Math.max(0, ...profile.plans.map((p) => p.peakBytes));
  const least = Math.max(0, ...profile.plans.map((p) => p.lowerBoundBytes));
  const sum = (f: (p: ProfiledPlan) => number): number => profile.plans.reduce((n, p) => n + f(p), 0);
  const tile = (label: string, value: string, note: string): string =>
    `<div class="tile"><span>${label}</span><b>${value}</b><small>${note}</small></div>`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${escape(profile.model)}: profile</title>
<style>${STYLE}</style></head><body><main>
<header><h1>${escape(profile.model)}</h1><p>${escape(profile.device)} · ${escape(profile.adapter)}</p></header>
<section class="tiles">
${tile('A run', `${ms(profile.runMs)} ms`, `load ${ms(profile.loadMs)} ms, first run ${ms(profile.firstMs)} ms`)}
${tile('In nodes', `${ms(profile.nodesMs)} ms`, profile.gapMs >= 0 ? `${ms(profile.gapMs)} ms beside them: copies, submits, waits` : 'more than a run: steps by themselves are slower than in a row')}
${tile(profile.device === 'webgpu' ? 'Dispatches' : 'Kernel calls', String(sum((p) => p.dispatches)), `${sum((p) => p.pipelines)} ${profile.device === 'webgpu' ? 'pipelines' : 'modules'}, ${profile.plans.length} plan${profile.plans.length === 1 ? '' : 's'}`)}
${tile('Activations', size(peak), least > 0 ? `${(peak / least).toFixed(2)} × the least possible, ${size(least)}` : 'none on the device')}
${tile('Weights', size(Math.max(0, ...profile.plans.map((p) => p.weightBytes))), `${size(profile.deviceBytes)} held on the device in all`)}
${tile('Copied', size(sum((p) => p.copiedBytes)), 'between host and device inside a run')}
</section>
<section><h2>Waterfall</h2><p>Nodes in the order they run, one after the other, as long as each takes. How it was measured: ${escape(profile.method)}; the median of ${profile.runs} runs.</p>${legend(totals, paint, profile.nodesMs)}${waterfall(profile.nodes, paint)}</section>
<section><h2>Dearest nodes</h2>${topNodes(profile, paint)}</section>
<section><h2>Roofline</h2><p>What a node computes a second over what it computes a byte. The roof is this device's, measured: ${profile.peaks.gflops.toFixed(1)} GFLOP/s of multiply-add in registers, ${profile.peaks.copyGBs.toFixed(1)} GB/s copied. Small data stay in caches and may rise above its slope. A dot's area is the node's time.</p>${roofline(profile, paint)}</section>
<section><h2>Memory</h2><p>Each block is a value: across, the steps from the one that makes it to the last that reads it; upwards, where it lies in the slabs. Below the dashed line no plan can come.</p>${profile.plans
    .filter((p) => p.blocks.length > 0)
    .slice(0, 6)
    .map(memoryMap)
    .join('')}</section>
<section><h2>Plan</h2>${profile.plans.map((p, i) => `<details${profile.plans.length === 1 && p.steps <= 40 ? ' open' : ''}><summary>Plan ${i + 1}: ${p.steps} steps</summary><pre>${escape(p.text)}</pre></details>`).join('')}</section>
</main></body></html>
`;
}

const legend = (totals: readonly Total[], paint: Paint, all: number): string => {
  const shown = totals.slice(0, COLOURS);
  const rest = totals.slice(COLOURS);
  const other = rest.reduce((n, t) => n + t.ms, 0);
  const key = (colour: string, name: string, time: number, count: number): string =>
    `<li><i class="${colour}"></i>${escape(name)} <small>${count} · ${ms(time)} ms · ${percent(time / all)}</small></li>`;
  return `<ul class="legend">${shown.map((t) => key(paint(t.kernel), t.kernel, t.ms, t.nodes)).join('')}${
    rest.length > 0
      ? key(
          `c${COLOURS}`,
          `${rest.length} other kernels`,
          other,
          rest.reduce((n, t) => n + t.nodes, 0),
        )
      : ''
  }</ul>`;
};

const W = 1080;
const svg = (height: number, body: string, label: string): string =>
  `<svg viewBox="0 0 ${W} ${at(height)}" role="img" aria-label="${label}">${body}</svg>`;
const line = (x1: number, y1: number, x2: number, y2: number, kind: string): string =>
  `<line x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}" class="${kind}"/>`;
const text = (x: number, y: number, s: string, kind = '', anchor = 'start'): string =>
  `<text x="${at(x)}" y="${at(y)}" text-anchor="${anchor}"${kind ? ` class="${kind}"` : ''}>${escape(s)}</text>`;
/** Round numbers between 0 and `most`, about five of them. */
function ticks(most: number): number[] {
  const rough = most / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * (rough / unit < 1.5 ? 1 : rough / unit < 3.5 ? 2 : rough / unit < 7.5 ? 5 : 10);
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, i) => i * step);
}

function waterfall(nodes: readonly ProfiledNode[], paint: Paint): string {
  const all = nodes.reduce((n, { ms: t }) => n + t, 0);
  if (all === 0) return '<p class="none">No step took measurable time.</p>';
  const row = Math.max(1.5, Math.min(18, 720 / nodes.length));
  const top = 22;
  const height = top + row * nodes.length + 6;
  const x = (t: number): number => (t / all) * W;
  let t0 = 0;
  const bars = nodes.map((n, i) => {
    const from = t0;
    t0 += n.ms;
    const y = top + i * row;
    const wide = Math.max(0.8, x(n.ms));
    const label =
      row >= 9 && (n.ms / all > 0.02 || row >= 14)
        ? x(t0) < W * 0.6
          ? text(x(t0) + 5, y + row * 0.72, `${n.op} ${n.node}`, 'small')
          : text(x(from) - 5, y + row * 0.72, `${n.op} ${n.node}`, 'small', 'end')
        : '';
    return `<rect x="${at(x(from))}" y="${at(y)}" width="${at(wide)}" height="${at(Math.max(1.2, row - (row > 5 ? 1.5 : 0)))}" rx="${row > 8 ? 2 : 0}" class="${paint(familyOf(n))}"><title>${escape(`${n.op} ${n.node}\n${[...new Set(n.kernels)].join(', ')}\n${ms(n.ms)} ms, ${percent(n.ms / all)}${n.roofline === null ? '' : `, ${percent(n.roofline)} of the roofline`}`)}</title></rect>${label}`;
  });
  const grid = ticks(all).map(
    (t) =>
      line(x(t), top - 4, x(t), height, 'grid') +
      text(Math.min(x(t) + 3, W), 12, `${+t.toPrecision(3)} ms`, 'axis', x(t) > W - 40 ? 'end' : 'start'),
  );
  return `<div class="plot">${svg(height, grid.join('') + bars.join(''), 'Time of each node in order')}</div>`;
}

const TOP = 20;
function topNodes({ nodes, nodesMs, plans }: Profile, paint: Paint): string {
  const top = [...nodes].sort((a, b) => b.ms - a.ms).slice(0, TOP);
  const most = top[0]?.ms ?? 1;
  const rate = (n: ProfiledNode): string =>
    n.flops === null || n.bytes === null || n.ms === 0
      ? ''
      : n.flops > 4 * n.bytes
        ? `${(n.flops / n.ms / 1e6).toPrecision(3)} GFLOP/s`
        : `${(n.bytes / n.ms / 1e6).toPrecision(3)} GB/s`;
  return `<div class="scroll"><table><thead><tr><th>node</th><th>operator</th><th>kernel</th><th class="n">ms</th><th class="bars">of all nodes</th><th class="n">rate</th><th class="n">of roofline</th></tr></thead><tbody>${top.map((n) => `<tr><td title="${escape(n.node)}"><i class="${paint(familyOf(n))}"></i>${escape(n.node)}${plans.length > 1 ? ` <small>plan ${n.plan + 1}</small>` : ''}</td><td>${escape(n.op)}</td><td>${escape([...new Set(n.kernels)].join(', '))}${n.kernels.length > 1 ? ` <small>×${n.kernels.length}</small>` : ''}</td><td class="n">${ms(n.ms)}</td><td class="bars"><span class="${paint(familyOf(n))}" style="width:${at((66 * n.ms) / most)}%"></span><small>${percent(nodesMs > 0 ? n.ms / nodesMs : 0)}</small></td><td class="n">${rate(n)}</td><td class="n">${n.roofline === null ? '' : percent(n.roofline)}</td></tr>`).join('')}</tbody></table></div>`;
}

function roofline({ nodes, peaks, nodesMs }: Profile, paint: Paint): string {
  const dots = nodes.flatMap((n) =>
    n.flops && n.bytes && n.ms > 0 ? [{ n, x: n.flops / n.bytes, y: n.flops / n.ms / 1e6 }] : [],
  );
  if (dots.length === 0) return '<p class="none">No node on the device does arithmetic.</p>';
  const H = 400;
  const left = 62;
  const right = 16;
  const top = 14;
  const bottom = 40;
  const decade = (f: (v: number) => number, v: number): number => f(Math.log10(v));
  const ridge = peaks.gflops / peaks.copyGBs;
  const x0 = decade(Math.floor, Math.min(0.5, ...dots.map((d) => d.x)));
  const x1 = decade(Math.ceil, Math.max(10, 2 * ridge, ...dots.map((d) => d.x)));
  const y0 = decade(Math.floor, Math.min(peaks.gflops / 30, ...dots.map((d) => d.y)));
  const y1 = decade(Math.ceil, Math.max(peaks.gflops * 1.2, ...dots.map((d) => d.y)));
  const X = (v: number): number => left + ((Math.log10(v) - x0) / (x1 - x0)) * (W - left - right);
  const Y = (v: number): number => H - bottom - ((Math.log10(v) - y0) / (y1 - y0)) * (H - top - bottom);
  const decades = (a: number, b: number): number[] => Array.from({ length: b - a + 1 }, (_, i) => 10 ** (a + i));
  const name = (v: number): string => (v >= 1000 ? `${+(v / 1000).toPrecision(3)} k` : String(+v.toPrecision(3)));
  const grid = [
    ...decades(x0, x1).map(
      (v) => line(X(v), top, X(v), H - bottom, 'grid') + text(X(v), H - bottom + 16, name(v), 'axis', 'middle'),
    ),
    ...decades(y0, y1).map(
      (v) => line(left, Y(v), W - right, Y(v), 'grid') + text(left - 7, Y(v) + 4, name(v), 'axis', 'end'),
    ),
    text((left + W) / 2, H - 4, 'operations a byte', 'axis', 'middle'),
    `<text transform="translate(12 ${at(H / 2)}) rotate(-90)" text-anchor="middle" class="axis">GFLOP/s</text>`,
  ];
  const low = Math.max(10 ** x0, 10 ** y0 / peaks.copyGBs);
  const roof = `<polyline points="${at(X(low))},${at(Y(low * peaks.copyGBs))} ${at(X(ridge))},${at(Y(peaks.gflops))} ${at(W - right)},${at(Y(peaks.gflops))}" class="roof"/>`;
  const names =
    text(W - right - 4, Y(peaks.gflops) - 7, `${peaks.gflops.toFixed(1)} GFLOP/s`, 'roofname', 'end') +
    text(
      X(Math.sqrt(low * ridge)) - 8,
      Y(Math.sqrt(low * ridge) * peaks.copyGBs) - 8,
      `${peaks.copyGBs.toFixed(1)} GB/s`,
      'roofname',
      'end',
    );
  const marks = [...dots]
    .sort((a, b) => b.n.ms - a.n.ms)
    .map(
      ({ n, x, y }) =>
        `<circle cx="${at(X(x))}" cy="${at(Y(y))}" r="${at(3 + 16 * Math.sqrt(n.ms / nodesMs))}" class="${paint(familyOf(n))} dot"><title>${escape(`${n.op} ${n.node}\n${y.toPrecision(3)} GFLOP/s at ${x.toPrecision(3)} operations a byte\n${ms(n.ms)} ms, ${percent(n.roofline ?? 0)} of the roofline`)}</title></circle>`,
    );
  return `<div class="plot">${svg(H, grid.join('') + roof + names + marks.join(''), 'Roofline of the nodes')}</div>`;
}

function memoryMap({ blocks, steps, slabs, peakBytes, lowerBoundBytes, text: plan }: ProfiledPlan): string {
  const H = 300;
  const left = 62;
  const right = 16;
  const top = 14;
  const bottom = 34;
  const X = (step: number): number => left + (step / (steps + 1)) * (W - left - right);
  const Y = (bytes: number): number => H - bottom - (bytes / Math.max(1, peakBytes)) * (H - top - bottom);
  const live = Array.from({ length: steps + 1 }, (_, s) =>
    blocks.reduce((n, b) => (b.from <= s && s <= b.to ? n + b.bytes : n), 0),
  );
  const rect = (b: Block, i: number): string =>
    `<rect x="${at(X(b.from))}" y="${at(Y(b.at + b.bytes))}" width="${at(Math.max(1, X(b.to + 1) - X(b.from)))}" height="${at(Math.max(0.7, Y(b.at) - Y(b.at + b.bytes)))}" class="c${i % COLOURS} block"><title>${escape(`${b.name}\n${size(b.bytes)} at ${b.at}, steps ${b.from} to ${b.to}`)}</title></rect>`;
  const unit = peakBytes < 2 ** 20 ? 1024 : 2 ** 20;
  const grid = ticks(peakBytes / unit)
    .map((v) => v * unit)
    .map(
      (v) =>
        line(left, Y(v), W - right, Y(v), 'grid') +
        text(left - 7, Y(v) + 4, `${+(v / unit).toPrecision(3)} ${unit === 1024 ? 'KiB' : 'MiB'}`, 'axis', 'end'),
    )
    .concat(
      ticks(steps).map((v) => text(X(v), H - bottom + 15, String(Math.round(v)), 'axis', 'middle')),
      text((left + W) / 2, H - 4, 'step', 'axis', 'middle'),
    );
  const bounds = slabs.reduce<{ y: number; out: string }>(
    ({ y, out }, s) => ({ y: y + s, out: out + (y > 0 ? line(left, Y(y), W - right, Y(y), 'slab') : '') }),
    { y: 0, out: '' },
  ).out;
  const curve = `<polyline points="${live.map((v, s) => `${at(X(s))},${at(Y(v))} ${at(X(s + 1))},${at(Y(v))}`).join(' ')}" class="live"/>`;
  const least =
    line(left, Y(lowerBoundBytes), W - right, Y(lowerBoundBytes), 'least') +
    text(W - right - 4, Y(lowerBoundBytes) - 5, `lower bound ${size(lowerBoundBytes)}`, 'roofname', 'end');
  return `<div class="plot"><p><small>${escape(plan.split('\n')[0] ?? '')}: ${size(peakBytes)} in ${slabs.length} slab${slabs.length === 1 ? '' : 's'}, ${(peakBytes / Math.max(1, lowerBoundBytes)).toFixed(3)} × the lower bound. The line is what is live.</small></p>${svg(H, grid.join('') + blocks.map(rect).join('') + bounds + curve + least, 'Memory over steps')}</div>`;
}

const STYLE = `:root{color-scheme:light dark;--page:#f6f6f4;--card:#fff;--ink:#1c1d21;--soft:#62656e;--line:#e3e3df;--roof:#1c1d21;--c0:#3b6fd4;--c1:#d9772b;--c2:#2f9e77;--c3:#b6508f;--c4:#c9a227;--c5:#7a5bc7;--c6:#3aa3b8;--c7:#9a9ca3}
@media (prefers-color-scheme:dark){:root{--page:#131417;--card:#1b1d21;--ink:#e9e9e6;--soft:#9a9da6;--line:#2e3138;--roof:#e9e9e6;--c0:#6b9bf2;--c1:#f0975a;--c2:#4fc297;--c3:#dc7fb6;--c4:#dfc055;--c5:#a48bea;--c6:#63c3d6;--c7:#7d8089}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}main{max-width:1160px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:26px;margin:0;letter-spacing:-.01em;overflow-wrap:anywhere}header p{margin:2px 0 22px;color:var(--soft)}h2{font-size:17px;margin:0 0 4px}section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px;margin:0 0 18px}section>p{margin:0 0 12px;color:var(--soft);max-width:80ch}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;background:none;border:0;padding:0}.tile{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px;display:flex;flex-direction:column}.tile span,small{color:var(--soft)}.tile b{font-size:22px;font-weight:600;font-variant-numeric:tabular-nums}small{font-size:12px;line-height:1.35}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;margin:0 0 12px;font-size:13px}i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:7px}
svg{display:block;width:100%;min-width:760px;height:auto;font:12px system-ui,sans-serif}svg text{fill:var(--ink)}text.axis,text.small{fill:var(--soft);font-size:11px}.roofname{font-size:12px;font-weight:600}.grid{stroke:var(--line);stroke-width:1}.roof{fill:none;stroke:var(--roof);stroke-width:2}.live{fill:none;stroke:var(--ink);stroke-width:1.5}.least{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:6 4}.slab{stroke:var(--card);stroke-width:2}.dot{fill-opacity:.72;stroke:var(--card);stroke-width:1}.block{fill-opacity:.55;stroke:var(--card);stroke-width:.6}
.scroll,.plot{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}th{font-weight:500;color:var(--soft);text-align:left}th,td{padding:5px 10px 5px 0;border-bottom:1px solid var(--line);white-space:nowrap}td:first-child{max-width:330px;overflow:hidden;text-overflow:ellipsis}td:nth-child(2){max-width:190px;overflow:hidden;text-overflow:ellipsis}.n{text-align:right}.bars{width:17%;padding-left:12px}td.bars span{display:inline-block;height:10px;border-radius:3px;margin-right:7px;vertical-align:middle}
summary{cursor:pointer;color:var(--soft)}pre{overflow-x:auto;font:12px/1.5 ui-monospace,monospace;margin:10px 0 0}.none{color:var(--soft)}
${Array.from({ length: COLOURS + 1 }, (_, i) => `.c${i}{fill:var(--c${i})}i.c${i},span.c${i}{background:var(--c${i})}`).join('')}
@media print{section,.tile{break-inside:avoid}}`;
