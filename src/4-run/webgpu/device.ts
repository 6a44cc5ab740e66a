import { fail, SardonyxError } from '../../core/errors.ts';
import type { GpuCaps } from '../../core/plan.ts';

export interface GpuRequest {
  readonly powerPreference?: GPUPowerPreference;
  /** Take SwiftShader, llvmpipe and their like. Without it they count as no adapter. */
  readonly allowSoftware: boolean;
  /**
   * Dawn's toggles, in Node only: "name" to enable, "-name" to disable. Requests with other toggles get another device.
   */
  readonly toggles?: readonly string[];
  /** WebGPU's default limits and no optional feature, whatever the adapter offers: the device that every user has. */
  readonly base?: boolean;
  /** A device that nobody else gets, which the caller may destroy. */
  readonly own?: boolean;
}
export interface Gpu {
  readonly device: GPUDevice;
  readonly caps: GpuCaps;
}

const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxUniformBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupSizeZ',
  'maxComputeWorkgroupsPerDimension',
] as const;
const MATRICES = 'chromium-experimental-subgroup-matrix';
const FEATURES = ['shader-f16', 'subgroups', 'timestamp-query', MATRICES] as readonly GPUFeatureName[];

/**
 * Devices that sessions share, by what was asked for. A lost one leaves the table, so that the next request gets a
 * fresh one.
 */
const shared = new Map<string, Promise<Gpu>>();

/**
 * A device with everything the runtime can use of its adapter: one for the whole process or page, unless `own`.
 * `writeBuffer` of Dawn in Node refuses views of a SharedArrayBuffer: copy those to an unshared view first.
 *
 * @throws device_unavailable, with what can be done about it
 */
export async function requestGpuDevice(request: GpuRequest): Promise<Gpu> {
  const gpu = await (request.own ? open(request) : reuse(request));
  if (gpu.caps.software && !request.allowSoftware) {
    if (request.own) gpu.device.destroy();
    fail(
      'device_unavailable',
      `the only WebGPU adapter, ${gpu.caps.vendor}/${gpu.caps.architecture}, is software, slower than WASM; ask for the device "webgpu" by name to use it all the same`,
    );
  }
  return gpu;
}

function reuse(request: GpuRequest): Promise<Gpu> {
  const key = JSON.stringify([request.powerPreference, request.toggles, request.base]);
  const known = shared.get(key);
  if (known) return known;
  const opened = open(request);
  shared.set(key, opened);
  const forget = (): void => {
    if (shared.get(key) === opened) shared.delete(key);
  };
  opened.then(({ device }) => device.lost.then(forget), forget);
  return opened;
}

async function open({ powerPreference, toggles, base }: GpuRequest): Promise<Gpu> {
  const gpu = await entryPoint(toggles);
  const adapter = await gpu.requestAdapter({ powerPreference: powerPreference ?? 'high-performance' });
  if (!adapter) fail('device_unavailable', isNode() ? NO_DRIVER : NO_ADAPTER);
  pinned.push(adapter);
  const requiredLimits: Record<string, number> = {};
  if (!base)
    for (const name of LIMITS) if (adapter.limits[name] !== undefined) requiredLimits[name] = adapter.limits[name];
  const requiredFeatures = base ? [] : FEATURES.filter((f) => adapter.features.has(f));
  try {
    const device = await adapter.requestDevice({ label: 'sardonyx', requiredLimits, requiredFeatures });
    return { device, caps: capsOf(device, adapter.info, gpu) };
  } catch (cause) {
    throw new SardonyxError(
      'device_unavailable',
      `the WebGPU adapter gave no device: ${cause instanceof Error ? cause.message : String(cause)}`,
      [],
      { cause },
    );
  }
}

/** Dawn crashes when an adapter is collected before its device. */
const pinned: GPUAdapter[] = [];
export const isNode = (): boolean =>
  typeof process !== 'undefined' &&
  typeof process.versions?.node === 'string' &&
  !('gpu' in (globalThis.navigator ?? {}));
const NO_ADAPTER =
  'this browser offers no WebGPU adapter: the GPU or its driver is blocked or missing (see chrome://gpu or about:support)';
const NO_DRIVER =
  'no Vulkan, Metal or Direct3D 12 driver was found. Install the driver of the GPU; without a GPU, `npm install --save-dev @sparticuz/chromium` brings SwiftShader, which the `sardonyx` command then uses; or run on the device "wasm"';

async function entryPoint(toggles: readonly string[] | undefined): Promise<GPU> {
  if (isNode()) return (await import('./node-gpu.ts')).openDawn(toggles);
  return (
    globalThis.navigator?.gpu ??
    fail(
      'device_unavailable',
      globalThis.isSecureContext === false
        ? 'WebGPU needs a secure context: serve the page over https, or from localhost'
        : 'this browser has no WebGPU',
    )
  );
}

/** What the planner may know of a device: its limits and features as they were granted. */
export function capsOf(
  device: GPUDevice,
  info: GPUAdapterInfo | undefined = device.adapterInfo,
  gpu: GPU | undefined = globalThis.navigator?.gpu,
): GpuCaps {
  const { limits } = device;
  const subgroups = device.features.has('subgroups');
  const vendor = info?.vendor ?? '';
  const architecture = info?.architecture ?? '';
  return {
    kind: 'webgpu',
    features: [...device.features].sort(),
    vendor,
    architecture,
    software:
      info?.isFallbackAdapter === true ||
      /swiftshader|llvmpipe|lavapipe|software|warp/i.test(
        `${architecture} ${info?.device ?? ''} ${info?.description ?? ''}`,
      ),
    f16: device.features.has('shader-f16'),
    subgroups,
    ...(subgroups && info?.subgroupMinSize ? { subgroupSizes: [info.subgroupMinSize, info.subgroupMaxSize!] } : {}),
    dot4: gpu?.wgslLanguageFeatures?.has('packed_4x8_integer_dot_product') === true,
    ...(device.features.has(MATRICES) ? { matrices: matricesOf(info) } : {}),
    limits: {
      maxComputeWorkgroupsPerDimension: limits.maxComputeWorkgroupsPerDimension,
      maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxBufferSize: limits.maxBufferSize,
      maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
      minStorageBufferOffsetAlignment: limits.minStorageBufferOffsetAlignment,
    },
  };
}

interface MatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}
/** Those with sums in f32. */
const matricesOf = (info: GPUAdapterInfo | undefined): NonNullable<GpuCaps['matrices']> =>
  (
    (info as { readonly subgroupMatrixConfigs?: readonly MatrixConfig[] } | undefined)?.subgroupMatrixConfigs ?? []
  ).flatMap(({ componentType: of, resultComponentType, M, N, K }) =>
    resultComponentType === 'f32' && (of === 'f16' || of === 'f32') ? [{ of, m: M, n: N, k: K }] : [],
  );
