// Benchmarks of an IOMMU unit, as built in dist; packages/driver-*/bench/run.mjs say what is measured.
//
//   node run.mjs [--json] [--write] [--rounds N] [--op OP]...
//
// Each operation has its own process; the minimum of the rounds is kept.
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { markdown, text } from './report.mjs';

const MIN_ROUNDS = 15;

/** @typedef {import('./report.mjs').Operation} Operation */
/** @typedef {import('./report.mjs').Measurement} Measurement */

/**
 * @typedef {object} UnitBench
 * @property {string} url of the driver's script
 * @property {string} name folder of the package
 * @property {readonly Operation[]} operations in the order of the table
 * @property {string} about a paragraph for BENCHMARKS.md
 */

/** @param {readonly Operation[]} operations */
function options(operations) {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '30' },
      op: { type: 'string', multiple: true, default: operations.map(({ op }) => op) },
    },
    // All benches get the same command line; what only another one knows is none of ours.
    strict: false,
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < MIN_ROUNDS) {
    throw new Error(
      `--rounds must be a whole number of at least ${MIN_ROUNDS}, got ${values.rounds}`,
    );
  }
  return { json: values.json, write: values.write, rounds, ops: values.op.map(String) };
}

/**
 * Run one process of the bench at `url`.
 *
 * @param {string} url
 * @param {readonly string[]} run file and arguments
 * @param {number} rounds
 * @returns {Measurement[]}
 */
function measure(url, [file = '', ...args], rounds) {
  const path = new URL(file, url).pathname;
  const all = ['--expose-gc', path, ...args, String(rounds)];
  const output = execFileSync(process.execPath, all, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/**
 * The processes that measure some of the operations.
 *
 * @param {readonly Operation[]} operations
 * @param {readonly string[]} ops
 */
function processesFor(operations, ops) {
  const chosen = operations.filter(({ op }) => ops.includes(op)).map(({ run }) => run);
  return [...new Map(chosen.map((run) => [run.join(' '), run])).values()];
}

/** @param {UnitBench} bench */
function main({ url, name, operations, about }) {
  const { json, write, rounds, ops } = options(operations);
  for (const dir of ['../dist', '../../core/dist']) {
    if (existsSync(new URL(`${dir}/index.js`, url))) continue;
    throw new Error(`packages/${name}/dist is missing: run \`npm run build\` first`);
  }
  const processes = processesFor(operations, ops);
  if (processes.length === 0) {
    const known = operations.map(({ op }) => op).join(' ');
    process.stderr.write(`${name} measures ${known}: nothing to do\n`);
    return;
  }
  const results = [];
  for (const run of processes) {
    for (const result of measure(url, run, rounds).filter(({ op }) => ops.includes(op))) {
      results.push(result);
      if (json) console.log(JSON.stringify(result));
    }
  }
  if (!json) process.stdout.write(text(operations, results, rounds));
  const report = { name, about, operations, results, rounds };
  if (write) writeFileSync(new URL('../BENCHMARKS.md', url), markdown(report));
}

/** @param {UnitBench} bench */
export function runUnitBench(bench) {
  try {
    main(bench);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
  }
}
