/** Plans and runs a model off the main thread, on the GPU and on WASM. */
import {
  type Feeds,
  type Plan,
  planModel,
  type Port,
  type Results,
  Session,
  type Summary,
  summarize,
  type Tensor,
  tensor,
} from 'sardonyx';
import { type Peaks, profile, type ProfiledNode } from 'sardonyx/tune';
import { answerCalls } from '../site/worker-call.ts';
import type { Seen } from './flow.ts';
import { type FileNode, nodesOf, withOutputs } from './wire.ts';

export type Kind = 'webgpu' | 'wasm';
export interface Planned {
  readonly plan: Seen;
  readonly summary: Summary;
  readonly complete: boolean;
  readonly milliseconds: number;
}
/**
 * Milliseconds of loading, of the first run and of the median of more; what the nodes took of them, each measured by
 * itself.
 */
export interface Ran {
  readonly load: number;
  readonly first: number;
  readonly median: number;
  readonly bytes: number;
  readonly peaks: Peaks;
  readonly nodes: readonly ProfiledNode[];
}
/**
 * How far two devices are apart at what a node makes: the largest difference, relative to the value's largest
 * magnitude.
 */
export interface Compared {
  readonly node: string;
  readonly op: string;
  readonly output: string;
  readonly apart: number;
}

export interface Inspector {
  /** Takes a model; its inputs. */
  open(request: { model: Uint8Array; name: string }): Promise<readonly Port[]>;
  plan(request: { device: Kind; dims: Readonly<Record<string, number>> }): Promise<Planned>;
  /** Runs on made-up inputs: noise for real numbers, ones for whole ones. */
  run(request: { device: Kind; dims: Readonly<Record<string, number>> }): Promise<Ran>;
  /** Runs both devices with every node's results as outputs, in the file's order. */
  compare(request: { dims: Readonly<Record<string, number>> }): Promise<readonly Compared[]>;
}

const RUNS = 5;
let model: { readonly bytes: Uint8Array; readonly ports: readonly Port[] } | null = null;

answerCalls({
  open: async ({ model: given }) => {
    model = null;
    const session = await Session.load(given, { device: 'reference' });
    model = { bytes: given, ports: session.inputs };
    await session.release();
    return model.ports;
  },
  plan: async ({ device, dims }) => {
    const started = performance.now();
    const { plan, complete } = await planModel(opened().bytes, { device, dims });
    const milliseconds = performance.now() - started;
    const summary = summarize(plan);
    return { plan: light(plan), summary, complete, milliseconds };
  },
  run: async ({ device, dims }) => {
    const { bytes, ports } = opened();
    const { loadMs, firstMs, runMs, deviceBytes, peaks, nodes } = await profile(bytes, feeds(ports, dims), {
      device,
      runs: RUNS,
    });
    return { load: loadMs, first: firstMs, median: runMs, bytes: deviceBytes, peaks, nodes };
  },
  compare: async ({ dims }) => {
    const { bytes, ports } = opened();
    const nodes = nodesOf(bytes).filter((n) => n.op !== 'Constant' && n.outputs.length > 0);
    const all = withOutputs(
      bytes,
      nodes.flatMap((n) => n.outputs),
    );
    const given = feeds(ports, dims);
    const results: Results[] = [];
    for (const device of ['webgpu', 'wasm'] as const) {
      const session = await Session.load(all, { device });
      try {
        results.push(await session.run(given));
      } finally {
        await session.release();
      }
    }
    return compareNodes(nodes, results[0]!, results[1]!);
  },
} satisfies Inspector);

function opened(): NonNullable<typeof model> {
  if (model === null) throw new Error('no model is open');
  return model;
}

function light({ shaders: _, modules: __, ...plan }: Plan): Seen {
  return plan;
}

/** Noise that is the same on every run (Knuth's multiplicative hash of the index). */
const noise = (i: number): number => (Math.imul(i + 1, 2654435761) >>> 0) / 2 ** 32;

function feeds(ports: readonly Port[], dims: Readonly<Record<string, number>>): Feeds {
  return Object.fromEntries(
    ports.map((port): [string, Tensor] => {
      const { name, dtype } = port;
      const shape = (port.shape ?? []).map((d, i) => (typeof d === 'number' ? d : (dims[d ?? `${name}.${i}`] ?? 1)));
      const length = shape.reduce((n, d) => n * d, 1);
      switch (dtype) {
        case 'float32':
          return [
            name,
            tensor(
              dtype,
              shape,
              Float32Array.from({ length }, (_, i) => noise(i)),
            ),
          ];
        case 'float64':
          return [
            name,
            tensor(
              dtype,
              shape,
              Float64Array.from({ length }, (_, i) => noise(i)),
            ),
          ];
        case 'float16':
          return [name, tensor(dtype, shape, new Uint16Array(length).fill(0x3800))]; // 0.5
        case 'int64':
          return [name, tensor(dtype, shape, new BigInt64Array(length).fill(1n))];
        case 'int32':
          return [name, tensor(dtype, shape, new Int32Array(length).fill(1))];
        case 'uint8':
          return [
            name,
            tensor(
              dtype,
              shape,
              Uint8Array.from({ length }, (_, i) => 255 * noise(i)),
            ),
          ];
        case 'bool':
          return [name, tensor(dtype, shape, new Uint8Array(length).fill(1))];
        default:
          throw new Error(`the page makes up no inputs of type ${dtype ?? 'unknown'}, which ${name} has`);
      }
    }),
  );
}

const isTensor = (v: unknown): v is Tensor =>
  typeof v === 'object' && v !== null && 'dtype' in v && 'data' in v && 'length' in (v.data as object);

function compareNodes(nodes: readonly FileNode[], a: Results, b: Results): Compared[] {
  return nodes.flatMap(({ name, op, outputs }) =>
    outputs.flatMap((output): Compared[] => {
      const [x, y] = [a[output], b[output]];
      if (!isTensor(x) || !isTensor(y) || typeof x.data[0] === 'string') return [];
      if (x.data.length !== y.data.length) return [{ node: name, op, output, apart: Infinity }];
      let [largest, apart] = [0, 0];
      for (let i = 0; i < x.data.length; i++) {
        const [u, v] = [Number(x.data[i]), Number(y.data[i])];
        if (Object.is(u, v) || u === v) largest = Math.max(largest, Number.isFinite(u) ? Math.abs(u) : 0);
        else if (Number.isFinite(u) && Number.isFinite(v))
          [largest, apart] = [Math.max(largest, Math.abs(u), Math.abs(v)), Math.max(apart, Math.abs(u - v))];
        else apart = Infinity;
      }
      return [{ node: name, op, output, apart: apart === 0 ? 0 : apart / largest }];
    }),
  );
}
