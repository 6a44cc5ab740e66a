/** Dawn in Node: the one module that creates it. */
import { SardonyxError } from '../../core/errors.ts';

interface Dawn {
  readonly create: (flags: string[]) => GPU;
  readonly globals: object;
}

/**
 * Kept by the process, not by this module: a second copy of the library must find them, and Dawn crashes if one is
 * collected while a device lives.
 */
interface Kept {
  readonly gpus: Map<string, GPU>;
  patched: boolean;
}
const KEPT = Symbol.for('sardonyx.dawn');
const kept: Kept = ((globalThis as { [KEPT]?: Kept })[KEPT] ??= { gpus: new Map(), patched: false });

/**
 * NVIDIA's f16 works but is off by default; whole nanoseconds are what a profile is for; and clearing every buffer
 * before its first use, though a plan writes what it reads, makes the first run slow (by a second per GiB or more on
 * software adapters).
 */
const TOGGLES = ['vulkan_enable_f16_on_nvidia', '-timestamp_quantization', '-lazy_clear_resource_on_first_use'];

/**
 * WebGPU's entry point in Node, with Dawn's toggles ("-name" turns one off). Buffers start with any content, not zeros,
 * unless a toggle says otherwise. The first call also defines WebGPU's globals (`GPUBufferUsage` and so on) where they
 * are missing.
 *
 * @throws device_unavailable if the package `webgpu` is missing or does not load here
 */
export async function openDawn(toggles: readonly string[] = []): Promise<GPU> {
  // the last word counts
  const wanted = new Map([...TOGGLES, ...toggles].map((t) => (t.startsWith('-') ? [t.slice(1), false] : [t, true])));
  const named = (on: boolean): string =>
    [...wanted]
      .filter(([, value]) => value === on)
      .map(([name]) => name)
      .sort()
      .join();
  const flags = [`enable-dawn-features=${named(true)}`, `disable-dawn-features=${named(false)}`];
  const key = flags.join(' ');
  const known = kept.gpus.get(key);
  if (known) return known;
  if (!(await hasVulkanLoader()))
    throw new SardonyxError(
      'device_unavailable',
      'no Vulkan loader (libvulkan.so.1) was found. Install the driver of the GPU; without a GPU, `npm install --save-dev @sparticuz/chromium` brings SwiftShader, which the `sardonyx` command then uses; or run on the device "wasm"',
    );
  const dawn = await load('webgpu');
  for (const [name, value] of Object.entries(Object.getOwnPropertyDescriptors(dawn.globals)))
    if (!(name in globalThis)) Object.defineProperty(globalThis, name, { ...value, configurable: true });
  if (!kept.patched) {
    kept.patched = true;
    waitPolitely(dawn.globals as PatchedClasses);
  }
  const gpu = dawn.create(flags);
  kept.gpus.set(key, gpu);
  return gpu;
}

/** On Linux, whether Dawn will find libvulkan: without it Dawn writes a warning for each adapter that is asked for. */
async function hasVulkanLoader(): Promise<boolean> {
  if (process.platform !== 'linux') return true;
  const { existsSync } = await imported<typeof import('node:fs')>('node:fs');
  const usual = [
    '/usr/lib',
    '/usr/lib64',
    '/lib',
    '/lib64',
    '/usr/local/lib',
    '/usr/lib/x86_64-linux-gnu',
    '/usr/lib/aarch64-linux-gnu',
    '/lib/x86_64-linux-gnu',
    '/run/opengl-driver/lib',
  ];
  return [...(process.env['LD_LIBRARY_PATH']?.split(':') ?? []), ...usual].some(
    (folder) => folder !== '' && existsSync(`${folder}/libvulkan.so.1`),
  );
}

/**
 * The name is an argument so that no bundler follows the import: the package is optional, and none of this is for
 * browsers.
 */
const imported = <T>(name: string): Promise<T> =>
  import(/* @vite-ignore */ /* webpackIgnore: true */ name) as Promise<T>;

async function load(name: string): Promise<Dawn> {
  try {
    return await imported<Dawn>(name);
  } catch (cause) {
    const missing = (cause as { code?: string }).code === 'ERR_MODULE_NOT_FOUND';
    const advice = missing
      ? 'WebGPU in Node comes from the package "webgpu": run `npm install webgpu`, or use the device "wasm"'
      : `the package "webgpu" does not load here (${process.platform}-${process.arch}; Linux needs glibc 2.34 or newer); use the device "wasm". ${cause instanceof Error ? cause.message : String(cause)}`;
    throw new SardonyxError('device_unavailable', advice, [], { cause });
  }
}

type Asynchronous = (this: unknown, ...args: unknown[]) => Promise<unknown>;
type PatchedClasses = Readonly<Record<string, { readonly prototype: Record<string, Asynchronous> }>>;
const WAITS: Readonly<Record<string, readonly string[]>> = {
  GPUQueue: ['onSubmittedWorkDone'],
  GPUBuffer: ['mapAsync'],
  GPUDevice: ['createComputePipelineAsync', 'createRenderPipelineAsync', 'popErrorScope'],
  GPUShaderModule: ['getCompilationInfo'],
};
/**
 * For this long a wait costs a core and no latency; then it sleeps for an eighth of the time waited so far, and never
 * longer than `LONGEST`. In milliseconds.
 */
const EAGER = 0.3;
const LONGEST = 1;

/**
 * While a promise of Dawn's is pending, its event loop turns without rest, taking a core from the driver that it waits
 * for (half of a small machine, where the driver is software). Here each turn sleeps a little once the wait has lasted.
 *
 * The timer is for Node: with nothing referenced alive it first finishes tasks of its own, such as compiling WASM,
 * before any of Dawn's callbacks.
 */
function waitPolitely(classes: PatchedClasses): void {
  const never = new Int32Array(new SharedArrayBuffer(4));
  let pending = 0;
  let since = 0;
  let turning = false;
  let timer: NodeJS.Timeout | undefined;
  const turn = (): void => {
    turning = pending > 0;
    if (!turning) return;
    const waited = performance.now() - since;
    if (waited > EAGER) Atomics.wait(never, 0, 0, Math.min(LONGEST, waited / 8));
    setImmediate(turn);
  };
  const begin = (): void => {
    since = performance.now();
    if (pending++ === 0) timer = setInterval(() => {}, 2 ** 30);
    if (!turning) setImmediate(turn);
    turning = true;
  };
  const end = (): void => {
    if (--pending === 0) clearInterval(timer);
  };
  for (const [name, methods] of Object.entries(WAITS))
    for (const method of methods) {
      const prototype = classes[name]?.prototype;
      const original = prototype?.[method];
      if (!prototype || !original) continue;
      prototype[method] = function (...args) {
        const promise = original.apply(this, args);
        begin();
        promise.then(end, end);
        return promise;
      };
    }
}
