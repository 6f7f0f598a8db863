import { ACCESS, ATS_STATUS, createAtsCompletion } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { BenchUnit, toPfn } from './bench-unit.ts';
import {
  FS_ENTRY,
  firstStage,
  IOVA,
  PASID,
  pasidEntry,
  RID,
  SCALABLE,
  SS_ENTRY,
  scalable,
  secondStage,
  VA,
} from './tables.ts';

const RW = ACCESS.READ | ACCESS.WRITE;
const LEAF = 0x3_3b38;
const CONTEXT_WITHOUT_DTE = 0x2_0e09n;

const ask = (bench: BenchUnit, address: bigint, pasid = PASID, access: number = RW) => {
  const completion = createAtsCompletion();
  bench.unit.translationRequest(RID, pasid, toPfn(address), access, completion);
  return completion;
};

/** A unit with one first-stage page under a PASID. */
const withLeaf = (leaf: bigint, context?: bigint): BenchUnit => {
  const entry = pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0000n);
  const bench = new BenchUnit();
  return bench.poke({ ...scalable(context), ...entry, ...firstStage(leaf) }).enable(SCALABLE);
};

describe('translation requests answered from the IOTLB (VT-d 4.2.4, 6.2.4)', () => {
  it('the second request is a hit with the same answer, stale until an invalidation', () => {
    const bench = withLeaf(0x5500_0007n);
    const first = ask(bench, VA);
    const { iotlbHits } = bench.unit.stats();
    bench.memory.write64(LEAF, 0x6600_0067n);
    expect(ask(bench, VA)).toEqual(first);
    expect(first).toMatchObject({ status: 0, read: 1, write: 1, pfn: 0x55000, sizeLg2: 12 });
    expect(bench.unit.stats().iotlbHits).toBe(iotlbHits + 1);
    bench.enableQueue().submit([0x7_0026n | (BigInt(PASID) << 32n)]);
    expect(ask(bench, VA).pfn).toBe(0x66000);
  });

  it('an entry whose leaf has D=0 does not answer a request that may write: D is set first', () => {
    const bench = withLeaf(0x5500_0007n);
    expect(bench.read(RID, VA, PASID)).toBe(0x55000);
    expect(bench.memory.read64(LEAF)).toBe(0x5500_0027n);
    expect(ask(bench, VA)).toMatchObject({ write: 1 });
    expect(bench.memory.read64(LEAF)).toBe(0x5500_0067n);
  });

  it('a read-only page stays read-only on the hit', () => {
    const bench = withLeaf(0x5500_0005n);
    expect(ask(bench, VA)).toMatchObject({ read: 1, write: 0 });
    const { iotlbHits } = bench.unit.stats();
    expect(ask(bench, VA)).toMatchObject({ read: 1, write: 0 });
    expect(bench.unit.stats().iotlbHits).toBe(iotlbHits + 1);
  });

  it('a write-only page asked for reading: no rights and no address, walked or cached', () => {
    const leaf = { 77864: 0x4400_0002n };
    const bench = new BenchUnit()
      .poke({ ...scalable(), ...pasidEntry(0, SS_ENTRY), ...secondStage(), ...leaf })
      .enable(SCALABLE);
    const empty = { status: 0, read: 0, write: 0, pfn: 0, sizeLg2: 12 };
    expect(ask(bench, IOVA, -1, ACCESS.READ)).toMatchObject(empty);
    const { iotlbHits } = bench.unit.stats();
    expect(ask(bench, IOVA, -1, ACCESS.READ)).toMatchObject(empty);
    expect(bench.unit.stats().iotlbHits).toBe(iotlbHits + 1);
  });

  it('what untranslated requests left behind does not pass DTE=0 (SCT.5)', () => {
    const bench = withLeaf(0x5500_0067n, CONTEXT_WITHOUT_DTE);
    expect(bench.write(RID, VA, PASID)).toBe(0x55000);
    expect(ask(bench, VA).status).toBe(ATS_STATUS.UNSUPPORTED_REQUEST);
    expect(bench.record(0, bench.unit.features.frcdOffset).reason).toBe(0x44);
  });

  it('a large page answers with its size and first frame', () => {
    const bench = new BenchUnit()
      .poke({ ...scalable(), ...pasidEntry(0, SS_ENTRY), ...secondStage() })
      .enable(SCALABLE);
    const large = { status: 0, sizeLg2: 21, pfn: 0x48000 };
    expect(ask(bench, 0x8020_5000n, -1)).toMatchObject(large);
    const { iotlbHits } = bench.unit.stats();
    expect(ask(bench, 0x8020_7000n, -1)).toMatchObject(large);
    expect(bench.unit.stats().iotlbHits).toBe(iotlbHits + 1);
  });
});
