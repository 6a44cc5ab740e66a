/**
 * Protobuf's wire format, read with protobufjs' Reader. One reader walks the whole file; a message is a range of it, so every
 * error can name the byte. Nothing is copied, and nothing is allocated from a length before that length is known to be in the file.
 * https://protobuf.dev/programming-guides/encoding/
 */
import protobuf from 'protobufjs/minimal.js';
import { fail, SardonyxError } from '../core/errors.ts';

export type Reader = protobuf.Reader;

/** Wire types. */
export const VARINT = 0;
export const FIXED64 = 1;
export const BYTES = 2;
export const FIXED32 = 5;

/** Messages in messages, bodies in bodies: no file that is meant to run comes near it. */
export const MAX_DEPTH = 64;

/** The same bytes as a plain Uint8Array: `slice` of Node's Buffer does not copy, which later readers count on. */
export const plain = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
export const readerOf = (bytes: Uint8Array): Reader => new protobuf.Reader(plain(bytes));

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
/** Bytes as UTF-8, each invalid sequence as U+FFFD. */
export const textOf = (bytes: Uint8Array): string => utf8.decode(bytes);

/** @throws model_malformed, naming the byte */
export const malformed = (at: number, message: string): never => fail('model_malformed', `byte ${at}: ${message}`);

/**
 * Reads the fields from the reader's position to `end`. `onField` reads the field's value and returns true, or returns false to have it skipped.
 * @throws model_malformed
 */
export function eachField(r: Reader, end: number, what: string, onField: (field: number, wire: number) => boolean): void {
  const outer = r.len;
  if (end > outer) malformed(r.pos, `${what} claims ${end - r.pos} bytes, but only ${outer - r.pos} are left`);
  r.len = end;
  let at = r.pos;
  try {
    while (r.pos < end) {
      at = r.pos;
      const tag = r.uint32();
      if (tag >>> 3 === 0) malformed(at, `${what} has a field with number 0`);
      if (!onField(tag >>> 3, tag & 7)) r.skipType(tag & 7);
      if (r.pos > end) malformed(at, `a field of ${what} runs past its end`);
    }
  } catch (e) {
    if (e instanceof SardonyxError) throw e;
    fail('model_malformed', `byte ${at}: ${what} is broken or cut short (${(e as Error).message})`);
  }
  r.len = outer;
}

const expect = (r: Reader, wire: number, wanted: number, what: string): void => {
  if (wire !== wanted) malformed(r.pos, `${what} has wire type ${wire} where ${wanted} belongs`);
};

/** The range of a length-delimited field; the reader is left at its start. */
export function rangeOf(r: Reader, wire: number, what: string): number {
  expect(r, wire, BYTES, what);
  const at = r.pos;
  const length = r.uint32();
  if (length > r.len - r.pos) malformed(at, `${what} claims ${length} bytes, but only ${r.len - r.pos} are left`);
  return r.pos + length;
}

/** A view of a length-delimited field. */
export function bytesField(r: Reader, wire: number, what: string): Uint8Array {
  const end = rangeOf(r, wire, what);
  const view = r.buf.subarray(r.pos, end) as Uint8Array;
  r.pos = end;
  return view;
}
export const textField = (r: Reader, wire: number, what: string): string => textOf(bytesField(r, wire, what));

/** Reads an embedded message through `read(end)`. @throws model_malformed beyond MAX_DEPTH */
export function messageField<T>(r: Reader, wire: number, what: string, depth: number, read: (r: Reader, end: number, depth: number) => T): T {
  const end = rangeOf(r, wire, what);
  if (depth >= MAX_DEPTH) malformed(r.pos, `${what} is nested more than ${MAX_DEPTH} deep`);
  return read(r, end, depth + 1);
}

let low = 0;
let high = 0;
function varint(r: Reader): void {
  low = high = 0;
  for (let i = 0; i < 10; i++) {
    if (r.pos >= r.len) malformed(r.pos, 'a number is cut short');
    const b = r.buf[r.pos++]!;
    const bits = b & 127;
    if (i < 4) low |= bits << (7 * i);
    else if (i === 4) { low |= bits << 28; high = bits >>> 4; } else high |= bits << (7 * i - 32);
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
export function intField(r: Reader, wire: number, what: string): number {
  expect(r, wire, VARINT, what);
  return int(r);
}
/** An enum: an int32 on the wire. */
export const enumField = (r: Reader, wire: number, what: string): number => intField(r, wire, what) | 0;
export function floatField(r: Reader, wire: number, what: string): number {
  expect(r, wire, FIXED32, what);
  return r.float();
}

/** A repeated scalar, packed or not: calls `each` once for every element, which must read exactly one. */
export function repeated(r: Reader, wire: number, scalar: number, what: string, each: (r: Reader) => void): void {
  if (wire === scalar) {
    each(r);
    return;
  }
  const end = rangeOf(r, wire, what);
  const outer = r.len;
  r.len = end;
  while (r.pos < end) each(r);
  r.len = outer;
}
