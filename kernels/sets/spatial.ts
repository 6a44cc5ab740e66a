/** What images and signals go through: convolutions, pools, resizing, norms of batches. */
import { convolution } from '../conv.ts';
import type { Op } from '../define.ts';
import { batchNorm } from '../norm-batch.ts';
import { pool } from '../pool.ts';
import { resize } from '../resize.ts';

export const families: readonly (readonly Op[])[] = [convolution, [batchNorm], pool, resize];
