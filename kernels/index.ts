import type { Op } from './define.ts';
import { softmax } from './softmax.ts';

/** The registry: adding an operator family is one file and one line here. */
const families: readonly (readonly Op[])[] = [
  softmax,
];

export const ops: ReadonlyMap<string, Op> = new Map(families.flat().map((o) => [o.op, o]));
