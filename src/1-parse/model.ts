/** Bytes of an ONNX file -> Graph. Weights stay where they are in those bytes, or in the files beside them. */
import { fail, SardonyxError } from '../core/errors.ts';
import type { Graph } from '../core/graph.ts';
import { buildGraph } from './build-graph.ts';
import type { ReadBytes } from './external.ts';
import { inlineFunctions } from './functions.ts';
import { readModel } from './messages.ts';
import { checkStart, startOf } from './signature.ts';
import type { GraphProto, ModelProto, TensorProto, ValueType } from './proto.ts';
import type { Sparse } from './wire.ts';

export interface Model {
  readonly graph: Graph;
  /**
   * Types of the graph's inputs and outputs, in order, for those that are no tensors; null where the model says
   * nothing.
   */
  readonly inputTypes: readonly (ValueType | null)[];
  readonly outputTypes: readonly (ValueType | null)[];
  /** Imported version by domain; the default domain is "ai.onnx". */
  readonly opsets: Readonly<Record<string, number>>;
  readonly irVersion: number;
  readonly producer: string;
  readonly metadata: ReadonlyMap<string, string>;
  /** The files beside the model that its weights are in, each a safe relative path. */
  readonly externalFiles: readonly string[];
}

/**
 * Parses an ONNX model. Its tensors share the bytes given, which must not change while the model is in use.
 * `read` reads weights that were left out of them or lie in other files, when one is loaded; it gets safe relative paths only.
 * @throws model_not_onnx, model_malformed, model_unsupported, model_too_large, external_data_unsafe
 */
export function parseModel(from: Uint8Array | Sparse, read?: ReadBytes): Model {
  const bytes = from instanceof Uint8Array ? from : from.bytes;
  const proto = readProto(from, bytes);
  if (!proto.graph)
    return fail(
      proto.irVersion > 0 ? 'model_malformed' : 'model_not_onnx',
      `${proto.irVersion > 0 ? 'the model has no graph' : 'the file has neither an IR version nor a graph'}; it starts with ${startOf(bytes)}`,
    );
  const inlined = inlineFunctions(proto, proto.graph);
  const files = new Map<string | null, number>();
  const orderOf = (file: string | null): number =>
    files.get(file) ?? (files.set(file, files.size * 2 ** 43), files.get(file)!);
  const graph = buildGraph(inlined, { imports: proto.imports, source: { read, orderOf } });
  const typeOf = new Map(
    [...proto.graph.values, ...proto.graph.outputs, ...proto.graph.inputs].map((v) => [v.name, v.type]),
  );
  const opsets: Record<string, number> = Object.create(null);
  for (const [domain, version] of proto.imports) opsets[domain || 'ai.onnx'] = version;
  const types = (ids: readonly number[]): (ValueType | null)[] =>
    ids.map((id) => typeOf.get(graph.values[id]!.name) ?? null);
  return {
    graph,
    opsets,
    irVersion: proto.irVersion,
    producer: proto.producer,
    metadata: proto.metadata,
    inputTypes: types(graph.inputs),
    outputTypes: types(graph.outputs),
    externalFiles: [...new Set(externalFiles(inlined))],
  };
}

/** External files of a graph's weights and of those in its bodies. */
function externalFiles(graph: GraphProto): string[] {
  const ofTensor = (t: TensorProto): string[] => (t.external ? [t.external.file] : []);
  return [
    ...graph.initializers.flatMap(ofTensor),
    ...graph.nodes.flatMap((node) =>
      [...node.attrs.values()].flatMap((attr) =>
        attr.kind === 'tensor'
          ? ofTensor(attr.value)
          : attr.kind === 'graph'
            ? externalFiles(attr.value)
            : attr.kind === 'graphs'
              ? attr.value.flatMap(externalFiles)
              : [],
      ),
    ),
  ];
}

function readProto(from: Uint8Array | Sparse, bytes: Uint8Array): ModelProto {
  checkStart(bytes, true);
  try {
    return readModel(from);
  } catch (e) {
    if (e instanceof SardonyxError) checkStart(bytes, false);
    throw e;
  }
}
