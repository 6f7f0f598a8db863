import { ACCESS } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { Iotlb, sourceOf, spreadOf, TLB } from '../../src/hardware/iotlb.ts';
import { BenchUnit, REG } from './bench-unit.ts';
import {
  FS_ENTRY,
  firstStage,
  IOVA,
  LEGACY,
  legacy,
  NESTED_ENTRY,
  nestedTables,
  PASID,
  PT_ENTRY,
  pasidEntry,
  RID,
  SCALABLE,
  SS_ENTRY,
  scalable,
  secondStage,
  VA,
} from './tables.ts';

const OLD = 0x4_4000;
const NEW = 0x4_5000;

type Step = readonly (bigint | number)[];
const CC_GLOBAL: Step = [0x11];
const CC_DOMAIN = (did: bigint): Step => [0x21n | (did << 16n)];
const CC_DEVICE = (did: bigint, sid: bigint, fm = 0n): Step => [
  0x31n | (did << 16n) | (sid << 32n) | (fm << 48n),
];
const PC_GLOBAL: Step = [0x37];
const PC_DOMAIN = (did: bigint): Step => [0x7n | (did << 16n)];
const PC_PASID = (did: bigint, pasid: bigint): Step => [0x17n | (did << 16n) | (pasid << 32n)];
const IOTLB_GLOBAL: Step = [0x12];
const IOTLB_DOMAIN = (did: bigint): Step => [0x22n | (did << 16n)];
const IOTLB_PAGE = (did: bigint, address: bigint, am = 0n): Step => [
  0x32n | (did << 16n),
  address | am,
];
const P_IOTLB_PASID = (did: bigint, pasid: bigint): Step => [0x26n | (did << 16n) | (pasid << 32n)];
const P_IOTLB_PAGE = (did: bigint, pasid: bigint, address: bigint, am = 0n): Step => [
  0x36n | (did << 16n) | (pasid << 32n),
  address | am,
];

/** A unit that has translated the page once, and whose leaf then changed. */
function stale(pgtt: 'ss' | 'fs' | 'nested') {
  const bench = new BenchUnit();
  if (pgtt === 'ss')
    bench.poke({ ...scalable(), ...pasidEntry(PASID, SS_ENTRY), ...secondStage() });
  else if (pgtt === 'fs')
    bench.poke({
      ...scalable(),
      ...pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0000n),
      ...firstStage(0x4400_0007n),
    });
  else
    bench.poke({
      ...scalable(),
      ...pasidEntry(PASID, NESTED_ENTRY, 7n, 0x3_0000n),
      ...nestedTables(0x1_0000_0083n, 0x4400_0083n),
      4295179064: 0x4000_0007n,
    });
  bench.setRoot(SCALABLE).enableQueue().enable(SCALABLE);
  const address = pgtt === 'ss' ? IOVA : VA;
  const read = () => bench.read(RID, address, PASID);
  expect(read()).toBe(OLD);
  if (pgtt === 'ss') bench.poke({ 77864: 0x4500_0003n });
  else if (pgtt === 'fs') bench.poke({ 211768: 0x4500_0067n });
  else bench.poke({ 73728: 0x4500_0083n, 4295179064: 0x4000_0067n });
  expect(read()).toBe(OLD);
  return { bench, read };
}

const PASID_N = BigInt(PASID);

describe('what each command removes from the IOTLB (VT-d 6.5.2, table E.2)', () => {
  const rows: [string, Step, Record<'ss' | 'fs' | 'nested', boolean>][] = [
    ['cc_inv global', CC_GLOBAL, { ss: false, fs: false, nested: false }],
    ['pc_inv global', PC_GLOBAL, { ss: false, fs: false, nested: false }],
    ['iotlb_inv global', IOTLB_GLOBAL, { ss: true, fs: true, nested: true }],
    ['iotlb_inv domain', IOTLB_DOMAIN(7n), { ss: true, fs: true, nested: true }],
    ['iotlb_inv another domain', IOTLB_DOMAIN(8n), { ss: false, fs: false, nested: false }],
    ['iotlb_inv page', IOTLB_PAGE(7n, IOVA), { ss: true, fs: true, nested: true }],
    [
      'iotlb_inv page around',
      IOTLB_PAGE(7n, 0x8000_0000n, 3n),
      { ss: true, fs: true, nested: true },
    ],
    ['iotlb_inv another page', IOTLB_PAGE(7n, 0x8000_6000n), { ss: false, fs: true, nested: true }],
    [
      'iotlb_inv page of another domain',
      IOTLB_PAGE(8n, IOVA),
      { ss: false, fs: false, nested: false },
    ],
    ['p_iotlb_inv PASID', P_IOTLB_PASID(7n, PASID_N), { ss: true, fs: true, nested: true }],
    ['p_iotlb_inv another PASID', P_IOTLB_PASID(7n, 1n), { ss: false, fs: false, nested: false }],
    ['p_iotlb_inv page', P_IOTLB_PAGE(7n, PASID_N, VA), { ss: false, fs: true, nested: true }],
    [
      'p_iotlb_inv page around',
      P_IOTLB_PAGE(7n, PASID_N, VA & ~0x1f_ffffn, 9n),
      { ss: false, fs: true, nested: true },
    ],
    [
      'p_iotlb_inv another page',
      P_IOTLB_PAGE(7n, PASID_N, VA + 4096n),
      { ss: false, fs: false, nested: false },
    ],
    [
      'p_iotlb_inv page of the second stage',
      P_IOTLB_PAGE(7n, PASID_N, IOVA),
      { ss: false, fs: false, nested: false },
    ],
  ];
  for (const pgtt of ['ss', 'fs', 'nested'] as const)
    it.each(rows)(`${pgtt}: %s`, (_, command, goes) => {
      const { bench, read } = stale(pgtt);
      bench.submit(command);
      expect(read()).toBe(goes[pgtt] ? NEW : OLD);
    });
});

describe('configuration caches (VT-d 6.2.1, 6.2.2)', () => {
  /** Pass-through shows context and PASID cache without an IOTLB in between. */
  function passThrough() {
    const bench = new BenchUnit().poke({ ...scalable(), ...pasidEntry(0, PT_ENTRY, 7n) });
    bench.setRoot(SCALABLE).enableQueue().enable(SCALABLE);
    expect(bench.read(RID, IOVA)).toBe(0x80005);
    return bench;
  }

  it.each<[string, Step, boolean]>([
    ['pc_inv global', PC_GLOBAL, true],
    ['pc_inv domain', PC_DOMAIN(7n), true],
    ['pc_inv another domain', PC_DOMAIN(8n), false],
    ['pc_inv PASID', PC_PASID(7n, 0n), true],
    ['pc_inv another PASID', PC_PASID(7n, 1n), false],
    ['cc_inv global', CC_GLOBAL, false],
    ['iotlb_inv global', IOTLB_GLOBAL, false],
  ])('PASID entry: %s', (_, command, goes) => {
    const bench = passThrough().poke({ 28672: 0n });
    expect(bench.read(RID, IOVA)).toBe(0x80005);
    bench.submit(command);
    expect(bench.read(RID, IOVA)).toBe(goes ? -0x59 : 0x80005);
  });

  it.each<[string, Step, boolean]>([
    ['cc_inv global', CC_GLOBAL, true],
    ['cc_inv domain acts as global in scalable mode', CC_DOMAIN(99n), true],
    ['cc_inv device, DID ignored', CC_DEVICE(99n, 0x20n), true],
    ['cc_inv device with function mask', CC_DEVICE(0n, 0x27n, 3n), true],
    ['cc_inv another device', CC_DEVICE(7n, 0x28n, 3n), false],
    ['pc_inv global', PC_GLOBAL, false],
  ])('scalable context entry: %s', (_, command, goes) => {
    const bench = passThrough().poke({ 17408: 0n });
    bench.submit(command);
    expect(bench.read(RID, IOVA)).toBe(goes ? -0x41 : 0x80005);
  });

  it.each<[string, Step, boolean]>([
    ['cc_inv domain', CC_DOMAIN(5n), true],
    ['cc_inv another domain', CC_DOMAIN(6n), false],
    ['cc_inv device', CC_DEVICE(5n, 0x20n), true],
    ['cc_inv device with another DID', CC_DEVICE(6n, 0x20n), false],
    ['cc_inv device, function masked by bit 2', CC_DEVICE(5n, 0x24n, 1n), true],
    ['cc_inv device, function not masked', CC_DEVICE(5n, 0x21n, 1n), false],
  ])('legacy context entry: %s', (_, command, goes) => {
    const bench = new BenchUnit().poke(legacy(0x9n, 0x503n));
    bench.setRoot(LEGACY).enableQueue(false).enable(LEGACY);
    expect(bench.read(RID, IOVA)).toBe(0x80005);
    bench.poke({ 8704: 0n });
    bench.submit(command);
    expect(bench.read(RID, IOVA)).toBe(goes ? -2 : 0x80005);
  });

  it('SRTP empties every cache with ESRTPS, none without', () => {
    for (const [ESRTPS, goes] of [
      [1, true],
      [0, false],
    ] as const) {
      const bench = new BenchUnit({ capabilities: { cap: { ESRTPS } } });
      bench.poke({ ...scalable(), ...pasidEntry(0, SS_ENTRY), ...secondStage() }).enable(SCALABLE);
      bench.read(RID, IOVA);
      bench.poke({ 77864: 0x4500_0003n }).setRoot(SCALABLE);
      expect(bench.read(RID, IOVA)).toBe(goes ? NEW : OLD);
    }
  });

  it('switching translation off empties every cache of a scalable unit', () => {
    const { bench, read } = stale('ss');
    bench.unit.writeReg32(REG.GCMD, 0);
    expect(read()).toBe(0x80005);
    bench.command(0x8000_0000);
    expect(read()).toBe(NEW);
  });
});

describe('large pages and permissions', () => {
  it('a 2 MiB entry answers for all its pages and goes with any of them', () => {
    const bench = new BenchUnit().poke({ ...legacy(), ...secondStage() });
    bench.setRoot(LEGACY).enableQueue(false).enable(LEGACY);
    expect(bench.read(RID, 0x8020_0000n)).toBe(0x48000);
    expect(bench.read(RID, 0x803f_f000n)).toBe(0x481ff);
    expect(bench.unit.stats()).toMatchObject({ iotlbHits: 1, iotlbMisses: 1 });
    bench.poke({ 73736: 0n });
    expect(bench.read(RID, 0x8030_0000n)).toBe(0x48100);
    bench.submit([0x5_0032n, 0x8030_0000n]);
    expect(bench.read(RID, 0x8020_0000n)).toBe(-6);
  });

  it('a cached read-only page does not answer a write', () => {
    const bench = new BenchUnit()
      .poke({ ...legacy(), ...secondStage(0x4400_0001n) })
      .enable(LEGACY);
    expect(bench.read(RID, IOVA)).toBe(OLD);
    expect(bench.write(RID, IOVA)).toBe(-5);
    bench.poke({ 77864: 0x4400_0003n });
    expect(bench.write(RID, IOVA)).toBe(OLD);
  });

  it('a zero-length read of a write-only page succeeds with ZLR only', () => {
    for (const [ZLR, result] of [
      [1, OLD],
      [0, -6],
    ] as const) {
      const bench = new BenchUnit({ capabilities: { cap: { ZLR } } });
      bench.poke({ ...legacy(), ...secondStage(0x4400_0002n) }).enable(LEGACY);
      const access = ACCESS.READ | ACCESS.ZERO_LENGTH;
      expect(bench.unit.translatePage(RID, -1, 0x80005, access)).toBe(result);
    }
  });

  it('the first write to a page read before sets its dirty bit', () => {
    const bench = new BenchUnit();
    bench.poke({ ...scalable(), ...pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0000n), ...firstStage() });
    bench.enable(SCALABLE);
    bench.read(RID, VA, PASID);
    expect(bench.memory.read64(0x3_3b38)).toBe(0x5500_0027n);
    bench.write(RID, VA, PASID);
    expect(bench.memory.read64(0x3_3b38)).toBe(0x5500_0067n);
  });

  it('privileged and user requests have entries of their own', () => {
    const bench = new BenchUnit();
    const entry = pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0001n);
    bench.poke({ ...scalable(), ...entry, ...firstStage(0x5500_0003n) }).enable(SCALABLE);
    expect(bench.read(RID, VA, PASID, ACCESS.PRIV)).toBe(0x55000);
    expect(bench.read(RID, VA, PASID)).toBe(-0x81);
  });

  it('a large page over the interrupt range is kept in pieces, and the range stays blocked', () => {
    const bench = new BenchUnit();
    bench.poke({ ...legacy(0x1_0001n, 0x502n), 65536: 0x1_1003n, 69656: 0xc000_0083n });
    bench.enable(LEGACY);
    expect(bench.read(RID, 0xfec0_0000n)).toBe(0xfec00);
    expect(bench.write(RID, 0xfee0_0000n)).toBe(0xfee00);
    expect(bench.unit.stats()).toMatchObject({ iotlbMisses: 1 });
    expect(bench.read(RID, 0xfed0_0000n)).toBe(0xfed00);
    expect(bench.unit.stats()).toMatchObject({ iotlbHits: 0 });
  });
});

describe('caching mode (VT-d 6.1)', () => {
  const cm = { capabilities: { cap: { CM: 1 } } };

  it('keeps a second-stage fault until its page is invalidated', () => {
    const bench = new BenchUnit(cm).poke({
      ...scalable(),
      ...pasidEntry(0, SS_ENTRY),
      ...secondStage(0n),
    });
    bench.setRoot(SCALABLE).enableQueue().enable(SCALABLE);
    expect(bench.read(RID, IOVA)).toBe(-0x79);
    bench.poke(secondStage());
    expect(bench.read(RID, IOVA)).toBe(-0x79);
    bench.submit(IOTLB_PAGE(7n, IOVA));
    expect(bench.read(RID, IOVA)).toBe(OLD);
  });

  it('keeps a missing context entry with domain id 0', () => {
    const bench = new BenchUnit(cm).poke({ ...legacy(0n), ...secondStage() });
    bench.setRoot(LEGACY).enableQueue(false).enable(LEGACY);
    expect(bench.read(RID, IOVA)).toBe(-2);
    bench.poke(legacy());
    expect(bench.read(RID, IOVA)).toBe(-2);
    bench.submit(CC_DOMAIN(5n));
    expect(bench.read(RID, IOVA)).toBe(-2);
    bench.submit(CC_DEVICE(0n, 0x20n));
    expect(bench.read(RID, IOVA)).toBe(OLD);
  });

  it('keeps nothing when told to forget faults', () => {
    const bench = new BenchUnit({ ...cm, compatibility: { forgetFaults: true } });
    bench.poke({ ...legacy(0n), ...secondStage(0n) }).enable(LEGACY);
    expect(bench.read(RID, IOVA)).toBe(-2);
    bench.poke(legacy());
    expect(bench.read(RID, IOVA)).toBe(-6);
    bench.poke(secondStage());
    expect(bench.read(RID, IOVA)).toBe(OLD);
  });

  it('keeps a missing PASID entry', () => {
    const bench = new BenchUnit(cm).poke({ ...scalable(), ...secondStage() });
    bench.setRoot(SCALABLE).enableQueue().enable(SCALABLE);
    expect(bench.read(RID, IOVA)).toBe(-0x59);
    bench.poke(pasidEntry(0, SS_ENTRY));
    expect(bench.read(RID, IOVA)).toBe(-0x59);
    bench.submit(PC_PASID(0n, 0n));
    expect(bench.read(RID, IOVA)).toBe(OLD);
  });

  it('answers from a kept entry that lacks the right, instead of walking again', () => {
    const bench = new BenchUnit(cm).poke({ ...legacy(), ...secondStage(0x4400_0001n) });
    bench.setRoot(LEGACY).enableQueue(false).enable(LEGACY);
    expect(bench.read(RID, IOVA)).toBe(OLD);
    bench.poke(secondStage());
    expect(bench.write(RID, IOVA)).toBe(-5);
    bench.submit(IOTLB_PAGE(5n, IOVA));
    expect(bench.write(RID, IOVA)).toBe(OLD);
  });

  it('never keeps first-stage faults', () => {
    const bench = new BenchUnit(cm);
    bench.poke({ ...scalable(), ...pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0000n), ...firstStage(0n) });
    bench.enable(SCALABLE);
    expect(bench.read(RID, VA, PASID)).toBe(-0x71);
    bench.poke(firstStage());
    expect(bench.read(RID, VA, PASID)).toBe(0x55000);
  });

  it('a zero-length read never succeeds from a kept fault', () => {
    const bench = new BenchUnit(cm).poke({ ...legacy(), ...secondStage(0n) }).enable(LEGACY);
    const access = ACCESS.READ | ACCESS.ZERO_LENGTH;
    expect(bench.unit.translatePage(RID, -1, 0x80005, access)).toBe(-6);
    expect(bench.unit.translatePage(RID, -1, 0x80005, access)).toBe(-6);
  });

  it('a kept fault of an entry with FPD is not recorded either', () => {
    const bench = new BenchUnit(cm)
      .poke({ ...legacy(0x1_0003n), ...secondStage(0n) })
      .enable(LEGACY);
    bench.read(RID, IOVA);
    bench.read(RID, IOVA);
    expect(bench.unit.stats().faults).toBe(0);
  });
});

describe('IOTLB arrays', () => {
  it('page invalidation finds entries by probing as a full scan does', () => {
    const rids = [0x20, 0x28, 0x105, 0xffff];
    const fill = () => {
      const tlb = new Iotlb(12);
      for (const rid of rids)
        for (let page = 0; page < 64; page++) {
          const source = sourceOf(rid, rid === 0x28 ? 5 : -1, 0);
          const spread = spreadOf(rid, rid === 0x28 ? 5 : -1);
          tlb.page4K.insert(source, spread, 0x8_0000 + page, page, TLB.GOOD | TLB.R, 3, 0);
        }
      return tlb;
    };
    for (const am of [0, 1, 3, 5, 6, 18]) {
      const tlb = fill();
      const before = tlb.entries();
      const dropped = tlb.invalidatePages(3, 0x8_0008, am);
      const first = 0x8_0008 - (0x8_0008 % 2 ** am);
      const inside = before.filter((e) => e.iovaPfn >= first && e.iovaPfn < first + 2 ** am);
      expect(dropped).toBe(inside.length);
      expect(tlb.entries()).toHaveLength(before.length - inside.length);
    }
  });

  it('counts stay right through eviction, invalidation and snapshots', () => {
    const tlb = new Iotlb(4);
    for (let page = 0; page < 100; page++)
      tlb.page4K.insert(sourceOf(1, -1, 0), spreadOf(1, -1), page, page, TLB.GOOD | 3, page % 3, 0);
    expect(tlb.page4K.live).toBe(tlb.entries().length);
    const copy = new Iotlb(4);
    copy.restore(tlb.snapshot());
    expect(copy.entries()).toEqual(tlb.entries());
    const ofOne = copy.entries().filter(({ did }) => did === 1).length;
    expect(copy.invalidateDomain(1)).toBe(ofOne);
    expect(copy.invalidateDomain(1)).toBe(0);
    expect(copy.invalidateAll()).toBe(tlb.entries().length - ofOne);
    expect(copy.entries()).toEqual([]);
  });
});
