/** What a unit makes of bits that stand for things it does not have: reserved, ignored, or read as 0. */
import { describe, expect, it } from 'vitest';
import { BenchUnit, REG } from './bench-unit.ts';
import {
  FS_ENTRY,
  firstStage,
  IOVA,
  LEGACY,
  legacy,
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

describe('domain ids in commands: bits above the width of CAP.ND are ignored (VT-d 6.5.2)', () => {
  const capabilities = { cap: { ND: 2 } };
  const rows: [string, bigint[], boolean][] = [
    ['iotlb_inv domain', [0x0107_0022n], true],
    ['iotlb_inv domain, another one', [0x0108_0022n], false],
    ['iotlb_inv page', [0x0107_0032n, IOVA], true],
    ['p_iotlb_inv PASID', [0x0107_0026n], true],
  ];
  it.each(rows)('%s', (_, words, gone) => {
    const bench = new BenchUnit({ capabilities });
    bench.poke({ ...scalable(), ...pasidEntry(0, SS_ENTRY), ...secondStage() });
    bench.setRoot(SCALABLE).enableQueue().enable(SCALABLE);
    bench.read(RID, IOVA);
    bench.poke({ 77864: 0x4500_0003n }).submit(words);
    expect(bench.read(RID, IOVA)).toBe(gone ? 0x45000 : 0x44000);
    expect(bench.unit.readReg32(REG.FSTS)).toBe(0);
  });

  it('pc_inv and cc_inv', () => {
    const bench = new BenchUnit({ capabilities });
    bench.poke({ ...scalable(), ...pasidEntry(0, SS_ENTRY), ...secondStage() });
    bench.setRoot(SCALABLE).enableQueue().enable(SCALABLE);
    bench.read(RID, IOVA);
    bench.submit([0x0107_0007n]);
    expect(bench.unit.caches.pasid.entries()).toEqual([]);
    const old = new BenchUnit({ capabilities }).poke({ ...legacy(), ...secondStage() });
    old.setRoot(LEGACY).enableQueue().enable(LEGACY);
    old.read(RID, IOVA);
    old.submit([0x0105_0021n]);
    expect(old.unit.caches.context.requesters()).toEqual([]);
  });

  it('CCMD and IOTLB registers', () => {
    const capabilities10 = { ver: 0x10, cap: { ND: 2 } };
    const bench = new BenchUnit({ capabilities: capabilities10 });
    bench.poke({ ...legacy(), ...secondStage() }).enable(LEGACY);
    bench.read(RID, IOVA);
    bench.unit.writeRegister64(REG.CCMD, 0xc000_0000_0000_0105n);
    expect(bench.unit.caches.context.requesters()).toEqual([]);
    const iotlb = bench.unit.features.ivaOffset + 8;
    bench.unit.writeRegister64(iotlb, 0xa000_0105_0000_0000n);
    expect(bench.unit.caches.iotlb.entries()).toEqual([]);
  });
});

describe('addresses in commands (VT-d 6.5.2.3, 6.5.2.9)', () => {
  it('iotlb_inv page: bits at and above MGAW are ignored', () => {
    const bench = new BenchUnit();
    bench.poke({ ...scalable(), ...pasidEntry(0, SS_ENTRY), ...secondStage() });
    bench.setRoot(SCALABLE).enableQueue().enable(SCALABLE);
    bench.read(RID, IOVA);
    const width = BigInt(bench.unit.features.mgawBits);
    bench.poke({ 77864: 0x4500_0003n }).submit([0x7_0032n, IOVA | (1n << width) | (1n << 63n)]);
    expect(bench.read(RID, IOVA)).toBe(0x45000);
  });

  it('inv_wait: status address bits at and above the host width are ignored', () => {
    const bench = new BenchUnit().setRoot(SCALABLE).enableQueue();
    bench.submit([0x7_0000_0025n, 0x9000n | (1n << 46n) | (1n << 63n)]);
    expect(bench.memory.read64(0x9000)).toBe(7n);
    const wide = new BenchUnit({ hostAddressWidthBits: 39 }).setRoot(SCALABLE).enableQueue();
    wide.submit([0x8_0000_0025n, 0x1_0000_9000n | (1n << 39n)]);
    expect(wide.memory.read64(0x1_0000_9000)).toBe(8n);
  });
});

describe('PASID entry: what the unit lacks is reserved in every entry (VT-d 9.6)', () => {
  const noFirst = { ecap: { FSTS: 0, NEST: 0, EAFS: 0, SRS: 0, RPRIVS: 0 } };
  const noSecond = { ecap: { SSTS: 0, NEST: 0, SSADS: 0 } };
  const rows: [string, object, bigint, Record<number, bigint>, number][] = [
    ['FSPTPTR without FSTS, second stage', noFirst, SS_ENTRY, { 28688: 0x3_0000n }, -0x5a],
    ['WPE without FSTS, second stage', noFirst, SS_ENTRY, { 28688: 0x10n }, -0x5a],
    ['FSPM without FSTS, pass-through', noFirst, PT_ENTRY, { 28688: 0x4n }, -0x5a],
    ['SSPTPTR without SSTS, pass-through', noSecond, PT_ENTRY | 0x1_0000n, {}, -0x5a],
    ['SSADE without SSADS, pass-through', { ecap: { SSADS: 0 } }, PT_ENTRY | 0x200n, {}, -0x5a],
    ['FSPTPTR with FSTS, second stage', {}, SS_ENTRY, { 28688: 0x3_0000n }, 0x44000],
    ['FSPTPTR above the host width, second stage', {}, SS_ENTRY, { 28688: 1n << 60n }, 0x44000],
    ['SSPTPTR, SSADE with both, pass-through', {}, PT_ENTRY | 0x1_0200n, {}, 0x80005],
    ['AW without SSTS', noSecond, PT_ENTRY | 8n, {}, 0x80005],
  ];
  it.each(rows)('%s', (_, capabilities, qw0, words, wanted) => {
    const bench = new BenchUnit({ capabilities });
    bench.poke({ ...scalable(), ...pasidEntry(0, qw0), ...secondStage(), ...words });
    expect(bench.enable(SCALABLE).read(RID, IOVA)).toBe(wanted);
  });
});

describe('records of a unit without PASIDs (VT-d 11.4.7.6)', () => {
  it('PP, PV, PRIV and EXE read as 0', () => {
    const capabilities = { ecap: { PASID: 0, PSS: 0, VCS: 0 } };
    const bench = new BenchUnit({ capabilities }).enable(LEGACY);
    expect(bench.read(RID, IOVA, PASID, 4 | 8)).toBe(-0x31);
    expect(bench.record().hi).toBe(0xc000_0031_0000_0020n);
    const tagged = new BenchUnit().enable(LEGACY);
    tagged.read(RID, IOVA, PASID, 4 | 8);
    expect(tagged.record().hi).toBe(0xc123_4531_e000_0020n);
  });
});

describe('second-stage rights with SSIRWE (VT-d 9.8, 11.4.5)', () => {
  const R = 1n;
  const W = 2n;
  const IR = 1n << 61n;
  const IW = 1n << 62n;
  const open = R | W | IR | IW;
  const unit = (ssirwe: boolean, leaf: bigint, ver = 0x60) => {
    const bench = new BenchUnit({ capabilities: { ver, ecap: { SSIRWS: 1 } } });
    const upper = ssirwe ? open : R | W;
    bench.poke({
      ...scalable(),
      ...pasidEntry(0, SS_ENTRY),
      65536: 0x1_1000n | upper,
      69648: 0x1_2000n | upper,
      73728: 0x1_3000n | upper,
      77864: 0x4400_0000n | leaf,
    });
    return bench.enable(SCALABLE | (ssirwe ? 0x80n : 0n));
  };
  const rows: [string, bigint, number, number][] = [
    ['IR and IW alone', IR | IW, 0x44000, 0x44000],
    ['IR alone', IR, 0x44000, -0x85],
    ['IW alone', IW, -0x86, 0x44000],
    ['R and W alone', R | W, -0x79, -0x79],
    ['R, W and IR', R | W | IR, 0x44000, -0x85],
    ['nothing', 0n, -0x79, -0x79],
  ];
  it.each(rows)('on: %s', (_, leaf, read, write) => {
    expect([unit(true, leaf).read(RID, IOVA), unit(true, leaf).write(RID, IOVA)]).toEqual([
      read,
      write,
    ]);
  });

  it.each<[string, bigint, number]>([
    ['R, W', R | W, 0x44000],
    ['R, W and IR, which is ignored', R | W | IR, 0x44000],
    ['R, W and IW, which is reserved', R | W | IW, -0x7a],
    ['IR and IW alone', IR | IW, -0x79],
  ])('off: %s', (_, leaf, read) => {
    expect(unit(false, leaf).read(RID, IOVA)).toBe(read);
  });

  it('rights are those of every level', () => {
    const bench = unit(true, IR | IW).poke({ 73728: 0x1_3000n | R | W | IR });
    expect([bench.read(RID, IOVA), bench.write(RID, IOVA)]).toEqual([0x44000, -0x85]);
  });
});

describe('page requests', () => {
  const request = (pasid: number, read = true) => ({
    rid: RID,
    pasid,
    addressPfn: Number(VA >> 12n),
    read,
    write: false,
    exec: false,
    priv: false,
    last: true,
    prgi: 3,
  });
  const withQueue = (ecap: object) => {
    const bench = new BenchUnit({ capabilities: { ecap } });
    bench.poke({ ...scalable(), ...pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0000n), ...firstStage() });
    bench.enable(SCALABLE).unit.writeRegister64(REG.PQA, 0x20_0000n);
    return bench;
  };

  it('a PASID above ECAP.PSS is no reason to refuse one (SGN.10 is about DMA)', () => {
    const bench = withQueue({ PSS: 9 });
    expect(bench.read(RID, VA, PASID)).toBe(-0x89);
    bench.unit.pageRequest(request(PASID));
    expect([bench.unit.readRegister64(REG.PQT), bench.bus.responses]).toEqual([0x20n, []]);
  });

  it('a stop marker that cannot be written goes without a word (ECAP.SMS)', () => {
    for (const [SMS, faults, codes] of [
      [1, 0, []],
      [0, 1, [1]],
    ] as const) {
      const bench = withQueue({ SMS });
      bench.unit.pageRequest(request(0x12346, false));
      expect(bench.unit.stats().faults).toBe(faults);
      expect(bench.bus.responses.map(({ code }) => code)).toEqual(codes);
    }
  });
});
