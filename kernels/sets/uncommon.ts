/** What fewer models use and devices do run: signals, grids, regions, deformations, determinants, some norms. */
import { deformConv } from '../conv-deform.ts';
import type { Op } from '../define.ts';
import { det } from '../det.ts';
import { experts } from '../experts.ts';
import { grid } from '../grid.ts';
import { otherNorms } from '../norm-other.ts';
import { roi } from '../roi.ts';
import { signal } from '../signal.ts';

export const families: readonly (readonly Op[])[] = [[deformConv], det, experts, grid, roi, signal, otherNorms];
