/** Reads the text on a picture with the three PP-OCR models: find lines, turn them upright, spell them. */
import { type Session, type Tensor, tensor } from 'sardonyx';
import { findBoxes } from './boxes.ts';
import { readingOrder } from './order.ts';
import { type Box, clamp, cut, lengthwise, type Picture, type Point, toPlanes, turned, upended } from './picture.ts';

export interface Models {
  readonly detect: Session;
  readonly classify: Session;
  readonly recognize: Session;
  /** The recogniser's characters, without the blank that comes first and the space that comes last. */
  readonly characters: readonly string[];
}
/** `confidence` is the mean probability of the characters. */
export interface Spelling {
  readonly text: string;
  readonly confidence: number;
}
/** A line of text, and its corners in the picture, clockwise from where the text starts. */
export interface Line extends Spelling {
  readonly box: Box;
}
/** Milliseconds. */
export interface StageTimes {
  detect: number;
  crop: number;
  classify: number;
  recognize: number;
}

/**
 * The detector finds letters of some 10 to 100 pixels: large pictures are shrunk until no side is longer than this, and
 * small ones doubled.
 */
const LONGEST = 960;
const DETECT = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const;
const HALF = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] } as const;
/** What the classifier and the recogniser were trained on. */
const LINE_HEIGHT = 48;
const CLASSIFIED_WIDTH = 192;
/**
 * A line is read both ways if the classifier finds it upside down with more than this probability, or the recogniser is
 * less sure than that.
 */
const TURNED = 0.6;
const SURE = 0.8;
/** What is read with less confidence is no text. */
const LEGIBLE = 0.5;

const only = async (session: Session, input: Tensor): Promise<Tensor> =>
  (await session.run({ [session.inputs[0]!.name]: input }))[session.outputs[0]!.name] as Tensor;

/**
 * Lines of text in reading order, and how long each stage took. `longest`: the detector sees the picture shrunk until
 * no side has more pixels.
 */
export async function readText(
  picture: Picture,
  models: Models,
  longest = LONGEST,
): Promise<{ lines: Line[]; times: StageTimes }> {
  const times: StageTimes = { detect: 0, crop: 0, classify: 0, recognize: 0 };
  const timed = async <T>(stage: keyof StageTimes, f: () => T | Promise<T>): Promise<T> => {
    const started = performance.now();
    const result = await f();
    times[stage] += performance.now() - started;
    return result;
  };
  const lines: Line[] = [];
  for (const box of await timed('detect', () => detect(picture, models.detect, longest))) {
    const line = await timed('crop', () => cut(picture, box, LINE_HEIGHT));
    const doubtful = await timed('classify', async () => (await upsideDown(line, models.classify)) > TURNED);
    const read = await timed('recognize', async (): Promise<Line> => {
      const upright = { ...(await recognize(line, models)), box };
      if (!doubtful && upright.confidence > SURE) return upright;
      const other = { ...(await recognize(turned(line), models)), box: upended(box) };
      return other.confidence > upright.confidence ? other : upright;
    });
    if (read.text !== '' && read.confidence >= LEGIBLE) lines.push({ ...read, box: inside(picture, read.box) });
  }
  return { lines: readingOrder(lines), times };
}

/**
 * Boxes round lines of text, in the picture's pixels; they may reach beyond its borders. The model wants sides that are
 * multiples of 32.
 */
async function detect(picture: Picture, session: Session, longest: number): Promise<Box[]> {
  const scale = Math.min(2, longest / Math.max(picture.width, picture.height));
  const side = (n: number): number => Math.max(32, Math.round((n * scale) / 32) * 32);
  const [width, height] = [side(picture.width), side(picture.height)];
  const map = await only(session, tensor('float32', [1, 3, height, width], toPlanes(picture, width, height, DETECT)));
  const [sx, sy] = [picture.width / width, picture.height / height];
  const scaled = ({ x, y }: Point): Point => ({ x: x * sx, y: y * sy });
  return findBoxes(map.data as Float32Array, width, height).map(({ box }) => lengthwise(mapBox(box, scaled)));
}

const inside = ({ width, height }: Picture, box: Box): Box =>
  mapBox(box, ({ x, y }) => ({ x: clamp(x, width), y: clamp(y, height) }));
const mapBox = ([a, b, c, d]: Box, f: (p: Point) => Point): Box => [f(a), f(b), f(c), f(d)];

/** How likely a line is to stand on its head. Long lines are squeezed, as in the model's training. */
async function upsideDown(line: Picture, session: Session): Promise<number> {
  const { data } = await only(session, lineTensor(line, Math.min(CLASSIFIED_WIDTH, widthOf(line)), CLASSIFIED_WIDTH));
  return (data as Float32Array)[1]!;
}

/** Widths are rounded up, so that lines of about one length share a plan. */
async function recognize(line: Picture, { recognize: session, characters }: Models): Promise<Spelling> {
  const width = widthOf(line);
  const { data, shape } = await only(session, lineTensor(line, width, Math.ceil(width / 128) * 128));
  return decode(data as Float32Array, shape.at(-1)!, characters);
}

const widthOf = (line: Picture): number => Math.max(1, Math.round((line.width * LINE_HEIGHT) / line.height));

/** A line scaled to `width`, with grey to its right up to `padded`. */
function lineTensor(line: Picture, width: number, padded: number): Tensor {
  const planes = toPlanes(line, width, LINE_HEIGHT, HALF);
  const out = new Float32Array(3 * LINE_HEIGHT * padded);
  for (let row = 0; row < 3 * LINE_HEIGHT; row++)
    out.set(planes.subarray(row * width, (row + 1) * width), row * padded);
  return tensor('float32', [1, 3, LINE_HEIGHT, padded], out);
}

/** A gap between characters is a space if its blank steps think so with this probability together. */
const SPACE = 0.15;

/**
 * The likeliest character at each step, repeats and blanks dropped (Graves et al., "Connectionist Temporal
 * Classification", best path). Class 0 is the blank, the last one a space. The recogniser, trained on Chinese, is shy
 * of spaces and spreads one over the steps between two words: so it is also a space if blank steps in a row add up to
 * one.
 */
export function decode(probabilities: Float32Array, classes: number, characters: readonly string[]): Spelling {
  const space = classes - 1;
  let text = '';
  let sum = 0;
  let count = 0;
  let last = 0;
  let gap = 0;
  for (let at = 0; at < probabilities.length; at += classes) {
    let best = 0;
    for (let k = 1; k < classes; k++) if (probabilities[at + k]! > probabilities[at + best]!) best = k;
    if (best === 0) gap += probabilities[at + space]!;
    else {
      if (best !== last) {
        if (best !== space && gap > SPACE && text !== '' && !text.endsWith(' ')) text += ' ';
        text += best === space ? ' ' : characters[best - 1];
        sum += probabilities[at + best]!;
        count++;
      }
      gap = 0;
    }
    last = best;
  }
  return { text: text.trim(), confidence: count === 0 ? 0 : sum / count };
}
