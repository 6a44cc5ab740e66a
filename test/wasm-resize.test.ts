import { test } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { tensor } from '../src/core/tensor.ts';
import { resize } from '../kernels/resize.ts';
import { COORDINATE_MODES, NEAREST_MODES } from '../kernels/taps.ts';
import { agree, CAPS, source } from './wasm-device.ts';

const op = resize[0]!;
const TYPES: readonly DType[] = ['float32', 'float16', 'bfloat16', 'uint8', 'int8', 'uint16', 'int16'];

test('resize in every mode', async () => {
  const s = source();
  for (let n = 0; n < 160; n++) {
    const mode = s.pick(['nearest', 'linear', 'cubic']);
    const how = s.pick(COORDINATE_MODES);
    const shape = Array.from({ length: s.int(1, 4) }, () => s.int(1, 7));
    const d =
      mode === 'nearest' && how !== 'tf_crop_and_resize'
        ? s.pick<DType>([...TYPES, 'int64', 'complex128', 'bool'])
        : s.pick(TYPES);
    const x =
      d === 'complex128'
        ? { dtype: d, shape, data: Float64Array.from({ length: 2 * shape.reduce((a, b) => a * b, 1) }, (_, i) => i) }
        : s.tensor(d, shape);
    const sizes = shape.map((v) => (s.next() < 0.3 ? v : s.int(1, 12)));
    const bySize = n % 2 === 0;
    const attrs = {
      mode,
      coordinate_transformation_mode: how,
      nearest_mode: s.pick(NEAREST_MODES),
      extrapolation_value: 1.5,
      ...(mode === 'nearest' ? {} : { antialias: s.int(0, 1), exclude_outside: s.int(0, 1) }),
    };
    const scales = shape.map((v, i) => (sizes[i] === v ? 1 : (sizes[i]! + 0.1) / v));
    const roi =
      how === 'tf_crop_and_resize'
        ? tensor(
            'float32',
            [2 * shape.length],
            [...shape.map(() => 0.2 * s.next()), ...shape.map(() => 0.8 + 0.4 * s.next())],
          )
        : null;
    const inputs = [
      x,
      roi,
      bySize ? null : tensor('float32', [shape.length], scales),
      bySize ? tensor('int64', [shape.length], sizes) : null,
    ];
    const whole = d.includes('int') && mode !== 'nearest';
    await agree(
      op,
      {
        attrs,
        inputs,
        constants: [1, 2, 3],
        caps: CAPS[n % CAPS.length]!,
        ...(whole
          ? { atol: 1, rtol: 0 }
          : d === 'bfloat16'
            ? { atol: 0.05, rtol: 0.02 }
            : d === 'float16'
              ? { atol: 5e-3, rtol: 5e-3 }
              : {}),
      },
      `trial ${n}`,
    );
  }
});
