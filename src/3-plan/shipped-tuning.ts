/** Written by `npm run tune -- --ship` from bench/tuning. */
import type { TuningTable } from './tuning.ts';

export const shipped: TuningTable = { format: 1, adapter: '', entries: [] };
