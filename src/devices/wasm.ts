/** The CPU path and the kernels it runs. */
import { wasmKernels } from '../../kernels/wasm/index.ts';
import { packers } from '../../kernels/wasm/pack.ts';
import { weaving } from '../../kernels/wasm/weave.ts';
import { wasmBackend } from '../4-run/wasm/backend.ts';
import { type EngineOptions, openEngine } from '../4-run/wasm/engine.ts';
import type { Graph } from '../core/graph.ts';
import { sizeOf } from '../core/tensor.ts';
import type { OpenDevice } from './index.ts';

export { wasmKernels };
export type { EngineOptions };

/** Weights of products, in elements, from which it pays to find the fastest tile first: 8 MiB of float32. */
const MANY = 2 ** 21;
const isHeavy = ({ nodes, values }: Graph): boolean =>
  nodes.reduce((n, { op, inputs: [, b] }) => {
    const c = op === 'MatMul' && b != null ? values[b]!.constant : undefined;
    return n + (c?.dtype === 'float32' || c?.dtype === 'float16' ? sizeOf(c.shape) : 0);
  }, 0) >= MANY;

/** @throws option_invalid */
export async function openWasm(options: EngineOptions): Promise<OpenDevice> {
  const engine = await openEngine(options);
  return {
    backend: wasmBackend(engine, weaving),
    kernels: async (sets, graph) => {
      if (isHeavy(graph))
        engine.useTile(await (await import('../../kernels/wasm/calibrate.ts')).fastestTile(engine.caps.fma));
      return { wasm: await wasmKernels(sets) };
    },
    packers,
  };
}
