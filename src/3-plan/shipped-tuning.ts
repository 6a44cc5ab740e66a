/** Written by `npm run tune -- --ship` from bench/tuning. */
import type { TuningTable } from './tuning.ts';

export const shipped: readonly TuningTable[] = [];
