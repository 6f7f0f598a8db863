/**
 * No mark of an access is lost while the leaves that are marked are split, merged and cleaned, and none is
 * left behind where tables have gone.
 */
import { Worker } from 'node:worker_threads';
import { afterAll, expect, test } from 'vitest';
import {
  amdV1,
  armStage1,
  createPool,
  createTable,
  createWalkTrace,
  type PageTable,
  type PageTableFormat,
  PROT,
  tableHandle,
  vtdSecondStage,
  WALK,
} from '../src/index.ts';

const TRACKED = PROT.READ | PROT.WRITE | PROT.DIRTY_TRACKED;
const LEAVES = 16;
const FRAMES = LEAVES * 512;
/** Pages of each leaf that are written to in a round: one of each 16. */
const EACH = 32;

/** Writes to some pages of each leaf in every round, others each time. */
const MARKER = `
const { workerData } = require('node:worker_threads');
const { bytes, memory, baseHi, origin, scratch, block, control, leaves, each } = workerData;
const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
  env: { memory, grow: () => -12, baseHi, origin, scratch },
});
for (let round = 1; ; round++) {
  Atomics.wait(control, 0, round - 1);
  if (Atomics.load(control, 0) < 0) break;
  for (let i = 0; i < leaves * each; i++) {
    const page = (i % leaves) * 512 + (round * 37 + i * 11) % 512;
    if (exports.setAccessedDirty(block, page, 1) !== 0) Atomics.store(control, 2, page);
  }
  Atomics.store(control, 1, round);
}
`;

/** Writes to pages of the first two leaf tables until told to stop, and counts its passes. */
const HASTY_MARKER = `
const { workerData } = require('node:worker_threads');
const { bytes, memory, baseHi, origin, scratch, block, control } = workerData;
const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
  env: { memory, grow: () => -12, baseHi, origin, scratch },
});
while (Atomics.load(control, 0) === 0) {
  for (let page = 0; page < 1024; page += 101) {
    const result = exports.setAccessedDirty(block, page, 1);
    if (result === 0) Atomics.add(control, 3, 1);
    else if (result !== -2) Atomics.store(control, 2, result);
  }
  Atomics.add(control, 1, 1);
}
`;

const marked = (round: number) =>
  Array.from(
    { length: LEAVES * EACH },
    (_, i) => (i % LEAVES) * 512 + ((round * 37 + i * 11) % 512),
  );

/** log2 of the sizes to split to one after the other, pages from one split to the next, size to merge to. */
interface Steps {
  readonly sizes: readonly number[];
  readonly every: number;
  readonly merged: number;
}

const FORMATS: [string, PageTableFormat, Steps][] = [
  ['vtd-ss', vtdSecondStage({ levels: 4 }), { sizes: [12], every: 128, merged: 21 }],
  ['amd-v1, by way of size-coded leaves', amdV1(), { sizes: [19, 16, 12], every: 128, merged: 21 }],
  ['amd-v1, size-coded leaves in place', amdV1(), { sizes: [12], every: 16, merged: 16 }],
  [
    'arm-s1, by way of contiguous groups',
    armStage1({ contiguous: true, dirtyTracking: true }),
    { sizes: [16, 12], every: 128, merged: 21 },
  ],
  [
    'arm-s1, contiguous groups in place',
    armStage1({ contiguous: true, dirtyTracking: true }),
    { sizes: [12], every: 16, merged: 16 },
  ],
];

const pause = () => new Promise((resolve) => setTimeout(resolve, 1));
const workers: Worker[] = [];
afterAll(() => Promise.all(workers.map((worker) => worker.terminate())));

function startMarker(format: PageTableFormat, source = MARKER) {
  const pool = createPool({ shared: true, maxBytes: 512 << 20 });
  const table = createTable(pool, format);
  expect(table.mapRange(0, 4096, FRAMES, TRACKED)).toBe(0);
  const { memories, scratchOffsets } = pool.handle();
  const control = new Int32Array(new SharedArrayBuffer(16));
  const worker = new Worker(source, {
    eval: true,
    workerData: {
      bytes: Buffer.from(format.engine.SHARED, 'base64'),
      memory: memories[0],
      baseHi: Math.floor(pool.base / 2 ** 32),
      origin: pool.shards[0]?.byteOffset,
      scratch: scratchOffsets[0],
      block: tableHandle(table).block,
      control,
      leaves: LEAVES,
      each: EACH,
    },
  });
  workers.push(worker);
  const exit = new Promise<void>((resolve, reject) => {
    worker.once('exit', () => resolve());
    worker.once('error', reject);
  });
  return { table, control, exit };
}

/** Splits every leaf step by step and merges them again, a few times or until the round is over. */
function splitAndMerge(table: PageTable, steps: Steps, isOver: () => boolean): void {
  let passes = 0;
  do {
    for (let at = 0; at < FRAMES; at += 512) {
      for (const lg2 of steps.sizes) {
        for (let page = 0; page < 512; page += steps.every) table.splitLeaf(at + page, lg2);
      }
    }
    table.mergeLeaves(0, FRAMES, steps.merged);
  } while (!isOver() && ++passes < 200);
}

test.each(FORMATS)('%s', async (_, format, steps) => {
  const { table, control, exit } = startMarker(format);
  const bitmap = new Uint8Array(FRAMES / 8);
  table.readAndClearDirty(0, FRAMES, bitmap, 0); // some formats map pages as dirty
  const end = performance.now() + 500;
  const lost: number[][] = [];
  let rounds = 0;
  while (performance.now() < end || rounds < 10) {
    rounds++;
    bitmap.fill(0);
    Atomics.store(control, 0, rounds);
    Atomics.notify(control, 0);
    splitAndMerge(table, steps, () => {
      table.readAndClearDirty(0, FRAMES, bitmap, 0);
      return Atomics.load(control, 1) === rounds;
    });
    while (Atomics.load(control, 1) !== rounds) await Promise.race([exit, pause()]);
    // The marker holds no pointer into tables between rounds.
    table.freeTables(table.takeFreedTables());
    table.readAndClearDirty(0, FRAMES, bitmap, 0);
    for (const page of marked(rounds)) {
      if (((bitmap[page >> 3] as number) & (1 << (page & 7))) === 0) lost.push([rounds, page]);
    }
  }
  Atomics.store(control, 0, -1);
  Atomics.notify(control, 0);
  await exit;
  expect(lost.slice(0, 5)).toEqual([]);
  expect(Atomics.load(control, 2)).toBe(0); // a page that the marker could not write to
  expect(table.stats().mappedPages).toBe(FRAMES);
});

test.each(FORMATS.slice(0, 2))('%s: tables that leave the tree stay gone', async (_, format) => {
  const { table, control, exit } = startMarker(format, HASTY_MARKER);
  expect(table.unmapRange(0, FRAMES)).toBe(FRAMES);
  const passes = () => Atomics.load(control, 1);
  while (passes() === 0) await Promise.race([exit, pause()]);
  const smallest = TRACKED | PROT.SMALLEST_PAGES;
  let waiting = 0; // freed tables, and the pass in which the marker may still know them
  let pass = 0;
  const end = performance.now() + 400;
  // Until pages have been written to, also on a busy machine.
  const isOver = (now: number) => now > end && (Atomics.load(control, 3) > 0 || now > end + 20_000);
  while (!isOver(performance.now())) {
    expect(table.mapRange(0, 4096, 1024, smallest)).toBe(0);
    expect(table.unmapRange(0, 1024)).toBe(1024);
    expect(table.mapRange(0, 4096, 1024, TRACKED)).toBe(0);
    expect(table.unmapRange(0, 1024)).toBe(1024);
    if (waiting !== 0 && passes() > pass + 1) {
      table.freeTables(waiting);
      waiting = 0;
    }
    if (waiting === 0) {
      waiting = table.takeFreedTables();
      pass = passes();
    }
  }
  Atomics.store(control, 0, 1);
  await exit;
  expect(Atomics.load(control, 2)).toBe(0); // an answer that there is none for
  expect(Atomics.load(control, 3)).toBeGreaterThan(0); // pages written to
  const trace = createWalkTrace();
  for (const page of [0, 512]) {
    expect(table.walk(page, trace)).toBe(WALK.NOT_PRESENT);
    const last = trace.steps - 1;
    expect([trace.wordLo[last], trace.wordHi[last]]).toEqual([0, 0]);
  }
  expect(table.stats().mappedPages).toBe(0);
});
