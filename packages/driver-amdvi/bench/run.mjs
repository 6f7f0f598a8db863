// Benchmarks of the AMD-Vi unit, as built in dist: DMA, attach, invalidation, and a large machine.
//
//   node run.mjs [--json] [--write] [--rounds N] [--op OP]...
//
// Each operation has its own process; the minimum of the rounds is kept.
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { OPERATIONS, processesFor } from './operations.mjs';
import { markdown, text } from './report.mjs';

const MIN_ROUNDS = 15;

function options() {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '30' },
      op: { type: 'string', multiple: true, default: OPERATIONS.map(({ op }) => op) },
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
  return { json: values.json, write: values.write, rounds, ops: values.op };
}

/** Run one process; its measurements. */
function measure([file, ...args], rounds) {
  const path = new URL(file, import.meta.url).pathname;
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

function main() {
  const { json, write, rounds, ops } = options();
  for (const dir of ['../dist', '../../core/dist']) {
    if (existsSync(new URL(`${dir}/index.js`, import.meta.url))) continue;
    throw new Error('packages/driver-amdvi/dist is missing: run `npm run build` first');
  }
  const processes = processesFor(ops);
  if (processes.length === 0) {
    const known = OPERATIONS.map(({ op }) => op).join(' ');
    process.stderr.write(`driver-amdvi measures ${known}: nothing to do\n`);
    return;
  }
  const results = [];
  for (const run of processes) {
    for (const result of measure(run, rounds).filter(({ op }) => ops.includes(op))) {
      results.push(result);
      if (json) console.log(JSON.stringify(result));
    }
  }
  if (!json) process.stdout.write(text(results, rounds));
  if (write) writeFileSync(new URL('../BENCHMARKS.md', import.meta.url), markdown(results, rounds));
}

try {
  main();
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
