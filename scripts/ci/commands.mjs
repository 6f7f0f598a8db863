import { existsSync, readFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { capture } from '../lib/run.mjs';
import { ROOT } from '../lib/workspace.mjs';
import { must, mustRun } from './report.mjs';

/** @typedef {import('./report.mjs').Report} Report */

/**
 * The README's `npm start`, for a person and for a program.
 *
 * @param {Report} report
 */
export async function checkStart(report) {
  await report.check('npm start', async () => {
    const stdout = await mustRun([...npm(), 'start'], { cwd: ROOT });
    must(stdout.trim() !== '', 'it printed nothing');
  });
  await report.check('npm start --silent -- --json', async () => {
    const stdout = await mustRun([...npm(), 'start', '--silent', '--', '--json'], { cwd: ROOT });
    const parsed = parseJson(stdout);
    must(parsed !== undefined, `stdout is not one JSON document:\n${stdout.slice(0, 2000)}`);
  });
}

/**
 * The README's `npm test`; every test counts as one result.
 *
 * @param {Report} report
 * @param {string} scratch directory for the test runner's own report
 */
export async function checkTests(report, scratch) {
  const file = join(scratch, 'vitest.json');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  await report.check('npm test', async () => {
    const { status, output } = await capture([...npm(), 'test', '--', ...reporters], { cwd: ROOT });
    const results = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined;
    if (results) report.add(results.numPassedTests, failedTests(results));
    must(status === 0, `npm test ended with status ${status}:\n${output}`);
    must(results?.numPassedTests > 0, 'no test ran');
    const skipped = results.numPendingTests + results.numTodoTests;
    console.log(`      ${results.numPassedTests} tests passed, ${skipped} skipped`);
  });
}

/** @typedef {{ status: string, fullName: string }} Assertion */

/** @typedef {{ name: string, status: string, assertionResults: Assertion[] }} TestFile */

/** @param {{ testResults: TestFile[] }} results */
function failedTests({ testResults }) {
  return testResults.flatMap(({ name, status, assertionResults }) => {
    const file = relative(ROOT, name);
    const failed = assertionResults.filter((one) => one.status === 'failed');
    // A file that does not even load has no tests to name.
    if (status === 'failed' && failed.length === 0) return [`${file} (the file itself)`];
    return failed.map(({ fullName }) => `${file}: ${fullName}`);
  });
}

/** The npm that runs us, or the one on PATH. */
export function npm() {
  const running = process.env.npm_execpath ?? '';
  return basename(running) === 'npm-cli.js' ? [process.execPath, running] : ['npm'];
}

/** @param {string} text */
function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
