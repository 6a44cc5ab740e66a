/** WGSL kernels of the operators that `kernels/sets.ts` calls transformers. */
import { linearShape } from '../../attention-linear.ts';
import { projectedOf } from '../../attention-microsoft-shape.ts';
import type { GpuKernel, KernelTable } from '../../define.ts';
import { attentionKernels, flexKernels } from '../attention-general.ts';
import { groupedKernels } from '../attention-grouped.ts';
import { multiHeadKernels, projectedKernels } from '../attention-microsoft.ts';
import { headAttentionKernels } from '../attention-heads.ts';
import { einsumKernels } from '../einsum.ts';
import { causalKernel, linearKernel } from '../linear-attention.ts';
import { rotaryKernel } from '../rotary.ts';

const causal = [causalKernel];
const linear = (inverse: boolean) => [linearKernel((call) => linearShape(call.inputs, call.attrs, inverse))];

export const kernels: KernelTable<GpuKernel> = {
  Einsum: einsumKernels,
  CausalConvWithState: causal,
  'com.microsoft.CausalConvWithState': causal,
  Attention: attentionKernels,
  'sardonyx.HeadAttention': headAttentionKernels,
  'ai.onnx.preview.FlexAttention': flexKernels,
  'com.microsoft.Attention': projectedKernels(projectedOf),
  'com.microsoft.MultiHeadAttention': multiHeadKernels,
  'com.microsoft.GroupQueryAttention': groupedKernels,
  LinearAttention: linear(false),
  'com.microsoft.LinearAttention': linear(true),
  RotaryEmbedding: [rotaryKernel],
};
