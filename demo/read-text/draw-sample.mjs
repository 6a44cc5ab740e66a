// Draws sample.png, the picture that `npm start` reads without an argument: node demo/read-text/draw-sample.mjs
// lines.json is written beside it: each line of text, and the corners of the rectangle that its ink fills, clockwise
// from the top left.
import { writeFileSync } from 'node:fs';
import chromium from '@sparticuz/chromium';
import { PNG } from 'pngjs';
import puppeteer from 'puppeteer-core';

const [width, height] = [880, 620];
const page = `<!doctype html><meta charset="utf-8"><style>
  * { box-sizing: border-box; margin: 0 }
  body { width: ${width}px; height: ${height}px; background: #4a6878; font-family: "Open Sans", "DejaVu Sans", sans-serif; position: relative; overflow: hidden }
  .card { position: absolute; background: #fbf7ee; color: #20262b; border-radius: 14px; box-shadow: 0 4px #0004; padding: 26px 32px }
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

const browser = await puppeteer.launch({
  executablePath: await chromium.executablePath(),
  headless: 'shell',
  args: [
    '--no-sandbox',
    '--disable-background-networking',
    '--no-first-run',
    '--disable-sync',
    '--disable-component-update',
    '--font-render-hinting=none',
  ],
});
const tab = await browser.newPage();
await tab.setViewport({ width, height, deviceScaleFactor: 1 });
await tab.setContent(page);
const shot = PNG.sync.read(Buffer.from(await tab.screenshot({ type: 'png' })));
const lines = await tab.evaluate(() =>
  [...document.querySelectorAll('span')].map((span) => {
    const card = span.parentElement;
    const style = getComputedStyle(span);
    const ink = Object.assign(document.createElement('canvas').getContext('2d'), {
      font: `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`,
    }).measureText(span.textContent);
    // The baseline lies in the middle of the line's height, as far as ascent and descent of the font say.
    const baseline = span.offsetTop + (span.offsetHeight + ink.fontBoundingBoxAscent - ink.fontBoundingBoxDescent) / 2;
    const [left, right] = [span.offsetLeft - ink.actualBoundingBoxLeft, span.offsetLeft + ink.actualBoundingBoxRight];
    const [top, bottom] = [baseline - ink.actualBoundingBoxAscent, baseline + ink.actualBoundingBoxDescent];
    const [cx, cy] = [card.offsetWidth / 2, card.offsetHeight / 2];
    const { a, b, c, d } = new DOMMatrix(getComputedStyle(card).transform);
    const onPage = ([x, y]) =>
      [a * (x - cx) + c * (y - cy) + cx + card.offsetLeft, b * (x - cx) + d * (y - cy) + cy + card.offsetTop].map(
        (v) => Math.round(10 * v) / 10,
      );
    return {
      text: span.textContent,
      corners: [
        [left, top],
        [right, top],
        [right, bottom],
        [left, bottom],
      ].map(onPage),
    };
  }),
);
await browser.close();
// Flat colours are smallest without a filter.
writeFileSync(
  new URL('sample.png', import.meta.url),
  PNG.sync.write(shot, { colorType: 2, deflateLevel: 9, deflateStrategy: 0, filterType: 0 }),
);
writeFileSync(
  new URL('lines.json', import.meta.url),
  `[\n${lines.map((l) => `  ${JSON.stringify(l)}`).join(',\n')}\n]\n`,
);
