/**
 * Ground of the kernel's tests of the old VFIO calls on an iommufd with a device.
 *
 * @linux tools/testing/selftests/iommu/iommufd.c fixture vfio_compat_mock_domain
 */

import { sysIoctl } from '@iommukit/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  APERTURE,
  APERTURE_LAST,
  BUFFER,
  BUFFER_BYTES,
  HUGE,
  nameOf,
  PAGE,
  RawKit,
} from './raw-kit.ts';

const SET_IOMMU = 0x3b66;
const GET_INFO = 0x3b70;
const READ_WRITE = 3;
const UNMAP_ALL = 2;
const INFO_BYTES = 24;
const PAGE_SIZES_AND_CAPS = 3;

describe.each([
  { name: 'Ver1v2', type: 3 },
  { name: 'Ver1v0', type: 1 },
])('vfio_compat_mock_domain $name', ({ type }) => {
  let kit: RawKit;
  let ioas: bigint;
  const isType1 = type === 1;

  beforeEach(() => {
    kit = new RawKit();
    ioas = kit.ioas();
    kit.mock(ioas);
    kit.ok('VFIO_IOAS', { op: 1, ioas_id: ioas });
    expect(kit.plain(SET_IOMMU, type)).toBe('ok');
  });
  afterEach(() => kit.close());

  it('simple_close', () => {});

  it('option_huge_pages: off for type 1, which can cut mappings', () => {
    kit.ok('OPTION', { op: 1, option_id: 1, object_id: ioas, val64: 3 });
    expect(kit.answer['val64']).toBe(isType1 ? 0n : 1n);
  });

  /** Ask with `argsz` in a buffer of 0xaa; its words, after a check of what must not change. */
  const getInfo = (argsz: number): DataView => {
    const bytes = new Uint8Array(256).fill(0xaa);
    bytes.fill(0, 0, argsz);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, argsz, true);
    kit.process.poke(BUFFER, bytes);
    expect(nameOf(sysIoctl(kit.process, kit.fd, GET_INFO, BUFFER))).toBe('ok');
    const after = kit.process.peek(BUFFER, 256) ?? new Uint8Array();
    expect(after.subarray(argsz).every((byte) => byte === 0xaa)).toBe(true);
    return new DataView(after.buffer, after.byteOffset, after.length);
  };

  const CAP_IOVA_RANGES = 1;
  const CAP_DMA_AVAIL = 3;
  /** Follow the chain; ids of the capabilities. */
  const walkCaps = (info: DataView, argsz: number): number[] => {
    const ids: number[] = [];
    for (let at = info.getUint32(16, true); at !== 0; ) {
      expect(at + 8).toBeLessThanOrEqual(argsz);
      const [id, version] = [info.getUint16(at, true), info.getUint16(at + 2, true)];
      const next = info.getUint32(at + 4, true);
      expect(version).toBe(1);
      if (id === CAP_IOVA_RANGES) {
        expect(info.getUint32(at + 8, true)).toBe(1);
        expect(info.getBigUint64(at + 16, true)).toBe(BigInt(APERTURE));
        expect(info.getBigUint64(at + 24, true)).toBe(BigInt(APERTURE_LAST));
      }
      ids.push(id);
      expect(next === 0 || next > at).toBe(true);
      at = next;
    }
    return ids;
  };

  it('get_info: no answer is longer than its buffer, no chain is broken', () => {
    expect(getInfo(16).getUint32(4, true)).toBe(PAGE_SIZES_AND_CAPS);
    const whole = getInfo(INFO_BYTES);
    const total = whole.getUint32(0, true);
    expect(whole.getUint32(16, true)).toBe(0);
    expect(total).toBeGreaterThan(INFO_BYTES);
    expect(whole.getBigUint64(8, true)).not.toBe(0n);
    for (let argsz = INFO_BYTES; argsz < total; argsz++) {
      const info = getInfo(argsz);
      expect(info.getUint32(4, true)).toBe(PAGE_SIZES_AND_CAPS);
      walkCaps(info, argsz);
    }
    expect(walkCaps(getInfo(total), total)).toEqual([CAP_DMA_AVAIL, CAP_IOVA_RANGES]);
  });

  const map = (vaddr: number, size: number, iova: number) =>
    kit.rc('VFIO_IOMMU_MAP_DMA', { flags: READ_WRITE, vaddr, size_: size, iova });
  const unmap = (iova: number, size: number, flags = 0) =>
    kit.rc('VFIO_IOMMU_UNMAP_DMA', { flags, iova, size_: size });
  /** Numbers below `count` in an order that is none. */
  const shuffled = (count: number): number[] =>
    Array.from({ length: count }, (_unused, index) => (index * 7 + 3) % count);

  it('map: once, nothing, all, page by page', () => {
    expect(map(BUFFER, BUFFER_BYTES, APERTURE)).toBe('ok');
    expect(unmap(APERTURE, BUFFER_BYTES)).toBe('ok');
    expect(kit.answer['size_']).toBe(BigInt(BUFFER_BYTES));
    // Where nothing is mapped there is nothing to say.
    expect(unmap(APERTURE, BUFFER_BYTES)).toBe('ok');
    expect(kit.answer['size_']).toBe(0n);

    expect(map(BUFFER, BUFFER_BYTES, APERTURE)).toBe('ok');
    expect(unmap(APERTURE, BUFFER_BYTES, UNMAP_ALL)).toBe('EINVAL');
    expect(unmap(0, 0, UNMAP_ALL)).toBe('ok');
    expect(kit.answer['size_']).toBe(BigInt(BUFFER_BYTES));

    for (let i = 0; i < 16; i++) {
      expect(map(BUFFER + i * PAGE, PAGE, APERTURE + i * PAGE)).toBe('ok');
    }
    for (const i of shuffled(16)) expect(unmap(APERTURE + i * PAGE, PAGE)).toBe('ok');
  });

  it('huge_map: type 1 cuts a mapping into pieces, version 2 does not', () => {
    const buffer = kit.memory(2 * HUGE, true);
    expect(map(buffer, 2 * HUGE, APERTURE)).toBe('ok');
    const piece = (2 * HUGE) / 16;
    for (const i of shuffled(16)) {
      expect(unmap(APERTURE + i * piece, piece)).toBe(isType1 ? 'ok' : 'ENOENT');
    }
  });
});
