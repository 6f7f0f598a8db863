/**
 * Seed 000, group D: flow 5.4 of the /dev/ioasid proposal (27 May 2021), nesting by hardware. The
 * parent (gpa) is a nest parent, the child (giova) a nested HWPT over the guest's table X1.
 */
import { PAGE_RESPONSE } from '@iommukit/core';
import type { VtdIommuUnit } from '@iommukit/driver-vtd';
import { describe, expect, it } from 'vitest';
import { FAULT, GUEST, nestingSetup, Scenario, VECTORS, vtd48, X1 } from './guest-image.ts';

/** dev1 on the parent, dev2 on the child; dev2 can ask for missing pages. */
const flow54 = () => {
  const scenario = new Scenario([
    {
      driver: vtd48(),
      devices: [
        { rid: '00:04.0', name: 'dev1', pasidBits: 20 },
        { rid: '00:05.0', name: 'dev2', pasidBits: 20, ats: true, pri: true },
      ],
    },
  ]);
  const setup = nestingSetup(scenario);
  const { context, devIds } = setup;
  const faults = context.faultQueueAlloc();
  const child = setup.nested(X1.root, devIds[1], faults.outFaultId);
  context.deviceAttach(devIds[0] as number, setup.parentId);
  context.deviceAttach(devIds[1] as number, child);
  const { hardware } = scenario.machine.units[0] as VtdIommuUnit;
  const [dev1, dev2] = [scenario.device(0), scenario.device(1)];
  return { ...setup, child, hardware, queue: faults.queue, dev1, dev2 };
};

/** Paging entries that a walk of dev2 reads in memory: level, address, quadword. */
const walkOf = ({ hardware, dev2 }: ReturnType<typeof flow54>, iova: number) =>
  hardware.explain({ rid: dev2.rid, iova, cached: false }).steps.flatMap((step) => {
    if (step.kind !== 'read' || !step.what.includes('stage, level')) return [];
    const [lo = 0, hi = 0] = step.words;
    return [{ what: step.what, address: step.address, value: hi * 2 ** 32 + lo }];
  });

describe('S000 D: /dev/ioasid, hardware nesting', () => {
  it('S000 D1: table X1, dev2 at 0x2abc: HPA 0x1_0000_1abc, as dev1 at 0x1abc on the parent', () => {
    const flow = flow54();
    const { scenario, dev1, dev2 } = flow;
    const walk = walkOf(flow, X1.va);
    const firstStage = walk.filter(({ what }) => what.startsWith('first'));
    expect(firstStage.map(({ address, value }) => [address - GUEST.HPA, value])).toEqual([
      [0x10000, 0x11007],
      [0x11000, 0x12007],
      [0x12000, 0x13007],
      [0x13010, 0x1067],
    ]);
    // The independent image's 1 GiB leaf, with SNP (bit 11): the unit forces snooping.
    const leaf = BigInt(VECTORS.stage2.tables['vtd-ss-4level']?.['0x200001000'] ?? 0) | 0x800n;
    expect(walk.at(-1)).toMatchObject({ what: 'second stage, level 3', value: Number(leaf) });
    expect(scenario.dma(dev2, X1.va)).toBe(0x1_0000_1abc);
    expect(scenario.dma(dev1, 0x1abc)).toBe(0x1_0000_1abc);
  });

  it('S000 D2: [0x13010]=0x5067: 0x1_0000_1abc from the IOTLB, 0x1_0000_5abc when invalidated', () => {
    const { scenario, dev2, hardware, child, invalidate } = flow54();
    expect(scenario.dma(dev2, X1.va)).toBe(0x1_0000_1abc);
    scenario.write(X1.slot, 0x5067n);
    const before = hardware.stats();
    expect(scenario.dma(dev2, X1.va)).toBe(0x1_0000_1abc);
    expect(hardware.stats()).toMatchObject({
      iotlbHits: before.iotlbHits + 1,
      iotlbMisses: before.iotlbMisses,
    });
    // Another page's invalidation leaves it there.
    invalidate(child, 0x3000);
    expect(scenario.dma(dev2, X1.va)).toBe(0x1_0000_1abc);
    invalidate(child, 0x2000);
    expect(scenario.dma(dev2, X1.va)).toBe(0x1_0000_5abc);
  });

  it('S000 D3: [0x13010]=0x40000067, invalidated: second-stage fault at GPA 0x4000_0abc', () => {
    const flow = flow54();
    const { scenario, dev2, child, invalidate } = flow;
    expect(scenario.dma(dev2, X1.va)).toBe(X1.hpa);
    scenario.write(X1.slot, 0x4000_0067n);
    invalidate(child, 0x2000);
    const walk = walkOf(flow, X1.va);
    expect(scenario.dma(dev2, X1.va)).toBe(FAULT.SECOND_STAGE);
    expect(scenario.faults).toMatchObject([
      { rid: dev2.rid, pasid: -1, addressPfn: 2, write: true },
    ]);
    // The second stage was asked for GPA 0x4000_0000: entry 1 of the level-3 table, which is empty.
    const [leaf, missing] = walk.slice(-4).filter(({ what }) => what === 'second stage, level 3');
    expect(missing).toEqual({ ...leaf, address: (leaf?.address ?? 0) + 8, value: 0 });
  });

  it('S000 D4: DMA 0x3000: first-stage fault at level 1, which the guest side hears of', () => {
    const flow = flow54();
    const { scenario, context, dev2, queue, devIds } = flow;
    expect(scenario.dma(dev2, 0x3000)).toBe(FAULT.FIRST_STAGE);
    expect(scenario.faults).toMatchObject([
      { rid: dev2.rid, pasid: -1, addressPfn: 3, write: true },
    ]);
    expect(walkOf(flow, 0x3000).at(-1)).toEqual({
      what: 'first stage, level 1',
      address: GUEST.HPA + 0x13018,
      value: 0,
    });
    // A device with PRI asks for the page: the record goes up, the guest maps, the answer goes down.
    const answers: number[] = [];
    dev2.requestPages([{ iova: 0x3000, write: true }], {}, (code) => answers.push(code));
    const [record] = queue.readFaults();
    expect(record).toMatchObject({ devId: devIds[1], addr: 0x3000n, perm: 3 });
    scenario.write(0x13018, 0x6067n);
    expect(queue.respond(record?.cookie ?? -1, PAGE_RESPONSE.SUCCESS)).toBe(0);
    expect([...answers, scenario.dma(dev2, 0x3000)]).toEqual([0, 0x1_0000_6000]);
    context.close();
  });
});
