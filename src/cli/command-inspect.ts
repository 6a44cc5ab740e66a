import { isRemote, openModel } from '../0-read/open.ts';
import { parseModel } from '../1-parse/model.ts';
import { bytesOf } from '../core/dtype.ts';
import { fail, SardonyxError } from '../core/errors.ts';
import { bodiesOf, type Dim, type Graph } from '../core/graph.ts';
import { sizeOf } from '../core/tensor.ts';
import { planModel, type PlanOptions, type Preview, printPlan, summarize, type Trace } from '../index.ts';
import {
  type Command,
  deviceOf,
  dimsOf,
  type ExitCode,
  type Given,
  human,
  modelOf,
  number,
  operatorsGiven,
  print,
  printJson,
  table,
  text,
  typed,
} from './command.ts';
import { placements } from './verify.ts';

/** `sardonyx inspect`: what a model is and how it would run, without any device. */
export const inspectCommand: Command = {
  name: 'inspect',
  summary: 'show a model and its plan, without a device',
  usage: `sardonyx inspect MODEL [options]

Shows inputs, outputs, operators with their counts and where each would run, and what memory it takes. Nothing runs. Of a URL on a
server with ranges only the graph is read, not the weights.

  --device NAME     webgpu, wasm or reference (default webgpu)
  --dims NAME=N,…   sizes of free dims; one without a name is INPUT.AXIS
  --memory BYTES    say whether weights and activations fit into so much
  --plan            print the whole plan, one line a step
  --trace           print every rewrite of the graph, with its reason
  --operators FILE  a module of JavaScript that exports operators of your own (\`defineOperator\`)
  --json            print all of it as JSON

Exit status: 0 fine, 2 the request is wrong.`,
  options: {
    operators: { type: 'string' },
    device: { type: 'string' },
    dims: { type: 'string', multiple: true },
    memory: { type: 'string' },
    plan: { type: 'boolean' },
    trace: { type: 'boolean' },
  },
  run: inspect,
};

/** How many nodes of each operator a graph and its bodies have. */
function countOps(graph: Graph, into: Map<string, number> = new Map()): Map<string, number> {
  for (const node of graph.nodes) {
    into.set(node.op, (into.get(node.op) ?? 0) + 1);
    for (const body of bodiesOf(node)) countOps(body, into);
  }
  return into;
}
/** Bytes of all constants of a graph and its bodies, as they are in the file. */
const constantBytes = (graph: Graph): number => {
  const captured = new Set(graph.captures.map(([inner]) => inner));
  return (
    graph.values.reduce(
      (n, v, i) => n + (v.constant && !captured.has(i) ? bytesOf(v.constant.dtype, sizeOf(v.constant.shape)) : 0),
      0,
    ) + graph.nodes.flatMap(bodiesOf).reduce((n, body) => n + constantBytes(body), 0)
  );
};
const memoryText = (given: Given): string =>
  given['memory'] === undefined ? 'what such a device offers at least' : `the ${human(number(given, 'memory')!)} given`;
const shapeText = (shape: readonly Dim[] | null): string =>
  shape ? `[${shape.map((d) => d ?? '?').join(', ')}]` : '[…]';

async function inspect(positionals: readonly string[], given: Given): Promise<ExitCode> {
  const path = modelOf(positionals, 'inspect');
  const device = deviceOf(text(given, 'device') ?? 'webgpu');
  if (device === 'auto')
    return fail(
      'option_invalid',
      'inspect touches no device, so it cannot choose one; --device webgpu, wasm or reference',
    );
  const opened = await openModel(path, {}, isRemote(path));
  const model = parseModel(opened.from, opened.read);
  await opened.settle();
  const { graph } = model;
  const ports = (ids: readonly number[]): { name: string; dtype: string | null; shape: readonly Dim[] | null }[] =>
    ids.map((v) => ({
      name: graph.values[v]!.name,
      dtype: graph.values[v]!.declared?.dtype ?? null,
      shape: graph.values[v]!.declared?.shape ?? null,
    }));
  const rewrites: Trace[] = [];
  const planned = await planFor(path, {
    device,
    dims: dimsOf(given),
    ...(given['memory'] === undefined ? {} : { memory: number(given, 'memory')! }),
    trace: (t) => rewrites.push(t),
    ...(await operatorsGiven(given)),
  });

  const file = countOps(graph);
  const placed = planned.plan ? placements([planned.plan]) : [];
  const ops = [...new Set([...file.keys(), ...placed.map((p) => p.op)])].sort().map((op) => {
    const where = new Map<string, number>();
    for (const p of placed)
      if (p.op === op)
        where.set(
          p.device + (p.why ? ` (${p.why})` : ''),
          (where.get(p.device + (p.why ? ` (${p.why})` : '')) ?? 0) + 1,
        );
    return { op, nodes: file.get(op) ?? 0, runs: Object.fromEntries(where) };
  });
  const summary = planned.plan
    ? {
        ...summarize(planned.plan),
        complete: planned.complete,
        fits: planned.fits,
        why: planned.why,
        left: planned.left,
        bytesRead: planned.bytesRead,
      }
    : null;
  const head = {
    irVersion: model.irVersion,
    producer: model.producer,
    opsets: model.opsets,
    inputs: ports(graph.inputs),
    outputs: ports(graph.outputs),
    weightBytes: constantBytes(graph),
    externalFiles: model.externalFiles,
  };
  if (given['json']) {
    printJson({
      ...head,
      device,
      operators: ops,
      plan: summary,
      ...(planned.plan ? {} : { unplanned: planned.unplanned }),
      ...(given['plan'] && planned.plan ? { steps: planned.plan.steps } : {}),
      ...(given['trace'] ? { rewrites } : {}),
    });
    return 0;
  }
  print(
    `${path}: IR ${model.irVersion}, ${Object.entries(model.opsets)
      .map(([d, v]) => `${d} ${v}`)
      .join(', ')}${model.producer ? `, by ${model.producer}` : ''}`,
  );
  print(`inputs\n${table(head.inputs.map((p) => [p.name, (p.dtype ?? 'any') + shapeText(p.shape)]))}`);
  print(`outputs\n${table(head.outputs.map((p) => [p.name, (p.dtype ?? 'any') + shapeText(p.shape)]))}`);
  print(
    `weights in the file  ${human(head.weightBytes)}${head.externalFiles.length > 0 ? `, some in ${head.externalFiles.join(', ')}` : ''}`,
  );
  const inPlan = ({ runs }: (typeof ops)[number]): string =>
    Object.entries(runs)
      .map(([where, n]) => `${n} ${where}`)
      .join(', ') || (planned.plan ? `folded, fused or a view${planned.complete ? '' : ', or planned later'}` : '');
  print(
    `operators${planned.plan ? ` and steps on ${device}` : ''}\n${table(ops.map((o) => [o.op, o.nodes, inPlan(o)]))}`,
  );
  if (!summary) print(`no plan: ${typed(planned.unplanned!)}`);
  else {
    if (!summary.complete) print('the plan ends where a shape depends on data; the rest is planned while it runs');
    print(
      table([
        ...(device === 'wasm'
          ? [
              ['calls', summary.wasmCalls, ''],
              ['modules', summary.modules, ''],
            ]
          : [
              ['dispatches', summary.dispatches, ''],
              ['pipelines', summary.pipelines, ''],
            ]),
        ['host steps', summary.hostSteps, ''],
        ['weights', human(summary.weightBytes), ''],
        ['activations', human(summary.peakBytes), `no plan can do with less than ${human(summary.lowerBoundBytes)}`],
        ['copied', human(summary.copiedBytes), 'between host and device inside a run'],
      ]),
    );
    print(summary.fits ? `fits ${memoryText(given)}` : `does not fit: ${summary.why.join('; ')}`);
    if (isRemote(path))
      print(`${human(summary.bytesRead)} were read of the model; its weights took no part in rewriting`);
    if (given['plan']) print(printPlan(planned.plan!));
  }
  if (given['trace'])
    print(
      `rewrites\n${table(rewrites.map((t) => [t.pass, t.reason, `${t.removed.length} → ${t.added.length} nodes`]))}`,
    );
  return 0;
}

type Planned =
  | (Preview & { readonly unplanned?: undefined })
  | { readonly plan: null; readonly complete: false; readonly unplanned: string };

/** The plan, or why there is none yet: free dims without a size, operators that no one knows. */
async function planFor(path: string, options: PlanOptions): Promise<Planned> {
  try {
    return await planModel(path, options);
  } catch (e) {
    if (e instanceof SardonyxError && ['dimension_unbound', 'op_unsupported'].includes(e.code))
      return { plan: null, complete: false, unplanned: e.message };
    throw e;
  }
}
