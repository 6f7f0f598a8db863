/**
 * The operations of IOMMU_TEST_CMD as recorded sequences name them. All share one struct, whose head
 * is `size`, `op`, `id` and a reserved word.
 * @module
 */
import { IOMMU_TEST_SPEC } from '../iommu-test/command.ts';
import type { GoldenField, GoldenStruct } from './structs.ts';

const operation = (
  op: number,
  fields: Readonly<Record<string, GoldenField>> = {},
): GoldenStruct => ({
  ...IOMMU_TEST_SPEC,
  op,
  fields: { size: [0, 4], op: [4, 4], id: [8, 4], __reserved: [12, 4], ...fields },
});

/** Entries by name; offsets and widths in bytes. */
export const TEST_COMMAND_STRUCTS: Readonly<Record<string, GoldenStruct>> = {
  TEST_ADD_RESERVED: operation(1, { start: [16, 8], length: [24, 8] }),
  TEST_MOCK_DOMAIN: operation(2, {
    out_stdev_id: [16, 4],
    out_hwpt_id: [20, 4],
    out_idev_id: [24, 4],
  }),
  TEST_MD_CHECK_MAP: operation(3, { iova: [16, 8], length: [24, 8], uptr: [32, 8] }),
  TEST_MD_CHECK_REFS: operation(4, { length: [16, 8], uptr: [24, 8], refs: [32, 4] }),
  TEST_CREATE_ACCESS: operation(5, { out_access_fd: [16, 4, 'out_fd'], flags: [20, 4] }),
  TEST_DESTROY_ACCESS_PAGES: operation(6, { access_pages_id: [16, 4] }),
  TEST_ACCESS_PAGES: operation(7, {
    flags: [16, 4],
    out_access_pages_id: [20, 4],
    iova: [24, 8],
    length: [32, 8],
    uptr: [40, 8],
  }),
  TEST_ACCESS_RW: operation(8, { iova: [16, 8], length: [24, 8], uptr: [32, 8], flags: [40, 4] }),
  TEST_SET_TEMP_MEMORY_LIMIT: operation(9, { limit: [16, 4] }),
  TEST_MOCK_DOMAIN_REPLACE: operation(10, { pt_id: [16, 4] }),
  TEST_ACCESS_REPLACE_IOAS: operation(11, { ioas_id: [16, 4] }),
  TEST_MOCK_DOMAIN_FLAGS: operation(12, {
    out_stdev_id: [16, 4],
    out_hwpt_id: [20, 4],
    out_idev_id: [24, 4],
    dev_flags: [28, 4],
  }),
  TEST_DIRTY: operation(13, {
    flags: [16, 4],
    iova: [24, 8],
    length: [32, 8],
    page_size: [40, 8],
    uptr: [48, 8],
    out_nr_dirty: [56, 8],
  }),
  TEST_MD_CHECK_IOTLB: operation(14, { iotlb_id: [16, 4], iotlb: [20, 4] }),
  TEST_TRIGGER_IOPF: operation(15, {
    dev_id: [16, 4],
    pasid: [20, 4],
    grpid: [24, 4],
    perm: [28, 4],
    addr: [32, 8],
  }),
  TEST_DEV_CHECK_CACHE: operation(16, { cache_id: [16, 4], cache: [20, 4] }),
  TEST_TRIGGER_VEVENT: operation(17, { dev_id: [16, 4] }),
  TEST_PASID_ATTACH: operation(18, { pasid: [16, 4], pt_id: [20, 4] }),
  TEST_PASID_REPLACE: operation(19, { pasid: [16, 4], pt_id: [20, 4] }),
  TEST_PASID_DETACH: operation(20, { pasid: [16, 4] }),
  TEST_PASID_CHECK_HWPT: operation(21, { pasid: [16, 4], hwpt_id: [20, 4] }),
  TEST_DMABUF_GET: operation(22, { length: [16, 4], open_flags: [20, 4] }),
  TEST_DMABUF_REVOKE: operation(23, { dmabuf_fd: [16, 4, 'fd'], revoked: [20, 4] }),
};
