// The measurements of this package: one operation on one format per process, as built in dist.
//
//   node ours.mjs OP FORMAT [ROUNDS]     one JSON line: the minimum over ROUNDS (15)
//   node ours.mjs OP FORMAT --serve      one JSON line per line read from standard input
import { readSync } from 'node:fs';
import * as pgtable from '../dist/index.js';
import { FORMATS } from './formats.mjs';

const { createPool, createTable, PROT } = pgtable;

/** The same constants as in anchor.c: an output one frame off forces 4 KiB leaves. */
const GIB = 1 << 18;
const IOVA = 4 * GIB;
const OA = 8 * GIB + 1;
const SINGLES = 65536;
const LOOKUPS = 65536;

const [op, formatName, mode] = process.argv.slice(2);
const READ_WRITE = PROT.READ | PROT.WRITE;
const pool = createPool({ prefaultBytes: 16 << 20 });
const table = createTable(pool, FORMATS[formatName](pgtable));
const prot = op.startsWith('dirty') ? READ_WRITE | PROT.DIRTY_TRACKED : READ_WRITE;

function must(is, wanted, what) {
  if (is !== wanted) throw new Error(`${what} gave ${is}, not ${wanted}`);
}
const now = () => performance.now() * 1e6;
const mapAll = () => must(table.mapRange(IOVA, OA, GIB, prot), 0, 'map 1 GiB');
function unmapAll(frames) {
  const unmapped = table.unmapRange(IOVA, GIB);
  if (frames !== undefined) must(unmapped, frames, 'unmap 1 GiB');
  table.freeTables(table.takeFreedTables());
}

function map1g() {
  let total = 0;
  for (let i = 0; i < 4; i++) {
    const start = now();
    const error = table.mapRange(IOVA, OA, GIB, READ_WRITE);
    total += now() - start;
    must(error, 0, 'map 1 GiB');
    unmapAll(GIB);
  }
  return total / 4;
}

function map2m() {
  let errors = 0;
  const start = now();
  for (let at = 0; at < GIB; at += 512)
    errors |= table.mapRange(IOVA + at, OA + at, 512, READ_WRITE);
  const ns = now() - start;
  must(errors, 0, 'map 2 MiB');
  unmapAll(GIB);
  return ns / 512;
}

function map4k() {
  let errors = 0;
  const start = now();
  for (let at = 0; at < SINGLES; at++) errors |= table.mapRange(IOVA + at, OA + at, 1, READ_WRITE);
  const ns = now() - start;
  must(errors, 0, 'map 4 KiB');
  unmapAll(SINGLES);
  return ns / SINGLES;
}

function unmap4k() {
  let frames = 0;
  mapAll();
  const start = now();
  for (let at = 0; at < SINGLES; at++) frames += table.unmapRange(IOVA + at, 1);
  const ns = now() - start;
  must(frames, SINGLES, 'unmap 4 KiB');
  unmapAll(GIB - SINGLES);
  return ns / SINGLES;
}

/** 2 MiB windows that end in the middle of two leaf tables, whose other halves stay mapped. */
function unmap2mStraddle() {
  let frames = 0;
  mapAll();
  const start = now();
  for (let at = 256; at < GIB; at += 1024) frames += table.unmapRange(IOVA + at, 512);
  const ns = now() - start;
  must(frames, 256 * 512, 'unmap 2 MiB');
  unmapAll(GIB / 2);
  return ns / 256;
}

/** The pseudo-random frames of anchor.c. */
function randomLookups() {
  let x = 1;
  const next = () => {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    return x >>> 8;
  };
  return Float64Array.from({ length: LOOKUPS }, () => IOVA + (next() & (GIB - 1)));
}

let lookups;
let batches;
const results = new Float64Array(1024);
const sink = new Float64Array(1);

function prepareLookups() {
  mapAll();
  lookups = randomLookups();
  batches = Array.from({ length: LOOKUPS / 1024 }, (_, i) =>
    lookups.subarray(i * 1024, (i + 1) * 1024),
  );
  for (const pfn of lookups) must(table.translate(pfn), pfn - IOVA + OA, 'translate');
}

function translate() {
  let sum = 0;
  const start = now();
  for (let i = 0; i < LOOKUPS; i++) sum += table.translate(lookups[i]);
  const ns = now() - start;
  sink[0] = sum;
  return ns / LOOKUPS;
}

function translateBatch() {
  const start = now();
  for (let i = 0; i < batches.length; i++) table.translateBatch(batches[i], results, 1024);
  const ns = now() - start;
  must(results[1023], lookups[LOOKUPS - 1] - IOVA + OA, 'translate');
  return ns / batches.length;
}

const bitmap = new Uint8Array(GIB / 8);

function dirty(all) {
  let total = 0;
  for (let i = 0; i < 4; i++) {
    bitmap.fill(0);
    for (let at = 0; all && at < GIB; at++) table.setAccessedDirty(IOVA + at, true);
    const start = now();
    const count = table.readAndClearDirty(IOVA, GIB, bitmap, 0);
    total += now() - start;
    must(count, all ? GIB : 0, 'dirty frames');
    must(
      bitmap.every((byte) => byte === (all ? 255 : 0)),
      true,
      'dirty bits',
    );
  }
  return total / 4 / GIB;
}

function prepareDirty() {
  mapAll();
  table.readAndClearDirty(IOVA, GIB, bitmap, 0);
}

const OPS = {
  map1g: { run: map1g },
  map2m: { run: map2m },
  map4k: { run: map4k },
  unmap4k: { run: unmap4k },
  unmap2m_straddle: { run: unmap2mStraddle },
  translate: { prepare: prepareLookups, run: translate },
  translate_batch: { prepare: prepareLookups, run: translateBatch },
  dirty_none: { prepare: prepareDirty, run: () => dirty(false) },
  dirty_all: { prepare: prepareDirty, run: () => dirty(true) },
};

const print = (ns) =>
  process.stdout.write(`${JSON.stringify({ op, impl: 'ours', format: formatName, ns })}\n`);

const { prepare, run } = OPS[op];
prepare?.();
// Until the optimising compiler has seen the operation; the rounds after it are what is compared.
for (const end = now() + 150e6; now() < end; ) run();
if (mode === '--serve') {
  const byte = new Uint8Array(1);
  while (readSync(0, byte, 0, 1) === 1) if (byte[0] === 10) print(run());
} else {
  let best = Number.POSITIVE_INFINITY;
  for (let rounds = Number(mode ?? 15); rounds > 0; rounds--) best = Math.min(best, run());
  print(best);
}
