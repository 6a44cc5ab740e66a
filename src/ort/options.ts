/** Session options of onnxruntime-common: what they mean here, and which are refused. */
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import { fail } from '../core/errors.ts';
import type { DataSource } from '../index.ts';

type Options = InferenceSession.SessionOptions;

/**
 * Without effect on results: advice to ONNX Runtime's memory, scheduler, log and capture; plans are replayed in any
 * case.
 */
const ADVICE = [
  'interOpNumThreads',
  'enableCpuMemArena',
  'enableMemPattern',
  'executionMode',
  'logId',
  'logSeverityLevel',
  'logVerbosityLevel',
  'enableGraphCapture',
];
const HEEDED = [
  'executionProviders',
  'intraOpNumThreads',
  'freeDimensionOverrides',
  'graphOptimizationLevel',
  'preferredOutputLocation',
  'externalData',
];
const INSTEAD: Readonly<Record<string, string>> = {
  optimizedModelFilePath: "compile() of 'sardonyx/plan' writes a model that needs no optimizer",
  enableProfiling: "profile() of 'sardonyx/tune' measures every node",
  profileFilePrefix: "profile() of 'sardonyx/tune' measures every node",
  extra: 'it configures ONNX Runtime',
};
/** Options of the WebGPU provider that are heeded, or advise. */
const PROVIDER = [
  'name',
  'device',
  'preferredLayout',
  'storageBufferCacheMode',
  'uniformBufferCacheMode',
  'queryResolveBufferCacheMode',
  'defaultBufferCacheMode',
  'validationMode',
  'enableRobustness',
];

const isSet = (v: unknown): boolean =>
  v !== undefined && v !== null && v !== false && v !== '' && !(typeof v === 'object' && Object.keys(v).length === 0);

/** @throws option_invalid for each option that would be passed over in silence */
export function refuseUnknown(options: Options): void {
  for (const [name, value] of Object.entries(options)) {
    if (!isSet(value) || ADVICE.includes(name) || HEEDED.includes(name)) continue;
    fail(
      'option_invalid',
      `session option ${name} does not work with sardonyx/ort${INSTEAD[name] ? `: ${INSTEAD[name]}` : ''}; leave it out`,
    );
  }
  for (const [name, value] of Object.entries(providerOf(options, 'webgpu') ?? {})) {
    if (isSet(value) && !PROVIDER.includes(name))
      fail(
        'option_invalid',
        `option ${name} of the execution provider webgpu does not work with sardonyx/ort; leave it out`,
      );
  }
}

/** The options of a provider, where the list gives it any. */
export const providerOf = (
  { executionProviders = [] }: Options,
  name: string,
): Readonly<Record<string, unknown>> | undefined =>
  executionProviders.find(
    (p): p is InferenceSession.ExecutionProviderOption => typeof p === 'object' && p.name === name,
  ) as Readonly<Record<string, unknown>> | undefined;

/**
 * Where each output goes unless a run says otherwise. @throws option_invalid for a place that this device has not, and
 * for outputs that the model has not
 */
export function placesOf(
  preferred: Options['preferredOutputLocation'],
  outputs: readonly string[],
  gpu: boolean,
): Readonly<Record<string, 'cpu' | 'gpu-buffer'>> {
  const check = (place: Tensor.DataLocation): 'cpu' | 'gpu-buffer' => {
    if (place === 'cpu' || place === 'cpu-pinned') return 'cpu';
    if (place === 'gpu-buffer' && gpu) return place;
    return fail(
      'option_invalid',
      `preferredOutputLocation '${place}' ${place === 'gpu-buffer' ? 'needs a session on WebGPU' : "is none of 'cpu' and 'gpu-buffer'"}`,
    );
  };
  if (typeof preferred === 'object')
    for (const name of Object.keys(preferred))
      if (!outputs.includes(name))
        fail('option_invalid', `preferredOutputLocation names ${name}; the model's outputs are ${outputs.join(', ')}`);
  return Object.fromEntries(
    outputs.map((name) => [name, check((typeof preferred === 'object' ? preferred[name] : preferred) ?? 'cpu')]),
  );
}

/** External data by the name that the model uses. A string is a path or URL, and names itself. */
export function externalOf(files: Options['externalData']): Record<string, DataSource> | null {
  if (!files || files.length === 0) return null;
  return Object.fromEntries(
    files.map((file): [string, DataSource] => {
      const { path, data } = typeof file === 'string' ? { path: file, data: file } : file;
      if (typeof data !== 'string')
        return [
          path,
          (ArrayBuffer.isView(data) || data instanceof Blob ? data : new Uint8Array(data as ArrayBuffer)) as DataSource,
        ];
      const base = globalThis.location?.href ?? `file://${process.cwd()}/`;
      return [
        path,
        URL.canParse(data, base)
          ? new URL(data, base)
          : fail('option_invalid', `external data ${JSON.stringify(data)} is neither a path nor a URL`),
      ];
    }),
  );
}
