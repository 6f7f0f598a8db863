/**
 * Everything that README allows beside a writing thread, by the package's own members: the writer is the
 * engine in a worker, the readers are here. Entries change in both halves, so that half of one would show.
 */
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, test } from 'vitest';
import {
  amdV1,
  armStage1,
  attachPool,
  attachTable,
  createPool,
  createTable,
  createWalkTrace,
  type PageTableFormat,
  PROT,
  tableHandle,
  vtdSecondStage,
  x86FirstStage,
} from '../src/index.ts';

const RW = PROT.READ | PROT.WRITE;
const FIRST = 5 * 512 + 500;
const PAGES = 24;
/** Outputs of the pages, which differ in both halves of an entry. */
const OUTPUTS = [0x1_0000 + 7, 2 ** 32 + 2 ** 21 + 3];

/** Maps and unmaps pages, each to one output and then the other, one by one and together, until told to stop. */
const WRITER = `
const { workerData } = require('node:worker_threads');
const { bytes, memory, baseHi, origin, scratch, block, control, first, pages, outputs } = workerData;
const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
  env: { memory, grow: () => -12, baseHi, origin, scratch },
});
function check(is, wanted, what) {
  if (is === wanted) return;
  Atomics.store(control, 2, what * 1000 + (is & 511));
  Atomics.store(control, 0, 1);
}
for (let n = 0; Atomics.load(control, 0) === 0; n++) {
  const output = outputs[n & 1];
  if ((n & 2) === 0) {
    for (let i = 0; i < pages; i++) check(exports.mapOne(block, first + i, output + i, 3), 0, 1);
    for (let i = 0; i < pages; i++) check(exports.unmapOne(block, first + i), 1, 2);
  } else {
    check(exports.mapRange(block, first, output, pages, 3), 0, 3);
    check(exports.unmapRange(block, first, pages), pages, 4);
  }
  Atomics.store(control, 1, n);
}
`;

const FORMATS: [string, PageTableFormat][] = [
  ['vtd-ss', vtdSecondStage({ levels: 4, pageSizesLg2: [12] })],
  ['x86-64', x86FirstStage({ levels: 4, presetAccessedDirty: false })],
  ['amd-v1', amdV1({ pageSizesLg2: [12] })],
  ['arm-s1', armStage1({ dirtyTracking: true })],
];

const workers: Worker[] = [];
afterAll(() => Promise.all(workers.map((worker) => worker.terminate())));

/** A table of which another thread keeps changing a few pages in two leaf tables. */
function start(format: PageTableFormat) {
  const pool = createPool({ shared: true });
  const table = createTable(pool, format);
  // Leaf tables that stay, so that the writer needs no memory.
  for (const at of [FIRST - 1, FIRST + PAGES]) expect(table.mapRange(at, at, 1, RW)).toBe(0);
  const { memories, scratchOffsets } = pool.handle();
  const control = new Int32Array(new SharedArrayBuffer(64));
  const worker = new Worker(WRITER, {
    eval: true,
    workerData: {
      bytes: Buffer.from(format.engine.SHARED, 'base64'),
      memory: memories[0],
      baseHi: Math.floor(pool.base / 2 ** 32),
      origin: pool.shards[0]?.byteOffset,
      scratch: scratchOffsets[0],
      block: tableHandle(table).block,
      control,
      first: FIRST,
      pages: PAGES,
      outputs: OUTPUTS,
    },
  });
  workers.push(worker);
  const exit = new Promise<void>((resolve, reject) => {
    worker.once('exit', () => resolve());
    worker.once('error', reject);
  });
  return { table, control, exit };
}

/** Calls `look` for a while; then the writer stops. Frames that were seen and must never be. */
async function during(
  { control, exit }: { control: Int32Array; exit: Promise<void> },
  look: (page: number) => void,
): Promise<void> {
  while (Atomics.load(control, 1) < 10 && Atomics.load(control, 0) === 0) {
    await Promise.race([exit, new Promise((resolve) => setTimeout(resolve, 1))]);
  }
  const end = performance.now() + 250;
  for (let i = 0; performance.now() < end || i < 20; i++) {
    for (let n = 0; n < 200; n++) look((i + n) % PAGES);
    await new Promise((resolve) => setImmediate(resolve)); // the writer may wait for the same CPU
  }
  Atomics.store(control, 0, 1);
  await exit;
  expect(Atomics.load(control, 2)).toBe(0); // what the writer found wrong
}

const isKnown = (page: number, frame: number) =>
  frame === -1 || OUTPUTS.some((output) => frame === output + page);

describe.each(FORMATS)('%s', (_, format) => {
  test('look-ups, batches, read-back and walks see a page or not, never part of one', async () => {
    const subject = start(format);
    const { table } = subject;
    const wrong: unknown[] = [];
    let mapped = 0;
    let holes = 0;
    const expectKnown = (what: string, page: number, frame: number) => {
      if (frame === -1) holes++;
      else mapped++;
      if (!isKnown(page, frame)) wrong.push([what, page, frame]);
    };
    const trace = createWalkTrace();
    const batch = new Float64Array(PAGES);
    const runs = new Float64Array(4 * PAGES);
    await during(subject, (page) => {
      expectKnown('translate', page, table.translate(FIRST + page));
      expectKnown('walk', page, table.walk(FIRST + page, trace));
      for (let i = 0; i < PAGES; i++) batch[i] = FIRST + i;
      table.translateBatch(batch, batch, PAGES);
      batch.forEach((frame, i) => {
        expectKnown('translateBatch', i, frame);
      });
      const n = table.readRuns(FIRST, PAGES, runs);
      for (let run = 0, at = 0; run < n; run++) {
        const frame = runs[2 * run] as number;
        for (let i = 0; i < (runs[2 * run + 1] as number); i++, at++) {
          expectKnown('readRuns', at, frame === -1 ? -1 : frame + i);
        }
      }
    });
    expect(wrong.slice(0, 5)).toEqual([]);
    expect(Math.min(mapped, holes)).toBeGreaterThan(0);
  });

  test('marks of accesses never bring back what is unmapped', async () => {
    const subject = start(format);
    const { table } = subject;
    const results = new Map<number, number>();
    await during(subject, (page) => {
      const result = table.setAccessedDirty(FIRST + page, page % 2 === 0);
      results.set(result, (results.get(result) ?? 0) + 1);
    });
    expect([...results.keys()].sort((a, b) => a - b)).toEqual([-2, 0]);
    // The writer always ends with nothing mapped, and nothing may be left in the entries.
    expect(table.unmapRange(0, 16 * 512)).toBe(2);
    table.freeTables(table.takeFreedTables());
    expect(table.mapRange(FIRST, 77, PAGES, RW)).toBe(0);
    expect(table.stats().mappedPages).toBe(PAGES);
  });
});

test('walks and marks in a thread that has not seen the memory grow', () => {
  const pool = createPool({ shared: true });
  const format = vtdSecondStage({ levels: 4 });
  const table = createTable(pool, format);
  const view = attachTable(attachPool(pool.handle()), format, tableHandle(table));
  const { size } = pool;
  expect(table.mapRange(0, 1, 8 * 2 ** 18, RW)).toBe(0);
  expect(pool.size).toBeGreaterThan(size);
  const trace = createWalkTrace();
  const last = 8 * 2 ** 18 - 1;
  expect(trace.steps).toBe(0);
  expect([view.translate(last), view.walk(last, trace)]).toEqual([last + 1, last + 1]);
  expect(trace.steps).toBe(4);
  expect(view.setAccessedDirty(last, true)).toBe(0);
  table.walk(last, trace);
  expect([trace.accessed, trace.dirty]).toEqual([true, true]);
});
