import { fail } from '../core/errors.ts';
import type { Backend, Executable } from './executable.ts';
import { hostHeld } from './executable.ts';
import { hostConstants, hostValues } from './host-values.ts';
import { listen } from './turns.ts';

/** Every node by its reference, in JavaScript. */
export function referenceBackend(): Backend {
  return {
    caps: { kind: 'reference' },
    made: {},
    bytes: 0,
    async instantiate(plan, constants, work): Promise<Executable> {
      const values = hostValues(plan, await hostConstants(plan, constants), work);
      return {
        async run(inputs, signal, probe) {
          inputs.forEach((held, i) =>
            values.set(
              plan.inputs[i]!,
              held.on === 'host' ? held.value : fail('internal', 'a device value on the reference'),
            ),
          );
          for (const [i, step] of plan.steps.entries()) {
            const turn = listen(signal);
            if (turn) await turn;
            if (step.run !== 'host') fail('internal', `a ${step.run} step on the reference`);
            const pending = probe ? probe.host(i, () => values.run(step)) : values.run(step);
            if (pending) await pending;
          }
          const outputs = plan.outputs.map((v) => hostHeld(values.get(v)));
          values.clear();
          return outputs;
        },
        destroy: () => values.clear(),
      };
    },
    read: async (held) =>
      held.map((h) => (h.on === 'host' ? h.value : fail('internal', 'a device value on the reference'))),
    release: () => undefined,
  };
}
