import { describe, expect, it } from 'vitest';
import { BenchUnit } from './bench-unit.ts';
import {
  FS_ENTRY,
  firstStage,
  IOVA,
  LEGACY,
  legacy,
  NESTED_ENTRY,
  nestedTables,
  PASID,
  pasidEntry,
  RID,
  SCALABLE,
  SS_ENTRY,
  scalable,
  secondStage,
  VA,
} from './tables.ts';

const sanitized = () => new BenchUnit({ sanitize: true });
const findings = (bench: BenchUnit) => bench.unit.sanitizer?.findings ?? [];
const audit = (bench: BenchUnit) => bench.unit.sanitizer?.audit() ?? [];

function secondStageUnit() {
  const bench = sanitized().poke({ ...scalable(), ...pasidEntry(0, SS_ENTRY), ...secondStage() });
  bench.setRoot(SCALABLE).enableQueue().enable(SCALABLE);
  expect(bench.read(RID, IOVA)).toBe(0x44000);
  return bench;
}

describe('sanitizer', () => {
  it('is silent when the invalidation comes before the use', () => {
    const bench = secondStageUnit().poke({ 77864: 0n });
    bench.submit([0x7_0032n, IOVA]);
    expect(bench.read(RID, IOVA)).toBe(-0x79);
    expect(audit(bench)).toEqual([]);
    expect(findings(bench)).toEqual([]);
    expect(bench.unit.sanitizer?.superfluous).toBe(0);
  });

  it('names entry, change and due command when a stale translation is used', () => {
    const bench = secondStageUnit().poke({ 77864: 0x4500_0003n });
    expect(bench.read(RID, IOVA)).toBe(0x44000);
    expect(findings(bench)).toHaveLength(1);
    expect(findings(bench)[0]).toMatchObject({
      kind: 'stale-translation',
      verdict: 'missing',
      found: 'use',
      rid: RID,
      did: 7,
      iovaPfn: 0x80005,
      change: {
        structure: 'SS_PTE',
        address: 0x1_3028,
        oldWords: [0x4400_0003, 0],
        newWords: [0x4500_0003, 0],
      },
      due: ['iotlb_inv page 0x80005000 of domain 7'],
      seen: [],
    });
    bench.read(RID, IOVA);
    expect(findings(bench)).toHaveLength(1);
  });

  it('says "late" once the due command arrives after the use', () => {
    const bench = secondStageUnit().poke({ 77864: 0x4500_0003n });
    bench.read(RID, IOVA);
    bench.submit([0x7_0032n, IOVA]);
    expect(findings(bench)[0]?.verdict).toBe('late');
  });

  it('says "partial" when something of the domain was invalidated, but not this', () => {
    const bench = secondStageUnit().poke({ 77864: 0n });
    bench.submit([0x7_0032n, 0x8000_6000n]);
    expect(audit(bench)).toMatchObject([{ verdict: 'partial', found: 'audit' }]);
    expect(findings(bench)[0]?.seen).toHaveLength(1);
    expect(bench.unit.sanitizer?.superfluous).toBe(1);
  });

  it('finds a dirty bit that was cleared without invalidation', () => {
    const bench = sanitized().poke({
      ...scalable(),
      ...pasidEntry(0, SS_ENTRY | 0x200n),
      ...secondStage(),
    });
    bench.setRoot(SCALABLE).enableQueue().enable(SCALABLE);
    bench.write(RID, IOVA);
    expect(bench.memory.read64(0x1_3028)).toBe(0x4400_0303n);
    bench.poke({ 77864: 0x4400_0103n });
    bench.write(RID, IOVA);
    expect(findings(bench)).toMatchObject([{ kind: 'stale-dirty', verdict: 'missing' }]);
    expect(bench.memory.read64(0x1_3028)).toBe(0x4400_0103n);
  });

  it('an accessed bit that software clears is no finding', () => {
    const bench = sanitized().poke({
      ...scalable(),
      ...pasidEntry(0, SS_ENTRY | 0x200n),
      ...secondStage(),
    });
    bench.enable(SCALABLE);
    bench.read(RID, IOVA);
    bench.poke(secondStage());
    bench.read(RID, IOVA);
    expect([findings(bench), audit(bench)]).toEqual([[], []]);
  });

  it('more permission than cached is no finding', () => {
    const bench = sanitized()
      .poke({ ...legacy(), ...secondStage(0x4400_0001n) })
      .enable(LEGACY);
    bench.read(RID, IOVA);
    bench.poke(secondStage());
    bench.read(RID, IOVA);
    expect([findings(bench), audit(bench)]).toEqual([[], []]);
  });

  it.each([
    [
      'PASID entry taken away, IOTLB flushed only',
      { 28672: 0n },
      [0x7_0022n],
      ['stale-pasid'],
      ['pc_inv PASID 0x0 of domain 7', 'iotlb_inv domain 7'],
    ],
    [
      'context entry taken away, IOTLB and PASID cache flushed only',
      { 17408: 0n },
      [0x12n],
      ['stale-context', 'stale-pasid'],
      ['cc_inv device 0x20', 'pc_inv domain 0', 'iotlb_inv domain 0'],
    ],
  ])('%s', (_, change, command, kinds, due) => {
    const bench = secondStageUnit().poke(change).submit(command);
    const found = audit(bench);
    expect(found.map(({ kind }) => kind)).toEqual(kinds);
    expect(found[0]?.due).toEqual(due);
  });

  it('first stage and nested: the due command is the PASID page, or the domain for the second stage', () => {
    const first = sanitized().poke({
      ...scalable(),
      ...pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0000n),
      ...firstStage(),
    });
    first.enable(SCALABLE).read(RID, VA, PASID);
    first.poke({ 211768: 0n });
    expect(audit(first)[0]?.due).toEqual([
      'p_iotlb_inv page 0x7f1234567000 PASID 0x12345 of domain 7',
    ]);
    const nested = sanitized().poke({
      ...scalable(),
      ...pasidEntry(PASID, NESTED_ENTRY, 9n, 0x3_0000n),
      ...nestedTables(),
    });
    nested.enable(SCALABLE).read(RID, VA, PASID);
    nested.poke({ 73728: 0x2_0000_0083n });
    expect(audit(nested)[0]).toMatchObject({
      due: ['iotlb_inv domain 9'],
      change: { structure: 'SS_PDE_2M', address: 0x1_2000 },
    });
  });

  it('a kept fault of caching mode is stale once something is mapped', () => {
    const bench = new BenchUnit({ sanitize: true, capabilities: { cap: { CM: 1 } } });
    bench.poke({ ...legacy(), ...secondStage(0n) }).enable(LEGACY);
    bench.read(RID, IOVA);
    expect(audit(bench)).toEqual([]);
    bench.poke(secondStage());
    expect(audit(bench)).toMatchObject([{ kind: 'stale-translation' }]);
  });

  it('IH=1 is wrong when a table entry changed, right when only a leaf did', () => {
    const wrong = secondStageUnit()
      .poke({ 73728: 0n })
      .submit([0x7_0032n, IOVA | 0x40n]);
    expect(findings(wrong)).toMatchObject([
      { kind: 'wrong-hint', change: { structure: 'SS_TABLE_ENTRY', address: 0x1_2000 } },
    ]);
    const right = secondStageUnit()
      .poke({ 77864: 0n })
      .submit([0x7_0032n, IOVA | 0x40n]);
    expect(findings(right)).toEqual([]);
    const strict = secondStageUnit().poke({ 73728: 0n }).submit([0x7_0032n, IOVA]);
    expect(findings(strict)).toEqual([]);
  });

  it('knows after a restore where the entries came from, and what was said about them', () => {
    const bench = secondStageUnit();
    const state = structuredClone(bench.unit.snapshot());
    bench.submit([0x12]);
    bench.unit.restore(state);
    bench.poke({ 77864: 0x4500_0003n });
    bench.read(RID, IOVA);
    expect(findings(bench)).toMatchObject([
      { kind: 'stale-translation', change: { address: 77864 }, verdict: 'missing' },
    ]);
  });

  it('is absent when off', () => {
    expect(new BenchUnit().unit.sanitizer).toBeUndefined();
  });
});
