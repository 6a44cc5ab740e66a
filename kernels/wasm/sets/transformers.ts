/** WASM kernels of the operators that `kernels/sets.ts` calls transformers. */
import { linearShape } from '../../attention-linear.ts';
import { projectedOf } from '../../attention-microsoft-shape.ts';
import { attentionShape } from '../../attention-shape.ts';
import { flexShape } from '../../attention.ts';
import type { KernelTable, WasmKernel } from '../../define.ts';
import { contractionOf } from '../../einsum-contraction.ts';
import { rotaryShape } from '../../rotary-shape.ts';
import { multiHeadWasm, projectedWasm } from '../attention-microsoft.ts';
import { attentionRows } from '../attention-rows.ts';
import { attentionWasm, groupedWasm } from '../attention.ts';
import { einsumWasm } from '../contract.ts';
import { embedNormWasm } from '../embed.ts';
import { causalConvWasm, linearAttentionWasm, rotaryWasm } from '../recurrent.ts';

const causal = [causalConvWasm];
const rotaries = [rotaryWasm((call) => rotaryShape(call.inputs, call.attrs))];
const linear = (inverse: boolean) => [linearAttentionWasm((call) => linearShape(call.inputs, call.attrs, inverse))];

export const kernels: KernelTable<WasmKernel> = {
  Einsum: [
    einsumWasm((call) =>
      contractionOf(
        call.attrs.equation,
        call.inputs.map((f) => f!.shape),
      ),
    ),
  ],
  CausalConvWithState: causal,
  'com.microsoft.CausalConvWithState': causal,
  'com.microsoft.EmbedLayerNormalization': [embedNormWasm],
  Attention: [...attentionWasm, attentionRows((call) => attentionShape(call.inputs, call.attrs), true)],
  'ai.onnx.preview.FlexAttention': [attentionRows((call) => flexShape(call.inputs), false)],
  'com.microsoft.Attention': projectedWasm(projectedOf),
  'com.microsoft.MultiHeadAttention': multiHeadWasm,
  'com.microsoft.GroupQueryAttention': groupedWasm,
  LinearAttention: linear(false),
  'com.microsoft.LinearAttention': linear(true),
  RotaryEmbedding: rotaries,
  'com.microsoft.RotaryEmbedding': rotaries,
};
