/**
 * Replacing a domain while the device works: after every store to memory and every register write
 * of the host half, DMA resolves to the old page or to the new one.
 */
import { type Domain, NO_PASID } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import type { VtdIommuUnit, VtdOptions } from '../../src/index.ts';
import {
  attach,
  type Bench,
  bench,
  Guest,
  GuestTable,
  HWPT,
  map,
  paging,
  reach,
  reachAts,
  SVA_DEVICE,
  s1Blob,
  stampedPage,
} from './fixture.ts';

/** Registers that an attach writes. */
const IQT = 0x88;
const GCMD = 0x18;
const PAGES = 64;
const BASE = 0x100;

type Kind = 'first stage' | 'second stage' | 'nested' | 'nested elsewhere';

/** A domain whose IOVA pages from {@link BASE} on all lead to one page. */
interface Aimed {
  readonly domain: Domain;
  readonly frame: number;
}

function aimedHost(at: Bench, flags: number): Aimed {
  const domain = paging(at, flags);
  const frame = stampedPage(at.machine);
  for (let page = 0; page < PAGES; page++) map(domain, BASE + page, frame);
  return { domain, frame };
}

/** @param firstFrame guest frame of the guest's top table */
function aimedGuest(at: Bench, firstFrame: number): Aimed {
  const parent = paging(at, HWPT.NEST_PARENT);
  const guest = new Guest(at.machine, parent, firstFrame);
  const table = new GuestTable(guest);
  const gfn = guest.page();
  for (let page = 0; page < PAGES; page++) table.map(BASE + page, gfn);
  const flags = { flags: 1 };
  const domain = at.unit.nesting?.allocNested(at.device, parent, 0, s1Blob(table.rootGpa, flags));
  if (!domain) throw new Error('no nesting');
  return { domain, frame: guest.hostFrame(gfn) };
}

function aimed(at: Bench, kind: Kind): Aimed {
  if (kind === 'nested') return aimedGuest(at, 0x100);
  if (kind === 'nested elsewhere') return aimedGuest(at, 0x900);
  const legacy = at.unit.caps.pasidBits === 0;
  return aimedHost(at, kind === 'second stage' && !legacy ? HWPT.DIRTY_TRACKING : 0);
}

/** What DMA reaches after each step of `act`. */
function watchEachStep(at: Bench, probe: () => number, act: () => void): number[] {
  const seen: number[] = [];
  const { memory } = at.machine;
  const { hardware } = at.unit as VtdIommuUnit;
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
    // What the fault service writes is caused by the probes themselves.
    if (offset === IQT || offset === GCMD) look();
  };
  act();
  memory.onWrite = undefined;
  hardware.writeReg32 = writeReg32;
  return seen;
}

/** Pages asked for: always the first, cached before; each time another one; through a device TLB. */
const PROBES = ['cached', 'new pages', 'device TLB'] as const;

function prober(at: Bench, how: (typeof PROBES)[number], pasid: number): () => number {
  const tag = pasid < 0 ? undefined : pasid;
  let page = 0;
  if (how === 'device TLB') return () => reachAts(at.device, BASE + (page++ % PAGES), tag);
  if (how === 'new pages') return () => reach(at.device, BASE + (page++ % PAGES), tag);
  return () => reach(at.device, BASE, tag);
}

const HITLESS: readonly [Kind, Kind][] = [
  ['second stage', 'second stage'],
  ['second stage', 'first stage'],
  ['first stage', 'second stage'],
  ['second stage', 'nested'],
  ['nested', 'second stage'],
  // Equal guest tables over another parent: the halves for the first stage are equal.
  ['nested', 'nested'],
];
/** Both halves of the entry matter before and after: the architecture asks for "not present". */
const WITH_WINDOW: readonly [Kind, Kind][] = [
  ['first stage', 'first stage'],
  ['first stage', 'nested'],
  ['nested', 'first stage'],
  ['nested', 'nested elsewhere'],
];
const SLOTS = [
  ['without PASID', NO_PASID],
  ['with PASID', 0x1_2345],
] as const;

const product = (pairs: readonly [Kind, Kind][]) =>
  pairs.flatMap(([from, to]) =>
    SLOTS.flatMap(([slot, pasid]) => PROBES.map((how) => [from, to, slot, how, pasid] as const)),
  );

/** Replace `from` by `to`; what was seen on the way, and the two pages. */
function replace(
  options: VtdOptions,
  from: Kind,
  to: Kind,
  how: (typeof PROBES)[number],
  pasid: number,
) {
  const at = bench({ ...options, sanitize: true }, [SVA_DEVICE]);
  const [old, next] = [aimed(at, from), aimed(at, to)];
  attach(at, old.domain, pasid);
  const probe = prober(at, how, pasid);
  expect(probe()).toBe(old.frame);
  const seen = watchEachStep(at, probe, () => attach(at, next.domain, pasid));
  expect(probe()).toBe(next.frame);
  const { hardware } = at.unit as VtdIommuUnit;
  hardware.sanitizer?.audit();
  const stale = hardware.sanitizer?.findings.filter(({ found }) => found === 'audit');
  expect(stale).toEqual([]);
  return { seen, old: old.frame, next: next.frame };
}

/** Old until the change, new from then on: never back. */
function expectOneChange(seen: readonly number[], old: number, next: number): void {
  expect(seen.length).toBeGreaterThan(2);
  expect(new Set(seen)).toEqual(new Set([old, next]));
  expect(seen.lastIndexOf(old)).toBeLessThan(seen.indexOf(next));
}

describe('VT-d 9.6: a replacement without a window, scalable mode', () => {
  it.each(product(HITLESS))('%s to %s, %s, %s', (from, to, _slot, how, pasid) => {
    const { seen, old, next } = replace({}, from, to, how, pasid);
    expectOneChange(seen, old, next);
  });

  it.each(SLOTS)('identity to the others and back, %s', (_slot, pasid) => {
    for (const kind of ['second stage', 'first stage', 'nested'] as const) {
      const at = bench({}, [SVA_DEVICE]);
      const { identity } = at.unit;
      if (!identity) throw new Error('no identity');
      const page = stampedPage(at.machine);
      const tag = pasid < 0 ? undefined : pasid;
      const { domain, frame } = aimedAt(at, kind, page);
      attach(at, identity, pasid);
      const probe = () => reach(at.device, page, tag);
      expect(probe()).toBe(page);
      const there = watchEachStep(at, probe, () => attach(at, domain, pasid));
      expectOneChange([page, ...there], page, frame);
      const back = watchEachStep(at, probe, () => attach(at, identity, pasid));
      expectOneChange([frame, ...back], frame, page);
    }
  });

  it.each(product(WITH_WINDOW))(
    '%s to %s, %s, %s: through "not present", never astray',
    (from, to, _slot, how, pasid) => {
      const { seen, old, next } = replace({}, from, to, how, pasid);
      expect(new Set([...seen, old, next])).toEqual(new Set([old, -1, next]));
      expect(seen.lastIndexOf(old)).toBeLessThan(seen.indexOf(-1));
      if (seen.includes(next)) expect(seen.lastIndexOf(-1)).toBeLessThan(seen.indexOf(next));
    },
  );
});

describe('VT-d 9.3: a replacement without a window, legacy mode', () => {
  it.each(PROBES)('%s', (how) => {
    const { seen, old, next } = replace(
      { scalable: false },
      'second stage',
      'second stage',
      how,
      NO_PASID,
    );
    expectOneChange(seen, old, next);
  });

  it('identity and back', () => {
    const at = bench({ scalable: false });
    const { identity } = at.unit;
    if (!identity) throw new Error('no identity');
    const page = stampedPage(at.machine);
    const { domain, frame } = aimedAt(at, 'second stage', page);
    attach(at, identity);
    const probe = () => reach(at.device, page);
    expectOneChange([page, ...watchEachStep(at, probe, () => attach(at, domain))], page, frame);
    expectOneChange([frame, ...watchEachStep(at, probe, () => attach(at, identity))], frame, page);
  });
});

/** A domain that maps one page, the IOVA of which is somebody's physical address. */
function aimedAt(at: Bench, kind: Kind, page: number): Aimed {
  if (kind === 'nested') {
    const parent = paging(at, HWPT.NEST_PARENT);
    const guest = new Guest(at.machine, parent);
    const gfn = guest.page();
    const tables = [guest.table(), guest.table(), guest.table(), guest.table()];
    tables.forEach((table, i) => {
      const index = Math.floor(page / 512 ** (3 - i)) % 512;
      guest.set(table, index, tables[i + 1] ?? gfn);
    });
    const root = s1Blob((tables[0] as number) * 4096);
    const domain = at.unit.nesting?.allocNested(at.device, parent, 0, root);
    if (!domain) throw new Error('no nesting');
    return { domain, frame: guest.hostFrame(gfn) };
  }
  const domain = paging(
    at,
    kind === 'second stage' && at.unit.caps.pasidBits > 0 ? HWPT.DIRTY_TRACKING : 0,
  );
  const frame = stampedPage(at.machine);
  map(domain, page, frame);
  return { domain, frame };
}
