/**
 * Ground of the kernel's tests of in-kernel accesses, of memory of other processes and of dma-bufs.
 *
 * @linux tools/testing/selftests/iommu/iommufd.c fixture iommufd_ioas
 */
import { exitProcess } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import {
  APERTURE,
  BUFFER,
  BUFFER_BYTES,
  HUGE,
  MOCK_PAGE,
  PAGE,
  type RawKit,
  READ,
  SCRATCH,
  WRITE,
} from './raw-kit.ts';
import { describeIoas, type IoasFixture } from './selftest-ioas.ts';

const NEEDS_PIN = 1;
const RW_WRITE = 1;
const RW_SLOW = 4;

const createAccess = (kit: RawKit, ioas: bigint, flags = NEEDS_PIN): bigint =>
  kit.make('TEST_CREATE_ACCESS', 'out_access_fd', { id: ioas, flags });

/** Pin; the id of the pins. */
const pin = (kit: RawKit, id: bigint, iova: number, length: number, uptr: number): bigint =>
  kit.make('TEST_ACCESS_PAGES', 'out_access_pages_id', { id, iova, length, uptr });

const unpin = (kit: RawKit, id: bigint, pages: bigint): string =>
  kit.rc('TEST_DESTROY_ACCESS_PAGES', { id, access_pages_id: pages });

const destroyAccess = (kit: RawKit, id: bigint): void => kit.closeFd(Number(id));

/** Bytes that differ from one round to the next. */
const pattern = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_unused, index) => (index * 7 + seed * 13 + (index >> 8)) & 255);

/** Whether two ranges of the process hold the same bytes. */
const isSame = (kit: RawKit, a: number, b: number, length: number): boolean => {
  const [left, right] = [kit.process.peek(a, length), kit.process.peek(b, length)];
  return left !== undefined && right !== undefined && Buffer.compare(left, right) === 0;
};

/** Read and write at every place around the end of a page, then everything at once. */
const checkReadWrite = (kit: RawKit, id: bigint, iova: bigint, flags: number): void => {
  kit.process.poke(BUFFER, pattern(BUFFER_BYTES, 3));
  const run = (offset: number, length: number, more: number) => {
    const at = iova + BigInt(offset);
    const rc = kit.rc('TEST_ACCESS_RW', {
      id,
      iova: at,
      length,
      uptr: SCRATCH,
      flags: flags | more,
    });
    const isRight = rc === 'ok' && isSame(kit, SCRATCH, BUFFER + offset, length);
    if (!isRight) throw new Error(`${length} bytes at ${offset}: ${rc}, or other bytes`);
  };
  for (let offset = PAGE - 50; offset < PAGE + 50; offset += 3) {
    for (let length = 1; length < 64; length += 3) {
      run(offset, length, 0);
      kit.data(pattern(length, offset + length));
      run(offset, length, RW_WRITE);
    }
  }
  run(0, BUFFER_BYTES, 0);
};

describeIoas('iommufd_ioas pins', (of) => {
  it('access_domain_destory: pins in a large page outlive the device', () => {
    const { kit, ioas, stdev, base, hasDevice } = of();
    const buffer = kit.memory(2 * HUGE, true);
    expect(kit.mapFixed(ioas, buffer, 2 * HUGE, base)).toBe('ok');
    const access = createAccess(kit, ioas);
    const pages = pin(kit, access, base + PAGE, PAGE, buffer + PAGE);
    if (hasDevice) expect(kit.destroy(stdev)).toBe('ok');
    expect(unpin(kit, access, pages)).toBe('ok');
    destroyAccess(kit, access);
    expect(kit.process.munmap(buffer, 2 * HUGE)).toBe(0);
  });

  it('access_pin: once, twice, and with a device that comes and goes', () => {
    const { kit, ioas } = of();
    const access = createAccess(kit, ioas);
    for (let pages = 1; pages < BUFFER_BYTES / PAGE; pages++) {
      const pinAll = () => pin(kit, access, APERTURE, pages * PAGE, BUFFER);
      expect(kit.mapFixed(ioas, BUFFER, BUFFER_BYTES, APERTURE)).toBe('ok');
      expect(unpin(kit, access, pinAll())).toBe('ok');
      const [first, second] = [pinAll(), pinAll()];
      expect(unpin(kit, access, second)).toBe('ok');
      expect(unpin(kit, access, first)).toBe('ok');
      const last = pinAll();
      const { stdev, hwpt } = kit.mock(ioas);
      expect(kit.checkMap(hwpt, BUFFER, APERTURE, BUFFER_BYTES)).toBe('ok');
      expect(kit.destroy(stdev)).toBe('ok');
      expect(unpin(kit, access, last)).toBe('ok');
      expect(kit.unmap(ioas, APERTURE, BUFFER_BYTES)).toBe('ok');
    }
    destroyAccess(kit, access);
  });

  it('access_pin_unmap: unmapping takes the pins away', () => {
    const { kit, ioas } = of();
    const access = createAccess(kit, ioas);
    expect(kit.mapFixed(ioas, BUFFER, BUFFER_BYTES, APERTURE)).toBe('ok');
    const pages = pin(kit, access, APERTURE, BUFFER_BYTES, BUFFER);
    expect(kit.unmap(ioas, APERTURE, BUFFER_BYTES)).toBe('ok');
    expect(unpin(kit, access, pages)).toBe('ENOENT');
  });
});

describeIoas('iommufd_ioas reads and writes', (of) => {
  it.each([{ flags: 0 }, { flags: RW_SLOW }])('access_rw: flags $flags', ({ flags }) => {
    const { kit, ioas } = of();
    const access = createAccess(kit, ioas, 0);
    const iova = kit.map(ioas, BUFFER, BUFFER_BYTES);
    checkReadWrite(kit, access, iova, flags);
    expect(kit.unmap(ioas, iova, BUFFER_BYTES)).toBe('ok');
    destroyAccess(kit, access);
  });

  it('access_rw_unaligned: the IOVA in the middle of a page', () => {
    const { kit, ioas, base } = of();
    const access = createAccess(kit, ioas, 0);
    const iova = base + MOCK_PAGE;
    expect(kit.mapFixed(ioas, BUFFER, BUFFER_BYTES, iova)).toBe('ok');
    checkReadWrite(kit, access, BigInt(iova), 0);
    expect(kit.unmap(ioas, iova, BUFFER_BYTES)).toBe('ok');
    destroyAccess(kit, access);
  });
});

describeIoas('iommufd_ioas memory of another process', (of) => {
  const mapByChild = ({ kit, ioas }: IoasFixture) => {
    const child = kit.fork();
    const range = { ioas_id: ioas, user_va: BUFFER, length: BUFFER_BYTES, iova: APERTURE };
    kit.ok('IOAS_MAP', { ...range, flags: 1 | READ | WRITE }, { process: child });
    return child;
  };

  it('fork_gone: pinned pages stay; others cannot be found any more', () => {
    const fixture = of();
    const { kit, ioas, hasDevice } = fixture;
    const access = createAccess(kit, ioas, 0);
    exitProcess(mapByChild(fixture));
    expect(kit.rc('TEST_MOCK_DOMAIN', { id: ioas })).toBe(hasDevice ? 'ok' : 'EFAULT');
    if (hasDevice) checkReadWrite(kit, access, BigInt(APERTURE), 0);
    destroyAccess(kit, access);
  });

  it('fork_present: pages of a process that lives are pinned', () => {
    const fixture = of();
    const { kit, ioas } = fixture;
    const access = createAccess(kit, ioas, 0);
    const child = mapByChild(fixture);
    expect(kit.rc('TEST_MOCK_DOMAIN', { id: ioas })).toBe('ok');
    checkReadWrite(kit, access, BigInt(APERTURE), 0);
    exitProcess(child);
    destroyAccess(kit, access);
  });
});

describe('iommufd_ioas dma-bufs', () => {
  describeIoas('shared by', (of) => {
    const BYTES = 4 * PAGE;
    /** The command answers 0 instead of the descriptor, which is the lowest free one. */
    const dmabuf = (kit: RawKit): number => {
      const fd = kit.nextFd;
      kit.ok('TEST_DMABUF_GET', { length: BYTES, open_flags: 0 });
      return fd;
    };
    const mapFile = (start: number, length: number, fd: number, fixed?: bigint) => {
      const { kit, ioas } = of();
      const where = fixed === undefined ? { flags: READ | WRITE } : { flags: 7, iova: fixed };
      return kit.rc('IOAS_MAP_FILE', { ioas_id: ioas, fd, start, length, ...where });
    };

    it('dmabuf_simple: what does not fit, and what does', () => {
      const { kit } = of();
      const fd = dmabuf(kit);
      expect(mapFile(0, 0, fd)).toBe('EINVAL');
      expect(mapFile(BYTES, BYTES, fd)).toBe('EINVAL');
      expect(mapFile(0, BYTES + 1, fd)).toBe('EINVAL');
      expect(mapFile(0, BYTES, fd)).toBe('ok');
      kit.closeFd(fd);
    });

    it('dmabuf_revoke: no new mapping until it is given back', () => {
      const { kit, ioas, dev, hasDevice } = of();
      const fd = dmabuf(kit);
      expect(mapFile(0, BYTES, fd)).toBe('ok');
      const iova = kit.answer['iova'] ?? 0n;
      kit.ok('TEST_DMABUF_REVOKE', { dmabuf_fd: fd, revoked: 1 });
      if (hasDevice) kit.hwpt(dev, ioas);
      expect(mapFile(0, BYTES, fd)).toBe('ENODEV');
      kit.ok('TEST_DMABUF_REVOKE', { dmabuf_fd: fd, revoked: 0 });
      expect(mapFile(0, BYTES, fd)).toBe('ok');
      expect(kit.unmap(ioas, iova, BYTES)).toBe('ok');
      expect(mapFile(0, BYTES, fd, iova)).toBe('ok');
      kit.closeFd(fd);
    });
  });
});
