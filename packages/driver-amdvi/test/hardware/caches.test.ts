import { encode } from '@iommukit/bits';
import { describe, expect, test } from 'vitest';
import {
  COMMAND,
  EVENT,
  FULL_EFR,
  INVALIDATE_IOMMU_ALL,
  INVALIDATE_IOMMU_PAGES,
  PREFETCH_IOMMU_PAGES,
} from '../../src/index.ts';
import { AT, DOMAIN, describeEvent, Fixture, READ, RID, WRITE } from './fixture.ts';

const ALL = 0x7fff_ffff_ffff_f000n;
const OPCODE = COMMAND.INVALIDATE_IOMMU_PAGES;
const pages = (values: Record<string, number | bigint>) =>
  encode(INVALIDATE_IOMMU_PAGES, { OPCODE, DOMAIN_ID: DOMAIN, ...values } as never);
const guest = (values: Record<string, number | bigint> = {}) =>
  pages({ GN: 1, PASID: 5, S: 1, ADDR: ALL, ...values });
const all = encode(INVALIDATE_IOMMU_ALL, { OPCODE: COMMAND.INVALIDATE_IOMMU_ALL });

const PASID = { pasid: 5 };
const OLD = AT.data + 0x1000;
const NEW = AT.data + 0x5000;

describe('AMD IOMMU 2.4.3: what INVALIDATE_IOMMU_PAGES reaches of guest translations', () => {
  test.each([
    ['its PASID, everything', guest(), false],
    ['its page', guest({ S: 0, ADDR: 0x1000 }), false],
    ['a range around it', guest({ ADDR: 0x7000 }), false],
    ['another PASID', guest({ PASID: 6 }), true],
    ['another page', guest({ S: 0, ADDR: 0x2000 }), true],
    ['another DomainID', guest({ DOMAIN_ID: 8 }), true],
    ['GN=0: one host page reaches every guest translation', pages({ ADDR: 0x9000 }), false],
    ['INVALIDATE_IOMMU_ALL', all, false],
  ])('%s', (_, command, stale) => {
    for (const nested of [false, true]) {
      const t = new Fixture();
      if (nested) t.nestedDevice();
      else t.guestDevice();
      expect(t.dma(0x1000, PASID)).toBe(OLD);
      t.page(1, { ADDR: NEW });
      expect(t.dma(0x1000, PASID)).toBe(OLD);
      t.run(command);
      expect(t.dma(0x1000, PASID)).toBe(stale ? OLD : NEW);
      expect(t.takeEvents()).toEqual([]);
    }
  });

  test('GN=1 leaves host translations', () => {
    const t = new Fixture();
    t.nestedDevice();
    expect(t.dma(0x1000)).toBe(0x1000);
    t.hostPage(1, { ADDR: NEW });
    t.run(guest({ PASID: 0 }));
    expect(t.dma(0x1000)).toBe(0x1000);
    t.run(pages({ ADDR: 0x1000 }));
    expect(t.dma(0x1000)).toBe(NEW);
  });

  test('requests without PASID under GIoV share the entries of PASID 0', () => {
    const t = new Fixture();
    t.guestDevice({ GIOV: 1 });
    expect(t.dma(0x1000)).toBe(OLD);
    t.page(1, { ADDR: NEW });
    expect(t.dma(0x1000, { pasid: 0 })).toBe(OLD);
    t.run(guest({ PASID: 0 }));
    expect(t.dma(0x1000)).toBe(NEW);
  });

  test('two devices of one DomainID share guest translations', () => {
    const t = new Fixture();
    t.guestDevice();
    t.guestDevice({}, RID + 1);
    expect(t.dma(0x1000, PASID)).toBe(OLD);
    t.page(1, { ADDR: NEW });
    expect(t.dma(0x1000, { pasid: 5, rid: RID + 1 })).toBe(OLD);
  });

  test('rights that a translation was cached without walk again', () => {
    const t = new Fixture();
    t.guestDevice();
    t.page(1, { RW: 0 });
    expect(t.dma(0x1000, PASID)).toBe(OLD);
    t.page(1, {});
    expect(t.dma(0x1000, { pasid: 5, access: WRITE })).toBe(OLD);
  });
});

describe('AMD IOMMU 2.4.3: cached GCR3 entries', () => {
  const another = (t: Fixture) => t.gcr3Entry(5, { V: 1, ADDR: AT.guest + 0x4000 });
  test.each([
    ['GN=1 with PDE', guest({ PDE: 1 }), false],
    ['GN=1 without PDE', guest(), true],
    ['GN=1 with PDE of another PASID', guest({ PDE: 1, PASID: 6 }), true],
    ['GN=0', pages({ ADDR: 0x9000 }), false],
    ['INVALIDATE_IOMMU_ALL', all, false],
    ['INVALIDATE_DEVTAB_ENTRY', [RID, 0x2000_0000, 0, 0], true],
  ])('%s', (_, command, stale) => {
    const t = new Fixture();
    t.guestDevice();
    expect(t.dma(0x1000, PASID)).toBe(OLD);
    another(t);
    t.run(command);
    // A page that was never cached: only the CR3 can be stale.
    expect(t.dma(0x21_0000, PASID)).toBe(stale ? 0x1_0000 : -1);
  });
});

describe('AMD IOMMU 2.4.6: PREFETCH_IOMMU_PAGES', () => {
  const prefetch = (values: Record<string, number>) =>
    encode(PREFETCH_IOMMU_PAGES, {
      OPCODE: COMMAND.PREFETCH_IOMMU_PAGES,
      DEVICE_ID: RID,
      ...values,
    } as never);

  test.each([
    ['host pages', {}, {}],
    ['guest pages', { GN: 1, PASID: 5 }, PASID],
  ])('%s are cached, absence leaves no event', (_, values, request) => {
    const t = new Fixture();
    t.nestedDevice();
    t.page(2, {});
    t.hostPage(3, { PR: 0 });
    t.run(prefetch({ S: 1, ADDR: 0x1000, PF_COUNT: 4, ...values }));
    t.page(1, { ADDR: NEW });
    t.hostPage(1, { ADDR: NEW });
    expect(t.dma(0x1000, request)).toBe(request === PASID ? OLD : 0x1000);
    expect(t.takeEvents()).toEqual([]);
  });

  test('Inval forgets the page first', () => {
    const t = new Fixture();
    t.guestDevice();
    t.dma(0x1000, PASID);
    t.page(1, { ADDR: NEW });
    t.run(prefetch({ GN: 1, PASID: 5, ADDR: 0x1000, INVAL: 1 }));
    expect(t.dma(0x1000, PASID)).toBe(NEW);
  });

  test('a range bounds the pages', () => {
    const t = new Fixture();
    t.guestDevice({ GIOV: 1 });
    t.page(3, {});
    t.run(prefetch({ ADDR: 0x3000, PF_COUNT: 255 }));
    t.run(prefetch({ ADDR: 0x1000, PF_COUNT: 0 }));
    expect([...t.unit.caches.iotlb.entries()].map(({ iovaPfn }) => iovaPfn).sort()).toEqual([1, 3]);
  });
});

describe('AMD IOMMU 2.4: commands that need a feature, or have bad fields', () => {
  const without = (bit: bigint) => ({ efr: FULL_EFR & ~bit, iotlbSup: true });
  test.each<[string, object, number[]]>([
    ['INVALIDATE_IOMMU_PAGES GN without GTSup', without(1n << 4n), [0, 0x3000_0007, 4, 0]],
    ['INVALIDATE_IOMMU_PAGES with a PASID and GN=0', {}, [5, 0x3000_0007, 0, 0]],
    ['INVALIDATE_IOTLB_PAGES without IotlbSup', { efr: FULL_EFR }, [RID, 0x4000_0000, 0, 0]],
    ['its Type without InvIotlbTypeSup', without(1n << 54n), [RID, 0x4000_0000, 0x10, 0]],
    ['its PASID with GN=0', { iotlbSup: true }, [RID, 0x4005_0000, 0, 0]],
    ['its DeviceID beyond the table', { iotlbSup: true }, [0xffff, 0x4000_0000, 0, 0]],
    ['its undefined address', { iotlbSup: true }, [RID, 0x4000_0000, 0xffff_f001, 0xffff_ffff]],
    ['PREFETCH_IOMMU_PAGES without PreFSup', without(1n), [RID, 0x6000_0000, 0, 0]],
    ['its PASID with GN=0', {}, [RID, 0x6000_0005, 0, 0]],
    ['its DeviceID beyond the table', {}, [0xffff, 0x6000_0000, 0, 0]],
    ['COMPLETE_PPR_REQUEST without PPRSup', without(2n), [RID, 0x7000_0000, 0, 0]],
    ['its PASID with GN=0', {}, [RID, 0x7000_0005, 0, 0]],
    ['its DeviceID beyond the table', {}, [0xffff, 0x7000_0000, 0, 0]],
    ['INVALIDATE_IOMMU_ALL without IASup', without(1n << 6n), [0, 0x8000_0000, 0, 0]],
    ['INSERT_GUEST_EVENT without vIommuSup', {}, [0, 0x9000_0003, 0, 0]],
    ['RESET_VMMIO without vIommuSup', {}, [3, 0xa000_0000, 0, 0]],
    ['opcode 0', {}, [0, 0, 0, 0]],
    ['opcode 11', {}, [0, 0xb000_0000, 0, 0]],
  ])('%s is ILLEGAL_COMMAND_ERROR', (_, capabilities, command) => {
    const t = new Fixture({ capabilities: { efr: FULL_EFR, ...capabilities } });
    t.run(command);
    const address = AT.commands;
    expect(t.takeEvents().map(describeEvent)).toMatchObject([
      { code: EVENT.ILLEGAL_COMMAND_ERROR, address },
    ]);
    expect(t.unit.readReg32(0x2020) & 0x10).toBe(0);
  });

  test.each([
    ['success', 0, 0],
    ['invalid', 1, 1],
    ['failure', 15, 15],
  ])('COMPLETE_PPR_REQUEST %s', (_, code, expected) => {
    const t = new Fixture();
    t.run([RID, 0x7002_a345, 4, 0x155 | (code << 12)], [RID, 0x7000_0000, 0, code << 12]);
    expect(t.responses).toEqual([
      { rid: RID, pasid: 0x2_a345, prgi: 0x155, code: expected },
      { rid: RID, pasid: -1, prgi: 0, code: expected },
    ]);
  });

  test('superfluous invalidations are counted', () => {
    const t = new Fixture();
    t.guestDevice();
    t.dma(0x1000, { pasid: 5, access: READ });
    t.run(guest(), guest());
    expect(t.unit.stats()).toMatchObject({
      commands: 2,
      superfluousInvalidations: 1,
      entriesInvalidated: 1,
    });
  });
});
