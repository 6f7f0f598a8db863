// What the host half does to entries and caches: attach, detach, map, unmap, invalidate.
//
//   node control.mjs KIND ROUNDS

import { check, minimum, print } from '../../../scripts/lib/measure.mjs';
import { benchMachine, frames, mapPages, nestedGuest, paging } from './machine.mjs';

const [kind, roundsText] = process.argv.slice(2);
const rounds = Number(roundsText);
const TIMES = 512;
const PAGES = 2048;
const PASID = 0x1234;

const secondStage = { firstStageByDefault: false };

/** Two domains to go back and forth between. */
function twoDomains(options) {
  const bench = benchMachine({ options });
  return { ...bench, domains: [paging(bench, 8), paging(bench, 8)] };
}

/** Attach and take away again. */
function attachDetach(options, pasid) {
  const { unit, endpoint, domains } = twoDomains(options);
  unit.attach(endpoint, pasid, domains[0]);
  const work = () => {
    for (let i = 0; i < TIMES; i++) {
      unit.attach(endpoint, pasid, domains[0]);
      unit.attach(endpoint, pasid, unit.blocking);
    }
  };
  print({ op: kind, ns: minimum(rounds, TIMES, work) });
}

/** Replace one domain by the other. */
function replace(options, pasid) {
  const { unit, endpoint, domains } = twoDomains(options);
  const work = () => {
    for (let i = 0; i < TIMES; i++) unit.attach(endpoint, pasid, domains[i & 1]);
  };
  print({ op: kind, ns: minimum(rounds, TIMES, work) });
}

/** A domain in use, its pages in the IOTLB. */
function busyDomain() {
  const bench = benchMachine({ options: secondStage });
  const domain = paging(bench);
  const frame = frames(bench.machine, PAGES);
  bench.unit.attach(bench.endpoint, -1, domain);
  mapPages(domain, 0, frame, PAGES);
  const { agent } = bench.unit;
  const { rid } = bench.endpoint;
  const warm = () => {
    for (let pfn = 0; pfn < PAGES; pfn++) agent.translatePage(rid, -1, pfn, 1);
  };
  return { ...bench, domain, frame, warm };
}

/** Map one page and unmap it, the IOTLB otherwise full. */
function mapUnmap() {
  const { domain, frame, warm, unit } = busyDomain();
  const run = Float64Array.of(frame, 1);
  const work = () => {
    for (let i = 0; i < TIMES; i++) {
      domain.mapRuns(PAGES + i, run, 1, 3);
      domain.unmap(PAGES + i, 1);
      domain.sync();
    }
  };
  warm();
  print({ op: kind, ns: minimum(rounds, TIMES, work) });
  check(unit.hardware.readReg32(0x34) === 0, 'no queue errors');
}

/** A guest's invalidation through IOMMU_HWPT_INVALIDATE: `count` entries per call. */
function userInvalidate(count) {
  const bench = benchMachine();
  const { nested } = nestedGuest(bench, 512);
  const entries = Array.from({ length: count }, (_, i) => {
    const bytes = new Uint8Array(24);
    new DataView(bytes.buffer).setUint32(0, i * 4096, true);
    new DataView(bytes.buffer).setUint32(8, 1, true);
    return bytes;
  });
  const array = {
    type: 0,
    entryLength: 24,
    entryCount: count,
    done: 0,
    copyEntry: (index) => entries[index],
    copyAll: () => undefined,
  };
  const times = TIMES / count;
  const work = () => {
    for (let i = 0; i < times; i++) nested.invalidate(array);
  };
  print({ op: kind, ns: minimum(rounds, TIMES, work) });
  check(array.done === count, 'all entries done');
}

const KINDS = {
  'attach-detach': () => attachDetach(secondStage, -1),
  'attach-detach-legacy': () => attachDetach({ scalable: false }, -1),
  'attach-detach-pasid': () => attachDetach({}, PASID),
  replace: () => replace(secondStage, -1),
  'replace-pasid': () => replace(secondStage, PASID),
  'map-unmap': mapUnmap,
  'user-invalidate': () => userInvalidate(1),
  'user-invalidate-batch': () => userInvalidate(64),
};

KINDS[kind]();
