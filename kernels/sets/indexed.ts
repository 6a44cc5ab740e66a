/** Moves by indices, choices, places of extremes, running sums. */
import { alongAxis } from '../along.ts';
import type { Op } from '../define.ts';
import { gatherScatter } from '../gather-scatter.ts';
import { select } from '../select.ts';
import { sort } from '../sort.ts';

export const families: readonly (readonly Op[])[] = [alongAxis, gatherScatter, select, sort];
