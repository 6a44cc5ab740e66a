/**
 * As much of an ONNX file as it takes to ask for more outputs: its top-level nodes, and the file with all that they
 * make as outputs. https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 */

/** A field of a protobuf message: its number, where its bytes start with the tag, and where its contents are. */
interface Field {
  readonly number: number;
  readonly tag: number;
  readonly from: number;
  readonly to: number;
}
/** A node by its name, or by its first output where it has none. */
export interface FileNode {
  readonly name: string;
  readonly op: string;
  readonly outputs: readonly string[];
}

const [MODEL_GRAPH, GRAPH_NODE, GRAPH_OUTPUT, NODE_OUTPUT, NODE_NAME, NODE_OP, VALUE_NAME] = [7, 1, 12, 2, 3, 4, 1];

function* fields(bytes: Uint8Array, start: number, end: number): Generator<Field> {
  let at = start;
  const varint = (): number => {
    for (let value = 0, scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      if (byte === undefined || at > end) throw new Error('the file ends inside a field; it is no ONNX model');
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < end) {
    const tag = at;
    const key = varint();
    const length = { 0: () => (varint(), 0), 1: () => 8, 2: varint, 5: () => 4 }[(key % 8) as 0 | 1 | 2 | 5]?.();
    if (length === undefined || at + length > end)
      throw new Error('a field has no length that fits; the file is no ONNX model');
    yield { number: Math.floor(key / 8), tag, from: at, to: at + length };
    at += length;
  }
}
const texts = (bytes: Uint8Array, { from, to }: Field, number: number): string[] =>
  [...fields(bytes, from, to)]
    .filter((f) => f.number === number)
    .map((f) => new TextDecoder().decode(bytes.subarray(f.from, f.to)));
const graphOf = (bytes: Uint8Array): Field =>
  [...fields(bytes, 0, bytes.length)].find((f) => f.number === MODEL_GRAPH)!;

/** The nodes of the main graph, in the file's order. */
export function nodesOf(bytes: Uint8Array): FileNode[] {
  const graph = graphOf(bytes);
  return [...fields(bytes, graph.from, graph.to)]
    .filter((f) => f.number === GRAPH_NODE)
    .map((f) => {
      const outputs = texts(bytes, f, NODE_OUTPUT);
      return {
        name: texts(bytes, f, NODE_NAME)[0] || outputs[0] || '',
        op: texts(bytes, f, NODE_OP)[0] ?? '',
        outputs: outputs.filter((name) => name !== ''),
      };
    });
}

function lengthPrefixed(number: number, contents: readonly Uint8Array[]): Uint8Array[] {
  const head = [number * 8 + 2];
  let length = contents.reduce((n, c) => n + c.length, 0);
  for (; length > 127; length = Math.floor(length / 128)) head.push((length % 128) | 128);
  return [Uint8Array.from([...head, length]), ...contents];
}

/** The same model with these values as outputs too, behind its own. Names that are outputs already are left out. */
export function withOutputs(bytes: Uint8Array, names: readonly string[]): Uint8Array {
  const graph = graphOf(bytes);
  const own = new Set(
    [...fields(bytes, graph.from, graph.to)]
      .filter((f) => f.number === GRAPH_OUTPUT)
      .flatMap((f) => texts(bytes, f, VALUE_NAME)),
  );
  const more = names
    .filter((name) => !own.has(name))
    .flatMap((name) => lengthPrefixed(GRAPH_OUTPUT, lengthPrefixed(VALUE_NAME, [new TextEncoder().encode(name)])));
  const parts = [
    bytes.subarray(0, graph.tag),
    ...lengthPrefixed(MODEL_GRAPH, [bytes.subarray(graph.from, graph.to), ...more]),
    bytes.subarray(graph.to),
  ];
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  parts.reduce((at, p) => (out.set(p, at), at + p.length), 0);
  return out;
}
