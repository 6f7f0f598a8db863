// The results as text for people, and as BENCHMARKS.md.
import { FORMAT_TARGET, OPERATIONS, TARGETS } from './formats.mjs';

const IMPL_NOTE = {
  nativeSinglePage: 'native with the same short path for one page (no target)',
  nativeKeptTable: 'native that keeps the level-1 table in the same way (no target)',
  nativeO3: 'native, -O3 -march=native (no target)',
};

/** Nanoseconds in a unit that reads well. */
function time(ns) {
  if (ns === undefined) return '-';
  if (ns >= 10_000) return `${(ns / 1000).toFixed(1)} us`;
  return `${ns.toFixed(ns < 10 ? 2 : 0)} ns`;
}

const find = (results, op, impl, format) =>
  results.find((r) => r.op === op && r.impl === impl && r.format === format)?.ns;

/** Rows of the judged table. */
function judged(results) {
  return Object.keys(TARGETS).flatMap((op) => {
    const ours = find(results, op, 'ours', 'vtd-ss');
    if (ours === undefined) return [];
    const native = find(results, op, 'native', 'vtd-ss');
    const ratio = native === undefined ? undefined : ours / native;
    const verdict = ratio === undefined ? '-' : ratio <= TARGETS[op] ? 'met' : 'MISSED';
    return [{ op, ours, native, ratio, target: TARGETS[op], verdict }];
  });
}

/** Rows of the anchors that have no target. */
function proportions(results) {
  return Object.entries(IMPL_NOTE).flatMap(([impl, note]) => {
    const rows = results.filter((r) => r.impl === impl);
    return rows.map(({ op, ns }) => {
      const ours = find(results, op, 'ours', 'vtd-ss');
      return { note, op, ns, ratio: ours === undefined ? undefined : ours / ns };
    });
  });
}

/** Rows of the other formats against vtd-ss. */
function otherFormats(results) {
  return results
    .filter((r) => r.impl === 'ours' && r.format !== 'vtd-ss')
    .map(({ op, format, ns }) => {
      const ratio = ns / find(results, op, 'ours', 'vtd-ss');
      return { op, format, ns, ratio, verdict: ratio <= FORMAT_TARGET ? 'met' : 'MISSED' };
    });
}

const two = (ratio) => (ratio === undefined ? '-' : ratio.toFixed(2));

function align(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  '),
  );
  return `${lines.join('\n').replace(/ +$/gm, '')}\n`;
}

function tables({ results, extras }) {
  const other = otherFormats(results);
  return {
    judged: [
      ['operation', 'ours', 'native', 'ratio', 'target', ''],
      ...judged(results).map((r) => [
        r.op,
        time(r.ours),
        time(r.native),
        two(r.ratio),
        two(r.target),
        r.verdict,
      ]),
    ],
    formats: [
      ['operation', 'format', 'ours', 'to vtd-ss', 'target', ''],
      ...other.map((r) => [
        r.op,
        r.format,
        time(r.ns),
        two(r.ratio),
        two(FORMAT_TARGET),
        r.verdict,
      ]),
    ],
    proportions: [
      ['operation', 'native', 'ours / native', 'anchor'],
      ...proportions(results).map((r) => [r.op, time(r.ns), two(r.ratio), r.note]),
    ],
    extras: [
      ['measurement', 'value', 'target', ''],
      ...extras.map((e) => [
        e.title,
        e.value,
        e.target ?? '',
        e.ok === undefined ? '' : e.ok ? 'met' : 'MISSED',
      ]),
    ],
  };
}

/** The human form of a run. */
export function text(report) {
  const t = tables(report);
  const machine = Object.entries(report.machine).map(([name, value]) => `${name}: ${value}`);
  const parts = [`${machine.join('\n')}\nminima of ${report.rounds} alternating rounds\n`];
  if (t.judged.length > 1)
    parts.push(`VT-d second stage, ours against native C\n${align(t.judged)}`);
  if (t.formats.length > 1) parts.push(`Other formats, ours\n${align(t.formats)}`);
  if (t.proportions.length > 1)
    parts.push(`Against other builds of the anchor\n${align(t.proportions)}`);
  parts.push(`Also measured\n${align(t.extras)}`);
  return `${parts.join('\n')}`;
}

const cells = (row) => `| ${row.join(' | ')} |`;
function table([head, ...rows]) {
  return [
    cells(head),
    cells(head.map((_, i) => (i === 0 ? '---' : '---:'))),
    ...rows.map(cells),
  ].join('\n');
}

/** Bars of ours / native: full blocks up to the ratio, a mark at the target. */
function chart(results) {
  const SCALE = 20; // characters for a ratio of 1
  const lines = judged(results)
    .filter((r) => r.ratio !== undefined)
    .map((r) => {
      const bar = '█'.repeat(Math.max(1, Math.round(r.ratio * SCALE)));
      const at = Math.round(r.target * SCALE);
      const line = bar.length > at ? `${bar.slice(0, at)}│${bar.slice(at)}` : `${bar.padEnd(at)}│`;
      return `${r.op.padEnd(17)}${line.padEnd(2 * SCALE + 2)} ${two(r.ratio)}`;
    });
  return lines.join('\n');
}

/** BENCHMARKS.md. */
export function markdown(report) {
  const t = tables(report);
  const machine = Object.entries(report.machine).map(([name, value]) => `| ${name} | ${value} |`);
  const operations = Object.entries(OPERATIONS).map(([op, what]) => `| \`${op}\` | ${what} |`);
  return `# Benchmarks of @iommukit/pgtable-fast

Written by \`node packages/pgtable-fast/bench/run.mjs --write\`. Ratios of minima repeat within a few percent on a
busy machine; absolute times do not. Run it yourself: \`npm run bench\`.

| | |
|---|---|
${machine.join('\n')}
| rounds | ${report.rounds}, alternating between all processes of an operation; the minimum of each |

## What is compared

*Ours* is this package as built, called from JavaScript through its public methods, each operation in its own
process. *Native* is [\`bench/anchor.c\`](bench/anchor.c), the same algorithm in C, \`-O2\`, called out of line.
Both count: table allocation and clearing, the free list, the search for entries that are already there, the
4-level walk, argument checks. Neither counts: pinning, hardware invalidation, locks. The anchor handles one page
and many by the same code, and each look-up of a batch by itself. Other builds of it, below, have a short path for
one page or keep the level-1 table from one look-up of a batch to the next, as ours does. Ours also
remembers where the last single page was, which pays for pages in order; pages in random order are further below.
A single look-up of ours and an unmap across two leaf tables start at a level-1 table that is remembered; the
anchor walks all four levels.

| operation | one unit |
|---|---|
${operations.join('\n')}

## VT-d second stage against native

Bars: ours / native, shorter is better. \`│\` is the target.

\`\`\`text
${chart(report.results)}
\`\`\`

${table(t.judged)}

## Other formats

4 KiB granule, 4 levels. Targets: at most ${FORMAT_TARGET} times what \`vtd-ss\` takes.

${table(t.formats)}

## Other builds of the anchor

${table(t.proportions)}

\`-O3 -march=native\` stores 512 bits at a time where the machine can; WebAssembly ends at 128.

## Also measured

${table(t.extras)}
`;
}
