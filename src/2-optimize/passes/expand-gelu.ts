import type { ValueId } from '../../core/graph.ts';
import type { Pass } from '../rewrite.ts';
import { expanding } from './expansion.ts';

/** com.microsoft.BiasSplitGelu as the product that it is. */
export const expandSplitGelu: Pass = expanding('expand-split-gelu', {
  'com.microsoft.BiasSplitGelu': (e, node, graph) => {
    const half = graph.fact(node.inputs[0])!.shape[2]! / 2;
    const x = e.put('Add', [node.inputs[0]!, node.inputs[1]!]);
    const axis = e.list([2]);
    const [left, right] = [0, half].map((from) => e.put('Slice', [x, e.list([from]), e.list([from + half]), axis])) as [
      ValueId,
      ValueId,
    ];
    e.put('Mul', [left, e.put('Gelu', [right], { approximate: 'none' })], {}, node.outputs[0]);
    return 'a product of one half and the GELU of the other';
  },
});
