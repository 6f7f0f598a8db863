import { existsSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';

/** What the user asked for. */
export interface Options {
  /** File to stream. */
  readonly file: string;
  /** Print one JSON object instead of text. */
  readonly json: boolean;
  /** Guest RAM in MiB. */
  readonly guestMib: number;
}

/** Below this the buffers, tables and queues do not fit. */
const SMALLEST_GUEST_MIB = 16;
const LARGEST_GUEST_MIB = 4096;
const DEFAULT_GUEST_MIB = 256;

const guestMib = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < SMALLEST_GUEST_MIB || value > LARGEST_GUEST_MIB) {
    throw new InvalidArgumentError(
      `'${text}' is not a whole number from ${SMALLEST_GUEST_MIB} to ${LARGEST_GUEST_MIB}.`,
    );
  }
  return value;
};

const existing = (path: string): string => {
  if (!existsSync(path)) throw new InvalidArgumentError('No such file.');
  return path;
};

/**
 * Read the command line. Prints help or a message and ends the process (status 0 or 2) where
 * there is nothing to run.
 */
export const parseOptions = (argv: readonly string[]): Options => {
  const command = new Command('npm start --')
    .description(
      'Stream a file into a guest by DMA: a block device with a PASID behind a VT-d unit, nested ' +
        'translation, page requests; then hash what arrived.',
    )
    .argument('[file]', 'file to stream; without one, the running Node binary', existing)
    .option('--json', 'print one JSON object')
    .option('--guest-mib <n>', 'guest RAM in MiB', guestMib, DEFAULT_GUEST_MIB)
    .configureOutput({ outputError: (text, write) => write(text) })
    .showHelpAfterError('(npm start -- --help shows the options)')
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
    .parse(argv, { from: 'user' });
  const { json = false, guestMib: mib } = command.opts<{ json?: boolean; guestMib: number }>();
  return { file: command.args[0] ?? process.execPath, json, guestMib: mib };
};
