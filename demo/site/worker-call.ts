/**
 * Calls into a worker as promises, and what it tells between them. The library stays in the worker: a page's own script
 * is a few kilobytes.
 */

interface Asked {
  readonly id: number;
  readonly method: string;
  readonly argument: unknown;
}
type Answered =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: Failure }
  | { readonly event: unknown };
/** An error as it travels: its class would be lost on the way. */
interface Failure {
  readonly code: string | null;
  readonly message: string;
}

const failureOf = (e: unknown): Failure => {
  const { code, message } = (e ?? {}) as { code?: unknown; message?: unknown };
  return { code: typeof code === 'string' ? code : null, message: typeof message === 'string' ? message : String(e) };
};

/** What a method of one argument, or none, is called with. */
type Arguments<F> = F extends () => unknown
  ? []
  : F extends (argument: infer A) => unknown
    ? [argument: A, transfer?: Transferable[]]
    : never;

/** The page's end of a worker whose methods are those of `M`. */
export interface Caller<M, E> {
  call<K extends keyof M & string>(
    method: K,
    ...argument: Arguments<M[K]>
  ): Promise<M[K] extends (...all: never[]) => infer R ? Awaited<R> : never>;
  onEvent: (event: E) => void;
  /** Ends the worker; calls under way are never answered. */
  end(): void;
}

export function callWorker<M, E = never>(worker: Worker): Caller<M, E> {
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (e: unknown) => void }>();
  let next = 0;
  const caller: Caller<M, E> = {
    call: (method, ...[argument, transfer]) =>
      new Promise((resolve, reject) => {
        waiting.set(next, { resolve, reject });
        worker.postMessage(
          { id: next++, method, argument } satisfies Asked,
          (transfer as Transferable[] | undefined) ?? [],
        );
      }),
    onEvent: () => undefined,
    end: () => worker.terminate(),
  };
  worker.onmessage = ({ data }: MessageEvent<Answered>) => {
    if ('event' in data) return caller.onEvent(data.event as E);
    const { resolve, reject } = waiting.get(data.id)!;
    waiting.delete(data.id);
    if ('error' in data) reject(Object.assign(new Error(data.error.message), { code: data.error.code }));
    else resolve(data.value as never);
  };
  worker.onerror = (e) => {
    const error = new Error(e.message || 'the worker cannot be loaded');
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  return caller;
}

/**
 * The worker's end: answers calls with `methods`, each of which takes one argument; gives the function that tells the
 * page something.
 */
export function answerCalls<E = never>(
  methods: Readonly<Record<string, (argument: never) => unknown>>,
): (event: E, transfer?: Transferable[]) => void {
  const post = (message: Answered, transfer: Transferable[] = []): void => self.postMessage(message, { transfer });
  self.onmessage = async ({ data: { id, method, argument } }: MessageEvent<Asked>) => {
    try {
      post({ id, value: await methods[method]!(argument as never) });
    } catch (e) {
      post({ id, error: failureOf(e) });
    }
  };
  return (event, transfer) => post({ event }, transfer);
}
