/** Tells stories off the main thread, one token a run. */
import {
  type Device,
  type Feeds,
  type GpuTensor,
  gpuTensor,
  sampleTokens,
  type SampleOptions,
  Session,
  tensor,
  type Tensor,
  type Value,
} from 'sardonyx';
import { answerCalls } from '../site/worker-call.ts';
import { decoder, encode, END, VOCABULARY } from './tokenizer.ts';

export interface Writer {
  load(request: {
    model: Uint8Array;
    device: Exclude<Device, GPUDevice>;
  }): Promise<{ device: Session['device']; milliseconds: number; bytes: number }>;
  /**
   * Tells how a text goes on; resolves with how many tokens were written when the story ends, is stopped, or is as long
   * as the cache.
   */
  write(request: { prompt: string; sampling: SampleOptions; tokens: number }): Promise<number>;
  stop(): void;
}
/** A token that was written, or read from the prompt. */
export interface Written {
  readonly id: number;
  readonly text: string;
  readonly given: boolean;
  readonly milliseconds: number;
}

/**
 * The cache has this many places from the first run on, and the attention mask says how many are filled: so dims never
 * change, and one plan tells the whole story. On a GPU they stay in the buffers in which they are: a run writes a row
 * into each.
 */
const PLACES = 256;

let session: Session | null = null;
/** What a story begins with: nothing, or whatever another has left, of which nothing is read. */
let blank: Feeds = {};
let stopped = false;

const tell = answerCalls<Written>({
  load: async ({ model, device }) => {
    const started = performance.now();
    await session?.release();
    for (const t of Object.values(blank)) if ('buffer' in t) t.buffer.destroy();
    session = await Session.load(model, { device });
    const names = session.inputs.map((p) => p.name);
    for (const name of ['input_ids', 'attention_mask', 'past_key_values.0.key'])
      if (!names.includes(name))
        throw new Error(
          `this model has no input ${name}; the page tells stories with decoders as onnxruntime-genai exports them`,
        );
    blank = blankCache(session);
    await step(START_TOKEN, 0, blank);
    return { device: session.device, milliseconds: performance.now() - started, bytes: session.bytes };
  },
  write: async ({ prompt, sampling, tokens }) => {
    stopped = false;
    const given = encode(prompt);
    const text = decoder();
    const limit = Math.min(tokens + given.length, PLACES);
    let cache = blank;
    let id = given[0]!;
    let written = 0;
    for (let at = 0; at + 1 < limit && !stopped; at++) {
      const started = performance.now();
      const { logits, next } = await step(id, at, cache);
      cache = next;
      const known = given[at + 1];
      id = known ?? (await sampleTokens(logits, sampling))[0]!;
      if ('dispose' in logits) logits.dispose();
      if (known === undefined) written++;
      if (id === END || id === START_TOKEN) break;
      tell({ id, text: text(id), given: known !== undefined, milliseconds: performance.now() - started });
      // A message to stop is only heard between tasks.
      await new Promise<void>((resolve) => {
        turns.port1.onmessage = () => resolve();
        turns.port2.postMessage(null);
      });
    }
    return written;
  },
  stop: () => {
    stopped = true;
  },
} satisfies Writer);
const turns = new MessageChannel();
const START_TOKEN = 1;

function blankCache({ inputs, gpuDevice: device }: Session): Feeds {
  return Object.fromEntries(
    inputs
      .filter((p) => p.name.startsWith('past_key_values'))
      .map(({ name, dtype, shape }) => {
        const [, heads, , width] = shape as readonly [unknown, number, unknown, number];
        if (dtype !== 'float32') throw new Error(`${name} is ${dtype}; the page keeps its cache in float32`);
        const count = heads * PLACES * width;
        if (device === null) return [name, tensor('float32', [1, heads, PLACES, width], new Float32Array(count))];
        const buffer = device.createBuffer({
          size: 4 * count,
          usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
          label: name,
        });
        return [name, gpuTensor('float32', [1, heads, PLACES, width], buffer, { device })];
      }),
  );
}

/** Runs the token at a place of the text, with what the cache holds of those before it. */
async function step(id: number, at: number, cache: Feeds): Promise<{ logits: Tensor | GpuTensor; next: Feeds }> {
  const mask = new BigInt64Array(PLACES).fill(1n, 0, at + 1);
  const feeds = {
    input_ids: tensor('int64', [1, 1], BigInt64Array.of(BigInt(id))),
    attention_mask: tensor('int64', [1, PLACES], mask),
    ...cache,
  };
  const present = (name: string): string => name.replace('past_key_values', 'present');
  const places = Object.entries(cache).map(([name, t]): [string, 'cpu' | GpuTensor] => [
    present(name),
    'buffer' in t ? t : 'cpu',
  ]);
  const results: Record<string, Value | GpuTensor> = await session!.run(feeds, {
    outputs: { ...Object.fromEntries(places), logits: session!.gpuDevice ? 'gpu' : 'cpu' },
  });
  const logits = results['logits'] as Tensor | GpuTensor;
  if (logits.shape.at(-1) !== VOCABULARY)
    throw new Error(`the model knows ${logits.shape.at(-1)} tokens; the page has the ${VOCABULARY} of stories260K`);
  return { logits, next: Object.fromEntries(Object.keys(cache).map((name) => [name, results[present(name)]!])) };
}
