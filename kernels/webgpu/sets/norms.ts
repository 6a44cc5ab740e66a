/** WGSL kernels of the operators that `kernels/sets.ts` calls norms. */
import type { GpuKernel, KernelTable } from '../../define.ts';
import { channelNormForm, groupNormForm, instanceNormForm } from '../../norm-channel.ts';
import { normForms } from '../../norm.ts';
import { normKernels } from '../norm-rows.ts';

const layerNorms = normKernels('layernorm', normForms.layer);
const rmsNorms = normKernels('rmsnorm', normForms.rms);

export const kernels: KernelTable<GpuKernel> = {
  LayerNormalization: layerNorms,
  'com.microsoft.LayerNormalization': layerNorms,
  RMSNormalization: rmsNorms,
  SimplifiedLayerNormalization: rmsNorms,
  'com.microsoft.SimplifiedLayerNormalization': rmsNorms,
  'com.microsoft.SkipLayerNormalization': normKernels('skip-layernorm', normForms.skipLayer),
  'com.microsoft.SkipSimplifiedLayerNormalization': normKernels('skip-rmsnorm', normForms.skipRms),
  InstanceNormalization: normKernels('instancenorm', instanceNormForm),
  GroupNormalization: normKernels('groupnorm', groupNormForm),
  'sardonyx.ChannelNormalization': normKernels('channelnorm', channelNormForm),
};
