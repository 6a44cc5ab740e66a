import { fail } from '../src/core/errors.ts';
import type { Graph } from '../src/core/graph.ts';
import { bigints, integers, numbers } from '../src/core/numbers.ts';
import { isTensor, sizeOf, type Tensor, tensor, type Value, zeros } from '../src/core/tensor.ts';
import { defineOp, graphAttr, int, ints, type Op, type RefCall, required } from './define.ts';
import { sized } from './elements.ts';
import { axisOf } from './shapes.ts';
import { concatenate, sliced } from './slice.ts';

/** A condition: one bool. @throws type_mismatch */
function truth(v: Value | undefined): boolean {
  if (!v || !isTensor(v) || v.dtype !== 'bool' || sizeOf(v.shape) !== 1)
    fail('type_mismatch', 'a condition must be one bool');
  return numbers(v)[0] !== 0;
}
const tensorOf = (v: Value | null | undefined, what: string): Tensor =>
  v && isTensor(v) ? v : fail('type_mismatch', `${what} must be a tensor`);

/** Entry `i` along `axis`, without that axis. */
export function entry(t: Tensor, axis: number, i: number): Tensor {
  const one = sliced(t, {
    starts: t.shape.map((_, d) => (d === axis ? i : 0)),
    steps: t.shape.map(() => 1),
    shape: t.shape.map((d, k) => (k === axis ? 1 : d)),
  });
  return { ...one, shape: t.shape.filter((_, d) => d !== axis) } as Tensor;
}
/** Tensors of one shape along a new axis. */
export function stack(tensors: readonly Tensor[], axis: number): Tensor {
  const at = axisOf(axis, tensors[0]!.shape.length + 1);
  return concatenate(
    tensors.map((t) => ({ ...t, shape: [...t.shape.slice(0, at), 1, ...t.shape.slice(at)] }) as Tensor),
    at,
  );
}
/**
 * What a body makes of an axis that is never run: a tensor of its declared type with no entries. Dims that it does not
 * declare are 0.
 */
function noEntries(body: Graph, output: number, axis: number): Tensor {
  const { name, declared } = body.values[body.outputs[output]!]!;
  if (!declared)
    fail('model_malformed', `output ${name} of body ${body.name} has no type, which a scan of nothing needs`);
  const shape = (declared.shape ?? []).map((d) => (typeof d === 'number' ? d : 0));
  const at = axisOf(axis, shape.length + 1);
  return zeros(declared.dtype, [...shape.slice(0, at), 0, ...shape.slice(at)]);
}
/** Fails early when entries kept for a scan output would make it too large. */
function keep(into: Tensor[], v: Value | undefined, what: string): void {
  const t = tensorOf(v, what);
  into.push(t);
  if ((into.length & 1023) === 0) sized(t.dtype, [into.length, Math.max(1, sizeOf(t.shape))]);
}

async function loop(call: RefCall<{ readonly body: Graph }>): Promise<Value[]> {
  const { body } = call.attrs;
  const [most, first] = [call.optional(0), call.optional(1)];
  if (most && sizeOf(most.shape) !== 1)
    fail('shape_mismatch', `the trip count has shape [${most.shape}]; it must be one number`);
  if (!most && !first) fail('input_missing', 'a Loop without trip count and condition never ends');
  const trips = most ? bigints(most)[0]! : 2n ** 63n;
  let carried = call.inputs
    .slice(2)
    .map((v, i) => v ?? fail('input_missing', `initial value ${i} of the Loop is missing`));
  const scans = body.outputs.length - 1 - carried.length;
  if (body.inputs.length !== carried.length + 2 || scans < 0) {
    fail(
      'shape_mismatch',
      `the Loop carries ${carried.length} values, its body takes ${body.inputs.length} inputs and makes ${body.outputs.length} outputs`,
    );
  }
  const kept: Tensor[][] = Array.from({ length: scans }, () => []);
  let going = first === null || truth(first);
  for (let i = 0n; going && i < trips; i++) {
    const made = await call.run(body, [tensor('int64', [], [i]), tensor('bool', [], [true]), ...carried]);
    // Without a condition input, what the body says of it is ignored.
    going = first === null || truth(made[0]);
    carried = made.slice(1, 1 + carried.length);
    kept.forEach((list, k) => keep(list, made[1 + carried.length + k], `scan output ${k} of the Loop`));
  }
  return [
    ...carried,
    ...kept.map((list, k) => (list.length > 0 ? stack(list, 0) : noEntries(body, 1 + carried.length + k, 0))),
  ];
}

interface ScanAttrs {
  readonly body: Graph;
  readonly num_scan_inputs: number;
  readonly scan_input_axes: readonly number[] | undefined;
  readonly scan_output_axes: readonly number[] | undefined;
  readonly scan_input_directions: readonly number[] | undefined;
  readonly scan_output_directions: readonly number[] | undefined;
}

/**
 * One scan: `state` values, then `over` entries of each of `inputs`; gives the final state and the entries kept for
 * each scan output.
 */
async function scanOnce(
  call: RefCall<ScanAttrs>,
  state: readonly Value[],
  inputs: readonly Tensor[],
  axes: readonly number[],
  steps: number,
): Promise<{ state: readonly Value[]; kept: Tensor[][] }> {
  const { body, scan_input_directions: directions } = call.attrs;
  if (body.inputs.length !== state.length + inputs.length || body.outputs.length < state.length) {
    fail(
      'shape_mismatch',
      `the Scan gives its body ${state.length + inputs.length} inputs; it takes ${body.inputs.length} and makes ${body.outputs.length} outputs`,
    );
  }
  const kept: Tensor[][] = Array.from({ length: body.outputs.length - state.length }, () => []);
  let current = state;
  for (let i = 0; i < steps; i++) {
    const made = await call.run(body, [
      ...current,
      ...inputs.map((t, k) => entry(t, axes[k]!, directions?.[k] ? t.shape[axes[k]!]! - 1 - i : i)),
    ]);
    current = made.slice(0, state.length);
    kept.forEach((list, k) => keep(list, made[state.length + k], `scan output ${k}`));
  }
  return { state: current, kept };
}

/** The number of scan inputs, checked: the rest of the `given` values are state. */
function splitInputs(call: RefCall<ScanAttrs>, given: readonly (Value | null)[]): { state: Value[]; inputs: Tensor[] } {
  const n = call.attrs.num_scan_inputs;
  const most = given.length;
  if (!(n >= 1 && n <= most)) fail('attribute_invalid', `num_scan_inputs is ${n} of ${most} inputs`);
  for (const [name, list] of [
    ['scan_input_axes', call.attrs.scan_input_axes],
    ['scan_input_directions', call.attrs.scan_input_directions],
  ] as const) {
    if (list && list.length !== n) fail('attribute_invalid', `${name} [${list}] must have ${n} entries`);
  }
  return {
    state: given.slice(0, most - n).map((v, i) => v ?? fail('input_missing', `state ${i} of the Scan is missing`)),
    inputs: given.slice(most - n).map((v, i) => tensorOf(v, `scan input ${i}`)),
  };
}
const lengthOf = (inputs: readonly Tensor[], axes: readonly number[]): number => {
  const steps = inputs[0]!.shape[axes[0]!]!;
  inputs.forEach((t, i) => {
    if (t.shape[axes[i]!] !== steps)
      fail('shape_mismatch', `scan inputs have ${steps} and ${t.shape[axes[i]!]} entries`);
  });
  return steps;
};

async function scan(call: RefCall<ScanAttrs>): Promise<Value[]> {
  const { state, inputs } = splitInputs(call, call.inputs);
  const axes = inputs.map((t, i) => axisOf(call.attrs.scan_input_axes?.[i] ?? 0, t.shape.length));
  const end = await scanOnce(call, state, inputs, axes, lengthOf(inputs, axes));
  return [
    ...end.state,
    ...end.kept.map((list, k) => {
      const axis = call.attrs.scan_output_axes?.[k] ?? 0;
      if (list.length === 0) return noEntries(call.attrs.body, state.length + k, axis);
      return stack(call.attrs.scan_output_directions?.[k] ? list.reverse() : list, axis);
    }),
  ];
}

/**
 * Opset 8's Scan: every value has a batch axis in front, and batch entries may be shorter than the others; what they
 * lack is 0.
 */
async function batchedScan(call: RefCall<ScanAttrs>): Promise<Value[]> {
  const { state, inputs } = splitInputs(call, call.inputs.slice(1));
  const states = state.map((v, i) => tensorOf(v, `state ${i}`));
  for (const t of [...states, ...inputs])
    if (t.shape.length === 0) fail('shape_mismatch', 'values of a batched Scan have a batch axis');
  for (const t of inputs)
    if (t.shape.length < 2) fail('shape_mismatch', `scan input [${t.shape}] has no sequence axis`);
  const steps = lengthOf(
    inputs,
    inputs.map(() => 1),
  );
  const batch = inputs[0]!.shape[0]!;
  if ([...states, ...inputs].some((t) => t.shape[0] !== batch))
    fail('shape_mismatch', 'values of a batched Scan differ in their batch');
  const given = call.optional(0);
  const lens = given ? integers(given) : Array.from({ length: batch }, () => steps);
  if (lens.length !== batch || lens.some((n) => !(n >= 0 && n <= steps)))
    fail('value_invalid', `sequence_lens [${lens}] must have ${batch} numbers up to ${steps}`);
  if (batch === 0) fail('shape_mismatch', 'a batched Scan of an empty batch');
  const finals: Tensor[][] = states.map(() => []);
  const outs: Tensor[][] = [];
  for (let b = 0; b < batch; b++) {
    const end = await scanOnce(
      call,
      states.map((t) => entry(t, 0, b)),
      inputs.map((t) => entry(t, 0, b)),
      inputs.map(() => 0),
      lens[b]!,
    );
    end.state.forEach((v, i) => finals[i]!.push(tensorOf(v, `state ${i}`)));
    end.kept.forEach((list, k) => {
      const made = list.length > 0 ? stack(list, 0) : noEntries(call.attrs.body, states.length + k, 0);
      const rest = zeros(made.dtype, [steps - list.length, ...made.shape.slice(1)]);
      (outs[k] ??= []).push(list.length < steps ? concatenate([made, rest], 0) : made);
    });
  }
  return [...finals, ...outs].map((list) => stack(list, 0));
}

const scanAttrs = {
  body: required(graphAttr()),
  num_scan_inputs: required(int()),
  scan_input_axes: ints(),
  scan_output_axes: ints(),
  scan_input_directions: ints(),
  scan_output_directions: ints(),
};

/**
 * https://onnx.ai/onnx/operators/onnx__If.html, https://onnx.ai/onnx/operators/onnx__Loop.html,
 * https://onnx.ai/onnx/operators/onnx__Scan.html
 */
export const control: readonly Op[] = [
  defineOp({
    op: 'If',
    since: [1, 11, 13, 16, 19, 21, 23, 24, 25],
    inputs: ['cond: bool'],
    outputs: ['outputs: any*'],
    types: {},
    dynamic: true,
    attrs: { then_branch: required(graphAttr()), else_branch: required(graphAttr()) },
    reference: (call) => call.run(truth(call.tensor(0)) ? call.attrs.then_branch : call.attrs.else_branch, []),
  }),
  defineOp({
    op: 'Loop',
    since: [1, 11, 13, 16, 19, 21, 23, 24, 25],
    inputs: ['M: int64?', 'cond: bool?', 'v_initial: any*'],
    outputs: ['v_final_and_scan_outputs: any*'],
    types: {},
    dynamic: true,
    attrs: { body: required(graphAttr()) },
    reference: loop,
  }),
  defineOp({
    op: 'Scan',
    since: [8, 9, 11, 16, 19, 21, 23, 24, 25],
    inputs: ['initial_state_and_scan_inputs: any*'],
    outputs: ['final_state_and_scan_outputs: any*'],
    types: {},
    dynamic: true,
    attrs: scanAttrs,
    normalize: ({ attrs, opset }) => {
      if (opset >= 9) return {};
      const { directions, ...rest } = attrs;
      return {
        op: 'sardonyx.BatchedScan',
        attrs: directions === undefined ? rest : { ...rest, scan_input_directions: directions },
      };
    },
    reference: scan,
  }),
  defineOp({
    op: 'sardonyx.BatchedScan',
    since: [1],
    inputs: ['sequence_lens: int64?', 'initial_state_and_scan_inputs: any*'],
    outputs: ['final_state_and_scan_outputs: any*'],
    types: {},
    dynamic: true,
    attrs: scanAttrs,
    reference: batchedScan,
  }),
];
