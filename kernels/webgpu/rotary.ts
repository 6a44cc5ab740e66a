/** RotaryEmbedding: the rotation that GroupQueryAttention does as it moves heads, alone. */
import { sizeOf } from '../../src/core/tensor.ts';
import type { GpuKernel } from '../define.ts';
import { type RotaryAttrs, rotaryShape } from '../rotary-shape.ts';
import { freshText, turnLaunch } from './attention-grouped.ts';
import { member, rider } from './attention-rules.ts';
import { type Lies, NO_RIDERS, together } from './attention.ts';
import { elemOf, isReal, realElem } from './elem.ts';

export const rotaryKernel: GpuKernel<RotaryAttrs> = {
  name: 'rotary.element',
  accepts: (call) => [0, 1, 2].every((i) => isReal(call.inputs[i])),
  launch: (call, caps) => {
    const s = rotaryShape(call.inputs, call.attrs);
    const [x, cos, sin, ids] = call.inputs;
    const elem = realElem(x!);
    // Where heads lie within a step, a step takes the place of a head.
    const step = s.headsFirst ? 'i' : 'h';
    const [heads, rows] = s.headsFirst ? [s.heads, s.steps] : [s.steps, s.heads];
    const lies: Lies = {
      ref: { input: 0 },
      elem,
      at: 0,
      batch: s.steps * s.heads * s.size,
      head: rows * s.size,
      row: s.size,
    };
    const load = ids && elemOf(ids.dtype) === 'i64' ? 'saturated_i32(load_ids(AT))' : 'load_ids(AT)';
    const position = !ids
      ? `i32(b * extra.steps + ${step})`
      : s.perPosition
        ? load.replace('AT', `b * extra.steps + ${step}`)
        : `${load.replace('AT', '0u')} + i32(${step})`;
    const angles = ids ? cos!.shape[0]! : sizeOf(cos!.shape) / Math.max(1, s.turned / 2);
    const riders = together(
      rider(
        'cosines',
        realElem(cos!),
        { input: 1 },
        member('turned', s.turned),
        member('angles', angles),
        member('steps', s.steps),
        member('by', call.attrs.scale ?? 1, 'f32'),
      ),
      rider('sines', realElem(sin!), { input: 2 }),
      ids ? rider('ids', elemOf(ids.dtype)!, { input: 3 }) : NO_RIDERS,
    );
    return turnLaunch(
      lies,
      { batch: s.batch, heads, rows, size: s.size, past: 0 },
      { output: 0 },
      realElem(call.outputs[0]!),
      caps,
      freshText(false, true, !!call.attrs.interleaved, position, 'extra.angles'),
      'return turned(b, h, n, d) * extra.by;',
      riders,
    );
  },
};
