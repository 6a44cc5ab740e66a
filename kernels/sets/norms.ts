/** Normalisation of rows and of groups of channels, and the activations that come with it in transformers. */
import type { Op } from '../define.ts';
import { gelus } from '../gelu.ts';
import { channelNorms } from '../norm-channel.ts';
import { rowNorms } from '../norm.ts';

export const families: readonly (readonly Op[])[] = [rowNorms, channelNorms, gelus];
