// Benchmarks of core, as built in dist, through its public index alone: IoPagetable with its
// areas, and IommufdContext for the round trips.
//
//   node run.mjs [--json] [--rounds N] [--op OP]...
//
// Each size and each form of call has its own process; the minimum of the rounds is kept.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';

const MIN_ROUNDS = 15;

/** What one unit of each operation is. */
const OPERATIONS = {
  find: 'find the area that holds an IOVA, random order',
  insert: 'put an area into the index (random hole)',
  remove: 'find it and take it out',
  mapUser: 'IoPagetable.mapUser at a fixed IOVA: checks, pages object, insert',
  unmap: 'IoPagetable.unmap of it',
  'automatic-iova': 'IoPagetable.mapUser of 8 KiB, IOVA chosen; 511 of 512 holes are too small',
  'automatic-unmap': 'IoPagetable.unmap of one of those',
  'same-iova-named': 'the same map call, told the IOVA that was chosen: what is left is the choice',
  'automatic-iova-all': 'as automatic-iova, with every wide hole in turn: few areas are in a cache',
  'ioctl-typed': 'ioasMap + ioasUnmap of 4 KiB, one domain, pinned and charged',
  'ioctl-raw': 'the same as two ioctls; the structs lie in user memory and are reused',
  'memory-area': 'heap and buffers per area, ascending IOVAs, one pages object shared',
  'memory-area-random': 'the same in random order',
  'memory-area-and-pages': 'ascending, a pages object of its own per area',
};

const AREA_OPS = [
  'find',
  'insert',
  'remove',
  'mapUser',
  'unmap',
  'automatic-iova',
  'automatic-unmap',
  'same-iova-named',
  'automatic-iova-all',
];
const MEMORY_OPS = ['memory-area', 'memory-area-random', 'memory-area-and-pages'];

/** Processes to start: file, its arguments in front of the rounds, what it measures. */
const RUNS = [
  ...[1000, 100_000, 1_000_000].map((n) => ['areas.mjs', [String(n)], AREA_OPS]),
  ['ioctl.mjs', ['typed'], ['ioctl-typed']],
  ['ioctl.mjs', ['raw'], ['ioctl-raw']],
  ...MEMORY_OPS.map((op) => ['memory.mjs', [op], [op]]),
];

function options() {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '30' },
      op: { type: 'string', multiple: true, default: Object.keys(OPERATIONS) },
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
  return { json: values.json, rounds, ops: values.op };
}

/** Run one process; its measurements. */
function measure([file, args], rounds) {
  const path = new URL(file, import.meta.url).pathname;
  const text = execFileSync(process.execPath, ['--expose-gc', path, ...args, String(rounds)], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

const value = ({ ns, bytes }) =>
  ns === undefined ? `${bytes.toFixed(1)} B` : `${ns.toFixed(ns < 100 ? 1 : 0)} ns`;

const verdict = ({ ns, bytes, target }) => {
  if (target === undefined) return '';
  // Times must stay below their target, memory may reach it.
  return (ns === undefined ? bytes <= target : ns < target) ? 'met' : 'MISSED';
};

const limit = ({ ns, target }) =>
  target === undefined ? '' : ns === undefined ? `<= ${target} B` : `< ${target} ns`;

function row(cells) {
  const [op, areas, measured, target, ok, what] = cells;
  const left = `${op.padEnd(22)}${areas.padStart(9)}${measured.padStart(11)}${target.padStart(11)}`;
  return `${left}  ${ok.padEnd(7)} ${what}`.trimEnd();
}

function main() {
  const { json, rounds, ops } = options();
  if (!existsSync(new URL('../dist/index.js', import.meta.url))) {
    throw new Error('packages/core/dist is missing: run `npm run build` first');
  }
  const runs = RUNS.filter(([, , measured]) => measured.some((op) => ops.includes(op)));
  if (runs.length === 0) {
    process.stderr.write(`core measures ${Object.keys(OPERATIONS).join(' ')}: nothing to do\n`);
    return;
  }
  if (!json) {
    console.log(`minima of ${rounds} rounds`);
    console.log(row(['operation', 'areas', 'measured', 'target', '', 'one unit']));
  }
  for (const run of runs) {
    for (const result of measure(run, rounds).filter(({ op }) => ops.includes(op))) {
      if (json) console.log(JSON.stringify(result));
      else {
        const areas = result.areas === undefined ? '' : String(result.areas);
        const what = OPERATIONS[result.op];
        console.log(row([result.op, areas, value(result), limit(result), verdict(result), what]));
      }
    }
  }
}

try {
  main();
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
