/**
 * `sardonyx/operators`: to define operators that Sardonyx does not have. `Session.load` and `planModel` take them as
 * the option `operators`.
 */
import type { AttrSchema, CustomOperator } from '../kernels/define.ts';

export { float, floats, int, ints, required, shader, string, strings, tensorAttr } from '../kernels/define.ts';
export type {
  AttrSchema,
  Call,
  CustomOperator,
  Elem,
  GpuKernel,
  InferCall,
  Launch,
  OutFact,
  RefCall,
  Values,
  WgslModule,
} from '../kernels/define.ts';
export { constant, x } from '../kernels/expr.ts';
export type { Ex, Kind } from '../kernels/expr.ts';
export { grid } from '../kernels/webgpu/grid.ts';
export type { Dictionary, Optional, Sequence, Tensor, Value } from './core/tensor.ts';
export type { DType } from './core/dtype.ts';

/**
 * An operator, with the types of its attributes. It needs one of
 * - `map`: its output, element by element, as an expression of its inputs (`x`). It then runs on every device, and is
 *   merged with its neighbours;
 * - `infer` and `reference`: the dtypes and shapes of its outputs, and what it computes, in TypeScript. It then runs on
 *   the host, and on a GPU where a kernel of `webgpu` accepts the call.
 */
export const defineOperator = <A extends AttrSchema = Record<never, never>>(
  operator: CustomOperator<A>,
): CustomOperator<A> => operator;
