/**
 * Invalidation queue descriptors. The first 128 bits are all there is in a 128-bit queue; in a
 * 256-bit queue the upper half is reserved.
 *
 * @spec VT-d 6.5.2
 */
import { addr, defineLayout, enumeration, flag, ignored, uint } from '@iommukit/bits';

/** Descriptor types ([3:0]; bits [11:9] are zero for all of them). */
export const DESCRIPTOR_TYPE = {
  CC_INV: 1,
  IOTLB_INV: 2,
  DEV_TLB_INV: 3,
  IEC_INV: 4,
  INV_WAIT: 5,
  P_IOTLB_INV: 6,
  PC_INV: 7,
  P_DEV_TLB_INV: 8,
  PAGE_GRP_RESP: 9,
  HPT_INV: 10,
} as const;

/** Granularities of context-cache and IOTLB invalidation. */
export const GRANULARITY = { GLOBAL: 1, DOMAIN: 2, SELECTIVE: 3 } as const;

/** Granularities of PASID-based IOTLB invalidation. */
export const P_IOTLB_GRANULARITY = { PASID: 2, PAGE: 3 } as const;

/** Granularities of PASID-cache invalidation. */
export const PC_GRANULARITY = { DOMAIN: 0, PASID: 1, GLOBAL: 3 } as const;

/** Response codes of a page group response. */
export const RESPONSE_CODE = { SUCCESS: 0, INVALID: 1, FAILURE: 15 } as const;

const TYPE = enumeration(3, 0, DESCRIPTOR_TYPE, 'descriptor type');

/** Context-cache invalidation. */
export const CC_INV_DSC = defineLayout({
  name: 'CC_INV_DSC',
  bits: 256,
  spec: 'VT-d 6.5.2.1',
  doc: 'context-cache invalidate descriptor',
  fields: {
    TYPE,
    G: enumeration(5, 4, GRANULARITY, 'global, domain, device'),
    DID: uint(31, 16, 'domain id'),
    SID: uint(47, 32, 'source id'),
    FM: uint(49, 48, 'function mask: 1 = bit 2, 2 = bits 2:1, 3 = bits 2:0 of SID'),
  },
});

/** PASID-cache invalidation; 256-bit queues only. */
export const PC_INV_DSC = defineLayout({
  name: 'PC_INV_DSC',
  bits: 256,
  spec: 'VT-d 6.5.2.2',
  doc: 'PASID-cache invalidate descriptor',
  fields: {
    TYPE,
    G: enumeration(5, 4, PC_GRANULARITY, 'domain, PASID, global'),
    DID: uint(31, 16, 'domain id'),
    PASID: uint(51, 32, 'PASID'),
  },
});

/** IOTLB invalidation. */
export const IOTLB_INV_DSC = defineLayout({
  name: 'IOTLB_INV_DSC',
  bits: 256,
  spec: 'VT-d 6.5.2.3',
  doc: 'IOTLB invalidate descriptor',
  fields: {
    TYPE,
    G: enumeration(5, 4, GRANULARITY, 'global, domain, page'),
    DW: flag(6, 'drain writes'),
    DR: flag(7, 'drain reads'),
    DID: uint(31, 16, 'domain id'),
    AM: uint(69, 64, 'address mask: 2^AM pages'),
    IH: flag(70, 'invalidation hint: no table entry changed'),
    ADDR: addr(127, 76, 'page address'),
  },
});

/** PASID-based IOTLB invalidation; 256-bit queues only. */
export const P_IOTLB_INV_DSC = defineLayout({
  name: 'P_IOTLB_INV_DSC',
  bits: 256,
  spec: 'VT-d 6.5.2.4',
  doc: 'PASID-based IOTLB invalidate descriptor',
  fields: {
    TYPE,
    G: enumeration(5, 4, P_IOTLB_GRANULARITY, 'PASID, page'),
    DID: uint(31, 16, 'domain id'),
    PASID: uint(51, 32, 'PASID'),
    AM: uint(69, 64, 'address mask: 2^AM pages'),
    IH: flag(70, 'invalidation hint: no table entry changed'),
    ADDR: addr(127, 76, 'page address'),
  },
});

/** Device-TLB invalidation. */
export const DEV_TLB_INV_DSC = defineLayout({
  name: 'DEV_TLB_INV_DSC',
  bits: 256,
  spec: 'VT-d 6.5.2.5',
  doc: 'device-TLB invalidate descriptor',
  fields: {
    TYPE,
    PFSID_LO: uint(15, 12, 'physical function source id, bits 3:0; needs ECAP.DIT'),
    MIP: uint(20, 16, 'maximum invalidations pending'),
    SID: uint(47, 32, 'requester id of the function'),
    PFSID_HI: uint(63, 52, 'physical function source id, bits 15:4; needs ECAP.DIT'),
    S: flag(64, 'size: 0 = 4 KiB, 1 = from the lowest zero bit of ADDR'),
    ADDR: addr(127, 76, 'page address and size'),
  },
});

/** PASID-based device-TLB invalidation; 256-bit queues only. */
export const P_DEV_TLB_INV_DSC = defineLayout({
  name: 'P_DEV_TLB_INV_DSC',
  bits: 256,
  spec: 'VT-d 6.5.2.6',
  doc: 'PASID-based device-TLB invalidate descriptor',
  fields: {
    TYPE,
    MIP: uint(8, 4, 'maximum invalidations pending'),
    PFSID_LO: uint(15, 12, 'physical function source id, bits 3:0; needs ECAP.DIT'),
    SID: uint(31, 16, 'requester id of the function'),
    PASID: uint(51, 32, 'PASID'),
    PFSID_HI: uint(63, 52, 'physical function source id, bits 15:4; needs ECAP.DIT'),
    GI: flag(64, 'global invalidate: entries of every PASID'),
    S: flag(75, 'size: 0 = 4 KiB, 1 = from the lowest zero bit of ADDR'),
    ADDR: addr(127, 76, 'page address and size'),
  },
});

/** Granularities of interrupt entry cache invalidation. */
export const IEC_GRANULARITY = { GLOBAL: 0, INDEX: 1 } as const;

/** Interrupt entry cache invalidation. */
export const IEC_INV_DSC = defineLayout({
  name: 'IEC_INV_DSC',
  bits: 256,
  spec: 'VT-d 6.5.2.8',
  doc: 'interrupt entry cache invalidate descriptor',
  fields: {
    TYPE,
    G: enumeration(4, 4, IEC_GRANULARITY, 'global, index'),
    IM: uint(31, 27, 'index mask: 2^IM entries'),
    IIDX: uint(47, 32, 'first interrupt index'),
  },
});

/** Wait. */
export const INV_WAIT_DSC = defineLayout({
  name: 'INV_WAIT_DSC',
  bits: 256,
  spec: 'VT-d 6.5.2.9',
  doc: 'invalidation wait descriptor',
  fields: {
    TYPE,
    IF: flag(4, 'interrupt: set ICS.IWC'),
    SW: flag(5, 'status write'),
    FN: flag(6, 'fence'),
    PD: flag(7, 'page-request drain; needs ECAP.PDS'),
    STATUS_DATA: uint(63, 32, 'dword to write'),
    STATUS_ADDR: addr(127, 66, 'where to write it, host physical'),
  },
});

/** Page group response; 256-bit queues only. */
export const PAGE_GRP_RESP_DSC = defineLayout({
  name: 'PAGE_GRP_RESP_DSC',
  bits: 256,
  spec: 'VT-d 7.6.1',
  doc: 'page group response descriptor',
  fields: {
    TYPE,
    PP: flag(4, 'PASID present'),
    RC: enumeration(15, 12, RESPONSE_CODE, 'response code'),
    RID: uint(31, 16, 'requester id'),
    PASID: uint(51, 32, 'PASID'),
    IGN66: ignored(66, 66),
    PRGI: uint(75, 67, 'page request group index'),
  },
});

/** Host permission table cache invalidation; 256-bit queues only. */
export const HPT_INV_DSC = defineLayout({
  name: 'HPT_INV_DSC',
  bits: 256,
  spec: 'VT-d 6.5.2.7',
  doc: 'host permission table cache invalidate descriptor',
  fields: {
    TYPE,
    G: enumeration(5, 4, GRANULARITY, 'global, domain, page'),
    HPTDID: uint(31, 16, 'host permission table domain id'),
    AM: uint(69, 64, 'address mask: 2^AM pages'),
    IH: uint(71, 70, 'levels that go: 0 = level 1, 1 = up to 2, 2 = up to 3, 3 = all'),
    ADDR: addr(127, 76, 'page address'),
  },
});
