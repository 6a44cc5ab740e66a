import re
def rd(p): return open(p).read()
def wr(p,s): open(p,'w').write(s)
def rm(s,*xs):
    for x in xs:
        assert x in s, x
        s=s.replace(x,'')
    return s
# sets.ts
s=rd('kernels/sets.ts')
s=s.replace("export const MEMBERS = {\n","export const MEMBERS = {\n  spatial: 'Conv ConvSum ConvTranspose FusedConv NhwcConv NhwcFusedConv MaxPool AveragePool LpPool MaxUnpool GlobalAveragePool GlobalMaxPool GlobalLpPool Resize Upsample BatchNormalization InstanceNormalization GroupNormalization',\n")
wr('kernels/sets.ts',s)
wr('kernels/sets/spatial.ts','''/** What images and signals go through: convolutions, pools, resizing, norms of channels. */
import { convolution } from '../conv.ts';
import type { Op } from '../define.ts';
import { channelNorms } from '../norm-channel.ts';
import { pool } from '../pool.ts';
import { resize } from '../resize.ts';

export const families: readonly (readonly Op[])[] = [convolution, channelNorms, pool, resize];
''')
s=rd('kernels/operators.ts')
s=rm(s,"import { convolution } from './conv.ts';\n","import { pool } from './pool.ts';\n","import { resize } from './resize.ts';\n","import { channelNorms } from './norm-channel.ts';\n","  pool,\n","  convolution,\n","  resize,\n","  channelNorms,\n")
s=s.replace("  transformers: () => import(","  spatial: () => import('./sets/spatial.ts'), transformers: () => import(")
wr('kernels/operators.ts',s)
p='kernels/webgpu/index.ts'; s=rd(p)
i=s.index("  // convolution and pooling\n"); j=s.index("  // rows\n")
conv=s[i:j]; s=s[:i]+s[j:]
inst="  InstanceNormalization: normKernels('instancenorm', instanceNormForm), GroupNormalization: normKernels('groupnorm', groupNormForm),\n"
s=rm(s,inst,"import { convShape } from '../conv-shape.ts';\n","import { convTransposeShape } from '../conv.ts';\n","import { groupNormForm, instanceNormForm } from '../norm-channel.ts';\n","import { poolShape } from '../pool.ts';\n","import { changedAxes } from '../resize.ts';\n","import { convSumKernels } from './conv-sum.ts';\n","import { convKernels, convTransposeKernels } from './conv.ts';\n","import { globalPoolKernels, maxPoolKernels, meanPoolKernels } from './pool.ts';\n","import { resizeKernel } from './resize.ts';\n","const poolWindow = (call: Call) => poolShape(shapeOf(call, 0), call.attrs).window;\n","const resizes = [resizeKernel(changedAxes)];\n")
s=s.replace("  transformers: () => import(","  spatial: () => import('./sets/spatial.ts'), transformers: () => import(")
wr(p,s)
wr('kernels/webgpu/sets/spatial.ts','''/** WGSL kernels of the operators that `kernels/sets.ts` calls spatial. */
import { convShape } from '../../conv-shape.ts';
import { convTransposeShape } from '../../conv.ts';
import type { Call, GpuKernel, KernelTable } from '../../define.ts';
import { groupNormForm, instanceNormForm } from '../../norm-channel.ts';
import { poolShape } from '../../pool.ts';
import { changedAxes } from '../../resize.ts';
import { convSumKernels } from '../conv-sum.ts';
import { convKernels, convTransposeKernels } from '../conv.ts';
import { globalPoolKernels, maxPoolKernels, meanPoolKernels } from '../pool.ts';
import { resizeKernel } from '../resize.ts';
import { normKernels } from '../rows.ts';

const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;
const poolWindow = (call: Call) => poolShape(shapeOf(call, 0), call.attrs).window;
const resizes = [resizeKernel(changedAxes)];

export const kernels: KernelTable<GpuKernel> = {
'''+conv.replace("  // convolution and pooling\n",'')+inst+'};\n')
p='kernels/wasm/index.ts'; s=rd(p)
i=s.index("  // convolution and pooling\n"); j=s.index("  // rows\n")
conv=s[i:j]; s=s[:i]+s[j:]
inst="  InstanceNormalization: normKernels('instancenorm', instanceNormForm), GroupNormalization: normKernels('groupnorm', groupNormForm),\n  BatchNormalization: [batchNormWasm],\n"
s=rm(s,inst,"import { groupNormForm, instanceNormForm } from '../norm-channel.ts';\n","import { unpoolShape } from '../pool.ts';\n","import { changedAxes } from '../resize.ts';\n","import { convTransposeWasm } from './conv-transpose.ts';\n","import { convWasm } from './conv.ts';\n","import { withHalf } from './half.ts';\n","import { batchNormWasm } from './norm-each.ts';\n","import { poolWasm } from './pool.ts';\n","import { resizeKernel } from './resize.ts';\n","import { maxUnpoolWasm } from './windows.ts';\n","const resizes = [resizeKernel(changedAxes)];\n","import { integers } from '../../src/core/numbers.ts';\n","import { convShape } from '../conv-shape.ts';\n" if "import { convShape } from '../conv-shape.ts';\n" in s else "")
s=s.replace("  transformers: () => import(","  spatial: () => import('./sets/spatial.ts'), transformers: () => import(")
if 'shapeOf(' not in s.replace("const shapeOf = (call: Call, i: number)",""): s=s.replace("const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;\n","").replace("import type { Call, KernelTable","import type { KernelTable")
wr(p,s)
wr('kernels/wasm/sets/spatial.ts','''/** WASM kernels of the operators that `kernels/sets.ts` calls spatial. */
import { integers } from '../../../src/core/numbers.ts';
import type { Call, KernelTable, WasmKernel } from '../../define.ts';
import { groupNormForm, instanceNormForm } from '../../norm-channel.ts';
import { unpoolShape } from '../../pool.ts';
import { changedAxes } from '../../resize.ts';
import { convTransposeWasm } from '../conv-transpose.ts';
import { convWasm } from '../conv.ts';
import { withHalf } from '../half.ts';
import { batchNormWasm } from '../norm-each.ts';
import { poolWasm } from '../pool.ts';
import { resizeKernel } from '../resize.ts';
import { normKernels } from '../rows.ts';
import { maxUnpoolWasm } from '../unpool.ts';

const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;
const resizes = [resizeKernel(changedAxes)];

export const kernels: KernelTable<WasmKernel> = {
'''+conv.replace("  // convolution and pooling\n",'')+inst+'};\n')
# wasm unpool
s=rd('kernels/wasm/windows.ts')
i=s.index('// ── MaxUnpool'); j=s.index('// ── Det')
un=s[i:j]; s=s[:i]+s[j:]
un=un[un.index('\n')+1:]
wr('kernels/wasm/windows.ts',s)
wr('kernels/wasm/unpool.ts','''/** MaxUnpool. */
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Call, WasmKernel } from '../define.ts';
import { i32, memory } from './asm.ts';
import { widthOf } from './elem.ts';
import { indexAt, loopEmitter, type Loops } from './loops.ts';
import { copyOne } from './move.ts';

'''+un.rstrip().replace('...each(s.rank, (d) => [`n${d}`, `step${d}`])','...Array.from({ length: s.rank }, (_, d) => [`n${d}`, `step${d}`]).flat()')+'\n')
# passes
wr('src/2-optimize/passes/spatial.ts','''/** Passes around the operators of `kernels/sets/spatial.ts`. */
export { expandFusedConv } from './expand-conv.ts';
export { foldBatchNorm } from './fold-batchnorm.ts';
export { foldScale } from './fold-scale.ts';
export { fuseConvSum } from './fuse-conv-sum.ts';
''')
s=rd('src/2-optimize/passes/expand-fused.ts')
i=s.index('/** com.microsoft.FusedConv as'); j=s.index('/** ImageScaler as')
fc=s[i:j]; s=s[:i]+s[j:]
s=s.replace('\nconst ACTIVATIONS','\n/** What an activation by name and parameters is as a node. */\nexport const ACTIVATIONS')
wr('src/2-optimize/passes/expand-fused.ts',s)
wr('src/2-optimize/passes/expand-conv.ts','''import type { AttrValue, Node } from '../../core/graph.ts';
import type { Pass } from '../rewrite.ts';
import { ACTIVATIONS } from './expand-fused.ts';

'''+fc.rstrip()+'\n')
p='src/2-optimize/passes/index.ts'; s=rd(p)
s=rm(s,"import { foldBatchNorm } from './fold-batchnorm.ts';\n","import { foldScale } from './fold-scale.ts';\n","import { fuseConvSum } from './fuse-conv-sum.ts';\n")
s=s.replace("import { expandFusedConv, expandFusedGemm,","import { expandFusedGemm,")
s=s.replace("  const attention = allow.size","  const spatial = allow.size > 0 && sets.includes('spatial') ? await import('./spatial.ts') : null;\n  const attention = allow.size")
s=s.replace("[fuseConvSum, fuseNorm,","[...(spatial ? [spatial.fuseConvSum] : []), fuseNorm,")
s=s.replace("free: allowed([expandFusedConv, expandFusedGemm, removeIdentity, foldConstants, mergeDuplicates, mergeTransposes, foldBatchNorm, foldScale]),","free: allowed([...(spatial ? [spatial.expandFusedConv] : []), expandFusedGemm, removeIdentity, foldConstants, mergeDuplicates, mergeTransposes, ...(spatial ? [spatial.foldBatchNorm, spatial.foldScale] : [])]),")
wr(p,s)
p='kernels/index.ts'; s=rd(p)
for a,b in [("import * as transformers","import * as spatial from './sets/spatial.ts';\nimport * as transformers"),("import * as wasmTransformers","import * as wasmSpatial from './wasm/sets/spatial.ts';\nimport * as wasmTransformers"),("import * as gpuTransformers","import * as gpuSpatial from './webgpu/sets/spatial.ts';\nimport * as gpuTransformers"),("  transformers: {","  spatial: { ...spatial, webgpu: gpuSpatial.kernels, wasm: wasmSpatial.kernels },\n  transformers: {")]:
    assert a in s; s=s.replace(a,b,1)
wr(p,s)
p='tsdown.config.ts'; s=rd(p); s=s.replace("(transformers|quantized|","(spatial|transformers|quantized|"); wr(p,s)
