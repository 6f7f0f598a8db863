// The results as text for people, and as BENCHMARKS.md.
import { cpus, totalmem } from 'node:os';

/** @typedef {{ op: string, what: string, run: readonly string[] }} Operation `run`: file, arguments */
/** @typedef {{ op: string, ns?: number, bytes?: number, ramBytes?: number }} Measurement per unit */

/** @param {number | undefined} ns */
function time(ns) {
  if (ns === undefined) return '';
  if (ns >= 10_000) return `${(ns / 1000).toFixed(1)} us`;
  return `${ns.toFixed(ns < 100 ? 1 : 0)} ns`;
}

/** @param {number | undefined} bytes */
const size = (bytes) => (bytes === undefined ? '' : `${Math.round(bytes)} B`);

const HEAD = ['operation', 'time', 'heap and buffers', 'RAM of the machine', 'one unit'];

/**
 * @param {readonly Operation[]} operations
 * @param {readonly Measurement[]} results
 */
function rows(operations, results) {
  return operations.flatMap(({ op, what }) =>
    results
      .filter((result) => result.op === op)
      .map(({ ns, bytes, ramBytes }) => [op, time(ns), size(bytes), size(ramBytes), what]),
  );
}

/**
 * The human form of a run.
 *
 * @param {readonly Operation[]} operations
 * @param {readonly Measurement[]} results
 * @param {number} rounds
 */
export function text(operations, results, rounds) {
  const all = [HEAD, ...rows(operations, results)];
  const widths = HEAD.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  const lines = all.map((row) =>
    row
      .map((cell, i) =>
        i === 0 || i === 4 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
  return `minima of ${rounds} rounds\n${lines.join('\n')}\n`;
}

/**
 * BENCHMARKS.md.
 *
 * @param {object} report
 * @param {string} report.name folder of the package
 * @param {string} report.about a paragraph
 * @param {readonly Operation[]} report.operations
 * @param {readonly Measurement[]} report.results
 * @param {number} report.rounds
 */
export function markdown({ name, about, operations, results, rounds }) {
  const table = [HEAD, ['---', '---:', '---:', '---:', '---'], ...rows(operations, results)]
    .map((row) => `| ${row.join(' | ')} |`)
    .join('\n');
  return `# Benchmarks of @iommukit/${name}

Written by \`node packages/${name}/bench/run.mjs --write\`. Run it yourself: \`npm run bench\`.

| | |
|---|---|
| CPU | ${cpus()[0]?.model.trim() ?? 'unknown'}, ${cpus().length} cores |
| memory | ${Math.round(totalmem() / 2 ** 30)} GiB |
| system | ${process.platform} ${process.arch} |
| node | ${process.version} (V8 ${process.versions.v8}) |
| rounds | ${rounds}, the minimum of each; each operation in its own process; \`scale-*\` but \`scale-miss\` run once |

${about}

${table}
`;
}
