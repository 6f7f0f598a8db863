/**
 * What Linux's sources answer where no recording says so: mock hardware and test commands.
 *
 * @linux drivers/iommu/iommufd/selftest.c
 */
import { HWPT_ALLOC, IommufdContext, sysRead } from '@iommukit/core';
import { MOCK_DEVICE_FLAG, MOCK_PAGE_TABLE, MOCK_TYPE } from '@iommukit/driver-testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  APERTURE,
  BUFFER,
  type Fields,
  HUGE,
  MOCK_PAGE,
  PAGE,
  RawKit,
  SCRATCH,
} from './raw-kit.ts';

const { DIRTY_TRACKING, NEST_PARENT, PASID } = HWPT_ALLOC;

let kit: RawKit;
let ioas: bigint;
beforeEach(() => {
  kit = new RawKit();
  ioas = kit.ioas();
});
afterEach(() => kit.close());

const nestedUnder = (dev: bigint, pt: bigint): bigint =>
  kit.make('HWPT_ALLOC', 'out_hwpt_id', {
    dev_id: dev,
    pt_id: pt,
    data_type: MOCK_TYPE.HWPT_DATA,
    data_len: 8,
    data_uptr: kit.words([7, 0]),
  });

const viommuOver = (dev: bigint): bigint => {
  const hwpt = kit.hwpt(dev, ioas, NEST_PARENT);
  const wanted = { dev_id: dev, hwpt_id: hwpt, type: MOCK_TYPE.VIOMMU };
  return kit.make('VIOMMU_ALLOC', 'out_viommu_id', wanted);
};

describe('mock_domain_nop_attach', () => {
  it('keeps the virtual id while the vIOMMU stays the same', () => {
    const { stdev, dev } = kit.mock(ioas);
    const viommu = viommuOver(dev);
    const queue = { viommu_id: viommu, type: MOCK_TYPE.VEVENTQ, veventq_depth: 4 };
    const fd = Number(kit.make('VEVENTQ_ALLOC', 'out_veventq_fd', queue));
    const call = (virtId: number) => {
      const wanted = { viommu_id: viommu, dev_id: dev, virt_id: virtId };
      return kit.make('VDEVICE_ALLOC', 'out_vdevice_id', wanted);
    };
    const replace = () =>
      kit.ok('TEST_MOCK_DOMAIN_REPLACE', { id: stdev, pt_id: nestedUnder(dev, viommu) });
    const reported = () => {
      kit.ok('TEST_TRIGGER_VEVENT', { dev_id: dev });
      sysRead(kit.process, fd, SCRATCH, 64);
      return kit.read32(SCRATCH, 3)[2];
    };
    const first = call(0x11);
    replace();
    expect(reported()).toBe(0x11);
    expect(kit.destroy(first)).toBe('ok');
    call(0x22);
    replace();
    expect(reported()).toBe(0x11);
  });

  it('asks for dirty tracking of the device, not of its PASIDs', () => {
    const { dev } = kit.mock(ioas, MOCK_DEVICE_FLAG.PASID);
    const dirty = kit.hwpt(dev, ioas, DIRTY_TRACKING | PASID);
    const flags = MOCK_DEVICE_FLAG.PASID | MOCK_DEVICE_FLAG.NO_DIRTY;
    expect(kit.rc('TEST_MOCK_DOMAIN_FLAGS', { id: dirty, dev_flags: flags })).toBe('EINVAL');
    const blind = kit.mock(kit.hwpt(dev, ioas, PASID), flags);
    const attach = { id: blind.stdev, pasid: 5, pt_id: dirty };
    expect(kit.rc('TEST_PASID_ATTACH', attach)).toBe('ok');
  });
});

describe('iommufd_test_pasid_attach, _replace', () => {
  it('an answer that cannot be written undoes an attach, not a replacement', () => {
    const { stdev, dev } = kit.mock(ioas, MOCK_DEVICE_FLAG.PASID);
    const [own, other] = [kit.hwpt(dev, ioas, PASID), kit.hwpt(dev, ioas, PASID)];
    kit.ok('TEST_MOCK_DOMAIN_REPLACE', { id: stdev, pt_id: own });
    const on = { id: stdev, pasid: 5 };
    const isOn = (hwpt: bigint) => kit.rc('TEST_PASID_CHECK_HWPT', { ...on, hwpt_id: hwpt });
    const lost = { readOnly: true };
    expect(kit.rc('TEST_PASID_ATTACH', { ...on, pt_id: own }, lost)).toBe('EFAULT');
    expect(isOn(0n)).toBe('ok');
    kit.ok('TEST_PASID_ATTACH', { ...on, pt_id: own });
    expect(kit.rc('TEST_PASID_REPLACE', { ...on, pt_id: other }, lost)).toBe('EFAULT');
    expect(isOn(other)).toBe('ok');
  });
});

describe('iommufd_test_md_check_pa', () => {
  it.each([
    { table: 'DEFAULT', rc: 'ok' },
    { table: 'HUGE', rc: 'EINVAL' },
  ] as const)('half a page of the $table table: $rc', ({ table, rc }) => {
    const { dev } = kit.mock(ioas);
    const hwpt = kit.make('HWPT_ALLOC', 'out_hwpt_id', {
      dev_id: dev,
      pt_id: ioas,
      data_type: MOCK_TYPE.HWPT_DATA,
      data_len: 8,
      data_uptr: kit.words([0, MOCK_PAGE_TABLE[table]]),
    });
    expect(kit.mapFixed(ioas, BUFFER, PAGE, APERTURE)).toBe('ok');
    expect(kit.checkMap(hwpt, BUFFER, APERTURE, PAGE)).toBe('ok');
    const [va, iova] = [BUFFER + MOCK_PAGE, APERTURE + MOCK_PAGE];
    expect(kit.checkMap(hwpt, va, iova, MOCK_PAGE)).toBe(rc);
  });
});

describe('iommufd_test_md_check_refs', () => {
  it('large pages are not looked at, others are', () => {
    const large = kit.memory(HUGE, true);
    expect(kit.checkRefs(large, HUGE, 77)).toBe('ok');
    expect(kit.checkRefs(BUFFER, PAGE, 77)).toBe('EIO');
  });
});

const NTH_AREA = 2 ** 16;
const nth = (area: number, offset: number) => (BigInt(offset) << 32n) | BigInt(area);

describe('iommufd_test_syz_conv_iova: the IOVA as number of an area and offset in it', () => {
  beforeEach(() => {
    for (const page of [0, 1]) {
      expect(kit.mapFixed(ioas, BUFFER + page * PAGE, PAGE, APERTURE + 4 * page * PAGE)).toBe('ok');
    }
  });

  it.each([
    { area: 0, offset: 0, word: 100, rc: 'ok' },
    { area: 0, offset: 8, word: 101, rc: 'ok' },
    { area: 1, offset: 8, word: 201, rc: 'ok' },
    { area: 2, offset: 8, word: 0, rc: 'ENOENT' },
  ])('area $area, offset $offset: $rc', ({ area, offset, word, rc }) => {
    kit.words64([100, 101], BUFFER);
    kit.words64([200, 201], BUFFER + PAGE);
    kit.words64([0]);
    const access = kit.make('TEST_CREATE_ACCESS', 'out_access_fd', { id: ioas, flags: 0 });
    const fields = { id: access, iova: nth(area, offset), length: 8, uptr: SCRATCH };
    expect(kit.rc('TEST_ACCESS_RW', { ...fields, flags: NTH_AREA })).toBe(rc);
    expect(kit.read64(SCRATCH, 1)).toEqual([BigInt(word)]);
  });

  it('also for pins', () => {
    const access = kit.make('TEST_CREATE_ACCESS', 'out_access_fd', { id: ioas, flags: 1 });
    const fields = { id: access, length: PAGE, uptr: BUFFER + PAGE, flags: NTH_AREA };
    expect(kit.rc('TEST_ACCESS_PAGES', { ...fields, iova: nth(1, 0) })).toBe('ok');
    expect(kit.rc('TEST_ACCESS_PAGES', { ...fields, iova: nth(0, 0) })).toBe('EBADE');
    kit.closeFd(Number(access));
  });
});

describe('iommufd_test_syz_conv_iova_id, ioas.c iommufd_ioas_copy: a source by area', () => {
  const SOURCES = [PAGE, 3 * PAGE];
  const copy = (area: number, offset: number, more: Fields = {}) => {
    const source = { src_ioas_id: ioas, src_iova: nth(area, offset) };
    const target = { dst_ioas_id: ioas, dst_iova: 0x10_0000, length: PAGE };
    return kit.rc('IOAS_COPY', { ...source, ...target, flags: NTH_AREA | 7, ...more });
  };
  beforeEach(() => {
    for (const iova of SOURCES) kit.mapFixed(ioas, BUFFER, 2 * PAGE, iova);
  });

  it.each([
    { area: 0, offset: 0, from: PAGE },
    { area: 0, offset: PAGE, from: 2 * PAGE },
    { area: 1, offset: PAGE, from: 4 * PAGE },
    // Not looked at beyond the area it names: here the next one.
    { area: 0, offset: 2 * PAGE, from: 3 * PAGE },
  ])('area $area, offset $offset: the struct comes back without the flag', (row) => {
    const { area, offset, from } = row;
    expect(copy(area, offset)).toBe('ok');
    expect([kit.answer['flags'], kit.answer['src_iova']]).toEqual([7n, BigInt(from)]);
  });

  it.each([
    { title: 'no such area: IOVA 0', area: 2, offset: 1, more: {}, rc: 'ENOENT' },
    { title: 'no such IOAS', area: 0, offset: 0, more: { src_ioas_id: 99 }, rc: 'ENOENT' },
    { title: 'no rights', area: 0, offset: 0, more: { flags: NTH_AREA }, rc: 'EINVAL' },
    { title: 'another flag', area: 0, offset: 0, more: { flags: 15 | NTH_AREA }, rc: 'EOPNOTSUPP' },
  ])('$title: $rc', ({ area, offset, more, rc }) => {
    expect(copy(area, offset, more)).toBe(rc);
  });

  it('other calls do not know the flag, nor does a context without test commands', () => {
    const map = { ioas_id: ioas, user_va: BUFFER, length: PAGE, iova: 0x10_0000 };
    expect(kit.rc('IOAS_MAP', { ...map, flags: NTH_AREA | 7 })).toBe('EOPNOTSUPP');
    const { fd } = new IommufdContext(kit.process, kit.machine);
    expect(kit.rc('IOAS_COPY', { flags: NTH_AREA | 7, length: PAGE }, { fd })).toBe('EOPNOTSUPP');
  });
});

describe('mock_viommu_cache_invalidate', () => {
  const invalidate = (fields: Fields) => {
    const { dev } = kit.mock(ioas);
    const viommu = viommuOver(dev);
    const array = { data_type: MOCK_TYPE.VIOMMU_INVALIDATE, entry_len: 12, data_uptr: SCRATCH };
    const rc = kit.rc('HWPT_INVALIDATE', { hwpt_id: viommu, ...array, ...fields });
    return [rc, kit.answer['entry_num']];
  };
  /** The copy of the array must not be longer than the largest allocation, 4 MiB. */
  const LAST = Math.floor(2 ** 22 / 12);

  it('an array too long for one allocation: ENOMEM, and the count stays', () => {
    expect(invalidate({ entry_num: LAST + 1 })).toEqual(['ENOMEM', BigInt(LAST + 1)]);
    // The memory behind the array ends.
    expect(invalidate({ entry_num: LAST })).toEqual(['EFAULT', 0n]);
  });
});
