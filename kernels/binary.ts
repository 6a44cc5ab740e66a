import { type DType, isFloat, isInt64 } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { bigints, numbers, writer } from '../src/core/numbers.ts';
import { sizeOf, type Tensor, zeros } from '../src/core/tensor.ts';
import {
  type AttrSchema,
  defineOp,
  FLOAT,
  int,
  type InferCall,
  type NormalizeCall,
  type Normalized,
  NUMERIC,
  type Op,
  required,
  string,
  UNSIGNED,
  type Values,
} from './define.ts';
import { type Ex, x } from './expr.ts';
import { INTEGERS, narrow, pointwise, type Scalar, spread, variadic, without } from './elementwise.ts';
import { broadcast } from './shapes.ts';

/**
 * Below opset 7, B is broadcast only if `broadcast` says so, and `axis` is where in A its dims begin. Without an axis
 * they are A's last ones, as in NumPy.
 */
const legacy = ({ attrs, opset }: NormalizeCall): Normalized => {
  if (opset >= 7) return { attrs };
  const rest = without(attrs, 'axis', 'broadcast', 'consumed_inputs');
  return {
    attrs:
      attrs.broadcast && attrs.axis !== undefined && attrs.axis !== -1 ? { ...rest, legacy_axis: attrs.axis } : rest,
  };
};
const LEGACY = { legacy_axis: int() };
type Legacy = { readonly legacy_axis?: number | undefined };

/** The shapes under which A and B are read. */
function shapesOf(a: readonly number[], b: readonly number[], { legacy_axis: given }: Legacy): (readonly number[])[] {
  if (given === undefined || sizeOf(b) === 1) return [a, b];
  const axis = given < 0 ? given + a.length : given;
  if (axis < 0 || axis + b.length > a.length)
    fail('shape_mismatch', `[${b}] does not fit into [${a}] at axis ${given}`);
  return [a, [...b, ...new Array<number>(a.length - axis - b.length).fill(1)]];
}

const infer = (to?: DType) => (call: InferCall) => {
  const [a, b] = shapesOf(call.fact(0).shape, call.fact(1).shape, call.attrs);
  return [{ dtype: to ?? call.fact(0).dtype, shape: broadcast(a!, b!) }];
};

interface Binary<A extends AttrSchema> {
  readonly op: string;
  readonly since: readonly number[];
  readonly types: readonly DType[];
  readonly attrs?: A;
  readonly to?: DType;
  readonly scalar: (attrs: Values<A>) => Scalar;
  readonly map: (a: Ex, b: Ex, output: DType, attrs: Values<A>) => Ex | null;
  readonly normalize?: (node: NormalizeCall) => Normalized;
  readonly check?: (dtype: DType, attrs: Values<A>) => void;
}
const binary = <A extends AttrSchema = Record<never, never>>(b: Binary<A>): Op =>
  withLegacy(b as unknown as Binary<AttrSchema>);
const withLegacy = (b: Binary<AttrSchema>): Op =>
  defineOp<AttrSchema>({
    op: b.op,
    since: b.since,
    inputs: ['A: T', 'B: T'],
    outputs: [`C: ${b.to ?? 'T'}`],
    types: { T: b.types },
    attrs: { ...b.attrs, ...LEGACY },
    normalize: b.normalize ?? legacy,
    infer: (call) => {
      b.check?.(call.fact(0).dtype, call.attrs);
      return infer(b.to)(call);
    },
    map: ([p, q], attrs, output) =>
      attrs.legacy_axis === undefined || q!.f === 'const' ? b.map(p!, q!, output, attrs) : null,
    reference: (call) => {
      const [p, q] = [call.tensor(0), call.tensor(1)];
      const shapes = shapesOf(p.shape, q.shape, call.attrs);
      if (p.dtype === 'string') return [sameText(p, q)];
      return [pointwise(b.scalar(call.attrs), [p, q], b.to ?? p.dtype, shapes)];
    },
  });

function sameText(a: Tensor, b: Tensor): Tensor {
  const shape = broadcast(a.shape, b.shape);
  const [p, q] = [spread(a.data as string[], a.shape, shape), spread(b.data as string[], b.shape, shape)];
  return { dtype: 'bool', shape, data: Uint8Array.from(p, (s, i) => Number(s === q[i])) };
}

const arithmetic = (op: string, scalar: Scalar, f: (a: Ex, b: Ex) => Ex): Op =>
  binary({
    op,
    since: [1, 6, 7, 13, 14],
    types: NUMERIC,
    scalar: () => scalar,
    map: (a, b, output) => narrow(f(a, b), output),
  });
const logic = (op: string, f: (a: number, b: number) => boolean, map: (a: Ex, b: Ex) => Ex): Op =>
  binary({ op, since: [1, 7], types: ['bool'], scalar: () => ({ float: f }), map: (a, b) => map(a, b) });
const bitwise = (op: string, scalar: Scalar, map: (a: Ex, b: Ex) => Ex): Op =>
  binary({ op, since: [18], types: INTEGERS, scalar: () => scalar, map: (a, b) => map(a, b) });
const order = (op: string, since: readonly number[], scalar: Scalar, map: (a: Ex, b: Ex) => Ex): Op =>
  binary({ op, since, types: NUMERIC, to: 'bool', scalar: () => scalar, map: (a, b) => map(a, b) });

/** Sign of the divisor, as Python's %. Of a zero divisor: 0. */
const modulo = (a: number, b: number): number => {
  const r = a % b;
  return b === 0 ? 0 : r !== 0 && r < 0 !== b < 0 ? r + b : r;
};
const bigModulo = (a: bigint, b: bigint): bigint => {
  if (b === 0n) return 0n;
  const r = a % b;
  return r !== 0n && r < 0n !== b < 0n ? r + b : r;
};

const shift: Op = defineOp({
  op: 'BitShift',
  since: [11],
  inputs: ['X: T', 'Y: T'],
  outputs: ['Z: T'],
  types: { T: UNSIGNED },
  attrs: { direction: required(string()) },
  infer: (call) => {
    leftward(call.attrs.direction);
    return infer()(call);
  },
  map: ([v, by], { direction }, output) => {
    if (v!.k === 'u64')
      return x.select(x.lt(by!, x.like(64, by!)), x[leftward(direction) ? 'shl' : 'shr'](v!, by!), x.like(0, v!));
    return narrow(
      x.select(x.lt(by!, x.like(32, by!)), x[leftward(direction) ? 'shl' : 'shr'](v!, by!), x.like(0, v!)),
      output,
    );
  },
  reference: (call) => {
    const left = leftward(call.attrs.direction);
    const t = call.tensor(0);
    return [
      pointwise(
        {
          float: (v, by) => (by! > 31 ? 0 : left ? (v! << by!) >>> 0 : v! >>> by!),
          big: (v, by) => (by! > 63n ? 0n : left ? v! << by! : v! >> by!),
        },
        [t, call.tensor(1)],
        t.dtype,
      ),
    ];
  },
});
const leftward = (direction: string): boolean =>
  direction === 'LEFT'
    ? true
    : direction === 'RIGHT'
      ? false
      : fail('attribute_invalid', `direction must be LEFT or RIGHT, not ${JSON.stringify(direction)}`);

/** An integer power by squaring, wrapped to 64 bits. A negative power of an integer is cut to an integer. */
function bigPower(base: bigint, power: bigint): bigint {
  if (power < 0n) return base === 1n ? 1n : base === -1n ? (power % 2n === 0n ? 1n : -1n) : 0n;
  let result = 1n;
  for (let b = BigInt.asUintN(64, base), e = power; e > 0n; e >>= 1n, b = BigInt.asUintN(64, b * b))
    if (e & 1n) result = BigInt.asUintN(64, result * b);
  return result;
}

const power: Op = defineOp({
  op: 'Pow',
  since: [1, 7, 12, 13, 15],
  inputs: ['X: T', 'Y: T1'],
  outputs: ['Z: T'],
  types: { T: NUMERIC, T1: NUMERIC },
  attrs: LEGACY,
  normalize: legacy,
  infer: infer(),
  map: ([base, by], { legacy_axis }, dtype) =>
    (legacy_axis !== undefined && by!.f !== 'const') || (base!.k !== 'f32' && base!.k !== 'f64' && base!.k !== by!.k)
      ? null
      : narrow(x.pow(base!, x.cast(by!, base!.k)), dtype),
  reference: (call) => {
    const [base, by] = [call.tensor(0), call.tensor(1)];
    const shapes = shapesOf(base.shape, by.shape, call.attrs);
    const out = zeros(base.dtype, broadcast(...shapes));
    const n = sizeOf(out.shape);
    if (!isFloat(base.dtype) && !isFloat(by.dtype)) {
      const [p, q] = [spread(bigints(base), shapes[0]!, out.shape), spread(bigints(by), shapes[1]!, out.shape)];
      const write = writer(out);
      const wide = isInt64(base.dtype);
      for (let i = 0; i < n; i++) {
        const r = bigPower(p[i]!, q[i]!);
        if (wide) (out.data as BigUint64Array)[i] = r;
        else write(i, Number(BigInt.asIntN(32, r)));
      }
      return [out];
    }
    const [p, q] = [spread(numbers(base), shapes[0]!, out.shape), spread(numbers(by), shapes[1]!, out.shape)];
    const write = writer(out);
    for (let i = 0; i < n; i++) write(i, p[i]! === 1 ? 1 : p[i]! ** q[i]!);
    return [out];
  },
});

/** Arithmetic, comparison and logic of two or more tensors: https://onnx.ai/onnx/operators/ */
export const binaries: readonly Op[] = [
  arithmetic('Add', { float: (a, b) => a! + b!, big: (a, b) => a! + b! }, x.add),
  arithmetic('Sub', { float: (a, b) => a! - b!, big: (a, b) => a! - b! }, x.sub),
  arithmetic('Mul', { float: (a, b) => a! * b!, int: Math.imul, big: (a, b) => a! * b! }, x.mul),
  arithmetic(
    'Div',
    {
      float: (a, b) => a! / b!,
      int: (a, b) => (b === 0 ? 0 : Math.trunc(a! / b!)),
      big: (a, b) => (b === 0n ? 0n : a! / b!),
    },
    x.div,
  ),
  power,
  binary({
    op: 'Mod',
    since: [10, 13],
    types: NUMERIC,
    attrs: { fmod: int(0) },
    scalar: ({ fmod }) => ({
      float: (a, b) => a! % b!,
      int: fmod ? (a, b) => (b === 0 ? 0 : a! % b!) : modulo,
      big: fmod ? (a, b) => (b === 0n ? 0n : a! % b!) : bigModulo,
    }),
    check: (dtype, { fmod }) => {
      if (isFloat(dtype) && !fmod) fail('attribute_invalid', `Mod of ${dtype} needs fmod = 1`);
    },
    map: (a, b, _, { fmod }) => (fmod ? x.rem(a, b) : x.mod(a, b)),
  }),
  binary({
    op: 'PRelu',
    since: [1, 6, 7, 9, 16],
    types: [...FLOAT, 'int32', 'int64', 'uint32', 'uint64'],
    normalize: ({ attrs, opset }) => ({
      attrs: opset < 7 ? { ...without(attrs, 'consumed_inputs'), legacy_axis: 1 } : attrs,
    }),
    scalar: () => ({
      float: (a, b) => (a! < 0 ? a! * b! : a!),
      int: (a, b) => (a! < 0 ? Math.imul(a!, b!) : a!),
      big: (a, b) => (a! < 0n ? a! * b! : a!),
    }),
    map: (a, b) => x.select(x.lt(a, x.like(0, a)), x.mul(a, b), a),
  }),
  logic('And', (a, b) => a !== 0 && b !== 0, x.and),
  logic('Or', (a, b) => a !== 0 || b !== 0, x.or),
  logic('Xor', (a, b) => (a !== 0) !== (b !== 0), x.xor),
  bitwise('BitwiseAnd', { float: (a, b) => a! & b!, big: (a, b) => a! & b! }, x.and),
  bitwise('BitwiseOr', { float: (a, b) => a! | b!, big: (a, b) => a! | b! }, x.or),
  bitwise('BitwiseXor', { float: (a, b) => a! ^ b!, big: (a, b) => a! ^ b! }, x.xor),
  shift,
  binary({
    op: 'Equal',
    since: [1, 7, 11, 13, 19],
    types: [...NUMERIC, 'bool', 'string'],
    to: 'bool',
    scalar: () => ({ float: (a, b) => a === b, big: (a, b) => a === b }),
    map: (a, b) => x.eq(a, b),
  }),
  order('Less', [1, 7, 9, 13], { float: (a, b) => a! < b!, big: (a, b) => a! < b! }, x.lt),
  order('Greater', [1, 7, 9, 13], { float: (a, b) => a! > b!, big: (a, b) => a! > b! }, x.gt),
  order('LessOrEqual', [12, 16], { float: (a, b) => a! <= b!, big: (a, b) => a! <= b! }, x.le),
  order('GreaterOrEqual', [12, 16], { float: (a, b) => a! >= b!, big: (a, b) => a! >= b! }, x.ge),
  variadic({
    op: 'Max',
    since: [1, 6, 8, 12, 13],
    types: NUMERIC,
    fold: { float: (a, b) => Math.max(a!, b!), big: (a, b) => (a! > b! ? a! : b!) },
    map: (all) => all.reduce((a, b) => x.max(a, b)),
  }),
  variadic({
    op: 'Min',
    since: [1, 6, 8, 12, 13],
    types: NUMERIC,
    fold: { float: (a, b) => Math.min(a!, b!), big: (a, b) => (a! < b! ? a! : b!) },
    map: (all) => all.reduce((a, b) => x.min(a, b)),
  }),
  variadic({
    op: 'Sum',
    since: [1, 6, 8, 13],
    types: FLOAT,
    fold: { float: (a, b) => a! + b! },
    map: (all) => all.reduce((a, b) => x.add(a, b)),
  }),
  variadic({
    op: 'Mean',
    since: [1, 6, 8, 13],
    types: FLOAT,
    mean: true,
    fold: { float: (a, b) => a! + b! },
    map: (all) => {
      const sum = all.reduce((a, b) => x.add(a, b));
      return x.div(sum, x.like(all.length, sum));
    },
  }),
];
