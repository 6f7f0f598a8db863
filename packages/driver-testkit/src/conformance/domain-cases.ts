/**
 * Cases on paging domains, called as core calls them.
 * @module
 */
import type { PagingDomain } from '@iommukit/core';
import { PROT } from '@iommukit/core';
import type { ConformanceBench } from './bench.ts';
import type { ConformanceCase } from './case.ts';

const CONTRACT = 'driver contract, PagingDomain';
const RW = PROT.READ | PROT.WRITE;

/** A domain, and a granule number in the middle of its aperture, aligned to 2 MiB. */
const domainOf = (bench: ConformanceBench): { domain: PagingDomain; base: number } => {
  const domain = bench.unit.allocPaging(bench.device, { flags: 0 });
  const large = 2 ** (21 - domain.granuleLg2);
  const base = (Math.floor(domain.apertureStartFrame / large) + 8) * large;
  return { domain, base };
};

/** Map `count` granules to consecutive output frames. */
const mapOne = (
  domain: PagingDomain,
  frame: number,
  output: number,
  count: number,
  prot: number = RW,
): number => domain.mapRuns(frame, Float64Array.of(output, count), 1, prot);

/** A small generator of numbers, the same on every run. */
const numbers = (seed: number): (() => number) => {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
};

const checkRandomOperations = (bench: ConformanceBench): void => {
  const { domain, base } = domainOf(bench);
  const random = numbers(7);
  const pick = (limit: number) => Math.floor(random() * limit);
  const perPage = 2 ** (12 - domain.granuleLg2);
  /** First granule of each mapping, with its length and output. */
  const mapped = new Map<number, { count: number; output: number }>();
  for (let step = 0; step < 400; step++) {
    const start = base + pick(1024) * perPage;
    const at = mapped.get(start);
    if (at && pick(2) === 0) {
      bench.equal(domain.unmap(start, at.count), at.count, `unmap in step ${step}`);
      domain.sync();
      mapped.delete(start);
      continue;
    }
    const count = (1 + pick(16)) * perPage;
    const taken = [...mapped].some(([s, m]) => s < start + count && start < s + m.count);
    const output = (0x10_0000 + pick(4096)) * perPage;
    const rc = mapOne(domain, start, output, count);
    bench.check(
      taken ? rc < 0 : rc === 0,
      `map in step ${step}: ${rc}, ${taken ? 'over' : 'free'}`,
    );
    if (!taken) mapped.set(start, { count, output });
  }
  for (const [start, { count, output }] of mapped) {
    for (const offset of [0, count >> 1, count - 1]) {
      bench.equal(domain.iovaToFrame(start + offset), output + offset, `frame ${start + offset}`);
    }
    domain.unmap(start, count);
  }
  domain.sync();
  domain.free();
};

export const DOMAIN_CASES: readonly ConformanceCase[] = [
  {
    name: 'mapping, looking up, reading back and unmapping agree',
    spec: CONTRACT,
    needs: [],
    run: (bench) => {
      const { domain, base } = domainOf(bench);
      bench.equal(mapOne(domain, base, 0x1000, 8), 0, 'map');
      bench.equal(domain.iovaToFrame(base + 5), 0x1005, 'frame of granule 5');
      bench.equal(domain.iovaToFrame(base + 8), -1, 'frame behind the mapping');
      const runs = new Float64Array(4);
      bench.equal(domain.readRuns(base, 8, runs), 1, 'runs');
      bench.equal(`${runs[0]},${runs[1]}`, `${0x1000},8`, 'the run');
      bench.equal(domain.unmap(base, 8), 8, 'unmapped granules');
      domain.sync();
      bench.equal(domain.iovaToFrame(base), -1, 'frame after the unmap');
      domain.free();
    },
  },
  {
    name: 'reading back leaves holes out and needs room for every run',
    spec: CONTRACT,
    needs: [],
    run: (bench) => {
      const { domain, base } = domainOf(bench);
      const perPage = 2 ** (12 - domain.granuleLg2);
      bench.equal(mapOne(domain, base, 64 * perPage, perPage), 0, 'map the first page');
      bench.equal(mapOne(domain, base + 2 * perPage, 9 * perPage, perPage), 0, 'map the third');
      const runs = new Float64Array(8);
      bench.equal(domain.readRuns(base, 3 * perPage, runs), 2, 'runs');
      const found = runs.slice(0, 4).join();
      bench.equal(found, `${64 * perPage},${perPage},${9 * perPage},${perPage}`, 'the runs');
      const small = new Float64Array(2);
      bench.equal(domain.readRuns(base, 3 * perPage, small), -7, 'room for one run: E2BIG');
      domain.unmap(base, perPage);
      domain.unmap(base + 2 * perPage, perPage);
      domain.sync();
      bench.equal(domain.readRuns(base, 3 * perPage, runs), 0, 'runs of nothing');
      domain.free();
    },
  },
  {
    name: 'a call may map several runs, one behind the other',
    spec: CONTRACT,
    needs: [],
    run: (bench) => {
      const { domain, base } = domainOf(bench);
      const perPage = 2 ** (12 - domain.granuleLg2);
      const runs = Float64Array.of(64 * perPage, perPage, 9 * perPage, 3 * perPage);
      bench.equal(domain.mapRuns(base, runs, 2, RW), 0, 'map');
      bench.equal(domain.iovaToFrame(base + perPage - 1), 65 * perPage - 1, 'first run');
      bench.equal(domain.iovaToFrame(base + perPage), 9 * perPage, 'second run');
      domain.unmap(base, 4 * perPage);
      domain.sync();
      domain.free();
    },
  },
  {
    name: 'mapping over something fails and changes nothing',
    spec: `${CONTRACT}; generic_pt: EADDRINUSE`,
    needs: [],
    run: (bench) => {
      const { domain, base } = domainOf(bench);
      const perPage = 2 ** (12 - domain.granuleLg2);
      mapOne(domain, base + 4 * perPage, 64 * perPage, perPage);
      const rc = mapOne(domain, base, 128 * perPage, 8 * perPage);
      bench.check(rc < 0, `mapping over a mapping answered ${rc}`);
      bench.equal(domain.iovaToFrame(base), -1, 'frame in front of the old mapping');
      bench.equal(domain.iovaToFrame(base + 4 * perPage), 64 * perPage, 'the old mapping');
      domain.unmap(base + 4 * perPage, perPage);
      domain.sync();
      domain.free();
    },
  },
  {
    name: 'a mapping without any right, or outside the aperture, is refused',
    spec: `${CONTRACT}; generic_pt: EINVAL, ERANGE`,
    needs: [],
    run: (bench) => {
      const { domain, base } = domainOf(bench);
      bench.check(mapOne(domain, base, 0x1000, 8, 0) < 0, 'no right was accepted');
      const last = domain.apertureLastFrame;
      bench.check(mapOne(domain, last - 3, 0x1000, 8) < 0, 'beyond the aperture was accepted');
      bench.equal(domain.iovaToFrame(base), -1, 'frame after the refusals');
      domain.free();
    },
  },
  {
    name: 'the first and last page of the aperture can be mapped',
    spec: CONTRACT,
    needs: [],
    run: (bench) => {
      const { domain } = domainOf(bench);
      const perPage = 2 ** (12 - domain.granuleLg2);
      const { apertureStartFrame: first, apertureLastFrame: last } = domain;
      for (const frame of [first, last - perPage + 1]) {
        bench.equal(mapOne(domain, frame, 64 * perPage, perPage), 0, `map at granule ${frame}`);
        bench.equal(domain.iovaToFrame(frame), 64 * perPage, `frame of granule ${frame}`);
        domain.unmap(frame, perPage);
        domain.sync();
      }
      domain.free();
    },
  },
  {
    name: '4 MiB, contiguous and aligned, come out as they went in',
    spec: CONTRACT,
    needs: [],
    run: (bench) => {
      const { domain, base } = domainOf(bench);
      const count = 2 ** (22 - domain.granuleLg2);
      bench.equal(mapOne(domain, base, count, count), 0, 'map');
      const runs = new Float64Array(8);
      bench.equal(domain.readRuns(base, count, runs), 1, 'runs');
      bench.equal(domain.iovaToFrame(base + count - 1), 2 * count - 1, 'last frame');
      bench.equal(domain.unmap(base, count), count, 'unmapped');
      domain.sync();
      domain.free();
    },
  },
  {
    name: 'random maps and unmaps agree with a list (400 operations)',
    spec: CONTRACT,
    needs: [],
    run: checkRandomOperations,
  },
];
