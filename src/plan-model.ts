import type { ModelSource } from './0-read/open.ts';
import type { PlanOptions, Preview } from './preview.ts';
import type { SessionTools } from './session.ts';

/** `planModel` of `preview.ts`, loaded when it is called. */
export const planModel = async (
  source: ModelSource,
  options: PlanOptions = {},
  tools: Pick<SessionTools, 'placed'> & { readonly freeDims?: number } = {},
): Promise<Preview> => (await import('./preview.ts')).planModel(source, options, tools);
