/** Where results go when not all go to the host: loaded when a run says so. */
import { fail, within } from './core/errors.ts';
import type { Fact } from './core/graph.ts';
import { byteLength, type GpuTensor, isGpuTensor, isTensor, type Value } from './core/tensor.ts';
import type { Port } from './feeds.ts';
import type { Backend, Held } from './4-run/executable.ts';
import type { Target } from './runner.ts';

export type Place = 'cpu' | 'gpu' | GpuTensor;
export type Places = Place | Readonly<Record<string, Place>>;

/** The results of one run. */
export interface Destinations {
  readonly target: Target;
  /** Brings results to where they are wanted; what remains to be read, in order. */
  settle(results: readonly Held[]): readonly Held[];
  /** All of them by name, given those that were read. */
  named(read: readonly Value[]): Record<string, Value | GpuTensor>;
  /** Gives back what was made for a run that failed. */
  drop(): void;
}

const wholeWords = (t: GpuTensor): number => Math.ceil(byteLength(t) / 4) * 4;
const COPY_DST = 8;

/** Of each output, where it goes. @throws output_unknown, output_invalid, option_invalid, not_on_device */
export function placesOf(outputs: Places, ports: readonly Port[], { caps, tensors }: Backend): readonly Place[] {
  const named: object = Object(outputs);
  const one = typeof outputs === 'string' ? outputs : null;
  if (one === null)
    for (const name of isGpuTensor(named) ? [] : Object.keys(named))
      if (!ports.some((p) => p.name === name))
        fail(
          'output_unknown',
          `the model has no output ${JSON.stringify(name)}; it has ${ports.map((p) => p.name).join(', ')}`,
        );
  const places = ports.map(({ name, dtype }): Place => {
    const place = one ?? (Object.hasOwn(named, name) ? (named as Readonly<Record<string, Place>>)[name]! : 'cpu');
    const given = typeof place === 'object' && place !== null && isGpuTensor(place);
    if ((place !== 'cpu' && place !== 'gpu' && !given) || isGpuTensor(named))
      fail(
        'option_invalid',
        `outputs go to the 'cpu', stay on the 'gpu' or, by name, are written to a GPU tensor; ${JSON.stringify(outputs)} says neither`,
      );
    if (place !== 'cpu' && tensors === undefined)
      fail(
        'not_on_device',
        `output ${name} cannot stay on a GPU: the session runs on ${caps.kind}; load it with { device: 'webgpu' }`,
      );
    if (!given) return place;
    if (dtype !== null && place.dtype !== dtype)
      fail('output_invalid', `output ${name} is ${dtype}; the tensor that it should be written to is ${place.dtype}`);
    if ((place.buffer.usage & COPY_DST) === 0)
      fail('output_invalid', `the buffer ${place.buffer.label} for output ${name} needs the usage COPY_DST`);
    within(`output ${name}`, () => tensors!.take(place));
    return place;
  });
  const given = ports.flatMap(({ name }, i) => {
    const t = places[i]!;
    return typeof t === 'object' ? [{ name, t }] : [];
  });
  for (const a of given)
    for (const b of given)
      if (a !== b && a.t.buffer === b.t.buffer && a.t.offset < b.t.offset + wholeWords(b.t) && b.t.offset <= a.t.offset)
        fail('output_invalid', `outputs ${a.name} and ${b.name} would be written to the same memory`);
  return places;
}

/** The caller's tensor, if it has the type and shape of the output. */
function fitting(t: GpuTensor, { dtype, shape }: Pick<Fact, 'dtype' | 'shape'>): GpuTensor {
  if (t.dtype !== dtype || String(t.shape) !== String(shape))
    fail(
      'output_invalid',
      `the output is ${dtype}[${shape}]; the tensor that it should be written to is ${t.dtype}[${t.shape}]`,
    );
  return t;
}

/** @throws what `placesOf` throws; when the run goes on, output_invalid and device_limit */
export async function destinations(outputs: Places, ports: readonly Port[], backend: Backend): Promise<Destinations> {
  const places = placesOf(outputs, ports, backend);
  const { tensors } = backend;
  const { make, fill } = tensors
    ? await tensors.results()
    : { make: () => fail('internal', 'no GPU'), fill: (_: unknown, rest: readonly Held[]) => rest };
  const kept = new Map<number, GpuTensor>();
  /** The tensor of output i, when its shape is known; null: it goes to the host. */
  const tensorOf = (i: number, like: Pick<Fact, 'dtype' | 'shape'>): GpuTensor | null => {
    const place = places[i]!;
    if (place === 'cpu') return null;
    const t =
      kept.get(i) ?? within(`output ${ports[i]!.name}`, () => (place === 'gpu' ? make(like) : fitting(place, like)));
    kept.set(i, t);
    return t;
  };
  return {
    target: (i, like) => {
      const t = tensorOf(i, like);
      return t && tensors!.take(t);
    },
    settle(results) {
      const pairs = results.flatMap((r, i): [GpuTensor, Held][] => {
        if (places[i] === 'cpu') return [];
        const like =
          r.on === 'device'
            ? r
            : isTensor(r.value)
              ? r.value
              : fail(
                  'type_mismatch',
                  `output ${ports[i]!.name} is a ${r.value.kind}; only tensors of numbers can stay on the GPU`,
                );
        return [[tensorOf(i, like)!, r]];
      });
      return fill(
        pairs,
        results.filter((_, i) => !kept.has(i)),
      );
    },
    named(read) {
      let next = 0;
      return Object.fromEntries(ports.map(({ name }, i) => [name, kept.get(i) ?? read[next++]!]));
    },
    drop: () => {
      for (const [i, t] of kept) if (places[i] === 'gpu') t.dispose();
    },
  };
}
