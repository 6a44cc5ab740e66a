/** What loading holds in host memory beside the device's: never the weights. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { built } from './browser/chromium.ts';
import { encode, node, port } from './onnx-model.ts';

/** MiB of weights; SARDONYX_MEMORY_MIB=600 for the full size. */
const MIB = Number(process.env['SARDONYX_MEMORY_MIB'] ?? 160);
const LAYERS = 5;
const WIDTH = 1024;
/** Bytes of one layer's weight, a whole number of rows. */
const BYTES = Math.floor((MIB * 2 ** 20) / LAYERS / (4 * WIDTH)) * 4 * WIDTH;
const library = resolve(import.meta.dirname, '../dist/index.js');
let folder: string;

/** x, gathered from one table after the other: whole tables go to the device, a few rows are read of them. */
function tables(dtype: 'float32' | 'float16', inline: boolean): Uint8Array {
  const rows = BYTES / WIDTH / (dtype === 'float32' ? 4 : 2);
  return encode({
    input: [port('i', [2], 'int64')],
    output: [port('y', [2, WIDTH], dtype)],
    initializer: Array.from({ length: LAYERS }, (_, k) => ({
      name: `w${k}`,
      dataType: dtype === 'float32' ? 1 : 10,
      dims: [rows, WIDTH],
      ...(inline
        ? { rawData: Buffer.alloc(BYTES) }
        : {
            dataLocation: 1,
            externalData: [
              { key: 'location', value: 'weights.bin' },
              { key: 'offset', value: String(k * BYTES) },
              { key: 'length', value: String(BYTES) },
            ],
          }),
    })),
    node: [
      ...Array.from({ length: LAYERS }, (_, k) => node('Gather', [`w${k}`, 'i'], [`g${k}`])),
      node(
        'Sum',
        Array.from({ length: LAYERS }, (_, k) => `g${k}`),
        ['y'],
      ),
    ],
  });
}

beforeAll(() => {
  built(library);
  folder = mkdtempSync(join(tmpdir(), 'sardonyx-memory-'));
  for (const dtype of ['float32', 'float16'] as const)
    writeFileSync(join(folder, `${dtype}.onnx`), tables(dtype, false));
  writeFileSync(join(folder, 'inline.onnx'), tables('float32', true));
  const file = openSync(join(folder, 'weights.bin'), 'w');
  const row = new Uint8Array(new Uint16Array(WIDTH * 2).fill(0x3c00).buffer); // float16 1.0
  for (let at = 0; at < LAYERS * BYTES; at += row.length) writeSync(file, row);
  closeSync(file);
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true }));

/** Loads in a process of its own; MiB that its peak grew by, the device's memory not counted. */
function growth(name: string): { readonly grown: number; readonly device: number; readonly first: number } {
  const script = `
    import { readFileSync } from 'node:fs';
    import { Session, tensor } from ${JSON.stringify(library)};
    const peak = () => Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
    await (await Session.load(${JSON.stringify(join(folder, 'small.onnx'))}, { device: 'wasm' })).release();
    const before = peak();
    const session = await Session.load(${JSON.stringify(join(folder, name))}, { device: 'wasm' });
    const { y } = await session.run({ i: tensor('int64', [2], [0, 1]) });
    console.log(JSON.stringify({ grown: peak() - before - session.bytes / 2 ** 20, device: session.bytes / 2 ** 20, first: Number(y.data[0]) }));`;
  writeFileSync(
    join(folder, 'small.onnx'),
    encode({
      input: [port('i', [2], 'int64')],
      output: [port('y', [2], 'int64')],
      node: [node('Add', ['i', 'i'], ['y'])],
    }),
  );
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    timeout: 120_000,
  });
  return JSON.parse(stdout.trim().split('\n').at(-1) || `{"error":${JSON.stringify(stderr)}}`);
}

it.skipIf(process.platform !== 'linux').each([
  ['float32.onnx', 'external data'],
  ['float16.onnx', 'external data of float16'],
  ['inline.onnx', 'weights in the model file'],
])(
  '%s (%s): host memory grows by less than 64 MiB',
  (name) => {
    const { grown, device, first } = growth(name);
    console.log(`${name}: ${device.toFixed(0)} MiB on the device, ${grown.toFixed(1)} MiB beside it`);
    expect(device).toBeGreaterThan(MIB * 0.99);
    expect(first).toBe(
      name === 'inline.onnx'
        ? 0
        : name === 'float16.onnx'
          ? 17664
          : new Float32Array(new Uint16Array([0x3c00, 0x3c00]).buffer)[0]! * LAYERS,
    );
    expect(grown).toBeLessThan(64);
  },
  120_000,
);
