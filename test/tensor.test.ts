import { describe, expect, it } from 'vitest';
import { type DType, numbers, Session, tensor, type Tensor } from '../src/index.ts';
import { encode, node, port } from './onnx-model.ts';

describe('a tensor', () => {
  it.each<[DType, readonly number[], readonly number[]]>([
    ['float32', [1.5, -2, 0.1], [1.5, -2, Math.fround(0.1)]],
    ['float16', [1.5, -2, 65520, 2 ** -25, 0.1], [1.5, -2, Infinity, 0, 0.0999755859375]],
    ['bfloat16', [1.5, 3.14159, -1e39], [1.5, 3.140625, -Infinity]],
    ['float8e4m3fn', [1.5, 0.3, 1000], [1.5, 0.3125, 448]],
    ['float8e5m2', [1.5, 0.3], [1.5, 0.3125]],
    ['float8e8m0', [1, 3, 0.25], [1, 4, 0.25]],
    ['int8', [1.9, -3, 127], [1, -3, 127]],
    ['bool', [0, 1], [0, 1]],
    ['int64', [1, -2.5], [1, -2]],
  ])('of %s is made of numbers, and read as numbers', (dtype, given, want) => {
    expect(Array.from(numbers(tensor(dtype, [given.length], given)))).toEqual(want);
    if (/^b?float/.test(dtype) && dtype !== 'float32')
      expect(Array.from(numbers(tensor(dtype, [given.length], Float64Array.from(given))))).toEqual(want);
  });
  it('keeps the array that its type is stored in, and others over the same bytes', () => {
    const stored = new Float32Array(4);
    const bits = new Uint16Array([0x3c00, 0xc000]);
    const pixels = new Uint8ClampedArray([1, 255, 3]);
    expect(tensor('float32', [2, 2], stored).data).toBe(stored);
    expect(Array.from(numbers(tensor('float16', [2], bits)))).toEqual([1, -2]);
    expect(tensor('uint8', [3], pixels).data).toEqual(new Uint8Array([1, 255, 3]));
    expect((tensor('uint8', [3], pixels).data as Uint8Array).buffer).toBe(pixels.buffer);
    expect((tensor('int8', [2], [1, 2]) as Tensor<'int8'>).data).toBeInstanceOf(Int8Array);
    expect(tensor('uint8', [2], Buffer.from([7, 8])).data.constructor).toBe(Uint8Array);
    const { Float16Array } = globalThis as { Float16Array?: new (v: readonly number[]) => Float32Array };
    if (Float16Array)
      expect(Array.from(numbers(tensor('float16', [2], new Float16Array([0.5, -4]))))).toEqual([0.5, -4]);
  });
  it("is refused where the array is another type's", () => {
    expect(() => tensor('float32', [2], new Int32Array(2) as never)).toThrow(
      /type_mismatch: a float32 tensor is made of a Float32Array or of an array, not of a Int32Array/,
    );
    expect(() => tensor('int64', [2], new Float64Array(2))).toThrow(/type_mismatch/);
    expect(() => tensor('float16', [2], new Int16Array(2) as never)).toThrow(/type_mismatch/);
    expect(() => tensor('float32', [3], [1, 2])).toThrow(
      /shape_mismatch: a float32 tensor of shape \[3\] has 3 entries, not 2/,
    );
    expect(() => tensor('float' as 'float32', [1], [1])).toThrow(/type_mismatch: float is none of the types float32, /);
    expect(() => tensor('float32', new Float32Array(4) as never, [4])).toThrow(
      /type_mismatch: .*tensor\(dtype, shape, data\)/,
    );
    expect(() => tensor('float32', [4], undefined as never)).toThrow(/type_mismatch: .*tensor\(dtype, shape, data\)/);
    expect(() => numbers(tensor('string', [1], ['a'] as never))).toThrow(/type_mismatch/);
  });
  it('of halves goes through a model as its numbers', async () => {
    await using session = await Session.load(
      encode({
        input: [port('x', [3], 'float16')],
        output: [port('y', [3], 'float16')],
        node: [node('Neg', ['x'], ['y'])],
      }),
      { device: 'wasm' },
    );
    const { y } = await session.run({ x: tensor('float16', [3], [1, 0.5, -3]) });
    expect(Array.from(numbers(y as Tensor))).toEqual([-1, -0.5, 3]);
    await expect(
      session.run({ x: { dtype: 'float16', shape: [3], data: new Float32Array(3) as never } }),
    ).rejects.toThrow(/input_dtype: .*Uint16Array; tensor\('float16', shape, data\) makes it/);
  });
});
