import type { Plan } from '../core/plan.ts';

export interface Leaving {
  readonly node: string;
  readonly op: string;
  readonly why: string;
}

/** Nodes that leave the plan's device, but for those that only compute shapes. */
export const leaving = (plan: Plan): readonly Leaving[] =>
  plan.device === 'reference'
    ? []
    : [
        ...plan.steps.flatMap((s) =>
          s.run === 'host' && s.why !== 'shape' ? [{ node: s.node, op: s.op, why: s.why ?? '' }] : [],
        ),
        ...plan.after.map((n) => ({ node: n.node, op: n.op, why: 'its shape depends on data' })),
      ];
