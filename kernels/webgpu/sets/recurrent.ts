/** WGSL kernels of the operators that `kernels/sets.ts` calls recurrent. */
import type { GpuKernel, KernelTable } from '../../define.ts';
import { GATES } from '../../rnn.ts';
import { rnnKernels } from '../rnn.ts';

export const kernels: KernelTable<GpuKernel> = {
  LSTM: rnnKernels({ op: 'LSTM', ...GATES.LSTM }),
  GRU: rnnKernels({ op: 'GRU', ...GATES.GRU }),
  RNN: rnnKernels({ op: 'RNN', ...GATES.RNN }),
};
