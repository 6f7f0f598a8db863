/**
 * What a driver's user relies on, as scenarios that each end in an assertion on where DMA goes, or
 * on what the unit was told. The ordinary tests run each once; the mutation test runs them with one
 * command left out.
 */
import { IOAS_MAP, type UnitHost } from '@iommukit/core';
import { createPoolIn } from '@iommukit/pgtable-fast';
import { expect } from 'vitest';
import { bringUp } from '../../src/host/bring-up.ts';
import { TAG } from '../../src/host/cache-tags.ts';
import { SmmuPagingDomain } from '../../src/host/domain.ts';
import { SmmuUnit } from '../../src/host/unit.ts';
import type { SmmuOptions } from '../../src/index.ts';
import {
  aimed,
  attach,
  type Bench,
  bench,
  commandNames,
  HWPT,
  map,
  PASID_DEVICE,
  paging,
  reach,
  reachAts,
  STAGE2_ONLY,
  staleUse,
  stampedPage,
  unmap,
  watch,
  writes,
} from './fixture.ts';
import { CD_OF, guest, LEAF_OF, VA } from './guest.ts';

const IOVA = 0x12345;
const ATS_DEVICE = { ...PASID_DEVICE, ats: true } as const;
const NO_RIL = { capabilities: { idr3: { RIL: 0 } } } as const;
const NO_RIL_STAGE2 = { capabilities: { idr0: { S1P: 0 }, idr3: { RIL: 0 } } } as const;

const EL2_E2H = { capabilities: { idr0: { HYP: 1 } }, vhe: true } as const;
const EL2_E2H_NO_RIL = {
  capabilities: { idr0: { HYP: 1 }, idr3: { RIL: 0 } },
  vhe: true,
} as const;

const tagOf = (pasid: number) => (pasid < 0 ? undefined : pasid);

/** Map, use, unmap, use: the second use must not go through. */
const mapUseUnmap = (options: SmmuOptions, pasid = -1, ats = false, pages = 1): void => {
  const at = bench(options, [ATS_DEVICE]);
  const domain = paging(at, pasid < 0 ? 0 : HWPT.PASID);
  const use = ats ? reachAts : reach;
  attach(at, domain, pasid);
  const frame = stampedPage(at.machine);
  expect((IOVA - frame) % 512).not.toBe(0);
  expect(map(domain, IOVA, frame, pages)).toBe(0);
  expect(use(at.device, IOVA, tagOf(pasid))).toBe(frame);
  expect(domain.unmap(IOVA, pages)).toBe(pages);
  staleUse(() => expect(use(at.device, IOVA, tagOf(pasid))).toBe(frame));
  domain.sync();
  expect(use(at.device, IOVA, tagOf(pasid))).toBe(-1);
};

/** Go from domain to domain; each must show its own page at the same IOVA, at once. */
const switchAround = (options: SmmuOptions, pasid = -1, ats = false): void => {
  const at = bench(options, [ATS_DEVICE]);
  const use = ats ? reachAts : reach;
  const flags = pasid < 0 ? 0 : HWPT.PASID;
  const [a, b] = [aimed(at, IOVA, flags), aimed(at, IOVA, flags)];
  for (let round = 0; round < 2; round++) {
    for (const { domain, frame } of [a, b]) {
      attach(at, domain, pasid);
      expect(use(at.device, IOVA, tagOf(pasid))).toBe(frame);
    }
  }
  attach(at, at.unit.blocking, pasid);
  expect(use(at.device, IOVA, tagOf(pasid))).toBe(-1);
};

const identityAndBack = (options: SmmuOptions): void => {
  const at = bench(options, [PASID_DEVICE]);
  const domain = paging(at);
  const [frame, other] = [stampedPage(at.machine), stampedPage(at.machine)];
  map(domain, frame, other);
  for (let round = 0; round < 2; round++) {
    attach(at, at.unit.identity);
    expect(reach(at.device, frame)).toBe(frame);
    attach(at, domain);
    expect(reach(at.device, frame)).toBe(other);
  }
  attach(at, at.unit.blocking);
  expect(reach(at.device, frame)).toBe(-1);
};

/** A tag that is free again must not bring back what its last owner mapped. */
const tagIsReused = (options: SmmuOptions): void => {
  const at = bench(options, [ATS_DEVICE]);
  const { domain, frame } = aimed(at, IOVA);
  attach(at, domain);
  expect(reach(at.device, IOVA)).toBe(frame);
  attach(at, at.unit.blocking);
  domain.free();
  attach(at, paging(at));
  expect(reach(at.device, IOVA)).toBe(-1);
};

/** Cleaned leaves must be written again by hardware when the device writes. */
const dirtyAgain = (): void => {
  const at = bench({}, [ATS_DEVICE]);
  const { domain } = aimed(at, IOVA, HWPT.DIRTY_TRACKING);
  attach(at, domain);
  for (let round = 0; round < 2; round++) {
    expect(writes(at.device, IOVA)).toBe(true);
    const found: number[] = [];
    domain.dirty?.readAndClear(IOVA, 1, (start) => found.push(start), true);
    expect(found).toEqual([IOVA]);
  }
};

/** A place that was asked for in vain must be found once it is there. */
const lateStream = (): void => {
  const at = bench({}, [ATS_DEVICE]);
  const rid = 0x4200;
  expect(at.unit.agent.translatePage(rid, -1, IOVA, 1)).toBeLessThan(0);
  const names = commandNames(at, () => {
    at.machine.addEndpoint({ rid: '42:00.0' });
    at.unit.probeDevice(at.machine.endpoint(rid) as Bench['device']);
  });
  expect(names).toEqual(['CFGI_STE', 'SYNC']);
};

const lateSubstreams = (): void => {
  const at = bench({}, [PASID_DEVICE]);
  attach(at, paging(at));
  expect(reach(at.device, IOVA, 5000)).toBe(-1);
  const { domain, frame } = aimed(at, IOVA, HWPT.PASID);
  const names = commandNames(at, () => attach(at, domain, 5000));
  expect(names).toEqual(['CFGI_CD', 'SYNC', 'CFGI_CD', 'SYNC', 'CFGI_CD', 'SYNC']);
  expect(reach(at.device, IOVA, 5000)).toBe(frame);
};

/** PASIDs come and go; what was not attached never translates. */
const pasidsComeAndGo = (): void => {
  const at = bench({}, [ATS_DEVICE]);
  const [a, b] = [aimed(at, IOVA, HWPT.PASID), aimed(at, IOVA, HWPT.PASID)];
  for (let round = 0; round < 2; round++) {
    attach(at, a.domain, 5);
    expect([reach(at.device, IOVA, 5), reach(at.device, IOVA, 6)]).toEqual([a.frame, -1]);
    attach(at, b.domain, 6);
    expect([reach(at.device, IOVA, 5), reach(at.device, IOVA, 6)]).toEqual([a.frame, b.frame]);
    attach(at, at.unit.blocking, 5);
    expect([reach(at.device, IOVA, 5), reach(at.device, IOVA, 6)]).toEqual([-1, b.frame]);
    attach(at, at.unit.blocking, 6);
    expect([reach(at.device, IOVA, 5), reach(at.device, IOVA, 6)]).toEqual([-1, -1]);
  }
};

/** A substream that is off must be off at once, also when nothing else changes. */
const oneOfManyGoes = (): void => {
  const at = bench({}, [PASID_DEVICE]);
  const { domain, frame } = aimed(at, IOVA, HWPT.PASID);
  for (const pasid of [5, 6]) attach(at, domain, pasid);
  for (const pasid of [5, 6]) expect(reach(at.device, IOVA, pasid)).toBe(frame);
  attach(at, at.unit.blocking, 5);
  expect([5, 6].map((pasid) => reach(at.device, IOVA, pasid))).toEqual([-1, frame]);
};

/** Another owner takes over a unit that is in use: nothing cached may live on. */
const takenOver = (options: SmmuOptions): void => {
  const at = bench(options, [PASID_DEVICE]);
  const { domain, frame } = aimed(at, IOVA);
  attach(at, domain);
  expect(reach(at.device, IOVA)).toBe(frame);
  const host: UnitHost = {
    machine: at.machine,
    reportPageFault: () => false,
    reportFault: () => {},
  };
  const again = { name: 'again', canWbs: false, linux73Pri: false, vhe: options.vhe ?? false };
  const parts = bringUp(at.unit.hardware, host, again);
  expect(reach(at.device, IOVA)).toBe(-1);
  // The first domain of the new owner has the ASID that the first of the old one had.
  const pool = createPoolIn(at.machine.memory, 48);
  const policy = { linux73Vmid: false, linux73Invalidation: false, directNesting: true };
  const heir = new SmmuUnit(at.unit.driver, at.unit.agent, parts, pool, {
    ...policy,
    rmrs: [],
    stallSids: new Set(),
    cmdqv: undefined,
  });
  heir.probeDevice(at.device);
  heir.attach(at.device, -1, heir.allocPaging(at.device, { flags: 0 }));
  expect(reach(at.device, IOVA)).toBe(-1);
};

/** The last user of a tag says so at once. */
const saidAtTheEnd = (): void => {
  const at = bench({}, [PASID_DEVICE]);
  attach(at, paging(at));
  expect(commandNames(at, () => attach(at, at.unit.identity)).slice(-2)).toEqual([
    'TLBI_NH_ASID',
    'SYNC',
  ]);
};

/** A page of the guest goes: nobody may see the place where it was. */
const pageBelowGuestGoes = (ats: boolean): void => {
  const world = guest({ sanitize: watch.hardware !== undefined });
  watch.hardware?.push(...world.hardware);
  const { context, ioasId } = world;
  const iova = 0x4000_0000;
  const flags = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;
  context.ioasMap({ ioasId, flags, userVa: 0x4000_0000, length: 0x1000, iova });
  world.write(LEAF_OF.A1, BigInt(iova + 0xf43));
  const viommu = world.viommu(0);
  world.vdevice(viommu, 0, 0x10);
  world.attach(0, world.nested(0, viommu, world.s1(CD_OF.A1, ats ? { EATS: 1 } : {})));
  const use = () => {
    const bytes = new Uint8Array(4);
    const device = world.devices[0] as Bench['device'];
    return ats ? device.atsRead(BigInt(VA), bytes) : device.dmaRead(BigInt(VA), bytes);
  };
  expect(use()).toBe(4);
  context.ioasUnmap({ ioasId, iova, length: 0x1000 });
  expect(use()).toBe(0);
};

/** What is flushed below a guest: stage 2 by address, then all that began in stage 1. */
const saidBelowGuest = (): void => {
  const at = bench({}, [ATS_DEVICE]);
  const { domain } = aimed(at, IOVA, HWPT.NEST_PARENT);
  if (!(domain instanceof SmmuPagingDomain)) throw new Error('not ours');
  map(domain, IOVA + 1, 5);
  domain.tags.addTranslation(domain.context, TAG.BELOW_NESTED, 9);
  domain.tags.addDevice(domain.context, at.device.rid, -1, true);
  const names = commandNames(at, () => unmap(domain, IOVA));
  expect(names).toEqual(['TLBI_S2_IPA', 'SYNC', 'TLBI_NH_ALL', 'SYNC', 'ATC_INV', 'SYNC']);
  domain.tags.removeTranslation(domain.context, TAG.BELOW_NESTED, 9);
};

/** A device's own TLB across what goes on and off. */
const deviceTlbs = (): void => {
  const at = bench({}, [ATS_DEVICE]);
  const { domain, frame } = aimed(at, IOVA, HWPT.PASID);
  attach(at, domain, 7);
  attach(at, domain, 8);
  for (const pasid of [7, 8]) expect(reachAts(at.device, IOVA, pasid)).toBe(frame);
  attach(at, at.unit.blocking, 7);
  expect([7, 8].map((pasid) => reachAts(at.device, IOVA, pasid))).toEqual([-1, frame]);
};

/** Scenarios by name. */
export const SCENARIOS: Readonly<Record<string, () => void>> = {
  'unmap, stage 1': () => mapUseUnmap({}),
  'unmap, stage 2': () => mapUseUnmap(STAGE2_ONLY),
  'unmap, a PASID': () => mapUseUnmap({}, 0x1_2345),
  'unmap, a device TLB': () => mapUseUnmap({}, -1, true),
  'unmap, a device TLB and a PASID': () => mapUseUnmap({}, 0x1_2345, true),
  'unmap without ranges, stage 1': () => mapUseUnmap(NO_RIL),
  'unmap, EL2-E2H': () => mapUseUnmap(EL2_E2H),
  'unmap without ranges, EL2-E2H': () => mapUseUnmap(EL2_E2H_NO_RIL, -1, false, 520),
  'an ASID is used again, EL2-E2H': () => tagIsReused(EL2_E2H),
  'unmap without ranges, stage 2': () => mapUseUnmap(NO_RIL_STAGE2),
  'unmap much without ranges, stage 1': () => mapUseUnmap(NO_RIL, -1, false, 520),
  'unmap much without ranges, stage 2': () => mapUseUnmap(NO_RIL_STAGE2, -1, false, 520),
  'unmap tables, stage 1': () => mapUseUnmap({}, -1, false, 700),
  'unmap tables, stage 2': () => mapUseUnmap(STAGE2_ONLY, -1, false, 700),
  'switch, stage 1': () => switchAround({}),
  'switch, stage 2': () => switchAround(STAGE2_ONLY),
  'switch, a PASID': () => switchAround({}, 700),
  'switch, a device TLB': () => switchAround({}, -1, true),
  'switch, a device TLB and a PASID': () => switchAround({}, 700, true),
  'identity and back, stage 1': () => identityAndBack({}),
  'identity and back, stage 2': () => identityAndBack(STAGE2_ONLY),
  'an ASID is used again': () => tagIsReused({}),
  'a VMID is used again': () => tagIsReused(STAGE2_ONLY),
  'dirty, clean, dirty': dirtyAgain,
  'a stream appears': lateStream,
  'substreams appear': lateSubstreams,
  'PASIDs come and go': pasidsComeAndGo,
  'device TLBs of PASIDs': deviceTlbs,
  'one PASID of many goes': oneOfManyGoes,
  'the end of a tag, as said': saidAtTheEnd,
  'the unit is taken over': () => takenOver({}),
  'the unit is taken over, EL2-E2H': () => takenOver(EL2_E2H),
  'a page below a guest goes': () => pageBelowGuestGoes(false),
  'a page below a guest goes, device TLB': () => pageBelowGuestGoes(true),
  'below a guest, as said': saidBelowGuest,
};
