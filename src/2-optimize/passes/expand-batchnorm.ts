import type { ValueId } from '../../core/graph.ts';
import { sizeOf } from '../../core/tensor.ts';
import type { Pass } from '../rewrite.ts';
import { expanding } from './expansion.ts';

/** BatchNormalization that learns, as the reductions, products and sums that it is. */
export const expandBatchNorm: Pass = expanding('expand-batch-norm', {
  BatchNormalization: (e, node, graph) => {
    const inputs = node.inputs as readonly [ValueId, ValueId, ValueId, ValueId, ValueId];
    const { shape } = graph.fact(inputs[0])!;
    const { epsilon, momentum, training_mode, spatial } = node.attrs as Readonly<Record<string, number>>;
    if (
      !training_mode ||
      !spatial ||
      shape.length < 2 ||
      sizeOf(shape) === 0 ||
      inputs.some((v) => graph.fact(v)?.dtype !== 'float32')
    )
      return null;
    const [x, scale, bias, ...old] = inputs;
    const c = shape[1]!;
    const axes = shape.flatMap((_, i) => (i === 1 ? [] : [i]));
    const own = [c, ...shape.slice(2).map(() => 1)];
    const f = (v: number): ValueId => e.number('float32', v);
    const mean = e.reduce('ReduceMean', x, axes);
    const centred = e.put('Sub', [x, mean]);
    const variance = e.reduce('ReduceMean', e.put('Mul', [centred, centred]), axes);
    const normed = e.put('Div', [centred, e.put('Sqrt', [e.put('Add', [variance, f(epsilon!)])])]);
    e.put('Add', [e.put('Mul', [normed, e.reshape(scale, own)]), e.reshape(bias, own)], {}, node.outputs[0]);
    [mean, variance].forEach((of, i) => {
      const [running, saved] = [node.outputs[1 + i], node.outputs[3 + i]];
      if (running == null && saved == null) return;
      const now = e.reshape(of, [c], saved);
      if (running != null)
        e.put('Add', [e.put('Mul', [old[i]!, f(momentum!)]), e.put('Mul', [now, f(1 - momentum!)])], {}, running);
    });
    return 'reductions, products and sums';
  },
});
