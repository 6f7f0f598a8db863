// Memory: table bytes per mapped 4 KiB page, and what one more table object costs.
import { createPool, createTable, PROT, vtdSecondStage } from '../dist/index.js';

const RW = PROT.READ | PROT.WRITE;
const pool = createPool();
const inUse = () => pool.stats().usedBytes;

function grown(change) {
  const before = inUse();
  change();
  return inUse() - before;
}

const dense = createTable(pool, vtdSecondStage({ levels: 4 }));
const denseBytes = grown(() => dense.mapRange(1 << 20, 1, 1 << 20, RW));
const sparse = createTable(pool, vtdSecondStage({ levels: 4 }));
const sparseBytes = grown(() => sparse.mapRange(1 << 20, 1, 1, RW));

const tables = [];
globalThis.gc?.();
const heapBefore = process.memoryUsage().heapUsed;
for (let n = 0; n < 1000; n++) tables.push(createTable(pool, vtdSecondStage({ levels: 4 })));
globalThis.gc?.();
const heapPerTable = (process.memoryUsage().heapUsed - heapBefore) / tables.length;

console.log(
  JSON.stringify({ densePerPage: denseBytes / (1 << 20), isolatedPage: sparseBytes, heapPerTable }),
);
