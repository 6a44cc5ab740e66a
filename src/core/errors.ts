/**
 * What went wrong, as a stable name. Programs may switch on it; texts may change.
 *
 * source_*, integrity_*: reading it. model_*: the file. op_*, attribute_*, shape_*, type_*: a node. input_*: what `run`
 * was given. device_*: the machine.
 */
export type ErrorCode =
  | 'source_failed'
  | 'integrity_mismatch'
  | 'model_malformed'
  | 'model_not_onnx'
  | 'model_unsupported'
  | 'model_too_large'
  | 'external_data_missing'
  | 'external_data_unsafe'
  | 'op_unsupported'
  | 'op_failed'
  | 'attribute_invalid'
  | 'shape_mismatch'
  | 'type_mismatch'
  | 'value_invalid'
  | 'dimension_unbound'
  | 'input_missing'
  | 'input_unknown'
  | 'input_dtype'
  | 'input_shape'
  | 'input_device'
  | 'output_unknown'
  | 'output_invalid'
  | 'device_unavailable'
  | 'device_limit'
  | 'device_lost'
  | 'device_fault'
  | 'out_of_memory'
  | 'not_on_device'
  | 'aborted'
  | 'session_released'
  | 'value_disposed'
  | 'option_invalid'
  | 'internal';

/** Every error the library throws on purpose. `path` says where, outermost first: model, graph, node. */
export class SardonyxError extends Error {
  readonly code: ErrorCode;
  readonly path: readonly string[];

  constructor(code: ErrorCode, message: string, path: readonly string[] = [], options?: ErrorOptions) {
    super([`${code}: ${message}`, ...path.map((p, i) => `${'  '.repeat(i + 1)}in ${p}`)].join('\n'), options);
    this.name = 'SardonyxError';
    this.code = code;
    this.path = path;
    this.#text = message;
  }

  readonly #text: string;

  /** The same error, seen from one level further out. */
  within(place: string): SardonyxError {
    return new SardonyxError(
      this.code,
      this.#text,
      [place, ...this.path],
      this.cause === undefined ? {} : { cause: this.cause },
    );
  }
}

/**
 * Runs `visit` on each node; a SardonyxError thrown by it gets the node's name and operator put in front of its path.
 */
export function withinEach<N extends { readonly name: string; readonly op: string }>(
  nodes: readonly N[],
  visit: (node: N) => void,
): void {
  let i = 0;
  try {
    for (; i < nodes.length; i++) visit(nodes[i]!);
  } catch (e) {
    throw e instanceof SardonyxError ? e.within(`node ${nodes[i]!.name} (${nodes[i]!.op})`) : e;
  }
}

/** Runs `f`; a SardonyxError thrown by it gets `place` put in front of its path. */
export function within<T>(place: string, f: () => T): T {
  try {
    return f();
  } catch (e) {
    if (e instanceof SardonyxError) throw e.within(place);
    throw e;
  }
}

export function fail(code: ErrorCode, message: string, path: readonly string[] = []): never {
  throw new SardonyxError(code, message, path);
}
