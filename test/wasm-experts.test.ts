import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { experts } from '../kernels/experts.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { Session, type Tensor, tensor } from '../src/index.ts';
import { encode, initializer, node, port } from './onnx-model.ts';
import { agree, CAPS, SHARED, source } from './wasm-device.ts';

interface Recorded {
  readonly op: 'MoE' | 'QMoE';
  readonly attrs: Readonly<Record<string, number | string>>;
  readonly inputs: readonly ({
    readonly dtype: 'float32' | 'uint8';
    readonly shape: readonly number[];
    readonly base64: string;
  } | null)[];
  readonly y: readonly number[];
}
/** What onnxruntime 1.30 made on its CPU. Floats are multiples of 1/128, as int16. */
const recorded = JSON.parse(readFileSync(join(import.meta.dirname, 'experts.json'), 'utf8')) as readonly Recorded[];
function tensorOf({ dtype, shape, base64 }: NonNullable<Recorded['inputs'][number]>): Tensor {
  const bytes = new Uint8Array(Buffer.from(base64, 'base64'));
  return dtype === 'uint8'
    ? tensor('uint8', shape, bytes)
    : fromNumbers(
        'float32',
        shape,
        Array.from(new Int16Array(bytes.buffer), (v) => v / 128),
      );
}
const floating = new Set(['activation_alpha', 'activation_beta', 'swiglu_limit']);
const half = (t: Tensor): Tensor => (t.dtype === 'float32' ? fromNumbers('float16', t.shape, numbers(t)) : t);

/** The case as a model: rows and router are fed, the rest is constant. */
function modelOf({ op, attrs }: Recorded, inputs: readonly (Tensor | null)[], opset = 17): Uint8Array {
  const d = inputs[0]!.dtype;
  const constants = inputs.flatMap((t, i) => (t && i > 1 ? [initializer(`x${i}`, t)] : []));
  const given = Object.fromEntries(
    Object.entries(attrs).map(([name, v]) => [name, floating.has(name) ? { float: v as number } : v]),
  );
  return encode(
    {
      input: [port('x0', ['rows', inputs[0]!.shape[1]!], d), port('x1', ['rows', inputs[1]!.shape[1]!], d)],
      output: [port('y', ['rows', inputs[0]!.shape[1]!], d)],
      initializer: constants,
      node: [
        node(
          op,
          inputs.map((t, i) => (t ? `x${i}` : '')),
          ['y'],
          given,
          { domain: 'com.microsoft' },
        ),
      ],
    },
    opset,
  );
}

describe.each(['reference', 'wasm', 'webgpu'] as const)('mixtures of experts on %s', (device) => {
  it.each(recorded.map((c) => [`${c.op} ${c.attrs.activation_type} ${c.attrs.expert_weight_bits ?? ''}`, c] as const))(
    '%s',
    async (_, c) => {
      for (const of of [(t: Tensor) => t, half]) {
        const inputs = c.inputs.map((t) => t && of(tensorOf(t)));
        const precise = inputs[0]!.dtype === 'float32';
        if (!precise && device === 'wasm') continue; // halves of experts have no WASM kernel
        await using session = await Session.load(modelOf(c, inputs), { device, strict: true });
        const { y } = await session.run({ x0: inputs[0]!, x1: inputs[1]! });
        const top = Math.max(...c.y.map(Math.abs));
        Array.from(numbers(y as Tensor)).forEach((v, i) =>
          expect(Math.abs(v - c.y[i]!), `element ${i}: ${v} for ${c.y[i]}`).toBeLessThan(top * (precise ? 1e-5 : 5e-3)),
        );
      }
    },
  );
});

it('refuse what does not fit', async () => {
  const [c] = recorded;
  const inputs = c!.inputs.map((t) => t && tensorOf(t));
  const load = (attrs: Recorded['attrs'], more = inputs): Promise<unknown> =>
    Session.load(modelOf({ ...c!, attrs: { ...c!.attrs, ...attrs } }, more), { device: 'wasm', dims: { rows: 2 } });
  await expect(load({ k: 9 })).rejects.toThrow(
    /shape_mismatch: the router has shape \[2,4\]; it must be \[2, 4\] and k 9 at most that[\s\S]*in node \/MoE/,
  );
  await expect(load({ activation_type: 'sin' })).rejects.toMatchObject({ code: 'attribute_invalid' });
  await expect(load({ use_sparse_mixer: 1 })).rejects.toMatchObject({ code: 'attribute_invalid' });
  await expect(
    load(
      {},
      inputs.map((t, i) =>
        i === 4
          ? fromNumbers(
              'float32',
              [4, 8, 7],
              Array.from({ length: 224 }, () => 0),
            )
          : t,
      ),
    ),
  ).rejects.toMatchObject({ code: 'shape_mismatch' });
});

test('products of experts in WASM, over bits, blocks, zero points, shared rows and rows of their own', async () => {
  const s = source();
  const op = experts.find((o) => o.op === 'sardonyx.ExpertMatMul')!;
  for (let n = 0; n < 60; n++) {
    const bits = s.pick([0, 4, 8]);
    const block = bits === 0 ? -1 : s.pick([-1, 16, 32]);
    const K = bits === 0 ? 4 * s.int(1, 9) : 32 * s.int(1, 3);
    const N = bits === 0 ? s.int(1, 9) : 8 * s.int(1, 3);
    const E = s.int(1, 4);
    const rows = s.int(1, 4);
    const slots = s.int(1, 3);
    const blocks = bits === 0 ? 0 : block < 0 ? 1 : K / block;
    const bytes = (...shape: number[]): Tensor =>
      fromNumbers(
        'uint8',
        shape,
        Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => s.int(0, 255)),
      );
    const inputs = [
      s.tensor('float32', [rows, s.int(0, 1) ? 1 : slots, K], 1),
      fromNumbers(
        'int64',
        [rows, slots],
        Array.from({ length: rows * slots }, () => s.int(0, E - 1)),
      ),
      bits === 0 ? s.tensor('float32', [E, N, K], 1) : bytes(E, N, (K * bits) / 8),
      bits === 0 ? null : s.tensor('float32', block < 0 ? [E, N] : [E, N, blocks], 0.1),
      bits && s.int(0, 1) ? bytes(E, N, Math.ceil((blocks * bits) / 8)) : null,
      s.int(0, 1) ? s.tensor('float32', [E, N], 1) : null,
    ];
    await agree(
      op,
      {
        attrs: { bits, block_size: block },
        inputs,
        constants: [2, 3, 4, 5],
        caps: n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!,
        atol: 2e-3,
        rtol: 1e-4,
      },
      `trial ${n}`,
    );
  }
});
