// A 4-byte DMA read through an IOMMU model: requester -> context cache -> IOTLB -> memory, and on a
// miss a walk and an insertion. Prints nanoseconds per read, minimum of 150 rounds.
//
//   node dma.mjs hit|miss|miss-far|lookup
//
// hit       reads of a buffer of 1024 pages that the IOTLB holds
// miss      reads of the same buffer through 1 GiB of IOVAs that map onto it again and again
// miss-far  1 GiB of IOVAs onto 256 MiB: most of the time is the memory's own cache and TLB misses
// lookup    context cache, IOTLB and permission alone, all hits
import {
  ContextCache,
  createPool,
  createTable,
  ENTRY_KIND,
  Iotlb,
  NO_PASID,
  PROT,
  vtdSecondStage,
} from '../dist/index.js';

const IOVA = 1 << 20;
const GIB = 1 << 18;
const READS = 65536;
const BUFFER_PAGES = 1024;
const FAR_PAGES = 65536; // 256 MiB
const KINDS = ['hit', 'miss', 'miss-far', 'lookup'];
const RID = 0x0008;
const DID = 5;
const READ = 1;

const kind = process.argv[2];
if (!KINDS.includes(kind)) throw new Error(`dma.mjs takes one of ${KINDS.join(' ')}, got ${kind}`);
const isMiss = kind.startsWith('miss');
const ramPages = kind === 'miss-far' ? FAR_PAGES : BUFFER_PAGES;
const ram = new Int32Array(ramPages << 10).fill(7);
const table = createTable(createPool({ prefaultBytes: 8 << 20 }), vtdSecondStage({ levels: 4 }));
for (let at = 0; at < GIB; at += ramPages) {
  // One frame off, and wrapped: 4 KiB leaves onto all of the buffer.
  table.mapRange(IOVA + at, 1, ramPages - 1, PROT.READ | PROT.WRITE);
  table.mapRange(IOVA + at + ramPages - 1, 0, 1, PROT.READ | PROT.WRITE);
}
const contexts = new ContextCache();
contexts.words[contexts.insert(RID, NO_PASID, DID, 0)] = DID;
const iotlb = new Iotlb();

function translatePage(rid, pasid, pfn, access) {
  const context = contexts.lookup(rid, pasid);
  if (context < 0) return -1;
  const frame = iotlb.lookup(rid, pasid, pfn, access);
  if (frame >= 0) return frame;
  return walk(rid, pasid, pfn, contexts.words[context]);
}

function walk(rid, pasid, pfn, did) {
  const frame = table.translate(pfn);
  if (frame >= 0)
    iotlb.insert(rid, pasid, pfn, frame, 12, 3, true, ENTRY_KIND.SECOND_STAGE, did, 0);
  return frame;
}

function dmaRead32(rid, iovaPfn, offset) {
  const frame = translatePage(rid, NO_PASID, iovaPfn, READ);
  if (frame < 0) return -1;
  return ram[frame * 1024 + (offset >>> 2)];
}

let x = 1;
const next = () => {
  x = (Math.imul(x, 1103515245) + 12345) >>> 0;
  return x >>> 8;
};
const pfns = Float64Array.from({ length: READS }, () =>
  isMiss ? IOVA + (next() & (GIB - 1)) : IOVA + (next() & (BUFFER_PAGES - 1)),
);

// Loops apart from the clock readings, see ours.mjs.
function translateAll() {
  let sum = 0;
  for (let i = 0; i < READS; i++) sum += translatePage(RID, NO_PASID, pfns[i], READ);
  return sum;
}

function readAll() {
  let sum = 0;
  for (let i = 0; i < READS; i++) sum += dmaRead32(RID, pfns[i], (i & 1023) << 2);
  return sum;
}

const [timed, wanted] = kind === 'lookup' ? [translateAll] : [readAll, READS * 7];

function round() {
  const start = performance.now();
  const sum = timed();
  const ns = ((performance.now() - start) * 1e6) / READS;
  if (wanted !== undefined && sum !== wanted) throw new Error(`read ${sum}, not ${wanted}`);
  return ns;
}

let ns = Number.POSITIVE_INFINITY;
for (let n = 0; n < 150; n++) ns = Math.min(ns, round());
const { hits, misses } = iotlb.statistics;
console.log(JSON.stringify({ ns, hitRate: hits / (hits + misses) }));
