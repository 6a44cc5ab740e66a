/** What a session does on the host: single operators by their references, and random numbers for them. */
import { packed, type Packers } from '../kernels/pack.ts';
import { type Op, refCall } from '../kernels/define.ts';
import { MAP } from './2-optimize/lower-map.ts';
import type { HostWork } from './4-run/executable.ts';
import type { HostStep } from './core/plan.ts';
import type { Tensor, Value } from './core/tensor.ts';

/** The operators' references, for steps that run on the host, and how weights are packed for the device. */
export function hostWork(ops: ReadonlyMap<string, Op>, packers: Packers, random: () => number): HostWork {
  return {
    run: (step, inputs) => {
      const op = ops.get(step.op)!;
      if (typeof step.attrs.epilogue !== 'string')
        return op.reference(refCall(inputs, step.attrs, step.outputs.length, undefined, random));
      return runWithEpilogue(ops, op, step, inputs);
    },
    pack: (t, pack, into) => packed(packers, t, pack, into),
  };
}

/** A fused node whose kernel is missing: the operator, then its epilogue as a map over the result. */
async function runWithEpilogue(
  ops: ReadonlyMap<string, Op>,
  op: Op,
  step: HostStep,
  inputs: readonly (Value | null)[],
): Promise<readonly (Value | null)[]> {
  const from = step.attrs.operandsFrom as number;
  const [result] = await op.reference(refCall(inputs.slice(0, from), step.attrs, 1));
  const { dtype, shape } = result as Tensor;
  return ops
    .get(MAP)!
    .reference(refCall([result!, ...inputs.slice(from)], { expr: step.attrs.epilogue, dtype, shape }, 1));
}

/** Numbers from 0 up to 1, and where it is in its sequence. */
export interface Random {
  (): number;
  state: number;
}

/** Tommy Ettinger's 32-bit generator: small, and good enough for noise. */
export function mulberry32(seed: number): Random {
  const random = (): number => {
    const a = (random.state = (random.state + 0x6d2b79f5) >>> 0);
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  random.state = seed >>> 0;
  return random;
}
