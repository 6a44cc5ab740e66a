/**
 * A plan and its weights as one file: "SARDPLAN", the length of a JSON header as u32 (little-endian), the header, and
 * behind it, each at a multiple of 64 bytes, what the header points at. Weights are there as kernels want them, so that
 * whoever runs the file packs nothing.
 */
import type { DType } from './core/dtype.ts';
import { fail } from './core/errors.ts';
import { type Constant, constantOf } from './core/graph.ts';
import type { Caps, Pack, Plan } from './core/plan.ts';
import { byteLength, bytesOfTensor, type Tensor, tensorOver } from './core/tensor.ts';

/** A plan that needs nothing but a device. */
export interface Compiled {
  readonly plan: Plan;
  /** What the plan's weights and host constants are, by number. */
  readonly constants: readonly Constant[];
  /** The machine that the plan was made for. */
  readonly caps: Caps;
}

interface Part {
  readonly at: number;
  readonly length: number;
}
interface Header {
  readonly format: 1;
  /** Bytes behind the header. */
  readonly size: number;
  readonly caps: Caps;
  readonly plan: Omit<Plan, 'modules'> & { readonly modules: readonly (Part & { readonly name: string })[] };
  readonly constants: readonly (Part & { readonly dtype: DType; readonly shape: readonly number[] })[];
}

const MAGIC = 'SARDPLAN';
const ALIGN = 64;
const up = (n: number): number => Math.ceil(n / ALIGN) * ALIGN;

/** Numbers that JSON has no form for. */
const ODD: Readonly<Record<string, number>> = {
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
  '-0': -0,
};
const write = (_: string, v: unknown): unknown =>
  typeof v === 'number' && (!Number.isFinite(v) || Object.is(v, -0)) ? { odd: Object.is(v, -0) ? '-0' : String(v) } : v;
const read = (_: string, v: unknown): unknown =>
  typeof v === 'object' && v !== null && 'odd' in v ? ODD[(v as { odd: string }).odd] : v;

/**
 * @throws not_on_device, with the nodes, if a node would run on the host: only operators can do that, and a file has
 * none
 */
export async function writeCompiled(
  { plan, constants, caps }: Compiled,
  pack: (constant: Tensor, pack: Pack) => Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const left = [
    ...plan.steps.flatMap((s) => (s.run === 'host' ? [`${s.node} (${s.op})`] : [])),
    ...plan.after.map((n) => `${n.node} (${n.op})`),
  ];
  if (left.length > 0)
    fail(
      'not_on_device',
      `a compiled plan runs on its device alone, and ${left.length} node${left.length > 1 ? 's' : ''} would leave ${plan.device}: ${left.slice(0, 8).join(', ')}${left.length > 8 ? ', …' : ''}`,
    );

  const payload: Uint8Array[] = [];
  let end = 0;
  const put = (bytes: Uint8Array): Part => {
    const part = { at: end, length: bytes.byteLength };
    payload.push(bytes);
    end = up(end + bytes.byteLength);
    return part;
  };
  const kept: Header['constants'][number][] = [];
  const keep = (t: Tensor): number => kept.push({ dtype: t.dtype, shape: t.shape, ...put(bytesOfTensor(t)) }) - 1;

  const weights: Plan['weights'][number][] = [];
  for (const w of plan.weights) {
    const tensor = await constants[w.constant]!.load();
    const bytes = w.pack ? pack(tensor, w.pack) : bytesOfTensor(tensor);
    weights.push({ constant: keep({ dtype: 'uint8', shape: [bytes.byteLength], data: bytes }), bytes: w.bytes });
  }
  const values: Plan['values'][number][] = [];
  for (const v of plan.values)
    values.push(
      v.home.in === 'constant'
        ? { ...v, home: { in: 'constant', constant: keep(await constants[v.home.constant]!.load()) } }
        : v,
    );
  const modules = plan.modules.map(({ name, bytes }) => ({ name, ...put(bytes) }));

  const header: Header = { format: 1, size: end, caps, plan: { ...plan, weights, values, modules }, constants: kept };
  const text = new TextEncoder().encode(JSON.stringify(header, write));
  const start = up(MAGIC.length + 4 + text.byteLength);
  const file = new Uint8Array(start + end);
  file.set(new TextEncoder().encode(MAGIC));
  new DataView(file.buffer).setUint32(MAGIC.length, text.byteLength, true);
  file.set(text, MAGIC.length + 4);
  let at = start;
  for (const bytes of payload) {
    file.set(bytes, at);
    at = up(at + bytes.byteLength);
  }
  return file;
}

/** What `writeCompiled` wrote; weights are views of `file`. @throws model_not_onnx, model_malformed */
export function readCompiled(file: Uint8Array<ArrayBuffer>): Compiled {
  const bad = (why: string): never =>
    fail('model_malformed', `the compiled plan is damaged: ${why}; compile the model again`);
  if (new TextDecoder().decode(file.subarray(0, MAGIC.length)) !== MAGIC)
    fail('model_not_onnx', 'this is no compiled plan: make one with compile() of sardonyx/plan, or `sardonyx compile`');
  if (file.byteLength < MAGIC.length + 4) bad('it ends in its first bytes');
  const length = new DataView(file.buffer, file.byteOffset).getUint32(MAGIC.length, true);
  const start = up(MAGIC.length + 4 + length);
  if (start > file.byteLength) bad('it ends in its header');
  let header: Header;
  try {
    header = JSON.parse(new TextDecoder().decode(file.subarray(MAGIC.length + 4, MAGIC.length + 4 + length)), read);
  } catch {
    return bad('its header is no JSON');
  }
  if (header.format !== 1 || header.plan?.format !== 1)
    fail(
      'model_unsupported',
      `the compiled plan has format ${header.format}/${header.plan?.format}; this version of Sardonyx reads 1/1: compile the model again`,
    );
  if (file.byteLength !== start + header.size) bad(`it has ${file.byteLength} bytes of ${start + header.size}`);
  const part = ({ at, length }: Part): Uint8Array<ArrayBuffer> => {
    if (!Number.isSafeInteger(at) || at < 0 || !(start + at + length <= file.byteLength))
      bad(`a part at ${at} ends behind the file`);
    return file.subarray(start + at, start + at + length);
  };
  const constants = header.constants.map(({ dtype, shape, ...where }): Constant => {
    const bytes = part(where);
    if (byteLength({ dtype, shape }) !== bytes.byteLength)
      bad(`a constant of ${dtype}[${shape}] has ${bytes.byteLength} bytes`);
    return constantOf(tensorOver(dtype, shape, bytes));
  });
  return {
    caps: header.caps,
    constants,
    plan: { ...header.plan, modules: header.plan.modules.map(({ name, ...where }) => ({ name, bytes: part(where) })) },
  };
}
