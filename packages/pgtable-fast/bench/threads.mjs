// Look-ups by one and by two threads in one shared pool. Prints nanoseconds per look-up, of two threads
// together: half of one's where they scale perfectly. Minimum of the rounds.
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import {
  attachPool,
  attachTable,
  createPool,
  createTable,
  PROT,
  tableHandle,
  vtdSecondStage,
} from '../dist/index.js';

const GIB = 1 << 18;
const IOVA = 1 << 20;
const LOOKUPS = 1 << 20;
const ROUNDS = 15;
const THREADS = 2;
// The gate: how many threads wait, and the number of the round they may start.
const WAITING = 0;
const ROUND = 1;

function lookUpAll(table, pfns) {
  let sum = 0;
  for (let i = 0; i < LOOKUPS; i++) sum += table.translate(pfns[i & 65535]);
  return sum;
}

function worker({ pool, handle, gate, times, index }) {
  const table = attachTable(attachPool(pool), vtdSecondStage({ levels: 4 }), handle);
  let x = index + 1;
  const pfns = Float64Array.from({ length: 65536 }, () => {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    return IOVA + ((x >>> 8) & (GIB - 1));
  });
  const wanted = pfns.reduce((sum, pfn) => sum + (pfn - IOVA + 1), 0) * (LOOKUPS / 65536);
  for (let round = 1; ; round++) {
    Atomics.add(gate, WAITING, 1);
    Atomics.notify(gate, WAITING);
    Atomics.wait(gate, ROUND, round - 1);
    if (Atomics.load(gate, ROUND) < 0) return;
    const start = performance.now();
    const sum = lookUpAll(table, pfns);
    times[index] = (performance.now() - start) * 1e6;
    if (sum !== wanted) throw new Error(`look-ups gave ${sum}, not ${wanted}`);
  }
}

/** Waits until all threads are at the gate. */
function gather(gate, threads) {
  for (let n = Atomics.load(gate, WAITING); n < threads; n = Atomics.load(gate, WAITING)) {
    Atomics.wait(gate, WAITING, n);
  }
  Atomics.store(gate, WAITING, 0);
}

/** Nanoseconds per look-up of all threads together, best round. */
function measure(threads) {
  const pool = createPool({ shared: true, prefaultBytes: 8 << 20 });
  const table = createTable(pool, vtdSecondStage({ levels: 4 }));
  table.mapRange(IOVA, 1, GIB, PROT.READ | PROT.WRITE);
  const gate = new Int32Array(new SharedArrayBuffer(8));
  const times = new Float64Array(new SharedArrayBuffer(8 * threads));
  for (let index = 0; index < threads; index++) {
    const data = { pool: pool.handle(), handle: tableHandle(table), gate, times, index };
    new Worker(new URL(import.meta.url), { workerData: data });
  }
  let best = Number.POSITIVE_INFINITY;
  for (let round = 1; round <= ROUNDS; round++) {
    gather(gate, threads);
    Atomics.store(gate, ROUND, round);
    Atomics.notify(gate, ROUND);
    gather(gate, threads);
    Atomics.store(gate, WAITING, threads);
    best = Math.min(best, Math.max(...times) / (threads * LOOKUPS));
  }
  Atomics.store(gate, ROUND, -1);
  Atomics.notify(gate, ROUND);
  return best;
}

if (isMainThread) {
  const oneNs = measure(1);
  console.log(JSON.stringify({ oneNs, twoNs: measure(THREADS) }));
} else {
  worker(workerData);
}
