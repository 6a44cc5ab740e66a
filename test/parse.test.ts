import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import onnxProto from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import { safePath } from '../src/1-parse/external.ts';
import { type Model, parseModel } from '../src/1-parse/model.ts';
import { operatorsNamed } from '../src/1-parse/operators.ts';
import { parseTensor, parseValue } from '../src/1-parse/values.ts';
import { ONNX_OF_DTYPE, type DType } from '../src/core/dtype.ts';
import { SardonyxError } from '../src/core/errors.ts';
import { bodiesOf, type Graph, operatorsIn, readsOf } from '../src/core/graph.ts';
import { bytesOfTensor, type Tensor, type Value } from '../src/core/tensor.ts';

const { onnx } = onnxProto;
type Json = Record<string, unknown>;

// ── building models ─────────────────────────────────────────────────────────────────────────────────────────────────
const encode = (graph: Json, rest: Json = {}): Uint8Array =>
  new Uint8Array(
    onnx.ModelProto.encode(
      onnx.ModelProto.fromObject({
        irVersion: 8,
        producerName: 'test',
        opsetImport: [{ domain: '', version: 17 }],
        graph: { name: 'g', ...graph },
        ...rest,
      }),
    ).finish(),
  );
const value = (name: string, dims: readonly (number | string)[] = [2]): Json => ({
  name,
  type: {
    tensorType: {
      elemType: 1,
      shape: { dim: dims.map((d) => (typeof d === 'number' ? { dimValue: d } : { dimParam: d })) },
    },
  },
});
const node = (opType: string, input: string[], output: string[], rest: Json = {}): Json => ({
  opType,
  input,
  output,
  ...rest,
});
const initializer = (name: string, values: readonly number[], dims: readonly number[] = [values.length]): Json => ({
  name,
  dataType: 1,
  dims,
  floatData: values,
});

/** The code of the error that `f` throws, which must be one of ours. */
function codeOf(f: () => unknown): string {
  try {
    f();
  } catch (e) {
    if (e instanceof SardonyxError) return e.code;
    throw e;
  }
  return 'none';
}
const id = (g: Graph, name: string): number => g.values.findIndex((v) => v.name === name);

/** Every node reads only what is an input, a constant, a capture, or written before it. */
function expectSorted(g: Graph): void {
  const known = new Set<number>([...g.inputs, ...g.captures.map(([inner]) => inner)]);
  g.values.forEach((v, i) => {
    if (v.constant) known.add(i);
  });
  for (const n of g.nodes) {
    for (const v of readsOf(n)) expect(known.has(v), `${n.name} reads ${g.values[v]!.name}`).toBe(true);
    for (const v of n.outputs) if (v !== null) known.add(v);
    bodiesOf(n).forEach(expectSorted);
  }
  for (const v of g.outputs) expect(known.has(v)).toBe(true);
}

describe('a model', () => {
  it('becomes a graph of numbered values', () => {
    const model = parseModel(
      encode(
        {
          input: [value('x', ['batch', 2])],
          output: [value('y')],
          valueInfo: [value('h', [2, 2])],
          initializer: [initializer('w', [1, 2, 3, 4], [2, 2])],
          node: [
            node('MatMul', ['x', 'w'], ['h']),
            node('Gelu', ['h', ''], ['y', ''], { domain: 'com.microsoft', name: 'act' }),
          ],
        },
        {
          opsetImport: [{ version: 17 }, { domain: 'com.microsoft', version: 3 }],
          metadataProps: [{ key: '__proto__', value: 'v' }],
        },
      ),
    );
    const { graph } = model;
    expect(graph.inputs.map((v) => graph.values[v]!.name)).toEqual(['x']);
    expect(graph.outputs.map((v) => graph.values[v]!.name)).toEqual(['y']);
    expect(graph.nodes.map(({ op, name, opset }) => ({ op, name, opset }))).toEqual([
      { op: 'MatMul', name: 'MatMul_0', opset: 17 },
      { op: 'com.microsoft.Gelu', name: 'act', opset: 3 },
    ]);
    expect(graph.nodes[1]).toMatchObject({ inputs: [id(graph, 'h'), null], outputs: [id(graph, 'y'), null] });
    expect(graph.values[id(graph, 'x')]!.declared).toEqual({ dtype: 'float32', shape: ['batch', 2] });
    expect(graph.values[id(graph, 'h')]!.declared).toEqual({ dtype: 'float32', shape: [2, 2] });
    expect(graph.values[id(graph, 'w')]!.constant!.peek()).toEqual({
      dtype: 'float32',
      shape: [2, 2],
      data: Float32Array.of(1, 2, 3, 4),
    });
    expect({ ...model.opsets }).toEqual({ 'ai.onnx': 17, 'com.microsoft': 3 });
    expect([model.irVersion, model.producer, model.metadata.get('__proto__')]).toEqual([8, 'test', 'v']);
  });

  it('reads every kind of attribute, packed and unpacked', () => {
    const t = { dataType: 7, dims: [2], int64Data: [1, -2] };
    const attribute = [
      { name: 'f', type: 1, f: 0.5 },
      { name: 'i', type: 2, i: -3 },
      { name: 's', type: 3, s: Buffer.from('é') },
      { name: 't', type: 4, t },
      { name: 'fs', type: 6, floats: [1, 2] },
      { name: 'is', type: 7, ints: [4, -5] },
      { name: 'ss', type: 8, strings: [Buffer.from('a'), Buffer.from('b')] },
      { name: 'none', type: 7 },
      { name: '__proto__', type: 2, i: 1 },
      { name: 'untyped', i: 9 },
      { name: 'type', type: 13, tp: { sequenceType: { elemType: { tensorType: { elemType: 1 } } } } },
    ];
    const { graph } = parseModel(encode({ node: [node('Odd', [], ['y'], { attribute })], output: [value('y')] }));
    const { attrs } = graph.nodes[0]!;
    expect(attrs).toMatchObject({
      f: 0.5,
      i: -3,
      s: 'é',
      fs: [1, 2],
      is: [4, -5],
      ss: ['a', 'b'],
      none: [],
      untyped: 9,
      type: 'seq(tensor(float32))',
    });
    expect(attrs.t).toEqual({ dtype: 'int64', shape: [2], data: BigInt64Array.of(1n, -2n) });
    expect(Object.getOwnPropertyNames(attrs)).toContain('__proto__');
    // ints of an AttributeProto written one by one: name "is", type INTS, two fields 8
    const unpacked = Uint8Array.of(
      0x0a,
      2,
      0x69,
      0x73,
      0xa0,
      1,
      7,
      0x40,
      4,
      0x40,
      0xfb,
      0xff,
      0xff,
      0xff,
      0xff,
      0xff,
      0xff,
      0xff,
      0xff,
      1,
    );
    const nodeBytes = [0x12, 1, 0x79, 0x22, 1, 0x41, 0x2a, unpacked.length, ...unpacked];
    const graphBytes = [0x0a, nodeBytes.length, ...nodeBytes];
    const bytes = Uint8Array.of(8, 8, 0x42, 2, 0x10, 17, 0x3a, graphBytes.length, ...graphBytes);
    expect(parseModel(bytes).graph.nodes[0]!.attrs).toMatchObject({ is: [4, -5] });
  });

  it('makes Constant nodes constants', () => {
    const constant = (name: string, attribute: Json): Json => node('Constant', [], [name], { attribute: [attribute] });
    const { graph } = parseModel(
      encode({
        node: [
          constant('a', { name: 'value', type: 4, t: { dataType: 1, dims: [1], floatData: [7] } }),
          constant('b', { name: 'value_float', type: 1, f: 2 }),
          constant('c', { name: 'value_int', type: 2, i: '9007199254740993' }),
          constant('d', { name: 'value_ints', type: 7, ints: [1, 2] }),
          constant('e', { name: 'value_floats', type: 6, floats: [1] }),
          constant('f', { name: 'value_string', type: 3, s: Buffer.from('x') }),
          constant('g', { name: 'value_strings', type: 8, strings: [Buffer.from('x'), Buffer.from('y')] }),
          constant('h', {
            name: 'sparse_value',
            type: 11,
            sparseTensor: {
              values: { dataType: 1, dims: [2], floatData: [5, 6] },
              indices: { dataType: 7, dims: [2, 2], int64Data: [0, 1, 1, 0] },
              dims: [2, 2],
            },
          }),
        ],
        output: 'abcdefgh'.split('').map((n) => ({ name: n })),
      }),
    );
    expect(graph.nodes).toEqual([]);
    const tensors = graph.outputs.map((v) => graph.values[v]!.constant!.load() as Tensor);
    expect(tensors.map((t) => [t.dtype, t.shape, Array.from(t.data as ArrayLike<unknown>)])).toEqual([
      ['float32', [1], [7]],
      ['float32', [], [2]],
      ['int64', [], [9007199254740993n]],
      ['int64', [2], [1n, 2n]],
      ['float32', [1], [1]],
      ['string', [], ['x']],
      ['string', [2], ['x', 'y']],
      ['float32', [2, 2], [0, 5, 6, 0]],
    ]);
  });

  it('shares raw weights with the file', () => {
    const bytes = encode({
      initializer: [{ name: 'w', dataType: 2, dims: [3], rawData: Uint8Array.of(1, 2, 3) }],
      output: [value('w')],
    });
    const { graph } = parseModel(bytes);
    const { data } = graph.values[0]!.constant!.peek()!;
    expect((data as Uint8Array).buffer).toBe(bytes.buffer);
  });

  it('copies a weight only where it lies at an odd address, also in a Node Buffer', () => {
    const plain = encode({
      initializer: [{ name: 'w', dataType: 7, dims: [1], rawData: Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0) }],
      output: [value('w')],
    });
    for (let shift = 0; shift < 8; shift++) {
      const buffer = Buffer.alloc(plain.length + shift);
      buffer.set(plain, shift);
      expect(parseModel(buffer.subarray(shift)).graph.values[0]!.constant!.peek()!.data).toEqual(BigInt64Array.of(1n));
    }
  });

  it('does not count initializers as inputs', () => {
    const { graph } = parseModel(
      encode({
        input: [value('w'), value('x')],
        initializer: [initializer('w', [1, 2])],
        node: [node('Add', ['x', 'w'], ['y'])],
        output: [value('y')],
      }),
    );
    expect(graph.inputs).toEqual([id(graph, 'x')]);
  });

  it('sorts nodes, keeping their order where it may', () => {
    const { graph } = parseModel(
      encode({
        input: [value('x')],
        output: [value('d')],
        node: [node('A', ['x'], ['a']), node('D', ['b', 'c'], ['d']), node('C', ['b'], ['c']), node('B', ['a'], ['b'])],
      }),
    );
    expect(graph.nodes.map((n) => n.op)).toEqual(['A', 'B', 'C', 'D']);
  });

  it.each([
    [
      'a cycle',
      { node: [node('A', ['b'], ['a']), node('B', ['a'], ['b'])], output: [value('a')] },
      /wait for each other: "A_0" <- "B_1" <- "A_0"/,
    ],
    ['a node that reads itself', { node: [node('A', ['a'], ['a'])], output: [value('a')] }, /wait for each other/],
    [
      'two nodes with one output',
      { node: [node('A', [], ['a']), node('B', [], ['a'])], output: [value('a')] },
      /"a" is defined twice: by node "A_0" and by node "B_1"/,
    ],
    [
      'a node that writes an input',
      { input: [value('x')], node: [node('A', [], ['x'])], output: [value('x')] },
      /defined twice/,
    ],
    [
      'two equal initializers',
      { initializer: [initializer('w', [1]), initializer('w', [1])], output: [value('w')] },
      /defined twice/,
    ],
    ['two equal inputs', { input: [value('x'), value('x')], output: [value('x')] }, /defined twice/],
    [
      'a dangling input',
      { node: [node('A', ['nowhere'], ['a'])], output: [value('a')] },
      /reads "nowhere", which nothing defines/,
    ],
    ['a dangling output', { output: [value('nowhere')] }, /output "nowhere" is defined by nothing/],
    [
      'an attribute given twice',
      {
        node: [
          node('A', [], ['a'], {
            attribute: [
              { name: 'k', type: 2, i: 1 },
              { name: 'k', type: 2, i: 1 },
            ],
          }),
        ],
        output: [value('a')],
      },
      /given twice/,
    ],
    ['a node without operator', { node: [node('', [], ['a'])], output: [value('a')] }, /no op_type/],
    ['a negative dim', { initializer: [{ name: 'w', dataType: 1, dims: [-1], floatData: [1] }] }, /dim -1/],
    [
      'dims whose product overflows',
      { initializer: [{ name: 'w', dataType: 1, dims: [2 ** 40, 2 ** 40], rawData: Uint8Array.of(1) }] },
      /more elements than any memory/,
    ],
    [
      'a small file with a huge tensor',
      { initializer: [{ name: 'w', dataType: 1, dims: [2 ** 32], floatData: [1] }] },
      /needs 4294967296 entries but has 1/,
    ],
    [
      'raw data of another length',
      { initializer: [{ name: 'w', dataType: 1, dims: [2], rawData: new Uint8Array(7) }] },
      /needs 8 bytes but its raw_data has 7/,
    ],
    [
      'a reference outside of a function',
      { node: [node('A', [], ['a'], { attribute: [{ name: 'k', type: 2, refAttrName: 'z' }] })], output: [value('a')] },
      /outside of a function/,
    ],
    [
      'a sparse index outside',
      {
        node: [
          node('Constant', [], ['a'], {
            attribute: [
              {
                name: 'sparse_value',
                type: 11,
                sparseTensor: {
                  values: { dataType: 1, dims: [1], floatData: [5] },
                  indices: { dataType: 7, dims: [1], int64Data: [9] },
                  dims: [4],
                },
              },
            ],
          }),
        ],
        output: [{ name: 'a' }],
      },
      /outside/,
    ],
  ])('refuses %s', (_, graph, message) => {
    const bytes = encode(graph as Json);
    expect(codeOf(() => parseModel(bytes))).toBe('model_malformed');
    expect(() => parseModel(bytes)).toThrow(message);
  });

  it('refuses what it cannot run, by name', () => {
    expect(codeOf(() => parseModel(encode({ initializer: [{ name: 'w', dataType: 99, dims: [0] }] })))).toBe(
      'model_unsupported',
    );
    expect(
      codeOf(() =>
        parseModel(
          encode({
            sparseInitializer: [
              { values: { name: 's', dataType: 1, dims: [0] }, indices: { dataType: 7, dims: [0] }, dims: [2 ** 34] },
            ],
            output: [{ name: 's' }],
          }),
        ),
      ),
    ).toBe('model_too_large');
    expect(
      codeOf(() => parseModel(encode({ node: [node('A', [], ['a'])], output: [value('a')] }, { opsetImport: [] }))),
    ).toBe('model_malformed');
    expect(
      parseModel(encode({ node: [node('A', [], ['a'], { domain: 'own' })], output: [value('a')] }, { opsetImport: [] }))
        .graph.nodes[0],
    ).toMatchObject({ op: 'own.A', opset: 1 });
  });
});

describe('bodies', () => {
  const body = (name: string, nodes: Json[], output: string, rest: Json = {}): Json => ({
    name,
    node: nodes,
    output: [value(output)],
    ...rest,
  });
  const branch = (graph: Json, other: Json): Json => ({
    attribute: [
      { name: 'then_branch', type: 5, g: graph },
      { name: 'else_branch', type: 5, g: other },
    ],
  });

  it('list what they read from outside, also through bodies of their own', () => {
    const inner = body('inner', [node('Add', ['x', 'w'], ['deep'])], 'deep');
    const middle = body(
      'middle',
      [
        node('If', ['c'], ['m'], branch(inner, body('leaf', [node('Neg', ['own'], ['leafy'])], 'leafy'))),
        node('Abs', ['x'], ['own']),
      ],
      'm',
    );
    const { graph } = parseModel(
      encode({
        input: [value('c', []), value('x')],
        output: [value('y')],
        initializer: [initializer('w', [1, 2])],
        node: [
          node('If', ['c'], ['y'], branch(middle, body('plain', [node('Neg', ['late'], ['p'])], 'p'))),
          node('Abs', ['x'], ['late']),
        ],
      }),
    );
    expectSorted(graph);
    expect(graph.nodes.map((n) => n.op)).toEqual(['Abs', 'If']);
    const [outerThen, outerElse] = bodiesOf(graph.nodes[1]!);
    const outside = (g: Graph, of: Graph): string[] =>
      g.captures
        .map(([inside, out]) => (expect(g.values[inside]!.name).toBe(of.values[out]!.name), of.values[out]!.name))
        .sort();
    expect(outside(outerThen!, graph)).toEqual(['c', 'w', 'x']);
    expect(outside(outerElse!, graph)).toEqual(['late']);
    const nested = bodiesOf(outerThen!.nodes.find((n) => n.op === 'If')!);
    expect(outside(nested[0]!, outerThen!)).toEqual(['w', 'x']);
    expect(outside(nested[1]!, outerThen!)).toEqual(['own']);
    expect(nested[0]!.values[id(nested[0]!, 'w')]!.constant!.peek()!.data).toEqual(Float32Array.of(1, 2));
    expect(nested[0]!.values[id(nested[0]!, 'x')]!.declared).toEqual({ dtype: 'float32', shape: [2] });
  });

  it('may not need what their own node makes', () => {
    const bytes = encode({
      input: [value('c', [])],
      output: [value('y')],
      node: [
        node(
          'If',
          ['c'],
          ['y'],
          branch(body('t', [node('Neg', ['y'], ['p'])], 'p'), body('e', [node('Neg', ['c'], ['q'])], 'q')),
        ),
      ],
    });
    expect(() => parseModel(bytes)).toThrow(/wait for each other/);
  });

  it('are refused when nested too deep', () => {
    let g: Json = body('b', [node('Neg', ['c'], ['y'])], 'y');
    for (let i = 0; i < 100; i++)
      g = body('b', [node('If', ['c'], ['y'], branch(g, body('e', [node('Neg', ['c'], ['z'])], 'z')))], 'y');
    expect(() => parseModel(encode({ ...g, input: [value('c', [])] }))).toThrow(/nested more than 64 deep/);
  });
});

describe('functions', () => {
  const scale = {
    name: 'Scale',
    domain: 'my',
    input: ['a', 'b'],
    output: ['r', 'a'],
    attribute: ['alpha'],
    attributeProto: undefined,
    opsetImport: [{ domain: '', version: 13 }],
    node: [
      node('LeakyRelu', ['a'], ['t'], { attribute: [{ name: 'alpha', refAttrName: 'alpha', type: 1 }] }),
      node('Add', ['t', 'b'], ['r']),
    ],
  };
  const imports = [{ version: 17 }, { domain: 'my', version: 1 }];

  it('are inlined, with their attributes and operator sets', () => {
    const { graph } = parseModel(
      encode(
        {
          input: [value('x'), value('t')],
          output: [value('y'), value('z')],
          node: [
            node('Scale', ['x', 't'], ['h', 'x2'], { domain: 'my', attribute: [{ name: 'alpha', type: 1, f: 0.25 }] }),
            node('Scale', ['h', 'x2'], ['y'], { domain: 'my' }),
            node('Neg', ['x2'], ['z']),
          ],
        },
        { functions: [scale], opsetImport: imports },
      ),
    );
    expectSorted(graph);
    expect(graph.nodes.map((n) => [n.op, n.opset])).toEqual([
      ['LeakyRelu', 13],
      ['Add', 13],
      ['Identity', 13],
      ['LeakyRelu', 13],
      ['Add', 13],
      ['Neg', 17],
    ]);
    expect(graph.nodes[0]!.attrs).toEqual({ alpha: 0.25 });
    expect(graph.nodes[3]!.attrs).toEqual({});
    expect(graph.nodes[0]!.inputs).toEqual([id(graph, 'x')]);
    expect(graph.nodes[1]!.inputs[1]).toBe(id(graph, 't'));
    expect(graph.nodes[0]!.outputs[0]).not.toBe(graph.nodes[3]!.outputs[0]);
  });

  it('keep names in their bodies apart from those of the caller', () => {
    const body = { name: 'b', node: [node('Add', ['a', 't'], ['x'])], output: [value('x')] };
    const f = {
      name: 'F',
      domain: 'my',
      input: ['a', 'c'],
      output: ['r'],
      opsetImport: [{ version: 17 }],
      node: [
        node('Neg', ['a'], ['t']),
        node('If', ['c'], ['r'], {
          attribute: [
            { name: 'then_branch', type: 5, g: body },
            { name: 'else_branch', type: 5, g: body },
          ],
        }),
      ],
    };
    const { graph } = parseModel(
      encode(
        {
          input: [value('x'), value('c', [])],
          output: [value('y')],
          node: [node('F', ['x', 'c'], ['y'], { domain: 'my' })],
        },
        { functions: [f], opsetImport: imports },
      ),
    );
    expectSorted(graph);
    const [then] = bodiesOf(graph.nodes[1]!);
    const captured = new Map(then!.captures);
    expect(then!.nodes[0]!.inputs.map((v) => captured.get(v!))).toEqual([id(graph, 'x'), graph.nodes[0]!.outputs[0]]);
  });

  it('call each other but not themselves, and cannot blow up', () => {
    const f = (name: string, nodes: Json[]): Json => ({
      name,
      domain: 'my',
      input: ['a'],
      output: ['r'],
      node: nodes,
      opsetImport: imports,
    });
    const main = { input: [value('x')], output: [value('y')], node: [node('F', ['x'], ['y'], { domain: 'my' })] };
    const call = (op: string, from = 'a', to = 'r'): Json => node(op, [from], [to], { domain: 'my' });
    const ok = parseModel(
      encode(main, {
        functions: [f('F', [call('G', 'a', 'm'), call('G', 'm')]), f('G', [node('Neg', ['a'], ['r'])])],
        opsetImport: imports,
      }),
    );
    expect(ok.graph.nodes.map((n) => n.op)).toEqual(['Neg', 'Neg']);
    expect(() =>
      parseModel(encode(main, { functions: [f('F', [call('G')]), f('G', [call('F')])], opsetImport: imports })),
    ).toThrow(/calls itself/);
    const bomb = Array.from({ length: 40 }, (_, i) =>
      f(i === 0 ? 'F' : `F${i}`, [call(`F${i + 1}`, 'a', 'm'), call(`F${i + 1}`, 'm')]),
    );
    expect(
      codeOf(() =>
        parseModel(encode(main, { functions: [...bomb, f('F40', [node('Neg', ['a'], ['r'])])], opsetImport: imports })),
      ),
    ).toBe('model_too_large');
  });
});

describe('external data', () => {
  const model = (entries: Record<string, string>, dims = [2]): Uint8Array =>
    encode({
      initializer: [
        {
          name: 'w',
          dataType: 1,
          dims,
          dataLocation: 1,
          externalData: Object.entries(entries).map(([key, v]) => ({ key, value: v })),
        },
      ],
      output: [value('w')],
    });

  it('is read through the given function, and small tensors once', async () => {
    const asked: unknown[] = [];
    const { graph, externalFiles } = parseModel(
      model({ location: './sub/w.bin', offset: '4', length: '8' }),
      (...args) => {
        asked.push(args);
        return Promise.resolve(new Uint8Array(Float32Array.of(3, 4).buffer));
      },
    );
    const constant = graph.values[0]!.constant!;
    expect(externalFiles).toEqual(['sub/w.bin']);
    expect(constant.peek()).toBeNull();
    expect((await constant.load()).data).toEqual(Float32Array.of(3, 4));
    await constant.load();
    expect(asked).toEqual([['sub/w.bin', 4, 8]]);
  });

  it('is missing when nothing reads it, or when too little comes', () => {
    expect(codeOf(() => parseModel(model({ location: 'w' })).graph.values[0]!.constant!.load())).toBe(
      'external_data_missing',
    );
    expect(
      codeOf(() => parseModel(model({ location: 'w' }), () => new Uint8Array(4)).graph.values[0]!.constant!.load()),
    ).toBe('external_data_missing');
  });

  it.each([
    '',
    '/etc/passwd',
    '../w',
    'a/../../w',
    'a/..',
    '..',
    '.',
    'C:w',
    'c:/w',
    '\\\\host\\w',
    'a\\..\\w',
    'file:///w',
    'https://host/w',
    '%2e%2e/w',
    'a%00',
    'a\0b',
    'a\nb',
    'a//b',
    'a/',
    '.. /w',
    '.../w',
    'w.',
    'a?b',
    'a#b',
    '*/_ORT_MEM_ADDR_/*',
    'x'.repeat(5000),
  ])('refuses %j', (location) => {
    expect(codeOf(() => safePath(location))).toBe('external_data_unsafe');
    expect(codeOf(() => parseModel(model({ location })))).toBe('external_data_unsafe');
  });

  it.each([
    ['w.bin', 'w.bin'],
    ['./w.bin', 'w.bin'],
    ['a/b-c_d.e/w', 'a/b-c_d.e/w'],
    ['..w', '..w'],
    ['poids é.bin', 'poids é.bin'],
    ['.hidden', '.hidden'],
  ])('takes %j', (location, path) => expect(safePath(location)).toBe(path));

  it.each([
    { location: 'w', offset: '-1' },
    { location: 'w', offset: '1e3' },
    { location: 'w', length: '0x8' },
    { location: 'w', length: '9' },
    { location: 'w', offset: '99999999999999999999' },
    { offset: '0' },
  ])('refuses the range %j', (entries) =>
    expect(codeOf(() => parseModel(model(entries as unknown as Record<string, string>)))).toBe('model_malformed'),
  );
});

describe('bytes that are no model', () => {
  const text = (s: string): Uint8Array => Uint8Array.from(s, (c) => c.charCodeAt(0));
  it.each([
    ['nothing', '', /empty/],
    ['a web page', '<!DOCTYPE html><html>', /HTML/],
    ['an LFS pointer', 'version https://git-lfs.github.com/spec/v1', /Git LFS/],
    ['JSON', '{"error": 404}', /JSON/],
    ['a ZIP', 'PK\u0003\u0004....', /ZIP/],
    ['an ORT file', '\u0018\0\0\0ORTM', /ONNX Runtime/],
    ['a GGUF', 'GGUF\u0003', /GGUF/],
  ])('say that they look like %s', (_, start, message) => {
    expect(codeOf(() => parseModel(text(start)))).toBe('model_not_onnx');
    expect(() => parseModel(text(start))).toThrow(message);
  });

  it('give typed errors or models when broken, in bounded time', () => {
    const whole = encode({
      input: [value('x')],
      output: [value('y')],
      initializer: [initializer('w', [1, 2]), { name: 'r', dataType: 7, dims: [1], rawData: new Uint8Array(8) }],
      node: [
        node('Add', ['x', 'w'], ['h'], { attribute: [{ name: 'k', type: 7, ints: [1, 300, -1] }] }),
        node('If', ['h'], ['y'], {
          attribute: [
            { name: 'then_branch', type: 5, g: { name: 't', node: [node('Neg', ['w'], ['p'])], output: [value('p')] } },
          ],
        }),
      ],
    });
    const started = performance.now();
    const attempt = (bytes: Uint8Array): string =>
      codeOf(() => parseModel(bytes).graph.values.forEach((v) => v.constant?.peek()));
    expect(attempt(whole)).toBe('none');
    expect([...operatorsNamed(whole)]).toEqual(['Add', 'Neg', 'If']);
    let refused = 0;
    for (let n = 0; n < whole.length; n++) {
      if (attempt(whole.subarray(0, n)) !== 'none') refused++;
      expect(['Add', 'Neg', 'If']).toEqual(expect.arrayContaining([...operatorsNamed(whole.subarray(0, n))]));
    }
    expect(refused).toBeGreaterThan(whole.length * 0.9);
    let state = 1;
    const random = (n: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * n);
    };
    const codes = new Set<string>();
    for (let i = 0; i < 8000; i++) {
      const bytes = whole.slice();
      for (let k = 0; k <= random(3); k++) bytes[random(bytes.length)] = random(256);
      codes.add(attempt(bytes));
    }
    expect(codes.has('none')).toBe(true);
    expect(codes.has('model_malformed')).toBe(true);
    expect(performance.now() - started).toBeLessThan(20000);
  });

  it('say at which byte they break', () => {
    expect(() => parseModel(Uint8Array.of(8, 8, 0x3a, 200))).toThrow(/byte \d+/);
    expect(codeOf(() => parseModel(Uint8Array.of(8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1)))).toBe(
      'model_malformed',
    );
    expect(codeOf(() => parseModel(Uint8Array.of(8, 8)))).toBe('model_malformed');
    expect(codeOf(() => parseModel(Uint8Array.from({ length: 5000 }, () => 0x0b)))).toBe('model_malformed');
  });
});

describe('tensors', () => {
  const parse = (t: Json): Tensor => parseTensor(onnx.TensorProto.encode(onnx.TensorProto.fromObject(t)).finish());
  const field: Partial<Record<DType, string>> = {
    float32: 'floatData',
    complex64: 'floatData',
    float64: 'doubleData',
    complex128: 'doubleData',
    int64: 'int64Data',
    uint64: 'uint64Data',
    uint32: 'uint64Data',
  };

  it.each([
    ['float32', [2], [1.5, -2], [1.5, -2]],
    ['float64', [1], [0.1], [0.1]],
    ['complex64', [1], [1, 2], [1, 2]],
    ['int64', [2], ['-9223372036854775808', 5], [-(2n ** 63n), 5n]],
    ['uint64', [1], ['18446744073709551615'], [2n ** 64n - 1n]],
    ['uint32', [1], [4294967295], [4294967295]],
    ['int32', [2], [-1, 7], [-1, 7]],
    ['int8', [2], [-128, 127], [-128, 127]],
    ['uint8', [1], [255], [255]],
    ['int16', [1], [-300], [-300]],
    ['uint16', [1], [65535], [65535]],
    ['bool', [2], [1, 0], [1, 0]],
    ['float16', [1], [0x3c00], [0x3c00]],
    ['bfloat16', [1], [0x3f80], [0x3f80]],
    ['float8e4m3fn', [1], [0x38], [0x38]],
    ['int4', [3], [0x21, 0x0f], [0x21, 0x0f]],
    ['uint4', [2], [0xf1], [0xf1]],
    ['uint2', [5], [0xe4, 1], [0xe4, 1]],
  ] as const)('%s %j from typed fields', (dtype, dims, stored, expected) => {
    const t = parse({ dataType: ONNX_OF_DTYPE[dtype], dims, [field[dtype] ?? 'int32Data']: stored });
    expect([t.dtype, t.shape, Array.from(t.data as ArrayLike<unknown>)]).toEqual([dtype, dims, expected]);
  });

  it('of strings, with bytes that are no UTF-8', () =>
    expect(parse({ dataType: 8, dims: [2], stringData: [Buffer.from('ü'), Buffer.of(0xff)] }).data).toEqual([
      'ü',
      '\ufffd',
    ]));
  it('with a zero dim hold nothing', () => expect(parse({ dataType: 1, dims: [0, 2 ** 40] }).data.length).toBe(0));
});

describe('values', () => {
  const tensorBytes = (v: number): number[] => [
    ...onnx.TensorProto.encode(onnx.TensorProto.fromObject({ dataType: 1, dims: [1], floatData: [v] })).finish(),
  ];
  const member = (fieldNumber: number, bytes: number[]): number[] => [(fieldNumber << 3) | 2, bytes.length, ...bytes];
  const float = { kind: 'tensor', dtype: 'float32', shape: null } as const;
  const one = (v: Value | null | undefined): number => ((v as Tensor).data as Float32Array)[0]!;

  it('sequences, optionals and maps by their declared type', () => {
    const items = [...member(3, tensorBytes(1)), ...member(3, tensorBytes(2))];
    const sequence = parseValue(Uint8Array.from(items), { kind: 'sequence', of: float }) as Extract<
      Value,
      { kind: 'sequence' }
    >;
    expect(sequence.items.map(one)).toEqual([1, 2]);
    const optional = parseValue(Uint8Array.from([0x10, 1, ...member(3, tensorBytes(4))]), {
      kind: 'optional',
      of: float,
    }) as Extract<Value, { kind: 'optional' }>;
    expect(one(optional.value)).toBe(4);
    expect(parseValue(new Uint8Array(), { kind: 'optional', of: float })).toEqual({ kind: 'optional', value: null });
    const map = parseValue(Uint8Array.from([0x18, 5, 0x18, 6, ...member(5, items)]), {
      kind: 'map',
      key: 'int64',
      value: float,
    });
    expect(map).toEqual({
      kind: 'map',
      keys: [5n, 6n],
      values: { dtype: 'float32', shape: [2], data: Float32Array.of(1, 2) },
    });
  });

  it('nested without end are refused', () => {
    let bytes: number[] = [];
    for (let i = 0; i < 70; i++)
      bytes = [
        0x2a,
        ...(bytes.length < 128 ? [bytes.length] : [(bytes.length & 127) | 128, bytes.length >> 7]),
        ...bytes,
      ];
    expect(codeOf(() => parseValue(Uint8Array.from(bytes), { kind: 'sequence', of: null }))).toBe('model_malformed');
  });
});

// ── real models ─────────────────────────────────────────────────────────────────────────────────────────────────────
const data = resolve(import.meta.dirname, '../../shared/data');
const folder = join(data, 'models');
describe.skipIf(!existsSync(folder))('recorded models', () => {
  const names = existsSync(folder)
    ? readdirSync(folder).filter((name) => existsSync(join(folder, name, 'model.onnx')))
    : [];
  const countNodes = (g: Json): number =>
    (g.node as Json[]).reduce(
      (n, node) =>
        n +
        (node.opType === 'Constant' && !node.domain ? 0 : 1) +
        (node.attribute as Json[]).reduce((m, a) => m + (a.g ? countNodes(a.g as Json) : 0), 0),
      0,
    );
  const countOurs = (g: Graph): number =>
    g.nodes.reduce((n, node) => n + 1 + bodiesOf(node).reduce((m, b) => m + countOurs(b), 0), 0);

  it.each(names)('%s is read as onnx-proto reads it', (name) => {
    const bytes = new Uint8Array(readFileSync(join(folder, name, 'model.onnx')));
    const theirs = onnx.ModelProto.decode(bytes);
    const ours: Model = parseModel(bytes);
    expectSorted(ours.graph);
    expect([...operatorsNamed(bytes)]).toEqual(expect.arrayContaining([...operatorsIn(ours.graph)]));
    const g = theirs.graph!;
    if ((theirs.functions ?? []).length === 0) expect(countOurs(ours.graph)).toBe(countNodes(g as unknown as Json));
    expect(ours.irVersion).toBe(Number(theirs.irVersion));
    const initializers = new Set(g.initializer!.map((t) => t.name));
    expect(ours.graph.inputs.map((v) => ours.graph.values[v]!.name)).toEqual(
      g.input!.map((v) => v.name).filter((n) => !initializers.has(n)),
    );
    expect(ours.graph.outputs.map((v) => ours.graph.values[v]!.name)).toEqual(g.output!.map((v) => v.name));
    const byName = new Map(ours.graph.values.map((v) => [v.name, v]));
    for (const t of g.initializer!) {
      const made = byName.get(t.name!)!.constant!.load() as Tensor;
      expect(made.shape).toEqual(t.dims!.map(Number));
      if (t.rawData!.length > 0) expect(Buffer.compare(bytesOfTensor(made), t.rawData!)).toBe(0);
      else if (t.floatData!.length > 0) expect(Array.from(made.data as Float32Array)).toEqual(t.floatData);
      else if (t.int64Data!.length > 0)
        expect(Array.from(made.data as BigInt64Array, String)).toEqual(t.int64Data!.map(String));
    }
  });
});
