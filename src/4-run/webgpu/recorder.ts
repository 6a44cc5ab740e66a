/**
 * Commands on their way to the queue: one encoder, whose compute pass stays open until something else must come
 * between.
 */
export interface Recorder {
  /** The open compute pass, if any. */
  readonly pass: GPUComputePassEncoder | null;
  /** Opens a compute pass. */
  begin(): GPUComputePassEncoder;
  /** The encoder, with no pass open. */
  encoder(): GPUCommandEncoder;
  /** Submits what was recorded. Writes to the queue are ordered with submits: it comes before them. */
  flush(): void;
  /** Forgets what was recorded. */
  drop(): void;
  /** Called once, behind the next submit. */
  submitted: (() => void) | null;
  /** Takes what the device says of each submit, while commands have buffers of the caller's. */
  checks: Promise<GPUError | null>[] | null;
}

export function makeRecorder(device: GPUDevice): Recorder {
  let encoder: GPUCommandEncoder | null = null;
  let pass: GPUComputePassEncoder | null = null;
  const endPass = (): void => {
    pass?.end();
    pass = null;
  };
  const recorder: Recorder = {
    get pass() {
      return pass;
    },
    begin() {
      encoder ??= device.createCommandEncoder();
      return (pass = encoder.beginComputePass());
    },
    encoder() {
      endPass();
      return (encoder ??= device.createCommandEncoder());
    },
    flush() {
      endPass();
      if (encoder !== null) {
        const { checks } = recorder;
        if (checks !== null) device.pushErrorScope('validation');
        device.queue.submit([encoder.finish()]);
        checks?.push(device.popErrorScope());
      }
      encoder = null;
      const { submitted } = recorder;
      recorder.submitted = null;
      submitted?.();
    },
    drop() {
      endPass();
      encoder = null;
      recorder.submitted = null;
    },
    submitted: null,
    checks: null,
  };
  return recorder;
}
