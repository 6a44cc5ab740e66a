import type { Order, Report } from './thread.ts';
import { makeThread, startWorker } from './thread.ts';

/** A worker thread, in Node or in a browser. */
export interface Lane {
  post(
    message: Order | readonly Order[] | { readonly self: number; readonly control: Int32Array | null },
    transfer?: readonly ArrayBuffer[],
  ): void;
  /** Keeps Node from ending while something is waited for. */
  hold(yes: boolean): void;
  stop(): void;
}
/** What a lane tells: reports of its thread, and that it is no more. */
export interface Listener {
  heard(report: Report): void;
  gone(reason: string): void;
}

/** Functions whose names a bundler wants to keep call this. */
const SOURCE = (port: string): string => `var __name=(f)=>f;(${startWorker})(${port},${makeThread})`;
/** The parts of Node's module that are used. */
interface NodeWorkers {
  readonly Worker: new (code: string, options: { eval: true; name: string; execArgv: readonly string[] }) => NodeWorker;
}
interface NodeWorker {
  postMessage(message: unknown, transfer?: readonly unknown[]): void;
  on(event: string, f: (of: never) => void): void;
  ref(): void;
  unref(): void;
  terminate(): Promise<number>;
}
/** The name of a module of Node's, so written that no bundler for browsers sees one. */
export const nodeModule = (name: string): string => ['node', name].join(':');
export const inNode = typeof process !== 'undefined' && process.versions?.node !== undefined;

/** Starts a worker from the text of `startWorker`, so that there is no file to host. @throws what the machine says */
export async function openLane(listener: Listener): Promise<Lane> {
  if (inNode) {
    const name = nodeModule('worker_threads');
    const { Worker } = (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as NodeWorkers;
    const worker = new Worker(SOURCE(`require(${JSON.stringify(name)}).parentPort`), {
      eval: true,
      name: 'sardonyx',
      execArgv: [],
    });
    worker.on('message', (report: Report) => listener.heard(report));
    worker.on('error', (e: Error) => listener.gone(`a worker failed: ${e.message}`));
    worker.on('exit', () => listener.gone('a worker ended'));
    worker.unref();
    return {
      post: (message, transfer) => worker.postMessage(message, transfer),
      hold: (yes) => (yes ? worker.ref() : worker.unref()),
      stop: () => void worker.terminate(),
    };
  }
  const url = URL.createObjectURL(new Blob([SOURCE('self')], { type: 'text/javascript' }));
  const worker = new Worker(url, { name: 'sardonyx' });
  worker.onmessage = ({ data }) => {
    URL.revokeObjectURL(url);
    listener.heard(data as Report);
  };
  worker.onerror = (e) => {
    e.preventDefault();
    listener.gone(
      e.message
        ? `a worker failed: ${e.message}`
        : "no worker starts from a blob: URL; does the page's Content-Security-Policy allow worker-src blob: ?",
    );
  };
  return {
    post: (message, transfer) => worker.postMessage(message, transfer ? [...transfer] : []),
    hold: () => undefined,
    stop: () => worker.terminate(),
  };
}
