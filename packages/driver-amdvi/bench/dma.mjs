// DMA through the hardware: registers, tables in memory, caches. One kind per process.
//
//   node dma.mjs KIND ROUNDS
import { ACCESS } from '@iommukit/core';
import { check, minimum, print, shuffled } from '../../../scripts/lib/measure.mjs';
import { bareUnit, dataFrame, guestTable, hostTable, PASID, program, RID } from './hardware.mjs';
import { benchMachine, frames, mapPages, paging } from './machine.mjs';

const [kind, roundsText] = process.argv.slice(2);
const rounds = Number(roundsText);
/** Pages that stay in the IOTLB together. */
const HIT_PAGES = 256;
/** Pages of a miss: more than the IOTLB holds, so that each has left it before its turn comes. */
const MISS_PAGES = 1 << 14;
const REQUESTS = 1 << 16;

/** Translate every page of `order` once. */
function translating(bench, pasid, order, isHit) {
  const { unit } = bench;
  const work = () => {
    for (let i = 0; i < order.length; i++)
      if (unit.translatePage(RID, pasid, order[i], ACCESS.READ) < 0) throw new Error('blocked');
  };
  for (const pfn of [0, 1, order.length - 1]) {
    const frame = unit.translatePage(RID, pasid, order[pfn], ACCESS.READ);
    check(frame === dataFrame(order[pfn]), 'frames');
  }
  const before = unit.stats();
  const ns = minimum(rounds, order.length, work);
  const after = unit.stats();
  const hits = after.iotlbHits - before.iotlbHits;
  const misses = after.iotlbMisses - before.iotlbMisses;
  check(isHit ? hits > 100 * misses : misses > 20 * hits, `${hits} hits, ${misses} misses`);
  print({ op: kind, ns });
}

const hitOrder = () => {
  const order = shuffled(HIT_PAGES);
  return Uint32Array.from({ length: REQUESTS }, (_, i) => order[i % HIT_PAGES]);
};

function host(mode, order, isHit) {
  const bench = bareUnit();
  program(bench, { mode, root: hostTable(bench, mode, MISS_PAGES, dataFrame) });
  translating(bench, -1, order, isHit);
}

function guest(order, isHit) {
  const bench = bareUnit();
  program(bench, { cr3: guestTable(bench, MISS_PAGES, dataFrame) });
  translating(bench, PASID, order, isHit);
}

/** The host table maps guest physical addresses one to one, with 4 KiB pages. */
function nested(order, isHit) {
  const bench = bareUnit();
  const cr3 = guestTable(bench, MISS_PAGES, dataFrame);
  const base = 2 ** 32 / 4096;
  const below = hostTable(bench, 3, 2 ** 17, (pfn) => base + pfn);
  // The RAM lies at 4 GiB: four entries of the third level further on.
  const level3 = bench.page();
  for (let index = 0; index < 4; index++) {
    const pair = new Uint32Array(2);
    bench.memory.read64(below + index * 8, pair, 0);
    bench.put(level3 + (4 + index) * 8, pair[0], pair[1]);
  }
  const root = bench.page();
  bench.put(
    root,
    (level3 % 2 ** 32) | 0 | (3 << 9) | 0x21,
    Math.floor(level3 / 2 ** 32) | 0x6000_0000,
  );
  program(bench, { mode: 4, root, cr3 });
  translating(bench, PASID, order, isHit);
}

/** 4 bytes from memory to the device, by the device's own call, through both halves. */
function reading() {
  const bench = benchMachine();
  const domain = paging(bench);
  const frame = frames(bench.machine, HIT_PAGES);
  mapPages(domain, 0, frame, HIT_PAGES);
  bench.unit.attach(bench.endpoint, -1, domain);
  const order = hitOrder();
  const bytes = new Uint8Array(4);
  const work = () => {
    for (let i = 0; i < order.length; i++)
      if (bench.endpoint.dmaRead(order[i] * 4096 + 8, bytes) !== 4) throw new Error('blocked');
  };
  print({ op: kind, ns: minimum(rounds, order.length, work) });
  check(bench.unit.hardware.stats().refused === 0, 'no faults');
}

const KINDS = {
  'translate-hit': () => host(4, hitOrder(), true),
  'translate-hit-pasid': () => guest(hitOrder(), true),
  'dma-hit': reading,
  'host-miss': () => host(4, shuffled(MISS_PAGES), false),
  'guest-miss': () => guest(shuffled(MISS_PAGES), false),
  'nested-miss': () => nested(shuffled(MISS_PAGES), false),
};

KINDS[kind]();
