/** In place of `assembled.ts` in `sardonyx/wasm`. */
import { fail } from '../core/errors.ts';

export const assembled = (): never => fail('internal', 'the CPU has no shaders');
export const arrange = (): never => assembled();
