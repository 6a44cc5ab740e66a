/**
 * Model-local functions: every call is replaced by the function's nodes before names are looked at, so nothing
 * downstream knows of functions. Values inside a call get names of their own; attribute references become the call's
 * attributes or the function's defaults. https://github.com/onnx/onnx/blob/main/docs/IR.md#functions
 */
import { fail } from '../core/errors.ts';
import {
  type AttrProto,
  type FunctionProto,
  type GraphProto,
  type Imports,
  type ModelProto,
  type NodeProto,
  opName,
} from './proto.ts';
import { MAX_DEPTH } from './wire.ts';

/** Functions that call functions can double at each level; no real model has as many nodes. */
const MAX_NODES = 1_000_000;

const keyOf = (f: { readonly domain: string; readonly overload: string }, name: string): string =>
  JSON.stringify([f.domain, name, f.overload]);

/** What a name or an attribute reference inside a call stands for. */
interface Frame {
  readonly rename: (name: string) => string;
  readonly attr: (ref: string) => AttrProto | null;
  readonly imports: Imports | undefined;
  /** Made unique names start with it. */
  readonly label: string;
}

/** The model's graph with every call of a model-local function inlined. @throws model_malformed, model_too_large */
export function inlineFunctions(model: ModelProto, graph: GraphProto): GraphProto {
  if (model.functions.length === 0) return graph;
  const functions = new Map<string, FunctionProto>();
  for (const f of model.functions) {
    const key = keyOf(f, f.name);
    if (functions.has(key)) fail('model_malformed', `the function ${opName(f.domain, f.name)} is defined twice`);
    functions.set(key, f);
  }
  let made = 0;
  let calls = 0;

  const inGraph = (g: GraphProto, frame: Frame | null, active: readonly string[], depth: number): GraphProto => {
    if (depth > MAX_DEPTH) fail('model_malformed', `bodies and function calls are nested more than ${MAX_DEPTH} deep`);
    const named = <T extends { readonly name: string }>(x: T): T => (frame ? { ...x, name: frame.rename(x.name) } : x);
    return {
      ...g,
      nodes: inNodes(g.nodes, frame, active, depth),
      initializers: g.initializers.map(named),
      inputs: g.inputs.map(named),
      outputs: g.outputs.map(named),
      values: g.values.map(named),
      sparse: g.sparse.map((s) => ({ ...s, values: named(s.values) })),
    };
  };

  const inNodes = (
    nodes: readonly NodeProto[],
    frame: Frame | null,
    active: readonly string[],
    depth: number,
  ): NodeProto[] =>
    nodes.flatMap((node, i) => {
      if (++made > MAX_NODES) fail('model_too_large', `inlining functions makes more than ${MAX_NODES} nodes`);
      const attrs = new Map<string, AttrProto>();
      for (const [name, attr] of node.attrs) {
        const value = attr.kind === 'ref' && frame ? frame.attr(attr.ref) : attr;
        if (value === null) continue;
        attrs.set(
          name,
          value.kind === 'graph'
            ? { kind: 'graph', value: inGraph(value.value, attr === value ? frame : null, active, depth + 1) }
            : value.kind === 'graphs'
              ? {
                  kind: 'graphs',
                  value: value.value.map((g) => inGraph(g, attr === value ? frame : null, active, depth + 1)),
                }
              : value,
        );
      }
      const rename = (name: string): string => (frame ? frame.rename(name) : name);
      const placed: NodeProto = {
        ...node,
        attrs,
        inputs: node.inputs.map(rename),
        outputs: node.outputs.map(rename),
        ...(frame ? { name: `${frame.label}/${node.name || `${node.op}_${i}`}` } : {}),
        ...(frame?.imports ? { imports: frame.imports } : {}),
      };
      const called = functions.get(keyOf(node, node.op));
      return called ? inline(called, placed, i, active, depth + 1) : [placed];
    });

  const inline = (
    f: FunctionProto,
    call: NodeProto,
    at: number,
    active: readonly string[],
    depth: number,
  ): NodeProto[] => {
    const key = keyOf(f, f.name);
    const said = `function ${opName(f.domain, f.name)}`;
    if (active.includes(key)) fail('model_malformed', `the ${said} calls itself`);
    if (depth > MAX_DEPTH) fail('model_malformed', `bodies and function calls are nested more than ${MAX_DEPTH} deep`);
    if (call.inputs.length > f.inputs.length || call.outputs.length > f.outputs.length) {
      fail(
        'model_malformed',
        `the ${said} has ${f.inputs.length} inputs and ${f.outputs.length} outputs; node ${JSON.stringify(call.name)} gives ${call.inputs.length} and ${call.outputs.length}`,
      );
    }
    const label = call.name || `${call.op}_${at}`;
    const prefix = `${label}#${calls++}/`;
    const names = new Map<string, string>([['', '']]);
    f.inputs.forEach((name, i) => {
      if (name === '' || names.has(name))
        fail('model_malformed', `the ${said} has the input ${JSON.stringify(name)} twice or without a name`);
      names.set(name, call.inputs[i] ?? '');
    });
    const passed: NodeProto[] = [];
    f.outputs.forEach((name, i) => {
      const to = call.outputs[i] ?? '';
      const from = names.get(name);
      if (from === undefined) names.set(name, to || prefix + name);
      else if (to !== '')
        passed.push({
          name: `${label}/Identity_${i}`,
          op: 'Identity',
          domain: '',
          overload: '',
          inputs: [from],
          outputs: [to],
          attrs: new Map(),
          imports: f.imports.has('') ? f.imports : model.imports,
        });
    });
    const frame: Frame = {
      rename: (name) => names.get(name) ?? prefix + name,
      attr: (ref) => call.attrs.get(ref) ?? f.attributes.get(ref) ?? null,
      imports: f.imports,
      label,
    };
    return [...inNodes(f.nodes, frame, [...active, key], depth), ...passed];
  };

  return inGraph(graph, null, [], 0);
}
