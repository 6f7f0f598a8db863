/**
 * Event log entries, 128 bits, and the event codes.
 *
 * @spec AMD IOMMU 2.5
 */
import { defineLayout, enumeration, flag, uint } from '@iommukit/bits';

/** Bytes of an event. */
export const EVENT_BYTES = 16;

/** Event codes, bits 63:60. 0 is no event: the entry was not written yet. */
export const EVENT = {
  ILLEGAL_DEV_TABLE_ENTRY: 1,
  IO_PAGE_FAULT: 2,
  DEV_TAB_HARDWARE_ERROR: 3,
  PAGE_TAB_HARDWARE_ERROR: 4,
  ILLEGAL_COMMAND_ERROR: 5,
  COMMAND_HARDWARE_ERROR: 6,
  IOTLB_INV_TIMEOUT: 7,
  INVALID_DEVICE_REQUEST: 8,
  INVALID_PPR_REQUEST: 9,
  EVENT_COUNTER_ZERO: 10,
  GUEST_EVENT_FAULT: 11,
  VIOMMU_HARDWARE_ERROR: 12,
} as const;

/** Type of the hardware errors, bits 58:57. */
export const HARDWARE_ERROR_TYPE = { MASTER_ABORT: 1, TARGET_ABORT: 2, DATA_ERROR: 3 } as const;

/** Type of INVALID_DEVICE_REQUEST with TR=0, bits 59:57. */
export const DEVICE_REQUEST_TYPE = {
  READ_IN_INTERRUPT_RANGE: 0,
  TRANSLATED_DENIED: 1,
  PORT_IO_BLOCKED: 2,
  SYSTEM_MANAGEMENT_BLOCKED: 3,
  INTERRUPT_WRITE_BLOCKED: 4,
  INTERRUPT_RESERVED: 5,
  SYSTEM_MANAGEMENT_READ: 6,
} as const;

/** Type of INVALID_DEVICE_REQUEST with TR=1. */
export const TRANSLATION_REQUEST_TYPE = {
  ACCESS_INVALID: 0,
  TRANSLATION_DENIED: 1,
  DEVICE_ID_INVALID: 2,
} as const;

/** Event log entry. Which fields count depends on the code. */
export const EVENT_ENTRY = defineLayout({
  name: 'EVENT_ENTRY',
  bits: 128,
  spec: 'AMD IOMMU 2.5',
  doc: 'event log entry',
  fields: {
    DEVICE_ID: uint(15, 0, 'device'),
    PASID_19_16: uint(19, 16, 'PASID [19:16], when GN'),
    DOMAIN_ID: uint(47, 32, 'domain, or PASID [15:0] when GN'),
    GN: flag(48, 'the address is a guest virtual one, PASID applies'),
    NX: flag(49, 'execute'),
    US: flag(50, 'user'),
    I: flag(51, 'interrupt request'),
    PR: flag(52, 'a translation was found and refused; 0 = there is none'),
    RW: flag(53, 'write; valid when PR'),
    PE: flag(54, 'permission'),
    RZ: flag(55, 'reserved bit or value'),
    TR: flag(56, 'translation request'),
    TYPE: uint(59, 57, 'hardware error or device request type'),
    CODE: enumeration(63, 60, EVENT, 'event code'),
    ADDR: uint(127, 64, 'address'),
  },
});

/** INVALID_PPR_REQUEST: laid out like a page request. */
export const PPR_EVENT_ENTRY = defineLayout({
  name: 'PPR_EVENT_ENTRY',
  bits: 128,
  spec: 'AMD IOMMU 2.5.10',
  doc: 'event log entry of a page request that was refused',
  fields: {
    DEVICE_ID: uint(15, 0, 'device'),
    PASID_15_0: uint(31, 16, 'PASID [15:0], when GN'),
    PRGI: uint(41, 32, 'page request group index'),
    PASID_19_16: uint(45, 42, 'PASID [19:16], when GN'),
    RX: flag(48, 'the device has its answer: no COMPLETE_PPR_REQUEST is expected'),
    GN: flag(57, 'PASID applies'),
    CODE: enumeration(63, 60, EVENT, 'event code'),
    ADDR: uint(127, 64, 'address'),
  },
});

/** What each event means, for people. */
export const EVENT_DOC: Readonly<Record<keyof typeof EVENT, string>> = {
  ILLEGAL_DEV_TABLE_ENTRY: 'a reserved bit or value in the device table entry',
  IO_PAGE_FAULT: 'the request has no translation, or not the right',
  DEV_TAB_HARDWARE_ERROR: 'reading the device table entry failed',
  PAGE_TAB_HARDWARE_ERROR: 'reading a page table entry failed',
  ILLEGAL_COMMAND_ERROR: 'an unknown command, or a reserved bit in one',
  COMMAND_HARDWARE_ERROR: 'reading a command, or its store, failed',
  IOTLB_INV_TIMEOUT: 'a device did not answer an invalidation',
  INVALID_DEVICE_REQUEST: 'a request that the device must not make',
  INVALID_PPR_REQUEST: 'a page request that the device must not make',
  EVENT_COUNTER_ZERO: 'a counter reached zero',
  GUEST_EVENT_FAULT: "writing into a guest's log failed",
  VIOMMU_HARDWARE_ERROR: 'reading a structure of a guest failed',
};
