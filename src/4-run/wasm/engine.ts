import { SardonyxError } from '../../core/errors.ts';
import type { WasmCaps } from '../../core/plan.ts';
import type { EngineState } from '../executable.ts';
import { PATIENCE_MS, pause } from '../turns.ts';
import { type Crew, joinCrew, type Outcome } from './crew.ts';
import { coresToUse, fma } from './features.ts';
import { type Heap, makeHeap, PAGE } from './heap.ts';
import type { Call, Range } from './thread.ts';

/** How WASM is to be run. */
export interface EngineOptions {
  /** Threads that share large calls. Default: half of the cores, 4 at most; 1 where memory cannot be shared. */
  readonly threads?: number;
  /** Run in a worker, so that the caller's thread stays free. Default: only in a page. */
  readonly worker?: boolean;
}

/** Memory of one session where WASM runs, and the calls over it. */
export interface Space {
  readonly heap: Heap;
  write(at: number, bytes: Uint8Array): void;
  /** The bytes themselves until the memory grows; null where this thread has them not. */
  view(at: number, bytes: number): Uint8Array<ArrayBuffer> | null;
  /** A module's number; the same bytes have the same. */
  code(name: string, bytes: Uint8Array<ArrayBuffer>): number;
  /** Calls a module's function once, behind all that was written before. @throws device_fault */
  call(name: string, bytes: Uint8Array<ArrayBuffer>, args: readonly number[]): void;
  /** Number of a list of calls. @throws device_fault if the engine refuses a module */
  list(calls: readonly Call[]): number;
  drop(list: number): void;
  /**
   * Calls [from, until), then reads. At once where WASM runs in place and nothing has to be waited for. @throws
   * device_lost, or the signal's reason
   */
  run(
    list: number,
    from: number,
    until: number,
    reads: readonly Range[],
    signal?: AbortSignal,
  ): Outcome | Promise<Outcome>;
  /** Resolves when all orders are carried out. @throws out_of_memory, device_fault */
  settle(): Promise<void>;
  /** Starts anew if workers died since. */
  readonly lost: boolean;
  repair(): Promise<void>;
  close(): void;
}

export interface Engine {
  readonly caps: WasmCaps;
  /** Plans made from now on use this tile; undefined: the default. */
  useTile(tile: WasmCaps['tile']): void;
  readonly state: EngineState;
  /** `restore` writes what must survive the loss of the memory. */
  open(restore: () => Promise<void>): Space;
  close(): void;
}

let numbers = 0;
/** Modules by their bytes, of which the planner hands out one array per text. */
const codes = new WeakMap<Uint8Array, number>();

/** Where and on how many threads WASM runs. @throws option_invalid */
export async function openEngine(options: EngineOptions = {}): Promise<Engine> {
  const { threads: wanted, worker } = options;
  if (wanted !== undefined && !(Number.isInteger(wanted) && wanted >= 1 && wanted <= 64))
    throw new SardonyxError('option_invalid', `threads must be a whole number from 1 to 64, not ${wanted}`);
  const inPage = typeof window !== 'undefined' && typeof document !== 'undefined';
  const reasons: string[] = [];
  const isolated =
    typeof SharedArrayBuffer !== 'undefined' && (typeof crossOriginIsolated === 'undefined' || crossOriginIsolated);
  let threads = wanted ?? (await coresToUse());
  if (threads > 1 && !isolated) {
    threads = 1;
    reasons.push('one thread: memory is shared only in pages that are cross-origin isolated');
  }
  let crew: Crew | null = null;
  if (worker ?? (inPage && typeof Worker !== 'undefined')) {
    try {
      crew = await joinCrew(threads, true);
    } catch (e) {
      reasons.push(`in the caller's thread: ${(e as Error).message}`);
    }
  }
  if (crew === null && threads > 1 && inPage) {
    threads = 1;
    reasons.push('one thread: a page may not wait for others');
  }
  crew ??= await joinCrew(threads, false);
  const joined = crew;
  let caps: WasmCaps = { kind: 'wasm', fma: fma(), shared: threads > 1, threads };
  return {
    get caps() {
      return caps;
    },
    useTile: (tile) => {
      if (tile) caps = { ...caps, tile };
    },
    get state() {
      const all = [...reasons, ...(joined.reason === undefined ? [] : [`one thread: ${joined.reason}`])];
      return {
        threads: joined.reason === undefined ? threads : 1,
        worker: joined.remote,
        ...(all.length > 0 ? { reason: all.join('; ') } : {}),
      };
    },
    open: (restore) => openSpace(joined, threads > 1, restore),
    close: () => joined.leave(),
  };
}

/** The largest shared memory that the engine reserves, from 4 GiB down. */
function sharedMemory(): { memory: WebAssembly.Memory; most: number } {
  for (let most = 65536; ; most /= 2) {
    try {
      return { memory: new WebAssembly.Memory({ initial: 1, maximum: most, shared: true }), most };
    } catch (cause) {
      if (most <= 2048)
        throw new SardonyxError(
          'out_of_memory',
          `the engine has no shared memory of ${most * PAGE} bytes; try threads: 1`,
          [],
          { cause },
        );
    }
  }
}

function openSpace(crew: Crew, shared: boolean, restore: () => Promise<void>): Space {
  const space = numbers++;
  const { memory: given, most } = shared ? sharedMemory() : { memory: null, most: 65536 };
  crew.order({ to: 'space', space, memory: given, pages: 1, most });
  crew.restores.set(space, restore);
  let view = new Uint8Array(0);
  /** The memory, where this thread has it. */
  const here = (): Uint8Array => {
    const { buffer } = given ?? crew.local!.memory(space);
    return view.buffer === buffer ? view : (view = new Uint8Array(buffer as ArrayBuffer));
  };
  const reachable = given !== null || !crew.remote;
  const read = (reads: readonly Range[]): Uint8Array<ArrayBuffer>[] =>
    reads.map(([at, n]) => here().slice(at, at + n) as Uint8Array<ArrayBuffer>);
  /** Functions that this thread calls where it writes to memory that it shares with a worker: they keep its order. */
  const own = new Map<Uint8Array, (...args: number[]) => unknown>();
  const mine = given !== null && crew.remote;

  async function finish(
    list: number,
    call: number,
    until: number,
    reads: readonly Range[],
    signal: AbortSignal | undefined,
  ): Promise<Outcome> {
    for (let status = -1; status < 0; ) {
      await pause();
      if (crew.lost !== null) throw new SardonyxError('device_lost', `${crew.lost}; run again to start new ones`);
      status = crew.local!.join();
      if (status > 0) return { failure: { call, why: 1 }, bytes: [] };
    }
    return goOn(list, call + 1, until, reads, signal);
  }
  const goOn = (
    list: number,
    from: number,
    until: number,
    reads: readonly Range[],
    signal: AbortSignal | undefined,
  ): Outcome | Promise<Outcome> => {
    const local = crew.local!;
    const late = signal === undefined ? Infinity : performance.now() + PATIENCE_MS;
    let call = from;
    try {
      for (; call < until; call++) {
        const status = local.exec(list, call);
        if (status > 0) return { failure: { call, why: 1 }, bytes: [] };
        if (status < 0) return finish(list, call, until, reads, signal);
        if (signal?.aborted) signal.throwIfAborted();
        if (late < Infinity && performance.now() > late)
          return pause().then(() => goOn(list, call + 1, until, reads, signal));
      }
    } catch (e) {
      if (signal?.aborted) throw e;
      return { failure: { call, why: (e as Error).message }, bytes: [] };
    }
    return { failure: null, bytes: read(reads) };
  };

  return {
    heap: makeHeap(
      (pages) => (given === null ? crew.order({ to: 'grow', space, pages }) : void given.grow(pages)),
      most * PAGE,
    ),
    write(at, bytes) {
      if (reachable) return here().set(bytes, at);
      const copy = bytes.slice();
      crew.order({ to: 'write', space, at, bytes: copy }, [copy.buffer]);
    },
    view: (at, bytes) => (reachable ? (here().subarray(at, at + bytes) as Uint8Array<ArrayBuffer>) : null),
    code(name, bytes) {
      let code = codes.get(bytes);
      if (code === undefined) codes.set(bytes, (code = numbers++));
      if (!crew.knows(code)) crew.order({ to: 'code', code, name, bytes });
      return code;
    },
    call(name, bytes, args) {
      try {
        if (!mine) return crew.order({ to: 'call', space, code: this.code(name, bytes), args });
        let run = own.get(bytes);
        if (run === undefined) {
          const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory: given } });
          own.set(bytes, (run = exports['run'] as (...args: number[]) => unknown));
        }
        run(...args);
      } catch (e) {
        throw new SardonyxError('device_fault', (e as Error).message, [], { cause: e });
      }
    },
    list(calls) {
      const list = numbers++;
      if (calls.some((c) => c.parts > 1)) crew.wantHelpers();
      try {
        crew.order({ to: 'list', list, space, calls });
      } catch (e) {
        throw new SardonyxError('device_fault', (e as Error).message, [], { cause: e });
      }
      return list;
    },
    drop: (list) => crew.order({ to: 'drop', list }),
    run(list, from, until, reads, signal) {
      if (!crew.remote) return goOn(list, from, until, reads, signal);
      const outcome = crew.run({ space, list, from, until, reads: reachable ? [] : reads }, signal);
      return reachable ? outcome.then((o) => (o.failure ? o : { ...o, bytes: read(reads) })) : outcome;
    },
    async settle() {
      if (!crew.remote) return;
      const { failure } = await crew.run({ space, list: 0, from: 0, until: 0, reads: [] }, undefined);
      if (failure)
        throw new SardonyxError(failure.during === 'grow' ? 'out_of_memory' : 'device_fault', String(failure.why));
    },
    get lost() {
      return crew.lost !== null;
    },
    repair: () => crew.repair(),
    close: () => crew.order({ to: 'close', space }),
  };
}
