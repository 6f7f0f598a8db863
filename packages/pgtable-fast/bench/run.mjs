// Benchmarks of the page tables: ours, as built in dist, beside a native anchor (anchor.c), in one run.
//
//   node run.mjs [--json] [--write] [--rounds N] [--op OP]... [--format FORMAT]...
//
// Every measurement has its own process; the processes of one operation run their rounds in turn,
// pinned to one CPU, and the minimum of each is kept. Ratios of minima repeat within a few percent
// on a shared machine, absolute times do not.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measureExtras } from './extras.mjs';
import { FORMATS, TARGETS } from './formats.mjs';
import { describeMachine } from './machine.mjs';
import { compileAnchor, compiler, interleave, Server } from './processes.mjs';
import { markdown, text } from './report.mjs';

const MIN_ROUNDS = 15;
/** The anchors: the one that is judged, and others that put it into proportion. */
const BUILDS = {
  native: ['-O2'],
  // The package has a short path for a single page; this build of the anchor has it too.
  nativeSinglePage: ['-O2', '-DSINGLE_PAGE_PATH=1'],
  // So is it with a batch of look-ups, which keeps the level-1 table from one to the next.
  nativeKeptTable: ['-O2', '-DKEEP_LEVEL_1=1'],
  // Everything the compiler can do on this machine, 512-bit stores included.
  nativeO3: ['-O3', '-march=native'],
};
/** Operations that a build changes; others run on all of them. */
const ONLY = {
  nativeSinglePage: ['map4k', 'unmap4k'],
  nativeKeptTable: ['translate_batch'],
};

function options() {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '30' },
      op: { type: 'string', multiple: true, default: Object.keys(TARGETS) },
      format: { type: 'string', multiple: true, default: Object.keys(FORMATS) },
    },
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < MIN_ROUNDS) {
    throw new Error(
      `--rounds must be a whole number of at least ${MIN_ROUNDS}, got ${values.rounds}`,
    );
  }
  for (const op of values.op) {
    if (!(op in TARGETS))
      throw new Error(`--op must be one of ${Object.keys(TARGETS).join(' ')}, got ${op}`);
  }
  for (const format of values.format) {
    if (!(format in FORMATS)) {
      throw new Error(`--format must be one of ${Object.keys(FORMATS).join(' ')}, got ${format}`);
    }
  }
  return { ...values, rounds };
}

/** Compiles all anchors; undefined where there is no compiler. */
function compileAnchors(directory) {
  if (compiler === undefined) {
    process.stderr.write(
      'No C compiler (gcc, cc or clang) here: the native anchor is skipped, no ratios.\n',
    );
    return undefined;
  }
  return Object.fromEntries(
    Object.entries(BUILDS).map(([name, flags]) => [name, compileAnchor(directory, name, flags)]),
  );
}

/** The contestants of one operation: `[impl, format, server]`. */
function contestants(op, formats, anchors) {
  const file = new URL('ours.mjs', import.meta.url).pathname;
  const list = formats.map((f) => ['ours', f, new Server(process.execPath, [file, op, f])]);
  for (const [impl, program] of Object.entries(anchors ?? {})) {
    if (impl in ONLY && !ONLY[impl].includes(op)) continue;
    list.push([impl, 'vtd-ss', new Server(program, [op])]);
  }
  return list;
}

async function measure({ op: ops, format: formats, rounds }, anchors, onResult) {
  const results = [];
  for (const op of ops) {
    const list = contestants(op, formats, anchors);
    const minima = await interleave(
      list.map(([, , server]) => server),
      rounds,
    );
    for (const [at, [impl, format]] of list.entries()) {
      results.push({ op, impl, format, ns: minima[at] });
      onResult(results.at(-1));
    }
  }
  return results;
}

async function main() {
  const chosen = options();
  if (!existsSync(new URL('../dist/index.js', import.meta.url))) {
    throw new Error('packages/pgtable-fast/dist is missing: run `npm run build` first');
  }
  const directory = mkdtempSync(join(tmpdir(), 'iommukit-bench-'));
  try {
    const anchors = compileAnchors(directory);
    const isJudged = ({ impl }) => impl === 'ours' || impl === 'native';
    const results = await measure(chosen, anchors, (result) => {
      if (chosen.json && isJudged(result)) process.stdout.write(`${JSON.stringify(result)}\n`);
    });
    if (chosen.json && !chosen.write) return;
    const extras = await measureExtras(anchors?.native, results);
    const report = { machine: describeMachine(), rounds: chosen.rounds, results, extras };
    if (!chosen.json) process.stdout.write(text(report));
    if (chosen.write) writeFileSync(new URL('../BENCHMARKS.md', import.meta.url), markdown(report));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

main().catch((error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
