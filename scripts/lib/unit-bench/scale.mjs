// A large machine: 10,000 devices, each with a domain of its own, and 1,000,000 mapped pages.
import { check, print } from '../measure.mjs';

const DEVICES = 10_000;
const PAGES_EACH = 100;
const PAGES = DEVICES * PAGES_EACH;
const RAM_MIB = 1024;
/** Devices start at bus 1. */
const FIRST_RID = 0x100;

const heap = () => {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

/** @typedef {any} Built what a driver's bench hands over of built packages, which have no types here */

/**
 * Measure it.
 *
 * @param {object} bench
 * @param {Built} bench.core the package
 * @param {Built} bench.driver as made by its package
 * @param {(machine: Built, pages: number) => number} bench.frames
 * @param {(domain: Built, iovaPfn: number, frame: number, pages: number) => void} bench.mapPages
 * @param {(unit: Built) => number} bench.hits of a unit's TLB
 * @param {number} bench.rounds of the misses
 */
export function measureScale({ core, driver, frames, mapPages, hits, rounds }) {
  const { ACCESS, createMachine } = core;
  const machine = createMachine({ ramBytes: RAM_MIB * 2 ** 20 });
  const frame = frames(machine, 1 << 7);
  const endpoints = Array.from({ length: DEVICES }, (_, i) =>
    machine.addEndpoint({ rid: FIRST_RID + i }),
  );
  const empty = machine.addEndpoint({ rid: 0x20 });
  const unit = machine.addUnit(driver, [empty]);

  /**
   * What `act` costs per unit: nanoseconds, bytes of heap, bytes of the machine's RAM.
   *
   * @param {string} op
   * @param {number} units
   * @param {() => void} act
   */
  function cost(op, units, act) {
    const heapBefore = heap();
    const ramBefore = machine.memory.freePageCount;
    const start = process.hrtime.bigint();
    act();
    const ns = Number(process.hrtime.bigint() - start) / units;
    const bytes = (heap() - heapBefore) / units;
    const ramBytes = ((ramBefore - machine.memory.freePageCount) * 4096) / units;
    print({ op, ns, bytes, ramBytes });
  }

  cost('scale-probe', DEVICES, () => {
    for (const endpoint of endpoints) machine.attachToUnit(unit, endpoint);
  });
  /** @type {Built[]} */
  const domains = [];
  cost('scale-attach', DEVICES, () => {
    for (const endpoint of endpoints) {
      const domain = unit.allocPaging(endpoint, { flags: 0 });
      unit.attach(endpoint, -1, domain);
      domains.push(domain);
    }
  });
  cost('scale-map', PAGES, () => {
    for (const domain of domains) mapPages(domain, 0x1000, frame, PAGES_EACH);
  });

  /**
   * One page of each device in turn: every request misses, and so does the processor's cache.
   *
   * @param {number} page
   */
  const sweep = (page) => {
    const { agent } = unit;
    for (let i = 0; i < DEVICES; i++)
      if (agent.translatePage(FIRST_RID + i, -1, 0x1000 + page, ACCESS.READ) < 0)
        throw new Error('blocked');
  };
  const lastPage = 0x1000 + PAGES_EACH - 1;
  check(unit.agent.translatePage(FIRST_RID, -1, lastPage, 1) === frame + 98, 'frames');
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round++) {
    const start = process.hrtime.bigint();
    sweep(round % PAGES_EACH);
    best = Math.min(best, Number(process.hrtime.bigint() - start) / DEVICES);
  }
  check(hits(unit) === 0, 'misses only');
  print({ op: 'scale-miss', ns: best });
  cost('scale-detach', DEVICES, () => {
    for (const endpoint of endpoints) unit.attach(endpoint, -1, unit.blocking);
  });
}
