/**
 * RE2's regular expressions (https://github.com/google/re2/wiki/Syntax) by simulation of an automaton: time is linear
 * in the text, whatever the pattern. JavaScript's own engine backtracks, so that a short hostile pattern would not end.
 */
import { fail } from '../src/core/errors.ts';

type Test = (codePoint: number) => boolean;
type Place = 'start' | 'end' | 'lineStart' | 'lineEnd' | 'word' | 'notWord';
type Tree =
  | { readonly is: 'char'; readonly test: Test }
  | { readonly is: 'at'; readonly place: Place }
  | { readonly is: 'all' | 'any'; readonly of: readonly Tree[] }
  | { readonly is: 'repeat'; readonly of: Tree; readonly min: number; readonly max: number };

/** States of the automaton: a pattern that needs more is refused. */
const MAX_STATES = 20_000;
const MAX_REPEAT = 1000;
const MAX_DEPTH = 200;

interface Flags {
  readonly i: boolean;
  readonly m: boolean;
  readonly s: boolean;
}

const range =
  (low: number, high: number): Test =>
  (c) =>
    c >= low && c <= high;
const anyOf =
  (...tests: readonly Test[]): Test =>
  (c) =>
    tests.some((t) => t(c));
const not =
  (test: Test): Test =>
  (c) =>
    !test(c);
const code = (s: string): number => s.codePointAt(0)!;
const one = (s: string): Test => {
  const c = code(s);
  return (x) => x === c;
};
const digit = range(48, 57);
const word = anyOf(digit, range(65, 90), range(97, 122), one('_'));
const space = anyOf(...[...' \t\n\f\r'].map(one));
const CLASSES: Readonly<Record<string, Test>> = {
  d: digit,
  D: not(digit),
  w: word,
  W: not(word),
  s: space,
  S: not(space),
};
const POSIX: Readonly<Record<string, Test>> = {
  alnum: anyOf(digit, range(65, 90), range(97, 122)),
  alpha: anyOf(range(65, 90), range(97, 122)),
  ascii: range(0, 127),
  blank: anyOf(one(' '), one('\t')),
  cntrl: anyOf(range(0, 31), range(127, 127)),
  digit,
  graph: range(33, 126),
  lower: range(97, 122),
  print: range(32, 126),
  punct: anyOf(range(33, 47), range(58, 64), range(91, 96), range(123, 126)),
  space: anyOf(space, one('\v')),
  upper: range(65, 90),
  word,
  xdigit: anyOf(digit, range(65, 70), range(97, 102)),
};
const CONTROL: Readonly<Record<string, number>> = { a: 7, f: 12, t: 9, n: 10, r: 13, v: 11 };

/** Also matches the other cases of a character. */
const folded =
  (test: Test): Test =>
  (c) => {
    if (test(c)) return true;
    const s = String.fromCodePoint(c);
    return [s.toLowerCase(), s.toUpperCase()].some(
      (t) => t.length > 0 && code(t) !== c && [...t].length === 1 && test(code(t)),
    );
  };

function parse(pattern: string): Tree {
  const text = [...pattern];
  let at = 0;
  const bad = (what: string): never =>
    fail('attribute_invalid', `pattern ${JSON.stringify(pattern)}: ${what} at ${at}`);
  const take = (s: string): boolean => {
    if (text.slice(at, at + s.length).join('') !== s) return false;
    at += s.length;
    return true;
  };
  const until = (end: string): string => {
    const from = at;
    while (at < text.length && text[at] !== end) at++;
    if (at === text.length) bad(`no ${end}`);
    return text.slice(from, at++).join('');
  };

  function property(negative: boolean): Test {
    let name = take('{') ? until('}') : (text[at++] ?? bad('no property'));
    const flip = name.startsWith('^') !== negative;
    name = name.replace('^', '');
    for (const form of [name, `Script=${name}`]) {
      try {
        const property = new RegExp(/^[A-Za-z_]+$/.test(name) ? `^\\p{${form}}$` : '(?!', 'u');
        return flip ? (c) => !property.test(String.fromCodePoint(c)) : (c) => property.test(String.fromCodePoint(c));
      } catch {
        /* Not a category; perhaps a script. */
      }
    }
    return bad(`no property ${name}`);
  }

  /** What stands behind a backslash, if it names characters: a class, or one code point. */
  function escaped(): Test | number {
    const c = text[at++] ?? bad('a lone backslash');
    if (Object.hasOwn(CLASSES, c)) return CLASSES[c]!;
    if (Object.hasOwn(CONTROL, c)) return CONTROL[c]!;
    if (c === 'p' || c === 'P') return property(c === 'P');
    if (c === 'x') {
      const hex = take('{') ? until('}') : text.slice(at, (at += 2)).join('');
      const value = Number.parseInt(hex, 16);
      return /^[0-9A-Fa-f]+$/.test(hex) && value <= 0x10ffff ? value : bad('no such character');
    }
    if (c >= '0' && c <= '7') {
      if (c !== '0' && !/^[0-7]{2}$/.test(text.slice(at, at + 2).join(''))) bad('a back reference, which RE2 has not');
      let value = Number(c);
      for (let k = 0; k < 2 && /^[0-7]$/.test(text[at] ?? ''); k++) value = value * 8 + Number(text[at++]);
      return value;
    }
    return /^[A-Za-z0-9]$/.test(c) ? bad(`no escape \\${c}`) : code(c);
  }

  function set(): Test {
    const negative = take('^');
    const tests: Test[] = [];
    let first = true;
    while (first || text[at] !== ']') {
      first = false;
      if (at >= text.length) bad('no ]');
      if (take('[:')) {
        const flip = take('^');
        const name = until(':');
        if (!Object.hasOwn(POSIX, name) || !take(']')) bad(`no class ${name}`);
        tests.push(flip ? not(POSIX[name]!) : POSIX[name]!);
        continue;
      }
      const low = member();
      if (typeof low !== 'number') tests.push(low);
      else if (text[at] === '-' && text[at + 1] !== ']' && at + 1 < text.length) {
        at++;
        const high = member();
        tests.push(typeof high === 'number' && high >= low ? range(low, high) : bad('a range out of order'));
      } else tests.push(range(low, low));
    }
    at++;
    return negative ? not(anyOf(...tests)) : anyOf(...tests);
  }
  const member = (): Test | number => {
    const c = text[at++]!;
    return c === '\\' ? escaped() : code(c);
  };

  function alternatives(flags: Flags, depth: number): Tree {
    if (depth > MAX_DEPTH) bad('too many groups in one another');
    const ways: Tree[][] = [[]];
    let now = flags;
    while (at < text.length && text[at] !== ')') {
      if (take('|')) {
        ways.push([]);
        continue;
      }
      const change = flagChange(now);
      if (change) {
        now = change;
        continue;
      }
      ways.at(-1)!.push(...repeated(now, depth));
    }
    return { is: 'any', of: ways.map((of) => ({ is: 'all', of })) };
  }

  const changed = (letters: string, flags: Flags): Flags => {
    const [on = '', off = ''] = letters.split('-');
    if (!/^[imsU]*$/.test(on) || !/^[imsU]*$/.test(off)) bad(`no flags ${letters}`);
    const set = (f: 'i' | 'm' | 's'): boolean => (flags[f] || on.includes(f)) && !off.includes(f);
    return { i: set('i'), m: set('m'), s: set('s') };
  };
  /** "(?i)": flags from here to the end of the group. */
  function flagChange(flags: Flags): Flags | null {
    const found = /^\(\?([imsU]*-?[imsU]*)\)/.exec(text.slice(at, at + 16).join(''));
    if (!found || found[1] === '') return null;
    at += found[0].length;
    return changed(found[1]!, flags);
  }

  function group(flags: Flags, depth: number): Tree {
    let inner = flags;
    if (take('?')) {
      if (take('P<') || (text[at] === '<' && !['=', '!'].includes(text[at + 1] ?? '') && take('<'))) {
        if (!/^\w+$/.test(until('>'))) bad('no name for a group');
      } else {
        const letters = /^[imsU-]*:/.exec(text.slice(at, at + 16).join('')) ?? bad('a group that RE2 has not');
        at += letters[0].length;
        inner = changed(letters[0].slice(0, -1), flags);
      }
    }
    const tree = alternatives(inner, depth + 1);
    if (!take(')')) bad('no )');
    return tree;
  }

  function repeated(flags: Flags, depth: number): Tree[] {
    const items = atom(flags, depth);
    const found = /^(?:[*+?]|\{\d+(?:,\d*)?\})/.exec(text.slice(at, at + 12).join(''));
    if (!found) return items;
    at += found[0].length;
    take('?');
    if (/^[*+?]$/.test(text[at] ?? '')) bad('a repetition of a repetition');
    const short: Readonly<Record<string, readonly number[]>> = { '*': [0, Infinity], '+': [1, Infinity], '?': [0, 1] };
    const [min = 0, max = min] =
      short[found[0]] ??
      found[0]
        .slice(1, -1)
        .split(',')
        .map((n) => (n === '' ? Infinity : Number(n)));
    if (min > max || min > MAX_REPEAT || (max !== Infinity && max > MAX_REPEAT)) bad(`no repetition ${found[0]}`);
    const last = items.at(-1) ?? bad('nothing to repeat');
    return [...items.slice(0, -1), { is: 'repeat', of: last, min, max }];
  }

  /** One thing; more for \Q…\E. */
  function atom(flags: Flags, depth: number): Tree[] {
    const char = (test: Test): Tree[] => [{ is: 'char', test: flags.i ? folded(test) : test }];
    const c = text[at++]!;
    switch (c) {
      case '(':
        return [group(flags, depth)];
      case '[':
        return char(set());
      case '.':
        return char(flags.s ? () => true : not(one('\n')));
      case '^':
        return [{ is: 'at', place: flags.m ? 'lineStart' : 'start' }];
      case '$':
        return [{ is: 'at', place: flags.m ? 'lineEnd' : 'end' }];
      case '*':
      case '+':
      case '?':
        return bad('nothing to repeat');
      case '\\':
        break;
      default:
        return char(one(c));
    }
    if (take('A')) return [{ is: 'at', place: 'start' }];
    if (take('z')) return [{ is: 'at', place: 'end' }];
    if (take('b')) return [{ is: 'at', place: 'word' }];
    if (take('B')) return [{ is: 'at', place: 'notWord' }];
    if (take('C')) return char(() => true);
    if (take('Q')) {
      const out: Tree[] = [];
      while (at < text.length && !take('\\E')) out.push(...char(one(text[at++]!)));
      return out;
    }
    const found = escaped();
    return char(typeof found === 'number' ? range(found, found) : found);
  }

  const tree = alternatives({ i: false, m: false, s: false }, 0);
  if (at < text.length) bad('a ) too many');
  return tree;
}

/** A state reads a character, checks where it stands, or goes on to both `next` and `other`; the last state accepts. */
interface State {
  readonly test?: Test;
  readonly place?: Place;
  next: number;
  other?: number;
}

function compile(tree: Tree): State[] {
  const states: State[] = [];
  const add = (s: State): number => {
    if (states.length >= MAX_STATES) fail('attribute_invalid', 'the pattern is too large');
    return states.push(s) - 1;
  };
  /** The state to start from so as to match `t` and go on to `next`. */
  let visited = 0;
  const build = (t: Tree, next: number): number => {
    if (++visited > 10 * MAX_STATES) fail('attribute_invalid', 'the pattern is too large');
    switch (t.is) {
      case 'char':
        return add({ test: t.test, next });
      case 'at':
        return add({ place: t.place, next });
      case 'all':
        return t.of.reduceRight((to, part) => build(part, to), next);
      case 'any':
        return t.of.map((way) => build(way, next)).reduceRight((other, way) => add({ next: way, other }));
      case 'repeat': {
        let to = next;
        if (t.max === Infinity) {
          const split = add({ next: -1, other: next });
          states[split]!.next = build(t.of, split);
          to = split;
        } else for (let i = t.min; i < t.max; i++) to = add({ next: build(t.of, to), other: next });
        for (let i = 0; i < t.min; i++) to = build(t.of, to);
        return to;
      }
    }
  };
  const accept = add({ next: -1 });
  add({ next: build(tree, accept) });
  return states;
}

/**
 * A function that says whether a whole text matches `pattern`. @throws attribute_invalid for what RE2 would not take
 */
export function fullMatcher(pattern: string): (text: string) => boolean {
  const states = compile(parse(pattern));
  const isWord = (c: number | undefined): boolean => c !== undefined && word(c);
  return (text) => {
    const points = Array.from(text, code);
    const mark = new Int32Array(states.length).fill(-1);
    let here: number[] = [];
    const stands = (place: Place, i: number): boolean => {
      switch (place) {
        case 'start':
          return i === 0;
        case 'end':
          return i === points.length;
        case 'lineStart':
          return i === 0 || points[i - 1] === 10;
        case 'lineEnd':
          return i === points.length || points[i] === 10;
        default:
          return (isWord(points[i - 1]) !== isWord(points[i])) === (place === 'word');
      }
    };
    const enter = (from: number, i: number): void => {
      const open = [from];
      for (let s = open.pop(); s !== undefined; s = open.pop()) {
        if (s < 0 || mark[s] === i) continue;
        mark[s] = i;
        const state = states[s]!;
        if (state.test || s === 0) here.push(s);
        else if (!state.place || stands(state.place, i)) {
          open.push(state.next);
          if (state.other !== undefined) open.push(state.other);
        }
      }
    };
    enter(states.length - 1, 0);
    for (let i = 0; i < points.length && here.length > 0; i++) {
      const from = here;
      here = [];
      for (const s of from) if (states[s]!.test?.(points[i]!)) enter(states[s]!.next, i + 1);
    }
    return here.includes(0);
  };
}
