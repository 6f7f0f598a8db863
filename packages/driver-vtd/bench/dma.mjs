// DMA through the whole unit: registers, tables in memory, caches. One kind per process.
//
//   node dma.mjs KIND ROUNDS
import { ACCESS } from '@iommukit/core';
import { check, minimum, print, shuffled } from '../../../scripts/lib/measure.mjs';
import { benchMachine, frames, mapPages, nestedGuest, paging } from './machine.mjs';

const [kind, roundsText] = process.argv.slice(2);
const rounds = Number(roundsText);
/** Pages that stay in the IOTLB together. */
const HIT_PAGES = 256;
/** Pages of a miss: more than the IOTLB holds, so that each has left it before its turn comes. */
const MISS_PAGES = 1 << 16;
const REQUESTS = 1 << 16;

const secondStage = { firstStageByDefault: false };

/** A domain with `count` pages from IOVA 0 up. */
function hostDomain(options, count) {
  const bench = benchMachine({ ramMiB: 512, options });
  const domain = paging(bench);
  const frame = frames(bench.machine, count);
  mapPages(domain, 0, frame, count);
  bench.unit.attach(bench.endpoint, -1, domain);
  return { ...bench, frameOf: (pfn) => frame + (pfn ^ 1) };
}

/** Translate every page of `order` once. */
function translating({ unit, endpoint, frameOf }, order, op) {
  const { agent } = unit;
  const { rid } = endpoint;
  const before = unit.hardware.stats();
  const work = () => {
    for (let i = 0; i < order.length; i++)
      if (agent.translatePage(rid, -1, order[i], ACCESS.READ) < 0) throw new Error('blocked');
  };
  for (const pfn of [0, 1, order.length - 1])
    check(agent.translatePage(rid, -1, order[pfn], ACCESS.READ) === frameOf(order[pfn]), 'frames');
  const ns = minimum(rounds, order.length, work);
  const { iotlbHits, iotlbMisses } = unit.hardware.stats();
  const hits = iotlbHits - before.iotlbHits;
  const misses = iotlbMisses - before.iotlbMisses;
  check(op.endsWith('hit') ? hits > 100 * misses : misses > 20 * hits, `${hits} hits, ${misses}`);
  print({ op, ns });
}

const hitOrder = () => {
  const order = shuffled(HIT_PAGES);
  return Uint32Array.from({ length: REQUESTS }, (_, i) => order[i % HIT_PAGES]);
};

/** 4 bytes from memory to the device, by the device's own call. */
function reading({ endpoint, unit }, order, op) {
  const bytes = new Uint8Array(4);
  const work = () => {
    for (let i = 0; i < order.length; i++)
      if (endpoint.dmaRead(order[i] * 4096 + 8, bytes) !== 4) throw new Error('blocked');
  };
  const ns = minimum(rounds, order.length, work);
  check(unit.hardware.stats().faults === 0, 'no faults');
  print({ op, ns });
}

const KINDS = {
  'translate-hit': () => translating(hostDomain(secondStage, HIT_PAGES), hitOrder(), kind),
  'dma-hit': () => reading(hostDomain(secondStage, HIT_PAGES), hitOrder(), kind),
  'second-stage-miss': () =>
    translating(hostDomain(secondStage, MISS_PAGES), shuffled(MISS_PAGES), kind),
  'first-stage-miss': () => translating(hostDomain({}, MISS_PAGES), shuffled(MISS_PAGES), kind),
  'legacy-miss': () =>
    translating(hostDomain({ scalable: false }, MISS_PAGES), shuffled(MISS_PAGES), kind),
  'nested-miss': () => {
    const bench = benchMachine({ ramMiB: 1024 });
    const { hostFrame } = nestedGuest(bench, MISS_PAGES);
    translating({ ...bench, frameOf: hostFrame }, shuffled(MISS_PAGES), kind);
  },
};

KINDS[kind]();
