import { type DType, isInt64, ONNX_OF_DTYPE } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { numbers, writer } from '../src/core/numbers.ts';
import { sizeOf, zeros } from '../src/core/tensor.ts';
import { ALL, defineOp, ints, type Op, required, string } from './define.ts';
import { compile, type Scalar } from './expr-eval.ts';
import { type Ex, inputsOf, kindOf } from './expr.ts';
import { broadcast, broadcastStrides, eachOffset } from './shapes.ts';

/** The expression and the dtype of a call, checked against its inputs. @throws attribute_invalid */
function read(
  attrs: { readonly expr?: string | undefined; readonly dtype?: string | undefined },
  inputs: readonly { readonly dtype: DType }[],
): { expr: Ex; dtype: DType } {
  const expr = JSON.parse(attrs.expr!) as Ex;
  const dtype = attrs.dtype as DType;
  if (!(dtype in ONNX_OF_DTYPE) || kindOf(dtype) !== expr.k)
    fail('attribute_invalid', `an expression of kind ${expr.k} does not make ${dtype}`);
  for (const i of inputsOf(expr))
    if (i >= inputs.length) fail('attribute_invalid', `the expression reads input ${i} of ${inputs.length}`);
  return { expr, dtype };
}

/**
 * A chain of elementwise operators as one expression (`expr`: JSON of `Ex`, input i being the node's) of inputs
 * broadcast together.
 * `shape` is the output's where scalars written into the expression
 * would have made it larger than the inputs do. Not an operator of ONNX: lowering makes it.
 */
export const maps: readonly Op[] = [
  defineOp({
    op: 'sardonyx.Map',
    since: [1],
    inputs: ['inputs: any*'],
    outputs: ['output: any'],
    types: { T: ALL },
    attrs: { expr: required(string()), dtype: required(string()), shape: ints() },
    infer: (call) => {
      const facts = call.inputs.map((_, i) => call.fact(i));
      return [{ dtype: read(call.attrs, facts).dtype, shape: broadcast(...facts.map((f) => f.shape)) }];
    },
    reference: (call) => {
      const inputs = call.inputs.map((_, i) => call.tensor(i));
      const { expr, dtype } = read(call.attrs, inputs);
      const shape = call.attrs.shape ?? broadcast(...inputs.map((t) => t.shape));
      const of = compile(expr);
      const values = inputs.map(
        (t) => (isInt64(t.dtype) ? (t.data as BigInt64Array) : numbers(t)) as ArrayLike<Scalar>,
      );
      const rows = inputs.map((t) => {
        const at = new Uint32Array(sizeOf(shape));
        eachOffset(shape, broadcastStrides(t.shape, shape), (i, o) => {
          at[i] = o;
        });
        return at;
      });
      const out = zeros(dtype, shape);
      const write = isInt64(dtype)
        ? (i: number, v: Scalar): void => {
            (out.data as BigInt64Array)[i] = v as bigint;
          }
        : (writer(out) as (i: number, v: Scalar) => void);
      const element = new Array<Scalar>(inputs.length);
      for (let i = 0; i < sizeOf(shape); i++) {
        for (let k = 0; k < element.length; k++) element[k] = values[k]![rows[k]![i]!]!;
        write(i, of(element));
      }
      return [out];
    },
  }),
];
