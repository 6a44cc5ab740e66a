// What test/leaks.test.ts asks of a page: to run and load for long, and to say what is still alive. It counts what the
// browser was asked for itself.
import { Session, tensor } from '../../dist/index.js';

const buffers = new Map();
const memories = [];

const { createBuffer } = GPUDevice.prototype;
GPUDevice.prototype.createBuffer = function (descriptor) {
  const buffer = createBuffer.call(this, descriptor);
  buffers.set(buffer, { bytes: descriptor.size, device: this });
  return buffer;
};
const { destroy } = GPUBuffer.prototype;
GPUBuffer.prototype.destroy = function () {
  buffers.delete(this);
  destroy.call(this);
};
const endDevice = GPUDevice.prototype.destroy;
GPUDevice.prototype.destroy = function () {
  for (const [buffer, { device }] of buffers) if (device === this) buffers.delete(buffer);
  endDevice.call(this);
};
WebAssembly.Memory = class extends WebAssembly.Memory {
  constructor(descriptor) {
    super(descriptor);
    memories.push(new WeakRef(this));
  }
};

const feeds = {
  x: tensor(
    'float32',
    [2, 2, 8, 8],
    Float32Array.from({ length: 256 }, (_, i) => Math.sin(i)),
  ),
};
let session;
const model = new Uint8Array(await (await fetch('/small.onnx')).arrayBuffer());

globalThis.endure = {
  /** Loads, runs once and releases, so often; then keeps one session. */
  async cycles(device, times) {
    await session?.release();
    for (let i = 0; i < times; i++) {
      const one = await Session.load(model, { device });
      await one.run(feeds);
      await one.release();
    }
    session = await Session.load(model, { device });
    await session.run(feeds);
  },
  async runs(times) {
    for (let i = 0; i < times; i++) await session.run(feeds);
  },
  async end() {
    await session.release();
    session = undefined;
  },
  alive: () => ({
    buffers: buffers.size,
    bytes: [...buffers.values()].reduce((sum, b) => sum + b.bytes, 0),
    memories: memories.filter((m) => m.deref() !== undefined).length,
    held: session?.bytes ?? 0,
  }),
};
