/** What Linux's sources answer where no recording says so: iommufd itself. */
import { HWPT_ALLOC, MAP_FLAG, sysMmap, sysPoll, VM_PROT } from '@iommukit/core';
import { MOCK_TYPE } from '@iommukit/driver-testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  BUFFER,
  FIXED,
  type Fields,
  PAGE,
  RawKit,
  READ,
  RW,
  SCRATCH,
  U64_MAX,
  WRITE,
} from './raw-kit.ts';

let kit: RawKit;
let ioas: bigint;
beforeEach(() => {
  kit = new RawKit();
  ioas = kit.ioas();
});
afterEach(() => kit.close());

describe('ioas.c: a mapping whose answer cannot be written stays (iommufd_ioas_map and others)', () => {
  const flags = FIXED | READ | WRITE;
  const range = { length: PAGE, flags };
  it.each([
    { name: 'IOAS_MAP', fields: () => ({ ...range, ioas_id: ioas, user_va: BUFFER, iova: PAGE }) },
    {
      name: 'IOAS_MAP_FILE',
      fields: () => ({ ...range, ioas_id: ioas, fd: kit.memfd(PAGE), start: 0, iova: PAGE }),
    },
    {
      name: 'IOAS_COPY',
      fields: () => {
        kit.map(ioas, BUFFER, PAGE);
        const source = { src_ioas_id: ioas, src_iova: kit.answer['iova'] ?? 0n };
        return { ...range, ...source, dst_ioas_id: kit.ioas(), dst_iova: PAGE };
      },
    },
  ])('$name', ({ name, fields }) => {
    const given: Fields = fields();
    expect(kit.rc(name, given, { readOnly: true })).toBe('EFAULT');
    const target = BigInt(given['dst_ioas_id'] ?? ioas);
    expect(kit.unmap(target, PAGE, PAGE)).toBe('ok');
    expect(kit.answer['length']).toBe(BigInt(PAGE));
  });
});

describe('io_pagetable.c iopt_map_file_pages: the range comes before the descriptor', () => {
  const fields = () => ({ ioas_id: ioas, fd: 99, start: 0, length: PAGE, flags: READ });
  it.each([
    { wrong: { length: 0 }, rc: 'EINVAL' },
    { wrong: { start: U64_MAX, length: 2 }, rc: 'EOVERFLOW' },
    { wrong: { start: U64_MAX, length: 1 }, rc: 'EBADF' },
    { wrong: {}, rc: 'EBADF' },
  ])('$wrong: $rc', ({ wrong, rc }) => {
    expect(kit.rc('IOAS_MAP_FILE', { ...fields(), ...wrong })).toBe(rc);
  });
});

describe('vfio_compat.c iommufd_vfio_iommu_get_info: capabilities in short buffers', () => {
  const bytesOf = (argsz: number): Uint8Array => {
    kit.process.poke(BUFFER, new Uint8Array(256).fill(0xaa));
    kit.words([argsz, 0, 0, 0, 0, 0], BUFFER);
    expect(kit.plain(0x3b70, BUFFER)).toBe('ok');
    return kit.process.peek(BUFFER, 80) ?? new Uint8Array();
  };
  beforeEach(() => {
    kit.mock(ioas);
    kit.ok('VFIO_IOAS', { op: 1, ioas_id: ioas });
    expect(kit.plain(0x3b66, 3)).toBe('ok');
  });

  it.each([
    { argsz: 35, offset: 0, next: 0xaaaa_aaaa },
    { argsz: 36, offset: 0, next: 0 },
    { argsz: 39, offset: 0, next: 0 },
    { argsz: 40, offset: 0, next: 40 },
    { argsz: 72, offset: 24, next: 40 },
  ])('argsz $argsz', ({ argsz, offset, next }) => {
    const bytes = bytesOf(argsz);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    expect(view.getUint32(16, true)).toBe(offset);
    expect(view.getUint32(28, true)).toBe(next);
    // The padding behind the first capability is nobody's.
    expect(view.getUint32(36, true)).toBe(0xaaaa_aaaa);
  });
});

describe('pages.c iopt_area_fill_domains: what is pinned is mapped before the next page is looked at', () => {
  const MAP_DMA = 0x3b71;
  const IOVA = 0x200_0000;
  /** The first page, the second, the last. */
  const HOLES = [0, 1, 15];
  /** 16 pages without one, and how they are mapped. */
  const pagesWithout = (hole: number) => {
    const va = kit.memory(16 * PAGE);
    kit.process.munmap(va + hole * PAGE, PAGE);
    const mapDma = (flags: number): string => {
      kit.words([32, flags]);
      kit.words64([va, IOVA, 16 * PAGE], SCRATCH + 8);
      return kit.plain(MAP_DMA, SCRATCH);
    };
    const other = va + (hole === 0 ? PAGE : 0);
    const checkUnpinned = () => {
      expect([kit.process.pinnedPages, kit.process.user.lockedPages]).toEqual([0, 0]);
      expect(kit.checkRefs(other, PAGE, 0)).toBe('ok');
    };
    return { mapDma, checkUnpinned };
  };
  const rows = HOLES.flatMap((hole) => [
    { hole, flags: 0, rc: hole === 0 ? 'EFAULT' : 'EINVAL' },
    { hole, flags: 1, rc: 'EFAULT' },
    { hole, flags: 3, rc: 'EFAULT' },
  ]);

  it.each(rows)('VFIO_IOMMU_MAP_DMA, rights $flags, page $hole missing: $rc', (row) => {
    kit.ok('VFIO_IOAS', { op: 1, ioas_id: ioas });
    const { mapDma, checkUnpinned } = pagesWithout(row.hole);
    kit.mock(ioas);
    expect(mapDma(row.flags)).toBe(row.rc);
    expect(kit.unmap(ioas, IOVA, 16 * PAGE)).toBe('ENOENT');
    checkUnpinned();
  });

  it.each(rows)('a domain joins it, rights $flags, page $hole missing: $rc', (row) => {
    kit.ok('VFIO_IOAS', { op: 1, ioas_id: ioas });
    const { dev } = kit.mock(kit.ioas());
    const { mapDma, checkUnpinned } = pagesWithout(row.hole);
    expect(mapDma(row.flags)).toBe('ok');
    expect(kit.rc('HWPT_ALLOC', { dev_id: dev, pt_id: ioas })).toBe(row.rc);
    checkUnpinned();
  });
});

describe('main.c iommufd_option: only val64 is written back', () => {
  const HUGE_PAGES = 1;
  const call = (op: number, at: number) => {
    kit.words([24, HUGE_PAGES, op, Number(ioas), 7, 0], at);
    kit.process.mprotect(BUFFER, PAGE, VM_PROT.READ);
    return kit.plain(0x3b87, at);
  };
  const GET = 1;
  it.each([
    { title: 'the rest in memory that cannot be written', at: BUFFER + PAGE - 16, rc: 'ok' },
    { title: 'part of it there', at: BUFFER + PAGE - 20, rc: 'EFAULT' },
    { title: 'all of it there', at: BUFFER, rc: 'EFAULT' },
  ])('$title: $rc', ({ at, rc }) => {
    expect(call(GET, at)).toBe(rc);
    expect(kit.read64(at + 16, 1)).toEqual([rc === 'ok' ? 1n : 7n]);
  });
});

describe('pages.c: rights come before what a dma-buf cannot do (iommufd_access_pin_pages)', () => {
  it('EPERM for a write to a read-only dma-buf area, EINVAL for a read', () => {
    const fd = kit.nextFd;
    kit.ok('TEST_DMABUF_GET', { length: PAGE, open_flags: 0 });
    const file = { ioas_id: ioas, fd, start: 0, length: PAGE, flags: READ };
    const iova = kit.make('IOAS_MAP_FILE', 'iova', file);
    const access = kit.make('TEST_CREATE_ACCESS', 'out_access_fd', { id: ioas, flags: 1 });
    const pin = (flags: number) =>
      kit.rc('TEST_ACCESS_PAGES', { id: access, iova, length: PAGE, flags });
    expect(pin(1)).toBe('EPERM');
    expect(pin(0)).toBe('EINVAL');
  });
});

describe('main.c: the descriptor itself', () => {
  it('poll: iommufd says nothing of its own (vfs_poll default mask)', () => {
    const all = 0x1 | 0x4 | 0x40 | 0x100;
    expect(sysPoll(kit.process, kit.fd, 0xffff)).toBe(all);
  });

  const region = () => {
    const { dev } = kit.mock(ioas);
    const hwpt = kit.hwpt(dev, ioas, HWPT_ALLOC.NEST_PARENT);
    const at = kit.words([5, 0, 0, 0, 0, 0]);
    const data = { type: MOCK_TYPE.VIOMMU, data_len: 24, data_uptr: at };
    const id = kit.make('VIOMMU_ALLOC', 'out_viommu_id', { dev_id: dev, hwpt_id: hwpt, ...data });
    return { id, offset: Number(kit.read64(at + 8, 1)[0]) };
  };
  const MAPPED = 0x7_0000_0000;
  const { SHARED, PRIVATE, FIXED_NOREPLACE } = MAP_FLAG;

  it.each([
    { title: 'whole pages', change: {}, result: MAPPED },
    { title: 'a length that is rounded up', change: { length: 2 * PAGE - 1 }, result: MAPPED },
    { title: 'a page less', change: { length: PAGE }, result: -6 },
    { title: 'an odd offset', change: { odd: 1 }, result: -22 },
    { title: 'nothing', change: { length: 0 }, result: -22 },
    { title: 'private', change: { flags: PRIVATE | FIXED_NOREPLACE }, result: -22 },
    {
      title: 'a place in use, private',
      change: { addr: BUFFER, flags: PRIVATE | FIXED_NOREPLACE },
      result: -17,
    },
    { title: 'executable', change: { prot: RW | 4 }, result: -1 },
  ])('mmap of $title (iommufd_fops_mmap)', ({ change, result }) => {
    const { offset } = region();
    const { odd = 0, ...rest } = change as { odd?: number };
    const mapping = { addr: MAPPED, length: 2 * PAGE, prot: RW, flags: SHARED | FIXED_NOREPLACE };
    const made = sysMmap(kit.process, kit.fd, { ...mapping, offset: offset + odd, ...rest });
    expect(made).toBe(result);
  });

  it('pages mapped from it cannot be pinned (VM_PFNMAP)', () => {
    const { offset } = region();
    const va = kit.mmapFd(kit.fd, 2 * PAGE, offset);
    const map = { user_va: va, length: PAGE, flags: READ | WRITE, ioas_id: ioas };
    expect(kit.rc('IOAS_MAP', map)).toBe('EFAULT');
  });
});

describe('viommu.c iommufd_hw_queue_alloc_phys: how long a queue may be', () => {
  const alloc = (fields: Fields) => {
    const { dev } = kit.mock(ioas);
    const hwpt = kit.hwpt(dev, ioas, HWPT_ALLOC.NEST_PARENT);
    const viommu = kit.make('VIOMMU_ALLOC', 'out_viommu_id', {
      dev_id: dev,
      hwpt_id: hwpt,
      type: MOCK_TYPE.VIOMMU,
    });
    return kit.rc('HW_QUEUE_ALLOC', { viommu_id: viommu, type: MOCK_TYPE.HW_QUEUE, ...fields });
  };
  it.each([
    { fields: { length: 0xffff_ffff_ffff_f000n }, rc: 'ENOMEM' },
    { fields: { length: 0xffff_ffff_ffff_f001n }, rc: 'ERANGE' },
    { fields: { length: 2n ** 40n }, rc: 'ENOMEM' },
    { fields: { length: 2n ** 39n }, rc: 'ENOENT' },
    { fields: { length: 2n ** 40n, type: 1 }, rc: 'EOPNOTSUPP' },
    { fields: { length: 2n ** 40n, viommu_id: 0 }, rc: 'ENOENT' },
    { fields: { length: 2, nesting_parent_iova: U64_MAX }, rc: 'EOVERFLOW' },
  ])('$fields: $rc', ({ fields, rc }) => {
    expect(alloc(fields)).toBe(rc);
  });
});
