import { spawn } from 'node:child_process';

/** A step that ended with a non-zero status; its output has been printed already. */
export class StepFailed extends Error {
  /**
   * @param {string} message
   * @param {number} status exit status to end the whole command with
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * One short line for a person. Always on stderr: stdout belongs to the program that is run.
 *
 * @param {string} line
 */
export function say(line) {
  process.stderr.write(`iommukit: ${line}\n`);
}

/**
 * @param {number} since `performance.now()` of the start
 * @returns {string} such as `3.4 s`
 */
export function elapsed(since) {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}

/** @typedef {{ cwd?: string, env?: NodeJS.ProcessEnv, onLine?: (line: string) => void }} RunOptions */

/**
 * Runs a program with no input and collects what it prints.
 *
 * @param {string[]} command program and arguments
 * @param {RunOptions} [options] `onLine` sees every line as it arrives
 * @returns {Promise<{ status: number, output: string, stdout: string }>} `output` has both streams
 */
export function capture(command, { cwd, env, onLine } = {}) {
  return new Promise((resolve, reject) => {
    const [program, ...args] = /** @type {[string, ...string[]]} */ (command);
    const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let stdout = '';
    let partial = '';
    const take = (/** @type {string} */ text) => {
      output += text;
      const lines = (partial + text).split('\n');
      partial = lines.pop() ?? '';
      for (const line of lines) onLine?.(line);
    };
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      take(text);
    });
    child.stderr.setEncoding('utf8').on('data', take);
    child.on('error', reject);
    child.on('close', (code, signal) =>
      resolve({ status: exitStatus(code, signal), output, stdout }),
    );
  });
}

/**
 * Runs a step quietly; when it fails, prints everything it said and throws.
 *
 * @param {string} what the step, for the failure message ("install dependencies")
 * @param {string[]} command
 * @param {RunOptions} [options]
 * @throws {StepFailed}
 */
export async function step(what, command, options) {
  const { status, output, stdout } = await capture(command, options);
  if (status === 0) return stdout;
  process.stderr.write(`${output.trimEnd()}\n`);
  throw new StepFailed(
    `could not ${what} (${command.join(' ')} ended with status ${status})`,
    status,
  );
}

/**
 * Runs a program on this process's own input and output.
 *
 * @param {string[]} command
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv }} [options]
 * @returns {Promise<number>} its exit status
 */
export function passThrough(command, { cwd, env } = {}) {
  return new Promise((resolve, reject) => {
    const [program, ...args] = /** @type {[string, ...string[]]} */ (command);
    const child = spawn(program, args, { cwd, env, stdio: 'inherit' });
    // A terminal sends ^C to both; the child decides what it means, and we report its status.
    const wait = () => {};
    process.on('SIGINT', wait);
    const forward = () => child.kill('SIGTERM');
    process.on('SIGTERM', forward);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      process.off('SIGINT', wait);
      process.off('SIGTERM', forward);
      resolve(exitStatus(code, signal));
    });
  });
}

/**
 * @param {number | null} code
 * @param {string | null} signal
 */
function exitStatus(code, signal) {
  if (code !== null) return code;
  return signal === 'SIGINT' ? 130 : signal === 'SIGTERM' ? 143 : 128;
}

/**
 * Runs `main` and sets the exit status; a failed step ends with one line instead of a stack.
 *
 * @param {() => Promise<number>} main
 */
export async function conclude(main) {
  try {
    process.exitCode = await main();
  } catch (error) {
    if (!(error instanceof StepFailed)) throw error;
    say(error.message);
    process.exitCode = error.status || 1;
  }
}
