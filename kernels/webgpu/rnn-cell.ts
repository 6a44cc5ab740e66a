/** The arithmetic of recurrent cells as text, four hidden units at a time. */
import type { ActivationSpec, RnnShape } from '../rnn-shape.ts';

const number = (v: number): string => (Number.isInteger(v) ? `${v}.0` : `${v}`);

/** Activations by ONNX's name in lower case, of a value v; those that are not here run on the host. */
const ACTIVATION: Readonly<Record<string, (alpha: number | undefined, beta: number | undefined) => string>> = {
  sigmoid: () => 'sigmoid(v)',
  tanh: () => 'safe_tanh(v)',
  relu: () => 'max(v, 0.0)',
  softplus: () => 'softplus(v)',
  softsign: () => 'v / (1.0 + abs(v))',
  affine: (a, b) => `${number(a ?? 1)} * v + ${number(b ?? 0)}`,
  leakyrelu: (a) => `select(v, ${number(a ?? 0.01)} * v, v < 0.0)`,
  thresholdedrelu: (a) => `select(0.0, v, v >= ${number(a ?? 1)})`,
  scaledtanh: (a, b) => `${number(a ?? 1)} * safe_tanh(${number(b ?? 1)} * v)`,
  hardsigmoid: (a, b) => `clamp(${number(a ?? 0.2)} * v + ${number(b ?? 0.5)}, 0.0, 1.0)`,
  elu: (a) => `select(v, ${number(a ?? 1)} * (exp(v) - 1.0), v < 0.0)`,
};
export const hasActivation = (a: ActivationSpec): boolean => Object.hasOwn(ACTIVATION, a.name.toLowerCase());

/** What a cell's text depends on: of its shape, neither the batch nor the steps. */
export interface CellSpec {
  readonly op: 'LSTM' | 'GRU' | 'RNN';
  readonly gates: number;
  readonly shape: RnnShape;
  readonly layout: number;
  readonly clip: number;
  readonly bias: boolean;
  readonly peephole: boolean;
  /** Entries end after steps of their own. */
  readonly lengths: boolean;
  readonly inputForget: boolean;
  /** The hidden state is in workgroup memory; */
  readonly shared: boolean;
  /** and so many invocations share the sums of a quad of units. */
  readonly parts: number;
  /**
   * A GRU's gates (0), and what its new state needs of all of them (1); everything at once (2). In workgroup memory, 0
   * is both, one after the other.
   */
  readonly phase: 0 | 1 | 2;
}

/**
 * `advance` and all that the modules rnn_step and rnn_loop ask for. `takeWeights` is the text of `take_r(row, unit)`:
 * weights of four units for input row `row` of [direction, gate, input].
 */
export function cellText(c: CellSpec, takeWeights: string): string {
  const { shape: s, gates } = c;
  const H = s.hidden;
  const QUADS = Math.ceil(H / 4);
  const D = s.reversed.length;
  const curves = s.activations[0]!.map((_, n) => {
    const by = s.activations.map((list) => {
      const a = list[n]!;
      return ACTIVATION[a.name.toLowerCase()]!(a.alpha, a.beta);
    });
    const bodies =
      by.length === 2 && by[0] !== by[1] ? `if (d == 1u) { return ${by[1]}; } return ${by[0]};` : `return ${by[0]};`;
    return `fn curve${n}_one(v: f32, d: u32) -> f32 { ${bodies} }\nfn curve${n}(v: vec4f, d: u32) -> vec4f { ${c.clip > 0 ? `let w = clamp(v, vec4f(-${number(c.clip)}), vec4f(${number(c.clip)}));` : 'let w = v;'} return vec4f(curve${n}_one(w.x, d), curve${n}_one(w.y, d), curve${n}_one(w.z, d), curve${n}_one(w.w, d)); }`;
  });
  const back = c.lengths ? 'steps_of(at.b) - 1u - s' : 'u.steps - 1u - s';
  const moment = s.reversed.length === 2 ? `select(s, ${back}, at.d == 1u)` : s.reversed[0] ? back : 's';
  const four = (name: string, text: string): string =>
    `fn ${name}(i: u32, unit: u32) -> vec4f { let at = vec4u(i) + min(vec4u(unit) + vec4u(0u, 1u, 2u, 3u), vec4u(${H - 1}u)); return vec4f(${['x', 'y', 'z', 'w'].map((l) => text.replace('@', `at.${l}`)).join(', ')}); }`;
  return [
    `const QUADS: u32 = ${QUADS}u;`,
    `const DIRECTIONS: u32 = ${D}u;`,
    ...(c.shared ? [] : [`const LAST_PHASE: bool = ${c.phase !== 0};`]),
    'struct UnitsAt { d: u32, b: u32, unit: u32 }',
    `fn units_at(i: u32) -> UnitsAt { let rest = i / QUADS; let d = rest / u.batch; return UnitsAt(d, rest - d * u.batch, (i - rest * QUADS) * 4u); }`,
    `fn state_row(s: u32, at: UnitsAt) -> u32 { return ((s * DIRECTIONS + at.d) * u.batch + at.b) * ${H}u; }`,
    `fn memory_row(part: u32, at: UnitsAt) -> u32 { return ((part * DIRECTIONS + at.d) * u.batch + at.b) * ${H}u; }`,
    four('states4', 'states[@]'),
    four('memory4', 'memory[@]'),
    four('sums4', 'sums[@]'),
    ...(c.bias ? [four('bias4', 'load_bias(@)')] : []),
    ...(c.peephole ? [four('peephole4', 'load_peephole(@)')] : []),
    `fn old_state(s: u32, at: UnitsAt) -> vec4f { return states4(state_row(s, at), at.unit); }`,
    `fn keep(s: u32, at: UnitsAt, h: vec4f) { let o = state_row(s, at) + at.unit; ${[0, 1, 2, 3].map((k) => `if (at.unit + ${k}u < ${H}u) { states[o + ${k}u] = h.${'xyzw'[k]}; }`).join(' ')} }`,
    `fn remember(part: u32, at: UnitsAt, v: vec4f) { let o = memory_row(part, at) + at.unit; ${[0, 1, 2, 3].map((k) => `if (at.unit + ${k}u < ${H}u) { memory[o + ${k}u] = v.${'xyzw'[k]}; }`).join(' ')} }`,
    ...(c.shared
      ? [
          `var<workgroup> hidden: array<f32, ${QUADS * 4}>;`,
          ...(c.phase === 0 ? [`var<workgroup> reset: array<f32, ${QUADS * 4}>;`] : []),
          ...(c.parts > 1
            ? [`var<workgroup> cells: array<vec4f, ${(c.parts - 1) * (c.phase === 0 ? 2 : gates) * QUADS}>;`]
            : []),
          'fn held4(unit: u32) -> vec4f { return vec4f(hidden[unit], hidden[unit + 1u], hidden[unit + 2u], hidden[unit + 3u]); }',
          'fn share(unit: u32, h: vec4f) { hidden[unit] = h.x; hidden[unit + 1u] = h.y; hidden[unit + 2u] = h.z; hidden[unit + 3u] = h.w; }',
        ]
      : []),
    ...(c.lengths ? [LENGTHS_TEXT] : []),
    takeWeights,
    ...curves,
    `fn from_input(s: u32, at: UnitsAt, gate: u32) -> vec4f { let t = ${moment}; let row = ${c.layout === 0 ? 't * u.batch + at.b' : 'at.b * u.steps + t'}; return sums4(((row * DIRECTIONS + at.d) * ${gates}u + gate) * ${H}u, at.unit)${c.bias ? ` + bias4((at.d * ${2 * gates}u + gate) * ${H}u, at.unit)` : ''}; }`,
    `fn recur_bias(at: UnitsAt, gate: u32) -> vec4f { return ${c.bias ? `bias4((at.d * ${2 * gates}u + ${gates}u + gate) * ${H}u, at.unit)` : 'vec4f(0.0)'}; }`,
    advanceText(c, H),
  ].join('\n');
}

/** `steps_of(b)`: the steps of entry b, from sequence_lens; a word that is no such number counts as one that is. */
export const LENGTHS_TEXT = 'fn steps_of(b: u32) -> u32 { return u32(clamp(load_lengths(b), 0, i32(u.steps))); }';

/**
 * Sums over the old state for some gates, those of invocation `part` where several share a workgroup's; statements that
 * leave r0, r1, …
 */
function sumsText(c: CellSpec, used: readonly number[], from: string): string {
  const H = c.shape.hidden;
  const chunk = Math.ceil(H / c.parts);
  const open = c.lengths && c.shared ? 'live' : '';
  const terms = `let h = ${from}; ${used.map((g) => `r${g} += h * take_r(w${g} + k, at.unit);`).join(' ')}`;
  const loop =
    c.parts === 1
      ? `for (var k = 0u; k < ${H}u; k++) { ${terms} }`
      : `for (var j = 0u; j < ${chunk}u; j++) { let k = part * ${chunk}u + j; ${H % c.parts === 0 ? '' : `if (k >= ${H}u) { break; } `}${terms} }`;
  return `${used.map((g) => `  var r${g} = vec4f(0.0); let w${g} = (at.d * ${c.gates}u + ${g}u) * ${H}u;`).join('\n')}
  ${open === '' ? loop : `if (${open}) { ${loop} }`}`;
}

/**
 * What invocations of a workgroup have of `used`, added up in order by the first of those that share a quad of units.
 */
function sharedSums(c: CellSpec, used: readonly number[], from: string): string {
  const sums = sumsText(c, used, from);
  if (c.parts === 1) return `${sums}\n  workgroupBarrier();`;
  const cell = (part: string, n: number): string => `cells[(${part} * ${used.length}u + ${n}u) * QUADS + at.unit / 4u]`;
  return `${sums}
  if (part > 0u) { ${used.map((g, n) => `${cell('(part - 1u)', n)} = r${g};`).join(' ')} }
  workgroupBarrier();
  if (part == 0u) { for (var p = 0u; p < ${c.parts - 1}u; p++) { ${used.map((g, n) => `r${g} += ${cell('p', n)};`).join(' ')} } }`;
}

/** The body of a cell: sums over the old state for the gates it needs, then the gates. */
function advanceText(c: CellSpec, H: number): string {
  const all = Array.from({ length: c.gates }, (_, g) => g);
  const gate = (g: number): string => `from_input(s, at, ${g}u) + r${g} + recur_bias(at, ${g}u)`;
  const peep = (part: number, of: string): string =>
    c.peephole ? ` + peephole4((at.d * 3u + ${part}u) * ${H}u, at.unit) * ${of}` : '';
  const old = c.shared ? 'held4(at.unit)' : 'old_state(s, at)';
  const mixed = (now: string): string =>
    `  let now = curve1(${now}, at.d);\n  return (vec4f(1.0) - z) * now + z * ${old};`;
  const lstm = `  let before = memory4(memory_row(0u, at), at.unit);
  let i = curve0(${gate(0)}${peep(0, 'before')}, at.d);
  let f = ${c.inputForget ? 'vec4f(1.0) - i' : `curve0(${gate(2)}${peep(2, 'before')}, at.d)`};
  let now = f * before + i * curve1(${gate(3)}, at.d);
  let o = curve0(${gate(1)}${peep(1, 'now')}, at.d);
  remember(0u, at, now);
  return o * curve2_free(now, at.d);`;
  const whole =
    c.op === 'LSTM'
      ? lstm
      : c.op === 'RNN'
        ? `  return curve0(${gate(0)}, at.d);`
        : `  let z = curve0(${gate(0)}, at.d);\n  let r = curve0(${gate(1)}, at.d);\n${mixed(`from_input(s, at, 2u) + r * (r2 + recur_bias(at, 2u))`)}`;
  const free =
    c.op === 'LSTM'
      ? 'fn curve2_free(v: vec4f, d: u32) -> vec4f { return vec4f(curve2_one(v.x, d), curve2_one(v.y, d), curve2_one(v.z, d), curve2_one(v.w, d)); }\n'
      : '';
  if (c.shared) {
    const idle = [...(c.parts > 1 ? ['part > 0u'] : []), ...(c.lengths ? ['!live'] : [])];
    const rest = idle.length > 0 ? `\n  if (${idle.join(' || ')}) { return ${old}; }` : '';
    const steps =
      c.phase === 2
        ? `${sharedSums(c, all, 'hidden[k]')}${rest}\n${whole}`
        : `${sharedSums(c, [0, 1], 'hidden[k]')}
  let z = curve0(${gate(0)}, at.d);
  if (${c.parts > 1 ? 'part == 0u' : 'true'}) { let v = curve0(${gate(1)}, at.d) * ${old}; reset[at.unit] = v.x; reset[at.unit + 1u] = v.y; reset[at.unit + 2u] = v.z; reset[at.unit + 3u] = v.w; }
  workgroupBarrier();
${sharedSums(c, [2], 'reset[k]')}${rest}
${mixed(gate(2))}`;
    return `${free}fn advance(s: u32, at: UnitsAt, part: u32) -> vec4f {${c.lengths ? '\n  let live = s < steps_of(at.b);' : ''}\n${steps}\n}`;
  }
  const [used, from, body] =
    c.phase === 0
      ? ([
          [0, 1],
          'states[row + k]',
          `  remember(0u, at, curve0(${gate(0)}, at.d));\n  remember(1u, at, curve0(${gate(1)}, at.d) * ${old});\n  return vec4f(0.0);`,
        ] as const)
      : c.phase === 1
        ? ([
            [2],
            'memory[memory_row(1u, at) + k]',
            `  let z = memory4(memory_row(0u, at), at.unit);\n${mixed(gate(2))}`,
          ] as const)
        : ([all, 'states[row + k]', whole] as const);
  return `${free}fn advance(s: u32, at: UnitsAt) -> vec4f {${c.lengths ? '\n  if (s >= steps_of(at.b)) { return old_state(s, at); }' : ''}
  let row = state_row(s, at);
${sumsText(c, used, from)}
${body}
}`;
}
