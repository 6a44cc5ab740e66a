import { constant, type Ex, input, kindOf, x } from '../../kernels/expr.ts';
import { type Lowering, scalarOf } from './lowering.ts';

/** Quantising and dequantising by one constant step, on the CPU. */
export const lowerQuantized: Lowering = (node, facts, _addConstant, device) => {
  if (device !== 'wasm') return null;
  const [, to] = /^(?:com\.microsoft\.)?(Q|Deq)uantizeLinear$/i.exec(node.op) ?? [];
  const y = facts[node.outputs[0]!]!;
  if (to === undefined || node.attrs.block_size || node.attrs.precision) return null;
  const [v, s, z] = node.inputs.map((i) => (i === null ? null : facts[i]!));
  const scale = s?.dtype === 'float32' ? scalarOf(s) : null;
  const zero = z ? scalarOf(z) : 0;
  const quantizes = to.toLowerCase() === 'q';
  const range = RANGE[quantizes ? y.dtype : v!.dtype];
  if (scale === null || zero === null || range === undefined || (quantizes ? v! : y).dtype !== 'float32') return null;
  const f = (n: number | bigint): Ex => constant(Number(n), 'f32');
  const inputs = [node.inputs[0]!];
  const from = input(0, kindOf(v!.dtype)!);
  const label = [node.op.replace(/^.*\./, '')];
  if (!quantizes)
    return {
      inputs,
      label,
      expr: x.mul(Number(zero) === 0 ? x.cast(from, 'f32') : x.sub(x.cast(from, 'f32'), f(zero)), f(scale)),
    };
  const [least, most] = range.map((n) => f(n - Number(zero))) as [Ex, Ex];
  const step = x.round(x.div(from, f(scale)));
  const atLeast = x.select(x.lt(step, least), least, step);
  const within = x.select(x.lt(most, atLeast), most, atLeast);
  return { inputs, label, expr: x.cast(x.add(within, f(zero)), kindOf(y.dtype)!) };
};
const RANGE: Readonly<Record<string, readonly [number, number]>> = {
  uint8: [0, 255],
  int8: [-128, 127],
  uint16: [0, 65535],
  int16: [-32768, 32767],
};
