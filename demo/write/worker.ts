/** Tells stories off the main thread, one token a run. */
import { type Device, type Feeds, type Results, Session, type Tensor, tensor } from 'sardonyx';
import { answerCalls } from '../site/worker-call.ts';
import { drawToken, type Sampling } from './sample.ts';
import { decoder, encode, END, VOCABULARY } from './tokenizer.ts';

export interface Writer {
  load(request: { model: Uint8Array; device: Exclude<Device, GPUDevice> }): Promise<{ device: Session['device']; milliseconds: number; bytes: number }>;
  /** Tells how a text goes on; resolves with how many tokens were written when the story ends, is stopped, or is as long as the cache. */
  write(request: { prompt: string; sampling: Sampling; tokens: number }): Promise<number>;
  stop(): void;
}
/** A token that was written, or read from the prompt. */
export interface Written { readonly id: number; readonly text: string; readonly given: boolean; readonly milliseconds: number }

/**
 * The cache has this many places from the first run on, and the attention mask says how many are filled: so dims never change, and one
 * plan tells the whole story.
 */
const PLACES = 256;

let session: Session | null = null;
let stopped = false;

const tell = answerCalls<Written>({
  load: async ({ model, device }) => {
    const started = performance.now();
    await session?.release();
    session = await Session.load(model, { device });
    const names = session.inputs.map((p) => p.name);
    for (const name of ['input_ids', 'attention_mask', 'past_key_values.0.key']) if (!names.includes(name)) throw new Error(`this model has no input ${name}; the page tells stories with decoders as onnxruntime-genai exports them`);
    await step(START_TOKEN, 0, emptyCache());
    return { device: session.device, milliseconds: performance.now() - started, bytes: session.bytes };
  },
  write: async ({ prompt, sampling, tokens }) => {
    stopped = false;
    const given = encode(prompt);
    const text = decoder();
    const limit = Math.min(tokens + given.length, PLACES);
    let cache: Feeds = emptyCache();
    let id = given[0]!;
    let written = 0;
    for (let at = 0; at + 1 < limit && !stopped; at++) {
      const started = performance.now();
      const results = await step(id, at, cache);
      cache = cacheOf(results);
      const known = given[at + 1];
      id = known ?? drawToken((results['logits'] as Tensor).data as ArrayLike<number>, sampling, Math.random);
      if (known === undefined) written++;
      if (id === END || id === START_TOKEN) break;
      tell({ id, text: text(id), given: known !== undefined, milliseconds: performance.now() - started });
      // A message to stop is only heard between tasks.
      await new Promise<void>((resolve) => { turns.port1.onmessage = () => resolve(); turns.port2.postMessage(null); });
    }
    return written;
  },
  stop: () => { stopped = true; },
} satisfies Writer);
const turns = new MessageChannel();
const START_TOKEN = 1;

const emptyCache = (): Feeds => Object.fromEntries(session!.inputs.filter((p) => p.name.startsWith('past_key_values')).map(({ name, dtype, shape }) => {
  const [, heads, , width] = shape as readonly [unknown, number, unknown, number];
  if (dtype !== 'float32') throw new Error(`${name} is ${dtype}; the page keeps its cache in float32`);
  return [name, tensor('float32', [1, heads, PLACES, width], new Float32Array(heads * PLACES * width))];
}));
const cacheOf = (results: Results): Feeds => Object.fromEntries(Object.entries(results).flatMap(([name, value]) => (name.startsWith('present') ? [[name.replace('present', 'past_key_values'), value]] : [])));

/** Runs the token at a place of the text, with what the cache holds of those before it. */
async function step(id: number, at: number, cache: Feeds): Promise<Results> {
  const mask = new BigInt64Array(PLACES).fill(1n, 0, at + 1);
  const results = await session!.run({ input_ids: tensor('int64', [1, 1], BigInt64Array.of(BigInt(id))), attention_mask: tensor('int64', [1, PLACES], mask), ...cache });
  const classes = (results['logits'] as Tensor).shape.at(-1);
  if (classes !== VOCABULARY) throw new Error(`the model knows ${classes} tokens; the page has the ${VOCABULARY} of stories260K`);
  return results;
}
