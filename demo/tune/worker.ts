/** Tunes off the main thread. */
import { loadTuning, saveTuning, type TuneProgress, tuneModel, type TuningRecord, tuneStandard } from 'sardonyx/tune';
import { answerCalls } from '../site/worker-call.ts';

export interface Tuner {
  /**
   * Tunes what a model's plan uses, or without one the standard set; gives what was found until the time is over or
   * `stop` is called.
   */
  tune(request: {
    model: Uint8Array | null;
    dims: Readonly<Record<string, number>>;
    seconds: number;
  }): Promise<TuningRecord | null>;
  stop(): void;
  /** Keeps a record in this browser; how many adapters have one. */
  save(record: TuningRecord): Promise<number>;
}

let control = new AbortController();

const tell = answerCalls<TuneProgress>({
  tune: async ({ model, dims, seconds }) => {
    control = new AbortController();
    let last: TuningRecord | null = null;
    const onProgress = (progress: TuneProgress): void => {
      last = progress.record;
      tell(progress);
    };
    const options = { seconds, onProgress, signal: control.signal };
    try {
      return await (model === null ? tuneStandard(options) : tuneModel(model, { ...options, dims }));
    } catch (e) {
      if (control.signal.aborted) return last;
      throw e;
    }
  },
  stop: () => control.abort(),
  save: async (record) => {
    await saveTuning(record);
    return (await loadTuning()).length;
  },
} satisfies Tuner);
