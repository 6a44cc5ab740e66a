import { fail } from '../src/core/errors.ts';
import { bigints } from '../src/core/numbers.ts';
import { sizeOf, type Tensor, tensor } from '../src/core/tensor.ts';
import {
  defineOp,
  floats,
  INDEX,
  int,
  ints,
  type InferCall,
  type Op,
  type OutFact,
  type RefCall,
  required,
  string,
  strings as stringsAttr,
} from './define.ts';
import { sized } from './elements.ts';
import { int64s } from './given.ts';
import { fullMatcher } from './regex.ts';
import { broadcast, broadcastStrides, eachOffset } from './shapes.ts';

const textOf = (call: RefCall, i: number): string[] => call.tensor(i).data as string[];
const texts = (shape: readonly number[], data: string[]): Tensor => ({ dtype: 'string', shape, data });

function cased(action: string, locale: string): (s: string) => string {
  const name = locale === '' ? 'en-US' : locale.replace(/\..*$/, '').replace('_', '-');
  let known: string[] = [];
  try {
    known = Intl.getCanonicalLocales(name);
  } catch {
    fail('attribute_invalid', `${JSON.stringify(locale)} is no locale`);
  }
  switch (action) {
    case 'LOWER':
      return (s) => s.toLocaleLowerCase(known);
    case 'UPPER':
      return (s) => s.toLocaleUpperCase(known);
    case 'NONE':
      return (s) => s;
    default:
      return fail('attribute_invalid', `case_change_action ${JSON.stringify(action)} must be LOWER, UPPER or NONE`);
  }
}

function normalizeStrings(
  call: RefCall<{
    readonly case_change_action: string;
    readonly is_case_sensitive: number;
    readonly locale: string;
    readonly stopwords: readonly string[];
  }>,
): Tensor[] {
  const { case_change_action: action, is_case_sensitive: exact, locale, stopwords } = call.attrs;
  const { shape } = call.tensor(0);
  if (!(shape.length === 1 || (shape.length === 2 && shape[0] === 1)))
    fail('shape_mismatch', `StringNormalizer takes [C] or [1, C], not [${shape}]`);
  const change = cased(action, locale);
  const key = exact ? (s: string) => s : cased('LOWER', locale);
  const stops = new Set(stopwords.map(key));
  const kept = textOf(call, 0)
    .filter((s) => !stops.has(key(s)))
    .map(change);
  if (kept.length === 0) kept.push('');
  return [texts(shape.length === 1 ? [kept.length] : [1, kept.length], kept)];
}

/** Python's str.split: at runs of white space when there is no delimiter, at most `most` times. */
function splitText(s: string, delimiter: string, most: number): string[] {
  const out: string[] = [];
  if (delimiter !== '') {
    let from = 0;
    for (let at = s.indexOf(delimiter); at >= 0 && out.length < most; at = s.indexOf(delimiter, from)) {
      out.push(s.slice(from, at));
      from = at + delimiter.length;
    }
    return [...out, s.slice(from)];
  }
  let rest = s.trimStart();
  while (rest !== '') {
    const end = out.length < most ? rest.search(/\s/) : -1;
    if (end < 0) return [...out, rest];
    out.push(rest.slice(0, end));
    rest = rest.slice(end).trimStart();
  }
  return out;
}

function split(call: RefCall<{ readonly delimiter: string; readonly maxsplit: number | undefined }>): Tensor[] {
  const { shape } = call.tensor(0);
  const parts = textOf(call, 0).map((s) => splitText(s, call.attrs.delimiter, call.attrs.maxsplit ?? Infinity));
  const most = parts.reduce((n, p) => Math.max(n, p.length), 0);
  sized('string', [...shape, most]);
  const out = parts.flatMap((p) => [...p, ...new Array<string>(most - p.length).fill('')]);
  return [texts([...shape, most], out), { ...int64s(parts.map((p) => p.length)), shape } as Tensor];
}

interface GramAttrs {
  readonly max_gram_length: number;
  readonly min_gram_length: number;
  readonly max_skip_count: number;
  readonly mode: string;
  readonly ngram_counts: readonly number[];
  readonly ngram_indexes: readonly number[];
  readonly pool_int64s: readonly number[] | undefined;
  readonly pool_strings: readonly string[] | undefined;
  readonly weights: readonly number[] | undefined;
}
const keyOf = (items: readonly (string | number | bigint)[]): string =>
  items.map((s) => `${String(s).length}:${s}`).join('');

/** The pool as a map from an n-gram to its number; n-grams of one length stand together, shortest first. */
function gramsOf(attrs: GramAttrs): Map<string, number> {
  const pool: readonly (string | number)[] =
    attrs.pool_strings ??
    attrs.pool_int64s ??
    fail('attribute_invalid', 'TfIdfVectorizer has neither pool_strings nor pool_int64s');
  const grams = new Map<string, number>();
  let number = 0;
  attrs.ngram_counts.forEach((start, i) => {
    const end = attrs.ngram_counts[i + 1] ?? pool.length;
    const n = i + 1;
    if (!(start >= 0 && start <= end && end <= pool.length) || (end - start) % n !== 0) {
      fail('attribute_invalid', `ngram_counts [${attrs.ngram_counts}] do not divide a pool of ${pool.length}`);
    }
    for (let at = start; at < end; at += n) grams.set(keyOf(pool.slice(at, at + n)), number++);
  });
  if (number !== attrs.ngram_indexes.length || (attrs.weights && attrs.weights.length !== number)) {
    fail(
      'attribute_invalid',
      `${number} n-grams, but ${attrs.ngram_indexes.length} ngram_indexes and ${attrs.weights?.length ?? number} weights`,
    );
  }
  return grams;
}
function gramShape(attrs: GramAttrs, shape: readonly number[]): OutFact[] {
  const { min_gram_length: low, max_gram_length: high, max_skip_count: skips, mode } = attrs;
  if (!['TF', 'IDF', 'TFIDF'].includes(mode))
    fail('attribute_invalid', `mode ${JSON.stringify(mode)} must be TF, IDF or TFIDF`);
  if (!(low >= 1 && low <= high && skips >= 0))
    fail('attribute_invalid', `n-grams from ${low} to ${high} with up to ${skips} skipped`);
  if (attrs.ngram_indexes.some((i) => i < 0) || attrs.ngram_indexes.length === 0)
    fail('attribute_invalid', 'ngram_indexes must be 0 or more');
  if (shape.length > 2) fail('shape_mismatch', `TfIdfVectorizer takes [C] or [N, C], not [${shape}]`);
  return [sized('float32', [...shape.slice(0, -1), attrs.ngram_indexes.reduce((a, b) => Math.max(a, b), 0) + 1])];
}
function vectorize(call: RefCall<GramAttrs>): Tensor[] {
  const { attrs } = call;
  const t = call.tensor(0);
  const { dtype, shape } = gramShape(attrs, t.shape)[0]!;
  const grams = gramsOf(attrs);
  const items: ArrayLike<string | bigint> = t.dtype === 'string' ? (t.data as string[]) : bigints(t);
  const width = t.shape.at(-1) ?? 1;
  const rows = width === 0 ? 0 : sizeOf(t.shape) / width;
  const columns = shape.at(-1)!;
  const out = new Float32Array(sizeOf(shape));
  for (let r = 0; r < rows; r++) {
    const row = Array.from({ length: width }, (_, i) => items[r * width + i]!);
    for (let n = attrs.min_gram_length; n <= Math.min(attrs.max_gram_length, width); n++) {
      const strides = n === 1 ? 1 : Math.min(attrs.max_skip_count, width) + 1;
      for (let stride = 1; stride <= strides; stride++)
        for (let at = 0; at + (n - 1) * stride < width; at++) {
          const gram = grams.get(keyOf(Array.from({ length: n }, (_, k) => row[at + k * stride]!)));
          if (gram === undefined) continue;
          const to = r * columns + attrs.ngram_indexes[gram]!;
          const weight = attrs.mode === 'TF' ? 1 : (attrs.weights?.[gram] ?? 1);
          out[to] = attrs.mode === 'IDF' ? weight : out[to]! + weight;
        }
    }
  }
  return [{ dtype: dtype as 'float32', shape, data: out }];
}

/**
 * https://onnx.ai/onnx/operators/onnx__StringNormalizer.html, StringConcat, StringSplit, RegexFullMatch,
 * TfIdfVectorizer
 */
export const strings: readonly Op[] = [
  defineOp({
    op: 'StringNormalizer',
    since: [10],
    inputs: ['X: string'],
    outputs: ['Y: string'],
    types: {},
    dynamic: true,
    attrs: {
      case_change_action: string('NONE'),
      is_case_sensitive: int(0),
      locale: string(''),
      stopwords: stringsAttr([]),
    },
    reference: normalizeStrings,
  }),
  defineOp({
    op: 'StringConcat',
    since: [20],
    inputs: ['X: string', 'Y: string'],
    outputs: ['Z: string'],
    types: {},
    attrs: {},
    infer: (call) => [sized('string', broadcast(call.fact(0).shape, call.fact(1).shape))],
    reference: (call) => {
      const [a, b] = [call.tensor(0), call.tensor(1)];
      const shape = broadcast(a.shape, b.shape);
      const out = new Array<string>(sizeOf(shape)).fill('');
      eachOffset(shape, broadcastStrides(a.shape, shape), (i, at) => {
        out[i] = textOf(call, 0)[at]!;
      });
      eachOffset(shape, broadcastStrides(b.shape, shape), (i, at) => {
        out[i] += textOf(call, 1)[at]!;
      });
      return [texts(shape, out)];
    },
  }),
  defineOp({
    op: 'StringSplit',
    since: [20],
    inputs: ['X: string'],
    outputs: ['Y: string', 'Z: int64'],
    types: {},
    dynamic: true,
    attrs: { delimiter: string(''), maxsplit: int() },
    reference: split,
  }),
  defineOp({
    op: 'RegexFullMatch',
    since: [20],
    inputs: ['X: string'],
    outputs: ['Y: bool'],
    types: {},
    attrs: { pattern: required(string()) },
    infer: (call) => {
      fullMatcher(call.attrs.pattern);
      return [{ dtype: 'bool', shape: call.fact(0).shape }];
    },
    reference: (call) => {
      const matches = fullMatcher(call.attrs.pattern);
      return [
        tensor(
          'bool',
          call.tensor(0).shape,
          Uint8Array.from(textOf(call, 0), (s) => Number(matches(s))),
        ),
      ];
    },
  }),
  defineOp({
    op: 'TfIdfVectorizer',
    since: [9],
    inputs: ['X: T'],
    outputs: ['Y: float32'],
    types: { T: ['string', ...INDEX] },
    attrs: {
      max_gram_length: required(int()),
      min_gram_length: required(int()),
      max_skip_count: required(int()),
      mode: required(string()),
      ngram_counts: required(ints()),
      ngram_indexes: required(ints()),
      pool_int64s: ints(),
      pool_strings: stringsAttr(),
      weights: floats(),
    },
    infer: (call: InferCall<GramAttrs>) => {
      gramsOf(call.attrs);
      return gramShape(call.attrs, call.fact(0).shape);
    },
    reference: vectorize,
  }),
];
