#!/usr/bin/env node
/** The `sardonyx` command. */
import { readFile } from 'node:fs/promises';
import { SardonyxError } from '../core/errors.ts';
import { type Command, type ExitCode, isRequest, print, progress, runCommand, typed } from './command.ts';
import { benchCommand } from './command-bench.ts';
import { compileCommand } from './command-compile.ts';
import { compareCommand } from './command-compare.ts';
import { inspectCommand } from './command-inspect.ts';
import { wrapped } from './help.ts';
import { opsCommand } from './command-ops.ts';
import { profileCommand } from './command-profile.ts';
import { rangesCommand } from './command-ranges.ts';
import { runModelCommand } from './command-run.ts';
import { tuneCommand } from './command-tune.ts';
import { verifyCommand } from './command-verify.ts';
import { respawnWithSoftwareGpu } from './software-gpu.ts';
import { errorText } from './verify.ts';

const COMMANDS: readonly Command[] = [
  runModelCommand,
  inspectCommand,
  compileCommand,
  verifyCommand,
  compareCommand,
  rangesCommand,
  benchCommand,
  profileCommand,
  tuneCommand,
  opsCommand,
];

const USAGE = `sardonyx COMMAND …

${COMMANDS.map((c) => `  ${c.name.padEnd(8)}  ${c.summary}`).join('\n')}

Every command has --help and --json; --version prints which sardonyx this is. Exit status: 0 fine, 1 a result is wrong or a run failed, 2 the request is wrong.`;

async function main(args: readonly string[]): Promise<ExitCode> {
  const [name, ...rest] = args;
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    print(wrapped(USAGE));
    return name === undefined ? 2 : 0;
  }
  if (name === '--version' || name === '-v') {
    print(
      (JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version,
    );
    return 0;
  }
  const command = COMMANDS.find((c) => c.name === name);
  if (!command) {
    process.stderr.write(`sardonyx: there is no command ${JSON.stringify(name)}\n\n${wrapped(USAGE)}\n`);
    return 2;
  }
  try {
    return await runCommand(command, rest);
  } catch (e) {
    progress('');
    // A machine without a GPU has WebGPU in software, if its driver is installed; it must be there when a process
    // starts.
    if (
      e instanceof SardonyxError &&
      e.code === 'device_unavailable' &&
      (name === 'tune' || name === 'compare' || rest.some((arg) => arg.includes('webgpu')))
    )
      await respawnWithSoftwareGpu();
    process.stderr.write(
      `sardonyx ${name}: ${e instanceof SardonyxError ? typed(errorText(e)) : e instanceof Error ? e.stack : String(e)}\n`,
    );
    return isRequest(e) ? 2 : 1;
  }
}

// A reader that has seen enough (`| head`) is no error.
process.stdout.on('error', (e: NodeJS.ErrnoException) => process.exit(e.code === 'EPIPE' ? 0 : 1));
const code = await main(process.argv.slice(2));
// Native handles of a GPU, and a case that ran out of time, would keep the process.
process.stdout.end(() => process.exit(code));
