import { describe, expect, test } from 'vitest';
import {
  EVENT,
  FULL_EFR,
  FULL_EFR2,
  GCR3_ENTRY,
  GUEST_PDE_2M,
  GUEST_PML,
  GUEST_PTE,
  GUEST_TABLE,
} from '../../src/index.ts';
import { AT, DOMAIN, describeEvent, EXEC, Fixture, PRIV, READ, WRITE } from './fixture.ts';

const PASID = { pasid: 5 };
const A = 0x20;
const AD = 0x60;

const only = (t: Fixture) => {
  const events = t.takeEvents().map(describeEvent);
  expect(events).toHaveLength(1);
  return events[0];
};

describe('AMD IOMMU 2.2.6: guest translation', () => {
  test.each([
    ['4 KiB', 0x1abc, AT.data + 0x1abc],
    ['2 MiB', 0x21_2345, 0x1_2345],
    ['1 GiB', 0x4012_3456, 0x12_3456],
  ])('a page of %s', (_, iova, expected) => {
    const t = new Fixture();
    t.guestDevice();
    expect(t.dma(iova, PASID)).toBe(expected);
    expect(t.dma(iova, PASID)).toBe(expected);
    expect(t.unit.stats().iotlbHits).toBe(1);
  });

  test.each([
    ['GIoV=1 uses PASID 0', { GIOV: 1 }, 0x1abc, AT.data + 0x1abc],
    ['GIoV=0 with Mode 0 is identity', {}, 0x1abc, 0x1abc],
  ])('a request without PASID: %s', (_, values, iova, expected) => {
    const t = new Fixture();
    t.guestDevice(values);
    expect(t.dma(iova)).toBe(expected);
  });

  test('GIoV=0 with a host table uses the host table', () => {
    const t = new Fixture();
    t.nestedDevice();
    t.hostPage(1, { ADDR: AT.data + 0x5000 });
    expect(t.dma(0x1abc)).toBe(AT.data + 0x5abc);
    expect(t.dma(0x1abc, PASID)).toBe(AT.data + 0x1abc);
  });

  test('PASID 0 is unsigned, others are sign-extended', () => {
    const t = new Fixture();
    t.guestDevice({ GIOV: 1 });
    t.layout(AT.guest + 0x3000 + 256 * 8, GUEST_PML, {
      P: 1,
      RW: 1,
      US: 1,
      ADDR: AT.guest + 0x2000,
    });
    const high = 2 ** 47 + 0x1000;
    expect(t.dma(high)).toBe(AT.data + 0x1000);
    expect(t.dma(high, PASID)).toBe(-1);
    expect(only(t)).toMatchObject({ flags: 'GN', tag: 5, address: high });
    expect(t.unit.translatePage(0x20, 5, 2 ** 52 - 2 ** 35 + 1, READ)).toBe(
      (AT.data + 0x1000) / 4096,
    );
    expect(t.unit.translatePage(0x20, -1, 2 ** 52 - 2 ** 35 + 1, READ)).toBe(-1);
  });

  test('GuestPagingMode 1: five levels', () => {
    const t = new Fixture();
    t.guestDevice({ GUEST_PAGING_MODE: 1 });
    t.gcr3Entry(5, { V: 1, ADDR: AT.guest + 0x4000 });
    t.layout(AT.guest + 0x4008, GUEST_PML, { P: 1, RW: 1, US: 1, ADDR: AT.guest + 0x3000 });
    expect(t.dma(2 ** 48 + 0x1abc, PASID)).toBe(AT.data + 0x1abc);
    expect(t.dma(0x1abc, PASID)).toBe(-1);
  });

  test.each([
    [0, 5, [[0, 5]]],
    [
      1,
      0x203,
      [
        [0, 1],
        [1, 3],
      ],
    ],
    [
      2,
      0x4_0203,
      [
        [0, 1],
        [1, 1],
        [2, 3],
      ],
    ],
  ])('GLX %i: PASID %o through its levels', (glx, pasid, path) => {
    const t = new Fixture();
    t.guestDevice({ GLX: glx });
    t.layout(AT.gcr3 + 5 * 8, GCR3_ENTRY, {});
    path.forEach(([table = 0, index = 0], step) => {
      const last = step === path.length - 1;
      const next = last ? AT.guest + 0x3000 : AT.gcr3 + (table + 1) * 0x1000;
      t.gcr3Entry(index, { V: 1, ADDR: next }, AT.gcr3 + table * 0x1000);
    });
    expect(t.dma(0x1abc, { pasid })).toBe(AT.data + 0x1abc);
  });

  const U = READ;
  const S = READ | PRIV;
  test.each<[string, (t: Fixture) => void, number, number, string]>([
    ['PASID beyond GLX', (t) => t.guestDevice(), 0x200, S, 'GN'],
    ['GCR3 entry V=0', (t) => t.gcr3Entry(5, { V: 0 }), 5, S, 'GN'],
    ['GCR3 entry, reserved bit', (t) => t.put(AT.gcr3 + 5 * 8, [0x11, 0]), 5, S, 'GN PR RZ'],
    ['page not present', (t) => t.page(1, { P: 0 }), 5, WRITE, 'GN'],
    ['table not present', (t) => t.layout(AT.guest + 0x1000, GUEST_TABLE, { P: 0 }), 5, S, 'GN'],
    ['write to a read-only page, user', (t) => t.page(1, { RW: 0 }), 5, WRITE, 'GN US PR RW PE'],
    [
      'write to a read-only page, supervisor too',
      (t) => t.page(1, { RW: 0 }),
      5,
      WRITE | PRIV,
      'GN PR RW PE',
    ],
    [
      'write below a read-only table',
      (t) => t.layout(AT.guest + 0x1000, GUEST_TABLE, { P: 1, US: 1, ADDR: AT.guest }),
      5,
      WRITE | PRIV,
      'GN PR RW PE',
    ],
    ['user on a supervisor page', (t) => t.page(1, { US: 0 }), 5, U, 'GN US PR PE'],
    ['execute of an XD page', (t) => t.page(1, { XD: 1 }), 5, S | EXEC, 'GN NX PR PE'],
    [
      'execute below an XD table',
      (t) => t.put(AT.guest + 0x3004, [0x8000_0000]),
      5,
      S | EXEC,
      'GN NX PR PE',
    ],
    ['PS at level 4', (t) => t.put(AT.guest + 0x3000, [AT.guest + 0x2087]), 5, S, 'GN PR RZ'],
    [
      'low address bits of a 2 MiB page',
      (t) => t.put(AT.guest + 0x1000, [0x2087]),
      5,
      U,
      'GN US PR RZ',
    ],
  ])('fault: %s', (_, damage, pasid, access, flags) => {
    const t = new Fixture();
    t.guestDevice();
    damage(t);
    expect(t.dma(0x1abc, { pasid, access })).toBe(-1);
    expect(only(t)).toEqual({
      code: EVENT.IO_PAGE_FAULT,
      rid: 0x20,
      tag: pasid,
      flags,
      type: 0,
      address: 0x1abc,
    });
    expect(t.word(AT.guest + 0x3000) & A).toBe(0);
  });

  test('PASID beyond PASMax', () => {
    const efr = FULL_EFR & ~(0x1fn << 32n); // PASMax 0: one bit
    const t = new Fixture({ capabilities: { efr, efr2: FULL_EFR2 } });
    t.guestDevice();
    t.gcr3Entry(1, { V: 1, ADDR: AT.guest + 0x3000 });
    expect(t.dma(0x1abc, { pasid: 1 })).toBe(AT.data + 0x1abc);
    expect(t.dma(0x1abc, PASID)).toBe(-1);
  });

  test.each<[string, bigint, (t: Fixture) => void, number, number]>([
    ['USSup', 1n << 37n, (t) => t.page(1, { US: 0 }), READ, AT.data + 0x1abc],
    ['NXSup', 1n << 3n, (t) => t.page(1, { XD: 1 }), READ | PRIV, -1],
  ])('without EFR.%s', (_, bit, change, access, expected) => {
    const t = new Fixture({ capabilities: { efr: FULL_EFR & ~bit, efr2: FULL_EFR2 } });
    t.guestDevice();
    change(t);
    expect(t.dma(0x1abc, { pasid: 5, access })).toBe(expected);
  });

  test('address bits above PAsize are reserved', () => {
    const capabilities = { efr: FULL_EFR, efr2: FULL_EFR2, physicalAddressBits: 40 };
    const t = new Fixture({ capabilities });
    t.guestDevice();
    t.page(1, { ADDR: 2 ** 40 });
    expect(t.dma(0x1abc, PASID)).toBe(-1);
    expect(only(t)?.flags).toBe('GN US PR RZ');
  });

  test.each<[string, (t: Fixture) => void, { pasid: number; access?: number }, string]>([
    ['DTE.IR=0', (t) => t.guestDevice({ IR: 0 }), PASID, 'GN US PR PE'],
    ['DTE.TV=0', (t) => t.guestDevice({ TV: 0 }), PASID, 'GN'],
    ['DTE.GV=0', (t) => t.guestDevice({ GV: 0 }), PASID, 'GN'],
  ])('a request with PASID and %s', (_, change, request, flags) => {
    const t = new Fixture();
    change(t);
    expect(t.dma(0x1abc, request)).toBe(-1);
    expect(only(t)).toMatchObject({ code: EVENT.IO_PAGE_FAULT, tag: 5, flags });
  });

  test.each([
    ['GLX 3', { GLX: 3 }],
    ['GuestPagingMode 2', { GUEST_PAGING_MODE: 2 }],
  ])('%s is a reserved value of the entry', (_, values) => {
    const t = new Fixture();
    t.guestDevice(values);
    expect(t.dma(0x1abc, PASID)).toBe(-1);
    expect(only(t)).toMatchObject({ code: EVENT.ILLEGAL_DEV_TABLE_ENTRY, flags: 'RZ' });
  });

  test.each([
    ['GTSup', 1n << 4n, { GV: 1 }],
    ['GIoSup', 1n << 48n, { GIOV: 1 }],
    ['PPRSup', 1n << 1n, { PPR: 1 }],
    ['PPRSup', 1n << 1n, { GPRP: 1 }],
    ['GLXSup 1', 1n << 15n, { GV: 1, GLX: 1 }],
    ['GATS 1', 1n << 12n, { GV: 1, GUEST_PAGING_MODE: 1 }],
  ])('without EFR.%s its bits of the entry are reserved', (_, bit, values) => {
    const t = new Fixture({ capabilities: { efr: FULL_EFR & ~bit, efr2: FULL_EFR2 } });
    t.entry({ V: 1, TV: 1, IR: 1, ...values });
    expect(t.dma(0x1abc)).toBe(-1);
    expect(only(t)).toMatchObject({ code: EVENT.ILLEGAL_DEV_TABLE_ENTRY, flags: 'RZ' });
  });

  test('Control.GTEn=0: GV and its fields have no effect', () => {
    const t = new Fixture();
    t.guestDevice({ GIOV: 1 });
    t.control({ IOMMU_EN: 1, EVENT_LOG_EN: 1 });
    expect(t.dma(0x1abc)).toBe(0x1abc);
    expect(t.dma(0x1abc, PASID)).toBe(-1);
    t.control({ IOMMU_EN: 1, EVENT_LOG_EN: 1, GT_EN: 1 });
    expect(t.dma(0x1abc)).toBe(AT.data + 0x1abc);
  });

  test.each([
    ['a GCR3 entry', (t: Fixture) => t.guestDevice({ gcr3: AT.outside }), AT.outside + 5 * 8],
    ['a guest entry', (t: Fixture) => t.gcr3Entry(5, { V: 1, ADDR: AT.outside }), AT.outside],
  ])('nothing answers at %s: PAGE_TAB_HARDWARE_ERROR', (_, change, address) => {
    const t = new Fixture();
    t.guestDevice();
    change(t);
    expect(t.dma(0x1abc, { ...PASID, access: WRITE })).toBe(-1);
    const code = EVENT.PAGE_TAB_HARDWARE_ERROR;
    expect(only(t)).toMatchObject({ code, tag: 5, flags: 'GN RW', type: 1, address });
  });
});

describe('AMD IOMMU 2.2.6: accessed and dirty bits of guest tables', () => {
  const leaf = AT.guest + 8;
  const table = AT.guest + 0x1000;
  test.each([
    ['read', READ, {}, A, A],
    ['write', WRITE, {}, AD, A],
    ['read, GAUpdateDis', READ, { GA_UPDATE_DIS: 1 }, 0, 0],
    ['write, GDUpdateDis', WRITE, { GD_UPDATE_DIS: 1 }, A, A],
  ])('%s', (_, access, control, leafBits, tableBits) => {
    const t = new Fixture();
    t.control({ IOMMU_EN: 1, GT_EN: 1, ...control });
    t.guestDevice();
    expect(t.dma(0x1abc, { pasid: 5, access })).toBe(AT.data + 0x1abc);
    expect([t.word(leaf) & AD, t.word(table) & AD]).toEqual([leafBits, tableBits]);
  });

  test('a write after a read walks again to set D', () => {
    const t = new Fixture();
    t.guestDevice();
    t.dma(0x1abc, { pasid: 5, access: READ });
    expect(t.word(leaf) & AD).toBe(A);
    t.dma(0x1abc, { pasid: 5, access: WRITE });
    expect(t.word(leaf) & AD).toBe(AD);
    t.layout(leaf, GUEST_PTE, { P: 1, RW: 1, US: 1, ADDR: AT.data + 0x1000 });
    t.dma(0x1abc, { pasid: 5, access: WRITE });
    expect(t.word(leaf) & AD).toBe(0);
  });

  test('a 2 MiB page has its D in the level 2 entry', () => {
    const t = new Fixture();
    t.guestDevice();
    t.dma(0x21_0000, { pasid: 5, access: WRITE });
    expect(t.word(AT.guest + 0x1008) & AD).toBe(AD);
    expect(GUEST_PDE_2M.fields.D.mask).toBe(0x40);
  });
});

describe('AMD IOMMU 2.2.6.2: nested translation', () => {
  test('every guest access goes through the host table', () => {
    const t = new Fixture();
    t.nestedDevice();
    // The guest's level 1 table lies elsewhere: its guest physical page leads there.
    const moved = AT.data + 0x9000;
    t.memory.write32(moved + 8, (AT.data + 0x3000) | 0x67);
    t.hostPage(AT.guest / 4096, { ADDR: moved });
    t.hostPage((AT.data + 0x3000) / 4096, { ADDR: AT.data + 0xa000 });
    expect(t.dma(0x1abc, PASID)).toBe(AT.data + 0xaabc);
  });

  test.each([
    ['0: the GCR3 table lies at a system physical address', {}, 5],
    ['1: at a guest physical one', { GCR3_TRP_MODE: 1 }, 6],
  ])('GCR3TRPMode %s', (_, control, index) => {
    const t = new Fixture();
    t.control({ IOMMU_EN: 1, GT_EN: 1, EVENT_LOG_EN: 1, ...control });
    t.nestedDevice();
    const moved = AT.data + 0x9000;
    t.hostPage(AT.gcr3 / 4096, { ADDR: moved });
    t.gcr3Entry(6, { V: 1, ADDR: AT.guest + 0x3000 }, moved);
    expect(t.dma(0x1abc, { pasid: index })).toBe(AT.data + 0x1abc);
    expect(t.dma(0x1abc, { pasid: 11 - index })).toBe(-1);
  });

  test('the result has the smaller page of both stages', () => {
    const t = new Fixture();
    t.nestedDevice();
    t.hostPage(0x13, { ADDR: AT.data });
    expect(t.dma(0x21_2abc, PASID)).toBe(0x1_2abc);
    expect(t.dma(0x21_3abc, PASID)).toBe(AT.data + 0xabc);
  });

  test.each<[string, (t: Fixture) => void, number, object]>([
    [
      'a guest table',
      (t) => t.hostPage(AT.guest / 4096 + 1, { PR: 0 }),
      WRITE,
      { flags: '', address: AT.guest + 0x1000 },
    ],
    [
      'a guest table, no right to read',
      (t) => t.hostPage(AT.guest / 4096, { IR: 0 }),
      WRITE,
      { flags: 'PR PE', address: AT.guest + 8 },
    ],
    [
      'the page',
      (t) => t.hostPage(AT.data / 4096 + 1, { PR: 0 }),
      WRITE,
      { flags: '', address: AT.data + 0x1abc },
    ],
    [
      'the page, no right to write',
      (t) => t.hostPage(AT.data / 4096 + 1, { IW: 0 }),
      WRITE,
      { flags: 'PR RW PE', address: AT.data + 0x1abc },
    ],
    [
      'an accessed bit that cannot be written',
      (t) => t.hostPage(AT.guest / 4096 + 1, { IW: 0 }),
      READ,
      { flags: 'PR RW PE', address: AT.guest + 0x1000 },
    ],
    [
      'a guest physical address beyond the host table',
      (t) => t.page(1, { ADDR: 2 ** 30 }),
      READ,
      { flags: '', address: 2 ** 30 + 0xabc },
    ],
  ])('the host refuses %s: GN=0, its address, DomainID', (_, damage, access, expected) => {
    const t = new Fixture();
    t.nestedDevice();
    damage(t);
    expect(t.dma(0x1abc, { pasid: 5, access })).toBe(-1);
    const event = { code: EVENT.IO_PAGE_FAULT, tag: DOMAIN, ...expected };
    expect(only(t)).toMatchObject(event);
    expect(t.word(AT.guest + 8) & AD).toBe(0);
  });

  test('the host refuses the GCR3 table', () => {
    const t = new Fixture();
    t.control({ IOMMU_EN: 1, GT_EN: 1, EVENT_LOG_EN: 1, GCR3_TRP_MODE: 1 });
    t.nestedDevice();
    t.hostPage(AT.gcr3 / 4096, { PR: 0 });
    expect(t.dma(0x1abc, PASID)).toBe(-1);
    expect(only(t)).toMatchObject({ tag: DOMAIN, flags: '', address: AT.gcr3 + 5 * 8 });
  });

  test('nothing answers at a host entry: PAGE_TAB_HARDWARE_ERROR with GN=0', () => {
    const t = new Fixture();
    t.nestedDevice({ HOST_ROOT: AT.outside });
    expect(t.dma(0x1abc, PASID)).toBe(-1);
    const code = EVENT.PAGE_TAB_HARDWARE_ERROR;
    expect(only(t)).toMatchObject({ code, tag: DOMAIN, flags: '', address: AT.outside });
  });

  test('HAD=3: writing accessed bits makes the page of the guest table dirty', () => {
    const t = new Fixture();
    t.nestedDevice({ HAD: 3 });
    expect(t.dma(0x1abc, { pasid: 5, access: READ })).toBe(AT.data + 0x1abc);
    const host = (pa: number) => t.word(AT.host + 0x1000 + (pa / 4096) * 8) & AD;
    expect([host(AT.guest), host(AT.data + 0x1000)]).toEqual([AD, A]);
    expect(t.dma(0x1abc, { pasid: 5, access: WRITE })).toBe(AT.data + 0x1abc);
    expect(host(AT.data + 0x1000)).toBe(AD);
  });
});
