// The measurements of this package: one operation on one format per process, as built in dist.
//
//   node ours.mjs OP FORMAT [ROUNDS]     one JSON line: the minimum over ROUNDS (15)
//   node ours.mjs OP FORMAT --serve      one JSON line per line read from standard input
import { readSync } from 'node:fs';
import * as pgtable from '../dist/index.js';
import { FORMATS } from './formats.mjs';

const { createPool, createTable, PROT } = pgtable;

// The same constants as in anchor.c: an output one frame off forces 4 KiB leaves.
const GIB = 1 << 18;
const IOVA = 4 * GIB;
const OA = 8 * GIB + 1;
const SINGLES = 65536;
const LOOKUPS = 65536;
const BATCH = 1024;

const [op, formatName, mode] = process.argv.slice(2);
const RW = PROT.READ | PROT.WRITE;
const TRACKED = RW | PROT.DIRTY_TRACKED;
const pool = createPool({ prefaultBytes: 16 << 20 });
const table = createTable(pool, FORMATS[formatName](pgtable));

function must(is, wanted, what) {
  if (is !== wanted) throw new Error(`${what} gave ${is}, not ${wanted}`);
}

/** Unmaps everything, which must have been `frames`, and frees the tables. Not timed. */
function unmapAll(frames) {
  must(table.unmapRange(IOVA, GIB), frames, 'unmap 1 GiB');
  table.freeTables(table.takeFreedTables());
}

/** The pseudo-random frames of anchor.c. */
function randomFrames() {
  let x = 1;
  return Float64Array.from({ length: LOOKUPS }, () => {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    return IOVA + ((x >>> 8) & (GIB - 1));
  });
}

const lookups = randomFrames();
const batches = Array.from({ length: LOOKUPS / BATCH }, (_, i) =>
  lookups.subarray(i * BATCH, (i + 1) * BATCH),
);
const lookupSum = lookups.reduce((sum, pfn) => sum + pfn - IOVA + OA, 0);
const results = new Float64Array(BATCH);
const bitmap = new Uint8Array(GIB / 8);

// What is timed. Functions of their own: a loop between two clock readings stays in the code that
// replaced it half-way, which is slower than what a caller sees (5 ns per look-up on Node 20).

const map1g = () => table.mapRange(IOVA, OA, GIB, RW);

function map2m() {
  let errors = 0;
  for (let at = 0; at < GIB; at += 512) errors |= table.mapRange(IOVA + at, OA + at, 512, RW);
  return errors;
}

function map4k() {
  let errors = 0;
  for (let at = 0; at < SINGLES; at++) errors |= table.mapRange(IOVA + at, OA + at, 1, RW);
  return errors;
}

function unmap4k() {
  let frames = 0;
  for (let at = 0; at < SINGLES; at++) frames += table.unmapRange(IOVA + at, 1);
  return frames;
}

/** 2 MiB windows that end in the middle of two leaf tables, whose other halves stay mapped. */
function unmap2mStraddle() {
  let frames = 0;
  for (let at = 256; at < GIB; at += 1024) frames += table.unmapRange(IOVA + at, 512);
  return frames;
}

function translate() {
  let sum = 0;
  for (let i = 0; i < LOOKUPS; i++) sum += table.translate(lookups[i]);
  return sum;
}

function translateBatch() {
  for (let i = 0; i < batches.length; i++) table.translateBatch(batches[i], results, BATCH);
  return results[BATCH - 1];
}

const dirty = () => table.readAndClearDirty(IOVA, GIB, bitmap, 0);

// Around it, not timed.

const mapAll = (prot = RW) => must(table.mapRange(IOVA, OA, GIB, prot), 0, 'map 1 GiB');

function makeDirty() {
  for (let at = 0; at < GIB; at++) table.setAccessedDirty(IOVA + at, true);
}

function prepareDirty() {
  mapAll(TRACKED);
  dirty(); // some formats map pages as dirty
  bitmap.fill(0);
}

function checkBitmap(byte) {
  must(
    bitmap.every((found) => found === byte),
    true,
    'dirty bits',
  );
  bitmap.fill(0);
}

/**
 * once, before: not timed. timed: returns `gives`. units: what `ns` is per. repeat: calls per round,
 * each with its `before` and `after`; the best one counts, because the first after another process
 * had the CPU finds cold caches.
 */
const OPS = {
  map1g: { timed: map1g, gives: 0, after: () => unmapAll(GIB), units: 1, repeat: 4 },
  map2m: { timed: map2m, gives: 0, after: () => unmapAll(GIB), units: GIB / 512, repeat: 4 },
  map4k: { timed: map4k, gives: 0, after: () => unmapAll(SINGLES), units: SINGLES },
  unmap4k: {
    before: () => mapAll(),
    timed: unmap4k,
    gives: SINGLES,
    after: () => unmapAll(GIB - SINGLES),
    units: SINGLES,
  },
  unmap2m_straddle: {
    before: () => mapAll(),
    timed: unmap2mStraddle,
    gives: GIB / 2,
    after: () => unmapAll(GIB / 2),
    units: GIB / 1024,
    repeat: 4,
  },
  translate: {
    once: () => mapAll(),
    timed: translate,
    gives: lookupSum,
    units: LOOKUPS,
    repeat: 4,
  },
  translate_batch: {
    once: () => mapAll(),
    timed: translateBatch,
    gives: lookups[LOOKUPS - 1] - IOVA + OA,
    units: batches.length,
    repeat: 4,
  },
  dirty_none: {
    once: prepareDirty,
    timed: dirty,
    gives: 0,
    after: () => checkBitmap(0),
    units: GIB,
    repeat: 4,
  },
  dirty_all: {
    once: prepareDirty,
    before: makeDirty,
    timed: dirty,
    gives: GIB,
    after: () => checkBitmap(255),
    units: GIB,
    repeat: 4,
  },
};

const { once, before, timed, gives, after, units, repeat = 1 } = OPS[op];

/** One round: nanoseconds per unit. */
function round() {
  let ms = Number.POSITIVE_INFINITY;
  for (let n = 0; n < repeat; n++) {
    before?.();
    const start = performance.now();
    const result = timed();
    ms = Math.min(ms, performance.now() - start);
    must(result, gives, op);
    after?.();
  }
  return (ms * 1e6) / units;
}

const print = (ns) =>
  process.stdout.write(`${JSON.stringify({ op, impl: 'ours', format: formatName, ns })}\n`);

once?.();
// Until the optimising compiler has seen the operation; the rounds after it are what is compared.
for (const end = performance.now() + 200; performance.now() < end; ) round();
if (mode === '--serve') {
  const byte = new Uint8Array(1);
  while (readSync(0, byte, 0, 1) === 1) if (byte[0] === 10) print(round());
} else {
  let best = Number.POSITIVE_INFINITY;
  for (let rounds = Number(mode ?? 15); rounds > 0; rounds--) best = Math.min(best, round());
  print(best);
}
