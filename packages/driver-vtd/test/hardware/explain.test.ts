import { readFileSync } from 'node:fs';
import { ACCESS } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { formatExplanation } from '../../src/hardware/index.ts';
import { BenchUnit } from './bench-unit.ts';
import {
  IOVA,
  LEGACY,
  legacy,
  PASID,
  pasidEntry,
  RID,
  SCALABLE,
  SS_ENTRY,
  scalable,
  secondStage,
} from './tables.ts';

const vectors = JSON.parse(
  readFileSync(new URL('../data/vtd-vectors.json', import.meta.url)).toString(),
);

interface Walk {
  name: string;
  rtaddr: string;
  memory: Record<string, string>;
  request: {
    rid: string;
    addr: string;
    kind: 'r' | 'w' | 'a';
    pasid?: string;
    at?: string;
    pr?: string;
  };
  reads: string[];
  result: { pa: string };
}
const KIND = { r: ACCESS.READ, w: ACCESS.WRITE, a: ACCESS.ATOMIC };

function explainWalk(bench: BenchUnit, { request }: Walk) {
  return bench.unit.explain({
    rid: Number(request.rid),
    pasid: request.pasid ? Number(request.pasid) : -1,
    iova: BigInt(request.addr),
    access: KIND[request.kind] | (request.pr === '0x1' ? ACCESS.PRIV : 0),
    kind: request.at === '0x2' ? 'translated' : 'untranslated',
  });
}

describe('explain', () => {
  it.each<[string, Walk]>(vectors.walks.map((walk: Walk) => [walk.name, walk]))(
    '%s: reads what the computed walk reads, and changes nothing',
    (_, walk) => {
      const bench = new BenchUnit().poke(walk.memory).enable(BigInt(walk.rtaddr));
      const trace = explainWalk(bench, walk);
      const touched = new Set<string>();
      for (const step of trace.steps)
        if (step.kind === 'read')
          for (let at = 0; at < step.words.length * 4; at += 8)
            touched.add(`0x${(step.address + at).toString(16)}`);
      for (const address of walk.reads)
        expect([address, touched.has(address)]).toEqual([address, true]);
      expect(BigInt(trace.pfn ?? -1) << 12n).toBe(BigInt(walk.result.pa) & ~0xfffn);
      for (const [address, word] of Object.entries(walk.memory))
        expect(bench.memory.read64(Number(address))).toBe(BigInt(word));
      expect(bench.unit.caches.iotlb.entries()).toEqual([]);
      expect(bench.unit.stats()).toMatchObject({ translations: 0, faults: 0 });
    },
  );

  it('says which rule refused the request, and shows the reserved bit', () => {
    const bench = new BenchUnit();
    bench.poke({
      ...scalable(),
      ...pasidEntry(PASID, SS_ENTRY),
      ...secondStage(0x4000_0000_4400_0003n),
    });
    bench.enable(SCALABLE);
    const trace = bench.unit.explain({ rid: RID, pasid: PASID, iova: IOVA });
    expect(trace).toMatchObject({
      pfn: undefined,
      reason: 0x7a,
      reasonName: 'SS_RESERVED',
      recorded: true,
    });
    expect(bench.unit.stats().faults).toBe(0);
    const last = trace.steps.filter((step) => step.kind === 'read').at(-1);
    expect(last).toMatchObject({ structure: 'SS_PTE', address: 0x1_3028 });
    expect(formatExplanation(trace)).toContain('RSVD62 [62] = 0x1 RESERVED');
    expect(formatExplanation(trace)).toContain('0x7a (SSS.3) second-stage paging entry');
  });

  it('shows cache hits, FPD, bus errors and owed updates', () => {
    const bench = new BenchUnit();
    bench.poke({ ...scalable(0x2_0e1fn), ...pasidEntry(0, SS_ENTRY | 0x200n), ...secondStage() });
    bench.enable(SCALABLE);
    const first = bench.unit.explain({ rid: RID, iova: IOVA, access: ACCESS.WRITE });
    expect(first.steps.filter(({ kind }) => kind === 'update')).toHaveLength(4);
    bench.read(RID, IOVA);
    const hit = bench.unit.explain({ rid: RID, iova: IOVA });
    expect(hit.steps).toEqual([{ kind: 'cache', name: 'IOTLB', hit: true, detail: '' }]);
    const hole = bench.unit.explain({ rid: RID, iova: 0x8001_0000n });
    expect(hole).toMatchObject({ reason: 0x79, recorded: false });
    expect(hole.steps.filter((s) => s.kind === 'cache').map((s) => [s.name, s.hit])).toEqual([
      ['IOTLB', false],
      ['context cache', true],
      ['PASID cache', true],
    ]);
    bench.poke({ 77872: 3n, 73744: 0x80_0000_0003n });
    const error = bench.unit.explain({ rid: RID, iova: 0x8040_0000n });
    expect(error.steps.some(({ kind }) => kind === 'bus-error')).toBe(true);
  });

  it.each([
    ['translation', 'translation request goes to 0x44000000'],
    ['translated', 'translated request goes to 0x80005000'],
    ['page-request', 'page request goes to the page request queue'],
  ] as const)('%s requests', (kind, verdict) => {
    const bench = new BenchUnit();
    bench.poke({ ...scalable(), ...pasidEntry(0, SS_ENTRY), ...secondStage() }).enable(SCALABLE);
    expect(bench.unit.explain({ rid: RID, iova: IOVA, kind }).verdict).toBe(verdict);
    expect(bench.bus.responses).toEqual([]);
    expect(bench.unit.readRegister64(0xc8)).toBe(0n);
  });

  it('says so when translation is off or the address is an interrupt', () => {
    const bench = new BenchUnit().poke({ ...legacy(), ...secondStage() });
    expect(bench.unit.explain({ rid: RID, iova: IOVA }).steps).toEqual([
      { kind: 'rule', text: 'GSTS.TES=0: the address passes unchanged' },
    ]);
    bench.enable(LEGACY);
    const interrupt = bench.unit.explain({ rid: RID, iova: 0xfee0_0000n, access: ACCESS.WRITE });
    expect(formatExplanation(interrupt)).toContain('an interrupt request');
  });
});
