/** In the thread of the sound: hands its samples on in frames, through a port that leads straight to the worker. */
declare const registerProcessor: (name: string, processor: unknown) => void;
declare const AudioWorkletProcessor: new () => { readonly port: MessagePort };

const FRAME = 512;

class Frames extends AudioWorkletProcessor {
  #to: MessagePort | null = null;
  #frame = new Float32Array(FRAME);
  #filled = 0;

  constructor() {
    super();
    this.port.onmessage = ({ data }: MessageEvent<MessagePort | null>) => {
      this.#to = data;
    };
  }

  process([input]: Float32Array[][]): boolean {
    const block = input?.[0];
    if (block === undefined || this.#to === null) return true;
    this.#frame.set(block, this.#filled);
    this.#filled += block.length;
    if (this.#filled === FRAME) {
      this.#to.postMessage(this.#frame, [this.#frame.buffer]);
      this.#frame = new Float32Array(FRAME);
      this.#filled = 0;
    }
    return true;
  }
}
registerProcessor('frames', Frames);
