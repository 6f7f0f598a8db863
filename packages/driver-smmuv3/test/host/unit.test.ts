/** A unit as core sees it: devices, reserved memory, several units, taking over from another owner. */
import { decode } from '@iommukit/bits';
import {
  type Endpoint,
  HW_CAP,
  INVALIDATION_ANSWER,
  Machine,
  type ReservedRegion,
  type UnitHost,
} from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { bringUp } from '../../src/host/bring-up.ts';
import { SmmuPagingDomain } from '../../src/host/domain.ts';
import { COMMAND, type SmmuIommuUnit, STE, smmuv3 } from '../../src/index.ts';
import {
  aimed,
  attach,
  bench,
  commandNames,
  commandsOf,
  HWPT,
  map,
  PASID_DEVICE,
  paging,
  reach,
  reachAts,
  refusalOf,
  stampedPage,
  steAddress,
  unmap,
  wordsAt,
} from './fixture.ts';

const IOVA = 0x1000;
const MSI: ReservedRegion = { start: 0x800_0000, last: 0x80f_ffff, kind: 'sw-msi' };

describe('reserved memory (RMR nodes of the IORT)', () => {
  const RMR = { start: 0x4000_0000, last: 0x4000_ffff, rids: [0x20, 0x28] } as const;
  const two = [{ rid: '00:04.0' }, { rid: '00:06.0' }];

  test('regions of the devices it is for, after the window for messages', () => {
    const at = bench(
      { rmrs: [RMR, { ...RMR, start: 0x5000_0000, last: 0x5000_0fff, relaxable: true }] },
      two,
    );
    const [user, other] = at.devices as [Endpoint, Endpoint];
    expect(at.unit.reservedRegions(user)).toEqual([
      MSI,
      { start: 0x4000_0000, last: 0x4000_ffff, kind: 'direct' },
      { start: 0x5000_0000, last: 0x5000_0fff, kind: 'relaxable' },
    ]);
    expect(at.unit.reservedRegions(other)).toEqual([MSI]);
  });

  test('such a device bypasses until a driver attaches it; others start aborted', () => {
    const at = bench({ rmrs: [RMR] }, two);
    const [user, other] = at.devices as [Endpoint, Endpoint];
    const page = stampedPage(at.machine);
    expect([reach(user, page), reach(other, page)]).toEqual([page, -1]);
    expect(decode(STE, wordsAt(at, steAddress(at, user.rid))).CONFIG).toBe(4);
    const { domain, frame } = aimed(at, IOVA);
    attach(at, domain);
    expect([reach(user, page), reach(user, IOVA)]).toEqual([-1, frame]);
  });

  test.each([
    ['no whole pages', 0x1000, 0x1800],
    ['no page', 0x1000, 0xfff],
    ['an odd start', 0x1001, 0x1fff],
  ])('%s: EINVAL', (_, start, last) => {
    const make = () => smmuv3({ rmrs: [{ start, last, rids: [1] }] });
    expect(refusalOf(make)).toBe('EINVAL rmr-range');
  });
});

describe('hardware capabilities of a device', () => {
  const { PCI_PASID_EXEC, PCI_PASID_PRIV, PCI_ATS_NOT_SUPPORTED } = HW_CAP;

  test.each([
    ['plain', { rid: '00:04.0' }, {}, PCI_ATS_NOT_SUPPORTED],
    ['ATS', { rid: '00:04.0', ats: true }, {}, 0],
    ['PASIDs', { rid: '00:04.0', pasidBits: 4, ats: true }, {}, PCI_PASID_EXEC | PCI_PASID_PRIV],
    [
      'ATS under a unit without',
      { rid: '00:04.0', ats: true },
      { capabilities: { idr0: { ATS: 0, PRI: 0 } } },
      PCI_ATS_NOT_SUPPORTED,
    ],
    [
      'PASIDs under a unit without',
      { rid: '00:04.0', ats: true, pasidBits: 4 },
      { capabilities: { idr1: { SSIDSIZE: 0 } } },
      0,
    ],
  ])('%s', (_, device, options, wanted) => {
    const at = bench({ capabilities: {}, ...options }, [device]);
    expect(at.unit.hwCapabilities(at.device) & ~HW_CAP.DIRTY_TRACKING).toBe(wanted);
  });
});

describe('several units of one machine', () => {
  const twoUnits = () => {
    const machine = new Machine({ ramBytes: 32 << 20 });
    const devices = ['00:04.0', '01:04.0'].map((rid) => machine.addEndpoint({ rid, pasidBits: 8 }));
    const units = devices.map((device) => machine.addUnit(smmuv3(), [device]));
    const of = (index: number) => ({
      machine,
      unit: units[index] as SmmuIommuUnit,
      device: devices[index] as Endpoint,
      devices,
      faults: [],
    });
    return [of(0), of(1)] as const;
  };

  test('equal tags on both, and each its own table', () => {
    const [first, second] = twoUnits();
    const [a, b] = [aimed(first, IOVA), aimed(second, IOVA)];
    attach(first, a.domain);
    attach(second, b.domain);
    expect([a.domain, b.domain].map((domain) => (domain as SmmuPagingDomain).tag)).toEqual([1, 1]);
    expect([reach(first.device, IOVA), reach(second.device, IOVA)]).toEqual([a.frame, b.frame]);
    unmap(a.domain, IOVA);
    expect([reach(first.device, IOVA), reach(second.device, IOVA)]).toEqual([-1, b.frame]);
  });

  test.each([
    ['stage 1', 0],
    ['stage 2', HWPT.NEST_PARENT],
  ])('a %s domain of the other unit: EINVAL, and nothing has changed', (_, flags) => {
    const [first, second] = twoUnits();
    const own = aimed(second, IOVA);
    attach(second, own.domain);
    const foreign = paging(first, flags);
    expect(refusalOf(() => attach(second, foreign))).toBe('EINVAL domain-fits-unit');
    const forPasid = paging(first, HWPT.PASID);
    expect(refusalOf(() => attach(second, forPasid, 5))).toBe('EINVAL domain-fits-unit');
    expect(reach(second.device, IOVA)).toBe(own.frame);
  });
});

describe('taking over from another owner', () => {
  const hostOf = (machine: Machine): UnitHost => ({
    machine,
    reportPageFault: () => false,
    reportFault: () => {},
  });
  const OPTIONS = { name: 'again', canWbs: false, linux73Pri: false };

  test('translation that is on goes off; nothing of the earlier owner is reached', () => {
    const at = bench();
    const { domain } = aimed(at, IOVA);
    attach(at, domain);
    expect(reach(at.device, IOVA)).toBeGreaterThan(0);
    const { context } = bringUp(at.unit.hardware, hostOf(at.machine), OPTIONS);
    expect(reach(at.device, IOVA)).toBe(-1);
    context.table.reserve(at.device.rid, context.invalidate);
    expect(reach(at.device, IOVA)).toBe(-1);
  });

  test('a command queue that stopped at an error runs again', () => {
    const at = bench();
    const { hardware } = at.unit;
    const ring = hardware.readReg32(0x94) * 2 ** 32 + ((hardware.readReg32(0x90) & ~31) >>> 0);
    const prod = hardware.readReg32(0x98);
    at.machine.memory.write64(ring + (prod % 256) * 16, 0xff, 0);
    hardware.writeReg32(0x98, prod + 1);
    expect(hardware.readReg32(0x60) ^ hardware.readReg32(0x64)).toBe(1);
    const { context } = bringUp(hardware, hostOf(at.machine), OPTIONS);
    expect(hardware.readReg32(0x60) ^ hardware.readReg32(0x64)).toBe(0);
    context.invalidate.all();
    expect(() => context.invalidate.submit()).not.toThrow();
  });
});

describe('what bring-up says', () => {
  const [CR0, CR2, ATSCHK] = [0x20, 0x2c, 0x10];
  const PTM_RECINVSID = 6;

  test.each([
    ['with ATS, translated requests are checked', {}, ATSCHK],
    ['without, there are none', { capabilities: { idr0: { ATS: 0 } } }, 0],
  ])('%s', (_, options, wanted) => {
    expect(bench(options).unit.hardware.readReg32(CR0) & ATSCHK).toBe(wanted);
  });

  const HYP = { capabilities: { idr0: { HYP: 1 } } } as const;
  const DROPS_ALL = ['CFGI_STE_RANGE', 'TLBI_EL2_ALL', 'TLBI_NSNH_ALL', 'SYNC'];

  test.each([
    ['NS-EL1', HYP, PTM_RECINVSID, 0, ['TLBI_NH_VA', 'TLBI_NH_ASID'], DROPS_ALL],
    ['EL2-E2H', { ...HYP, vhe: true }, 7, 2, ['TLBI_EL2_VA', 'TLBI_EL2_ASID'], DROPS_ALL],
    [
      'NS-EL1, as the unit has no EL2',
      { vhe: true },
      PTM_RECINVSID,
      0,
      ['TLBI_NH_VA', 'TLBI_NH_ASID'],
      DROPS_ALL.filter((name) => name !== 'TLBI_EL2_ALL'),
    ],
  ])('stage 1 of the host is in %s', (_, options, cr2, strw, commands, first) => {
    const at = bench(options);
    const { hardware } = at.unit;
    expect(hardware.readReg32(CR2)).toBe(cr2);
    const { domain, frame } = aimed(at, IOVA);
    map(domain, IOVA + 1, frame);
    attach(at, domain);
    expect(decode(STE, wordsAt(at, steAddress(at)))).toMatchObject({ CONFIG: 5, STRW: strw });
    expect(reach(at.device, IOVA)).toBe(frame);
    const unmapped = commandNames(at, () => unmap(domain, IOVA));
    expect(reach(at.device, IOVA)).toBe(-1);
    const gone = commandNames(at, () => attach(at, at.unit.blocking));
    expect([unmapped[0], gone.at(-2)]).toEqual(commands);
    // The ring still has what came first.
    const ring = hardware.readReg32(0x94) * 2 ** 32 + ((hardware.readReg32(0x90) & ~31) >>> 0);
    const names = first.map((__, n) => wordsAt(at, ring + 16 * n, 1)[0]);
    expect(names).toEqual(first.map((name) => COMMAND[name as keyof typeof COMMAND] ?? 4));
  });

  test('a unit that reads big-endian tables alone: ENODEV', () => {
    const make = () => bench({ capabilities: { idr0: { TTENDIAN: 3 } } });
    expect(refusalOf(make)).toBe('ENODEV unit-features');
    expect(refusalOf(() => bench({ capabilities: { idr0: { TTENDIAN: 0 } } }))).toBe('ok');
  });

  test.each([
    ['a nest parent', {}, HWPT.NEST_PARENT, 1],
    ['another stage 2', { S1P: 0 }, 0, 0],
  ])('forced write-back (IDR3.FWB) for %s', (_, idr0, flags, s2fwb) => {
    const at = bench({ capabilities: { idr0, idr3: { FWB: 1 } } });
    const { domain, frame } = aimed(at, IOVA, flags);
    attach(at, domain);
    expect(decode(STE, wordsAt(at, steAddress(at)))).toMatchObject({ CONFIG: 6, S2FWB: s2fwb });
    expect(reach(at.device, IOVA)).toBe(frame);
  });
});

describe('device TLBs', () => {
  const ATS_DEVICE = { ...PASID_DEVICE, ats: true } as const;

  test('an unmap reaches them, each substream for itself', () => {
    const at = bench({}, [ATS_DEVICE]);
    const { domain, frame } = aimed(at, IOVA, HWPT.PASID);
    attach(at, domain);
    attach(at, domain, 7);
    const all = () => [reachAts(at.device, IOVA), reachAts(at.device, IOVA, 7)];
    expect(all()).toEqual([frame, frame]);
    domain.unmap(IOVA, 1);
    // Real caches: nothing is forgotten by itself.
    expect(all()).toEqual([frame, frame]);
    domain.sync();
    expect(all()).toEqual([-1, -1]);
  });

  test('detaching a PASID leaves what the device keeps of others', () => {
    const at = bench({}, [ATS_DEVICE]);
    const { domain, frame } = aimed(at, IOVA, HWPT.PASID);
    for (const pasid of [7, 8]) attach(at, domain, pasid);
    for (const pasid of [7, 8]) expect(reachAts(at.device, IOVA, pasid)).toBe(frame);
    attach(at, at.unit.blocking, 7);
    expect([7, 8].map((pasid) => reachAts(at.device, IOVA, pasid))).toEqual([-1, frame]);
  });

  test('without a table there is no ATS: bypass and abort answer no translation request', () => {
    const at = bench({}, [ATS_DEVICE]);
    const { domain, frame } = aimed(at, IOVA);
    attach(at, at.unit.identity);
    expect([reach(at.device, frame), reachAts(at.device, frame)]).toEqual([frame, -1]);
    attach(at, domain);
    expect(reachAts(at.device, IOVA)).toBe(frame);
    attach(at, at.unit.identity);
    expect(reachAts(at.device, IOVA)).toBe(-1);
  });

  test('a device that does not answer holds nobody up: the SYNC is repeated', () => {
    const at = bench({}, [ATS_DEVICE]);
    const { domain, frame } = aimed(at, IOVA);
    map(domain, IOVA + 1, frame);
    attach(at, domain);
    expect(reachAts(at.device, IOVA)).toBe(frame);
    at.device.invalidationAnswer = INVALIDATION_ANSWER.UNEXPECTED;
    unmap(domain, IOVA);
    expect(at.unit.hardware.readReg32(0x60) ^ at.unit.hardware.readReg32(0x64)).toBe(0);
    expect(reach(at.device, IOVA)).toBe(-1);
    at.device.invalidationAnswer = INVALIDATION_ANSWER.COMPLETE;
    unmap(domain, IOVA + 1);
    expect(reachAts(at.device, IOVA + 1)).toBe(-1);
  });

  test('tags with and without a known IOVA are counted apart', () => {
    const at = bench({}, [ATS_DEVICE]);
    const { domain } = aimed(at, IOVA, HWPT.NEST_PARENT);
    if (!(domain instanceof SmmuPagingDomain)) throw new Error('not ours');
    const { sid } = { sid: at.device.rid };
    attach(at, domain);
    domain.tags.addDevice(domain.context, sid, -1, true);
    attach(at, at.unit.blocking);
    domain.unmap(IOVA, 1);
    // What is left is the tag that has everything flushed.
    expect(commandNames(at, () => domain.sync())).toEqual(['ATC_INV', 'SYNC']);
    map(domain, IOVA, 5);
    domain.unmap(IOVA, 1);
    const [command] = commandsOf(at, () => domain.sync());
    expect(command).toEqual([COMMAND.ATC_INV, sid, 52, 0]);
    domain.tags.removeDevice(domain.context, sid, -1, true);
    map(domain, IOVA, 5);
    domain.unmap(IOVA, 1);
    expect(commandNames(at, () => domain.sync())).toEqual([]);
  });
});
