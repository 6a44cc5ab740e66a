import type { Op } from './define.ts';
import { softmax } from './softmax.ts';
import { matmul } from './matmul.ts';
import { einsum } from './einsum.ts';

/** The registry: adding an operator family is one file and one line here. */
const families: readonly (readonly Op[])[] = [
  einsum,
  matmul,
  softmax,
];

export const ops: ReadonlyMap<string, Op> = new Map(families.flat().map((o) => [o.op, o]));
