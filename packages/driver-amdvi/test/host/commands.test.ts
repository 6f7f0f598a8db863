/** Encodings of commands, against the worked examples; and which commands each operation sends. */
import { describe, expect, it } from 'vitest';
import { HWPT, map, unmap } from './fixture.ts';
import { recorded } from './recording-unit.ts';

const ALL = 2 ** 52 - 1;

type Bench = ReturnType<typeof recorded>;

/** Commands that an action makes the host send. */
const sent = ({ registers }: Bench, act: () => unknown): string[] => {
  const from = registers.log.length;
  act();
  return registers.commands(from);
};

describe('AMD IOMMU 2.4: encodings', () => {
  const bench = recorded();
  const { invalidate } = bench.parts.context;
  it.each([
    [
      'INVALIDATE_DEVTAB_ENTRY',
      () => invalidate.deviceEntry(0x108),
      '2000000000000108 0000000000000000',
    ],
    [
      'one host page',
      () => invalidate.pages(0x11, -1, 0x1234, 0x1234, false),
      '3000001100000000 0000000001234000',
    ],
    [
      'host 2 MiB, leaf and directory',
      () => invalidate.pages(0x11, -1, 0x200, 0x3ff, true),
      '3000001100000000 00000000002ff003',
    ],
    ['whole domain', () => invalidate.domain(0x11), '3000001100000000 7ffffffffffff003'],
    [
      'guest, one PASID, all',
      () => invalidate.domain(0x11, 0x2a345),
      '300000110002a345 7ffffffffffff007',
    ],
    [
      'device TLB, no PASID',
      () => invalidate.devicePages(0x108, -1, 0x10, 0x1f),
      '4000010820000108 0000000000017001',
    ],
    [
      'device TLB, PASID 2A345h',
      () => invalidate.devicePages(0x108, 0x2a345, 7, 7),
      '4245010820a30108 0000000000007004',
    ],
    [
      'COMPLETE_PPR_REQUEST success',
      () => invalidate.completePpr(0x108, 0x2a345, 0x155, 0),
      '7002a34500000108 0000015500000004',
    ],
    [
      'COMPLETE_PPR_REQUEST invalid',
      () => invalidate.completePpr(0x108, 5, 3, 1),
      '7000000500000108 0000100300000004',
    ],
    [
      'COMPLETE_PPR_REQUEST failure',
      () => invalidate.completePpr(0x108, 5, 3, 15),
      '7000000500000108 0000f00300000004',
    ],
    [
      'COMPLETE_PPR_REQUEST without PASID',
      () => invalidate.completePpr(0x108, -1, 3, 0),
      '7000000000000108 0000000300000000',
    ],
    [
      'INVALIDATE_IOMMU_ALL',
      () => invalidate.everything(true),
      '8000000000000000 0000000000000000',
    ],
    [
      'everything of a tag as a range',
      () => invalidate.pages(1, 5, 0, ALL, false),
      '3000000100000005 7ffffffffffff005',
    ],
  ] as const)('%s', (_, act, words) => {
    const commands = sent(bench, () => {
      act();
      invalidate.submit();
    });
    expect(commands).toEqual([words]);
  });
});

const DEVTAB = '2000000000000108 0000000000000000';

describe('exactly the invalidations that are needed', () => {
  it('attaching to a blocked device: its entry alone', () => {
    const bench = recorded();
    const domain = bench.unit.allocPaging(bench.device, { flags: 0 });
    expect(sent(bench, () => bench.unit.attach(bench.device, -1, domain))).toEqual([DEVTAB]);
  });

  it('replacing a host table: entry, old DomainID, device TLB, in one batch', () => {
    const bench = recorded();
    const [a, b] = [0, 0].map((flags) => bench.unit.allocPaging(bench.device, { flags }));
    if (!a || !b) throw new Error('two domains');
    bench.unit.attach(bench.device, -1, a);
    expect(sent(bench, () => bench.unit.attach(bench.device, -1, b))).toEqual([
      DEVTAB,
      '3000000200000000 7ffffffffffff003',
      '4000010820000108 7ffffffffffff001',
    ]);
  });

  it('mapping: none; unmapping: the range, in the unit first; tables only when they went', () => {
    const bench = recorded();
    const domain = bench.unit.allocPaging(bench.device, { flags: 0 });
    bench.unit.attach(bench.device, -1, domain);
    expect(sent(bench, () => map(domain, 0x200, 0x1000, 0x200))).toEqual([]);
    expect(sent(bench, () => unmap(domain, 0x200, 0x200))).toEqual([
      '3000000200000000 00000000002ff001',
      '4000010820000108 00000000002ff001',
    ]);
    map(domain, 0x200, 0x1001, 0x200);
    const [first] = sent(bench, () => unmap(domain, 0x200, 0x200));
    expect(first).toBe('3000000200000000 00000000002ff003');
  });

  it('a guest table for a PASID: no command; replacing and removing it: that PASID', () => {
    const bench = recorded();
    const { unit, device } = bench;
    const [rid, a, b] = [8, 8, 8].map((flags) => unit.allocPaging(device, { flags }));
    if (!rid || !a || !b) throw new Error('three domains');
    unit.attach(device, -1, rid);
    expect(sent(bench, () => unit.attach(device, 0x2a345, a))).toEqual([]);
    const pasid = ['300000020002a345 7ffffffffffff007', '4245010820a30108 7ffffffffffff005'];
    expect(sent(bench, () => unit.attach(device, 0x2a345, b))).toEqual(pasid);
    expect(sent(bench, () => unit.attach(device, 0x2a345, unit.blocking))).toEqual(pasid);
  });

  it('unmapping from a guest table reaches RID and PASIDs by their own tags', () => {
    const bench = recorded();
    const { unit, device } = bench;
    const domain = unit.allocPaging(device, { flags: HWPT.PASID });
    unit.attach(device, -1, domain);
    unit.attach(device, 5, domain);
    map(domain, 7, 0x1000);
    expect(sent(bench, () => unmap(domain, 7))).toEqual([
      '3000000200000000 0000000000007004',
      '3000000200000005 0000000000007004',
      '4000010820000108 0000000000007000',
      '4005010820000108 0000000000007004',
    ]);
  });

  it('one guest table in place of another: GCR3 entry 0, the entry of the device stays', () => {
    const bench = recorded();
    const { unit, device, registers } = bench;
    const [a, b] = [8, 8].map((flags) => unit.allocPaging(device, { flags }));
    if (!a || !b) throw new Error('two domains');
    unit.attach(device, -1, a);
    const before = registers.entry(device.rid);
    expect(sent(bench, () => unit.attach(device, -1, b))).toEqual([
      '3000000200000000 7ffffffffffff007',
      '4000010820000108 7ffffffffffff001',
    ]);
    expect(registers.entry(device.rid)).toEqual(before);
  });

  it('dirty tracking on: entry, then the domain, and the device', () => {
    const bench = recorded();
    const domain = bench.unit.allocPaging(bench.device, { flags: HWPT.DIRTY_TRACKING });
    bench.unit.attach(bench.device, -1, domain);
    expect(sent(bench, () => domain.dirty?.setTracking(true))).toEqual([
      DEVTAB,
      '3000000200000000 7ffffffffffff003',
      '4000010820000108 7ffffffffffff001',
    ]);
  });

  it('NpCache: new mappings are flushed in aligned pieces that cover nothing else', () => {
    const bench = recorded({ npCache: true });
    const domain = bench.unit.allocPaging(bench.device, { flags: 0 });
    bench.unit.attach(bench.device, -1, domain);
    expect(sent(bench, () => map(domain, 3, 0x1003, 6))).toEqual([
      '3000000200000000 0000000000003002',
      '3000000200000000 0000000000005003',
      '3000000200000000 0000000000008002',
    ]);
  });
});
