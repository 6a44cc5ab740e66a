/** Runs Silero VAD over frames of sound as they come from the audio thread; the page hears the probabilities alone. */
import { type Device, type Feeds, Session, type Tensor, tensor } from 'sardonyx';
import { answerCalls } from '../site/worker-call.ts';

export interface Listener {
  load(request: {
    model: Uint8Array;
    device: Exclude<Device, GPUDevice>;
  }): Promise<{ device: Session['device']; milliseconds: number }>;
  /** Starts anew with frames of 512 samples at 16 kHz from this port. */
  listen(port: MessagePort): void;
}
/**
 * One frame: how likely it is speech, its lowest and highest sample, how long the model took, and how many frames wait
 * behind it.
 */
export interface Heard {
  readonly probability: number;
  readonly low: number;
  readonly high: number;
  readonly milliseconds: number;
  readonly waiting: number;
}

const RATE = 16_000;
/** The model wants the end of the frame before, in front of each frame. */
const CONTEXT = 64;
const STATE = [2, 1, 128] as const;

let session: Session | null = null;
let context = new Float32Array(CONTEXT);
let state: Tensor = tensor('float32', STATE, new Float32Array(256));
let queue: Float32Array[] = [];
let busy = false;

const tell = answerCalls<Heard | { readonly failed: string }>({
  load: async ({ model, device }) => {
    const started = performance.now();
    await session?.release();
    session = await Session.load(model, { device });
    const names = session.inputs.map((p) => p.name);
    if (!names.includes('input') || !names.includes('state'))
      throw new Error(
        `this is no Silero VAD of version 5: it takes ${names.join(', ')}, and the page feeds input, state and sr`,
      );
    await probability(new Float32Array(512));
    return { device: session.device, milliseconds: performance.now() - started };
  },
  listen: (port) => {
    [context, state, queue] = [new Float32Array(CONTEXT), tensor('float32', STATE, new Float32Array(256)), []];
    port.onmessage = ({ data }: MessageEvent<Float32Array>) => {
      queue.push(data);
      if (!busy) void drain();
    };
  },
} satisfies Listener);

async function probability(frame: Float32Array): Promise<number> {
  const input = new Float32Array(CONTEXT + frame.length);
  input.set(context);
  input.set(frame, CONTEXT);
  context = input.slice(-CONTEXT);
  const all: Feeds = {
    input: tensor('float32', [1, input.length], input),
    state,
    sr: tensor('int64', [], BigInt64Array.of(BigInt(RATE))),
  };
  const results = await session!.run(Object.fromEntries(session!.inputs.map(({ name }) => [name, all[name]!])));
  state = results['stateN'] as Tensor;
  return Number((results['output'] as Tensor).data[0]);
}

async function drain(): Promise<void> {
  busy = true;
  try {
    for (let frame = queue.shift(); frame !== undefined; frame = queue.shift()) {
      const started = performance.now();
      const p = await probability(frame);
      tell({
        probability: p,
        low: Math.min(...frame),
        high: Math.max(...frame),
        milliseconds: performance.now() - started,
        waiting: queue.length,
      });
    }
  } catch (e) {
    tell({ failed: (e as Error).message });
  }
  busy = false;
}
