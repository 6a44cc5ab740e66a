import { bytesOf, type DType } from './dtype.ts';
import { bytesOfTensor, sizeOf, type Tensor } from './tensor.ts';

/** Values are numbered and never renumbered; a node names the values it reads and writes. New values are appended. */
export type ValueId = number;

/** A dimension is a number, a name ("batch") that a run binds, or null when the model says nothing. */
export type Dim = number | string | null;

/** What a model declares of a value; `shape` null when even the rank is unknown. */
export interface Declared {
  readonly dtype: DType;
  readonly shape: readonly Dim[] | null;
}

/** A value fixed before any run: a weight. Big ones stay where they are until someone loads them. */
export interface Constant {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** The tensor if it is in memory already; never reads. */
  readonly peek: () => Tensor | null;
  /** Its bytes as they lie in a file that is in memory, at any alignment; null or left out where `peek` has them. */
  readonly raw?: () => Uint8Array | null;
  /** The tensor; reads it from its file or URL when it is not in memory. */
  readonly load: () => Tensor | Promise<Tensor>;
  /** Of one whose bytes lie in a file or behind a URL. */
  readonly stored?: Stored;
}

/** Bytes that are read when they are wanted. */
export interface Stored {
  /** Where they lie among all that is stored: constants read in this order are read from front to back. */
  readonly order: number;
  /** `length` bytes at `offset` of the constant's own. */
  readonly read: (offset: number, length: number) => Uint8Array | Promise<Uint8Array>;
}

/** Most bytes of a stored constant that are in memory at once while `eachPart` goes through them. */
export const PART = 8 << 20;

/** All that is known of a value before it is computed, its dims now bound. */
export interface Fact {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Present when the value does not depend on data. */
  readonly constant?: Constant;
}

/** What is known of values, by their number. */
export type Facts = readonly (Fact | undefined)[];

export type AttrValue =
  | number
  | string
  | readonly number[]
  | readonly string[]
  | Tensor
  | readonly Tensor[]
  | Graph
  | readonly Graph[];
export type Attrs = Readonly<Record<string, AttrValue>>;

export interface Node {
  /** "Softmax", or "com.microsoft.Gelu": the default domain has no prefix. */
  readonly op: string;
  /** ONNX's node name (or a made one), kept through every rewrite for messages. */
  readonly name: string;
  /** null: optional input left out. */
  readonly inputs: readonly (ValueId | null)[];
  /** null: optional output not wanted. */
  readonly outputs: readonly (ValueId | null)[];
  readonly attrs: Attrs;
  /** Version of its domain that the model imports; `normalize` is the last to look at it. */
  readonly opset: number;
}

export interface GraphValue {
  readonly name: string;
  readonly declared?: Declared;
  readonly constant?: Constant;
}

export interface Graph {
  readonly name: string;
  /** Topologically sorted, always. */
  readonly nodes: readonly Node[];
  /** By ValueId. */
  readonly values: readonly GraphValue[];
  readonly inputs: readonly ValueId[];
  readonly outputs: readonly ValueId[];
  /** Of a body: values of the enclosing graph that it reads, as [inner, outer] pairs. */
  readonly captures: readonly (readonly [inner: ValueId, outer: ValueId])[];
}

/** Do two nodes of one operator have the same attributes? Tensors and graphs are compared by identity. */
export function sameAttrs(a: Attrs, b: Attrs): boolean {
  if (a === b) return true;
  const names = Object.keys(a);
  if (names.length !== Object.keys(b).length) return false;
  for (const name of names) {
    const x = a[name]!;
    const y = b[name];
    if (Object.is(x, y)) continue;
    if (!Array.isArray(x) || !Array.isArray(y) || x.length !== y.length) return false;
    for (let i = 0; i < x.length; i++) if (!Object.is(x[i], y[i])) return false;
  }
  return true;
}

export const isGraph = (a: AttrValue): a is Graph => typeof a === 'object' && 'nodes' in a;

const NONE: readonly Graph[] = [];
/** The bodies of a control-flow node. */
export function bodiesOf(node: Node): readonly Graph[] {
  let bodies = NONE;
  for (const name in node.attrs) {
    const a = node.attrs[name]!;
    if (typeof a !== 'object') continue;
    if (isGraph(a)) bodies = [...bodies, a];
    else if (Array.isArray(a) && typeof a[0] === 'object' && isGraph(a[0] as Graph))
      bodies = [...bodies, ...(a as Graph[])];
  }
  return bodies;
}
/** The operators of a graph and of the bodies in it. */
export const operatorsIn = (graph: Graph): Set<string> =>
  new Set(graph.nodes.flatMap((n) => [n.op, ...bodiesOf(n).flatMap((b) => [...operatorsIn(b)])]));

/** Every value that a node reads: its inputs, and what its bodies capture. */
export function readsOf(node: Node): readonly ValueId[] {
  if (!node.inputs.includes(null) && bodiesOf(node) === NONE) return node.inputs as readonly ValueId[];
  let reads = READS.get(node);
  if (reads === undefined) {
    reads = node.inputs.filter((v): v is ValueId => v !== null);
    for (const body of bodiesOf(node)) for (const [, outer] of body.captures) reads.push(outer);
    READS.set(node, reads);
  }
  return reads;
}
const READS = new WeakMap<Node, ValueId[]>();

/** Are the two lists of numbers the same? */
export function sameNumbers(a: readonly (number | null)[], b: readonly (number | null)[]): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** A constant that is in memory. */
export const constantOf = (t: Tensor): Constant => ({ dtype: t.dtype, shape: t.shape, peek: () => t, load: () => t });

/**
 * Hands a constant's bytes to `put`, from front to back: all at once when they are in memory, else in parts of `PART`
 * bytes, the next of which is read once `put` is done with the last. A promise only if something had to be read.
 */
export function eachPart(
  c: Constant,
  put: (bytes: Uint8Array, at: number) => void | Promise<void>,
): void | Promise<void> {
  const here = bytesInMemory(c);
  return here === null ? readParts(c, put) : put(here, 0);
}
/** A constant's bytes if they are in memory; not copied to be aligned where nobody has looked at elements yet. */
export function bytesInMemory(c: Constant): Uint8Array | null {
  const raw = c.raw?.();
  if (raw) return raw;
  const here = c.peek();
  return here && bytesOfTensor(here);
}
async function readParts(c: Constant, put: (bytes: Uint8Array, at: number) => void | Promise<void>): Promise<void> {
  if (c.stored === undefined) return put(bytesOfTensor(await c.load()), 0);
  const size = bytesOf(c.dtype, sizeOf(c.shape));
  for (let at = 0; at < size; at += PART) await put(await c.stored.read(at, Math.min(PART, size - at)), at);
}

/** Constants in the order in which their bytes lie; those in memory come first. */
export const inFileOrder = <T>(items: readonly T[], constant: (item: T) => Constant): T[] =>
  [...items].sort((a, b) => (constant(a).stored?.order ?? -1) - (constant(b).stored?.order ?? -1));
