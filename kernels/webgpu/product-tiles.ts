/** Register tiles of matrix products as text: unrolled to scalar names, since compilers spill or index arrays. */
import { VALUE_TYPE } from '../../wgsl/assemble.ts';
import { remembered } from '../remembered.ts';
import { dotsB, numberText, type Product } from './product.ts';

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const each = (n: number, f: (i: number) => string): string => range(n).map(f).join('\n');
const XYZW = ['x', 'y', 'z', 'w'] as const;

/**
 * Stores `count` quads, row `first` + i being there only before `end`. A loop, though the quads are names: a store's
 * text is long where an epilogue is, and compilers inline each copy of it.
 */
export function storeRows(
  count: number,
  first: string,
  end: string,
  quad: (i: number) => string,
  store: (i: string) => string,
): string {
  if (count === 1) return `  { let v = ${quad(0)}; ${store('0u')} }`;
  return `  for (var i = 0u; i < ${count}u; i++) {
    if (${first} + i >= ${end}) { break; }
    var v = ${quad(0)};
${range(count - 1)
  .map((i) => `    if (i == ${i + 1}u) { v = ${quad(i + 1)}; }`)
  .join('\n')}
    ${store('i')}
  }`;
}

/** TM rows by four columns, in one invocation. */
export const directTile = (p: Product, TM: number): string =>
  directText(
    TM,
    p.fixedDepth,
    p.fixedDepth ? p.k : 0,
    p.kind,
    VALUE_TYPE[p.a.elem] === p.kind,
    VALUE_TYPE[p.b.elem] === p.kind,
    dotsB(p),
  );
const directText = remembered(
  (
    TM: number,
    fixedDepth: boolean,
    depth: number,
    kind: Product['kind'],
    sameA: boolean,
    sameB: boolean,
    byDots: boolean,
  ): string => {
    const K = numberText(depth, fixedDepth, 'u.k');
    const vec = `vec4<${kind}>`;
    const K4 = numberText(depth >> 2, fixedDepth, '(u.k >> 2u)');
    /** A value of the sources' type in the product's kind. */
    const quad = (side: 'a' | 'b', text: string): string => ((side === 'a' ? sameA : sameB) ? text : `${vec}(${text})`);
    const rows = `  for (var q = 0u; q < ${K4}; q++) {
    let k = q * 4u;
${each(TM, (i) => `    let a${i} = ${quad('a', `take_a(o${i}, k, m${i})`)};`)}
${XYZW.map(
  (c, j) =>
    `    { let v = ${quad('b', `take_b(b0, k + ${j}u, n)`)}; ${range(TM)
      .map((i) => `c${i} += a${i}.${c} * v;`)
      .join(' ')} }`,
).join('\n')}
  }
${
  fixedDepth && depth % 4 === 0
    ? ''
    : `  for (var k = ${K4} * 4u; k < ${K}; k++) {
    let v = ${quad('b', 'take_b(b0, k, n)')};
${each(TM, (i) => `    c${i} += ${kind}(one_a(o${i}, k, m${i})) * v;`)}
  }`
}`;
    const dots = `  let n1 = min(n + 1u, u.n - 1u); let n2 = min(n + 2u, u.n - 1u); let n3 = min(n + 3u, u.n - 1u);
  for (var q = 0u; q < ${K4}; q++) {
    let k = q * 4u;
    let v0 = ${quad('b', 'take_b(b0, k, n)')}; let v1 = ${quad('b', 'take_b(b0, k, n1)')}; let v2 = ${quad('b', 'take_b(b0, k, n2)')}; let v3 = ${quad('b', 'take_b(b0, k, n3)')};
${each(TM, (i) => `    { let v = ${quad('a', `take_a(o${i}, k, m${i})`)}; c${i} += ${vec}(dot(v, v0), dot(v, v1), dot(v, v2), dot(v, v3)); }`)}
  }`;
    return `fn tile(a0: u32, b0: u32, y0: u32, row: u32, n: u32) {
${each(TM, (i) => `  let m${i} = min(row + ${i}u, u.m - 1u); let o${i} = a0 + m${i} * u.a_row; var c${i} = ${vec}(0);`)}
${byDots ? dots : rows}
${storeRows(
  TM,
  'row',
  'u.m',
  (i) => `c${i}`,
  (i) => `put(y0 + (row + ${i}) * u.n + n, v, u.n - n);`,
)}
}`;
  },
);

/**
 * All rows (at most 8: the text is that of 1, 4 or 8) by four columns; the depth of a quad of columns is shared by
 * PARTS invocations, whose sums are added in order.
 */
export const smallTile = (p: Product, PARTS: number): string =>
  smallText(p.m > 4 ? 8 : p.m > 1 ? 4 : 1, PARTS, p.fixedDepth, p.fixedDepth ? p.k : 0);
const smallText = remembered((m: number, PARTS: number, fixedDepth: boolean, depth: number): string => {
  const K = numberText(depth, fixedDepth, 'u.k');
  const K4 = numberText(depth >> 2, fixedDepth, '(u.k >> 2u)');
  return `var<workgroup> sums: array<vec4f, ${PARTS * 16}>;
fn tile(a0: u32, b0: u32, y0: u32, column: u32, x: u32, part: u32) {
  let n = min(column, (u.n - 1u) & ~3u);
${each(m, (i) => `  let m${i} = min(${i}u, u.m - 1u); let o${i} = a0 + m${i} * u.a_row; var c${i} = vec4f(0.0);`)}
  for (var q = part; q < ${K4}; q += ${PARTS}u) {
    let k = q * 4u;
    let v0 = take_b(b0, k, n); let v1 = take_b(b0, k + 1u, n); let v2 = take_b(b0, k + 2u, n); let v3 = take_b(b0, k + 3u, n);
${each(m, (i) => `    { let v = take_a(o${i}, k, m${i}); c${i} += v.x * v0 + v.y * v1 + v.z * v2 + v.w * v3; }`)}
  }
  if (part == 0u) {
    for (var k = ${K4} * 4u; k < ${K}; k++) {
      let v = take_b(b0, k, n);
${each(m, (i) => `      c${i} += one_a(o${i}, k, m${i}) * v;`)}
    }
  }
${each(
  m,
  (i) => `  sums[part * 16u + x] = c${i};
  workgroupBarrier();
  if (part == 0u && column < u.n${i > 0 ? ` && ${i}u < u.m` : ''}) { for (var j = 1u; j < ${PARTS}u; j++) { c${i} += sums[j * 16u + x]; } put(y0 + ${i}u * u.n + column, c${i}, u.n - column); }${i < m - 1 ? '\n  workgroupBarrier();' : ''}`,
)}
}`;
});

/**
 * TM rows by four columns, in one invocation; the lanes of a subgroup hold quads of depths of those rows, and hand them
 * round.
 */
export function lanesTile(p: Product, TM: number): string {
  const K = numberText(p.k, p.fixedDepth, 'u.k');
  const K4 = numberText(p.k >> 2, p.fixedDepth, '(u.k >> 2u)');
  return `fn tile(a0: u32, b0: u32, y0: u32, row: u32, column: u32, lane: u32, lanes: u32) {
  let n = min(column, (u.n - 1u) & ~3u);
${each(TM, (i) => `  let m${i} = min(row + ${i}u, u.m - 1u); let o${i} = a0 + m${i} * u.a_row; var c${i} = vec4f(0.0);`)}
  for (var q = 0u; q < ${K4}; q += lanes) {
    let own = min(q + lane, ${K4} - 1u) * 4u;
${each(TM, (i) => `    let h${i} = take_a(o${i}, own, m${i});`)}
    let held = min(lanes, ${K4} - q);
    for (var r = 0u; r < held; r++) {
      let k = (q + r) * 4u;
      let v0 = take_b(b0, k, n); let v1 = take_b(b0, k + 1u, n); let v2 = take_b(b0, k + 2u, n); let v3 = take_b(b0, k + 3u, n);
${each(TM, (i) => `      { let v = subgroupShuffle(h${i}, r); c${i} += v.x * v0 + v.y * v1 + v.z * v2 + v.w * v3; }`)}
    }
  }
  for (var k = ${K4} * 4u; k < ${K}; k++) {
    let v = take_b(b0, k, n);
${each(TM, (i) => `    c${i} += one_a(o${i}, k, m${i}) * v;`)}
  }
  if (column < u.n) {
${storeRows(
  TM,
  'row',
  'u.m',
  (i) => `c${i}`,
  (i) => `put(y0 + (row + ${i}) * u.n + n, v, u.n - n);`,
)}
  }
}`;
}

/**
 * A tile of a workgroup: BM by BN, BK deep at a time; each invocation owns BM / TY rows, TY apart, and BN / (4 TX)
 * quads of columns, TX apart.
 */
export interface TileShape {
  readonly BM: number;
  readonly BN: number;
  readonly BK: number;
  readonly TX: number;
  readonly TY: number;
}

export const tileThreads = (s: TileShape): number => s.TX * s.TY;
/**
 * Bytes of workgroup memory. Rows of a's tile are a quad longer than they are, so that a column lies in different
 * banks.
 */
export const tileBytes = (s: TileShape): number => 16 * (s.BM * (s.BK / 4 + 1) + (s.BK * s.BN) / 4);

/**
 * A workgroup's tile, the next stage being fetched to registers while this one is multiplied. `slices` share the depth.
 */
export const sharedTile = (p: Product, { BM, BN, BK, TX, TY }: TileShape, slices: number): string =>
  // Lanes next to each other read what lies next to each other.
  sharedText(
    BM,
    BN,
    BK,
    TX,
    TY,
    slices,
    p.fixedDepth,
    p.fixedDepth ? p.k : 0,
    p.readA === undefined && p.a.row === 1,
    p.readB === undefined && p.b.row === 1 && p.b.col !== 1,
  );
const sharedText = remembered(
  (
    BM: number,
    BN: number,
    BK: number,
    TX: number,
    TY: number,
    slices: number,
    fixedDepth: boolean,
    k: number,
    aDown: boolean,
    bDeep: boolean,
  ): string => {
    const T = TX * TY;
    const K4 = BK / 4;
    const N4 = BN / 4;
    const AS = K4 + 1;
    const TM = BM / TY;
    const TN = N4 / TX;
    const na = (BM * K4) / T;
    const nb = (BK * N4) / T;
    const K = numberText(k, fixedDepth, 'u.k');
    const steps = fixedDepth
      ? `${Math.ceil(Math.ceil(k / BK) / slices)}u`
      : `((u.k + ${BK * slices - 1}u) / ${BK * slices}u)`;
    const aAt = (e: string): [string, string] =>
      aDown ? [`${e} % ${BM}u`, `${e} / ${BM}u`] : [`${e} / ${K4}u`, `${e} % ${K4}u`];
    const bAt = (e: string): [string, string] =>
      bDeep ? [`${e} % ${BK}u`, `${e} / ${BK}u`] : [`${e} / ${N4}u`, `${e} % ${N4}u`];
    const e = (i: number): string => (i === 0 ? 'lid' : `(lid + ${i * T}u)`);
    const fetch = [
      ...range(na).map((i) => {
        const [r, q] = aAt(e(i));
        return `{ let row = min(row0 + ${r}, u.m - 1u); let k = t * ${BK}u + (${q}) * 4u; ra${i} = select(vec4f(0.0), take_a(a0 + row * u.a_row, min(k, (${K} - 1u) & ~3u), row), before(k, ${K})); }`;
      }),
      ...range(nb).map((i) => {
        const [d, q] = bAt(e(i));
        return `{ let k = t * ${BK}u + ${d}; rb${i} = select(vec4f(0.0), take_b(b0, min(k, ${K} - 1u), min(column + (${q}) * 4u, (u.n - 1u) & ~3u)), k < ${K}); }`;
      }),
    ]
      .map((l) => `      ${l}`)
      .join('\n');
    const stage = [
      ...range(na).map((i) => {
        const [r, q] = aAt(e(i));
        return `as_[(${r}) * ${AS}u + ${q}] = ra${i};`;
      }),
      ...range(nb).map((i) => {
        const [d, q] = bAt(e(i));
        return `bs[(${d}) * ${N4}u + ${q}] = rb${i};`;
      }),
    ]
      .map((l) => `    ${l}`)
      .join('\n');
    return `var<workgroup> as_: array<vec4f, ${BM * AS}>;
var<workgroup> bs: array<vec4f, ${BK * N4}>;
fn tile(a0: u32, b0: u32, y0: u32, row0: u32, column: u32, slice: u32, lid: u32) {
  let lx = lid % ${TX}u; let ly = lid / ${TX}u;
${range(na)
  .map((i) => `  var ra${i}: vec4f;`)
  .join('')}${range(nb)
  .map((i) => `  var rb${i}: vec4f;`)
  .join('')}
${range(TM)
  .map((i) =>
    range(TN)
      .map((j) => `  var c${i}_${j} = vec4f(0.0);`)
      .join(''),
  )
  .join('\n')}
  let first = slice * ${steps};
  for (var s = 0u; s < ${steps}; s++) {
    if (s == 0u) { let t = first;
${fetch}
    }
${stage}
    workgroupBarrier();
    if (s + 1u < ${steps}) { let t = first + s + 1u;
${fetch}
    }
    for (var q = 0u; q < ${K4}u; q++) {
${each(TM, (i) => `      let a${i} = as_[(ly + ${i * TY}u) * ${AS}u + q];`)}
${XYZW.map(
  (c, d) => `      {${range(TN)
    .map((j) => ` let b${j} = bs[(q * 4u + ${d}u) * ${N4}u + lx + ${j * TX}u];`)
    .join('')}
${each(
  TM,
  (i) =>
    `        ${range(TN)
      .map((j) => `c${i}_${j} = fma(vec4f(a${i}.${c}), b${j}, c${i}_${j});`)
      .join(' ')}`,
)} }`,
).join('\n')}
    }
    workgroupBarrier();
  }
${each(
  TM,
  (i) =>
    `  { let row = row0 + ly + ${i * TY}u; if (row < u.m) {${range(TN)
      .map(
        (j) =>
          ` { let n = column + (lx + ${j * TX}u) * 4u; if (n < u.n) { put(y0 + row * u.n + n, c${i}_${j}, u.n - n); } }`,
      )
      .join('')} } }`,
)}
}`;
  },
);
