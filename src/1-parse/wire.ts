/**
 * Protobuf's wire format, read by tables. One reader walks the whole file; a message is a range of it, so every error
 * can name the byte. Nothing is copied, and nothing is allocated from a length before that length is known to be in the
 * file. Where a part of the file was left out (`scan.ts`), the reader goes on behind the hole: positions and ends are
 * always those of the file. https://protobuf.dev/programming-guides/encoding/
 */
import { fail } from '../core/errors.ts';

/** Wire types. */
export const VARINT = 0;
export const FIXED64 = 1;
export const BYTES = 2;
export const FIXED32 = 5;

/** Messages in messages, bodies in bodies: no file that is meant to run comes near it. */
export const MAX_DEPTH = 64;

/** A payload that is not among the bytes at hand: where it lies in the file, and, if someone holds it, its bytes. */
export interface Hole {
  readonly at: number;
  readonly length: number;
  readonly bytes: Uint8Array | null;
}
/** A file without the payloads in its `holes`, which are in order. */
export interface Sparse {
  readonly bytes: Uint8Array;
  readonly holes: readonly Hole[];
}

export interface Reader {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly holes: readonly Hole[];
  /** Position in the file, the end of the message being read, and where the next hole begins. */
  pos: number;
  end: number;
  edge: number;
  /** Holes passed, and the bytes that they left out. */
  passed: number;
  shift: number;
}

/** The same bytes as a plain Uint8Array: `slice` of Node's Buffer does not copy, which later readers count on. */
export const plain = (bytes: Uint8Array): Uint8Array =>
  new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export function readerOf(from: Uint8Array | Sparse): Reader {
  const { bytes: given, holes } = from instanceof Uint8Array ? { bytes: from, holes: [] } : from;
  const bytes = plain(given);
  return {
    bytes,
    holes,
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    pos: 0,
    end: holes.reduce((n, h) => n + h.length, bytes.length),
    edge: holes[0]?.at ?? Infinity,
    passed: 0,
    shift: 0,
  };
}

/** @throws model_malformed, naming the byte */
export const malformed = (at: number, message: string): never => fail('model_malformed', `byte ${at}: ${message}`);

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
/** Bytes as UTF-8, each invalid sequence as U+FFFD. */
export function textOf(bytes: Uint8Array): string {
  if (bytes.length > 48) return utf8.decode(bytes);
  let text = '';
  for (const b of bytes) {
    if (b > 127) return utf8.decode(bytes);
    text += String.fromCharCode(b);
  }
  return text;
}

/** Where the next `length` bytes lie in `bytes`; the reader is moved behind them. */
function take(r: Reader, length: number): number {
  if (length > r.end - r.pos || r.pos + length > r.edge)
    malformed(r.pos, `${length} bytes are wanted, but only ${Math.min(r.end, r.edge) - r.pos} are left`);
  const at = r.pos - r.shift;
  r.pos += length;
  return at;
}

/** Moves to a place further on, past any holes. */
function moveTo(r: Reader, to: number): void {
  r.pos = to;
  while (r.edge < to) {
    const { at, length } = r.holes[r.passed++]!;
    if (at + length > to) malformed(to, 'what begins here was left out');
    r.shift += length;
    r.edge = r.holes[r.passed]?.at ?? Infinity;
  }
}

let low = 0;
let high = 0;
function varint(r: Reader): void {
  low = high = 0;
  const stop = Math.min(r.end, r.edge);
  const first = r.pos < stop ? r.bytes[r.pos - r.shift]! : 128;
  if (first < 128) {
    // nearly all are of one byte
    r.pos++;
    low = first;
    return;
  }
  for (let i = 0; i < 10; i++) {
    if (r.pos >= stop) malformed(r.pos, 'a number is cut short');
    const b = r.bytes[r.pos++ - r.shift]!;
    const bits = b & 127;
    if (i < 4) low |= bits << (7 * i);
    else if (i === 4) {
      low |= bits << 28;
      high = bits >>> 4;
    } else high |= bits << (7 * i - 32);
    if (b < 128) return;
  }
  malformed(r.pos, 'a number has more than ten bytes');
}
/** A varint as a signed 64-bit integer, rounded to a double. */
export function int(r: Reader): number {
  varint(r);
  return high * 2 ** 32 + (low >>> 0);
}
/** A varint as a signed 64-bit integer, exactly. */
export function bigint(r: Reader): bigint {
  varint(r);
  return (BigInt(high) << 32n) | BigInt(low >>> 0);
}
export const float = (r: Reader): number => r.view.getFloat32(take(r, 4), true);
export const double = (r: Reader): number => r.view.getFloat64(take(r, 8), true);

/** A field's number times 8, plus its wire type. */
export function tagOf(r: Reader): number {
  const at = r.pos;
  varint(r);
  if (high !== 0 || low >>> 3 === 0) malformed(at, `no field has the number ${low >>> 3}`);
  return low >>> 0;
}

/** The end of a length-delimited field; the reader is left at its start. */
export function endOf(r: Reader): number {
  const at = r.pos;
  varint(r);
  const length = (high >>> 0) * 2 ** 32 + (low >>> 0);
  if (length > r.end - r.pos) malformed(at, `a field claims ${length} bytes, but only ${r.end - r.pos} are left`);
  return r.pos + length;
}

/** A length-delimited field: a view of it, or the hole where it lies. */
export function payload(r: Reader): Uint8Array | Hole {
  const end = endOf(r);
  if (r.pos !== r.edge) return bytesTo(r, end);
  const hole = r.holes[r.passed]!;
  if (end !== r.pos + hole.length) malformed(r.pos, `a payload ends at ${end}, not at ${r.pos + hole.length}`);
  moveTo(r, end);
  return hole.bytes ?? hole;
}
export function bytesTo(r: Reader, end: number): Uint8Array {
  const length = end - r.pos;
  const at = take(r, length);
  return r.bytes.subarray(at, at + length);
}

export function skip(r: Reader, wire: number): void {
  if (wire === VARINT) varint(r);
  else if (wire === FIXED64) take(r, 8);
  else if (wire === FIXED32) take(r, 4);
  else if (wire === BYTES) moveTo(r, endOf(r));
  else malformed(r.pos, `${wire} is no wire type in use`);
}

/** A field: its name, its type, whether it repeats. */
interface Field {
  readonly name: string;
  readonly type: string;
  readonly many: boolean;
}
type Scalar = 'int' | 'long' | 'float' | 'text' | 'bytes' | 'packed';
/** Message types by name: their fields by number, and in a row. */
export type Schema = Readonly<
  Record<string, { readonly byNumber: readonly (Field | undefined)[]; readonly all: readonly Field[] }>
>;

/** A schema from text: "name number type, …", with a "*" behind the type of what repeats. */
export const schemaOf = (text: Readonly<Record<string, string>>): Schema =>
  Object.fromEntries(
    Object.entries(text).map(([message, list]) => {
      const byNumber: (Field | undefined)[] = [];
      const all = [...list.matchAll(/(\w+) (\d+) (\w+)(\*?)/g)].map(
        ([, name, number, type, many]) => (byNumber[Number(number)] = { name: name!, type: type!, many: many === '*' }),
      );
      return [message, { byNumber, all }];
    }),
  );

/** A message as it was read, and where: `bytes` is null where a payload was left out of it. */
export interface Read {
  readonly fields: Readonly<Record<string, unknown>>;
  readonly at: number;
  readonly bytes: () => Uint8Array | null;
}
/**
 * Turns a message, once read, into what others see of it; types without an entry stay plain objects of their fields.
 */
export type Finish = Readonly<Record<string, ((read: never) => unknown) | undefined>>;

const WIRE: Readonly<Record<Scalar, number>> = {
  int: VARINT,
  long: VARINT,
  float: FIXED32,
  text: BYTES,
  bytes: BYTES,
  packed: BYTES,
};
const EMPTY: Readonly<Record<Scalar, unknown>> = {
  int: 0,
  long: null,
  float: null,
  text: '',
  bytes: null,
  packed: null,
};

function scalar(r: Reader, type: Scalar): unknown {
  switch (type) {
    case 'int':
      return int(r);
    case 'long':
      return bigint(r);
    case 'float':
      return float(r);
    case 'text':
      return textOf(bytesTo(r, endOf(r)));
    default:
      return payload(r);
  }
}

/**
 * Reads a message of the type from the reader's position to `end`. A field that the file does not have is 0, '', null
 * (also of 'long' and 'float') or []; of 'packed' fields only one that is there once, in one piece, is given.
 * @throws model_malformed
 */
export function readMessage(r: Reader, schema: Schema, finish: Finish, type: string, end = r.end, depth = 0): unknown {
  if (depth > MAX_DEPTH) malformed(r.pos, `a ${type} is nested more than ${MAX_DEPTH} deep`);
  const { byNumber, all } = schema[type]!;
  const fields: Record<string, unknown> = {};
  for (const field of all) fields[field.name] = field.many ? [] : (EMPTY[field.type as Scalar] ?? null);
  const { pos: at, shift, passed, end: outer } = r;
  let seen: string[] | null = null;
  r.end = end;
  while (r.pos < end) {
    const tag = tagOf(r);
    const wire = tag & 7;
    const field = byNumber[tag >>> 3];
    if (field === undefined) {
      skip(r, wire);
      continue;
    }
    const { name, many } = field;
    if (field.type in WIRE) {
      const kind = field.type as Scalar;
      if (kind === 'packed') {
        if (seen?.includes(name) || wire !== BYTES) {
          skip(r, wire);
          fields[name] = null;
        } else fields[name] = payload(r);
        if (!seen?.includes(name)) (seen ??= []).push(name);
      } else if (many && wire === BYTES && WIRE[kind] !== BYTES) {
        const stop = endOf(r);
        r.end = stop;
        while (r.pos < stop) (fields[name] as unknown[]).push(scalar(r, kind));
        r.end = end;
      } else if (wire !== WIRE[kind])
        malformed(r.pos, `${name} of a ${type} has wire type ${wire} where ${WIRE[kind]} belongs`);
      else if (many) (fields[name] as unknown[]).push(scalar(r, kind));
      else fields[name] = scalar(r, kind);
    } else {
      if (wire !== BYTES) malformed(r.pos, `${name} of a ${type} has wire type ${wire} where ${BYTES} belongs`);
      if (!many && seen?.includes(name)) malformed(r.pos, `a ${type} has more than one ${name}`);
      if (!many) (seen ??= []).push(name);
      const value = readMessage(r, schema, finish, field.type, endOf(r), depth + 1);
      if (many) (fields[name] as unknown[]).push(value);
      else fields[name] = value;
    }
  }
  r.end = outer;
  const done = finish[type] as ((read: Read) => unknown) | undefined;
  if (done === undefined) return fields;
  const to = r.pos - r.shift;
  return done({ fields, at, bytes: r.passed === passed ? () => r.bytes.subarray(at - shift, to) : () => null });
}
