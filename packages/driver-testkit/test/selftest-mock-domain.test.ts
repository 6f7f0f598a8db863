/**
 * Ground of the kernel's tests of mock domains: translations, pin counts, replacement.
 *
 * @linux tools/testing/selftests/iommu/iommufd.c fixture iommufd_mock_domain
 */
import { filesOf, HWPT_ALLOC, MAP_FLAG, type MemoryFile } from '@iommukit/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  APERTURE,
  BUFFER,
  BUFFER_BYTES,
  FIXED,
  HUGE,
  MOCK_PAGE,
  PAGE,
  RawKit,
  READ,
  RW,
  WRITE,
} from './raw-kit.ts';

const VARIANTS = [
  { name: 'one_domain', devices: 1, hugetlb: false, isFile: false },
  { name: 'two_domains', devices: 2, hugetlb: false, isFile: false },
  { name: 'one_domain_hugepage', devices: 1, hugetlb: true, isFile: false },
  { name: 'two_domains_hugepage', devices: 2, hugetlb: true, isFile: false },
  { name: 'one_domain_file', devices: 1, hugetlb: false, isFile: true },
  { name: 'one_domain_file_hugepage', devices: 1, hugetlb: true, isFile: true },
];

describe.each(VARIANTS)('iommufd_mock_domain $name', ({ devices, hugetlb, isFile }) => {
  let kit: RawKit;
  let ioas: bigint;
  let mocks: { stdev: bigint; hwpt: bigint; dev: bigint }[];
  const bytes = hugetlb ? 2 * HUGE : 8 * PAGE;
  const step = hugetlb ? bytes / 16 : MOCK_PAGE;

  beforeEach(() => {
    kit = new RawKit();
    ioas = kit.ioas();
    mocks = Array.from({ length: devices }, () => kit.mock(ioas));
  });
  afterEach(() => kit.close());

  /** Memory, of a file when the variant says so. */
  const makeBuffer = (): { va: number; fd: number } => {
    if (!isFile) return { va: kit.memory(bytes, hugetlb), fd: -1 };
    const fd = kit.memfd(bytes, hugetlb);
    return { va: kit.mmapFd(fd, bytes, 0), fd };
  };

  /** Map a part of the buffer by address or by file. */
  const mapPart = (buffer: { va: number; fd: number }, start: number, length: number): string => {
    const common = { ioas_id: ioas, length, flags: READ | WRITE };
    if (!isFile) return kit.rc('IOAS_MAP', { ...common, user_va: buffer.va + start });
    return kit.rc('IOAS_MAP_FILE', { ...common, fd: buffer.fd, start });
  };

  const checkAll = (va: number, iova: bigint | number, length: number, more: bigint[] = []) => {
    for (const hwpt of [...mocks.map((mock) => mock.hwpt), ...more]) {
      expect(kit.checkMap(hwpt, va, iova, length)).toBe('ok');
    }
  };

  /** Map every start and length, or those of the variant, and run checks on each. */
  const sweep = (check: (va: number, iova: bigint, length: number, whole: () => void) => void) => {
    const buffer = makeBuffer();
    const refs = (start: number, end: number, count: number) => {
      const [first, last] = [Math.floor(start / PAGE) * PAGE, Math.floor(end / PAGE) * PAGE];
      if (last === first) return;
      expect(kit.checkRefs(buffer.va + first, last - first, count)).toBe('ok');
    };
    refs(0, bytes, 0);
    for (let start = 0; start < bytes; start += step) {
      for (let end = start + step; end < bytes; end += step) {
        expect(mapPart(buffer, start, end - start)).toBe('ok');
        const iova = kit.answer['iova'] ?? 0n;
        check(buffer.va + start, iova, end - start, () => refs(start, end, 1));
        expect(kit.unmap(ioas, iova, end - start)).toBe('ok');
      }
    }
    refs(0, bytes, 0);
    expect(kit.process.munmap(buffer.va, bytes)).toBe(0);
  };

  it('basic: one page; memory that ends half-way or is missing', () => {
    const iova = kit.map(ioas, BUFFER, PAGE);
    checkAll(BUFFER, iova, PAGE);
    const buffer = makeBuffer();
    const rc = isFile ? 'EINVAL' : 'EFAULT';
    const cut = (length: number) => {
      if (!isFile) return kit.process.munmap(buffer.va + length, bytes - length);
      const file = filesOf(kit.process).get(buffer.fd)?.operations.pinnable as MemoryFile;
      return file.truncate(length);
    };
    if (isFile) expect(mapPart(buffer, 1, bytes)).toBe('EINVAL');
    cut(bytes / 2);
    expect(mapPart(buffer, 0, bytes)).toBe(rc);
    cut(0);
    expect(mapPart(buffer, 0, bytes)).toBe(rc);
  });

  it('ro_unshare: a page mapped for reading is the process own one already', () => {
    const fd = kit.memfd(PAGE);
    const mapping = { length: PAGE, prot: RW, flags: MAP_FLAG.PRIVATE, offset: 0 };
    const file = filesOf(kit.process).get(fd)?.operations;
    const va = file?.mmap?.(kit.process, mapping) ?? -1;
    kit.closeFd(fd);
    const iova = kit.map(ioas, va, PAGE, READ);
    checkAll(va, iova, PAGE);
    kit.process.poke(va, new Uint8Array(PAGE).fill(1));
    checkAll(va, iova, PAGE);
    expect(kit.process.munmap(va, PAGE)).toBe(0);
  });

  it('all_aligns: every start and length', () => {
    sweep((va, iova, length, refs) => {
      checkAll(va, iova, length);
      refs();
    });
  });

  it('all_aligns_copy: with a device that comes and goes', () => {
    sweep((va, iova, length, refs) => {
      const { stdev, hwpt } = kit.mock(ioas);
      checkAll(va, iova, length, [hwpt]);
      refs();
      expect(kit.destroy(stdev)).toBe('ok');
    });
  });

  it('user_copy: pinned without a domain, then copied under one; the access moves on', () => {
    const mapped = () => {
      const id = kit.ioas();
      return { id, iova: kit.map(id, BUFFER, BUFFER_BYTES) };
    };
    const old = mapped();
    const NEEDS_PIN = 1;
    const access = kit.make('TEST_CREATE_ACCESS', 'out_access_fd', {
      id: old.id,
      flags: NEEDS_PIN,
    });
    const pinAndCopy = ({ id, iova }: { id: bigint; iova: bigint }): bigint => {
      const range = { id: access, iova, length: BUFFER_BYTES, uptr: BUFFER };
      const pages = kit.make('TEST_ACCESS_PAGES', 'out_access_pages_id', range);
      const to = { dst_ioas_id: ioas, dst_iova: APERTURE, flags: FIXED | READ | WRITE };
      kit.ok('IOAS_COPY', { ...to, src_ioas_id: id, src_iova: iova, length: BUFFER_BYTES });
      checkAll(BUFFER, APERTURE, BUFFER_BYTES);
      return pages;
    };
    pinAndCopy(old);
    const next = mapped();
    kit.ok('TEST_ACCESS_REPLACE_IOAS', { id: access, ioas_id: next.id });
    expect(kit.unmap(ioas, APERTURE, BUFFER_BYTES)).toBe('ok');
    expect(kit.destroy(old.id)).toBe('ok');
    const pages = pinAndCopy(next);
    kit.ok('TEST_DESTROY_ACCESS_PAGES', { id: access, access_pages_id: pages });
    kit.closeFd(Number(access));
    expect(kit.destroy(next.id)).toBe('ok');
  });

  it('replace: by IOAS, by HWPT; an automatic HWPT goes with its last device', () => {
    const other = kit.ioas();
    const [first, second] = mocks;
    const id = first?.stdev ?? 0n;
    const replace = (pt: bigint) => kit.rc('TEST_MOCK_DOMAIN_REPLACE', { id, pt_id: pt });
    expect(replace(other)).toBe('ok');
    if (devices === 1) expect(replace(first?.hwpt ?? 0n)).toBe('ENOENT');
    expect(replace(other)).toBe('ok');
    if (second) {
      expect(replace(second.hwpt)).toBe('ok');
      expect(replace(second.hwpt)).toBe('ok');
      expect(replace(first?.hwpt ?? 0n)).toBe('ok');
    }
    expect(replace(ioas)).toBe('ok');
    expect(kit.destroy(other)).toBe('ok');
  });

  it('alloc_hwpt: flags, rotation, a device attached by HWPT', () => {
    for (const { dev, stdev } of mocks) {
      const flags = 0xffff_fffd;
      expect(kit.rc('HWPT_ALLOC', { dev_id: dev, pt_id: ioas, flags })).toBe('EOPNOTSUPP');
      const plain = kit.hwpt(dev, ioas);
      const parent = kit.hwpt(dev, ioas, HWPT_ALLOC.NEST_PARENT);
      const replace = (pt: bigint) => kit.rc('TEST_MOCK_DOMAIN_REPLACE', { id: stdev, pt_id: pt });
      for (const hwpt of [plain, parent]) {
        expect(replace(hwpt)).toBe('ok');
        expect(kit.destroy(hwpt)).toBe('EBUSY');
      }
      expect(replace(ioas)).toBe('ok');
      expect(kit.destroy(parent)).toBe('ok');
      const { stdev: more } = kit.mock(plain);
      expect(kit.destroy(more)).toBe('ok');
      expect(kit.destroy(plain)).toBe('ok');
    }
  });
});
