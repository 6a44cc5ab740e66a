import { writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { fail } from '../core/errors.ts';
import { compile } from '../plan.ts';
import {
  type Command,
  dimsOf,
  type ExitCode,
  type Given,
  modelOf,
  operatorsGiven,
  print,
  printJson,
  text,
} from './command.ts';

/** `sardonyx compile`: a model at fixed dims as a file for `sardonyx/run`. */
export const compileCommand: Command = {
  name: 'compile',
  summary: 'write a model at fixed dims as one file that sardonyx/run runs',
  usage: `sardonyx compile MODEL [options]

  --out FILE        where to write (default: the model's name with .plan)
  --device NAME     webgpu or wasm (default webgpu)
  --dims NAME=N,…   sizes of free dims
  --operators FILE  a module of JavaScript that exports operators of your own (\`defineOperator\`)
  --json            print what was written as JSON

The file holds the plan, its shaders or WASM modules, and the weights as kernels want them. It runs on every device of its kind.

Exit status: 0 fine, 2 the request is wrong: among others, a node would run on the host.`,
  options: {
    operators: { type: 'string' },
    out: { type: 'string' },
    device: { type: 'string' },
    dims: { type: 'string', multiple: true },
  },
  run: compileModel,
};

async function compileModel(positionals: readonly string[], given: Given): Promise<ExitCode> {
  const path = modelOf(positionals, 'compile');
  const device = text(given, 'device') ?? 'webgpu';
  if (device !== 'webgpu' && device !== 'wasm')
    fail('option_invalid', `--device must be webgpu or wasm, not ${device}`);
  const file = await compile(path, { device, dims: dimsOf(given), ...(await operatorsGiven(given)) });
  const out = text(given, 'out') ?? `${basename(path).replace(/\.onnx$/, '')}.plan`;
  await writeFile(out, file);
  if (given['json']) printJson({ file: out, bytes: file.byteLength, device });
  else print(`${out}: ${file.byteLength} bytes for ${device}`);
  return 0;
}
