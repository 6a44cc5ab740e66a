import type { Op } from '../../kernels/define.ts';
import { withinEach } from '../core/errors.ts';
import { Draft } from './draft.ts';
import { layOut } from './lay-out.ts';
import { place } from './place.ts';
import type { Planned, PlanRequest } from './request.ts';

/**
 * Orders the work of one graph at fixed dims: places each node, picks its kernel, and lays out memory. Pure; touches no
 * device.
 */
export function makePlan(request: PlanRequest, ops: ReadonlyMap<string, Op>): Planned {
  const draft = new Draft(request, ops);
  const onDevice = request.caps.kind !== 'reference';
  for (const v of request.inputs) {
    const fact = draft.fact(v);
    const device = onDevice && draft.hasDeviceForm(fact);
    const value = draft.addValue(v, device ? { in: 'slab', slab: -1, offset: 0 } : { in: 'host' });
    (device ? draft.onDevice : draft.onHost).set(v, value);
    draft.inputs.push(value);
  }
  withinEach(request.nodes, (node) => place(draft, node));
  const outputs = request.outputs.map((v) => draft.anywhere(v));
  return { plan: layOut(draft, outputs), constants: draft.constants };
}
