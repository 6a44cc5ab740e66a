/** What fewer models use and devices do run: signals, grids, regions, deformations, determinants, sorting. */
import { deformConv } from '../conv-deform.ts';
import type { Op } from '../define.ts';
import { det } from '../det.ts';
import { grid } from '../grid.ts';
import { roi } from '../roi.ts';
import { signal } from '../signal.ts';
import { sort } from '../sort.ts';

export const families: readonly (readonly Op[])[] = [[deformConv], det, grid, roi, signal, sort];
