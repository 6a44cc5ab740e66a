/**
 * Reads of an ONNX file what parsing needs, and leaves weights where they are: a walk over the wire format along the
 * schema that notes big payloads as holes instead of reading them. Where a file is read once, from the front, payloads
 * are kept, each in memory of its own.
 */
import { fail } from '../core/errors.ts';
import { ONNX } from './schema.ts';
import { BYTES, FIXED32, FIXED64, type Hole, type Sparse, VARINT } from './wire.ts';

/** A place in a file, moving forward. */
export interface Cursor {
  /** Bytes from here on that are in memory: at least `count` of them, unless the file ends before. */
  have(count: number): Uint8Array | Promise<Uint8Array>;
  /** Goes `count` bytes further, which need not be read. */
  skip(count: number): void | Promise<void>;
  /** The next `count` bytes, in memory of their own; fewer if the file ends before. */
  collect(count: number): Promise<Uint8Array>;
  /** Bytes that the file has, if that is known. */
  readonly size: number | null;
}

/** Payloads up to this many bytes are part of the graph: shapes and scalars, which many look at. */
const SMALL = 65536;
/** Most bytes of a graph without its weights. */
const MOST = 2 ** 30;

/**
 * A message being walked; `op`: of a node, its operator, once it is known. `weight`: its payloads may stay in the file.
 */
interface Frame {
  readonly type: string;
  readonly end: number;
  op: string;
  readonly weight: boolean;
}

/**
 * Reads a model without its weights; with `keep`, they are read into the holes. @throws model_too_large, and what the
 * cursor throws
 */
export async function scan(cursor: Cursor, keep: boolean): Promise<Sparse> {
  const parts: Uint8Array[] = [];
  const holes: Hole[] = [];
  let pos = 0;
  let held = 0;
  const copy = async (count: number): Promise<Uint8Array> => {
    let window = cursor.have(Math.min(count, SMALL * 16));
    if (window instanceof Promise) window = await window;
    const part = window.slice(0, count);
    if ((held += part.length) > MOST)
      fail('model_too_large', `the graph takes more than ${MOST} bytes without its weights`);
    parts.push(part);
    pos += part.length;
    const moved = cursor.skip(part.length);
    if (moved) await moved;
    return part;
  };
  const copyAll = async (count: number): Promise<void> => {
    for (let left = count; left > 0; ) {
      const { length } = await copy(left);
      if (length === 0) return;
      left -= length;
    }
  };
  const stack: Frame[] = [{ type: 'model', end: cursor.size ?? Infinity, op: '', weight: false }];
  for (;;) {
    while (stack.length > 1 && pos >= stack.at(-1)!.end) stack.pop();
    const frame = stack.at(-1)!;
    if (pos >= frame.end) break;
    let window = cursor.have(20);
    if (window instanceof Promise) window = await window;
    if (window.length === 0) break;
    const [tag, afterTag] = varintAt(window, 0);
    const wire = tag & 7;
    if (wire !== BYTES) {
      const [, afterValue] =
        wire === VARINT
          ? varintAt(window, afterTag)
          : [0, afterTag + (wire === FIXED64 ? 8 : wire === FIXED32 ? 4 : window.length)];
      await copy(Math.max(1, afterValue));
      if (![VARINT, FIXED64, FIXED32].includes(wire)) break; // broken: the parser says where
      continue;
    }
    const [length, head] = varintAt(window, afterTag);
    const field = ONNX[frame.type]!.byNumber[Math.floor(tag / 8)];
    const end = pos + head + length;
    if (end > frame.end) {
      await copy(window.length);
      break;
    }
    const inside = field !== undefined && field.type in ONNX;
    if (inside && length > 0 && stack.length < 300 && (length > SMALL || field.type === 'graph')) {
      await copy(head);
      stack.push({
        type: field.type,
        end,
        op: '',
        weight:
          field.type === 'tensor' &&
          (frame.type === 'graph' || (frame.type === 'attribute' && stack.at(-2)?.op === 'Constant')),
      });
    } else if (
      length > SMALL &&
      (field === undefined || (frame.weight && ['raw', 'floats', 'doubles'].includes(field.name)))
    ) {
      await copy(head);
      const bytes = keep && field !== undefined ? await cursor.collect(length) : null;
      if (bytes === null) await cursor.skip(length);
      holes.push({ at: pos, length, bytes });
      pos += length;
      if (bytes !== null && bytes.length < length) break;
    } else {
      const at = parts.length;
      await copyAll(head + length);
      if (frame.type === 'node' && field?.name === 'op' && length < 100 && parts.length === at + 1)
        frame.op = String.fromCharCode(...parts[at]!.subarray(head));
    }
  }
  const bytes = new Uint8Array(held);
  parts.reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
  return { bytes, holes: holes.filter((h) => h.bytes === null || h.bytes.length === h.length) };
}

/** A varint as a double, and where it ends; one that is cut short ends with the window. */
function varintAt(window: Uint8Array, at: number): [value: number, end: number] {
  let value = 0;
  for (let i = at, unit = 1; i < window.length && i < at + 10; i++, unit *= 128) {
    value += (window[i]! & 127) * unit;
    if (window[i]! < 128) return [value, i + 1];
  }
  return [value, window.length];
}
