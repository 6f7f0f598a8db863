// What the host half does to entries and caches: attach, detach, map, unmap.
//
//   node control.mjs KIND ROUNDS
import { check, minimum, print } from '../../../scripts/lib/measure.mjs';
import { benchMachine, frames, mapPages, paging } from './machine.mjs';

const [kind, roundsText] = process.argv.slice(2);
const rounds = Number(roundsText);
const TIMES = 512;
const PAGES = 1024;

/** Attach and take away again. */
function attachDetach() {
  const bench = benchMachine();
  const { unit, endpoint } = bench;
  const domain = paging(bench);
  const work = () => {
    for (let i = 0; i < TIMES; i++) {
      unit.attach(endpoint, -1, domain);
      unit.attach(endpoint, -1, unit.blocking);
    }
  };
  print({ op: kind, ns: minimum(rounds, TIMES, work) });
}

/** Replace one domain by the other. */
function replace() {
  const bench = benchMachine();
  const { unit, endpoint } = bench;
  const domains = [paging(bench), paging(bench)];
  const work = () => {
    for (let i = 0; i < TIMES; i++) unit.attach(endpoint, -1, domains[i & 1]);
  };
  print({ op: kind, ns: minimum(rounds, TIMES, work) });
}

/** Map one page, unmap it and wait, the IOTLB otherwise full. */
function mapUnmap() {
  const bench = benchMachine();
  const { unit, endpoint } = bench;
  const domain = paging(bench);
  const frame = frames(bench.machine, PAGES);
  unit.attach(endpoint, -1, domain);
  mapPages(domain, 0, frame, PAGES);
  const warm = () => {
    for (let pfn = 0; pfn < PAGES; pfn++) unit.agent.translatePage(endpoint.rid, -1, pfn, 1);
  };
  const work = () => {
    for (let i = 0; i < TIMES; i++) {
      mapPages(domain, PAGES * 2, frame, 1);
      check(domain.unmap(PAGES * 2, 1) === 1, 'unmapped');
      domain.sync();
    }
  };
  print({ op: kind, ns: minimum(rounds, TIMES, work, warm) });
}

const KINDS = { 'attach-detach': attachDetach, replace, 'map-unmap': mapUnmap };

KINDS[kind]();
