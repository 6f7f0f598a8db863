// Single pages in random order over a mapped GiB: almost every one in another leaf table than the one
// before. Prints nanoseconds per page mapped and unmapped, minima of the rounds.
import { createPool, createTable, PROT, vtdSecondStage } from '../dist/index.js';

const GIB = 1 << 18;
const IOVA = 4 * GIB;
const OA = 8 * GIB + 1;
const SINGLES = 65536;
const ROUNDS = 40;
const RW = PROT.READ | PROT.WRITE;

/** The first `SINGLES` of all pages of 1 GiB, shuffled. */
function shuffled() {
  const pages = Int32Array.from({ length: GIB }, (_, i) => i);
  let x = 1;
  for (let i = GIB - 1; i > 0; i--) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    const j = Math.floor((x / 2 ** 32) * (i + 1));
    const page = pages[i];
    pages[i] = pages[j];
    pages[j] = page;
  }
  return pages.subarray(0, SINGLES);
}

const pool = createPool({ prefaultBytes: 16 << 20 });
const table = createTable(pool, vtdSecondStage({ levels: 4 }));
const pages = shuffled();

function unmap() {
  let frames = 0;
  for (let i = 0; i < SINGLES; i++) frames += table.unmapRange(IOVA + pages[i], 1);
  return frames;
}

function map() {
  let errors = 0;
  for (let i = 0; i < SINGLES; i++) {
    errors |= table.mapRange(IOVA + pages[i], OA + pages[i], 1, RW);
  }
  return errors;
}

function timed(run, wanted) {
  const start = performance.now();
  const result = run();
  const ns = ((performance.now() - start) * 1e6) / SINGLES;
  if (result !== wanted) throw new Error(`${run.name} gave ${result}, not ${wanted}`);
  return ns;
}

let mapNs = Number.POSITIVE_INFINITY;
let unmapNs = Number.POSITIVE_INFINITY;
table.mapRange(IOVA, OA, GIB, RW);
for (let round = 0; round < ROUNDS; round++) {
  unmapNs = Math.min(unmapNs, timed(unmap, SINGLES));
  mapNs = Math.min(mapNs, timed(map, 0));
}
console.log(JSON.stringify({ mapNs, unmapNs }));
