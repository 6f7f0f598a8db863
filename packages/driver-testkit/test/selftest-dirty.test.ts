/**
 * Ground of the kernel's tests of dirty tracking.
 *
 * @linux tools/testing/selftests/iommu/iommufd.c fixture iommufd_dirty_tracking
 */
import { HWPT_ALLOC } from '@iommukit/core';
import { MOCK_DEVICE_FLAG, MOCK_PAGE_TABLE, MOCK_TYPE } from '@iommukit/driver-testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { APERTURE, MOCK_PAGE, PAGE, RawKit, SCRATCH } from './raw-kit.ts';

const KIB = 1024;
const MIB = KIB * KIB;
const VARIANTS = [
  { name: 'domain_dirty8k', bytes: 8 * KIB, isHuge: false },
  { name: 'domain_dirty16k', bytes: 16 * KIB, isHuge: false },
  { name: 'domain_dirty64k', bytes: 64 * KIB, isHuge: false },
  { name: 'domain_dirty128k', bytes: 128 * KIB, isHuge: false },
  { name: 'domain_dirty320k', bytes: 320 * KIB, isHuge: false },
  { name: 'domain_dirty64M', bytes: 64 * MIB, isHuge: false },
  { name: 'domain_dirty64M_huge', bytes: 64 * MIB, isHuge: true },
  { name: 'domain_dirty128M', bytes: 128 * MIB, isHuge: false },
  { name: 'domain_dirty128M_huge', bytes: 128 * MIB, isHuge: true },
];
const NO_CLEAR = 1;
const ENABLE = 1;
const PASID = 100;

describe.each(VARIANTS)('iommufd_dirty_tracking $name', ({ bytes, isHuge }) => {
  let kit: RawKit;
  let ioas: bigint;
  let dev: bigint;
  let stdev: bigint;
  let buffer: number;
  /** Bytes per bit, and per leaf of the table: a CPU page is one leaf. */
  const pageSize = isHuge ? PAGE : MOCK_PAGE;
  const leaf = isHuge ? MIB : PAGE;

  /** One CPU page at a time, so that leaves do not depend on where memory is. */
  const smallPagesOnly = (id: bigint): void => {
    const HUGE_PAGES = 1;
    kit.ok('OPTION', { op: 0, option_id: HUGE_PAGES, object_id: id, val64: 0 });
  };

  beforeEach(() => {
    kit = new RawKit(2 ** 28);
    buffer = kit.memory(bytes, isHuge);
    ioas = kit.ioas();
    if (!isHuge) smallPagesOnly(ioas);
    ({ dev, stdev } = kit.mock(ioas, MOCK_DEVICE_FLAG.PASID));
  });
  afterEach(() => kit.close());

  /** A HWPT that tracks, with the table of the variant. */
  const tracking = (pt: bigint, flags = 0): bigint =>
    kit.make('HWPT_ALLOC', 'out_hwpt_id', {
      dev_id: dev,
      pt_id: pt,
      flags: flags | HWPT_ALLOC.DIRTY_TRACKING,
      data_type: MOCK_TYPE.HWPT_DATA,
      data_len: 8,
      data_uptr: kit.words([0, isHuge ? MOCK_PAGE_TABLE.HUGE : MOCK_PAGE_TABLE.DEFAULT]),
    });
  const setTracking = (hwpt: bigint, flags: number) =>
    kit.rc('HWPT_SET_DIRTY_TRACKING', { hwpt_id: hwpt, flags });
  const mock = (id: bigint, flags = 0) =>
    kit.rc('TEST_MOCK_DOMAIN_FLAGS', { id, dev_flags: flags });

  it('enforce_dirty: a device that cannot track', () => {
    const hwpt = tracking(ioas);
    const { stdev: more } = kit.mock(hwpt);
    expect(mock(hwpt, MOCK_DEVICE_FLAG.NO_DIRTY)).toBe('EINVAL');
    expect(kit.destroy(more)).toBe('ok');
    expect(kit.destroy(hwpt)).toBe('ok');
    const other = kit.ioas();
    const blind = kit.mock(other, MOCK_DEVICE_FLAG.NO_DIRTY);
    const flags = HWPT_ALLOC.DIRTY_TRACKING;
    expect(kit.rc('HWPT_ALLOC', { dev_id: blind.dev, pt_id: other, flags })).toBe('EOPNOTSUPP');
    expect(kit.destroy(blind.stdev)).toBe('ok');
  });

  it('set_dirty_tracking: on and off', () => {
    const hwpt = tracking(ioas);
    const { stdev: more } = kit.mock(hwpt);
    expect(setTracking(hwpt, ENABLE)).toBe('ok');
    expect(setTracking(hwpt, 0)).toBe('ok');
    expect(kit.destroy(more)).toBe('ok');
    expect(kit.destroy(hwpt)).toBe('ok');
  });

  it('pasid_set_dirty_tracking: attached to a PASID', () => {
    const hwpt = tracking(ioas, HWPT_ALLOC.PASID);
    const own = kit.hwpt(dev, ioas, HWPT_ALLOC.PASID);
    kit.ok('TEST_MOCK_DOMAIN_REPLACE', { id: stdev, pt_id: own });
    kit.ok('TEST_PASID_ATTACH', { id: stdev, pasid: PASID, pt_id: hwpt });
    expect(setTracking(hwpt, ENABLE)).toBe('ok');
    expect(setTracking(hwpt, 0)).toBe('ok');
    kit.ok('TEST_PASID_DETACH', { id: stdev, pasid: PASID });
    expect(kit.destroy(hwpt)).toBe('ok');
  });

  it('device_dirty_capability', () => {
    const DIRTY = 1n;
    kit.ok('GET_HW_INFO', { dev_id: dev });
    expect((kit.answer['out_capabilities'] ?? 0n) & DIRTY).toBe(DIRTY);
  });

  const bitCount = bytes / pageSize;
  const perLeaf = leaf / pageSize;
  const bitmapBytes = Math.max(1, Math.ceil(bitCount / 8));
  /** The first bit of every second leaf, or all bits of every second leaf. */
  const pattern = (isWhole: boolean): Uint8Array => {
    const map = new Uint8Array(bitmapBytes);
    for (let bit = 0; bit < bitCount; bit++) {
      const inPair = bit % (2 * perLeaf);
      const isSet = isWhole ? inPair < perLeaf : inPair === 0;
      if (isSet) map[bit >> 3] = (map[bit >> 3] ?? 0) | (1 << (bit & 7));
    }
    return map;
  };

  /** Dirty every second leaf, and read that twice into a bitmap at `at`. */
  const checkBitmaps = (hwpt: bigint, at: number, flags: number): void => {
    const range = { iova: APERTURE, length: bytes, page_size: pageSize };
    kit.data(pattern(false), at);
    const marked = { id: hwpt, ...range, uptr: at };
    expect(kit.make('TEST_DIRTY', 'out_nr_dirty', marked)).toBe(
      BigInt(Math.max(1, Math.floor(bitCount / (2 * perLeaf)))),
    );
    const read = (): Uint8Array => {
      kit.data(new Uint8Array(bitmapBytes), at);
      kit.ok('HWPT_GET_DIRTY_BITMAP', { hwpt_id: hwpt, flags, ...range, data: at });
      return kit.process.peek(at, bitmapBytes) ?? new Uint8Array();
    };
    const whole = pattern(true);
    const none = new Uint8Array(bitmapBytes);
    expect(Buffer.compare(read(), whole)).toBe(0);
    expect(Buffer.compare(read(), flags === NO_CLEAR ? whole : none)).toBe(0);
  };

  it.each([
    { title: 'get_dirty_bitmap', flags: 0 },
    { title: 'get_dirty_bitmap_no_clear', flags: NO_CLEAR },
  ])('$title: bitmaps at any place', ({ flags }) => {
    const other = kit.ioas();
    if (!isHuge) smallPagesOnly(other);
    expect(kit.mapFixed(other, buffer, bytes, APERTURE)).toBe('ok');
    const hwpt = tracking(other);
    const { stdev: more } = kit.mock(hwpt);
    expect(setTracking(hwpt, ENABLE)).toBe('ok');
    for (const at of [SCRATCH, SCRATCH + MOCK_PAGE, SCRATCH + 1]) checkBitmaps(hwpt, at, flags);
    expect(kit.destroy(more)).toBe('ok');
    expect(kit.destroy(hwpt)).toBe('ok');
  });
});
