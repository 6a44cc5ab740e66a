/**
 * Long plans are submitted in slices of some milliseconds, two of them under way at a time: between slices a page
 * draws, other sessions have their turn, and a run can be aborted. How long a dispatch takes is learned from how long
 * the slices took.
 */
const UNDER_WAY = 2;
/** Before anything is known: the milliseconds of a workgroup, on the slow side, so that the first slice is short. */
const FIRST_GUESS = 0.1;
/**
 * One measurement changes an estimate by no more than this factor: clocks in pages are coarse, and others use the GPU
 * too.
 */
const STEP = 8;

/** What all sessions on a device share. */
interface Turns {
  underWay: number;
  lastDone: number;
  perUnit: number;
  readonly waiting: (() => void)[];
}
const devices = new WeakMap<GPUDevice, Turns>();

function turnsOf(device: GPUDevice): Turns {
  let turns = devices.get(device);
  if (turns === undefined) {
    const made: Turns = { underWay: 0, lastDone: 0, perUnit: FIRST_GUESS, waiting: [] };
    devices.set(device, (turns = made));
    // No slice of a lost device ends.
    void device.lost.then(() => {
      made.underWay = -Infinity;
      for (const go of made.waiting.splice(0)) go();
    });
  }
  return turns;
}

/** What the dispatches of a plan cost, as learned so far. */
export interface Costs {
  /** Milliseconds of a step; 0 for what is no dispatch. */
  of(step: number): number;
  /** Waits for a turn to submit; null: it is ours now. Whoever has a turn ends it with `submitted` or `leave`. */
  enter(): Promise<void> | null;
  leave(): void;
  /** Steps `from` to `to` have just been submitted: ends the turn when they are done, and learns from it. */
  submitted(from: number, to: number): void;
}

/** `units`: of each step its workgroups, 0 for what is no dispatch. */
export function makeCosts(device: GPUDevice, units: readonly number[]): Costs {
  const turns = turnsOf(device);
  const known = new Float64Array(units.length).fill(-1);
  const of = (i: number): number => (known[i]! >= 0 ? known[i]! : units[i]! * turns.perUnit);
  const leave = (): void => {
    turns.underWay--;
    const next = turns.waiting.shift();
    if (next !== undefined) {
      turns.underWay++;
      next();
    }
  };
  return {
    of,
    leave,
    enter() {
      if (turns.underWay < UNDER_WAY) {
        turns.underWay++;
        return null;
      }
      return new Promise<void>((resolve) => {
        turns.waiting.push(resolve);
      });
    },
    submitted(from, to) {
      let estimate = 0;
      let fresh = 0;
      for (let i = from; i < to; i++) {
        estimate += of(i);
        if (known[i]! < 0) fresh += units[i]!;
      }
      const begun = performance.now();
      const done = (): void => {
        const now = performance.now();
        const took = Math.max(0.001, now - Math.max(begun, turns.lastDone));
        turns.lastDone = now;
        if (estimate > 0) {
          const ratio = Math.min(STEP, Math.max(1 / STEP, took / estimate));
          for (let i = from; i < to; i++) known[i] = known[i]! < 0 ? of(i) * ratio : known[i]! * Math.sqrt(ratio);
          if (fresh > 0) turns.perUnit *= Math.sqrt(ratio);
        }
        leave();
      };
      device.queue.onSubmittedWorkDone().then(done, leave);
    },
  };
}
