import { describe, expect, test } from 'vitest';
import { decode, encode, widthOf } from '../../src/uapi/struct.ts';
import { VFIO_STRUCTS } from '../../src/uapi/structs.ts';
import { RECORDED_STRUCTS } from '../replay/sequence.ts';

/** Ours, and the name under which a C compiler wrote size and offsets down. */
const PAIRS = [
  ['group_status', 'VFIO_GROUP_GET_STATUS'],
  ['iommu_type1_info', 'VFIO_IOMMU_GET_INFO'],
  ['iommu_type1_dma_map', 'VFIO_IOMMU_MAP_DMA'],
  ['iommu_type1_dma_unmap', 'VFIO_IOMMU_UNMAP_DMA'],
  ['iommu_type1_dirty_bitmap', 'VFIO_IOMMU_DIRTY_PAGES'],
] as const;

describe('structs (include/uapi/linux/vfio.h) against a C compiler', () => {
  test.each(PAIRS)('%s', (ours, theirs) => {
    const recorded = RECORDED_STRUCTS[theirs];
    const { size, fields } = VFIO_STRUCTS[ours];
    const named = Object.entries(fields).map(([name, field]) => [name, [field.at, widthOf(field)]]);
    const wanted = Object.entries(recorded?.fields ?? {})
      .filter(([name]) => name !== 'pad')
      .map(([name, [at, width]]) => [name.replace(/_$/, ''), [at, width]]);
    expect(size).toBe(recorded?.size);
    expect(named).toEqual(wanted);
  });

  test.each([
    ['info_cap_header', 8],
    ['iommu_type1_info_cap_migration', 32],
    ['iommu_type1_info_dma_avail', 12],
    ['iommu_type1_info_cap_iova_range', 16],
    ['iova_range', 16],
    ['bitmap', 24],
    ['iommu_type1_dirty_bitmap_get', 40],
  ] as const)('sizeof %s is %i', (name, size) => {
    expect(VFIO_STRUCTS[name].size).toBe(size);
  });
});

describe('bytes of a struct', () => {
  const spec = VFIO_STRUCTS.iommu_type1_dma_map;

  test('decode reads what encode wrote, 64-bit fields as bigint', () => {
    const values = {
      argsz: 32,
      flags: 3,
      vaddr: 0xffff_ffff_ffff_f000n,
      iova: 1n << 63n,
      size: 1n,
    };
    expect(decode(spec, encode(spec, values))).toEqual(values);
  });

  test('fields that the bytes do not reach are 0, fields left out too', () => {
    const bytes = encode(spec, { flags: 0xffff_ffff, vaddr: 7n }).subarray(0, 15);
    expect(decode(spec, bytes)).toEqual({
      argsz: 0,
      flags: 0xffff_ffff,
      vaddr: 0n,
      iova: 0n,
      size: 0n,
    });
  });
});
