import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { createPool, createTable, tableHandle, vtdSecondStage } from '../src/index.ts';

/**
 * A reader in another thread: looks up frames of a stable and of a changing range for as long as the
 * writer runs, and counts every answer that was never true. After each pass over the ranges it holds no
 * pointer into the tables, which it tells in `passes`: the writer's invalidation.
 */
const READER = `
const { workerData, parentPort } = require('node:worker_threads');
const { bytes, memory, baseHi, origin, scratch, block, control, me, range, outputs } = workerData;
const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
  env: { memory, grow: () => -12, baseHi, origin, scratch },
});
const word = new Int32Array(memory.buffer)[block >>> 2];
const { translate } = instance.exports;
let wrong = 0, looked = 0, mapped = 0;
Atomics.store(control, 2 + me, 1);
while (Atomics.load(control, 0) === 0) {
  for (let i = 0; i < range; i += 1 + (looked & 7)) {
    const stable = translate(word, 1024 * 512 + i % 512);
    if (stable !== 7000 + i % 512) wrong++;
    const found = translate(word, i);
    if (found !== -1) {
      mapped++;
      if (!outputs.includes(found - i)) wrong++;
    }
    looked += 2;
  }
  Atomics.add(control, 2 + me, 1);
}
parentPort.postMessage({ wrong, looked, mapped });
`;

test('one writer and two readers: no reader ever sees what was not mapped', async () => {
  const pool = createPool({ shared: true });
  const format = vtdSecondStage({ levels: 4 });
  const table = createTable(pool, format);
  table.mapRange(1024 * 512, 7000, 512, 3);
  const range = 64 * 512;
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
      outputs,
    };
    return new Worker(READER, { eval: true, workerData });
  });
  const results = readers.map(
    (worker) =>
      new Promise<{ wrong: number; looked: number; mapped: number }>((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      }),
  );
  const passes = () => readers.map((_, me) => Atomics.load(control, 2 + me));
  while (passes().some((n) => n === 0)) await new Promise((resolve) => setTimeout(resolve, 1));

  let waiting = 0; // freed tables, and the passes they wait for
  let wanted: number[] = [];
  const end = performance.now() + 700;
  for (let i = 0; performance.now() < end; i++) {
    const output = outputs[i % outputs.length] as number;
    const from = (i * 977) % 20_000;
    const count = 600 + ((i * 131) % 9000);
    expect(table.mapRange(from, from + output, count, 3)).toBe(0);
    if (i % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(table.unmapRange(from, count)).toBeGreaterThanOrEqual(count);
    const now = passes();
    if (waiting !== 0 && now.every((n, me) => n > (wanted[me] as number) + 1)) {
      table.freeTables(waiting);
      waiting = 0;
    }
    if (waiting === 0) {
      waiting = table.takeFreedTables();
      wanted = now;
    }
  }
  Atomics.store(control, 0, 1);
  for (const { wrong, looked, mapped } of await Promise.all(results)) {
    expect(wrong).toBe(0);
    expect(looked).toBeGreaterThan(10_000);
    expect(mapped).toBeGreaterThan(0);
  }
});
