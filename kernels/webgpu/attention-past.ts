/** Keys and values of earlier runs in front of new ones. */
import { member, rider } from './attention-rules.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import type { Call, Launch, Ref } from '../define.ts';
import { type Lies, NO_RIDERS, rowsLaunch, stacked, together } from './attention.ts';
import { realElem } from './elem.ts';

/**
 * Keys or values behind those of a cache, in an output or, if nobody wants them, in scratch; as they are where there is
 * no cache and no bias.
 */
export function extended(
  call: Call,
  caps: GpuCaps,
  scratch: number[],
  before: Launch[],
  s: { readonly batch: number; readonly kvHeads: number; readonly past: number; readonly incoming: number },
  size: number,
  now: Lies,
  old: { readonly ref: Ref; readonly at: number } | null,
  to: Ref | null,
  shift: { readonly input: number; readonly at: number } | null,
): Lies {
  if (to === null && s.past === 0 && shift === null) return now;
  const wanted = to !== null && 'output' in to ? call.outputs[to.output]! : null;
  const elem = wanted ? realElem(wanted) : 'f32';
  const keys = s.past + s.incoming;
  const ref = to ?? { scratch: scratch.push(4 * s.batch * s.kvHeads * keys * size) - 1 };
  const kept = old !== null && s.past > 0;
  const text = `${kept ? 'if (n < u.past) { return load_old(extra.old_at + ((b * u.heads + h) * u.past + n) * u.size + d); }\n  ' : ''}return fresh(b, h, n - u.past, d)${shift ? ' + load_shift(extra.shift_at + h * u.size + d)' : ''};`;
  const riders = together(
    kept
      ? rider('old', realElem(call.inputs[(old.ref as { input: number }).input]!), old.ref, member('old_at', old.at))
      : NO_RIDERS,
    shift
      ? rider('shift', realElem(call.inputs[shift.input]!), { input: shift.input }, member('shift_at', shift.at))
      : NO_RIDERS,
  );
  before.push(
    rowsLaunch(
      now,
      { batch: s.batch, heads: s.kvHeads, rows: keys, size, past: s.past },
      ref,
      elem,
      caps,
      text,
      riders,
    ),
  );
  return stacked(ref, elem, s.kvHeads, keys, size);
}
