/**
 * What every thread of the WASM engine runs: the caller's own, the worker that stands in for it in a page, and the
 * workers that help. Both functions are sent to workers as their text, so they use nothing from outside themselves.
 */
import type { Split } from '../../core/plan.ts';

/**
 * A call of a plan with its addresses filled in, cut in `parts` of `size` items; one part: it is not shared. `short`:
 * it is, as long as that is measured to be quicker.
 */
export interface Call {
  readonly code: number;
  readonly args: readonly number[];
  readonly parts: number;
  readonly size: number;
  readonly split?: Split;
  readonly short?: boolean;
}
/** Bytes at an address. */
export type Range = readonly [at: number, bytes: number];
/**
 * A call that did not end well: its place in the list, and why: 1 a bad value, else what the engine said, perhaps at an
 * earlier order.
 */
export interface Failure {
  readonly call: number;
  readonly why: 1 | string;
  readonly during?: Order['to'];
}

/** What threads are told. A space is the memory of one session; without one given, the thread makes it. */
export type Order =
  | {
      readonly to: 'space';
      readonly space: number;
      readonly memory: WebAssembly.Memory | null;
      readonly pages: number;
      readonly most: number;
    }
  | { readonly to: 'code'; readonly code: number; readonly name: string; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly to: 'list'; readonly list: number; readonly space: number; readonly calls: readonly Call[] }
  | { readonly to: 'drop'; readonly list: number }
  | { readonly to: 'forget'; readonly code: number }
  | { readonly to: 'close'; readonly space: number }
  | { readonly to: 'grow'; readonly space: number; readonly pages: number }
  | { readonly to: 'write'; readonly space: number; readonly at: number; readonly bytes: Uint8Array }
  | { readonly to: 'call'; readonly space: number; readonly code: number; readonly args: readonly number[] }
  | {
      readonly to: 'run';
      readonly id: number;
      readonly space: number;
      readonly list: number;
      readonly from: number;
      readonly until: number;
      readonly reads: readonly Range[];
    }
  | { readonly to: 'stop'; readonly id: number };
/** What a worker that runs lists tells: it is there, or how a run ended. */
export type Report =
  | { readonly ready: true }
  | {
      readonly id: number;
      readonly failure: Failure | null;
      readonly stopped: boolean;
      readonly bytes: readonly Uint8Array<ArrayBuffer>[];
    };

export interface Thread {
  obey(order: Order): void;
  /**
   * Does a call with the others' help. 0: done; 1: a bad value; −1: others have not finished their parts, `join` again
   * later. @throws what the engine throws
   */
  exec(list: number, call: number): number;
  join(): number;
  /** Helps whoever calls, until there is mail. */
  serve(): void;
  /** Memory of a space. */
  memory(space: number): WebAssembly.Memory;
}

/**
 * A thread. `control` is memory that all threads of a crew share, or null of a thread alone: NEXT holds the number of
 * the running call in its upper bits and the next part to take in its lower six, so that taking a part of a call that
 * is over fails; DONE counts finished parts. `ahead`: modules are compiled when they come, while who sent them goes on.
 */
export function makeThread(control: Int32Array | null, self: number, ahead = false): Thread {
  type Run = (...args: number[]) => number | undefined;
  /** `took`: milliseconds that it takes alone, and shared. */
  interface Bound extends Call {
    readonly run: Run;
    readonly mine: number[];
    readonly took: [alone: number, shared: number];
    tries: number;
    started: number;
  }
  const NEXT = 0;
  const DONE = 16;
  const LIST = 32;
  const CALL = 33;
  const FAULT = 34;
  const WAKE = 48;
  const SLEEPERS = 49;
  const READY = 50;
  const MAIL = 64;
  const CLOSED = 63;
  const SPIN_MS = 0.02;
  const PATIENCE_MS = 100;
  const shared = control as Int32Array;
  const spaces = new Map<number, { memory: WebAssembly.Memory; runs: Map<number, Run> }>();
  const modules = new Map<number, { name: string; bytes: Uint8Array<ArrayBuffer>; module?: WebAssembly.Module }>();
  const lists = new Map<number, { space: number; calls: readonly Call[]; bound: (Bound | undefined)[] }>();
  let turn = 0;
  let current: Bound | null = null;
  let trap: unknown;
  let got = 0;
  let ready = false;

  const moduleOf = (code: number): WebAssembly.Module => {
    const m = modules.get(code)!;
    try {
      return (m.module ??= new WebAssembly.Module(m.bytes));
    } catch (e) {
      throw new Error(`the engine refuses kernel ${m.name}: ${(e as Error).message}`, { cause: e });
    }
  };
  const runOf = (space: number, code: number): Run => {
    const { memory, runs } = spaces.get(space)!;
    let run = runs.get(code);
    if (run === undefined) {
      const { exports } = new WebAssembly.Instance(moduleOf(code), { env: { memory } });
      runs.set(code, (run = exports['run'] as Run));
    }
    return run;
  };
  const callOf = (list: number, i: number): Bound | undefined => {
    const l = lists.get(list);
    const call = l?.calls[i];
    if (l === undefined || call === undefined) return undefined;
    let bound = l.bound[i];
    if (bound === undefined) {
      const mine = [...call.args];
      for (const [a, bytes] of call.split?.own ?? []) mine[a]! += self * bytes;
      bound = l.bound[i] = {
        ...call,
        run: runOf(l.space, call.code),
        mine,
        took: [Infinity, Infinity],
        tries: 0,
        started: 0,
      };
    }
    return bound;
  };
  const runPart = ({ run, args, mine, size, split }: Bound, part: number): number => {
    const from = part * size;
    mine[split!.items] = Math.min(size, args[split!.items]! - from);
    for (const [a, step] of split!.moves) mine[a] = args[a]! + from * step;
    return run(...mine) ?? 0;
  };
  /** Takes parts of the running call until none is left. */
  const help = (): void => {
    for (;;) {
      const next = Atomics.load(shared, NEXT);
      const part = next & CLOSED;
      if (part === CLOSED) return;
      const call = callOf(Atomics.load(shared, LIST), Atomics.load(shared, CALL));
      if (call === undefined || part >= call.parts) return;
      if (Atomics.compareExchange(shared, NEXT, next, next + 1) !== next) continue;
      let fault = 2;
      try {
        fault = runPart(call, part);
      } catch (e) {
        trap = e;
      }
      if (fault !== 0) Atomics.or(shared, FAULT, fault);
      if (Atomics.add(shared, DONE, 1) + 1 === call.parts) Atomics.notify(shared, DONE);
    }
  };
  /**
   * Is a short call to be shared? That depends on whether helpers get a core of their own, which a busy system may not
   * give them: both ways are tried at first, and the slower one now and then.
   */
  const shares = ({ took: [alone, together], tries }: Bound): boolean =>
    tries < 8 ? tries % 2 === 0 : together <= alone ? tries % 64 > 0 : tries % 16 === 0;
  const note = (call: Bound, way: 0 | 1): void => {
    const { took, started } = call;
    const before = took[way];
    const ms = performance.now() - started;
    took[way] =
      before === Infinity ? ms : ms < before ? (before + ms) / 2 : before + (Math.min(ms, 2 * before) - before) / 8;
  };
  const join = (): number => {
    const { parts } = current!;
    const until = performance.now() + SPIN_MS;
    for (let done: number; (done = Atomics.load(shared, DONE)) < parts; ) {
      if (performance.now() >= until && Atomics.wait(shared, DONE, done, PATIENCE_MS) === 'timed-out') return -1;
    }
    Atomics.store(shared, NEXT, (turn << 6) | CLOSED);
    current!.tries++;
    note(current!, 1);
    current = null;
    const fault = Atomics.load(shared, FAULT);
    if (fault & 2) throw trap ?? new Error('a part of the call failed on another thread');
    return fault;
  };

  return {
    join,
    memory: (space) => spaces.get(space)!.memory,
    obey(order) {
      got++;
      switch (order.to) {
        case 'space':
          spaces.set(order.space, {
            memory: order.memory ?? new WebAssembly.Memory({ initial: order.pages, maximum: order.most }),
            runs: new Map(),
          });
          break;
        case 'code':
          if (modules.has(order.code)) break;
          modules.set(order.code, { name: order.name, bytes: order.bytes });
          if (ahead) moduleOf(order.code);
          break;
        case 'list':
          lists.set(order.list, { space: order.space, calls: order.calls, bound: [] });
          if (self === 0) for (let i = 0; i < order.calls.length; i++) callOf(order.list, i);
          break;
        case 'drop':
          lists.delete(order.list);
          break;
        case 'forget':
          modules.delete(order.code);
          for (const { runs } of spaces.values()) runs.delete(order.code);
          break;
        case 'close':
          spaces.delete(order.space);
          break;
        case 'grow':
          spaces.get(order.space)!.memory.grow(order.pages);
          break;
        case 'write':
          new Uint8Array(spaces.get(order.space)!.memory.buffer).set(order.bytes, order.at);
          break;
        case 'call':
          runOf(order.space, order.code)(...order.args);
          break;
        default:
      }
    },
    exec(list, i) {
      const call = callOf(list, i)!;
      if (call.parts < 2 || control === null || current !== null || Atomics.load(shared, READY) === 0)
        return call.run(...call.args) ?? 0;
      call.started = performance.now();
      if (call.short && !shares(call)) {
        call.tries++;
        const fault = call.run(...call.args) ?? 0;
        note(call, 0);
        return fault;
      }
      current = call;
      trap = undefined;
      Atomics.store(shared, LIST, list);
      Atomics.store(shared, CALL, i);
      Atomics.store(shared, FAULT, 0);
      Atomics.store(shared, DONE, 0);
      turn = (turn + 1) & 0x3ffffff;
      Atomics.store(shared, NEXT, turn << 6);
      Atomics.add(shared, WAKE, 1);
      if (Atomics.load(shared, SLEEPERS) > 0) Atomics.notify(shared, WAKE, call.parts - 1);
      help();
      return join();
    },
    serve() {
      if (Atomics.load(shared, MAIL + self) !== got) return;
      if (!ready) Atomics.add(shared, READY, 1);
      ready = true;
      for (;;) {
        const seen = Atomics.load(shared, WAKE);
        help();
        if (Atomics.load(shared, MAIL + self) !== got) return;
        const until = performance.now() + SPIN_MS;
        let same = true;
        do {
          for (let i = 0; same && i < 64; i++) same = Atomics.load(shared, WAKE) === seen;
        } while (same && performance.now() < until);
        if (!same) continue;
        Atomics.add(shared, SLEEPERS, 1);
        Atomics.wait(shared, WAKE, seen);
        Atomics.sub(shared, SLEEPERS, 1);
      }
    },
  };
}

/** The few things that Node's `parentPort` and a worker's global scope have in common. */
export interface WorkerPort {
  postMessage(message: unknown, transfer?: readonly unknown[]): void;
  on?: (event: 'message', f: (data: unknown) => void) => void;
  onmessage?: (event: { readonly data: unknown }) => void;
}

/**
 * A worker: number 0 runs lists in the caller's stead, in turns of a few milliseconds so that all sessions get on and a
 * stop is heard; the others help. The first message is `{ self, control }`.
 */
export function startWorker(port: WorkerPort, make: typeof makeThread): void {
  const SLICE_MS = 16;
  let thread: Thread | null = null;
  let self = 0;
  type Running = Extract<Order, { to: 'run' }>;
  /** Runs that wait their turn, and what went wrong with a session's orders before. */
  let runs: { order: Running; next: number; joining: boolean }[] = [];
  const broken = new Map<number, { why: string; during: Order['to'] }>();
  /**
   * Lets messages in between turns: a timer would wait 4 ms in browsers, and Node empties a channel before it looks
   * elsewhere.
   */
  let again: () => void;

  const finish = ({ id, space, reads }: Running, failure: Failure | null, stopped: boolean): void => {
    const bytes =
      failure || stopped ? [] : reads.map(([at, n]) => new Uint8Array(thread!.memory(space).buffer).slice(at, at + n));
    port.postMessage(
      { id, failure, stopped, bytes } satisfies Report,
      bytes.map((b) => b.buffer),
    );
  };
  const turn = (): void => {
    const run = runs.shift();
    if (run === undefined) return;
    const { order } = run;
    const until = performance.now() + SLICE_MS;
    let failure: Failure | null = null;
    const lost = broken.get(order.space);
    if (lost !== undefined) failure = { call: run.next, ...lost };
    try {
      while (run.next < order.until && failure === null) {
        const status = run.joining ? thread!.join() : thread!.exec(order.list, run.next);
        run.joining = status < 0;
        if (run.joining) break;
        if (status > 0) failure = { call: run.next, why: 1 };
        run.next++;
        if (performance.now() > until) break;
      }
    } catch (e) {
      failure = { call: run.next, why: String((e as Error)?.message ?? e) };
    }
    if (failure !== null || run.next === order.until) finish(order, failure, false);
    else runs.push(run);
    if (runs.length > 0) again();
  };
  if (typeof setImmediate === 'function') again = () => void setImmediate(turn);
  else {
    const channel = new MessageChannel();
    channel.port1.onmessage = turn;
    again = () => channel.port2.postMessage(null);
  }

  const obey = (order: Order, thread: Thread): void => {
    if (order.to === 'run') {
      runs.push({ order, next: order.from, joining: false });
      if (runs.length === 1) again();
    } else if (order.to === 'stop') {
      const found = runs.find((r) => r.order.id === order.id && !r.joining);
      runs = runs.filter((r) => r !== found);
      if (found) finish(found.order, null, true);
    } else {
      try {
        thread.obey(order);
      } catch (e) {
        if ('space' in order) broken.set(order.space, { why: String((e as Error)?.message ?? e), during: order.to });
      }
    }
  };
  const hear = (message: unknown): void => {
    if (thread === null) {
      const { self: n, control } = message as { self: number; control: Int32Array | null };
      thread = make(control, (self = n), n === 0);
      port.postMessage({ ready: true } satisfies Report);
    } else {
      for (const order of Array.isArray(message) ? (message as Order[]) : [message as Order]) obey(order, thread);
    }
    if (self > 0) thread.serve();
  };
  if (port.on) port.on('message', hear);
  else port.onmessage = (event) => hear(event.data);
}
