/** What images and signals go through: convolutions, pools, resizing, norms of channels. */
import { convolution } from '../conv.ts';
import type { Op } from '../define.ts';
import { channelNorms } from '../norm-channel.ts';
import { pool } from '../pool.ts';
import { resize } from '../resize.ts';

export const families: readonly (readonly Op[])[] = [convolution, channelNorms, pool, resize];
