// The first call of a fresh process: 1 GiB of 4 KiB pages, nothing warmed up.
//
//   node cold.mjs touched|fresh      whether the pool's memory was touched before
import { createPool, createTable, PROT, vtdSecondStage } from '../dist/index.js';

const start = performance.now();
const options = process.argv[2] === 'touched' ? { prefaultBytes: 4 << 20 } : {};
const table = createTable(createPool(options), vtdSecondStage({ levels: 4 }));
const created = performance.now();
const error = table.mapRange(1 << 20, 1, 1 << 18, PROT.READ | PROT.WRITE);
const mapped = performance.now();
if (error !== 0 || table.translate((1 << 20) + 12345) !== 12346)
  throw new Error(`map gave ${error}`);
console.log(JSON.stringify({ ns: (mapped - created) * 1e6, createNs: (created - start) * 1e6 }));
