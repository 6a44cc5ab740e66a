/**
 * Turns of the event loop in a run that could keep it to itself: timers, messages and clicks, of which its signal may
 * be the answer.
 */

/** A run with a signal gives others their turn this often. */
export const PATIENCE_MS = 50;
export const pause = (): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve);
  });

/** When the run of a signal began, or others last had their turn in it. */
const heard = new WeakMap<AbortSignal, number>();
export const begin = (signal: AbortSignal | undefined): void => {
  if (signal) heard.set(signal, performance.now());
};

/**
 * Between two steps of a run: to be waited for where it is time for others, after whose turn the signal may have
 * stopped it. @throws the signal's reason
 */
export function listen(signal: AbortSignal | undefined): Promise<void> | undefined {
  if (signal === undefined) return undefined;
  signal.throwIfAborted();
  if (performance.now() - (heard.get(signal) ?? 0) < PATIENCE_MS) return undefined;
  return pause().then(() => {
    begin(signal);
    signal.throwIfAborted();
  });
}
