import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FAULT_CONDITIONS } from '../../src/spec/index.ts';
import { BenchUnit, REG } from './bench-unit.ts';
import { FAULT_CASES } from './fault-cases.ts';
import { IOVA, LEGACY, legacy, RID, secondStage } from './tables.ts';

const vectors = JSON.parse(
  readFileSync(new URL('../data/vtd-vectors.json', import.meta.url)).toString(),
);

describe('fault conditions (VT-d 7.1.3)', () => {
  it.each(FAULT_CASES.map((test) => [`${test.condition} ${test.name}`, test] as const))(
    '%s',
    (_, test) => {
      const bench = new BenchUnit(test.options);
      for (const [base, size] of test.readOnly ?? []) bench.memory.readOnly.push({ base, size });
      bench.poke(test.memory).enable(test.rtaddr);
      expect(test.send(bench)).toBeLessThan(0);
      const record = bench.record(0, bench.unit.features.frcdOffset);
      expect(record.hi >> 63n).toBe(1n);
      expect(record.reason).toBe(test.reason);
      expect(bench.unit.stats().faults).toBe(1);
    },
  );

  it('every reason of the specification is reached', () => {
    const reached = new Set<number>([
      ...FAULT_CASES.map(({ reason }) => reason),
      ...vectors.faults.map(({ fault }: { fault: { reason: string } }) => Number(fault.reason)),
    ]);
    const open = FAULT_CONDITIONS.filter(({ reason }) => !reached.has(reason));
    expect(open.map(({ condition }) => condition)).toEqual([]);
  });
});

/** Legacy tables, eight records, reads of unmapped pages fault with reason 6. */
const faulting = () => new BenchUnit().poke({ ...legacy(), ...secondStage() }).enable(LEGACY);
const faultAt = (bench: BenchUnit, page: number) =>
  bench.read(RID, 0x8001_0000n + BigInt(page) * 4096n);

describe('fault recording (VT-d 7.2, 11.4.7)', () => {
  it('fills the records in turn; FRI is the first, PPF follows the F bits', () => {
    const bench = faulting();
    for (let i = 0; i < 3; i++) faultAt(bench, i);
    expect([0, 1, 2, 3].map((i) => bench.record(i).hi >> 63n)).toEqual([1n, 1n, 1n, 0n]);
    expect([0, 1, 2].map((i) => bench.record(i).lo)).toEqual([
      0x8001_0000n,
      0x8001_1000n,
      0x8001_2000n,
    ]);
    expect(bench.unit.readReg32(REG.FSTS)).toBe(0x2);
    bench.clearRecord(0);
    bench.clearRecord(1);
    expect(bench.unit.readReg32(REG.FSTS) & 2).toBe(2);
    bench.clearRecord(2);
    expect(bench.unit.readReg32(REG.FSTS)).toBe(0);
    faultAt(bench, 9);
    expect(bench.unit.readReg32(REG.FSTS)).toBe(0x302);
  });

  it('overflows after the last record: PFO, later faults are lost until it is cleared', () => {
    const bench = faulting();
    for (let i = 0; i < 8; i++) faultAt(bench, i);
    expect(bench.unit.readReg32(REG.FSTS) & 1).toBe(0);
    faultAt(bench, 8);
    expect(bench.unit.readReg32(REG.FSTS) & 1).toBe(1);
    for (let i = 0; i < 8; i++) bench.clearRecord(i);
    faultAt(bench, 10);
    expect(bench.record(0).hi >> 63n).toBe(0n);
    bench.unit.writeReg32(REG.FSTS, 1);
    faultAt(bench, 11);
    expect(bench.record(0).lo).toBe(0x8001_b000n);
    expect(bench.unit.stats()).toMatchObject({ faults: 9, faultsDropped: 2 });
  });

  it('writes to a record change nothing but F', () => {
    const bench = faulting();
    faultAt(bench, 0);
    const before = bench.record(0);
    bench.unit.writeRegister64(REG.FRCD, 0xffff_ffff_ffff_ffffn);
    bench.unit.writeReg32(REG.FRCD + 8, 0xffff_ffff);
    bench.unit.writeReg32(REG.FRCD + 12, 0x7fff_ffff);
    expect(bench.record(0)).toEqual(before);
    bench.unit.writeRegister64(REG.FRCD + 8, 1n << 63n);
    expect(bench.record(0).hi).toBe(before.hi & ~(1n << 63n));
  });

  it('sends one message while records are pending; a masked one waits in IP', () => {
    const bench = faulting();
    const { unit, bus } = bench;
    expect(unit.readReg32(REG.FECTL)).toBe(0x8000_0000);
    unit.writeReg32(REG.FECTL + 4, 0x41);
    unit.writeReg32(REG.FECTL + 8, 0xfee0_1000);
    faultAt(bench, 0);
    expect(unit.readReg32(REG.FECTL)).toBe(0xc000_0000);
    expect(bus.messages).toEqual([]);
    unit.writeReg32(REG.FECTL, 0);
    expect(bus.messages).toEqual([[0xfee0_1000, 0x41]]);
    expect(unit.readReg32(REG.FECTL)).toBe(0);
    faultAt(bench, 1);
    expect(bus.messages).toHaveLength(1);
    bench.clearRecord(0);
    bench.clearRecord(1);
    faultAt(bench, 2);
    expect(bus.messages).toHaveLength(2);
  });

  it('a fault while a queue error is pending sends no message of its own', () => {
    const bench = faulting();
    const { unit, bus } = bench;
    unit.writeReg32(REG.FECTL, 0);
    bench.enableQueue(false).submit([0n]);
    expect(bus.messages).toHaveLength(1);
    faultAt(bench, 0);
    expect(unit.readReg32(REG.FSTS)).toBe(0x12);
    expect(bus.messages).toHaveLength(1);
  });

  it('clearing every status bit drops a pending message', () => {
    const bench = faulting();
    faultAt(bench, 0);
    bench.clearRecord(0);
    expect(bench.unit.readReg32(REG.FECTL)).toBe(0x8000_0000);
    bench.unit.writeReg32(REG.FECTL, 0);
    expect(bench.bus.messages).toEqual([]);
  });

  it('the record index starts anew when translation goes off', () => {
    const bench = faulting();
    faultAt(bench, 0);
    bench.clearRecord(0);
    bench.unit.writeReg32(REG.GCMD, 0);
    bench.enable(LEGACY);
    faultAt(bench, 1);
    expect(bench.record(0).lo).toBe(0x8001_1000n);
  });

  it('FPD silences a qualified fault and leaves the request blocked', () => {
    const bench = new BenchUnit().poke({ ...legacy(0x1_0003n), ...secondStage() }).enable(LEGACY);
    expect(bench.read(RID, 0x8001_0000n)).toBe(-6);
    expect(bench.read(RID, IOVA)).toBe(0x44000);
    expect(bench.unit.readReg32(REG.FSTS)).toBe(0);
  });
});
