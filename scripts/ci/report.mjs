import { capture, elapsed, StepFailed } from '../lib/run.mjs';

/** Counts what passed and failed, and prints each check's outcome as it is known. */
export class Report {
  #since = performance.now();
  passed = 0;
  /** @type {string[]} */
  failed = [];

  /**
   * Runs one named check. A check that throws has failed; the others go on.
   *
   * @param {string} name
   * @param {() => Promise<unknown>} run
   * @returns {Promise<boolean>} whether it passed
   */
  async check(name, run) {
    const since = performance.now();
    try {
      await run();
      this.passed += 1;
      console.log(`ok    ${name} (${elapsed(since)})`);
      return true;
    } catch (error) {
      this.failed.push(name);
      const text = error instanceof Error ? error.message : String(error);
      const stack =
        error instanceof CheckFailed || error instanceof StepFailed ? '' : stackOf(error);
      console.log(`FAIL  ${name} (${elapsed(since)})\n${indent(text + stack)}`);
      return false;
    }
  }

  /**
   * Adds results that another runner counted.
   *
   * @param {number} passed
   * @param {string[]} failed
   */
  add(passed, failed) {
    this.passed += passed;
    this.failed.push(...failed);
  }

  /** Prints the summary; its last line is the totals alone. */
  conclude() {
    console.log(`\nall checks took ${elapsed(this.#since)}`);
    for (const name of this.failed) console.log(`failed: ${name}`);
    console.log(`${this.passed} passed, ${this.failed.length} failed`);
    return this.failed.length === 0 ? 0 : 1;
  }
}

/** A check's verdict, as opposed to a mistake in the check. */
class CheckFailed extends Error {}

/**
 * @param {unknown} condition
 * @param {string} message
 * @returns {asserts condition}
 */
export function must(condition, message) {
  if (!condition) throw new CheckFailed(message);
}

/**
 * Runs a program that must succeed; everything it printed becomes the failure's text.
 *
 * @param {string[]} command
 * @param {import('../lib/run.mjs').RunOptions} [options]
 * @returns {Promise<string>} its stdout
 */
export async function mustRun(command, options) {
  const { status, output, stdout } = await capture(command, options);
  must(status === 0, `${command.join(' ')}\nended with status ${status}:\n${output}`);
  return stdout;
}

const indent = (/** @type {string} */ text) => text.trimEnd().replace(/^/gm, '      ');

/** @param {unknown} error */
const stackOf = (error) => `\n${error instanceof Error ? error.stack : ''}`;
