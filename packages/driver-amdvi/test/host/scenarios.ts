/**
 * What a driver's user relies on, as scenarios that each end in an assertion on where DMA goes.
 * The ordinary tests run each once; the mutation test runs them with one command left out.
 */
import type { PageFault } from '@iommukit/core';
import { expect } from 'vitest';
import type { AmdviOptions } from '../../src/index.ts';
import {
  attach,
  type Bench,
  bench,
  FULL,
  GUEST_RID,
  GuestTable,
  HWPT,
  map,
  nest,
  paging,
  reach,
  reachAts,
  SVA_DEVICE,
  staleUse,
  stampedPage,
  unmap,
} from './fixture.ts';
import { guestCommands, guestDte, guestOf } from './guests.ts';
import { recorded } from './recording-unit.ts';

const IOVA = 0x12345;
/** How a domain comes to stand behind a PASID: requests without one need a GCR3 table. */
const tagOf = (pasid: number): number | undefined => (pasid < 0 ? undefined : pasid);
const full = (): Bench => bench(FULL, [SVA_DEVICE]);

/** A bench whose PASID, if any, can be attached. */
const benchFor = (pasid: number): Bench => {
  const at = full();
  if (pasid >= 0) attach(at, at.unit.identity);
  return at;
};

/** Map, use, unmap, use: the second use must not go through. */
const mapUseUnmap = (flags: number, pasid: number, ats: boolean): void => {
  const at = benchFor(pasid);
  const domain = paging(at, flags);
  const use = ats ? reachAts : reach;
  const tag = tagOf(pasid);
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
const switchAround = (flags: number, pasid: number, ats: boolean): void => {
  const at = benchFor(pasid);
  const use = ats ? reachAts : reach;
  const tag = tagOf(pasid);
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

/** Between host tables, guest tables and identity; PASIDs of the device go on. */
const kindsOfDomain = (flags: number, ats: boolean): void => {
  const at = full();
  const use = ats ? reachAts : reach;
  const domain = paging(at, flags);
  const frame = stampedPage(at.machine);
  const other = stampedPage(at.machine);
  map(domain, frame, other);
  for (let round = 0; round < 2; round++) {
    attach(at, at.unit.identity);
    expect(use(at.device, frame)).toBe(frame);
    attach(at, domain);
    expect(use(at.device, frame)).toBe(other);
  }
  attach(at, at.unit.identity);
  expect(use(at.device, frame)).toBe(frame);
  attach(at, at.unit.blocking);
  expect(use(at.device, frame)).toBe(-1);
};

/** GCR3 entry 0 goes while a PASID keeps the table: requests with PASID 0 must not find it. */
const entryZero = (next: (at: Bench) => Parameters<typeof attach>[1]): void => {
  const at = full();
  const [rid, kept] = [paging(at, HWPT.PASID), paging(at, HWPT.PASID)];
  const frames = [stampedPage(at.machine), stampedPage(at.machine)] as const;
  map(rid, IOVA, frames[0]);
  map(kept, IOVA, frames[1]);
  attach(at, rid);
  attach(at, kept, 5);
  expect([reach(at.device, IOVA), reach(at.device, IOVA, 0)]).toEqual([frames[0], frames[0]]);
  attach(at, next(at));
  expect([reach(at.device, IOVA), reach(at.device, IOVA, 0)]).toEqual([-1, -1]);
  expect(reach(at.device, IOVA, 5)).toBe(frames[1]);
  attach(at, at.unit.blocking);
  attach(at, at.unit.blocking, 5);
  expect([reach(at.device, IOVA), reach(at.device, IOVA, 5)]).toEqual([-1, -1]);
};

/**
 * From a guest table to identity beside a PASID: GCR3 entry 0 goes when no request is sent there any
 * more, not even by an entry of the device that is still cached.
 */
const noGapToIdentity = (): void => {
  const at = full();
  const { memory } = at.machine;
  const [rid, kept] = [paging(at, HWPT.PASID), paging(at, HWPT.PASID)];
  const [here, there] = [stampedPage(at.machine), stampedPage(at.machine)];
  map(rid, here, there);
  attach(at, rid);
  attach(at, kept, 5);
  reach(at.device, here, 5);
  const seen: number[] = [];
  memory.onWrite = (pa) => {
    const cleared = memory.read32(pa) === 0 && memory.read32(pa + 4) === 0;
    if (cleared) seen.push(reach(at.device, here));
  };
  attach(at, at.unit.identity);
  memory.onWrite = undefined;
  // Commands have empty halves too; the entry goes last.
  expect(seen.at(-1)).toBe(here);
};

/** The tag of a device that left is another domain's: nothing may be found under it. */
const tagsAreReused = (flags: number): void => {
  const at = full();
  const [first, second] = [paging(at, flags), paging(at, flags)];
  const frame = stampedPage(at.machine);
  map(first, IOVA, frame);
  attach(at, first);
  expect(reach(at.device, IOVA)).toBe(frame);
  attach(at, at.unit.blocking);
  attach(at, second);
  expect(reach(at.device, IOVA)).toBe(-1);
};

const PAGES_7: readonly [bigint, bigint] = [0x3000_0042_0000_0000n, 0x7004n];
const PAGES_ALL: readonly [bigint, bigint] = [0x3000_0042_0000_0000n, 0x7fff_ffff_ffff_f007n];
const DOMAIN: readonly [bigint, bigint] = [0x3000_0042_0000_0000n, 0x7fff_ffff_ffff_f003n];
const EVERYTHING: readonly [bigint, bigint] = [0x8000_0000_0000_0000n, 0n];
const DEVICE_7: readonly [bigint, bigint] = [0x4000_0021_2000_0000n | BigInt(GUEST_RID), 0x7000n];

/** The guest changes its table: stale until it says so, then not. */
const guestInvalidates = (ats: boolean, ...commands: (readonly [bigint, bigint])[]): void => {
  const at = full();
  const use = ats ? reachAts : reach;
  const { guest, table, backend } = nest(at);
  const [before, after] = [guest.page(), guest.page()];
  table.map(7, before);
  expect(use(at.device, 7)).toBe(guest.hostFrame(before));
  table.map(7, after);
  staleUse(() => expect(use(at.device, 7)).toBe(guest.hostFrame(before)));
  backend.invalidate(guestCommands(commands));
  expect(use(at.device, 7)).toBe(guest.hostFrame(after));
};

/** A wait in the middle: what came before is done when it stores. */
const guestWaits = (): void => {
  const at = full();
  const { guest, table, backend, parent } = nest(at);
  const [before, after] = [guest.page(), guest.page()];
  table.map(7, before);
  expect(reach(at.device, 7)).toBe(guest.hostFrame(before));
  table.map(7, after);
  const store = guest.page();
  let then = 0;
  at.machine.memory.onWrite = (pa) => {
    if (pa === guest.hostFrame(store) * 4096) then = reach(at.device, 7);
  };
  const wait = [0x1000_0000_0000_0001n | (BigInt(store) << 12n), 1n] as const;
  backend.invalidate(guestCommands([PAGES_7, wait]));
  at.machine.memory.onWrite = undefined;
  expect(then).toBe(guest.hostFrame(after));
  expect(parent.iovaToFrame(store)).toBe(guest.hostFrame(store));
};

/** The host moves a page of the guest: nobody may see the old place. */
const hostRemapsBelowGuest = (pasid: number, ats: boolean): void => {
  const at = full();
  const use = ats ? reachAts : reach;
  const { guest, table, parent } = nest(at, { pasid });
  const tag = pasid === 0 ? undefined : pasid;
  const gfn = guest.page();
  table.map(7, gfn);
  expect(use(at.device, 7, tag)).toBe(guest.hostFrame(gfn));
  const elsewhere = stampedPage(at.machine);
  expect(unmap(parent, gfn)).toBe(1);
  expect(map(parent, gfn, elsewhere)).toBe(0);
  expect(use(at.device, 7, tag)).toBe(elsewhere);
};

/** The host moves a page that holds a table of the guest. */
const hostRemapsGuestTable = (): void => {
  const at = full();
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

const nestedSwitch = (ats: boolean): void => {
  const at = full();
  const use = ats ? reachAts : reach;
  const { parent, guest, table, nested, backend } = nest(at);
  const [one, two] = [guest.page(), guest.page()];
  table.map(7, one);
  expect(use(at.device, 7)).toBe(guest.hostFrame(one));
  const second = new GuestTable(guest);
  second.map(7, two);
  attach(at, backend.allocNested(at.device, 0, guestDte(second.dte())));
  expect(use(at.device, 7)).toBe(guest.hostFrame(two));
  attach(at, parent);
  expect(use(at.device, one)).toBe(guest.hostFrame(one));
  attach(at, nested);
  expect(use(at.device, 7)).toBe(guest.hostFrame(one));
  attach(at, at.unit.blocking);
  expect(use(at.device, 7)).toBe(-1);
};

/** Five levels after four: the unit must not read the new mode with the old lower half. */
const guestPagingMode = (): void => {
  const at = full();
  const { guest, table, backend } = nest(at);
  const gfn = guest.page();
  table.map(7, gfn);
  expect(reach(at.device, 7)).toBe(guest.hostFrame(gfn));
  const [q0 = 0n, q1 = 0n] = table.dte();
  attach(at, backend.allocNested(at.device, 0, guestDte([q0, q1, 1n << 54n, 0n])));
  expect(reach(at.device, 7)).toBe(-1);
};

const pageRequestRoundTrip = (pasid: number): void => {
  const at = benchFor(pasid);
  const domain = paging(at, pasid < 0 ? 0 : HWPT.PASID);
  attach(at, domain, pasid);
  const asked: PageFault[] = [];
  at.machine.setPageFaultHandler(at.device, (fault) => {
    asked.push(fault);
    return true;
  });
  at.unit.pri?.enable(at.device);
  const answers: number[] = [];
  const pages = [
    { iova: BigInt(IOVA) << 12n, write: false },
    { iova: BigInt(IOVA + 1) << 12n, write: true },
  ];
  const options = pasid < 0 ? {} : { pasid };
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
  expect(reachAts(at.device, IOVA, tagOf(pasid))).toBe(frame);
};

/** A guest answers its device itself. */
const guestAnswers = (): void => {
  const at = full();
  const { backend } = nest(at, { pasid: 7 });
  at.machine.setPageFaultHandler(at.device, () => true);
  at.unit.pri?.enable(at.device);
  const answers: number[] = [];
  const { table, guest } = nest(at, { pasid: 7 });
  const [q0 = 0n, ...rest] = table.dte();
  const withPpr = guestDte([q0 | (1n << 52n), ...rest]);
  attach(at, backend.allocNested(at.device, 0, withPpr));
  at.device.requestPages([{ iova: 0x7000n, write: false }], { pasid: 7 }, (c) => answers.push(c));
  expect(answers).toEqual([]);
  backend.invalidate(guestCommands([[0x7000_0007_0000_0000n | BigInt(GUEST_RID), 4n]]));
  expect([answers, guest.machine === at.machine]).toEqual([[0], true]);
};

const nobodyAsked = (): void => {
  const at = full();
  attach(at, paging(at));
  const answers: number[] = [];
  at.device.requestPages([{ iova: 0x7000n, write: false }], {}, (code) => answers.push(code));
  expect(answers).toEqual([1]);
};

/** Runs of dirty frames, and that they are seen again after having been read. */
const dirtyRounds = (viaNested: boolean, ats: boolean): void => {
  const at = full();
  const flags = HWPT.NEST_PARENT | HWPT.DIRTY_TRACKING;
  const guest = viaNested ? nest(at, { flags }) : undefined;
  const domain = guest?.parent ?? paging(at, flags);
  if (!guest) attach(at, domain);
  const touch = (i: number): void => {
    const iova = (BigInt(i) << 12n) + 8n;
    const bytes = new Uint8Array(4);
    const done = ats ? at.device.atsWrite(iova, bytes) : at.device.dmaWrite(iova, bytes);
    expect(done).toBe(4);
  };
  const dirtyNow = (clear: boolean): number[] => {
    const seen: number[] = [];
    const visit = (first: number, count: number) => {
      for (let i = 0; i < count; i++) seen.push(first + i - 0x200);
    };
    domain.dirty?.readAndClear(0x200, 8, visit, clear);
    return seen;
  };
  for (let i = 0; i < 8; i++) {
    map(domain, 0x200 + i, stampedPage(at.machine));
    guest?.table.map(i, 0x200 + i);
  }
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
const replug = (flags: number): void => {
  const at = full();
  const domain = paging(at, flags);
  const frame = stampedPage(at.machine);
  map(domain, IOVA, frame);
  attach(at, domain);
  expect(reach(at.device, IOVA)).toBe(frame);
  at.unit.releaseDevice(at.device);
  expect(reach(at.device, IOVA)).toBe(-1);
  at.unit.probeDevice(at.device);
  expect(reach(at.device, IOVA)).toBe(-1);
  attach(at, domain);
  expect(reach(at.device, IOVA)).toBe(frame);
};

/** The top grows while devices and a guest use it. */
const grows = (): void => {
  const at = bench(FULL, [SVA_DEVICE, { rid: '00:06.0' }]);
  const { parent, guest, table } = nest(at);
  const other = at.devices[1];
  if (!other) throw new Error('two devices');
  attach(at, parent, -1, other);
  const gfn = guest.page();
  table.map(7, gfn);
  expect([reach(at.device, 7), reach(other, gfn)]).toEqual(Array(2).fill(guest.hostFrame(gfn)));
  const frame = stampedPage(at.machine);
  map(parent, 2 ** 35, frame);
  table.map(8, 2 ** 35);
  expect([reach(at.device, 8), reach(other, 2 ** 35)]).toEqual([frame, frame]);
};

/** Tables leave the tree with their leaves: no walk may still go through them. */
const tablesGo = (flags: number): void => {
  const at = full();
  const domain = paging(at, flags);
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

/** An earlier owner left the unit translating. */
const takeOver = (options: AmdviOptions): void => {
  const at = bench(options);
  const domain = paging(at);
  const frame = stampedPage(at.machine);
  map(domain, IOVA, frame);
  attach(at, domain);
  expect(reach(at.device, IOVA)).toBe(frame);
};

/** What this hardware forgives, because it caches less than the architecture allows. */
const RECORDED: Readonly<Record<string, () => void>> = {
  'bring-up: INVALIDATE_IOMMU_ALL': () => {
    expect(recorded().registers.commands()).toEqual(['8000000000000000 0000000000000000']);
  },

  'NpCache: what appears is flushed': () => {
    const bench = recorded({ npCache: true });
    const domain = bench.unit.allocPaging(bench.device, { flags: 0 });
    bench.unit.attach(bench.device, -1, domain);
    const from = bench.registers.log.length;
    map(domain, 3, 0x1003);
    expect(bench.registers.commands(from)).toEqual(['3000000200000000 0000000000003002']);
    expect(bench.registers.log.at(-1)).toMatchObject({ kind: 'memory', bytes: 8 });
  },

  'GuestPagingMode changes: the entry between is out of the cache before the upper half is new':
    () => {
      const { unit, device, registers } = recorded();
      const { backend } = guestOf(unit, device);
      const [four, five] = [0n, 1n << 54n].map((q2) =>
        backend.allocNested(device, 0, guestDte([0x64d0_0000_0000_0003n, 0x42n, q2, 0n])),
      );
      if (!four || !five) throw new Error('two domains');
      unit.attach(device, -1, four);
      const from = registers.log.length;
      unit.attach(device, -1, five);
      const upper = registers.entryPa(device.rid) + 16;
      const kinds = registers.log.slice(from).flatMap((access) => {
        if (access.kind === 'memory' && access.pa === upper) return ['upper'];
        return access.kind === 'command' && access.qw0 >> 60n === 2n ? ['invalidate'] : [];
      });
      expect(kinds).toEqual(['invalidate', 'upper', 'invalidate']);
    },
};

const { PASID } = HWPT;

/** All of them by name. */
export const SCENARIOS: Readonly<Record<string, () => void>> = {
  'host table: map, use, unmap': () => mapUseUnmap(0, -1, false),
  'host table through a device TLB': () => mapUseUnmap(0, -1, true),
  'guest table: map, use, unmap': () => mapUseUnmap(PASID, -1, false),
  'guest table through a device TLB': () => mapUseUnmap(PASID, -1, true),
  'PASID: map, use, unmap': () => mapUseUnmap(PASID, 0x12345, false),
  'PASID through a device TLB': () => mapUseUnmap(PASID, 0x12345, true),
  'host table: replace': () => switchAround(0, -1, false),
  'host table: replace, device TLB': () => switchAround(0, -1, true),
  'guest table: replace': () => switchAround(PASID, -1, false),
  'guest table: replace, device TLB': () => switchAround(PASID, -1, true),
  'PASID: replace': () => switchAround(PASID, 0x12345, false),
  'PASID: replace, device TLB': () => switchAround(PASID, 0x12345, true),
  'identity and host table': () => kindsOfDomain(0, false),
  'identity and host table, device TLB': () => kindsOfDomain(0, true),
  'identity and guest table': () => kindsOfDomain(PASID, false),
  'identity and guest table, device TLB': () => kindsOfDomain(PASID, true),
  'GCR3 entry 0 goes, identity': () => entryZero((at) => at.unit.identity),
  'GCR3 entry 0 goes, blocked': () => entryZero((at) => at.unit.blocking),
  'from a guest table to identity beside a PASID': noGapToIdentity,
  'DomainIDs of host tables are used again': () => tagsAreReused(0),
  'DomainIDs of guest tables are used again': () => tagsAreReused(PASID),
  'guest invalidates a page': () => guestInvalidates(false, PAGES_7),
  'guest invalidates a PASID': () => guestInvalidates(false, PAGES_ALL),
  'guest invalidates a domain': () => guestInvalidates(false, DOMAIN),
  'guest invalidates everything': () => guestInvalidates(false, EVERYTHING),
  'guest invalidates a page, device TLB': () => guestInvalidates(true, PAGES_7, DEVICE_7),
  'guest waits': guestWaits,
  'host moves a page below a guest': () => hostRemapsBelowGuest(0, false),
  'host moves a page below a guest, PASID': () => hostRemapsBelowGuest(7, false),
  'host moves a page below a guest, device TLB': () => hostRemapsBelowGuest(0, true),
  'host moves a page below a guest, device TLB, PASID': () => hostRemapsBelowGuest(7, true),
  'host moves a table of a guest': hostRemapsGuestTable,
  'nested to nested, to parent, to blocking': () => nestedSwitch(false),
  'nested to nested, to parent, to blocking, device TLB': () => nestedSwitch(true),
  'guest tables of other levels': guestPagingMode,
  'page request without PASID': () => pageRequestRoundTrip(-1),
  'page request with PASID': () => pageRequestRoundTrip(0x12345),
  'page request that a guest answers': guestAnswers,
  'page request that nobody takes': nobodyAsked,
  'dirty tracking': () => dirtyRounds(false, false),
  'dirty tracking through a device TLB': () => dirtyRounds(false, true),
  'dirty tracking below a guest': () => dirtyRounds(true, false),
  'dirty tracking below a guest, device TLB': () => dirtyRounds(true, true),
  'device replugged, host table': () => replug(0),
  'device replugged, guest table': () => replug(PASID),
  'the top grows': grows,
  'tables leave the tree, host': () => tablesGo(0),
  'tables leave the tree, guest': () => tablesGo(PASID),
  'brought up': () => takeOver(FULL),
  ...RECORDED,
};
