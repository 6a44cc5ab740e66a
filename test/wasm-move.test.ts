import { describe, expect, test } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { type Tensor, tensor } from '../src/core/tensor.ts';
import { gather } from '../kernels/gather.ts';
import { gatherScatter } from '../kernels/gather-scatter.ts';
import { pad } from '../kernels/pad.ts';
import { slice, slicesOf } from '../kernels/slice.ts';
import { transpose } from '../kernels/transpose.ts';
import { agree, DIMS, runOp, SHARED, type Source, source } from './wasm-device.ts';

const op = (name: string) => [...transpose, ...slice, ...pad, ...gather, ...gatherScatter].find((o) => o.op === name)!;
const TYPES: readonly DType[] = ['float32', 'int64', 'uint8', 'float16', 'int32', 'bool', 'complex128'];
const exact = { atol: 0, rtol: 0 };
const ints = (v: readonly number[]): Tensor => tensor('int64', [v.length], v);
const shapeOf = (s: Source, low: number, high: number, dims: readonly number[] = DIMS.slice(0, 8)): number[] =>
  Array.from({ length: s.int(low, high) }, () => s.pick(dims));
/** A tensor whose elements all differ, as far as the dtype can tell them apart. */
function distinct(dtype: DType, shape: readonly number[]): Tensor {
  const n = shape.reduce((a, b) => a * b, 1);
  return dtype === 'complex128'
    ? { dtype, shape, data: Float64Array.from({ length: 2 * n }, (_, i) => i) }
    : tensor(
        dtype,
        shape,
        Array.from({ length: n }, (_, i) =>
          dtype === 'bool' ? (i % 3) & 1 : dtype === 'uint8' ? i % 251 : dtype === 'float16' ? i % 31000 : i,
        ),
      );
}

describe('strided copies', () => {
  test('transpose', async () => {
    const s = source();
    for (let n = 0; n < 120; n++) {
      const shape = shapeOf(s, 1, 5, n % 4 ? [1, 2, 3, 4, 5] : DIMS);
      while (shape.reduce((a, b) => a * b, 1) > 20000) shape.pop();
      if (n % 20 === 0) shape[0] = 0;
      const perm = shape.map((_, i) => i).sort(() => s.next() - 0.5);
      await agree(op('Transpose'), {
        attrs: { perm },
        inputs: [distinct(TYPES[n % TYPES.length]!, shape)],
        caps: n % 9 ? undefined : SHARED,
        ...exact,
      } as never);
    }
  });
  test('blocks to space and back', async () => {
    for (const mode of ['DCR', 'CRD'])
      await agree(op('DepthToSpace'), {
        attrs: { blocksize: 2, mode },
        inputs: [distinct('float32', [2, 12, 3, 5])],
        ...exact,
      });
    await agree(op('SpaceToDepth'), { attrs: { blocksize: 3 }, inputs: [distinct('float16', [1, 2, 6, 9])], ...exact });
  });
  test('slice, split, concat', async () => {
    const s = source();
    for (let n = 0; n < 120; n++) {
      const shape = shapeOf(s, 1, 4);
      const d = TYPES[n % TYPES.length]!;
      const steps = shape.map(() => s.pick([1, 1, 1, 2, 3, -1, -2]));
      const bound = (i: number): number => s.int(-shape[i]! - 2, shape[i]! + 2);
      const starts = shape.map((_, i) => (steps[i]! < 0 && n % 2 ? 2 ** 31 : bound(i)));
      const ends = shape.map((_, i) => (n % 2 ? (steps[i]! < 0 ? -(2 ** 31) : 2 ** 31) : bound(i)));
      await agree(op('Slice'), {
        inputs: [distinct(d, shape), ints(starts), ints(ends), null, ints(steps)],
        constants: [1, 2, 3, 4],
        ...exact,
      });
      const axis = s.int(0, shape.length - 1);
      const parts = s.int(1, 3);
      const sizes = Array.from({ length: parts }, () => s.int(0, 4));
      const whole = shape.map((v, i) => (i === axis ? sizes.reduce((a, b) => a + b, 0) : v));
      await agree(op('Split'), {
        attrs: { axis },
        inputs: [distinct(d, whole), ints(sizes)],
        constants: [1],
        outputs: parts,
        ...exact,
      });
      await agree(op('Concat'), {
        attrs: { axis: axis - shape.length },
        inputs: sizes.map((k) =>
          distinct(
            d,
            shape.map((v, i) => (i === axis ? k : v)),
          ),
        ),
        ...exact,
      });
    }
  });
  test('expand and tile', async () => {
    const s = source();
    for (let n = 0; n < 60; n++) {
      const shape = shapeOf(s, 0, 4, [1, 2, 3, 5]);
      const d = TYPES[n % TYPES.length]!;
      await agree(op('Expand'), {
        inputs: [
          distinct(
            d,
            shape.map((v) => (s.next() < 0.4 ? 1 : v)),
          ),
          ints([...(n % 3 ? [] : [2]), ...shape]),
        ],
        constants: [1],
        ...exact,
      });
      await agree(op('Tile'), {
        inputs: [distinct(d, shape), ints(shape.map(() => s.int(n % 8 ? 1 : 0, 3)))],
        constants: [1],
        ...exact,
      });
    }
  });
  test('pad', async () => {
    const s = source();
    for (let n = 0; n < 120; n++) {
      const mode = s.pick(['constant', 'edge', 'reflect', 'wrap']);
      const shape = shapeOf(s, 1, 3, [2, 3, 4, 7]);
      const pads = [...shape, ...shape].map((d) => s.int(-1, n % 3 ? d - 1 : 2 * d));
      for (let i = 0; i < shape.length; i++)
        if (shape[i]! + Math.min(0, pads[i]!) + Math.min(0, pads[i + shape.length]!) <= 0) pads[i] = 0;
      const d = s.pick(TYPES.slice(0, 6));
      await agree(op('Pad'), {
        attrs: { mode },
        inputs: [distinct(d, shape), ints(pads), n % 2 ? tensor(d, [], [1]) : null],
        constants: [1],
        ...exact,
      });
      if (n % 10 === 0)
        await agree(op('CenterCropPad'), {
          inputs: [distinct(d, shape), ints(shape.map((v) => s.int(0, 2 * v)))],
          constants: [1],
          ...exact,
        });
    }
    await agree(op('Pad'), {
      attrs: { value: 1.5 },
      inputs: [distinct('float32', [3]), ints([2, 1])],
      constants: [1],
      ...exact,
    });
  });
});

describe('gather and scatter', () => {
  const REDUCED: readonly DType[] = ['float32', 'int64', 'int32', 'uint8', 'float16'];
  const indices = (s: Source, shape: readonly number[], dim: (k: number) => number): Tensor =>
    tensor(
      s.next() < 0.5 ? 'int32' : 'int64',
      shape,
      Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, k) => s.int(-dim(k), dim(k) - 1)),
    );
  test('gather', async () => {
    const s = source();
    for (let n = 0; n < 80; n++) {
      const shape = shapeOf(s, 1, 4);
      const axis = s.int(0, shape.length - 1);
      const d = TYPES[n % TYPES.length]!;
      await agree(op('Gather'), {
        attrs: { axis: n % 2 ? axis : axis - shape.length },
        inputs: [distinct(d, shape), indices(s, shapeOf(s, 0, 2, [0, 1, 2, 3, 5]), () => shape[axis]!)],
        ...exact,
      });
      if (d === 'complex128') continue;
      const at = shape.map((v, i) => (i === axis ? s.int(0, 6) : s.int(1, v)));
      await agree(op('GatherElements'), {
        attrs: { axis },
        inputs: [distinct(d, shape), indices(s, at, () => shape[axis]!)],
        ...exact,
      });
    }
  });
  test('gather and scatter tuples', async () => {
    const s = source();
    for (let n = 0; n < 80; n++) {
      const shape = shapeOf(s, 1, 4, [1, 2, 3, 5]);
      const batch = s.int(0, shape.length - 1);
      const depth = s.int(1, shape.length - batch);
      const at = [...shape.slice(0, batch), ...(n % 3 ? [s.int(0, 4)] : []), depth];
      const d = TYPES[n % TYPES.length]!;
      await agree(op('GatherND'), {
        attrs: { batch_dims: batch },
        inputs: [distinct(d, shape), indices(s, at, (k) => shape[batch + (k % depth)]!)],
        ...exact,
      });
      const reduction = n % 2 ? 'none' : s.pick(['add', 'mul', 'max', 'min']);
      const e = reduction === 'none' ? d : s.pick(REDUCED);
      const places = tensor(
        'int64',
        [...at.slice(batch)].length > 1 ? [3, depth] : [depth],
        Array.from({ length: at.slice(batch).length > 1 ? 3 * depth : depth }, (_, k) =>
          s.int(-shape[k % depth]!, shape[k % depth]! - 1),
        ),
      );
      const updates = s.tensor(e === 'complex128' ? 'float32' : e, [
        ...places.shape.slice(0, -1),
        ...shape.slice(depth),
      ]);
      await agree(op('ScatterND'), {
        attrs: { reduction },
        inputs: [s.tensor(updates.dtype, shape), places, updates],
        ...(reduction === 'none' ? exact : { atol: 1e-2, rtol: 1e-2 }),
      });
    }
  });
  test('scatter elements', async () => {
    const s = source();
    for (let n = 0; n < 80; n++) {
      const shape = shapeOf(s, 1, 4, [1, 2, 3, 5]);
      const axis = s.int(0, shape.length - 1);
      const at = shape.map((v, i) => (i === axis ? s.int(0, 5) : s.int(1, v)));
      const reduction = n % 2 ? 'none' : s.pick(['add', 'mul', 'max', 'min']);
      const d = s.pick(REDUCED);
      await agree(op('ScatterElements'), {
        attrs: { axis, reduction },
        inputs: [s.tensor(d, shape), indices(s, at, () => shape[axis]!), s.tensor(d, at)],
        ...(reduction === 'none' ? exact : { atol: 1e-2, rtol: 1e-2 }),
      });
    }
  });
  test('an index out of range is found, and touches nothing', () => {
    for (const [type, bad] of [
      ['int64', 3n],
      ['int64', -4n],
      ['int64', 2n ** 32n],
      ['int64', -(2n ** 63n)],
      ['int32', 3],
      ['int32', -4],
      ['int32', -(2 ** 31)],
    ] as const) {
      const at = (shape: readonly number[]): Tensor =>
        tensor(type, shape, (type === 'int64' ? [0n, bad] : [0, bad]) as number[]);
      const [data, row] = [distinct('float32', [3]), distinct('float32', [2])];
      expect(runOp(op('Gather'), { inputs: [data, at([2])] }).status).toBe(1);
      expect(runOp(op('GatherElements'), { inputs: [data, at([2])] }).status).toBe(1);
      expect(runOp(op('GatherND'), { inputs: [data, at([2, 1])] }).status).toBe(1);
      expect(runOp(op('ScatterElements'), { inputs: [data, at([2]), row] }).status).toBe(1);
      if (type === 'int64') expect(runOp(op('ScatterND'), { inputs: [data, at([2, 1]), row] }).status).toBe(1);
    }
  });
});

test('a slice backwards from before the beginning holds the first element', () => {
  expect(slicesOf([3], [-100], [-100], [0], [-1])).toEqual({ starts: [0], steps: [-1], shape: [1] });
  expect(slicesOf([3], [-100], [0], [0], [-1])).toMatchObject({ shape: [0] });
  expect(slicesOf([0], [5], [-9], [0], [-2])).toMatchObject({ shape: [0] });
});
