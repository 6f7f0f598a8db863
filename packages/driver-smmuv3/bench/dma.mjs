// DMA through the whole unit: registers, tables in memory, caches. One kind per process.
//
//   node dma.mjs KIND ROUNDS
import { ACCESS, createAtsCompletion } from '@iommukit/core';
import { check, minimum, print, shuffled } from '../../../scripts/lib/measure.mjs';
import { benchMachine, frames, mapPages, nestedGuest, paging } from './machine.mjs';

const [kind, roundsText] = process.argv.slice(2);
const rounds = Number(roundsText);
/** Pages that stay in the TLB together. */
const HIT_PAGES = 256;
/** Pages of a miss: more than the TLB holds, so that each has left it before its turn comes. */
const MISS_PAGES = 1 << 16;
const REQUESTS = 1 << 16;

const stage2 = { capabilities: { idr0: { S1P: 0 } } };

/** A domain with `count` pages from IOVA 0 up. */
function hostDomain(options, count, device = {}) {
  const bench = benchMachine({ ramMiB: 512, options, device });
  const domain = paging(bench);
  const frame = frames(bench.machine, count);
  mapPages(domain, 0, frame, count);
  bench.unit.attach(bench.endpoint, -1, domain);
  return { ...bench, frameOf: (pfn) => frame + (pfn ^ 1) };
}

/** Time `work` over `order`, and see that the TLB did what the operation's name says. */
function counted({ unit }, order, work) {
  const { tlb } = unit.hardware.caches;
  const before = tlb.statistics;
  const ns = minimum(rounds, order.length, work);
  const hits = tlb.statistics.hits - before.hits;
  const misses = tlb.statistics.misses - before.misses;
  check(kind.endsWith('hit') ? hits > 100 * misses : misses > 20 * hits, `${hits} hits, ${misses}`);
  print({ op: kind, ns });
}

/** Translate every page of `order` once. */
function translating(bench, order) {
  const { agent } = bench.unit;
  const { rid } = bench.endpoint;
  for (const pfn of [0, 1, order.length - 1])
    check(
      agent.translatePage(rid, -1, order[pfn], ACCESS.READ) === bench.frameOf(order[pfn]),
      'frames',
    );
  counted(bench, order, () => {
    for (let i = 0; i < order.length; i++)
      if (agent.translatePage(rid, -1, order[i], ACCESS.READ) < 0) throw new Error('blocked');
  });
}

/** Ask for a translation of every page of `order` once. */
function asking(bench, order) {
  const { agent } = bench.unit;
  const { rid } = bench.endpoint;
  const completion = createAtsCompletion();
  const access = ACCESS.READ | ACCESS.WRITE;
  agent.translationRequest(rid, -1, order[1], access, completion);
  check(completion.pfn === bench.frameOf(order[1]), 'frames');
  counted(bench, order, () => {
    for (let i = 0; i < order.length; i++) {
      agent.translationRequest(rid, -1, order[i], access, completion);
      if (completion.write === 0) throw new Error('refused');
    }
  });
}

const hitOrder = () => {
  const order = shuffled(HIT_PAGES);
  return Uint32Array.from({ length: REQUESTS }, (_, i) => order[i % HIT_PAGES]);
};

/** 4 bytes from memory to the device, by the device's own call. */
function reading(bench, order) {
  const { endpoint } = bench;
  const bytes = new Uint8Array(4);
  counted(bench, order, () => {
    for (let i = 0; i < order.length; i++)
      if (endpoint.dmaRead(order[i] * 4096 + 8, bytes) !== 4) throw new Error('blocked');
  });
}

const KINDS = {
  'translate-hit': () => translating(hostDomain({}, HIT_PAGES), hitOrder()),
  'dma-hit': () => reading(hostDomain({}, HIT_PAGES), hitOrder()),
  'ats-hit': () => asking(hostDomain({}, HIT_PAGES, { ats: true }), hitOrder()),
  'stage1-miss': () => translating(hostDomain({}, MISS_PAGES), shuffled(MISS_PAGES)),
  'stage2-miss': () => translating(hostDomain(stage2, MISS_PAGES), shuffled(MISS_PAGES)),
  'nested-miss': () => {
    const bench = benchMachine({ ramMiB: 1024 });
    const { hostFrame } = nestedGuest(bench, MISS_PAGES);
    translating({ ...bench, frameOf: hostFrame }, shuffled(MISS_PAGES));
  },
};

KINDS[kind]();
