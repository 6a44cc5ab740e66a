import type { Pass } from '../rewrite.ts';
import { expandFusedConv } from './expand-fused.ts';
import { foldBatchNorm } from './fold-batchnorm.ts';

/** In order of application to each node; the list is gone through until nothing changes. */
export const passes: readonly Pass[] = [expandFusedConv, foldBatchNorm];
