/**
 * Ground of the kernel's tests of virtual IOMMUs, devices and hardware queues.
 *
 * @linux tools/testing/selftests/iommu/iommufd.c fixture iommufd_viommu
 */
import { HWPT_ALLOC } from '@iommukit/core';
import { MOCK_TYPE } from '@iommukit/driver-testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { APERTURE, BUFFER, type Fields, PAGE, RawKit, U64_MAX } from './raw-kit.ts';
import { roundTripFault } from './selftest-faults.ts';

const TYPE = MOCK_TYPE.VIOMMU;
const ENXIO = -6;
const VIRT_ID = 0x99;
const CACHE_DEFAULT = 0xbaddad;

interface Fixture {
  readonly kit: RawKit;
  readonly ioas: bigint;
  readonly parent: bigint;
  readonly viommu: bigint;
  readonly stdev: bigint;
  readonly dev: bigint;
}

/** A device attached to a nest parent, and a virtual IOMMU over that. */
const setUp = (): Fixture => {
  const kit = new RawKit();
  const ioas = kit.ioas();
  const { stdev, dev } = kit.mock(ioas);
  const parent = kit.hwpt(dev, ioas, HWPT_ALLOC.NEST_PARENT);
  kit.ok('TEST_MOCK_DOMAIN_REPLACE', { id: stdev, pt_id: parent });
  const wanted = { dev_id: dev, hwpt_id: parent, type: TYPE };
  const viommu = kit.make('VIOMMU_ALLOC', 'out_viommu_id', wanted);
  return { kit, ioas, parent, viommu, stdev, dev };
};

let fixture: Fixture;
const alloc = (fields: Fields = {}): string => {
  const { kit, dev, parent } = fixture;
  return kit.rc('VIOMMU_ALLOC', { dev_id: dev, hwpt_id: parent, type: TYPE, ...fields });
};
const nested = (fields: Fields = {}): string => {
  const { kit, dev, viommu } = fixture;
  const data = { data_type: MOCK_TYPE.HWPT_DATA, data_len: 8, data_uptr: kit.words([7, 0]) };
  return kit.rc('HWPT_ALLOC', { dev_id: dev, pt_id: viommu, ...data, ...fields });
};
const vdevice = (virtId: number | bigint = VIRT_ID, fields: Fields = {}): string => {
  const { kit, dev, viommu } = fixture;
  const wanted = { viommu_id: viommu, dev_id: dev, virt_id: virtId };
  return kit.rc('VDEVICE_ALLOC', { ...wanted, ...fields });
};
const replace = (pt: bigint): string =>
  fixture.kit.rc('TEST_MOCK_DOMAIN_REPLACE', { id: fixture.stdev, pt_id: pt });

describe('iommufd_viommu no_viommu', () => {
  it('ids that are none', () => {
    const kit = new RawKit();
    kit.ioas();
    const none = { dev_id: 0, hwpt_id: 0, type: TYPE };
    expect(kit.rc('VIOMMU_ALLOC', none)).toBe('ENOENT');
    expect(kit.rc('VDEVICE_ALLOC', { viommu_id: 0, dev_id: 0, virt_id: 1 })).toBe('ENOENT');
    const queue = { viommu_id: 0, type: MOCK_TYPE.VEVENTQ, veventq_depth: 1 };
    expect(kit.rc('VEVENTQ_ALLOC', queue)).toBe('ENOENT');
    const invalidate = { hwpt_id: 0, data_type: TYPE, entry_len: 12, entry_num: 0 };
    expect(kit.rc('HWPT_INVALIDATE', invalidate)).toBe('ENOENT');
    kit.close();
  });
});

describe('iommufd_viommu mock_viommu', () => {
  beforeEach(() => {
    fixture = setUp();
  });
  afterEach(() => fixture.kit.close());

  it('viommu_auto_destroy', () => {});

  it('viommu_negative_tests', () => {
    const { kit, ioas, dev, parent, viommu, stdev } = fixture;
    const plain = kit.hwpt(dev, ioas);
    expect(alloc({ dev_id: 0 })).toBe('ENOENT');
    expect(alloc({ hwpt_id: 0 })).toBe('ENOENT');
    expect(alloc({ hwpt_id: plain })).toBe('EINVAL');
    expect(alloc({ type: 0 })).toBe('EOPNOTSUPP');
    expect(alloc({ flags: 1 })).toBe('EOPNOTSUPP');
    expect(kit.destroy(parent)).toBe('EBUSY');
    expect(kit.destroy(plain)).toBe('ok');
    // A nested HWPT over it needs data, and flags that nested ones may have.
    expect(nested({ data_len: 0 })).toBe('EINVAL');
    expect(nested({ flags: HWPT_ALLOC.NEST_PARENT })).toBe('EOPNOTSUPP');
    expect(nested()).toBe('ok');
    const made = kit.answer['out_hwpt_id'] ?? 0n;
    expect(kit.destroy(viommu)).toBe('EBUSY');
    // Without a virtual device the hardware does not know whom it translates for.
    expect(replace(made)).toBe('ENOENT');
    expect(kit.destroy(made)).toBe('ok');
    expect(kit.destroy(viommu)).toBe('ok');
    expect(kit.rc('TEST_MOCK_DOMAIN_REPLACE', { id: stdev, pt_id: ioas })).toBe('ok');
    expect(kit.destroy(parent)).toBe('ok');
  });

  it('viommu_alloc_nested_iopf', () => {
    const { kit, dev, ioas } = fixture;
    const queue = kit.ok('FAULT_QUEUE_ALLOC');
    const [faultId, fd] = [queue['out_fault_id'] ?? 0n, Number(queue['out_fault_fd'])];
    const valid = HWPT_ALLOC.FAULT_ID_VALID;
    expect(nested({ flags: valid, fault_id: 0xffff_ffff })).toBe('ENOENT');
    expect(nested({ flags: 1 << 31, fault_id: faultId })).toBe('EOPNOTSUPP');
    expect(nested({ flags: valid, fault_id: faultId })).toBe('ok');
    const made = kit.answer['out_hwpt_id'] ?? 0n;
    expect(replace(made)).toBe('ENOENT');
    expect(vdevice()).toBe('ok');
    expect(replace(made)).toBe('ok');
    expect(kit.destroy(made)).toBe('EBUSY');
    roundTripFault(kit, dev, fd, 0xffff_ffff);
    expect(replace(ioas)).toBe('ok');
    expect(kit.destroy(made)).toBe('ok');
    kit.closeFd(fd);
    expect(kit.destroy(faultId)).toBe('ok');
  });

  it('viommu_alloc_with_data: data out, and pages to map', () => {
    const { kit } = fixture;
    const at = kit.words([0xbeef, 0, 0, 0, 0, 0]);
    expect(alloc({ data_uptr: at, data_len: 24 })).toBe('ok');
    const made = kit.answer['out_viommu_id'] ?? 0n;
    expect(kit.read32(at, 2)).toEqual([0xbeef, 0xbeef]);
    const [offset, length] = kit.read64(at + 8, 2).map(Number) as [number, number];
    expect(kit.mmapFd(kit.fd, length, offset + PAGE)).toBe(ENXIO);
    expect(kit.mmapFd(kit.fd, length, offset + 2 * PAGE)).toBe(ENXIO);
    expect(kit.mmapFd(kit.fd, length / 2, offset)).toBe(ENXIO);
    expect(kit.mmapFd(kit.fd, 2 * length, offset)).toBe(ENXIO);
    const va = kit.mmapFd(kit.fd, length, offset);
    expect(kit.read32(va, 1)).toEqual([0xbeef]);
    expect(kit.destroy(made)).toBe('EBUSY');
    expect(kit.process.munmap(va, length)).toBe(0);
    expect(kit.destroy(made)).toBe('ok');
  });

  it('vdevice_alloc: one per device and number', () => {
    const { kit, ioas, viommu } = fixture;
    const second = kit.mock(ioas);
    expect(vdevice(VIRT_ID, { dev_id: 0 })).toBe('ENOENT');
    expect(vdevice(VIRT_ID, { viommu_id: viommu + 100n })).toBe('ENOENT');
    expect(vdevice()).toBe('ok');
    const made = kit.answer['out_vdevice_id'] ?? 0n;
    expect(vdevice()).toBe('EEXIST');
    expect(vdevice(VIRT_ID, { dev_id: second.dev })).toBe('EEXIST');
    expect(vdevice(VIRT_ID + 1, { dev_id: second.dev })).toBe('ok');
    expect(kit.destroy(viommu)).toBe('EBUSY');
    expect(kit.destroy(made)).toBe('ok');
    expect(vdevice()).toBe('ok');
  });

  it('vdevice_tombstone: the id is held when the device goes first', () => {
    const { kit, stdev } = fixture;
    expect(vdevice()).toBe('ok');
    const made = kit.answer['out_vdevice_id'] ?? 0n;
    expect(kit.destroy(stdev)).toBe('ok');
    expect(kit.destroy(made)).toBe('ENOENT');
  });

  /** Entries are `[flags, virtual device, index]`. */
  const invalidate = (entries: readonly number[][], fields: Fields = {}) => {
    const { kit, viommu } = fixture;
    const rc = kit.rc('HWPT_INVALIDATE', {
      hwpt_id: viommu,
      data_uptr: kit.words(entries.flat()),
      data_type: MOCK_TYPE.VIOMMU_INVALIDATE,
      entry_len: 12,
      entry_num: entries.length,
      ...fields,
    });
    return [rc, kit.answer['entry_num']];
  };
  const cacheIs = (values: readonly number[]) => {
    const { kit, dev } = fixture;
    const rcs = values.map((cache, index) =>
      kit.rc('TEST_DEV_CHECK_CACHE', { id: dev, cache_id: index, cache }),
    );
    expect(rcs).toEqual(['ok', 'ok', 'ok', 'ok']);
  };

  it('vdevice_cache: invalidation through the virtual IOMMU', () => {
    const d = CACHE_DEFAULT;
    expect(vdevice()).toBe('ok');
    cacheIs([d, d, d, d]);
    const one = [0, VIRT_ID, 0];
    expect(invalidate([])).toEqual(['ok', 0n]);
    expect(invalidate([], { data_type: 1 })).toEqual(['EINVAL', 0n]);
    expect(invalidate([one], { data_type: 1 })).toEqual(['EINVAL', 0n]);
    // Other lengths are cut or filled up with zeros: here the number of the virtual device.
    expect(invalidate([[0, 0, 0]], { entry_len: 13 })).toEqual(['EINVAL', 0n]);
    expect(invalidate([one], { entry_len: 1 })).toEqual(['EINVAL', 0n]);
    expect(invalidate([one], { entry_len: 0 })).toEqual(['EINVAL', 0n]);
    expect(invalidate([one], { data_uptr: 0 })).toEqual(['EINVAL', 0n]);
    expect(invalidate([[0xffff_ffff, VIRT_ID, 0]])).toEqual(['EOPNOTSUPP', 0n]);
    expect(invalidate([[0, VIRT_ID, 4]])).toEqual(['EINVAL', 0n]);
    expect(invalidate([[0, 0x9, 0]])).toEqual(['EINVAL', 0n]);
    cacheIs([d, d, d, d]);
    expect(invalidate([one, [0xffff_ffff, VIRT_ID, 1]])).toEqual(['EOPNOTSUPP', 1n]);
    cacheIs([0, d, d, d]);
    expect(invalidate([one, [0, VIRT_ID, 4]])).toEqual(['EINVAL', 1n]);
    expect(invalidate([[0, VIRT_ID, 1]])).toEqual(['ok', 1n]);
    cacheIs([0, 0, d, d]);
    expect(
      invalidate([
        [0, VIRT_ID, 2],
        [0, VIRT_ID, 3],
      ]),
    ).toEqual(['ok', 2n]);
    cacheIs([0, 0, 0, 0]);
  });

  it('vdevice_cache: everything of a device at once', () => {
    expect(vdevice()).toBe('ok');
    expect(invalidate([[1, VIRT_ID, 0]])).toEqual(['ok', 1n]);
    cacheIs([0, 0, 0, 0]);
  });

  const hwQueue = (index: number, fields: Fields = {}): string => {
    const { kit, viommu } = fixture;
    const wanted = { viommu_id: viommu, type: MOCK_TYPE.HW_QUEUE, index, length: PAGE };
    return kit.rc('HW_QUEUE_ALLOC', { nesting_parent_iova: APERTURE, ...wanted, ...fields });
  };

  it('hw_queue: order of indices, memory that must stay', () => {
    const { kit, ioas } = fixture;
    expect(hwQueue(0, { type: 0 })).toBe('EOPNOTSUPP');
    expect(hwQueue(0, { length: 0 })).toBe('EINVAL');
    expect(hwQueue(0, { nesting_parent_iova: U64_MAX })).toBe('EOVERFLOW');
    expect(hwQueue(0)).toBe('ENOENT');
    const map = (page: number) =>
      kit.mapFixed(ioas, BUFFER + page * PAGE, PAGE, APERTURE + page * PAGE);
    expect([map(0), map(1)]).toEqual(['ok', 'ok']);
    expect(hwQueue(1)).toBe('EIO');
    expect(hwQueue(2)).toBe('EINVAL');
    expect(hwQueue(0)).toBe('ok');
    const first = kit.answer['out_hw_queue_id'] ?? 0n;
    expect(hwQueue(0)).toBe('EEXIST');
    expect(kit.unmap(ioas, APERTURE, PAGE)).toBe('EBUSY');
    expect(kit.unmap(ioas, APERTURE + PAGE, PAGE)).toBe('ok');
    expect(hwQueue(1)).toBe('ok');
    const second = kit.answer['out_hw_queue_id'] ?? 0n;
    expect(kit.destroy(first)).toBe('EBUSY');
    expect(kit.destroy(second)).toBe('ok');
    expect(kit.destroy(first)).toBe('ok');
    expect(kit.unmap(ioas, APERTURE, PAGE)).toBe('ok');
  });
});
