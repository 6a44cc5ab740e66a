/** Quantisation, and products and convolutions of bytes and of blocks of bits. */
import { quantizedConvolution } from '../conv-quantized.ts';
import type { Op } from '../define.ts';
import { quantization } from '../quantize.ts';

export const families: readonly (readonly Op[])[] = [quantization, quantizedConvolution];
