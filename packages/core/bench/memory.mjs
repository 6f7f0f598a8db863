// Bytes per area of a million: what the whole process grows by, heap and array buffers.
//
//   node --expose-gc memory.mjs OP     prints one JSON line
//
// One count per process: buffers of an earlier table may be freed late.
import { setTimeout } from 'node:timers/promises';
import { print, shuffled } from '../../../scripts/lib/measure.mjs';
import { createMachine, createProcess, IOPT_PROT, IoPagetable, PinContext } from '../dist/index.js';

const PAGE = 4096;
const AREAS = 1_000_000;
const machine = createMachine();
const owner = createProcess(machine, { uid: 1000 });
const userVa = owner.mmap({ length: PAGE });
const context = new PinContext(machine.memory);
const user = { process: owner, userVa, length: PAGE, prot: IOPT_PROT.READ };

/** Buffers are freed by another thread some time after the collection that found them unused. */
const inUse = async () => {
  for (let i = 0; i < 3; i++) {
    globalThis.gc();
    await setTimeout(100);
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

/** Fill a new table in a given order; bytes per area that stay. */
async function perArea(order, source, fill) {
  fill(new IoPagetable(context), source, 0); // code and caches exist before the count
  const before = await inUse();
  const iopt = new IoPagetable(context);
  for (const i of order) fill(iopt, source, i);
  const bytes = ((await inUse()) - before) / AREAS;
  if (iopt.areas.count !== AREAS) throw new Error(`${iopt.areas.count} areas`);
  return bytes;
}

/** Copies share the pages object of their source: what is left is the area. */
const copy = (iopt, source, i) =>
  iopt.mapPages(source.getPages(PAGE, PAGE), PAGE, IOPT_PROT.READ, 2 * i * PAGE);
/** Maps make a pages object each. */
const map = (iopt, _source, i) => iopt.mapUser({ ...user, iova: 2 * i * PAGE });

const source = new IoPagetable(context);
source.mapUser({ ...user, iova: PAGE });
const ascending = () => Uint32Array.from({ length: AREAS }, (_, i) => i);
const CASES = {
  'memory-area': () => perArea(ascending(), source, copy),
  'memory-area-random': () => perArea(shuffled(AREAS), source, copy),
  'memory-area-and-pages': () => perArea(ascending(), source, map),
};
const op = process.argv[2];
const target = op === 'memory-area-and-pages' ? undefined : 64;
print({ op, areas: AREAS, bytes: await CASES[op](), target });
