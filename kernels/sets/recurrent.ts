/** Recurrent layers, and loops and branches. */
import { control } from '../control.ts';
import type { Op } from '../define.ts';
import { rnn } from '../rnn.ts';

export const families: readonly (readonly Op[])[] = [control, rnn];
