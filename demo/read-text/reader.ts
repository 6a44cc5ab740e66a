/** Reads the text on a picture with the three PP-OCR models: find lines, turn them upright, spell them. */
import { type Session, type Tensor, tensor } from 'sardonyx';
import { findBoxes } from './boxes.ts';
import { type Box, cut, type Picture, toPlanes, turned } from './picture.ts';

export interface Models {
  readonly detect: Session;
  readonly classify: Session;
  readonly recognize: Session;
  /** The recogniser's characters, without the blank that comes first and the space that comes last. */
  readonly characters: readonly string[];
}
/** A line of text; `confidence` is the mean probability of its characters. */
export interface Line { readonly text: string; readonly confidence: number; readonly box: Box }
/** Milliseconds. */
export interface StageTimes { detect: number; crop: number; recognize: number }

const LONGEST = 960;
const DETECT = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const;
const HALF = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] } as const;
const LINE_HEIGHT = 48;

const only = async (session: Session, input: Tensor): Promise<Tensor> =>
  (await session.run({ [session.inputs[0]!.name]: input }))[session.outputs[0]!.name] as Tensor;

export async function readText(picture: Picture, models: Models): Promise<{ lines: Line[]; times: StageTimes }> {
  const times: StageTimes = { detect: 0, crop: 0, recognize: 0 };
  const timed = async <T>(stage: keyof StageTimes, f: () => T | Promise<T>): Promise<T> => {
    const started = performance.now();
    const result = await f();
    times[stage] += performance.now() - started;
    return result;
  };
  const boxes = await timed('detect', () => detect(picture, models.detect));
  const lines: Line[] = [];
  for (const box of boxes) {
    const line = await timed('crop', async () => {
      const upright = cut(picture, box, LINE_HEIGHT);
      return (await isUpsideDown(upright, models.classify)) ? turned(upright) : upright;
    });
    const { text, confidence } = await timed('recognize', () => recognize(line, models));
    if (text.trim() !== '' && confidence >= 0.5) lines.push({ text, confidence, box });
  }
  return { lines, times };
}

/** Boxes round lines of text, in the picture's pixels. The model wants sides that are multiples of 32. */
async function detect(picture: Picture, session: Session): Promise<Box[]> {
  const scale = Math.min(1, LONGEST / Math.max(picture.width, picture.height));
  const side = (n: number): number => Math.max(32, Math.round((n * scale) / 32) * 32);
  const [width, height] = [side(picture.width), side(picture.height)];
  const map = await only(session, tensor('float32', [1, 3, height, width], toPlanes(picture, width, height, DETECT)));
  const [sx, sy] = [picture.width / width, picture.height / height];
  const inPicture = (box: Box): Box => box.map(({ x, y }) => ({ x: clamp(x * sx, picture.width), y: clamp(y * sy, picture.height) })) as unknown as Box;
  return findBoxes(map.data as Float32Array, width, height).map(({ box }) => inPicture(box));
}
const clamp = (v: number, end: number): number => Math.min(Math.max(v, 0), end);

async function isUpsideDown(line: Picture, session: Session): Promise<boolean> {
  const width = 192;
  const used = Math.min(width, line.width);
  const planes = padded(toPlanes(line, used, LINE_HEIGHT, HALF), used, width);
  const { data } = await only(session, tensor('float32', [1, 3, LINE_HEIGHT, width], planes));
  return (data as Float32Array)[1]! > 0.9;
}

/** Widths are rounded up, so that lines of about one length share a plan. */
async function recognize(line: Picture, { recognize: session, characters }: Models): Promise<{ text: string; confidence: number }> {
  const width = Math.max(128, Math.ceil(line.width / 64) * 64);
  const planes = padded(toPlanes(line, line.width, LINE_HEIGHT, HALF), line.width, width);
  const { data, shape } = await only(session, tensor('float32', [1, 3, LINE_HEIGHT, width], planes));
  return decode(data as Float32Array, shape.at(-1)!, characters);
}

/** Rows lengthened with zeros. */
function padded(planes: Float32Array, from: number, to: number): Float32Array {
  if (from === to) return planes;
  const out = new Float32Array((planes.length / from) * to);
  for (let row = 0; row < planes.length / from; row++) out.set(planes.subarray(row * from, (row + 1) * from), row * to);
  return out;
}

/**
 * The likeliest character at each step, repeats and blanks dropped (Graves et al., "Connectionist Temporal Classification", best path).
 * Class 0 is the blank, the one behind the last character a space.
 */
export function decode(probabilities: Float32Array, classes: number, characters: readonly string[]): { text: string; confidence: number } {
  let text = '';
  let sum = 0;
  let count = 0;
  let last = 0;
  for (let at = 0; at < probabilities.length; at += classes) {
    let best = 0;
    for (let k = 1; k < classes; k++) if (probabilities[at + k]! > probabilities[at + best]!) best = k;
    if (best !== 0 && best !== last) {
      text += characters[best - 1] ?? ' ';
      sum += probabilities[at + best]!;
      count++;
    }
    last = best;
  }
  return { text, confidence: count === 0 ? 0 : sum / count };
}
