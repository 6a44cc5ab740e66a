import type { ModelSource } from './0-read/open.ts';
import type { PlanOptions, Preview } from './preview.ts';
import type { SessionTools } from './session.ts';

/**
 * The plan of a model at these dims, made without any device and without its weights: where every node would run, what it copies, what memory
 * it needs, whether a machine has room for it. Where shapes depend on data it covers the model up to there. `tools.freeDims`: the size of dims that `dims` does not name.
 * @throws what `Session.load` throws, dimension_unbound
 */
export const planModel = async (source: ModelSource, options: PlanOptions = {}, tools: Pick<SessionTools, 'placed'> & { readonly freeDims?: number } = {}): Promise<Preview> => (await import('./preview.ts')).planModel(source, options, tools);
