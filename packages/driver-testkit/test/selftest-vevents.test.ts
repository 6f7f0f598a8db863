/**
 * Ground of the kernel's test of event queues of virtual IOMMUs.
 *
 * @linux tools/testing/selftests/iommu/iommufd.c iommufd_viommu.vdevice_alloc
 */
import { HWPT_ALLOC, sysPoll, sysRead } from '@iommukit/core';
import { MOCK_TYPE } from '@iommukit/driver-testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Fields, RawKit, SCRATCH } from './raw-kit.ts';

const VIRT_ID = 0x99;
const DEPTH = 2;
const HEADER_BYTES = 8;
const EVENT_BYTES = 12;
const LOST = 1;
const POLL_IN = 1;
const EINVAL = -22;

describe('iommufd_viommu mock_viommu vdevice_alloc: events', () => {
  let kit: RawKit;
  let viommu: bigint;
  let dev: bigint;
  let stdev: bigint;
  let nested: bigint;

  beforeEach(() => {
    kit = new RawKit();
    const ioas = kit.ioas();
    ({ stdev, dev } = kit.mock(ioas));
    const parent = kit.hwpt(dev, ioas, HWPT_ALLOC.NEST_PARENT);
    kit.ok('TEST_MOCK_DOMAIN_REPLACE', { id: stdev, pt_id: parent });
    const wanted = { dev_id: dev, hwpt_id: parent, type: MOCK_TYPE.VIOMMU };
    viommu = kit.make('VIOMMU_ALLOC', 'out_viommu_id', wanted);
    nested = kit.make('HWPT_ALLOC', 'out_hwpt_id', {
      dev_id: dev,
      pt_id: viommu,
      data_type: MOCK_TYPE.HWPT_DATA,
      data_len: 8,
      data_uptr: kit.words([7, 0]),
    });
  });
  afterEach(() => kit.close());

  const queue = (fields: Fields = {}): string =>
    kit.rc('VEVENTQ_ALLOC', {
      viommu_id: viommu,
      type: MOCK_TYPE.VEVENTQ,
      veventq_depth: DEPTH,
      ...fields,
    });
  const trigger = () => kit.rc('TEST_TRIGGER_VEVENT', { dev_id: dev });
  const attach = () => {
    const wanted = { viommu_id: viommu, dev_id: dev, virt_id: VIRT_ID };
    const made = kit.make('VDEVICE_ALLOC', 'out_vdevice_id', wanted);
    kit.ok('TEST_MOCK_DOMAIN_REPLACE', { id: stdev, pt_id: nested });
    return made;
  };
  /** Everything that a read gives, as words. */
  const read = (fd: number, bytes = 4096): number | number[] => {
    const done = sysRead(kit.process, fd, SCRATCH, bytes);
    return done < 0 ? done : kit.read32(SCRATCH, done / 4);
  };

  it('what cannot be allocated', () => {
    expect(queue({ type: 0 })).toBe('EOPNOTSUPP');
    expect(queue({ veventq_depth: 0 })).toBe('EINVAL');
    expect(queue({ flags: 1 })).toBe('EOPNOTSUPP');
    expect(queue({ viommu_id: 0 })).toBe('ENOENT');
    expect(queue()).toBe('ok');
    expect(queue()).toBe('EEXIST');
    expect(kit.destroy(viommu)).toBe('EBUSY');
  });

  it('no device, no event', () => {
    kit.closeFd(
      Number(
        kit.make('VEVENTQ_ALLOC', 'out_veventq_fd', {
          viommu_id: viommu,
          type: MOCK_TYPE.VEVENTQ,
          veventq_depth: DEPTH,
        }),
      ),
    );
    expect(trigger()).toBe('ENOENT');
    expect(kit.rc('TEST_TRIGGER_VEVENT', { dev_id: 0 })).toBe('ENOENT');
  });

  it('events, sizes of reads, lost ones, and the order of closing', () => {
    expect(queue()).toBe('ok');
    const id = kit.answer['out_veventq_id'] ?? 0n;
    const fd = Number(kit.answer['out_veventq_fd']);
    const vdevice = attach();
    expect(sysPoll(kit.process, fd, POLL_IN)).toBe(0);
    expect(read(fd)).toEqual([]);

    expect(trigger()).toBe('ok');
    expect(sysPoll(kit.process, fd, POLL_IN)).toBe(POLL_IN);
    expect(read(fd, HEADER_BYTES - 1)).toBe(EINVAL);
    expect(read(fd, EVENT_BYTES - 1)).toBe(EINVAL);
    expect(read(fd)).toEqual([0, 0, VIRT_ID]);

    for (let i = 0; i < DEPTH; i++) expect(trigger()).toBe('ok');
    expect(read(fd)).toEqual([0, 1, VIRT_ID, 0, 2, VIRT_ID]);

    for (let i = 0; i < DEPTH + 2; i++) trigger();
    // The mark has the number of the last lost event.
    expect(read(fd)).toEqual([0, 3, VIRT_ID, 0, 4, VIRT_ID, LOST, 6]);
    expect(trigger()).toBe('ok');
    expect(read(fd)).toEqual([0, 7, VIRT_ID]);

    expect(kit.destroy(vdevice)).toBe('ok');
    kit.closeFd(fd);
    expect(kit.destroy(id)).toBe('ok');
    expect(kit.destroy(viommu)).toBe('EBUSY');
  });
});
