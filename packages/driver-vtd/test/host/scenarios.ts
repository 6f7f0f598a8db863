/**
 * What a driver's user relies on, as scenarios that each end in an assertion on where DMA goes.
 * The ordinary tests run each once; the mutation test runs them with one command left out.
 */
import { ACCESS, createAtsCompletion, type PageFault } from '@iommukit/core';
import { expect } from 'vitest';
import type { VtdOptions } from '../../src/index.ts';
import {
  ALL_PAGES,
  attach,
  type Bench,
  bench,
  Guest,
  GuestTable,
  HWPT,
  map,
  nest,
  paging,
  reach,
  reachAts,
  SVA_DEVICE,
  s1Blob,
  s1Invalidate,
  staleUse,
  stampedPage,
  unmap,
  userArray,
} from './fixture.ts';
import { RECORDED } from './recorded.ts';

const SECOND = { firstStageByDefault: false } as const;
const FIRST = { firstStageByDefault: true } as const;
const IOVA = 0x12345;

const identityOf = ({ unit }: Bench) => {
  if (!unit.identity) throw new Error('no identity domain');
  return unit.identity;
};

/** Map, use, unmap, use: the second use must not go through. */
const mapUseUnmap = (options: VtdOptions, pasid: number, ats: boolean): void => {
  const at = bench(options, [SVA_DEVICE]);
  const domain = paging(at, pasid < 0 ? 0 : HWPT.PASID);
  const use = ats ? reachAts : reach;
  const tag = pasid < 0 ? undefined : pasid;
  attach(at, domain, pasid);
  const frame = stampedPage(at.machine);
  expect(map(domain, IOVA, frame)).toBe(0);
  expect(use(at.device, IOVA, tag)).toBe(frame);
  expect(domain.unmap(IOVA, 1)).toBe(1);
  staleUse(() => expect(use(at.device, IOVA, tag)).toBe(frame));
  domain.sync();
  expect(use(at.device, IOVA, tag)).toBe(-1);
};

/** Go from domain to domain; each must show its own page at the same IOVA, at once. */
const switchAround = (options: VtdOptions, pasid: number, ats: boolean): void => {
  const at = bench(options, [SVA_DEVICE]);
  const use = ats ? reachAts : reach;
  const tag = pasid < 0 ? undefined : pasid;
  const flags = pasid < 0 ? 0 : HWPT.PASID;
  const [a, b] = [paging(at, flags), paging(at, flags)];
  const [frameA, frameB] = [stampedPage(at.machine), stampedPage(at.machine)];
  map(a, IOVA, frameA);
  map(b, IOVA, frameB);
  for (let round = 0; round < 2; round++) {
    attach(at, a, pasid);
    expect(use(at.device, IOVA, tag)).toBe(frameA);
    attach(at, b, pasid);
    expect(use(at.device, IOVA, tag)).toBe(frameB);
  }
  attach(at, at.unit.blocking, pasid);
  expect(use(at.device, IOVA, tag)).toBe(-1);
};

const identityAndBack = (options: VtdOptions, pasid: number): void => {
  const at = bench(options, [SVA_DEVICE]);
  const tag = pasid < 0 ? undefined : pasid;
  const domain = paging(at, pasid < 0 ? 0 : HWPT.PASID);
  const frame = stampedPage(at.machine);
  const other = stampedPage(at.machine);
  map(domain, frame, other);
  attach(at, identityOf(at), pasid);
  expect(reach(at.device, frame, tag)).toBe(frame);
  attach(at, domain, pasid);
  expect(reach(at.device, frame, tag)).toBe(other);
  attach(at, identityOf(at), pasid);
  expect(reach(at.device, frame, tag)).toBe(frame);
  attach(at, at.unit.blocking, pasid);
  expect(reach(at.device, frame, tag)).toBe(-1);
};

/** The guest changes its table: stale until it says so, then not. */
const guestInvalidates = (pasid: number, ats: boolean, entry: Uint8Array): void => {
  const at = bench({}, [SVA_DEVICE]);
  const use = ats ? reachAts : reach;
  const tag = pasid < 0 ? undefined : pasid;
  const { guest, table, nested } = nest(at, pasid);
  const [before, after] = [guest.page(), guest.page()];
  table.map(7, before);
  expect(use(at.device, 7, tag)).toBe(guest.hostFrame(before));
  table.map(7, after);
  staleUse(() => expect(use(at.device, 7, tag)).toBe(guest.hostFrame(before)));
  nested.invalidate?.(userArray(0, [entry]));
  expect(use(at.device, 7, tag)).toBe(guest.hostFrame(after));
};

/** The host moves a page of the guest: nobody may see the old place. */
const hostRemapsBelowGuest = (ats: boolean): void => {
  const at = bench({}, [SVA_DEVICE]);
  const use = ats ? reachAts : reach;
  const { guest, table, parent } = nest(at);
  const gfn = guest.page();
  table.map(7, gfn);
  expect(use(at.device, 7)).toBe(guest.hostFrame(gfn));
  const elsewhere = stampedPage(at.machine);
  expect(unmap(parent, gfn)).toBe(1);
  expect(map(parent, gfn, elsewhere)).toBe(0);
  expect(use(at.device, 7)).toBe(elsewhere);
};

/** The host moves a page that holds a table of the guest. */
const hostRemapsGuestTable = (): void => {
  const at = bench({}, [SVA_DEVICE]);
  const { guest, table, parent } = nest(at);
  const [one, two] = [guest.page(), guest.page()];
  table.map(7, one);
  expect(reach(at.device, 7)).toBe(guest.hostFrame(one));
  const replica = stampedPage(at.machine);
  at.machine.memory.write64(replica * 4096 + 8 * 8, two * 4096 + 7, 0);
  unmap(parent, table.leafTable);
  map(parent, table.leafTable, replica);
  expect(reach(at.device, 8)).toBe(guest.hostFrame(two));
};

const pageRequestRoundTrip = (pasid: number): void => {
  const at = bench(FIRST, [SVA_DEVICE]);
  const domain = paging(at, pasid < 0 ? 0 : HWPT.PASID);
  attach(at, domain, pasid);
  const asked: PageFault[] = [];
  at.machine.setPageFaultHandler(at.device, (fault) => {
    asked.push(fault);
    return true;
  });
  at.unit.pri?.enable(at.device);
  const answers: number[] = [];
  const options = pasid < 0 ? {} : { pasid };
  const pages = [
    { iova: BigInt(IOVA) << 12n, write: false },
    { iova: BigInt(IOVA + 1) << 12n, write: true },
  ];
  at.device.requestPages(pages, options, (code) => answers.push(code));
  expect(asked.map(({ addressPfn, perm, last }) => [addressPfn, perm, last])).toEqual([
    [IOVA, 1, false],
    [IOVA + 1, 3, true],
  ]);
  expect(answers).toEqual([]);
  const { grpid } = asked[1] as PageFault;
  const frame = stampedPage(at.machine);
  map(domain, IOVA, frame);
  at.unit.pri?.respond(at.device, pasid, grpid, 0);
  expect(answers).toEqual([0]);
  expect(reachAts(at.device, IOVA, pasid < 0 ? undefined : pasid)).toBe(frame);
};

/** Runs of dirty frames, and that they are seen again after having been read. */
const dirtyRounds = (viaNested: boolean, ats: boolean): void => {
  const at = bench(SECOND, [SVA_DEVICE]);
  const flags = HWPT.NEST_PARENT | HWPT.DIRTY_TRACKING;
  const domain = paging(at, flags);
  const frames: number[] = [];
  const touch = (i: number): void => {
    const iova = (BigInt(i) << 12n) + 8n;
    const bytes = new Uint8Array(4);
    const done = ats ? at.device.atsWrite(iova, bytes) : at.device.dmaWrite(iova, bytes);
    expect(done).toBe(4);
  };
  const dirtyNow = (clear: boolean): number[] => {
    const seen: number[] = [];
    domain.dirty?.readAndClear(
      0x200,
      8,
      (first, count) => {
        for (let i = 0; i < count; i++) seen.push(first + i - 0x200);
      },
      clear,
    );
    return seen;
  };
  if (viaNested) {
    const { table } = nest(at, -1, at.device, domain);
    for (let i = 0; i < 8; i++) table.map(i, 0x200 + i);
  } else attach(at, domain);
  for (let i = 0; i < 8; i++) frames.push(stampedPage(at.machine));
  for (let i = 0; i < 8; i++) map(domain, 0x200 + i, frames[i] as number);
  const first = viaNested ? 0 : 0x200;
  touch(first + 1);
  expect(dirtyNow(true)).toEqual([]);
  domain.dirty?.setTracking(true);
  touch(first + 1);
  touch(first + 5);
  touch(first + 6);
  expect(dirtyNow(false)).toEqual([1, 5, 6]);
  expect(dirtyNow(true)).toEqual([1, 5, 6]);
  expect(dirtyNow(true)).toEqual([]);
  touch(first + 6);
  expect(dirtyNow(true)).toEqual([6]);
  domain.dirty?.setTracking(false);
  touch(first + 2);
  expect(dirtyNow(true)).toEqual([]);
};

/** A device leaves and one with the same RID comes. */
const replug = (options: VtdOptions): void => {
  const at = bench(options, [SVA_DEVICE]);
  const domain = paging(at);
  const frame = stampedPage(at.machine);
  map(domain, IOVA, frame);
  attach(at, domain);
  expect(reach(at.device, IOVA)).toBe(frame);
  at.unit.releaseDevice(at.device);
  expect(reach(at.device, IOVA)).toBe(-1);
  // The new directory must not land where a stale context entry still points.
  at.machine.memory.allocPages(32, { alignPages: 32 });
  at.unit.probeDevice(at.device);
  expect(reach(at.device, IOVA)).toBe(-1);
  attach(at, domain);
  expect(reach(at.device, IOVA)).toBe(frame);
};

/** Caching mode: what was found absent must be seen when it appears. */
const cachingMode = (options: VtdOptions, pasid: number): void => {
  const at = bench({ capabilities: { cap: { CM: 1 } }, ...options }, [SVA_DEVICE]);
  const tag = pasid < 0 ? undefined : pasid;
  const domain = paging(at, pasid < 0 ? 0 : HWPT.PASID);
  const frame = stampedPage(at.machine);
  map(domain, IOVA, frame);
  expect(reach(at.device, IOVA, tag)).toBe(-1);
  attach(at, domain, pasid);
  expect(reach(at.device, IOVA, tag)).toBe(frame);
  expect(reach(at.device, IOVA + 1, tag)).toBe(-1);
  map(domain, IOVA + 1, frame);
  expect(reach(at.device, IOVA + 1, tag)).toBe(frame);
};

/** Caching mode: PASIDs around the one that appears, and those of a device that was there before. */
const cachingModeNeighbours = (): void => {
  const at = bench({ capabilities: { cap: { CM: 1 } } }, [SVA_DEVICE]);
  const reasons: number[] = [];
  at.machine.onFault(({ reason }) => reasons.push(reason));
  const domain = paging(at, HWPT.PASID);
  const frame = stampedPage(at.machine);
  map(domain, IOVA, frame);
  const blocked = (pasid: number, reason: number): void => {
    reasons.length = 0;
    expect(reach(at.device, IOVA, pasid)).toBe(-1);
    expect(reasons).toEqual([reason]);
  };
  blocked(3, 0x51);
  attach(at, domain, 5);
  blocked(3, 0x59);
  blocked(4, 0x59);
  attach(at, domain, 3);
  expect(reach(at.device, IOVA, 3)).toBe(frame);
  at.unit.releaseDevice(at.device);
  at.unit.probeDevice(at.device);
  blocked(4, 0x51);
};

const cachingModeHotplug = (): void => {
  const at = bench({ capabilities: { cap: { CM: 1 } } }, [SVA_DEVICE]);
  at.unit.releaseDevice(at.device);
  expect(reach(at.device, IOVA)).toBe(-1);
  at.unit.probeDevice(at.device);
  const domain = paging(at);
  attach(at, domain);
  const frame = stampedPage(at.machine);
  map(domain, IOVA, frame);
  expect(reach(at.device, IOVA)).toBe(frame);
};

/** A unit that can name single pages only: larger ranges go by domain. */
const narrowMask = (): void => {
  const at = bench({ ...SECOND, capabilities: { cap: { MAMV: 0 } } });
  const domain = paging(at);
  attach(at, domain);
  const frame = stampedPage(at.machine, 4);
  map(domain, 0x100, frame, 4);
  expect(reach(at.device, 0x102)).toBe(frame + 2);
  unmap(domain, 0x100, 4);
  expect(reach(at.device, 0x102)).toBe(-1);
};

const noPageSelective = (): void => {
  const at = bench({ ...SECOND, capabilities: { cap: { PSI: 0 } } });
  const domain = paging(at);
  attach(at, domain);
  const frame = stampedPage(at.machine);
  map(domain, 0x100, frame);
  expect(reach(at.device, 0x100)).toBe(frame);
  unmap(domain, 0x100);
  expect(reach(at.device, 0x100)).toBe(-1);
};

/** Tables leave the tree with their leaves: no walk may still go through them. */
const tablesGo = (options: VtdOptions): void => {
  const at = bench(options, [SVA_DEVICE]);
  const domain = paging(at);
  attach(at, domain);
  const frame = stampedPage(at.machine, 512);
  map(domain, 0x200, frame + 1, 511);
  expect(reach(at.device, 0x200)).toBe(frame + 1);
  unmap(domain, 0x200, 511);
  expect(reach(at.device, 0x210)).toBe(-1);
  expect(map(domain, 0x200, frame, 512)).toBe(0);
  for (const page of [0, 1, 0x10, 511]) {
    expect(reach(at.device, 0x200 + page)).toBe(frame + page);
  }
};

const nestedSwitch = (): void => {
  const at = bench({}, [SVA_DEVICE]);
  const { parent, guest, table, nested } = nest(at);
  const [one, two] = [guest.page(), guest.page()];
  table.map(7, one);
  expect(reach(at.device, 7)).toBe(guest.hostFrame(one));
  const other = at.unit.nesting?.allocNested(at.device, parent, 0, s1Blob(table.rootGpa));
  if (!other) throw new Error('no nesting');
  table.map(7, two);
  attach(at, other);
  expect(reach(at.device, 7)).toBe(guest.hostFrame(two));
  attach(at, parent);
  expect(reach(at.device, one)).toBe(guest.hostFrame(one));
  attach(at, nested);
  expect(reach(at.device, 7)).toBe(guest.hostFrame(two));
  attach(at, at.unit.blocking);
  expect(reach(at.device, 7)).toBe(-1);
};

/** Translations that devices get from now on forbid No Snoop (N bit). */
const snoopForced = (): void => {
  const at = bench(FIRST, [SVA_DEVICE]);
  const domain = paging(at);
  attach(at, domain);
  map(domain, IOVA, stampedPage(at.machine));
  const noSnoop = (): number => {
    const completion = createAtsCompletion();
    at.unit.agent.translationRequest?.(at.device.rid, -1, IOVA, ACCESS.READ, completion);
    return completion.noSnoop;
  };
  expect(noSnoop()).toBe(0);
  expect(domain.enforceCacheCoherency?.()).toBe(true);
  expect(domain.enforcesCacheCoherency).toBe(true);
  expect(noSnoop()).toBe(1);
};

/** An empty second stage gets another root below a device and a guest that use it. */
const snoopForcedBelow = (): void => {
  const at = bench(SECOND, [SVA_DEVICE, { rid: '00:06.0' }]);
  const [a, b] = at.devices as [Bench['device'], Bench['device']];
  const domain = paging(at, HWPT.NEST_PARENT);
  const nested = at.unit.nesting?.allocNested(a, domain, 0, s1Blob(0x100_000));
  if (!nested) throw new Error('no nesting');
  attach(at, nested, -1, a);
  attach(at, domain, -1, b);
  expect([reach(a, 7), reach(b, IOVA)]).toEqual([-1, -1]);
  expect(domain.enforceCacheCoherency?.()).toBe(true);
  const guest = new Guest(at.machine, domain);
  const table = new GuestTable(guest);
  expect(table.rootGpa).toBe(0x100_000);
  const gfn = guest.page();
  table.map(7, gfn);
  expect(reach(a, 7)).toBe(guest.hostFrame(gfn));
  expect(reach(b, gfn)).toBe(guest.hostFrame(gfn));
};

const PAGE_7 = s1Invalidate(0x7000n, 1n);
const LEAF_7 = s1Invalidate(0x7000n, 1n, 1);
const EVERYTHING = s1Invalidate(0n, ALL_PAGES);
const LEGACY = { scalable: false } as const;

/** All of them by name. */
export const SCENARIOS: Readonly<Record<string, () => void>> = {
  'second stage: map, use, unmap': () => mapUseUnmap(SECOND, -1, false),
  'second stage through a device TLB': () => mapUseUnmap(SECOND, -1, true),
  'second stage with PASID': () => mapUseUnmap(SECOND, 5, false),
  'first stage: map, use, unmap': () => mapUseUnmap(FIRST, -1, false),
  'first stage through a device TLB': () => mapUseUnmap(FIRST, -1, true),
  'first stage with PASID': () => mapUseUnmap(FIRST, 0x12345, false),
  'legacy mode: map, use, unmap': () => mapUseUnmap(LEGACY, -1, false),
  'legacy mode through a device TLB': () => mapUseUnmap(LEGACY, -1, true),
  'first stage with PASID through a device TLB': () => mapUseUnmap(FIRST, 0x12345, true),
  'second stage with PASID through a device TLB': () => mapUseUnmap(SECOND, 5, true),
  'first stage with PASID: replace, device TLB': () => switchAround(FIRST, 0x12345, true),
  'second stage: replace': () => switchAround(SECOND, -1, false),
  'second stage: replace, device TLB': () => switchAround(SECOND, -1, true),
  'first stage: replace': () => switchAround(FIRST, -1, false),
  'first stage with PASID: replace': () => switchAround(FIRST, 0x12345, false),
  'legacy mode: replace': () => switchAround(LEGACY, -1, false),
  'legacy mode: replace, device TLB': () => switchAround(LEGACY, -1, true),
  'identity and second stage': () => identityAndBack(SECOND, -1),
  'identity and first stage': () => identityAndBack(FIRST, -1),
  'identity with PASID': () => identityAndBack(FIRST, 9),
  'identity in legacy mode': () => identityAndBack(LEGACY, -1),
  'guest invalidates a page': () => guestInvalidates(-1, false, PAGE_7),
  'guest invalidates a leaf': () => guestInvalidates(-1, false, LEAF_7),
  'guest invalidates everything': () => guestInvalidates(-1, false, EVERYTHING),
  'guest invalidates a page of a PASID': () => guestInvalidates(0x12345, false, PAGE_7),
  'guest invalidates a page, device TLB': () => guestInvalidates(-1, true, PAGE_7),
  'guest invalidates everything, device TLB': () => guestInvalidates(-1, true, EVERYTHING),
  'host moves a page below a guest': () => hostRemapsBelowGuest(false),
  'host moves a page below a guest, device TLB': () => hostRemapsBelowGuest(true),
  'host moves a table of a guest': hostRemapsGuestTable,
  'nested to nested, to parent, to blocking': nestedSwitch,
  'page request without PASID': () => pageRequestRoundTrip(-1),
  'page request with PASID': () => pageRequestRoundTrip(0x12345),
  'dirty tracking': () => dirtyRounds(false, false),
  'dirty tracking through a device TLB': () => dirtyRounds(false, true),
  'dirty tracking below a guest': () => dirtyRounds(true, false),
  'device replugged': () => replug(FIRST),
  'device replugged, legacy mode': () => replug(LEGACY),
  'caching mode, first stage': () => cachingMode(FIRST, -1),
  'caching mode, second stage': () => cachingMode(SECOND, -1),
  'caching mode with PASID': () => cachingMode(SECOND, 5),
  'caching mode, neighbours': cachingModeNeighbours,
  'caching mode, legacy': () => cachingMode(LEGACY, -1),
  'caching mode, hotplug': cachingModeHotplug,
  'unit without large address masks': narrowMask,
  'unit without page-selective invalidation': noPageSelective,
  'tables leave the tree, second stage': () => tablesGo(SECOND),
  'tables leave the tree, first stage': () => tablesGo(FIRST),
  'snooping forced while attached': snoopForced,
  'snooping forced below a guest': snoopForcedBelow,
  ...RECORDED,
};
