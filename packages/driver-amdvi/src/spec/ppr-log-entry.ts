/**
 * PPR log entries, 128 bits: page requests of devices on their way to software.
 *
 * @spec AMD IOMMU 2.6 (peripheral page request log)
 */
import { addr, defineLayout, flag, uint } from '@iommukit/bits';

/** Bytes of an entry. */
export const PPR_BYTES = 16;

/** Code of a page request, bits 63:60; 0 = the entry was not written yet. */
export const PPR_CODE = { PAGE_SERVICE_REQUEST: 1 } as const;

/** Response codes of COMPLETE_PPR_REQUEST and of automatic responses. */
export const PPR_RESPONSE = { SUCCESS: 0, INVALID_REQUEST: 1, FAILURE: 15 } as const;

/** PPR log entry. */
export const PPR_ENTRY = defineLayout({
  name: 'PPR_ENTRY',
  bits: 128,
  spec: 'AMD IOMMU 2.6',
  doc: 'PPR log entry',
  fields: {
    DEVICE_ID: uint(15, 0, 'device'),
    PASID_15_0: uint(31, 16, 'PASID [15:0], when GN'),
    PRGI: uint(40, 32, 'page request group index'),
    LAST: flag(41, 'last request of its group'),
    PASID_19_16: uint(45, 42, 'PASID [19:16], when GN'),
    EXEC: flag(49, 'execute wanted'),
    READ: flag(50, 'read wanted'),
    WRITE: flag(53, 'write wanted'),
    US: flag(54, 'user'),
    RVSD: flag(55, 'a reserved bit was found'),
    GN: flag(56, 'PASID is valid'),
    CODE: uint(63, 60, 'PPR_CODE'),
    ADDR: addr(127, 76, 'page'),
  },
});
