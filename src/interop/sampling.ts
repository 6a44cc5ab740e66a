/** How `sampleTokens` draws: on the host, or by one dispatch with the same arithmetic. */
import { checkGpuTensor, holdGpuTensor } from '../4-run/webgpu/gpu-tensor.ts';
import { fail } from '../core/errors.ts';
import { numbers } from '../core/numbers.ts';
import { type GpuTensor, isGpuTensor, sizeOf, type Tensor } from '../core/tensor.ts';
import type { SampleOptions } from './sample.ts';

/** Row r begins at element `offset` + r · `stride`. `scale`: of differences of logits, for powers of two. */
export interface Drawn {
  readonly rows: number;
  readonly n: number;
  readonly stride: number;
  readonly offset: number;
  readonly most: number;
  readonly share: number;
  readonly scale: number;
  readonly draws: readonly number[];
}

function drawnOf(
  { dtype, shape }: Tensor | GpuTensor,
  { temperature = 1, topK, topP = 1, random = Math.random }: SampleOptions,
): Drawn {
  if (!/^(float32|b?float16)$/.test(dtype))
    fail('input_dtype', `logits are float32, float16 or bfloat16, not ${dtype}`);
  if (sizeOf(shape) === 0 || shape.length === 0) fail('input_shape', `logits of shape [${shape}] have nothing to draw`);
  if (!(temperature >= 0)) fail('option_invalid', `temperature is a number from 0 on, not ${temperature}`);
  if (topK !== undefined && !(Number.isSafeInteger(topK) && topK > 0))
    fail('option_invalid', `topK is a whole number from 1 on, not ${topK}`);
  if (!(topP > 0 && topP <= 1)) fail('option_invalid', `topP is greater than 0 and at most 1, not ${topP}`);
  const n = shape.at(-1)!;
  const places = shape.length > 2 ? shape.at(-2)! : 1;
  const rows = sizeOf(shape) / (n * places);
  const greedy = temperature === 0;
  return {
    rows,
    n,
    stride: places * n,
    offset: (places - 1) * n,
    most: Math.min(n, greedy ? 1 : (topK ?? n)),
    share: greedy ? 1 : topP,
    scale: Math.LOG2E / (greedy ? 1 : temperature),
    draws: Array.from({ length: rows }, () => (greedy ? 0 : Math.min(1 - 2 ** -24, Math.max(0, random())))),
  };
}

export async function sample(
  logits: Tensor | GpuTensor,
  { outputs, ...options }: SampleOptions & { readonly outputs?: 'gpu' },
): Promise<number[] | GpuTensor<'int64'>> {
  const d = drawnOf(logits, options);
  if (outputs !== undefined && (outputs !== 'gpu' || !isGpuTensor(logits)))
    fail(
      'option_invalid',
      outputs === 'gpu'
        ? 'tokens stay on the GPU where the logits are: give a GpuTensor'
        : `outputs are left on 'gpu', not ${JSON.stringify(outputs)}`,
    );
  if (isGpuTensor(logits)) {
    checkGpuTensor(logits, logits.device);
    const release = holdGpuTensor(logits); // before anything waits: the caller may dispose it behind the call
    try {
      return await (await import('./sampling-gpu.ts')).sampleOnGpu(logits, d, outputs === 'gpu');
    } finally {
      release();
    }
  }
  const values = numbers(logits);
  return d.draws.map((draw, r) =>
    drawRow(
      Float64Array.from({ length: d.n }, (_, i) => Number(values[d.offset + r * d.stride + i])),
      d,
      draw,
    ),
  );
}

function drawRow(logits: Float64Array, { most, share, scale }: Drawn, draw: number): number {
  const sorted = logits
    .filter((v) => !Number.isNaN(v))
    .sort()
    .reverse();
  const top = Math.max(sorted[0] ?? 0, -3.4028234663852886e38);
  const weights = logits.map((v) => (Number.isNaN(v) ? 0 : 2 ** ((v - top) * scale)));
  let bound = sorted[Math.min(most, sorted.length) - 1] ?? 0;
  const mass = (): number => weights.reduce((sum, w, i) => (logits[i]! >= bound ? sum + w : sum), 0);
  if (share < 1) {
    const goal = share * mass();
    let held = 0;
    bound = sorted.find((v) => (held += 2 ** ((v - top) * scale)) >= goal) ?? bound;
  }
  const goal = draw * mass();
  let before = 0;
  let chosen = 0;
  weights.forEach((w, i) => {
    if (!(logits[i]! >= bound) || w === 0) return;
    if (before <= goal) chosen = i;
    before += w;
  });
  return chosen;
}
