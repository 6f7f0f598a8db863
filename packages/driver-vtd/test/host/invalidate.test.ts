import { HostMemory } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { Invalidate } from '../../src/host/invalidate.ts';
import { InvalidationQueue } from '../../src/host/invalidation-queue.ts';
import { WHOLE_SPACE_AM } from '../../src/host/page-cover.ts';
import { GlobalCommands } from '../../src/host/registers.ts';
import { RecordingUnit } from './recording-unit.ts';

const CAPS = {
  pageSelective: true,
  maxAm: 18,
  drainWrites: true,
  drainReads: true,
  throttles: false,
};

const setUp = (caps = CAPS, wide = true) => {
  const unit = new RecordingUnit(0x91d2_078c_2278_0e06n, 0x33_ed9e_a400_f0c7n);
  const queue = new InvalidationQueue(unit, new HostMemory(unit.memory), wide);
  queue.enable(new GlobalCommands(unit));
  return { unit, queue, invalidate: new Invalidate(queue, caps) };
};

/** Words from the worked examples (qw0, qw1). */
const EXAMPLES: [string, (invalidate: Invalidate) => void, bigint, bigint][] = [
  ['CC global', (i) => i.contextGlobal(), 0x11n, 0n],
  ['CC device 5, 20h', (i) => i.contextDevice(5, 0x20), 0x20_0005_0031n, 0n],
  ['IOTLB global, drain', (i) => i.iotlbGlobal(), 0xd2n, 0n],
  ['IOTLB domain 5, drain', (i) => i.iotlbDomain(5), 0x500e2n, 0n],
  ['IOTLB page 5', (i) => i.iotlbPages(5, 0x80004, 2, true), 0x500f2n, 0x80004042n],
  ['P_IOTLB PASID', (i) => i.pasidIotlb(9, 0x12345), 0x1234500090026n, 0n],
  [
    'P_IOTLB page',
    (i) => i.pasidIotlbPages(9, 0x12345, 0x7f1234567, 0, false),
    0x1234500090036n,
    0x7f1234567000n,
  ],
  [
    'P_IOTLB 2M, IH',
    (i) => i.pasidIotlbPages(9, 0x12345, 0xffff800000200, 9, true),
    0x1234500090036n,
    0xffff800000200049n,
  ],
  ['PC PASID', (i) => i.pasidEntry(9, 0x12345), 0x1234500090017n, 0n],
  ['PC global', (i) => i.pasidGlobal(), 0x37n, 0n],
  ['device-TLB page', (i) => i.deviceTlb(0x20, -1, 0x80005, 0), 0x20_0000_0003n, 0x80005000n],
  ['device-TLB 64K', (i) => i.deviceTlb(0x20, -1, 0x80000, 4), 0x20_0000_0003n, 0x80007001n],
  [
    'device-TLB everything',
    (i) => i.deviceTlb(0x20, -1, 0, WHOLE_SPACE_AM),
    0x20_0000_0003n,
    0x7ffffffffffff001n,
  ],
  [
    'PASID device-TLB page',
    (i) => i.deviceTlb(0x20, 0x12345, 0x7f1234567, 0),
    0x1234500200008n,
    0x7f1234567000n,
  ],
  [
    'PASID device-TLB everything',
    (i) => i.deviceTlb(0x20, 0x12345, 0, WHOLE_SPACE_AM),
    0x1234500200008n,
    0x7ffffffffffff800n,
  ],
  ['response success', (i) => i.pageGroupResponse(0x20, 0x12345, 0x15, 0), 0x1234500200019n, 0xa8n],
  ['response invalid', (i) => i.pageGroupResponse(0x20, 0x12345, 0x15, 1), 0x1234500201019n, 0xa8n],
  ['response failure', (i) => i.pageGroupResponse(0x20, -1, 0x15, 15), 0x20f009n, 0xa8n],
];

describe('VT-d 6.5.2: descriptors as in the worked examples', () => {
  it.each(EXAMPLES)('%s', (_name, send, qw0, qw1) => {
    const { unit, queue, invalidate } = setUp();
    send(invalidate);
    queue.submit();
    expect(unit.descriptors()).toEqual([[qw0, qw1]]);
  });

  it('VT-d 11.4.2 (MAMV, PSI): what a unit cannot name becomes domain-selective', () => {
    for (const caps of [
      { ...CAPS, maxAm: 3 },
      { ...CAPS, pageSelective: false },
    ]) {
      const { unit, queue, invalidate } = setUp(caps);
      invalidate.iotlbPages(5, 0x80004, 4, true);
      queue.submit();
      expect(unit.descriptors()).toEqual([[0x500e2n, 0n]]);
    }
  });

  it('VT-d 11.4.3 (DIT): the physical function is named where the unit throttles', () => {
    const { unit, queue, invalidate } = setUp({ ...CAPS, throttles: true });
    invalidate.deviceTlb(0x1234, -1, 0, 0);
    invalidate.deviceTlb(0x1234, 5, 0, 0);
    queue.submit();
    expect(unit.descriptors()).toEqual([
      [0x1230_1234_0000_4003n, 0n],
      [0x1230_0005_1234_4008n, 0n],
    ]);
  });
});

describe('VT-d 6.5.2: the queue', () => {
  it.each([
    ['128-bit', false, 0x100],
    ['256-bit', true, 0x100],
  ])('%s descriptors: batches wrap around the ring in order', (_name, wide, ring) => {
    const { unit, queue, invalidate } = setUp(CAPS, wide);
    const sent: bigint[] = [];
    for (let round = 0; round < 12; round++) {
      for (let i = 0; i < 100; i++) {
        const did = 2 + ((round * 100 + i) % 65000);
        invalidate.iotlbDomain(did);
        sent.push((BigInt(did) << 16n) | 0xe2n);
      }
      queue.submit();
    }
    expect(sent.length).toBeGreaterThan(ring * 4);
    expect(unit.descriptors().map(([qw0]) => qw0)).toEqual(sent);
  });

  it('takes a batch larger than the ring in parts', () => {
    const { unit, queue, invalidate } = setUp();
    for (let i = 0; i < 1000; i++) invalidate.deviceTlb(i, -1, 0, WHOLE_SPACE_AM);
    queue.submit();
    expect(unit.descriptors()).toHaveLength(1000);
    expect(unit.descriptors()[999]?.[0]).toBe(0x3e7_0000_0003n);
  });

  it('hands a batch over with one wait', () => {
    const { unit, queue, invalidate } = setUp();
    const from = unit.log.length;
    invalidate.iotlbDomain(2);
    invalidate.iotlbDomain(3);
    queue.submit();
    const waits = unit.log
      .slice(from)
      .filter((entry) => entry.kind === 'descriptor' && (entry.qw0 & 0xfn) === 5n);
    expect(waits).toHaveLength(1);
    expect(queue.isEmpty).toBe(true);
  });

  it('VT-d 6.5.2.11 (IQE): steps over a refused descriptor, runs the rest, then reports', () => {
    const { unit, queue, invalidate } = setUp();
    unit.fault = (qw0) => (qw0 === 0x500e2n ? 'iqe' : undefined);
    invalidate.iotlbDomain(4);
    invalidate.iotlbDomain(5);
    invalidate.iotlbDomain(6);
    expect(() => queue.submit()).toThrow(/EIO.*IQE/);
    expect(unit.descriptors().map(([qw0]) => qw0)).toEqual([0x400e2n, 0x600e2n]);
    expect(queue.errors.refused).toBe(1);
    unit.fault = undefined;
    invalidate.iotlbDomain(5);
    queue.submit();
    expect(unit.descriptors()).toHaveLength(3);
  });

  it('VT-d 6.5.2.11 (ITE): gives up on a device that does not answer, not on the others', () => {
    const { unit, queue, invalidate } = setUp();
    unit.fault = (qw0) => (qw0 === 0x20_0000_0003n ? 'ite' : undefined);
    invalidate.deviceTlb(0x18, -1, 0, 0);
    invalidate.deviceTlb(0x20, -1, 0, 0);
    invalidate.deviceTlb(0x20, -1, 1, 0);
    invalidate.deviceTlb(0x28, -1, 0, 0);
    queue.submit();
    expect(unit.descriptors().map(([qw0]) => qw0)).toEqual([0x18_0000_0003n, 0x28_0000_0003n]);
    expect(queue.errors.timeouts).toBe(1);
  });

  it('reports a queue that stands still', () => {
    const { unit, queue, invalidate } = setUp();
    unit.values.set(0x1c, 0);
    invalidate.iotlbDomain(4);
    expect(() => queue.submit()).toThrow(/does not advance/);
  });
});
