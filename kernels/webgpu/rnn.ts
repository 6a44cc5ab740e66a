/**
 * LSTM, GRU and RNN: one product for the inputs of all steps, then the steps, then the outputs. Small hidden states
 * stay in a workgroup for all steps; else, and on software adapters, whose barriers are slow, each step is a dispatch.
 */
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { matmulDirect, rnnCollect, rnnLengths, rnnLoop, rnnStart, rnnStep } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import { type RnnAttrs, type RnnShape, rnnShape } from '../rnn-shape.ts';
import { elemOf } from './elem.ts';
import { finishOf, putOf } from './finish.ts';
import { grid } from './grid.ts';
import { dotsB, flattened, matrixOf, type Product, productKind, productLaunch, sourceA, sourceB } from './product.ts';
import { directTile } from './product-tiles.ts';
import { type CellSpec, cellText, hasActivation, LENGTHS_TEXT } from './rnn-cell.ts';

type RnnCall = Call<RnnAttrs & { readonly input_forget?: number; readonly linear_before_reset?: number }>;
export interface RnnFamily {
  readonly op: CellSpec['op'];
  readonly gates: number;
  readonly defaults: readonly string[];
}

/** Steps for which a plan holds a dispatch each. */
const MAX_STEPS = 4096;
/** Widest hidden state that one workgroup works on. */
const MAX_SHARED = 256;
const SUMS = { scratch: 0 };
const STATES = { scratch: 1 };
const MEMORY = { scratch: 2 };
const WG = 64;
const LENGTHS = { lengths: 'i32' } as const;

const shapeOf = (call: RnnCall, f: RnnFamily): RnnShape =>
  rnnShape(
    [0, 1, 2, 3, 4, 5, 6, 7].map((i) => call.inputs[i]),
    call.attrs,
    f.gates,
    f.defaults,
  );
const given = (call: RnnCall, i: number): boolean => (call.inputs[i] ?? null) !== null;

function specOf(call: RnnCall, f: RnnFamily, shape: RnnShape, parts: number, phase: 0 | 1 | 2): CellSpec {
  const { attrs } = call;
  return {
    op: f.op,
    gates: f.gates,
    shape,
    layout: attrs.layout,
    clip: attrs.clip ?? 0,
    bias: given(call, 3),
    peephole: given(call, 7),
    lengths: given(call, 4),
    inputForget: Boolean(attrs.input_forget),
    shared: parts > 0,
    parts: Math.max(1, parts),
    phase,
  };
}
/** A GRU that resets the state before it is multiplied needs all reset gates first. */
const twoPhases = (call: RnnCall, f: RnnFamily): boolean => f.op === 'GRU' && !call.attrs.linear_before_reset;

function accepts(call: RnnCall, f: RnnFamily): boolean {
  const s = shapeOf(call, f);
  return (
    [0, 1, 2, 3, 5, 6, 7].every((i) => !given(call, i) || productKind(elemOf(call.inputs[i]!.dtype)) === 'f32') &&
    s.activations.flat().every(hasActivation) &&
    s.steps > 0 &&
    s.steps <= MAX_STEPS &&
    s.input > 0 &&
    s.hidden > 0 &&
    s.batch > 0 &&
    s.hidden * s.batch <= 64 * 65535
  );
}

/** X W' of all steps and directions, [row of X, direction, gate, unit]. */
function inputProduct(call: RnnCall, f: RnnFamily, s: RnnShape, caps: GpuCaps): Launch {
  const m = s.steps * s.batch;
  const n = s.reversed.length * f.gates * s.hidden;
  const out: Call = { ...call, outputs: [{ dtype: 'float32', shape: [m, n] }] };
  const p: Product = flattened({
    call: out,
    batch: [],
    m,
    n,
    k: s.input,
    a: matrixOf(call, 0, m, s.input, s.input, 1, [], false),
    b: matrixOf(call, 1, s.input, n, 1, s.input, [], false),
    fixedDepth: true,
    kind: 'f32',
    alpha: 1,
    addends: [],
  });
  const TM = m >= 4 ? 4 : 1;
  const WY = m >= 16 ? 4 : 1;
  const WX = 64 / WY;
  const put = putOf(out, caps, n % 4 === 0, finishOf(out));
  return productLaunch(
    p,
    matmulDirect,
    { TM },
    [Math.ceil(n / 4 / WX), Math.ceil(m / TM / WY), 1],
    sourceA(p, caps, false),
    sourceB(p, caps, dotsB(p)),
    directTile(p, TM),
    put,
    SUMS,
    WX,
  );
}

/** R as [direction, gate, input unit] rows of output units. */
function recurrentWeights(
  call: RnnCall,
  f: RnnFamily,
  s: RnnShape,
): { ref: Ref; types: Launch['types']; text: string } {
  const H = s.hidden;
  const elem = elemOf(call.inputs[2]!.dtype)!;
  if (call.inputs[2]!.constant === undefined)
    return {
      ref: { input: 2 },
      types: { weights: elem },
      text: `fn take_r(row: u32, unit: u32) -> vec4f { let block = row / ${H}u; let at = (vec4u(block * ${H}u) + min(vec4u(unit) + vec4u(0u, 1u, 2u, 3u), vec4u(${H - 1}u))) * ${H}u + (row - block * ${H}u); return vec4f(load_weights(at.x), load_weights(at.y), load_weights(at.z), load_weights(at.w)); }`,
    };
  const count = s.reversed.length * f.gates;
  const wide = Math.ceil(H / 4) * 4;
  const pack = { name: 'matrix.rows', args: [count, H, H, 1, H], bytes: count * H * wide * (elem === 'f32' ? 4 : 2) };
  const load = elem === 'f32' ? 'weights' : 'load4_weights';
  const index = `(row * ${wide}u + unit) >> 2u`;
  return {
    ref: { input: 2, pack },
    types: elem === 'f32' ? {} : { weights: elem },
    text: `${elem === 'f32' ? 'alias WeightsStore = vec4f;\n' : ''}fn take_r(row: u32, unit: u32) -> vec4f { return ${load}${elem === 'f32' ? `[${index}]` : `(${index})`}; }`,
  };
}

/** Initial state `input` (zeros if left out) in the first slot of `to`. */
function startLaunch(call: RnnCall, s: RnnShape, input: number, to: Ref): Launch {
  const D = s.reversed.length;
  const known = given(call, input);
  return {
    module: rnnStart,
    types: known ? { start: elemOf(call.inputs[input]!.dtype)! } : {},
    params: { WG, DIRECTIONS: D, HIDDEN: s.hidden, LAYOUT: call.attrs.layout },
    uniforms: { batch: s.batch },
    slots: { initial: `fn initial(i: u32) -> f32 { return ${known ? 'load_start(i)' : '0.0'}; }` },
    workgroups: grid(D * s.batch * s.hidden, WG),
    bind: [to],
    extra: known ? [{ name: 'start', bind: { input } }] : [],
  };
}

/** Output `output` of the states in `from`: all of them, or the last. */
function collectLaunch(
  call: RnnCall,
  s: RnnShape,
  output: number,
  from: Ref,
  last: boolean,
  steps: number,
  caps: GpuCaps,
): Launch {
  const fact = call.outputs[output]!;
  const count = sizeOf(fact.shape);
  const single: Call = { ...call, outputs: [fact] };
  const put = putOf(single, caps, true, finishOf(single));
  const lengths = given(call, 4) && !last;
  return {
    module: rnnCollect,
    types: { ...put.types, ...(lengths ? LENGTHS : {}) },
    params: {
      WG,
      DIRECTIONS: s.reversed.length,
      HIDDEN: s.hidden,
      LAYOUT: call.attrs.layout,
      LAST: last ? 1 : 0,
      REVERSED: s.reversed[0] ? 1 : 0,
    },
    uniforms: { count, batch: s.batch, steps },
    slots: { put: put.text, steps_of: lengths ? LENGTHS_TEXT : 'fn steps_of(b: u32) -> u32 { return u.steps; }' },
    workgroups: grid(Math.ceil(count / 4), WG),
    bind: [from, { output }],
    extra: [...put.extra, ...(lengths ? [{ name: 'lengths', bind: { input: 4 } }] : [])],
    extraUniforms: put.extraUniforms,
  };
}

/**
 * How many invocations share the sums of a quad of units in one workgroup: unless asked otherwise, as many as leave
 * each eight terms or more.
 */
function partsOf(hidden: number, caps: GpuCaps, asked = Math.min(8, hidden / 8)): number {
  return (
    2 **
    Math.max(
      0,
      Math.floor(Math.log2(Math.min(asked, caps.limits.maxComputeInvocationsPerWorkgroup / Math.ceil(hidden / 4)))),
    )
  );
}

/** `parts`: how many invocations share a quad of units where a workgroup does all steps; 0: each step is a dispatch. */
function launches(call: RnnCall, f: RnnFamily, caps: GpuCaps, parts: number): Launch[] {
  const s = shapeOf(call, f);
  const D = s.reversed.length;
  const quads = Math.ceil(s.hidden / 4);
  const weights = recurrentWeights(call, f, s);
  const more = (
    [
      [3, 'bias'],
      [4, 'lengths'],
      [7, 'peephole'],
    ] as const
  ).filter(([i]) => given(call, i));
  const common = {
    types: { ...weights.types, ...Object.fromEntries(more.map(([i, name]) => [name, elemOf(call.inputs[i]!.dtype)!])) },
    bind: [SUMS, weights.ref, STATES, MEMORY],
    extra: more.map(([input, name]) => ({ name, bind: { input } })),
  };
  const phases: readonly (0 | 1 | 2)[] = !twoPhases(call, f) ? [2] : parts > 0 ? [0] : [0, 1];
  const texts = phases.map((phase) => cellText(specOf(call, f, s, parts, phase), weights.text));
  const steps: Launch[] =
    parts > 0
      ? [
          {
            ...common,
            module: rnnLoop,
            params: { WG: quads * parts },
            slots: { advance: texts[0]! },
            uniforms: { steps: s.steps, batch: s.batch },
            workgroups: [D * s.batch, 1, 1],
          },
        ]
      : Array.from({ length: s.steps }, (_, step) =>
          texts.map(
            (advance): Launch => ({
              ...common,
              module: rnnStep,
              params: { WG },
              slots: { advance },
              uniforms: { step, steps: s.steps, batch: s.batch },
              workgroups: grid(quads * s.batch * D, WG),
            }),
          ),
        ).flat();
  const wanted = (i: number): boolean => (call.outputs[i] ?? null) !== null;
  return [
    ...(given(call, 4)
      ? [
          {
            module: rnnLengths,
            types: {},
            params: { WG },
            uniforms: { count: s.batch, steps: s.steps },
            workgroups: grid(s.batch, WG),
            bind: [{ input: 4 }, { fault: true }],
          } satisfies Launch,
        ]
      : []),
    inputProduct(call, f, s, caps),
    startLaunch(call, s, 5, STATES),
    ...(f.op === 'LSTM' ? [startLaunch(call, s, 6, MEMORY)] : []),
    ...steps,
    ...(wanted(0) ? [collectLaunch(call, s, 0, STATES, false, s.steps, caps)] : []),
    ...(wanted(1) ? [collectLaunch(call, s, 1, STATES, true, s.steps, caps)] : []),
    ...(wanted(2) ? [collectLaunch(call, s, 2, MEMORY, true, 0, caps)] : []),
  ];
}

/** Kernels of a recurrent layer. Activations that shaders lack run on the host. */
export function rnnKernels(f: RnnFamily): readonly GpuKernel[] {
  const scratch = (call: Call): number[] => {
    const s = shapeOf(call as RnnCall, f);
    const state = s.reversed.length * s.batch * s.hidden * 4;
    return [s.steps * s.batch * s.reversed.length * f.gates * s.hidden * 4, (s.steps + 1) * state, 2 * state];
  };
  return [
    {
      name: 'rnn.loop',
      accepts: (call, caps) =>
        !caps.software &&
        accepts(call as RnnCall, f) &&
        shapeOf(call as RnnCall, f).hidden <= MAX_SHARED &&
        shapeOf(call as RnnCall, f).batch <= 16384,
      tunables: { PARTS: [1, 2, 4, 8] },
      scratch,
      launch: (call, caps, tuned) =>
        launches(call as RnnCall, f, caps, partsOf(shapeOf(call as RnnCall, f).hidden, caps, tuned.PARTS)),
    },
    {
      name: 'rnn.steps',
      accepts: (call) => accepts(call as RnnCall, f),
      scratch,
      launch: (call, caps) => launches(call as RnnCall, f, caps, 0),
    },
  ];
}
