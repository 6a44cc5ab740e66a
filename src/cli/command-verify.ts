import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fail } from '../core/errors.ts';
import { findCases, loosened, readSkips, type Skip, skipOf } from './cases.ts';
import {
  type Command,
  deviceOf,
  type ExitCode,
  type Given,
  list,
  number,
  operatorsGiven,
  print,
  printJson,
  progress,
  text,
} from './command.ts';
import { type CaseResult, verifyCase } from './verify.ts';

/** `sardonyx verify`: cases in the layout of ONNX's backend tests, one after the other. */
export const verifyCommand: Command = {
  name: 'verify',
  summary: 'run recorded cases and compare their results',
  usage: `sardonyx verify DIR… [options]

Runs every case in the folders, and in those below them, and compares the results with the recorded ones. A case is
a folder with model.onnx and test_data_set_N/{input,output}_K.pb, or NAME.onnx with NAME_output_0.pb beside it.

  --device NAME      auto, webgpu, wasm or reference (default auto)
  --strict           fail a case of which a node that computes ran elsewhere than on the device
  --filter TEXT      only cases with TEXT in their name; more than one may be given
  --rtol X --atol X  tolerance: |got - want| <= atol + rtol * |want|, and atol for integers, too
                     (default 1e-3 and 1e-7; models beside a models.json: atol is 1e-4 of the largest magnitude)
  --skip-file FILE   list of { case, device?, reason, rtol?, atol? }: with a tolerance a case is compared
                     more loosely, else skipped (default: test/exceptions.json in a checkout)
  --timeout SECONDS  for one case (default 120)
  --no-optimize      run the graph as it is written
  --operators FILE   a module of JavaScript that exports operators of your own (\`defineOperator\`)
  --json             print, for each case, status, placement of each node, errors and time

Exit status: 0 all passed, 1 a case failed, 2 the request is wrong.`,
  options: {
    operators: { type: 'string' },
    device: { type: 'string' },
    strict: { type: 'boolean' },
    filter: { type: 'string', multiple: true },
    rtol: { type: 'string' },
    atol: { type: 'string' },
    'skip-file': { type: 'string' },
    timeout: { type: 'string' },
    'no-optimize': { type: 'boolean' },
  },
  run: verify,
};

async function verify(folders: readonly string[], given: Given): Promise<ExitCode> {
  if (folders.length === 0) fail('option_invalid', 'verify takes at least one folder; see sardonyx verify --help');
  const device = deviceOf(text(given, 'device') ?? 'auto');
  const rtol = number(given, 'rtol');
  const atol = number(given, 'atol');
  const options = {
    device,
    strict: given['strict'] === true,
    timeout: 1000 * (number(given, 'timeout', 0.001) ?? 120),
    ...(rtol === undefined ? {} : { rtol }),
    ...(atol === undefined ? {} : { atol }),
    ...(given['no-optimize'] ? { optimize: false } : {}),
    ...(await operatorsGiven(given)),
  };
  const skips = skipsOf(text(given, 'skip-file'));
  const filters = list(given, 'filter');
  const cases = folders
    .flatMap(findCases)
    .filter((one) => filters.length === 0 || filters.some((f) => one.name.includes(f)));
  if (cases.length === 0)
    fail(
      'option_invalid',
      `no case in ${folders.join(', ')}${filters.length > 0 ? ` has ${filters.join(' or ')} in its name` : ''}`,
    );

  const json = given['json'] === true;
  const results: CaseResult[] = [];
  const count = (status: CaseResult['status']): number => results.filter((r) => r.status === status).length;
  for (const one of cases) {
    progress(`${results.length + 1}/${cases.length}  ${count('failed')} failed  ${one.name}`);
    const skip = skipOf(one, device, skips);
    const result: CaseResult = skip
      ? { name: one.name, status: 'skipped', message: skip.reason, nodes: [], maxAbs: 0, maxRel: 0, ms: 0 }
      : await verifyCase(loosened(one, device, skips), options);
    results.push(result);
    if (result.status === 'failed' && !json) {
      progress('');
      print(`FAIL ${result.name}: ${result.message}`);
    }
  }
  progress('');
  const totals = { passed: count('passed'), failed: count('failed'), skipped: count('skipped') };
  if (json) printJson({ device, ...totals, cases: results });
  else print(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
  return totals.failed > 0 ? 1 : 0;
}

function skipsOf(file: string | undefined): readonly Skip[] {
  if (file !== undefined) return readSkips(file);
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== dirname(folder); folder = dirname(folder)) {
    if (!existsSync(join(folder, 'package.json'))) continue;
    const own = join(folder, 'test', 'exceptions.json');
    return existsSync(own) ? readSkips(own) : [];
  }
  return [];
}
