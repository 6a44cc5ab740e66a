/** How a window slides over an image: what convolution and pooling share, on every backend. */
import { fail } from '../src/core/errors.ts';
import { sameNumbers } from '../src/core/graph.ts';
import { sizeOf } from '../src/core/tensor.ts';
import { int, ints, string } from './define.ts';

/** Attributes from which a window is resolved, as ONNX has them. */
export interface WindowAttrs {
  readonly auto_pad?: string | undefined;
  readonly kernel_shape?: readonly number[] | undefined;
  readonly strides?: readonly number[] | undefined;
  readonly pads?: readonly number[] | undefined;
  readonly dilations?: readonly number[] | undefined;
  readonly group?: number | undefined;
  /** Pooling: round the output's dims up. */
  readonly ceil_mode?: number | undefined;
}
/** A window with everything resolved; one entry per spatial dim, pads as [begin…, end…]. */
export interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly number[];
  readonly group: number;
  /** Spatial dims of the output. */
  readonly output: readonly number[];
}

/** The attribute schema of a convolution. */
export const convAttrs = {
  auto_pad: string('NOTSET'),
  dilations: ints(),
  group: int(1),
  kernel_shape: ints(),
  pads: ints(),
  strides: ints(),
};

/** `count` integers of at least `least`; all `fallback` where none are given. @throws attribute_invalid */
function list(
  name: string,
  value: readonly number[] | undefined,
  fallback: number,
  count: number,
  least: number,
  rank: number,
): readonly number[] {
  if (value === undefined || value.length === 0) return new Array<number>(count).fill(fallback);
  if (value.length !== count)
    fail('attribute_invalid', `${name} [${value}] must have ${count} entries for an input of ${rank} spatial dims`);
  for (let i = 0; i < count; i++)
    if (!Number.isInteger(value[i]) || value[i]! < least)
      fail('attribute_invalid', `${name} [${value}] must be integers of at least ${least}`);
  return value;
}
const AUTO = new Set(['NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID']);

/** Kernel, strides, dilations and given pads, with their defaults. @throws attribute_invalid */
function basics(
  attrs: WindowAttrs,
  rank: number,
  kernel: readonly number[],
): {
  kernel: readonly number[];
  strides: readonly number[];
  dilations: readonly number[];
  pads: readonly number[];
  group: number;
  auto: string;
} {
  const auto = attrs.auto_pad || 'NOTSET';
  if (!AUTO.has(auto))
    fail('attribute_invalid', `auto_pad ${JSON.stringify(auto)} must be NOTSET, SAME_UPPER, SAME_LOWER or VALID`);
  const shape = list('the kernel', kernel, 1, rank, 1, rank);
  if (attrs.kernel_shape !== undefined && attrs.kernel_shape.length > 0 && !sameNumbers(attrs.kernel_shape, kernel))
    fail('attribute_invalid', `kernel_shape [${attrs.kernel_shape}] is not that of the weights, [${kernel}]`);
  const group = attrs.group ?? 1;
  if (!Number.isInteger(group) || group < 1) fail('attribute_invalid', `group ${group} must be at least 1`);
  return {
    kernel: shape,
    strides: list('strides', attrs.strides, 1, rank, 1, rank),
    dilations: list('dilations', attrs.dilations, 1, rank, 1, rank),
    pads: list('pads', attrs.pads, 0, 2 * rank, 0, rank),
    group,
    auto,
  };
}

/**
 * The window of a convolution or pooling over an input [N, C, ...spatial], with auto_pad, defaults and ceil_mode
 * resolved.
 * `kernel` is the kernel's spatial dims: a Conv's are `weights.shape.slice(2)`. @throws attribute_invalid, shape_mismatch
 */
export function windowOf(attrs: WindowAttrs, input: readonly number[], kernel: readonly number[]): Window {
  if (input.length < 3)
    fail('shape_mismatch', `the input has shape [${input}]; it must be [N, C, ...] with at least one spatial dim`);
  const spatial = input.slice(2);
  const b = basics(attrs, spatial.length, kernel);
  const begin: number[] = [];
  const end: number[] = [];
  const output: number[] = [];
  spatial.forEach((size, i) => {
    const reach = (b.kernel[i]! - 1) * b.dilations[i]! + 1;
    const stride = b.strides[i]!;
    let before = b.auto === 'NOTSET' ? b.pads[i]! : 0;
    let after = b.auto === 'NOTSET' ? b.pads[i + spatial.length]! : 0;
    let out: number;
    if (b.auto.startsWith('SAME')) {
      out = Math.ceil(size / stride);
      const total = Math.max(0, (out - 1) * stride + reach - size);
      before = b.auto === 'SAME_UPPER' ? Math.floor(total / 2) : Math.ceil(total / 2);
      after = total - before;
    } else {
      const room = size + before + after - reach;
      if (room < 0)
        fail(
          'shape_mismatch',
          `a window of ${reach} does not fit spatial dim ${i} of ${size} with padding ${before} and ${after}`,
        );
      out = (attrs.ceil_mode ? Math.ceil(room / stride) : Math.floor(room / stride)) + 1;
      // a window may not start in the padding at the end
      if (attrs.ceil_mode && (out - 1) * stride >= size + before) out--;
    }
    begin.push(before);
    end.push(after);
    output.push(out);
  });
  return {
    kernel: b.kernel,
    strides: b.strides,
    dilations: b.dilations,
    pads: [...begin, ...end],
    group: b.group,
    output,
  };
}

/** The window of a transposed convolution: it slides over the output. @throws attribute_invalid, shape_mismatch */
export function windowOfTranspose(
  attrs: WindowAttrs & {
    readonly output_shape?: readonly number[] | undefined;
    readonly output_padding?: readonly number[] | undefined;
  },
  input: readonly number[],
  kernel: readonly number[],
): Window {
  if (input.length < 3)
    fail('shape_mismatch', `the input has shape [${input}]; it must be [N, C, ...] with at least one spatial dim`);
  const spatial = input.slice(2);
  const rank = spatial.length;
  const b = basics(attrs, rank, kernel);
  const extra = attrs.output_padding?.length ? attrs.output_padding : spatial.map(() => 0);
  if (extra.length !== rank || extra.some((v, i) => v < 0 || v >= Math.max(b.strides[i]!, b.dilations[i]!))) {
    fail(
      'attribute_invalid',
      `output_padding [${extra}] must have ${rank} entries, each less than the stride or the dilation`,
    );
  }
  let wanted = attrs.output_shape?.length ? attrs.output_shape : null;
  if (wanted?.length === rank + 2) wanted = wanted.slice(2);
  if (wanted !== null && (wanted.length !== rank || wanted.some((v) => v < 1)))
    fail('attribute_invalid', `output_shape [${wanted}] must have ${rank} positive entries`);
  const begin: number[] = [];
  const end: number[] = [];
  const output: number[] = [];
  spatial.forEach((size, i) => {
    const full = (size - 1) * b.strides[i]! + extra[i]! + (b.kernel[i]! - 1) * b.dilations[i]! + 1;
    if (wanted === null && !b.auto.startsWith('SAME')) {
      const before = b.auto === 'VALID' ? 0 : b.pads[i]!;
      const after = b.auto === 'VALID' ? 0 : b.pads[i + rank]!;
      if (full - before - after < 1)
        fail('shape_mismatch', `pads [${b.pads}] leave nothing of an output of ${full} in spatial dim ${i}`);
      begin.push(before);
      end.push(after);
      output.push(full - before - after);
      return;
    }
    const out = wanted?.[i] ?? size * b.strides[i]!;
    const total = Math.max(0, full - out);
    const before = b.auto === 'SAME_UPPER' ? Math.floor(total / 2) : Math.ceil(total / 2);
    begin.push(before);
    end.push(total - before);
    output.push(out);
  });
  return {
    kernel: b.kernel,
    strides: b.strides,
    dilations: b.dilations,
    pads: [...begin, ...end],
    group: b.group,
    output,
  };
}

/**
 * Where each tap of the kernel reads: entry [tap, position - from] is an offset into the padded image's `spatial` dims,
 * -1 in the padding. Positions are those of `positions` dims, row-major, from `from` until `to`.
 */
export function tapTable(
  w: Pick<Window, 'kernel' | 'strides' | 'dilations' | 'pads'>,
  spatial: readonly number[],
  positions: readonly number[],
  from = 0,
  to = sizeOf(positions),
): Int32Array {
  const rank = spatial.length;
  const taps = sizeOf(w.kernel);
  const count = to - from;
  const table = new Int32Array(taps * count);
  const at = new Array<number>(rank);
  const tap = new Array<number>(rank).fill(0);
  for (let t = 0; t < taps; t++) {
    for (let d = rank - 1, rest = from; d >= 0; d--) {
      at[d] = rest % positions[d]!;
      rest = Math.floor(rest / positions[d]!);
    }
    for (let p = 0; p < count; p++) {
      let offset = 0;
      for (let d = 0; d < rank; d++) {
        const i = at[d]! * w.strides[d]! - w.pads[d]! + tap[d]! * w.dilations[d]!;
        if (i < 0 || i >= spatial[d]!) {
          offset = -1;
          break;
        }
        offset = offset * spatial[d]! + i;
      }
      table[t * count + p] = offset;
      for (let d = rank - 1; d >= 0 && ++at[d]! === positions[d]!; d--) at[d] = 0;
    }
    for (let d = rank - 1; d >= 0 && ++tap[d]! === w.kernel[d]!; d--) tap[d] = 0;
  }
  return table;
}
