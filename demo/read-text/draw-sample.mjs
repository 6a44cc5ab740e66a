// Draws sample.png, the picture that `npm start` reads without an argument: node demo/read-text/draw-sample.mjs
// lines.json is written beside it: each line of text and the corners of the box that it fills.
import { writeFileSync } from 'node:fs';
import chromium from '@sparticuz/chromium';
import puppeteer from 'puppeteer-core';

const page = `<!doctype html><meta charset="utf-8"><style>
  * { box-sizing: border-box; margin: 0 }
  body { width: 880px; height: 620px; background: #4a6878; font-family: "Open Sans", "DejaVu Sans", sans-serif; position: relative; overflow: hidden }
  .card { position: absolute; background: #fbf7ee; color: #20262b; border-radius: 14px; box-shadow: 0 3px 6px #0006; padding: 26px 32px }
  .pass { left: 40px; top: 40px; width: 560px; height: 350px }
  .stub { left: 610px; top: 66px; width: 236px; height: 300px; transform: rotate(4deg) }
  .note { left: 70px; top: 420px; width: 520px; height: 160px; transform: rotate(-3deg); background: #ffe9a3 }
  .band { position: absolute; left: 0; right: 0; top: 0; height: 70px; border-radius: 14px 14px 0 0; background: #0d5c75 }
  span { position: absolute; white-space: nowrap; line-height: 1.25 }
</style><body>
<div class="card pass"><div class="band"></div>
  <span style="left:32px;top:17px;font-size:28px;font-weight:700;color:#fff">BOARDING PASS</span>
  <span style="left:32px;top:92px;font-size:18px;color:#6b747b">Passenger</span>
  <span style="left:32px;top:116px;font-size:28px">Ada Lovelace</span>
  <span style="left:32px;top:176px;font-size:18px;color:#6b747b">From</span>
  <span style="left:32px;top:200px;font-size:34px;font-weight:700">London</span>
  <span style="left:300px;top:176px;font-size:18px;color:#6b747b">To</span>
  <span style="left:300px;top:200px;font-size:34px;font-weight:700">Turin</span>
  <span style="left:32px;top:276px;font-size:26px">Gate 17</span>
  <span style="left:200px;top:276px;font-size:26px">Seat 24C</span>
  <span style="left:370px;top:276px;font-size:26px">10:45</span>
</div>
<div class="card stub">
  <span style="left:28px;top:34px;font-size:22px;font-weight:700">SDX 1815</span>
  <span style="left:28px;top:90px;font-size:20px">Group 2</span>
  <span style="left:28px;top:140px;font-size:20px">Window side</span>
  <span style="left:28px;top:200px;font-size:34px;font-weight:700">24C</span>
</div>
<div class="card note">
  <span style="left:28px;top:30px;font-size:25px">Call the engine workshop</span>
  <span style="left:28px;top:86px;font-size:25px">before 9:30, ask for 240 EUR</span>
</div></body>`;

const browser = await puppeteer.launch({ executablePath: await chromium.executablePath(), headless: 'shell', args: ['--no-sandbox', '--disable-background-networking', '--no-first-run', '--disable-sync', '--disable-component-update', '--font-render-hinting=none'] });
const tab = await browser.newPage();
await tab.setViewport({ width: 880, height: 620, deviceScaleFactor: 1 });
await tab.setContent(page);
const png = await tab.screenshot({ type: 'png' });
const lines = await tab.evaluate(() => [...document.querySelectorAll('span')].map((s) => { const q = s.getBoundingClientRect(); return { text: s.textContent, left: Math.round(q.left), top: Math.round(q.top), right: Math.round(q.right), bottom: Math.round(q.bottom) }; }));
await browser.close();
writeFileSync(new URL('sample.png', import.meta.url), png);
writeFileSync(new URL('lines.json', import.meta.url), `[\n${lines.map((l) => `  ${JSON.stringify(l)}`).join(',\n')}\n]\n`);
