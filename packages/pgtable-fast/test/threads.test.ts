import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { createPool, createTable, tableHandle, vtdSecondStage } from '../src/index.ts';

/**
 * A reader in another thread: looks up frames of a stable and of a changing range for as long as the
 * writer runs, and counts every answer that was never true. Like hardware with a paging-structure cache it
 * also keeps pointers to leaf tables for a whole pass, and reads entries through them. After each pass it
 * holds no pointer into the tables, which it tells in `passes`: the writer's invalidation.
 */
const READER = `
const { workerData, parentPort } = require('node:worker_threads');
const { bytes, memory, baseHi, origin, scratch, block, control, me, range, singles, outputs } = workerData;
const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
  env: { memory, grow: () => -12, baseHi, origin, scratch },
});
const words = new Int32Array(memory.buffer);
const word = words[block >>> 2];
const { translate } = instance.exports;
let wrong = 0, looked = 0, mapped = 0, cachedWrong = 0, cachedMapped = 0, single = 0;

// Offset of the table that an entry points to, 0 when it does not.
function below(table, index) {
  const lo = table === 0 ? 0 : Atomics.load(words, (table >>> 2) + 2 * index);
  return (lo & 0x83) === 3 ? lo & -4096 : 0; // PS, W, R
}
// Leaf tables of the changing range, as they are now.
function leafTables() {
  const directory = below(below(word & -4096, 0), 0);
  return Array.from({ length: range / 512 }, (_, i) => below(directory, i));
}
// A leaf table is a table of one level: its top word as topWord() makes it.
const lookUpIn = (table, index) => translate(table | (9 << 6) | 1, index);

Atomics.store(control, 2 + me, 1);
while (Atomics.load(control, 0) === 0) {
  const cached = leafTables();
  for (let i = 0; i < range; i += 1 + (looked & 7)) {
    const stable = translate(word, 1024 * 512 + i % 512);
    if (stable !== 7000 + i % 512) wrong++;
    const found = translate(word, i);
    if (found !== -1) {
      mapped++;
      if (!outputs.includes(found - i)) wrong++;
    }
    const page = translate(word, singles + i % 4);
    if (page !== -1) {
      single++;
      if (!outputs.includes(page - singles - i % 4)) wrong++;
    }
    looked += 3;
    // One entry of each leaf table in turn: any of them may be built at this moment.
    const any = (looked * 512 + 511) % range;
    const entry = translate(word, any);
    if (entry !== -1 && !outputs.includes(entry - any)) wrong++;
  }
  for (let i = 0; i < range; i += 5) {
    const table = cached[i >>> 9];
    const found = table === 0 ? -1 : lookUpIn(table, i & 511);
    if (found === -1) continue;
    cachedMapped++;
    if (!outputs.includes(found - i)) cachedWrong++;
  }
  const reached = Math.min(mapped, cachedMapped, single);
  Atomics.store(control, 4 + me, reached);
  Atomics.add(control, 2 + me, 1);
}
parentPort.postMessage({ wrong, looked, mapped, cachedWrong, cachedMapped, single });
`;

/** What a reader counts. */
interface Counts {
  wrong: number;
  looked: number;
  mapped: number;
  cachedWrong: number;
  cachedMapped: number;
  single: number;
}

test('one writer and two readers: no reader ever sees what was not mapped', async () => {
  const pool = createPool({ shared: true });
  const format = vtdSecondStage({ levels: 4 });
  const table = createTable(pool, format);
  table.mapRange(1024 * 512, 7000, 512, 3);
  const range = 64 * 512;
  const singles = 512 * 512;
  const outputs = [1, 2 ** 21 + 3, 2 ** 30];
  const control = new Int32Array(new SharedArrayBuffer(64));
  const handle = pool.handle();
  const bytes = Buffer.from(format.engine.SHARED, 'base64');
  const baseHi = Math.floor(pool.base / 2 ** 32);
  const shard = pool.shards[0];
  const readers = [0, 1].map((me) => {
    const scratch = me === 0 ? handle.scratchOffsets[0] : pool.handle().scratchOffsets[0];
    const { block } = tableHandle(table);
    const workerData = {
      bytes,
      memory: handle.memories[0],
      baseHi,
      origin: shard?.byteOffset,
      scratch,
      block,
      control,
      me,
      range,
      singles,
      outputs,
    };
    return new Worker(READER, { eval: true, workerData });
  });
  const results = readers.map(
    (worker) =>
      new Promise<Counts>((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      }),
  );
  const passes = () => readers.map((_, me) => Atomics.load(control, 2 + me));
  while (passes().some((n) => n === 0)) await new Promise((resolve) => setTimeout(resolve, 1));

  let waiting = 0; // freed tables, and the passes they wait for
  let wanted: number[] = [];
  // Long enough for every reader to have met every kind of mapping, also on a busy machine.
  const start = performance.now();
  const reached = () => readers.every((_, me) => Atomics.load(control, 4 + me) > 0);
  // Only memory of tables that left the tree shows whether a table is seen before it is complete.
  let reused = 0;
  const isOver = (ms: number) => (ms > 700 && reached() && reused > 30) || ms > 15_000;
  for (let i = 0; !isOver(performance.now() - start); i++) {
    const output = outputs[i % outputs.length] as number;
    const from = (i * 977) % 20_000;
    const count = 600 + ((i * 131) % 9000);
    expect(table.mapRange(from, from + output, count, 3)).toBe(0);
    if (i % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(table.unmapRange(from, count)).toBeGreaterThanOrEqual(count);
    // Single pages whose outputs differ in both halves of their entries; the last four stay for a while.
    for (let page = 0; page < 64; page++) {
      const at = singles + (page % 4);
      if (i > 0 || page >= 4) expect(table.unmapRange(at, 1)).toBe(1);
      const frame = at + (outputs[(i + page) % outputs.length] as number);
      expect(table.mapRange(at, frame, 1, 3)).toBe(0);
    }
    const now = passes();
    if (waiting !== 0 && now.every((n, me) => n > (wanted[me] as number) + 1)) {
      table.freeTables(waiting);
      waiting = 0;
      reused++;
    }
    if (waiting === 0) {
      waiting = table.takeFreedTables();
      wanted = now;
    }
  }
  Atomics.store(control, 0, 1);
  for (const counts of await Promise.all(results)) {
    expect(counts).toMatchObject({ wrong: 0, cachedWrong: 0 });
    expect(counts.looked).toBeGreaterThan(10_000);
    for (const reached of [counts.mapped, counts.cachedMapped, counts.single]) {
      expect(reached).toBeGreaterThan(0);
    }
  }
});
