/** The next token from logits, drawn where they are. */
import type { GpuTensor, Tensor } from '../core/tensor.ts';

export interface SampleOptions {
  /** Below 1 the likelier gain, above 1 they lose; 0 takes the likeliest (the first of equals). Default 1. */
  readonly temperature?: number;
  /** Draws from so many of the likeliest, and those that equal the last of them. Default: all. */
  readonly topK?: number;
  /**
   * Of those, draws from the fewest likeliest that together have this probability (Holtzman et al., "The Curious Case
   * of Neural Text Degeneration"). Default 1.
   */
  readonly topP?: number;
  /** Numbers in [0, 1): give a generator with a seed for results that repeat. Default `Math.random`. */
  readonly random?: () => number;
}

/**
 * Draws a token for each sequence of logits: [vocabulary], [sequences, vocabulary], or [sequences, …, positions,
 * vocabulary], of which the last position counts. A GPU tensor is read where it lies, in float32, and only the tokens
 * come back; it is not disposed. With `outputs: 'gpu'` not even they do: they are an int64 tensor [sequences, 1], as
 * the next run takes them, and several steps go by without a wait for the GPU.
 *
 * @throws option_invalid, input_shape, input_dtype, value_disposed, device_lost
 */
export async function sampleTokens(
  logits: GpuTensor,
  options: SampleOptions & { readonly outputs: 'gpu' },
): Promise<GpuTensor<'int64'>>;
export async function sampleTokens(logits: Tensor | GpuTensor, options?: SampleOptions): Promise<number[]>;
export async function sampleTokens(
  logits: Tensor | GpuTensor,
  options: SampleOptions & { readonly outputs?: 'gpu' } = {},
): Promise<number[] | GpuTensor<'int64'>> {
  return (await import('./sampling.ts')).sample(logits, options);
}
