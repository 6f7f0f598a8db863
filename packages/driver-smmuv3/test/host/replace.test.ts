/**
 * Replacing a domain while the device works: after every store to memory and every register write
 * of the host half, DMA resolves to the old page or to the new one, and never back.
 */
import type { Domain } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import {
  aimed,
  attach,
  type Bench,
  bench,
  HWPT,
  map,
  paging,
  reach,
  reachAts,
  stampedPage,
} from './fixture.ts';

const CMDQ_PROD = 0x98;
const PAGES = 64;
const BASE = 0x100;
const DEVICE = { rid: '00:05.0', pasidBits: 20, ats: true } as const;
/** Another PASID of the device, or none. */
const BESIDE = 77;

type Kind = 'stage 1' | 'stage 2' | 'bypass';

/** A domain, and the pages asked for in it: each leads to `frame`. */
interface Aim {
  readonly domain: Domain;
  readonly frame: number;
}

/**
 * Domains over the IOVA pages from {@link BASE} on. Bypass can only lead to the page that is asked
 * for, so with bypass on one side the IOVA asked for is that page.
 */
const aims = (at: Bench, from: Kind, to: Kind) => {
  const through = stampedPage(at.machine);
  const base = from === 'bypass' || to === 'bypass' ? through : BASE;
  const pages = base === BASE ? PAGES : 1;
  const of = (kind: Kind): Aim => {
    if (kind === 'bypass') return { domain: at.unit.identity, frame: through };
    const domain = paging(at, kind === 'stage 2' ? HWPT.NEST_PARENT : HWPT.PASID);
    const frame = stampedPage(at.machine);
    for (let page = 0; page < pages; page++) map(domain, base + page, frame);
    return { domain, frame };
  };
  return { base, pages, old: of(from), next: of(to) };
};

/** What DMA reaches after each step of `act`. */
const watchEachStep = (at: Bench, probe: () => number, act: () => void): number[] => {
  const seen: number[] = [];
  const { memory } = at.machine;
  const { hardware } = at.unit;
  const writeReg32 = hardware.writeReg32.bind(hardware);
  let probing = false;
  const look = () => {
    if (probing) return;
    probing = true;
    seen.push(probe());
    probing = false;
  };
  memory.onWrite = look;
  hardware.writeReg32 = (offset, value) => {
    writeReg32(offset, value);
    if (offset === CMDQ_PROD) look();
  };
  act();
  memory.onWrite = undefined;
  hardware.writeReg32 = writeReg32;
  return seen;
};

/** Pages asked for: always the first, cached before; each time another one; through a device TLB. */
const PROBES = ['cached', 'new pages', 'device TLB'] as const;

const prober = (
  at: Bench,
  how: (typeof PROBES)[number],
  base: number,
  pages: number,
  pasid = -1,
) => {
  const tag = pasid < 0 ? undefined : pasid;
  let page = 0;
  if (how === 'cached') return () => reach(at.device, base, tag);
  const ask = how === 'device TLB' ? reachAts : reach;
  return () => ask(at.device, base + (page++ % pages), tag);
};

const replace = (
  from: Kind,
  to: Kind,
  how: (typeof PROBES)[number],
  { pasid = -1, beside = false, options = {} } = {},
) => {
  const at = bench(options, [DEVICE]);
  const { base, pages, old, next } = aims(at, from, to);
  const other = aimed(at, BASE, HWPT.PASID);
  if (beside) attach(at, other.domain, BESIDE);
  attach(at, old.domain, pasid);
  const probe = prober(at, how, base, pages, pasid);
  expect(probe()).toBe(old.frame);
  const seen = watchEachStep(at, probe, () => attach(at, next.domain, pasid));
  expect(probe()).toBe(next.frame);
  if (beside) expect(reach(at.device, BASE, BESIDE)).toBe(other.frame);
  return { seen, old: old.frame, next: next.frame };
};

/** Old until the change, new from then on: never back. */
const expectOneChange = (seen: readonly number[], old: number, next: number): void => {
  expect(seen.length).toBeGreaterThan(2);
  expect(new Set(seen)).toEqual(new Set([old, next]));
  expect(seen.lastIndexOf(old)).toBeLessThan(seen.indexOf(next));
};

/** Old, then nothing, then new. */
const expectWindow = (seen: readonly number[], old: number, next: number): void => {
  expect(new Set([...seen, old, next])).toEqual(new Set([old, -1, next]));
  expect(seen.lastIndexOf(old)).toBeLessThan(seen.indexOf(-1));
  if (seen.includes(next)) expect(seen.lastIndexOf(-1)).toBeLessThan(seen.indexOf(next));
};

const each = (
  pairs: readonly (readonly [Kind, Kind])[],
  probes: readonly (typeof PROBES)[number][],
) => pairs.flatMap(([from, to]) => probes.map((how) => [from, to, how] as const));

describe('SMMUv3 3.21.3: a replacement without a window', () => {
  const PAIRS = [
    ['bypass', 'stage 1'],
    ['stage 1', 'bypass'],
    ['bypass', 'stage 2'],
    ['stage 2', 'bypass'],
  ] as const;

  test.each(each(PAIRS, ['cached']))('%s to %s', (from, to, how) => {
    const { seen, old, next } = replace(from, to, how);
    expectOneChange(seen, old, next);
  });

  test.each(each(PAIRS.slice(0, 2), ['cached']))('%s to %s beside a PASID', (from, to, how) => {
    const { seen, old, next } = replace(from, to, how, { beside: true });
    expectOneChange(seen, old, next);
  });

  test.each(['stage 1', 'bypass'] as const)(
    'the first PASID comes and the last goes: requests without go on, %s',
    (kind) => {
      const at = bench({}, [DEVICE]);
      const { base, old } = aims(at, kind, kind);
      const { domain, frame } = aimed(at, BASE, HWPT.PASID);
      attach(at, old.domain);
      const probe = () => reach(at.device, base);
      const come = watchEachStep(at, probe, () => attach(at, domain, BESIDE));
      expect(reach(at.device, BASE, BESIDE)).toBe(frame);
      const go = watchEachStep(at, probe, () => attach(at, at.unit.blocking, BESIDE));
      expect(come.length + go.length).toBeGreaterThan(10);
      expect(new Set([...come, ...go])).toEqual(new Set([old.frame]));
    },
  );

  test.each(PROBES)('a PASID goes on while all others come, go and change, %s', (how) => {
    const at = bench({}, [DEVICE]);
    const [rid, more] = [aimed(at, BASE), aimed(at, BASE, HWPT.PASID)];
    const { domain, frame } = { domain: paging(at, HWPT.PASID), frame: stampedPage(at.machine) };
    for (let page = 0; page < PAGES; page++) map(domain, BASE + page, frame);
    attach(at, domain, BESIDE);
    const probe = prober(at, how, BASE, PAGES, BESIDE);
    const seen = watchEachStep(at, probe, () => {
      for (const next of [rid.domain, at.unit.identity, more.domain, at.unit.blocking]) {
        attach(at, next);
      }
      attach(at, more.domain, 1);
      attach(at, rid.domain, 5000);
      attach(at, rid.domain, 1);
      attach(at, at.unit.blocking, 1);
      attach(at, at.unit.blocking, 5000);
    });
    expect(seen.length).toBeGreaterThan(50);
    expect(new Set(seen)).toEqual(new Set([frame]));
  });
});

describe('SMMUv3 3.21.3: two words decide, so through "invalid", never astray', () => {
  test.each(
    each(
      [
        ['stage 1', 'stage 1'],
        ['stage 1', 'stage 2'],
        ['stage 2', 'stage 1'],
        ['stage 2', 'stage 2'],
      ],
      PROBES,
    ),
  )('%s to %s, %s', (from, to, how) => {
    const { seen, old, next } = replace(from, to, how);
    expectWindow(seen, old, next);
  });

  test.each(PROBES)('a PASID from one stage 1 to another, %s', (how) => {
    const { seen, old, next } = replace('stage 1', 'stage 1', how, { pasid: 0x1_2345 });
    expectWindow(seen, old, next);
  });
});

describe('blocking', () => {
  test.each(['stage 1', 'stage 2', 'bypass'] as const)(
    'from %s: the page, then nothing; and back',
    (kind) => {
      const at = bench({}, [DEVICE]);
      const { base, old } = aims(at, kind, kind);
      attach(at, old.domain);
      const probe = () => reach(at.device, base);
      const stop = watchEachStep(at, probe, () => attach(at, at.unit.blocking));
      expectOneChange([old.frame, ...stop], old.frame, -1);
      const start = watchEachStep(at, probe, () => attach(at, old.domain));
      expectOneChange([-1, ...start], -1, old.frame);
    },
  );

  test('a PASID: the page, then nothing; and back', () => {
    const at = bench({}, [DEVICE]);
    const { domain, frame } = aimed(at, BASE, HWPT.PASID);
    const probe = () => reach(at.device, BASE, 5000);
    const start = watchEachStep(at, probe, () => attach(at, domain, 5000));
    expectOneChange([-1, ...start], -1, frame);
    const stop = watchEachStep(at, probe, () => attach(at, at.unit.blocking, 5000));
    expectOneChange([frame, ...stop], frame, -1);
  });
});
