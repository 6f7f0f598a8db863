import { encode } from '@iommukit/bits';
import { describe, expect, test } from 'vitest';
import { COMMAND, INVALIDATE_IOMMU_PAGES } from '../../src/index.ts';
import { AT, DOMAIN, Fixture, READ, RID, WRITE } from './fixture.ts';

const OPCODE = COMMAND.INVALIDATE_IOMMU_PAGES;
const ALL = 0x7fff_ffff_ffff_f000n;
const pages = (values: Record<string, number | bigint>) =>
  encode(INVALIDATE_IOMMU_PAGES, { OPCODE, DOMAIN_ID: DOMAIN, ...values } as never);
const devtab = [RID, 0x2000_0000, 0, 0];
const PASID = { pasid: 5 };
const PAGE = AT.data + 0x1000;
const LEAF = AT.host + 0x1000 + (PAGE / 4096) * 8;

const HOST = { V: 1, TV: 1, IR: 1, IW: 1, MODE: 2, HOST_ROOT: AT.host, DOMAIN_ID: DOMAIN };

const hostUnit = (values = {}) => {
  const t = new Fixture({ sanitize: true });
  t.hostTables();
  t.entry({ ...HOST, ...values });
  return t;
};
const guestUnit = (nested = false) => {
  const t = new Fixture({ sanitize: true });
  if (nested) t.nestedDevice();
  else t.guestDevice();
  expect(t.dma(0x1000, PASID)).toBe(PAGE);
  return t;
};
const findings = (t: Fixture) => t.unit.sanitizer?.findings ?? [];
const audit = (t: Fixture) => t.unit.sanitizer?.audit() ?? [];

describe('sanitizer', () => {
  test('is silent when the invalidation comes before the use', () => {
    const t = hostUnit();
    expect(t.dma(PAGE)).toBe(PAGE);
    t.hostPage(PAGE / 4096, { PR: 0 });
    t.run(pages({ ADDR: PAGE }));
    expect(t.dma(PAGE)).toBe(-1);
    expect([audit(t), findings(t), t.unit.sanitizer?.superfluous]).toEqual([[], [], 0]);
  });

  test('names entry, change and due command when a stale translation is used', () => {
    const t = hostUnit();
    t.dma(PAGE);
    t.hostPage(PAGE / 4096, { ADDR: 0x5000 });
    expect(t.dma(PAGE)).toBe(PAGE);
    expect(findings(t)).toMatchObject([
      {
        kind: 'stale-translation',
        verdict: 'missing',
        found: 'use',
        rid: RID,
        pasid: -1,
        domain: DOMAIN,
        iovaPfn: PAGE / 4096,
        cached: '0x181000',
        fresh: '0x5000',
        change: {
          structure: 'HOST_PTE',
          address: LEAF,
          oldWords: [PAGE | 1, 0x6000_0000],
          newWords: [0x5001, 0x6000_0000],
        },
        due: ['INVALIDATE_IOMMU_PAGES DomainID 7 page 0x181000'],
        seen: [],
      },
    ]);
    t.dma(PAGE);
    expect(findings(t)).toHaveLength(1);
    expect(findings(t)[0]?.text).toContain('HOST_PTE at 0x141c08 changed; missing');
  });

  test('says "late" once the due command arrives after the use', () => {
    const t = hostUnit();
    t.dma(PAGE);
    t.hostPage(PAGE / 4096, { PR: 0 });
    t.dma(PAGE);
    t.run(pages({ ADDR: PAGE }));
    expect(findings(t)[0]?.verdict).toBe('late');
  });

  test('says "partial" when something of the domain was invalidated, but not this', () => {
    const t = hostUnit();
    t.dma(PAGE);
    t.hostPage(PAGE / 4096, { PR: 0 });
    t.run(pages({ ADDR: PAGE + 0x1000, PDE: 1 }));
    expect(audit(t)).toMatchObject([{ verdict: 'partial', found: 'audit' }]);
    expect(findings(t)[0]?.seen).toEqual(['INVALIDATE_IOMMU_PAGES DomainID 7 0x182000 PDE']);
    expect(t.unit.sanitizer?.superfluous).toBe(1);
  });

  test.each<[string, boolean, (t: Fixture) => void, string, string]>([
    [
      'a guest leaf',
      false,
      (t) => t.page(1, { ADDR: 0x5000 }),
      'GUEST_PTE',
      'INVALIDATE_IOMMU_PAGES DomainID 7 GN PASID 0x5 page 0x1000',
    ],
    [
      'a guest table',
      false,
      (t) => t.memory.write32(AT.guest + 0x1000, 0),
      'GUEST_TABLE',
      'INVALIDATE_IOMMU_PAGES DomainID 7 GN PASID 0x5 page 0x1000 PDE',
    ],
    [
      'a GCR3 entry',
      false,
      (t) => t.gcr3Entry(5, {}),
      'GCR3_ENTRY',
      'INVALIDATE_IOMMU_PAGES DomainID 7 GN PASID 0x5 all PDE',
    ],
    [
      'the host page below a guest page',
      true,
      (t) => t.hostPage(PAGE / 4096, { ADDR: 0x5000 }),
      'HOST_PTE',
      'INVALIDATE_IOMMU_PAGES DomainID 7 all PDE',
    ],
    [
      'the host page below a guest table',
      true,
      (t) => t.hostPage(AT.guest / 4096, { PR: 0 }),
      'HOST_PTE',
      'INVALIDATE_IOMMU_PAGES DomainID 7 all PDE',
    ],
  ])('%s that changed: the command that is due', (_, nested, change, structure, due) => {
    const t = guestUnit(nested);
    change(t);
    expect(t.dma(0x1000, PASID)).toBe(PAGE);
    expect(findings(t)).toMatchObject([
      { kind: 'stale-translation', found: 'use', pasid: 5, change: { structure }, due: [due] },
    ]);
  });

  test('a GCR3 entry that changed makes the cached CR3 stale too', () => {
    const t = guestUnit();
    t.gcr3Entry(5, { V: 1, ADDR: AT.guest + 0x4000 });
    t.run(pages({ GN: 1, PASID: 5, S: 1, ADDR: ALL }));
    expect(audit(t)).toMatchObject([
      {
        kind: 'stale-guest',
        verdict: 'partial',
        due: ['INVALIDATE_IOMMU_PAGES DomainID 7 GN PASID 0x5 all PDE'],
      },
    ]);
    t.run(pages({ GN: 1, PASID: 5, S: 1, PDE: 1, ADDR: ALL }));
    expect(audit(t)).toEqual([]);
    expect(findings(t).map(({ kind, verdict }) => [kind, verdict])).toEqual([
      ['wrong-hint', 'partial'],
      ['stale-guest', 'late'],
    ]);
  });

  test('a device table entry that changed: both commands are due', () => {
    const t = hostUnit();
    t.dma(PAGE);
    t.entry({ ...HOST, DOMAIN_ID: 9 });
    expect(audit(t)).toMatchObject([
      { kind: 'stale-translation', fresh: 'no device has this DomainID' },
      {
        kind: 'stale-device',
        rid: RID,
        domain: DOMAIN,
        fresh: 'another entry, DomainID 9',
        due: ['INVALIDATE_DEVTAB_ENTRY DeviceID 0x20', 'INVALIDATE_IOMMU_PAGES DomainID 7 all PDE'],
      },
    ]);
    t.run(devtab, pages({ S: 1, PDE: 1, ADDR: ALL }));
    t.dma(PAGE);
    expect(audit(t)).toEqual([]);
    expect(findings(t).map(({ verdict }) => verdict)).toEqual(['late', 'late']);
  });

  test('a DomainID whose last device left is not flushed by INVALIDATE_DEVTAB_ENTRY', () => {
    const t = hostUnit();
    t.dma(PAGE);
    t.entry({ V: 1 });
    t.run(devtab);
    expect(audit(t)).toMatchObject([{ kind: 'stale-translation', verdict: 'partial' }]);
  });

  test('translations that another device of the DomainID still uses are fresh', () => {
    const t = hostUnit();
    t.entry(HOST, RID + 1);
    t.dma(PAGE);
    t.dma(PAGE, { rid: RID + 1 });
    t.entry({ V: 1 });
    t.run(devtab);
    expect(audit(t)).toEqual([]);
  });

  test('rights of the device table entry alone make nothing stale', () => {
    const t = hostUnit();
    t.entry({ ...HOST, IW: 0 });
    t.dma(PAGE);
    expect(audit(t)).toEqual([]);
  });

  test('finds a dirty bit that was cleared without invalidation', () => {
    const t = hostUnit({ HAD: 3 });
    t.dma(PAGE, { access: WRITE });
    t.hostPage(PAGE / 4096, { A: 1 });
    t.dma(PAGE, { access: READ });
    expect(findings(t)).toEqual([]);
    t.dma(PAGE, { access: WRITE });
    expect(findings(t)).toMatchObject([{ kind: 'stale-dirty', cached: expect.any(String) }]);
  });

  test('a page with a coded size is dirty when one of its copies is', () => {
    const t = hostUnit({ HAD: 3 });
    const first = PAGE / 4096 - ((PAGE / 4096) % 4) + 4;
    // 16 KiB: the lower address bits are 01b.
    const values = { NEXT_LEVEL: 7, ADDR: (first + 1) * 4096 };
    for (let copy = 0; copy < 4; copy++) t.hostPage(first + copy, values);
    t.dma((first + 3) * 4096, { access: WRITE });
    t.dma((first + 2) * 4096, { access: WRITE });
    expect([audit(t), findings(t)]).toEqual([[], []]);
    t.hostPage(first + 3, values);
    t.dma((first + 2) * 4096, { access: WRITE });
    expect(findings(t)).toMatchObject([{ kind: 'stale-dirty' }]);
  });

  test('accessed and dirty bits that the hardware sets are no change', () => {
    const t = hostUnit({ HAD: 3 });
    t.dma(PAGE, { access: READ });
    t.dma(PAGE, { access: WRITE });
    t.dma(PAGE, { access: READ });
    expect([audit(t), findings(t)]).toEqual([[], []]);
  });

  test('PDE=0 where a table entry changed is a wrong hint', () => {
    const t = hostUnit();
    t.dma(PAGE);
    t.memory.write32(AT.host, 0);
    t.run(pages({ ADDR: PAGE }));
    expect(findings(t)).toMatchObject([
      { kind: 'wrong-hint', due: ['INVALIDATE_IOMMU_PAGES DomainID 7 0x181000 PDE'] },
    ]);
  });

  test('a stale translation that an ATS answer comes from is found', () => {
    const t = hostUnit({ I: 1 });
    t.ask(PAGE);
    t.hostPage(PAGE / 4096, { ADDR: 0x5000 });
    expect(t.ask(PAGE)).toMatchObject({ pfn: PAGE / 4096 });
    expect(findings(t)).toMatchObject([{ kind: 'stale-translation', found: 'use' }]);
  });

  test('superfluous commands are counted, waits are not', () => {
    const t = hostUnit();
    t.dma(PAGE);
    t.run(pages({ ADDR: PAGE }), pages({ ADDR: PAGE }), [0, 0x1000_0000, 0, 0]);
    expect(t.unit.sanitizer).toMatchObject({ commands: 3, superfluous: 2 });
  });

  test('costs nothing when off: there is none', () => {
    expect(new Fixture().unit.sanitizer).toBeUndefined();
  });
});
