import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execFileSync } from 'node:child_process';
import { afterAll, describe, expect, it } from 'vitest';
import { planModel, Session, type SessionOptions, type Tensor, tensor } from '../src/index.ts';
import { type CustomOperator, defineOperator, float, grid, int, shader, x } from '../src/operators.ts';
import { compile } from '../src/plan.ts';
import { CompiledModel } from '../src/run.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const DEVICES = ['reference', 'wasm', 'webgpu'] as const;

/** x tanh(beta x) + bias, of one input or two. */
const bent = defineOperator({
  op: 'com.example.Bent',
  inputs: ['X: T', 'bias: T?'],
  outputs: ['Y: T'],
  types: { T: ['float32', 'float16'] },
  attrs: { beta: float(1) },
  map: ([v, bias], { beta }) => {
    const y = x.mul(v!, x.tanh(x.mul(v!, x.like(beta, v!))));
    return bias ? x.add(y, bias) : y;
  },
});

const ROLLING = shader(
  'rolling_sum',
  `
struct Uniforms { count: u32, length: u32, window: u32 }
@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= u.count) { return; }
  let at = i % u.length;
  var sum = 0.0;
  for (var k = 0u; k < min(u.window, at + 1u); k++) { sum += load_x(i - k); }
  store_y(i, sum);
}`,
);
/** Sums of the last `window` elements along the last axis. */
const rolling = defineOperator({
  op: 'com.example.RollingSum',
  inputs: ['X: float32'],
  outputs: ['Y: float32'],
  attrs: { window: int(3) },
  infer: (call) => [call.fact(0)],
  reference: (call) => {
    const { shape, data } = call.tensor(0) as Tensor<'float32'>;
    const length = shape.at(-1)!;
    return [
      {
        dtype: 'float32',
        shape,
        data: data.map((_, i) => {
          let sum = 0;
          for (let k = 0; k < call.attrs.window && k <= i % length; k++) sum += data[i - k]!;
          return sum;
        }),
      },
    ];
  },
  webgpu: [
    {
      name: 'lane',
      accepts: (call) => call.inputs[0]!.shape.length > 0,
      launch: ({ inputs: [given], attrs }) => {
        const count = given!.shape.reduce((n, d) => n * d, 1);
        return {
          module: ROLLING,
          types: { x: 'f32', y: 'f32' },
          uniforms: { count, length: given!.shape.at(-1)!, window: attrs.window },
          workgroups: grid(count, 64),
          bind: [{ input: 0 }, { output: 0 }],
        };
      },
    },
  ],
});
const operators = [bent, rolling];

const own = { domain: 'com.example' };
const opsets = {
  opsetImport: [
    { domain: '', version: 17 },
    { domain: 'com.example', version: 1 },
  ],
};
const model = encode(
  {
    input: [port('x', ['n', 7])],
    output: [port('y', ['n', 7])],
    initializer: [initializer('b', tensor('float32', [7], noise(7, 4)))],
    node: [
      node('Abs', ['x'], ['a']),
      node('Bent', ['a', 'b'], ['c'], { beta: { float: 0.5 } }, own),
      node('RollingSum', ['c'], ['d'], { window: 4 }, own),
      node('Neg', ['d'], ['y']),
    ],
  },
  17,
  opsets,
);
/** What the model makes, in double precision. */
function expected(data: Float32Array): number[] {
  const b = noise(7, 4);
  const bent = Array.from(data, (v, i) => Math.abs(v) * Math.tanh(0.5 * Math.abs(v)) + b[i % 7]!);
  return bent.map((_, i) => -bent.slice(Math.max(i - 3, i - (i % 7)), i + 1).reduce((a, v) => a + v, 0));
}
async function outcome(options: SessionOptions, rows: number): Promise<{ y: Tensor<'float32'>; session: Session }> {
  await using session = await Session.load(model, options);
  const { y } = await session.run({ x: tensor('float32', [rows, 7], noise(rows * 7)) });
  return { y: y as Tensor<'float32'>, session };
}
const close = (got: ArrayLike<number>, want: readonly number[]): void => {
  expect(got.length).toBe(want.length);
  want.forEach((w, i) => expect(Math.abs(got[i]! - w)).toBeLessThan(1e-5));
};

let folder: string | undefined;
afterAll(() => {
  if (folder) rmSync(folder, { recursive: true });
});

describe("operators of the caller's own", () => {
  it.each(DEVICES)('give what they say on %s', async (device) => {
    for (const rows of [1, 3, 64])
      for (const optimize of [true, false])
        close((await outcome({ device, operators, optimize }, rows)).y.data, expected(noise(rows * 7)));
  });
  it('run as shaders, merged with their neighbours where they are maps', async () => {
    const { plan, left } = await planModel(model, { device: 'webgpu', dims: { n: 5 }, operators });
    expect(left).toEqual([]);
    expect(plan.steps.map((s) => ('kernel' in s ? [s.op, s.kernel] : s.run))).toEqual([
      ['Abs+Bent', 'map.quad'],
      ['com.example.RollingSum', 'com.example.RollingSum.lane'],
      ['Neg', 'map.quad'],
    ]);
    const wasm = await planModel(model, { device: 'wasm', dims: { n: 5 }, operators });
    expect(wasm.left.map((n) => n.op)).toEqual(['com.example.RollingSum']);
  });
  it('are compiled ahead', async () => {
    await using compiled = await CompiledModel.load(
      await compile(model, { device: 'webgpu', dims: { n: 3 }, operators }),
    );
    close(
      (await compiled.run({ x: tensor('float32', [3, 7], noise(21)) }))['y']!.data as Float32Array,
      expected(noise(21)),
    );
  });
  it('compute in half precision too', async () => {
    const half = encode(
      {
        input: [port('x', [5], 'float16')],
        output: [port('y', [5], 'float16')],
        node: [node('Bent', ['x'], ['y'], {}, own)],
      },
      17,
      opsets,
    );
    for (const device of DEVICES) {
      await using session = await Session.load(half, { device, operators });
      const { y } = await session.run({ x: tensor('float16', [5], [0, 1, -2, 0.5, 4]) });
      expect(Array.from((y as Tensor<'float16'>).data)).toEqual(
        Array.from(
          tensor(
            'float16',
            [5],
            [0, 1, -2, 0.5, 4].map((v) => v * Math.tanh(v)),
          ).data,
        ),
      );
    }
  });
  it('may need values, and have shapes that depend on them', async () => {
    const repeat = defineOperator({
      op: 'com.example.Times',
      inputs: ['X: float32', 'n: int64'],
      outputs: ['Y: float32'],
      infer: (call) => [{ dtype: 'float32', shape: [Number(call.value(1).data[0]), ...call.fact(0).shape] }],
      reference: async (call) => {
        const t = call.tensor(0);
        const n = Number(call.tensor(1).data[0]);
        return [
          {
            ...t,
            shape: [n, ...t.shape],
            data: Float32Array.from({ length: n * t.data.length }, (_, i) => Number(t.data[i % t.data.length])),
          },
        ];
      },
    });
    const times = encode(
      {
        input: [port('x', [2]), port('n', [1], 'int64')],
        output: [port('y', ['n', 2])],
        node: [node('Times', ['x', 'n'], ['y'], {}, own)],
      },
      17,
      opsets,
    );
    for (const device of DEVICES) {
      await using session = await Session.load(times, { device, operators: [repeat] });
      for (const n of [2, 0, 3])
        expect(
          (await session.run({ x: tensor('float32', [2], [1, 2]), n: tensor('int64', [1], [BigInt(n)]) }))['y'],
        ).toEqual(tensor('float32', [n, 2], Array.from({ length: n }, () => [1, 2]).flat()));
    }
  });

  const broken = (more: Partial<CustomOperator>): CustomOperator[] => [bent, { ...rolling, ...more }];
  it.each<[string, CustomOperator[], string, RegExp]>([
    [
      'is one that Sardonyx has',
      [...operators, { ...bent, op: 'Relu' }],
      'option_invalid',
      /Relu is one that Sardonyx has/,
    ],
    ['is given twice', [...operators, bent], 'option_invalid', /given twice/],
    [
      'has no definition',
      broken({ reference: undefined as never }),
      'option_invalid',
      /neither a map nor infer and reference/,
    ],
    ['has no name', broken({ op: 'a b' }), 'option_invalid', /named by its domain/],
    ['has a parameter of no type', broken({ inputs: ['X: Q'] }), 'option_invalid', /type Q/],
    ['has a parameter of no form', broken({ inputs: ['X'] }), 'option_invalid', /of the form/],
    ['lacks an attribute', broken({ attrs: {} }), 'attribute_invalid', /unknown attribute "window"/],
    ['is missing', [bent], 'op_unsupported', /com\.example\.RollingSum \(1 node: .*option operators/],
    [
      'throws while shapes are found',
      broken({
        infer: () => {
          throw new Error('no shape');
        },
      }),
      'op_failed',
      /infer of the operator com\.example\.RollingSum threw: no shape[\s\S]*in node \/RollingSum/,
    ],
    [
      'throws while it runs',
      broken({
        webgpu: [],
        reference: () => {
          throw new Error('no luck');
        },
      }),
      'op_failed',
      /no luck[\s\S]*in node \/RollingSum/,
    ],
    [
      'rejects while it runs',
      broken({
        webgpu: [],
        reference: async () => {
          throw new Error('no luck');
        },
      }),
      'op_failed',
      /no luck/,
    ],
    [
      'infers nothing',
      broken({ infer: () => undefined as never }),
      'op_failed',
      /infer of the operator [\s\S]* a list of \{ dtype, shape \}, [\s\S]*undefined[\s\S]*in node \/RollingSum/,
    ],
    [
      'infers no shape',
      broken({ infer: () => [{ dtype: 'float32' } as never] }),
      'op_failed',
      /made \[\{"dtype":"float32"\}\]/,
    ],
    [
      'makes nothing',
      broken({ webgpu: [], reference: () => undefined as never }),
      'op_failed',
      /reference of the operator [\s\S]* a list of tensors/,
    ],
    ['makes no tensor', broken({ webgpu: [], reference: async () => [5 as never] }), 'op_failed', /made \[5\]/],
    [
      'makes another shape than it inferred',
      broken({ webgpu: [], reference: () => [tensor('float32', [3], [1, 2, 3])] }),
      'op_failed',
      /planned as float32\[2,7\] and came out as float32\[3\]/,
    ],
    [
      'makes another type than it inferred',
      broken({ webgpu: [], reference: () => [tensor('int32', [2, 7], new Int32Array(14))] }),
      'op_failed',
      /planned as float32\[2,7\] and came out as int32\[2,7\]/,
    ],
    [
      'throws while it is launched',
      broken({
        webgpu: [
          {
            name: 'lane',
            launch: () => {
              throw new TypeError('no launch');
            },
          },
        ],
      }),
      'op_failed',
      /launch of the operator[\s\S]*no launch/,
    ],
    [
      "makes another kind than its output's",
      [{ ...bent, map: ([v]) => x.isnan(v!) }, rolling],
      'type_mismatch',
      /makes bool for an output of float32/,
    ],
    [
      'has a shader that is none',
      broken({
        webgpu: [
          {
            ...rolling.webgpu![0]!,
            launch: (...a) =>
              ({
                ...(rolling.webgpu![0]!.launch(...a) as object as ReturnType<
                  NonNullable<CustomOperator['webgpu']>[0]['launch']
                >),
                module: shader('wrong', ROLLING.source.replace('min(', 'mim(')),
              }) as never,
          },
        ],
      }),
      'device_fault',
      /mim/,
    ],
  ])('are refused with a reason where one %s', async (_, wrong, code, message) => {
    const failed = await outcome({ device: 'webgpu', operators: wrong }, 2).then(
      () => null,
      (e: unknown) => e as { code: string; message: string },
    );
    expect(failed).toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('are taken by the command from a module', () => {
    folder = mkdtempSync(join(tmpdir(), 'sardonyx-operators-'));
    writeFileSync(join(folder, 'model.onnx'), model);
    writeFileSync(
      join(folder, 'operators.mjs'),
      `
      import { defineOperator, float, int, x } from ${JSON.stringify(resolve(import.meta.dirname, '../dist/operators/index.js'))};
      export const bent = defineOperator({ op: 'com.example.Bent', inputs: ['X: T', 'bias: T?'], outputs: ['Y: T'], types: { T: ['float32'] }, attrs: { beta: float(1) }, map: ([v]) => x.tanh(v) });
      export const rolling = defineOperator({ op: 'com.example.RollingSum', inputs: ['X: float32'], outputs: ['Y: float32'], attrs: { window: int(3) }, infer: (c) => [c.fact(0)], reference: (c) => [c.tensor(0)] });`,
    );
    const run = (...args: string[]): string =>
      execFileSync(process.execPath, [resolve(import.meta.dirname, '../dist/cli.js'), ...args], {
        cwd: folder,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      });
    const { outputs } = JSON.parse(
      run(
        'run',
        'model.onnx',
        '--operators',
        'operators.mjs',
        '--input',
        'x=1',
        '--dims',
        'n=1',
        '--device',
        'wasm',
        '--json',
      ),
    ) as { outputs: { y: { shape: number[]; min: number } } };
    expect(outputs.y.shape).toEqual([1, 7]);
    expect(outputs.y.min).toBeCloseTo(-Math.tanh(1), 6);
    expect(run('inspect', 'model.onnx', '--operators', 'operators.mjs', '--dims', 'n=1')).toContain('Bent');
    expect(() => run('run', 'model.onnx', '--operators', 'model.onnx')).toThrow(
      /option_invalid: cannot import the operators/,
    );
  });
});
