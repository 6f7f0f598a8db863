/**
 * Ground of the kernel's tests of areas in an IOAS.
 *
 * @linux tools/testing/selftests/iommu/iommufd.c fixture iommufd_ioas
 */
import { expect, it } from 'vitest';
import {
  APERTURE,
  APERTURE_LAST,
  BUFFER,
  BUFFER_BYTES,
  MOCK_PAGE,
  PAGE,
  type RawKit,
  READ,
  SCRATCH,
  U64_MAX,
  WRITE,
} from './raw-kit.ts';
import { describeIoas } from './selftest-ioas.ts';

const HUGE_PAGES = 1;
const lengths = Array.from({ length: 10 }, (_unused, index) => PAGE * (index + 1));
/** The largest power of two that divides a length. */
const alignment = (length: number): bigint => BigInt(length & -length);

describeIoas('iommufd_ioas lifetime', (of) => {
  it('ioas_auto_destroy: closing frees everything', () => {});

  it('ioas_destroy, ioas_area_destroy: a device keeps the IOAS, an area does not', () => {
    const { kit, ioas, base, hasDevice } = of();
    const other = kit.ioas();
    expect(kit.destroy(other)).toBe('ok');
    expect(kit.mapFixed(ioas, BUFFER, PAGE, base)).toBe('ok');
    expect(kit.destroy(ioas)).toBe(hasDevice ? 'EBUSY' : 'ok');
  });

  it('ioas_area_auto_destroy: ten areas are freed with the file', () => {
    const { kit, ioas, base } = of();
    for (let i = 0; i < 10; i++) {
      expect(kit.mapFixed(ioas, BUFFER, PAGE, base + i * PAGE)).toBe('ok');
    }
  });

  it('hwpt_attach: a further device by the id of the automatic HWPT', () => {
    const { kit, hwpt, hasDevice } = of();
    expect(kit.rc('TEST_MOCK_DOMAIN', { id: hwpt })).toBe(hasDevice ? 'ok' : 'ENOENT');
  });
});

describeIoas('iommufd_ioas areas', (of) => {
  it('area: nothing to unmap, splits, overlaps, unmap all twice', () => {
    const { kit, ioas, base } = of();
    for (let i = 0; i < 10; i++) expect(kit.unmap(ioas, i * PAGE, PAGE)).toBe('ENOENT');
    for (let i = 0; i < 10; i++) {
      expect(kit.mapFixed(ioas, BUFFER, PAGE, base + i * PAGE)).toBe('ok');
    }
    for (let i = 0; i < 10; i++) expect(kit.unmap(ioas, base + i * PAGE, PAGE)).toBe('ok');
    const at = (page: number) => base + page * PAGE;
    expect(kit.mapFixed(ioas, BUFFER, 2 * PAGE, at(16))).toBe('ok');
    expect(kit.unmap(ioas, at(16), PAGE)).toBe('ENOENT');
    expect(kit.unmap(ioas, at(17), PAGE)).toBe('ENOENT');
    for (const [pages, first] of [
      [2, 16],
      [1, 16],
      [1, 17],
      [2, 15],
      [3, 15],
    ] as const) {
      expect(kit.mapFixed(ioas, BUFFER, pages * PAGE, at(first))).toBe('EEXIST');
    }
    expect(kit.unmap(ioas, 0, U64_MAX)).toBe('ok');
    expect(kit.answer['length']).toBe(BigInt(2 * PAGE));
    expect(kit.unmap(ioas, 0, U64_MAX)).toBe('ok');
    expect(kit.answer['length']).toBe(0n);
  });

  it('unmap_fully_contained_areas: whole areas only, and their sum', () => {
    const { kit, ioas, base } = of();
    const start = base + 4 * PAGE;
    for (let i = 0; i < 4; i++) {
      expect(kit.mapFixed(ioas, BUFFER, 8 * PAGE, start + i * 16 * PAGE)).toBe('ok');
    }
    expect(kit.unmap(ioas, start - 4 * PAGE, 8 * PAGE)).toBe('ENOENT');
    expect(kit.unmap(ioas, start + (3 * 16 + 4) * PAGE, 8 * PAGE)).toBe('ENOENT');
    expect(kit.unmap(ioas, start - 4 * PAGE, (3 * 16 + 8 + 4) * PAGE)).toBe('ok');
    expect(kit.answer['length']).toBe(BigInt(32 * PAGE));
  });

  it('copy_area: inside an IOAS and to another', () => {
    const { kit, ioas, base } = of();
    expect(kit.mapFixed(ioas, BUFFER, PAGE, base)).toBe('ok');
    const copy = { flags: 1 | WRITE, src_ioas_id: ioas, length: PAGE, src_iova: base };
    const to = { dst_ioas_id: ioas, dst_iova: base + PAGE };
    expect(kit.rc('IOAS_COPY', { ...copy, ...to })).toBe('ok');
    expect(kit.rc('IOAS_COPY', { ...copy, dst_ioas_id: kit.ioas(), dst_iova: 0 })).toBe('ok');
  });

  it('copy_sweep: parts at odd offsets, and parts that are not there', () => {
    const { kit, ioas, hasDevice } = of();
    const target = kit.ioas();
    const last = APERTURE + BUFFER_BYTES - (hasDevice ? 1 : 2);
    expect(kit.mapFixed(ioas, BUFFER, last - APERTURE + 1, APERTURE)).toBe('ok');
    const copy = {
      flags: 1 | WRITE,
      dst_ioas_id: target,
      src_ioas_id: ioas,
      dst_iova: APERTURE,
      length: MOCK_PAGE,
    };
    for (let iova = APERTURE - PAGE; iova <= last; iova += 511) {
      const isInside = iova >= APERTURE && iova + MOCK_PAGE - 1 <= last;
      const rc = kit.rc('IOAS_COPY', { ...copy, src_iova: iova });
      expect([iova, rc]).toEqual([iova, isInside ? 'ok' : 'ENOENT']);
      if (isInside) expect(kit.unmap(target, APERTURE, MOCK_PAGE)).toBe('ok');
    }
    expect(kit.destroy(target)).toBe('ok');
  });

  it('ioas_iova_alloc: any length without a device, whole mock pages with one', () => {
    const { kit, ioas, hasDevice } = of();
    for (let length = 1; length < 2 * PAGE; length++) {
      const fields = { ioas_id: ioas, user_va: BUFFER, length, flags: READ | WRITE };
      const rc = kit.rc('IOAS_MAP', fields);
      const isRefused = hasDevice && length % MOCK_PAGE !== 0;
      expect([length, rc]).toEqual([length, isRefused ? 'EINVAL' : 'ok']);
      if (!isRefused) expect(kit.unmap(ioas, kit.answer['iova'] ?? 0n, length)).toBe('ok');
    }
  });
});

describeIoas('iommufd_ioas IOVA choice', (of) => {
  const reserve = (kit: RawKit, id: bigint, start: number | bigint, length: number | bigint) =>
    kit.rc('TEST_ADD_RESERVED', { id, start, length });
  const allow = (kit: RawKit, id: bigint, ...ranges: (number | bigint)[]) =>
    kit.rc('IOAS_ALLOW_IOVAS', {
      ioas_id: id,
      num_iovas: ranges.length / 2,
      allowed_iovas: kit.words64(ranges),
    });

  it('area_auto_iova: alignment, reserved and allowed ranges', () => {
    const { kit, ioas, hasDevice } = of();
    const mapAll = (va: number, check: (iova: bigint, length: number) => void) => {
      const made = lengths.map((length) => ({ iova: kit.map(ioas, va, length), length }));
      for (const { iova, length } of made) {
        expect(iova % alignment(length)).toBe(0n);
        check(iova, length);
      }
      for (const { iova, length } of made) expect(kit.unmap(ioas, iova, length)).toBe('ok');
    };
    mapAll(hasDevice ? BUFFER : 2 ** 31, () => {});
    const [start, end] = [BigInt(4 * PAGE), BigInt(104 * PAGE)];
    expect(reserve(kit, ioas, start, end - start)).toBe('ok');
    mapAll(BUFFER, (iova) => expect(iova > start && iova < end).toBe(false));
    expect(allow(kit, ioas, PAGE, 600 * PAGE)).toBe('EADDRINUSE');
    const first = BigInt(hasDevice ? APERTURE + PAGE : 200 * PAGE);
    const last = BigInt((hasDevice ? APERTURE : 0) + 600 * PAGE - 1);
    expect(allow(kit, ioas, first, last)).toBe('ok');
    mapAll(BUFFER, (iova, length) => {
      expect(iova >= first && iova + BigInt(length) <= last + 1n).toBe(true);
    });
  });

  it('reserved_overflow: nothing fits behind a range that leaves only the very end', () => {
    const { kit, ioas, hasDevice } = of();
    const start = 0x6000n;
    const length = hasDevice ? 2n ** 63n - 1n : U64_MAX - 0x8000n;
    const size = hasDevice ? 0x5000 : 0xfd000;
    expect(reserve(kit, ioas, start, length)).toBe('ok');
    // The rest is below the aperture, or shorter than the mapping.
    const fields = { ioas_id: ioas, user_va: BUFFER, length: size, flags: READ | WRITE };
    expect(kit.rc('IOAS_MAP', fields)).toBe('ENOSPC');
  });

  it('area_allowed: reserved inside allowed, and the other way round', () => {
    const { kit, ioas, base } = of();
    expect(allow(kit, ioas, base, base + 600 * PAGE)).toBe('ok');
    expect(reserve(kit, ioas, base + PAGE, PAGE)).toBe('EADDRINUSE');
    expect(allow(kit, ioas)).toBe('ok');
    expect(reserve(kit, ioas, base + PAGE, PAGE)).toBe('ok');
    expect(allow(kit, ioas, base, base + 600 * PAGE)).toBe('EADDRINUSE');
  });

  it('iova_ranges: what is free, and a list too short', () => {
    const { kit, ioas, hasDevice } = of();
    const ranges = (count: number) => {
      kit.data(new Uint8Array(64));
      const fields = { ioas_id: ioas, num_iovas: count, allowed_iovas: SCRATCH };
      return kit.rc('IOAS_IOVA_RANGES', fields);
    };
    const whole = hasDevice ? [BigInt(APERTURE), BigInt(APERTURE_LAST)] : [0n, U64_MAX];
    expect(ranges(4096)).toBe('ok');
    expect(kit.answer['num_iovas']).toBe(1n);
    expect(kit.answer['out_iova_alignment']).toBe(hasDevice ? BigInt(MOCK_PAGE) : 1n);
    expect(kit.read64(SCRATCH, 4)).toEqual([...whole, 0n, 0n]);
    expect(ranges(0)).toBe('EMSGSIZE');
    expect(kit.answer['num_iovas']).toBe(1n);
    expect(kit.read64(SCRATCH, 2)).toEqual([0n, 0n]);

    expect(reserve(kit, ioas, PAGE, PAGE)).toBe('ok');
    const parts = [0n, BigInt(PAGE - 1), BigInt(2 * PAGE), U64_MAX];
    expect(ranges(4096)).toBe('ok');
    expect(kit.read64(SCRATCH, 4)).toEqual(hasDevice ? [...whole, 0n, 0n] : parts);
    expect(ranges(1)).toBe(hasDevice ? 'ok' : 'EMSGSIZE');
    expect(kit.answer['num_iovas']).toBe(hasDevice ? 1n : 2n);
    const head = hasDevice ? whole : parts.slice(0, 2);
    expect(kit.read64(SCRATCH, 4)).toEqual([...head, 0n, 0n]);
  });
});

describeIoas('iommufd_ioas options', (of, variant) => {
  const huge = (kit: RawKit, op: number, object: bigint, value: number) =>
    kit.rc('OPTION', { op, option_id: HUGE_PAGES, object_id: object, val64: value });

  it('ioas_option_huge_pages: get, off, wrong value, on', () => {
    const { kit, ioas } = of();
    expect(huge(kit, 1, ioas, 3)).toBe('ok');
    expect(kit.answer['val64']).toBe(1n);
    expect(huge(kit, 0, ioas, 0)).toBe('ok');
    expect(huge(kit, 1, ioas, 3)).toBe('ok');
    expect(kit.answer['val64']).toBe(0n);
    expect(huge(kit, 0, ioas, 2)).toBe('EINVAL');
    expect(huge(kit, 0, ioas, 1)).toBe('ok');
  });

  it.skipIf(variant.devices > 0)('ioas_align_change: rises only when areas allow', () => {
    const { kit, ioas } = of();
    expect(kit.mapFixed(ioas, BUFFER, PAGE, APERTURE)).toBe('ok');
    expect(huge(kit, 0, ioas, 0)).toBe('ok');
    const odd = () => kit.mapFixed(ioas, BUFFER + MOCK_PAGE, PAGE, APERTURE + PAGE);
    expect(odd()).toBe('EINVAL');
    expect(huge(kit, 0, ioas, 0)).toBe('ok');
    expect(huge(kit, 0, ioas, 1)).toBe('ok');
    expect(odd()).toBe('ok');
    expect(huge(kit, 0, ioas, 0)).toBe('EADDRINUSE');
    expect(kit.unmap(ioas, APERTURE + PAGE, PAGE)).toBe('ok');
    expect(kit.unmap(ioas, APERTURE, PAGE)).toBe('ok');
  });
});
