import { SardonyxError } from '../../core/errors.ts';
import { type Call, type Failure, makeThread, type Order, type Report, type Thread } from './thread.ts';
import { type Lane, openLane } from './worker.ts';

/** How a run of calls ended, and the bytes that were asked for. */
export interface Outcome {
  readonly failure: Failure | null;
  readonly bytes: readonly Uint8Array<ArrayBuffer>[];
}
type Kept = Extract<Order, { to: 'space' | 'code' | 'list' }>;

/**
 * Threads that work for the sessions of this process: the caller's own or a worker in its stead, and helpers that share
 * its memory.
 */
export interface Crew {
  readonly threads: number;
  /** A worker runs the lists. */
  readonly remote: boolean;
  /** Why there are fewer threads than wanted. */
  readonly reason: string | undefined;
  /** Workers now, for tests: thread 0 is one only where `remote`. */
  readonly lanes: readonly (Lane | undefined)[];
  /** A helper has come, for tests. */
  readonly ready: boolean;
  /** The caller's own thread, unless `remote`. */
  readonly local: Thread | null;
  /**
   * Tells all threads that need to know; spaces, codes and lists are told again to workers that start later. @throws
   * what the engine throws, if not remote
   */
  order(order: Exclude<Order, { to: 'run' | 'stop' }>, transfer?: readonly ArrayBuffer[]): void;
  /** Are threads told of this module? If so, they go on knowing it until lists that call it have come and gone. */
  knows(code: number): boolean;
  /** Lists with calls to share want helpers; they come when they come. */
  wantHelpers(): void;
  /** Remote: does calls of a list, then reads. @throws device_lost, or the signal's reason */
  run(order: Omit<Extract<Order, { to: 'run' }>, 'to' | 'id'>, signal: AbortSignal | undefined): Promise<Outcome>;
  /** A worker died: what it was doing is lost. */
  readonly lost: string | null;
  /** Starts anew after a loss; spaces whose memory was lost too are filled by their `restore`. */
  repair(): Promise<void>;
  /** Called when a space's memory has to be filled again. */
  readonly restores: Map<number, () => Promise<void>>;
  leave(): void;
}

/** Where `makeThread` looks in the memory that threads share. */
const WAKE = 48;
const READY = 50;
const MAIL = 64;

/** Modules that are kept though no list calls them: those of sizes that come again. */
const SPARE = 256;
/** Orders and bytes that go to a worker in one message. */
const BATCH = 64;
const BATCH_BYTES = 1 << 20;

async function startCrew(threads: number, remote: boolean, left: () => boolean): Promise<Crew> {
  const restores = new Map<number, () => Promise<void>>();
  let repairing: Promise<void> | null = null;
  const spaces = new Map<number, Extract<Order, { to: 'space' }>>();
  const codes = new Map<number, Kept>();
  /** How many lists call a module, and, oldest first, those that none calls any more. */
  const callers = new Map<number, number>();
  const idle = new Set<number>();
  const lists = new Map<number, Extract<Order, { to: 'list' }>>();
  const pending = new Map<
    number,
    { resolve: (o: Outcome) => void; reject: (e: unknown) => void; signal: AbortSignal | undefined }
  >();
  let control: Int32Array | null = null;
  let local: Thread | null = null;
  let lanes: (Lane | undefined)[] = [];
  let helped = false;
  let lost: string | null = null;
  let reason: string | undefined;
  let epoch = 0;
  let runs = 0;
  /** What worker 0 is told of its memory, on its way in one message: a message costs as much as many orders. */
  let waiting: { orders: Order[]; transfer: ArrayBuffer[]; bytes: number } | null = null;

  /**
   * To a worker. Helpers sleep in shared memory, not at their port: they are woken, and count what they got. Calls that
   * are not shared are not their business.
   */
  const post = (i: number, order: Order, transfer?: readonly ArrayBuffer[]): void => {
    const lane = lanes[i];
    if (lane === undefined) return;
    if (i === 0) {
      const small = order.to === 'write' || order.to === 'grow' || order.to === 'call';
      waiting ??= { orders: [], transfer: [], bytes: 0 };
      waiting.orders.push(order);
      waiting.transfer.push(...(transfer ?? []));
      if (order.to === 'write') waiting.bytes += order.bytes.byteLength;
      if (small && waiting.orders.length < BATCH && waiting.bytes < BATCH_BYTES) return;
      const { orders, transfer: all } = waiting;
      waiting = null;
      return lane.post(orders, all);
    }
    if (order.to === 'write' || order.to === 'grow' || order.to === 'call') return;
    Atomics.add(control!, MAIL + i, 1);
    lane.post(
      order.to === 'list' ? { ...order, calls: order.calls.map((c) => (c.parts > 1 ? c : { ...c, args: [] })) } : order,
    );
    Atomics.add(control!, WAKE, 1);
    Atomics.notify(control!, WAKE);
  };
  const count = (calls: readonly Call[], by: 1 | -1): void => {
    for (const code of new Set(calls.map((c) => c.code))) {
      const n = (callers.get(code) ?? 0) + by;
      if (n > 0) callers.set(code, n);
      else callers.delete(code);
      idle.delete(code);
      if (n === 0) idle.add(code);
    }
  };
  const dropList = (list: number): void => {
    count(lists.get(list)?.calls ?? [], -1);
    lists.delete(list);
  };
  const stop = (): void => {
    epoch++;
    for (const lane of lanes) lane?.stop();
    lanes = [];
    waiting = null;
  };
  const lose = (why: string): void => {
    lost = why;
    stop();
    for (const { reject } of pending.values())
      reject(new SardonyxError('device_lost', `${why}; run again to start new ones`));
    pending.clear();
  };
  const heard = (report: Exclude<Report, { ready: true }>): void => {
    const run = pending.get(report.id);
    pending.delete(report.id);
    if (pending.size === 0) lanes[0]?.hold(false);
    if (report.stopped) run?.reject(run.signal?.reason);
    else run?.resolve(report);
  };
  /** Resolves once the worker runs; rejects if it cannot. */
  const startLane = (i: number): Promise<void> => {
    const born = epoch;
    return new Promise((resolve, reject) => {
      let ready = false;
      openLane({
        heard: (report) => {
          if (born !== epoch) return;
          if ('ready' in report) {
            ready = true;
            lanes[i]?.hold(false);
            resolve();
          } else heard(report);
        },
        gone: (why) => {
          if (born !== epoch) return;
          if (ready) lose(why);
          else {
            lanes[i] = undefined;
            reject(new Error(why));
          }
        },
      })
        .then((lane) => {
          if (born !== epoch) return lane.stop();
          lanes[i] = lane;
          if (i === 0) lane.hold(true);
          if (i > 0) Atomics.store(control!, MAIL + i, 0);
          lane.post({ self: i, control });
          for (const order of [...spaces.values(), ...codes.values(), ...lists.values()]) post(i, order);
        })
        .catch(reject);
    });
  };
  const startHelpers = (): void => {
    for (let i = 1; i < threads; i++)
      startLane(i).catch((e: Error) => {
        reason = e.message;
      });
  };
  const start = async (): Promise<void> => {
    control = threads > 1 ? new Int32Array(new SharedArrayBuffer(4 * (MAIL + threads))) : null;
    lost = null;
    if (remote) await startLane(0);
    else {
      local = makeThread(control, 0);
      for (const order of [...spaces.values(), ...codes.values(), ...lists.values()]) local.obey(order);
    }
    if (helped) startHelpers();
  };
  await start();

  return {
    threads,
    remote,
    restores,
    get reason() {
      return reason;
    },
    get lanes() {
      return lanes;
    },
    get ready() {
      return control !== null && Atomics.load(control, READY) > 0;
    },
    get local() {
      return local;
    },
    get lost() {
      return lost;
    },
    order(order, transfer) {
      if (order.to === 'space') spaces.set(order.space, order);
      if (order.to === 'code') codes.set(order.code, order);
      if (order.to === 'list') {
        lists.set(order.list, order);
        count(order.calls, 1);
      }
      if (order.to === 'drop') dropList(order.list);
      if (order.to === 'close') {
        spaces.delete(order.space);
        restores.delete(order.space);
        for (const [n, l] of lists) if (l.space === order.space) dropList(n);
      }
      if (order.to === 'grow') {
        const space = spaces.get(order.space)!;
        spaces.set(order.space, { ...space, pages: space.pages + order.pages });
      }
      try {
        local?.obey(order);
      } catch (e) {
        if (order.to === 'list') dropList(order.list);
        throw e;
      }
      lanes.forEach((_, i) => post(i, order, transfer));
      for (const code of idle) {
        if (idle.size <= SPARE) break;
        idle.delete(code);
        codes.delete(code);
        local?.obey({ to: 'forget', code });
        lanes.forEach((_, i) => post(i, { to: 'forget', code }));
      }
    },
    knows(code) {
      idle.delete(code);
      return codes.has(code);
    },
    wantHelpers() {
      if (helped || threads === 1) return;
      helped = true;
      startHelpers();
    },
    run: (order, signal) =>
      new Promise((resolve, reject) => {
        const id = runs++;
        const stop = (): void => post(0, { to: 'stop', id });
        const end =
          <T>(f: (x: T) => void) =>
          (x: T): void => {
            signal?.removeEventListener('abort', stop);
            f(x);
          };
        pending.set(id, { resolve: end(resolve), reject: end(reject), signal });
        signal?.addEventListener('abort', stop);
        lanes[0]!.hold(true);
        post(0, { to: 'run', id, ...order });
      }),
    repair() {
      repairing ??= (async () => {
        await start();
        if (remote && control === null) for (const restore of restores.values()) await restore();
      })().finally(() => {
        repairing = null;
      });
      return repairing;
    },
    leave() {
      if (!left()) return;
      stop();
      helped = false;
      if (control !== null) Atomics.store(control, READY, 0);
    },
  };
}

const crews = new Map<string, { readonly crew: Promise<Crew>; users: number }>();

/**
 * The crew of this process with so many threads; its workers end when all have left. @throws what keeps a worker from
 * starting, if `remote`
 */
export async function joinCrew(threads: number, remote: boolean): Promise<Crew> {
  const key = `${threads} ${remote}`;
  const left = (): boolean => {
    const entry = crews.get(key)!;
    if (--entry.users > 0) return false;
    if (remote) crews.delete(key); // the other keeps what it has compiled
    return true;
  };
  const entry = crews.get(key) ?? { crew: startCrew(threads, remote, left), users: 0 };
  crews.set(key, entry);
  entry.users++;
  try {
    return await entry.crew;
  } catch (e) {
    crews.delete(key);
    throw e;
  }
}

/** The crews at work, for tests. */
export const crewsAtWork = (): Promise<readonly Crew[]> => Promise.all([...crews.values()].map((c) => c.crew));
