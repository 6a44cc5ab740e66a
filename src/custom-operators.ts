/** Operators of the caller's own, completed and joined to Sardonyx's. */
import { type CustomOperator, NeedsValue, type Op, type RefCall } from '../kernels/define.ts';
import { type Ex, input, kindOf } from '../kernels/expr.ts';
import { maps } from '../kernels/map.ts';
import type { Definitions } from '../kernels/operators.ts';
import { broadcast } from '../kernels/shapes.ts';
import { type DType, ONNX_OF_DTYPE } from './core/dtype.ts';
import { fail, SardonyxError } from './core/errors.ts';

/** @throws option_invalid for one that Sardonyx has, or that is given twice or incomplete */
export function withCustom(own: Definitions, operators: readonly CustomOperator[]): Definitions {
  const all = new Map(own);
  for (const operator of operators) {
    if (all.has(operator.op))
      fail(
        'option_invalid',
        `the operator ${operator.op} is ${own.has(operator.op) ? 'one that Sardonyx has' : 'given twice'}`,
      );
    all.set(operator.op, complete(operator));
  }
  return all;
}

function complete({ webgpu, ...given }: CustomOperator): Op {
  const { op, map, infer, reference } = given;
  if (!/^\w+(\.\w+)*$/.test(op))
    fail(
      'option_invalid',
      `an operator is named by its domain and its name, as in "com.example.Fold", not ${JSON.stringify(op)}`,
    );
  if (!map && !(infer && reference))
    fail('option_invalid', `the operator ${op} has neither a map nor infer and reference`);
  const types = given.types ?? {};
  for (const text of [...given.inputs, ...given.outputs]) {
    const type =
      /^\s*\w+\s*:\s*(\w+)[?*]?\s*$/.exec(text)?.[1] ??
      fail(
        'option_invalid',
        `the operator ${op} has the parameter ${JSON.stringify(text)}; it must be of the form "X: T", "X: T?" or "X: T*"`,
      );
    if (type !== 'any' && !Object.hasOwn(types, type) && !Object.hasOwn(ONNX_OF_DTYPE, type))
      fail(
        'option_invalid',
        `the operator ${op} has a parameter of type ${type}, which is neither a dtype nor in its types`,
      );
  }
  const tell = <F extends (...args: never[]) => unknown>(what: string, f: F): F =>
    told(`${what} of the operator ${op}`, f);
  const checked =
    map &&
    tell('map', (inputs: readonly Ex[], attrs: any, output: DType): Ex | null => {
      const expr = map(inputs, attrs, output);
      if (expr !== null && expr.k !== kindOf(output))
        fail('type_mismatch', `the map of the operator ${op} makes ${expr.k} for an output of ${output}`);
      return expr;
    });
  const values = (made: Awaited<ReturnType<Op['reference']>>): typeof made =>
    listed(
      op,
      'reference',
      made,
      (v) =>
        'kind' in v ||
        (Object.hasOwn(ONNX_OF_DTYPE, v.dtype) && Array.isArray(v.shape) && v.data?.length !== undefined),
    );
  return {
    since: [1],
    attrs: {},
    ...given,
    types,
    ...(checked ? { map: checked } : {}),
    infer: infer
      ? tell('infer', (call) =>
          listed(
            op,
            'infer',
            infer(call),
            ({ dtype, shape }) => Object.hasOwn(ONNX_OF_DTYPE, dtype) && Array.isArray(shape),
          ),
        )
      : ({ inputs }) => [
          { dtype: mapped(given, inputs), shape: broadcast(...inputs.flatMap((f) => (f ? [f.shape] : []))) },
        ],
    reference: reference
      ? tell('reference', (call) => {
          const made = reference(call);
          return made instanceof Promise ? made.then(values) : values(made);
        })
      : (call) => evaluated({ ...given, map: checked! }, call),
    ...(webgpu
      ? {
          webgpu: webgpu.map((kernel) => ({
            ...kernel,
            name: `${op}.${kernel.name}`,
            launch: tell('launch', kernel.launch),
            ...(kernel.accepts ? { accepts: tell('accepts', kernel.accepts) } : {}),
            ...(kernel.scratch ? { scratch: tell('scratch', kernel.scratch) } : {}),
          })),
        }
      : {}),
  };
}

/** What a function of the caller's made: a list of `fits`, or of null where an output is left out. @throws op_failed */
function listed<T>(
  op: string,
  what: 'infer' | 'reference',
  made: readonly T[],
  fits: (one: NonNullable<T>) => boolean,
): readonly T[] {
  if (!Array.isArray(made) || !made.every((one) => one === null || (typeof one === 'object' && fits(one))))
    fail(
      'op_failed',
      `${what} of the operator ${op} makes a list of ${what === 'infer' ? '{ dtype, shape }' : 'tensors'}, one for each output, and made ${JSON.stringify(made, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v))?.slice(0, 100)}`,
    );
  return made;
}

/** The dtype of a map's output: its own, or that of the first input of its type. */
function mapped({ inputs, outputs }: CustomOperator, given: readonly ({ readonly dtype: DType } | null)[]): DType {
  const typeOf = (text: string): string => /:\s*(\w+)/.exec(text)![1]!;
  const type = typeOf(outputs[0]!);
  return Object.hasOwn(ONNX_OF_DTYPE, type)
    ? (type as DType)
    : (given[inputs.findIndex((text) => typeOf(text) === type)]?.dtype ?? given[0]!.dtype);
}

function evaluated(operator: CustomOperator, call: RefCall): ReturnType<Op['reference']> {
  const inputs = call.inputs.map((_, i) => call.optional(i));
  const dtype = mapped(operator, inputs);
  let next = 0;
  const args = inputs.map((t) =>
    t ? input(next++, kindOf(t.dtype) ?? fail('type_mismatch', `${t.dtype} has no arithmetic`)) : undefined,
  );
  const expr =
    operator.map!(args as never, call.attrs, dtype) ??
    fail(
      'type_mismatch',
      `the map of the operator ${operator.op} has no expression for ${dtype}, and there is no reference`,
    );
  const given = inputs.filter((t) => t !== null);
  return maps[0]!.reference({
    ...call,
    inputs: given,
    tensor: (i) => given[i]!,
    attrs: { expr: JSON.stringify(expr), dtype },
  });
}

/** What a function of the caller's throws, as an error that says whose it is. */
const told = <F extends (...args: never[]) => unknown>(what: string, f: F): F => {
  const tell = (e: unknown): never => {
    if (e instanceof SardonyxError || e instanceof NeedsValue) throw e;
    throw new SardonyxError('op_failed', `${what} threw: ${e instanceof Error ? e.message : String(e)}`, [], {
      cause: e,
    });
  };
  return ((...args) => {
    try {
      const made = f(...args);
      return made instanceof Promise ? made.catch(tell) : made;
    } catch (e) {
      return tell(e);
    }
  }) as F;
};
