/**
 * Weights of products and convolutions brought into panels by WASM: a module of its own reads parts of a constant as
 * they come from the file, so that neither a copy in the panels' order nor a whole constant is on the host. The
 * packers of the same names in `pack.ts` do the same for constants of other types, and say what the panels are.
 */
import { bytesOf } from '../../src/core/dtype.ts';
import { type Fact, PART } from '../../src/core/graph.ts';
import type { Pack, WasmCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { ints, up } from '../pack.ts';
import { f32, type F32, i32, type I32, type Local, type V, v128 } from './asm.ts';
import { i32s, locals, params } from './gemm-core.ts';
import { kernelModule } from './module.ts';

type L = Local<'i32'>;

/** `n` runs of `length` elements, their starts `apart` and their elements `step` bytes apart, and where they go. */
interface Weave {
  /** In the part, and among the panels. */
  readonly from: number;
  readonly to: number;
  readonly n: number;
  /** Elements from one place of a run to the next in the panel; what `n` leaves of it becomes 0. */
  readonly width: number;
  readonly length: number;
  readonly apart: number;
  readonly step: number;
  /** How often, and by how many bytes both sides move on. */
  readonly count: number;
  readonly fromMove: number;
  readonly toMove: number;
}
/** Bytes of the constant, and what is done with them. */
interface Part {
  readonly at: number;
  readonly bytes: number;
  readonly weaves: readonly Weave[];
}
/** A module that exports `run(part, panels, …)`, and its calls' arguments behind those two addresses, part by part. */
export interface Woven {
  readonly name: string;
  readonly module: Uint8Array<ArrayBuffer>;
  readonly parts: readonly {
    readonly at: number;
    readonly bytes: number;
    readonly calls: readonly (readonly number[])[];
  }[];
}

/** Elements of a run that are read at once: what is written in turns stays in the first cache. */
const BLOCK = 256;
const FIELDS = ['from', 'to', 'n', 'width', 'length', 'apart', 'step', 'count', 'fromMove', 'toMove'] as const;

/** How a float32 constant is packed by WASM; null where only a packer does it. Pure. */
export function weaving({ dtype, shape }: Pick<Fact, 'dtype' | 'shape'>, pack: Pack, caps: WasmCaps): Woven | null {
  if (dtype !== 'float32') return null;
  const parts =
    pack.name === 'conv.tiles' ? tiles(ints(pack.args)) : pack.name === 'gemm.panels' ? panels(ints(pack.args)) : null;
  if (parts === null || parts.some((p) => p.bytes > PART)) return null;
  if (parts.reduce((sum, p) => sum + p.bytes, 0) !== bytesOf(dtype, sizeOf(shape))) return null;
  return {
    name: 'weave',
    module: moduleFor(parts[0]!.weaves[0]!.step !== 4, caps),
    parts: parts.map(({ at, bytes, weaves }) => ({ at, bytes, calls: weaves.map((w) => FIELDS.map((f) => w[f])) })),
  };
}

/** "conv.tiles": each tile of `mr` filters is as many runs. */
function tiles([mr, groups, filters, K]: number[]): Part[] {
  const run = 4 * K!;
  const most = Math.max(1, Math.floor(PART / (run * mr!)));
  const parts: Part[] = [];
  for (let g = 0; g < groups!; g++)
    for (let m0 = 0; m0 < filters!; ) {
      const whole = Math.min(most, Math.floor((filters! - m0) / mr!));
      const [rows, count] = whole > 0 ? [mr!, whole] : [filters! - m0, 1];
      const at = (g * filters! + m0) * run;
      const moves = rows * run;
      parts.push({
        at,
        bytes: count * moves,
        weaves: [
          {
            from: 0,
            to: at,
            n: rows,
            width: rows,
            length: K!,
            apart: run,
            step: 4,
            count,
            fromMove: moves,
            toMove: moves,
          },
        ],
      });
      m0 += rows * count;
    }
  return parts;
}

/** "gemm.panels": rows of B as they come, or, of a B that lies transposed, its columns. */
function panels([nr, K, N, row, col, matrices, matrix]: number[]): Part[] | null {
  const full = Math.floor(N! / nr!);
  const rest = N! % nr!;
  const per = 4 * K! * (full * nr! + up(rest, 4));
  const parts: Part[] = [];
  for (let i = 0; i < matrices!; i++) {
    const base = 4 * i * matrix!;
    if (col === 1 && row === N) {
      const most = Math.max(1, Math.floor(PART / (4 * N!)));
      for (let k = 0; k < K!; k += most) {
        const length = Math.min(most, K! - k);
        const common = { length, apart: 4, step: 4 * N! };
        const weaves: Weave[] = [];
        if (full > 0)
          weaves.push({
            ...common,
            from: 0,
            to: i * per + 4 * k * nr!,
            n: nr!,
            width: nr!,
            count: full,
            fromMove: 4 * nr!,
            toMove: 4 * K! * nr!,
          });
        if (rest > 0)
          weaves.push({
            ...common,
            from: 4 * full * nr!,
            to: i * per + 4 * (full * nr! * K! + k * up(rest, 4)),
            n: rest,
            width: up(rest, 4),
            count: 1,
            fromMove: 0,
            toMove: 0,
          });
        parts.push({ at: base + 4 * k * N!, bytes: 4 * length * N!, weaves });
      }
    } else if (row === 1 && col === K) {
      const most = Math.max(1, Math.floor(PART / (4 * K! * nr!)));
      for (let p = 0; p * nr! < N!; ) {
        const count = Math.max(1, Math.min(most, full - p));
        const n = p < full ? nr! : rest;
        const bytes = 4 * K! * n * count;
        parts.push({
          at: base + 4 * p * nr! * K!,
          bytes,
          weaves: [
            {
              from: 0,
              to: i * per + 4 * p * nr! * K!,
              n,
              width: up(n, 4),
              length: K!,
              apart: 4 * K!,
              step: 4,
              count,
              fromMove: 4 * K! * nr!,
              toMove: 4 * K! * nr!,
            },
          ],
        });
        p += count;
      }
    } else return null;
  }
  return parts;
}

/** By whether the places of all runs lie side by side, and whether the memory is shared. */
const modules = new Map<string, Uint8Array<ArrayBuffer>>();
function moduleFor(across: boolean, caps: WasmCaps): Uint8Array<ArrayBuffer> {
  const key = `${across} ${caps.shared}`;
  let bytes = modules.get(key);
  if (bytes === undefined) modules.set(key, (bytes = emit(across, caps)));
  return bytes;
}

const emit = (across: boolean, caps: WasmCaps): Uint8Array<ArrayBuffer> =>
  kernelModule('weave', i32s(2 + FIELDS.length), caps, (f) => {
    const p = params(f, 'src', 'dst', ...FIELDS);
    const wide = f.let(i32.shl(p.width, 2));
    const [first, size, k, j, a, o, row] = locals(f, 'i32', 7) as [L, L, L, L, L, L, L];
    f.inc(p.src, p.from);
    f.inc(p.dst, p.to);
    /** For `i` from what it is, as long as `by` more fit under `until`. */
    const upTo = (i: L, until: I32, by: number, body: () => void): void =>
      f.whileLoop(
        () => i32.leu(i32.add(i, by), until),
        () => {
          body();
          f.inc(i, by);
        },
      );
    const beside = (base: L): I32 => i32.add(base, i32.shl(j, 2));
    const copied = (): void => {
      f.set(a, p.src);
      f.set(o, p.dst);
      f.times(p.length, () => {
        f.set(j, i32.const(0));
        upTo(j, p.n, 4, () => f.emit(v128.store(beside(o), v128.load(beside(a)))));
        upTo(j, p.n, 1, () => f.emit(f32.store(beside(o), f32.load(beside(a)))));
        upTo(j, p.width, 1, () => f.emit(f32.store(beside(o), 0)));
        f.inc(a, p.step);
        f.inc(o, wide);
      });
    };
    /** Squares of four runs by four places. */
    const squares = (): void => {
      f.set(row, a);
      const v = [0, 1, 2, 3].map(() => {
        const x = f.let(v128.load(row));
        f.inc(row, p.apart);
        return x;
      });
      const pairs = (x: number, y: number, l: number[]): V => f.let(v128.shuf32(v[x]!, v[y]!, l));
      for (const l of [
        [0, 4, 1, 5],
        [2, 6, 3, 7],
      ]) {
        const [low, high] = [pairs(0, 1, l), pairs(2, 3, l)];
        for (const half of [
          [0, 1, 4, 5],
          [2, 3, 6, 7],
        ]) {
          f.emit(v128.store(o, v128.shuf32(low, high, half)));
          f.inc(o, wide);
        }
      }
      f.inc(a, 16);
    };
    const woven = (): void => {
      const start = (): void => {
        f.set(a, i32.add(i32.add(p.src, i32.mul(j, p.apart)), i32.shl(first, 2)));
        f.set(o, i32.add(beside(p.dst), i32.mul(first, wide)));
        f.set(k, i32.const(0));
      };
      f.set(first, i32.const(0));
      f.whileLoop(
        () => i32.ltu(first, p.length),
        () => {
          f.set(size, i32.sub(p.length, first));
          f.set(size, i32.select(i32.ltu(size, BLOCK), size, BLOCK));
          f.set(j, i32.const(0));
          upTo(j, p.n, 4, () => {
            start();
            upTo(k, size, 4, squares);
            upTo(k, size, 1, () => {
              f.set(row, a);
              for (let i = 0; i < 4; i++) {
                f.emit(f32.store(o, f32.load(row), 4 * i));
                f.inc(row, p.apart);
              }
              f.inc(a, 4);
              f.inc(o, wide);
            });
          });
          const single = (value: () => F32): void => {
            start();
            upTo(k, size, 1, () => {
              f.emit(f32.store(o, value()));
              f.inc(a, 4);
              f.inc(o, wide);
            });
          };
          upTo(j, p.n, 1, () => single(() => f32.load(a)));
          upTo(j, p.width, 1, () => single(() => f32.const(0)));
          f.inc(first, BLOCK);
        },
      );
    };
    f.times(p.count, () => {
      if (across) copied();
      else woven();
      f.inc(p.src, p.fromMove);
      f.inc(p.dst, p.toMove);
    });
  });
