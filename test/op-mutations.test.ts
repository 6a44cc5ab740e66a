import { describe, expect, it } from 'vitest';
import type { Op } from '../kernels/define.ts';
import { dtypesOf, type Example } from '../kernels/examples.ts';
import { ops } from '../kernels/index.ts';
import {
  encodeExample,
  EXAMPLE_NODE,
  type ExampleModel,
  exampleModel,
  examples,
  isInternal,
} from '../src/cli/example-model.ts';
import { compareValues, mismatchText } from '../src/cli/compare.ts';
import { placeOf } from '../src/cli/support.ts';
import { isTensor } from '../src/core/tensor.ts';
import { planModel, SardonyxError, Session, type Value } from '../src/index.ts';
import { mutations } from './op-mutations.ts';

/** What is accepted all the same, by operator. */
const ACCEPTED: Readonly<Record<string, readonly string[]>> = {
  // Per tensor there is no axis to be wrong.
  ...Object.fromEntries(
    ['QuantizeLinear', 'DequantizeLinear']
      .flatMap((op) => [op, `com.microsoft.${op}`])
      .map((op) => [op, ['axis 99', 'axis -99']]),
  ),
  // Outside training it is Identity, and nothing else is looked at.
  Dropout: ['input 0 of int64', 'input 0 of bool', 'an input too many', 'an unknown attribute'],
  // A tensor stands for an optional that holds it.
  OptionalHasElement: ['a tensor for input 0'],
  OptionalGetElement: ['a tensor for input 0'],
  // Inputs are picked by place into the form of RotaryEmbedding, whose second is not the second here, and of Resize.
  'com.microsoft.RotaryEmbedding': ['input 1 of int64', 'input 3 of float32', 'an input too many'],
  Upsample: ['an input too many'],
};

/** SARDONYX_MUTANTS=wasm,webgpu runs there what the reference accepts, and compares. */
const devices = (process.env.SARDONYX_MUTANTS ?? '')
  .split(',')
  .filter((d): d is 'wasm' | 'webgpu' => d === 'wasm' || d === 'webgpu');

describe('an operator called wrongly', () => {
  it.each([...ops.values()].filter((op) => !isInternal(op.op)).map((op) => [op.op, op] as const))(
    '%s refuses, and says which node',
    async (name, op) => {
      const problems: string[] = [];
      const e = examples.find((x) => x.op === name)!;
      const base = await firstModel(e, op);
      for (const { what, model, must } of mutations(base, op)) {
        const { error, results } = await outcome(model);
        if (error === null) {
          if (must && !(ACCEPTED[name] ?? []).includes(what)) problems.push(`${what}: accepted`);
          if (results !== null && !e.loose && !what.endsWith('NaN'))
            for (const device of devices)
              problems.push(...(await differences(model, device, results)).map((d) => `${what} on ${device}: ${d}`));
          continue;
        }
        if (!(error instanceof SardonyxError) || error.code === 'internal')
          problems.push(`${what}: ${error instanceof Error ? error.message.split('\n')[0] : error}`);
        else if (!error.message.includes(EXAMPLE_NODE)) problems.push(`${what}: names no node: ${error.message}`);
      }
      expect(problems).toEqual([]);
    },
  );
});

/** The example's model for the first type that is not refused. */
async function firstModel(e: Example, op: Op): Promise<ExampleModel> {
  for (const dtype of dtypesOf(e, op))
    if ((await placeOf(e, op, dtype, 'reference')) !== 'refused') return exampleModel(e, op, dtype);
  throw new Error(`${op.op} takes none of its types`);
}
/** What a model is refused with by the reference, or what it makes. Nothing that would make a large result is run. */
async function outcome(
  model: ExampleModel,
): Promise<{ readonly error: unknown; readonly results: Record<string, Value> | null }> {
  const bytes = encodeExample(model);
  try {
    const planned = Object.values(model.feeds).every(isTensor) ? await planModel(bytes, { device: 'reference' }) : null;
    if (planned?.plan.values.some((v) => v.shape.reduce((n, d) => n * d, 1) > 2 ** 20))
      return { error: null, results: null };
    await using session = await Session.load(bytes, { device: 'reference' });
    return { error: null, results: await session.run(model.feeds) };
  } catch (error) {
    return { error, results: null };
  }
}

async function differences(
  model: ExampleModel,
  device: 'wasm' | 'webgpu',
  want: Record<string, Value>,
): Promise<string[]> {
  try {
    await using session = await Session.load(encodeExample(model), { device });
    const got = await session.run(model.feeds);
    return Object.entries(want).flatMap(([name, value]) => {
      const { mismatch } = compareValues(
        got[name]!,
        value,
        { rtol: 1e-3, atol: 1e-4, scaled: true, integers: 1 },
        name,
      );
      return mismatch === null ? [] : [mismatchText(mismatch)];
    });
  } catch (e) {
    return [`${e instanceof Error ? e.message.split('\n')[0] : e}`];
  }
}
