/** Those who want to hear of a device's loss, and the reason once it is lost. */
interface Watch {
  reason: string | null;
  readonly listeners: Set<(reason: string) => void>;
}
const watches = new WeakMap<GPUDevice, Watch>();

/**
 * Calls `tell` when the device is lost, or soon if it is already, until the function returned is called. A device
 * outlives the sessions on it, and its `lost` promise holds every reaction for as long: so there is one for all of
 * them.
 */
export function onLoss(device: GPUDevice, tell: (reason: string) => void): () => void {
  let watch = watches.get(device);
  if (watch === undefined) {
    const made: Watch = { reason: null, listeners: new Set() };
    watches.set(device, (watch = made));
    void device.lost.then(({ reason, message }) => {
      made.reason = `${reason}: ${message}`;
      for (const listener of made.listeners) listener(made.reason);
      made.listeners.clear();
    });
  }
  const { reason, listeners } = watch;
  if (reason === null) listeners.add(tell);
  else queueMicrotask(() => tell(reason));
  return () => void listeners.delete(tell);
}
